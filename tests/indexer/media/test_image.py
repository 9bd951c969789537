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


def save_pages(path, count):
    first, *rest = [Image.new("RGB", (20 + n, 10), (10 * n, 0, 0)) for n in range(count)]
    first.save(path, save_all=True, append_images=rest)


def test_the_pages_of_a_tiff_are_pieces(tmp_path):
    path = tmp_path / "scan.tif"
    save_pages(path, 20)
    first = read(str(path), 0, ReadOptions())
    rest = read(str(path), first.next, ReadOptions())
    assert (first.next, rest.next) == (16, None)
    located = [piece.locator for piece in (*first.pieces, *rest.pieces)]
    assert [one.page for one in located] == [*range(1, 21)]
    assert [one.part for one in located] == [f"p{page}" for page in range(1, 21)]
    assert [one.width for one in located] == [*range(20, 40)]
    save_pages(path, 1)
    [piece] = read(str(path), 0, ReadOptions()).pieces
    assert (piece.locator.part, piece.locator.page) == ("", None)


def test_pages_that_cannot_be_read_are_noted(tmp_path):
    path = tmp_path / "scan.tif"
    save_pages(path, 3)
    decoded = read(str(path), 0, ReadOptions(max_pixels=210))
    assert [piece.locator.page for piece in decoded.pieces] == [1, 2]
    [note] = decoded.notes
    assert note.startswith("page 3 could not be read: refused as too large")
    with pytest.raises(UnreadableFileError, match="too large"):
        read(str(path), 0, ReadOptions(max_pixels=100))


def test_a_damaged_file_is_noted(tmp_path):
    path = tmp_path / "a.jpg"
    Image.effect_noise((80, 80), 50).save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    [note] = read(str(path), 0, ReadOptions()).notes
    assert "cut off" in note
