import pytest
from PIL import ExifTags, Image

from indexer.media.base import ReadOptions
from indexer.media.image import read
from retrieval.errors import UnreadableFileError


def test_a_file_is_one_piece_with_its_metadata(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Model] = "Box"
    Image.new("RGB", (400, 200), "red").save(path, exif=exif)
    reading = read(str(path), 0, ReadOptions(least_side=50))
    [piece] = reading.pieces
    assert (piece.locator.part, piece.locator.width, piece.locator.height) == ("", 200, 400)
    assert piece.payload.size == (50, 100)
    assert reading.metadata.camera == "Box"
    assert reading.next is None
    assert read(str(path), 1, ReadOptions()).pieces == ()


def test_a_name_that_is_not_text_is_read(tmp_path):
    path = tmp_path / "a\udcff.png"
    try:
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        (tmp_path / "a.png").rename(path)
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes only text as names")
    assert len(read(str(path), 0, ReadOptions()).pieces) == 1


def test_errors_are_those_of_a_reader(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(OSError, match=r"a\.png"):
        read(str(path), 0, ReadOptions())
    path.write_bytes(b"text")
    with pytest.raises(UnreadableFileError, match="not an image"):
        read(str(path), 0, ReadOptions())
    Image.new("RGB", (100, 100)).save(path)
    with pytest.raises(UnreadableFileError, match="too large"):
        read(str(path), 0, ReadOptions(max_pixels=9999))
