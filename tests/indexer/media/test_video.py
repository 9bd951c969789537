import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from indexer.media import video
from indexer.media.base import Piece, ReadOptions
from indexer.media.video import parse_iso6709, parse_moment, read
from retrieval.errors import UnreadableFileError
from retrieval.media import Metadata
from retrieval.media.video import frame_at

pytestmark = pytest.mark.slow

COLOURS = [(200, 30, 40), (20, 180, 60), (30, 40, 200), (240, 240, 240), (10, 10, 10)]


def write_video(
    path: Path,
    pictures: Iterable[Image.Image],
    codec: str = "mpeg4",
    *,
    rate: int = 5,
    gop: int = 100,
    times: Iterable[int] | None = None,
    tags: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """times: of the frames, in 1/`rate` seconds; None: one after the other."""
    with av.open(os.fspath(path), "w", options=options or {}) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt, stream.gop_size = "yuv420p", gop
        moments = iter(times) if times else None
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.width, stream.height = picture.size
            frame = av.VideoFrame.from_image(picture)
            frame.pts = next(moments) if moments else number
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scenes(*lengths: int, size: tuple[int, int] = (64, 48)) -> Iterator[Image.Image]:
    """Colours in turn, each for so many frames."""
    for number, length in enumerate(lengths):
        picture = Image.new("RGB", size, COLOURS[number % len(COLOURS)])
        yield from [picture] * length


def read_all(path: Path, least_side: int | None = None) -> list[Piece]:
    options = ReadOptions(least_side=least_side)
    pieces: list[Any] = []
    start: int | None = 0
    while start is not None:
        reading = read(str(path), start, options)
        assert reading.next is None or reading.next > start
        pieces += reading.pieces
        start = reading.next
    return pieces


def limits(pieces: list[Piece]) -> list[tuple[float | None, float | None]]:
    return [(piece.locator.start_s, piece.locator.end_s) for piece in pieces]


def test_each_shot_gives_one_frame_and_its_limits(tmp_path):
    path = write_video(tmp_path / "video.mp4", scenes(15, 20, 25), rate=5)
    pieces = read_all(path)
    assert limits(pieces) == [(0, 3), (3, 7), (7, 12)]
    for piece, colour in zip(pieces, COLOURS, strict=False):
        locator = piece.locator
        assert locator.start_s <= locator.time_s < locator.end_s
        assert locator.part == f"t{round(locator.time_s * 1000)}"
        assert (locator.width, locator.height) == piece.payload.size == (64, 48)
        assert np.abs(np.asarray(piece.payload, float) - colour).mean() < 12


@pytest.mark.parametrize("gop", [5, 1_000])
def test_still_scene_gives_a_frame_every_two_minutes(tmp_path, gop):
    path = write_video(tmp_path / "still.mkv", scenes(520), rate=2, gop=gop)
    assert limits(read_all(path)) == [(0, 120), (120, 240), (240, 260)]


def test_flicker_gives_at_most_a_frame_a_second(tmp_path):
    path = write_video(tmp_path / "flicker.mp4", scenes(*[2] * 150), rate=5)
    starts = [start for start, _ in limits(read_all(path))]
    assert min(after - before for before, after in itertools.pairwise(starts)) >= 1


def test_long_videos_come_in_calls_of_bounded_size(tmp_path):
    path = write_video(tmp_path / "long.mp4", scenes(*[3] * 40), rate=2)
    first = read(str(path), 0, ReadOptions())
    assert len(first.pieces) == 32
    assert first.next == 1000 * first.pieces[-1].locator.end_s
    slow = write_video(tmp_path / "slow.mp4", scenes(*[50] * 6), rate=1)
    assert read(str(slow), 0, ReadOptions()).next == 150_000
    assert len(read_all(slow)) == 6


def test_large_frames_end_a_call_earlier(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_PIXELS_A_CALL", 3 * 64 * 48)
    path = write_video(tmp_path / "video.mp4", scenes(*[10] * 8), rate=5)
    first = read(str(path), 0, ReadOptions())
    assert len(first.pieces) == 3
    assert limits(read_all(path)) == [(2 * n, 2 * n + 2) for n in range(8)]


CODECS = [
    (codec, ending)
    for codec, ending in [
        ("mpeg4", "mp4"),
        ("libx264", "mkv"),
        ("libx264", "mp4"),
        ("libx264", "mts"),
        ("libvpx-vp9", "webm"),
        ("mpeg4", "avi"),
        ("wmv2", "wmv"),
    ]
    if codec in av.codecs_available
]


@settings(max_examples=20)
@given(
    kind=st.sampled_from(CODECS),
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=8),
    gop=st.integers(1, 400),
    place=st.integers(0, 100),
)
@pytest.mark.slow
def test_reading_from_any_shot_gives_the_same_shots(kind, lengths, gop, place):
    codec, ending = kind
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video.{ending}"
        write_video(path, scenes(10, *lengths, size=(32, 32)), codec, rate=25, gop=gop)
        pieces = read_all(path)
        first = place % len(pieces)
        later = read(str(path), round(pieces[first].locator.start_s * 1000), ReadOptions())
        expected = pieces[first : first + len(later.pieces)]
        assert [p.locator for p in later.pieces] == [p.locator for p in expected]
        for got, wanted in zip(later.pieces, expected, strict=True):
            assert got.payload.tobytes() == wanted.payload.tobytes()
        if later.next is None:
            assert expected[-1].locator.part == pieces[-1].locator.part
        assert [end for _, end in limits(pieces)][:-1] == [start for start, _ in limits(pieces)][1:]
        for piece in pieces[:3]:
            assert piece.locator.start_s <= piece.locator.time_s <= piece.locator.end_s
            assert frame_at(str(path), piece.locator.time_s).tobytes() == piece.payload.tobytes()


def test_gaps_between_frames_are_no_matter(tmp_path):
    path = write_video(tmp_path / "gaps.mkv", scenes(1, 1, 1), times=[0, 500, 2_500], rate=5)
    assert [start for start, _ in limits(read_all(path))] == [0, 100, 500]


def test_still_picture_as_video_gives_its_one_frame(tmp_path):
    [piece] = read_all(write_video(tmp_path / "still.mp4", scenes(1)))
    assert piece.locator.part == "t0"


def test_frames_are_reduced_by_whole_factors(tmp_path):
    path = write_video(tmp_path / "video.mp4", scenes(1, size=(320, 200)))
    piece = read_all(path, 60)[0]
    assert piece.payload.size == (107, 67)
    assert (piece.locator.width, piece.locator.height) == (320, 200)
    assert read_all(path, 400)[0].payload.size == (320, 200)


def test_too_large_frames_are_refused(tmp_path):
    path = write_video(tmp_path / "video.mp4", scenes(1, size=(320, 200)))
    with pytest.raises(UnreadableFileError, match="320 x 200"):
        read(str(path), 0, ReadOptions(max_pixels=10_000))


def test_video_of_which_no_frame_can_be_decoded_is_unreadable(tmp_path):
    path = write_video(tmp_path / "video.mp4", scenes(20))
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 4
    content[begin : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - begin)
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="not one frame can be decoded"):
        read(str(path), 0, ReadOptions())


