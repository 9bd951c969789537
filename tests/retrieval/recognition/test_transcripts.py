"""Transcripts as files, read back by FFmpeg."""

import io

import pytest

from retrieval.recognition.base import Segment
from retrieval.recognition.transcripts import as_srt, as_text, as_vtt

SEGMENTS = [
    Segment("Tom & Jerry <run>", start_s=0.0, end_s=1.5),
    Segment("两只狗 --->\n\n在跑", start_s=3725.25, end_s=3726.0),
]


def test_webvtt():
    assert as_vtt(SEGMENTS) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\nTom &amp; Jerry &lt;run&gt;\n\n"
        "01:02:05.250 --> 01:02:06.000\n两只狗 -&gt; 在跑\n"
    )


def test_subrip():
    assert as_srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:01,500\nTom & Jerry <run>\n\n"
        "2\n01:02:05,250 --> 01:02:06,000\n两只狗 -> 在跑\n"
    )


def test_plain_text():
    assert as_text(SEGMENTS) == "Tom & Jerry <run>\n两只狗 -> 在跑\n"


def test_no_segments():
    assert (as_vtt([]), as_srt([]), as_text([])) == ("WEBVTT\n\n", "", "")


def test_a_segment_without_end_is_shown_for_a_moment():
    assert "00:00:02.000 --> 00:00:02.500" in as_vtt([Segment("so", start_s=2.0)])


def test_a_segment_without_time_is_in_the_text_alone():
    assert as_vtt([Segment("so")]) == "WEBVTT\n\n"
    assert as_text([Segment("so")]) == "so\n"


@pytest.mark.parametrize(("write", "format_"), [(as_vtt, "webvtt"), (as_srt, "srt")])
def test_ffmpeg_reads_them(write, format_):
    av = pytest.importorskip("av", reason="FFmpeg is the oracle")

    with av.open(io.BytesIO(write(SEGMENTS).encode()), format=format_) as container:
        packets = [packet for packet in container.demux() if packet.pts is not None]

    assert [float(packet.pts * packet.time_base) for packet in packets] == [0.0, 3725.25]
    assert [float(packet.duration * packet.time_base) for packet in packets] == [1.5, 0.75]
