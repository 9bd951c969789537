import colorsys

import pytest
from PIL import Image

from api.cli.query_parts import parse_parts
from indexer.media import video_query
from indexer.media.video_query import read_query_frames
from retrieval.errors import UsageError
from tests.indexer.media.test_video import write_video

pytestmark = pytest.mark.slow


def changing(shots: int):
    """Shots of a second each in different colours."""
    for number in range(shots):
        colour = colorsys.hsv_to_rgb(0.37 * number, 1, 1 - number % 2 / 2)
        yield from [Image.new("RGB", (64, 48), tuple(round(255 * c) for c in colour))] * 5


@pytest.mark.parametrize(("shots", "frames"), [(3, 3), (40, 10)])
def test_frames_are_few_and_at_even_distances(tmp_path, shots, frames):
    path = write_video(tmp_path / "clip.mp4", changing(shots), rate=5)
    found = read_query_frames(path)
    assert len(found) == frames
    parts = parse_parts("a dog", video=f"2:{path}")
    assert [part.weight for part in parts] == pytest.approx([1, *[2 / frames] * frames])


def test_only_the_beginning_of_a_long_video_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(video_query, "MOST_S", 20.0)
    path = write_video(tmp_path / "clip.mp4", changing(80), rate=5)
    whole = write_video(tmp_path / "short.mp4", changing(32), rate=5)
    assert len(read_query_frames(path)) == len(read_query_frames(whole))


def test_what_is_no_video_is_a_wrong_option(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"The query video .*a\.mp4: cannot be opened as a video"):
        read_query_frames(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="No such file"):
        read_query_frames(tmp_path / "none.mp4")
