"""Subtitles beside files and in them: found, read in any encoding, the best taken."""

import os
import sys

import pytest

from indexer.enrichment.subtitles import subtitles_of
from tests.made_speech import save_sound, save_video, silence

pytest.importorskip("av", reason="FFmpeg reads subtitles")

SRT = """1
00:00:01,000 --> 00:00:03,500
<i>Two dogs</i> run
on the beach.

2
00:00:04,000 --> 00:00:06,000
{\\an8}They swim.
"""
VTT = """WEBVTT

NOTE nothing

first
00:01.000 --> 00:03.500 align:start
<v Ann>Two dogs run &amp; bark.

00:00:04.000 --> 00:00:06.000
They swim.
"""
SSA = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:03.50,Default,,0,0,0,,Two dogs run\\Non the {\\b1}beach{\\b0}.
"""


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"of no interest")
    return path


def said(path, language=None):
    found = subtitles_of(str(path), language)
    return found and [segment.text for segment in found]


def test_subrip(film):
    film.with_suffix(".srt").write_text(SRT)

    found = subtitles_of(str(film))

    assert [(one.text, one.start_s, one.end_s) for one in found] == [
        ("Two dogs run on the beach.", 1.0, 3.5),
        ("They swim.", 4.0, 6.0),
    ]
    assert {(one.confidence, one.box) for one in found} == {(None, None)}


def test_webvtt(film):
    film.with_suffix(".vtt").write_text(VTT)
    assert said(film) == ["Two dogs run & bark.", "They swim."]


def test_ssa(film):
    film.with_suffix(".ass").write_text(SSA)
    assert said(film) == ["Two dogs run on the beach."]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_any_encoding(film, encoding):
    text = "一只狗在沙滩上跑，孩子们在公园里踢足球。"
    lines = f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n"
    film.with_suffix(".srt").write_bytes(lines.encode(encoding))
    assert said(film) == [text]


def cue(text):
    return f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n"


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["film.en.srt", "film.srt"], "film.srt"),
        (["film.zh-Hans.srt", "film.en.srt"], "film.en.srt"),
        (["film.en.forced.srt", "film.fr.srt"], "film.fr.srt"),
        (["film.mp4.srt"], "film.mp4.srt"),
        (["FILM.srt", "film2.srt", "fil.srt", "other.srt", "film.txt"], None),
    ],
)
def test_which_is_taken(film, names, taken):
    for name in names:
        film.with_name(name).write_text(cue(name))
    assert said(film) == (taken and [taken])


@pytest.mark.parametrize(
    ("language", "taken"), [("zh", "film.zh-Hans.srt"), ("en", "film.eng.srt")]
)
def test_the_language_that_is_asked_for_is_preferred(film, language, taken):
    for name in ("film.srt", "film.zh-Hans.srt", "film.eng.srt", "film.fr.srt"):
        film.with_name(name).write_text(cue(name))
    assert said(film, language) == [taken]
    assert said(film, "sv") == ["film.srt"]


@pytest.mark.parametrize("content", [b"", b"no subtitles", b"\0" * 100, SRT[:20].encode()])
def test_what_is_broken_is_passed_over(film, content):
    film.with_name("film.srt").write_bytes(content)
    assert said(film) is None
    film.with_name("film.en.vtt").write_text(VTT)
    assert said(film) == ["Two dogs run & bark.", "They swim."]


def test_a_line_that_is_repeated_is_taken_once(film):
    lines = "".join(
        f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{text}\n\n"
        for n, text in enumerate(["so", "so", "what", "so"], start=1)
    )
    film.with_suffix(".srt").write_text(lines)
    assert said(film) == ["so", "what", "so"]


def test_a_track_inside_of_a_video(tmp_path):
    import av

    plain = save_video(tmp_path / "plain.mp4", seconds=3)
    srt = tmp_path / "other.srt"
    srt.write_text(cue("Two dogs run."))
    path = tmp_path / "film.mkv"
    with av.open(str(plain)) as video, av.open(str(srt)) as text, av.open(str(path), "w") as film:
        tracks = [(one, film.add_stream_from_template(one.streams[0])) for one in (video, text)]
        for source, track in tracks:
            for packet in source.demux(source.streams[0]):
                if packet.dts is not None:
                    packet.stream = track
                    film.mux(packet)

    [found] = subtitles_of(str(path))

    assert (found.text, found.start_s, found.end_s) == ("Two dogs run.", 1.0, 2.0)
    assert said(plain) is None


def test_a_sound_can_have_them_too(tmp_path):
    path = save_sound(tmp_path / "talk.wav", silence(1))
    assert said(path) is None
    path.with_suffix(".vtt").write_text(VTT)
    assert said(path) == ["Two dogs run & bark.", "They swim."]


def test_new_ones_are_seen(film, tmp_path):
    assert said(film) is None
    film.with_suffix(".srt").write_text(SRT)
    assert said(film) == ["Two dogs run on the beach.", "They swim."]


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names")
def test_a_pipe_is_no_file_of_subtitles(film):
    os.mkfifo(film.with_suffix(".srt"))
    assert said(film) is None
