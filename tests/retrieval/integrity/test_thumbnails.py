import io

from PIL import Image

from retrieval.files import sealed
from retrieval.integrity.thumbnails import find_damage, read_thumbnail


def picture(form):
    stream = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(stream, form)
    return stream.getvalue()


def test_whole_pictures_are_read_with_and_without_a_checksum(tmp_path):
    for form in ("jpeg", "webp"):
        file = tmp_path / f"x.{form}"
        assert read_thumbnail(file) is None
        for stored in (picture(form), sealed(picture(form))):
            file.write_bytes(stored)
            assert read_thumbnail(file) == picture(form)
            file.write_bytes(stored[:-3])
            assert read_thumbnail(file) is None


def test_the_damaged_ones_of_a_library_are_named(indexed_library):
    folder = indexed_library.thumbnails
    (folder / "a.jpeg").write_bytes(sealed(picture("jpeg")))
    (folder / "b.webp").write_bytes(b"")
    (folder / "notes").write_bytes(b"")
    found = list(find_damage(indexed_library))
    assert [path for path in found if path] == [folder / "b.webp"]
    assert len(found) == 2
