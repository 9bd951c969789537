import io

import pytest
from PIL import Image

from api.thumbnails import thumbnail


@pytest.fixture
def library(indexed_library):
    return indexed_library


@pytest.fixture
def item(library):
    with library.catalog.snapshot() as snapshot:
        return snapshot.item(1)


def test_a_thumbnail_is_made_once(library, item):
    first = thumbnail(library, item)
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "JPEG"
        assert image.size == (48, 40)
    [cached] = library.thumbnails.iterdir()
    assert cached.read_bytes() == first
    cached.write_bytes(b"from the cache")
    assert thumbnail(library, item) == b"from the cache"


def test_a_library_that_cannot_be_written_still_shows_thumbnails(library, item):
    library.thumbnails.rmdir()
    library.thumbnails.touch()  # a file in the way stands for every reason not to write
    with pytest.raises(NotADirectoryError):
        (library.thumbnails / "x").read_bytes()
    assert thumbnail(library, item).startswith(b"\xff\xd8")