def test_cut_off_video_gives_what_is_there(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 48, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "video.mkv", map(Image.fromarray, noise), rate=5)
    whole = [piece.locator.part for piece in read_all(path)]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    parts = [piece.locator.part for piece in read_all(path)]
    assert 1 <= len(parts) < len(whole)
    assert parts[:-1] == whole[: len(parts) - 1]


def test_tags_of_phones_are_read(tmp_path):
    apple = "com.apple.quicktime."
    path = write_video(
        tmp_path / "phone.mov",
        scenes(20),
        options={"movflags": "use_metadata_tags"},
        tags={
            f"{apple}make": "Apple",
            f"{apple}model": "iPhone 15",
            f"{apple}creationdate": "2024-02-29T14:00:00+0200",
            f"{apple}location.ISO6709": "+48.8577-002.2950+035.000/",
            "title": "By the\x07 river",
            "comment": "By the river",
        },
    )
    assert read(str(path), 0, ReadOptions()).metadata == Metadata(
        taken_at=1_709_208_000,
        taken_local=1_709_215_200,
        camera="Apple iPhone 15",
        latitude=48.8577,
        longitude=-2.295,
        duration_s=4.0,
        text="By the river",
        date_source="video",
    )


XMP = """<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF
 xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns:xmp='http://ns.adobe.com/xap/1.0/'
 xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/'>
<rdf:Description xmp:Rating='4' photoshop:DateCreated='2015-08-22T10:00:00+02:00'>
<dc:subject><rdf:Bag><rdf:li>quokka</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize(
    ("ending", "kind", "head"),
    [
        ("mp4", b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")),
        ("mov", b"XMP_", b""),
    ],
)
def test_xmp_of_a_video_is_read(tmp_path, ending, kind, head):
    """As the Extensible Metadata Platform's part 3 says of MPEG-4 and QuickTime."""
    tags = {"creation_time": "2024-02-29T12:00:00Z"}
    path = write_video(tmp_path / f"video.{ending}", scenes(20), tags=tags)

    def appended(content: bytes) -> bytes:
        box = (len(content) + 8).to_bytes(4, "big") + kind + content
        if kind == b"XMP_":
            box = (len(box) + 8).to_bytes(4, "big") + b"udta" + box
            box = (len(box) + 8).to_bytes(4, "big") + b"moov" + box
        return box

    plain = path.read_bytes()
    path.write_bytes(plain + appended(head + XMP.encode()))
    decoded = read(str(path), 0, ReadOptions())
    assert decoded.metadata.columns == {"rating": 4, "keyword": ["quokka"]}
    assert decoded.metadata.date_source == "xmp"
    assert decoded.metadata.taken_at == 1_440_230_400
    assert decoded.metadata.duration_s == 4.0
    assert decoded.notes == ()

    path.write_bytes(plain + appended(head + XMP.encode()[:200]))
    decoded = read(str(path), 0, ReadOptions())
    assert decoded.metadata.date_source == "video"
    assert [note.partition(" (")[0] for note in decoded.notes] == [
        "metadata: its XMP cannot be read"
    ]


def test_file_that_tells_nothing_has_only_its_length(tmp_path):
    path = write_video(tmp_path / "video.mp4", scenes(20))
    assert read(str(path), 0, ReadOptions()).metadata == Metadata(duration_s=4.0)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-02-29T12:00:00.000000Z", (1_709_208_000, None)),
        ("2024-02-29T14:00:00+0200", (1_709_208_000, 1_709_215_200)),
        ("2024-02-29T06:00:00-06:00", (1_709_208_000, 1_709_186_400)),
        ("2024-02-29T12:00:00+00:00", (1_709_208_000, 1_709_208_000)),
        ("2024-02-29 12:00:00", (1_709_208_000, 1_709_208_000)),
        ("2024-02-29", (1_709_164_800, 1_709_164_800)),
        ("1904-01-01T00:00:00.000000Z", None),
        ("2024", None),
        ("soon", None),
        ("", None),
        ("0001-01-01T00:00:00+23:59", None),
    ],
)
def test_moments_are_read_with_their_zone(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("+48.8577+002.2950/", (48.8577, 2.295)),
        ("-33.9249+018.4241+010.0/", (-33.9249, 18.4241)),
        ("+4830.00-00230.00/", (48.5, -2.5)),
        ("+483030-0023030/", (48.508333, -2.508333)),
        ("+90+180/", (90, 180)),
        ("+91+000/", None),
        ("+00.0000+000.0000/", None),
        ("-00-000+000.000/", None),
        ("+00.0000+000.0001/", (0, 0.0001)),
        ("+00+181/", None),
        ("48.8 2.2", None),
        ("+485+002/", None),
        ("", None),
    ],
)
def test_places_are_read_as_iso_6709_writes_them(text, place):
    assert parse_iso6709(text) == (None if place is None else pytest.approx(place, abs=1e-6))


@given(st.text())
def test_no_text_breaks_the_tags(text):
    parse_iso6709(text)
    parse_moment(text)


def test_a_video_that_takes_too_long_keeps_what_was_read(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", scenes(*[100] * 4), gop=20)
    # A second a frame; the clock of other modules goes on as ever.
    clock = SimpleNamespace(monotonic=partial(next, itertools.count()))
    monkeypatch.setattr("indexer.media.video.time", clock)
    first = read(str(path), 0, ReadOptions(seconds=150))
    assert limits(first.pieces) == [(0, 20)]
    assert (first.next, first.notes) == (20_000, ())
    part = read(str(path), first.next, ReadOptions(seconds=60))
    [(start, end)] = limits(part.pieces)
    assert start == 20
    assert 20 < end < 40
    assert part.next == 1000 * end
    last = read(str(path), part.next, ReadOptions(seconds=0.5))
    assert (last.pieces, last.next) == ((), None)
    assert last.notes[0].endswith("on takes too long to decode")
    with pytest.raises(UnreadableFileError, match="takes too long"):
        read(str(path), 0, ReadOptions(seconds=0.5))
