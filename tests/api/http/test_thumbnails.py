import io
import os
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from api.http.files import ItemFiles
from api.http.schemas.items import ThumbnailFormat, ThumbnailSize, thumbnail_url
from api.http.thumbnails import thumbnail
from indexer.pipeline import index_sources
from retrieval.errors import NotFoundError
from retrieval.files import sealed
from retrieval.integrity.thumbnails import read_thumbnail
from retrieval.library import create_library


@pytest.fixture
def library(indexed_library):
    return indexed_library


@pytest.fixture
def files(library):
    return ItemFiles(library)


@pytest.fixture
def item(library):
    with library.catalog.snapshot() as snapshot:
        return snapshot.item(1)


def test_a_thumbnail_is_made_once(library, files, item):
    first = thumbnail(library, files, item)
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "JPEG"
        assert image.size == (48, 40)
    [cached] = library.thumbnails.iterdir()
    assert cached.read_bytes() == sealed(first)
    cached.write_bytes(sealed(b"from the cache"))
    assert thumbnail(library, files, item) == b"from the cache"


def damaged(stored):
    yield b""
    yield stored[:-1]
    yield stored[: len(stored) // 2]
    yield stored[:200] + bytes(100) + stored[300:]
    yield bytes(len(stored))
    yield stored[:300] + bytes([stored[300] ^ 1]) + stored[301:]


def test_a_damaged_thumbnail_is_made_again(library, files, item):
    first = thumbnail(library, files, item)
    [cached] = library.thumbnails.iterdir()
    for content in damaged(sealed(first)):
        cached.write_bytes(content)
        assert thumbnail(library, files, item) == first
        assert cached.read_bytes() == sealed(first)


@pytest.mark.parametrize("form", list(ThumbnailFormat))
def test_whole_thumbnails_of_an_earlier_version_are_used(library, files, item, form):
    first = thumbnail(library, files, item, form=form)
    [cached] = library.thumbnails.iterdir()
    cached.write_bytes(first)
    Image.new("RGB", (48, 40), "black").save(item.path)  # cannot be made again
    assert thumbnail(library, files, item, form=form) == first
    cached.write_bytes(first[:-2])
    with pytest.raises(NotFoundError):
        thumbnail(library, files, item, form=form)


@pytest.mark.parametrize("size", list(ThumbnailSize))
@pytest.mark.parametrize("form", list(ThumbnailFormat))
def test_sizes_and_formats(tmp_path, tiny_encoder, size, form):
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "large.png")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "large.png"])
    with library.catalog.snapshot() as snapshot:
        large = snapshot.item(1)
    content = thumbnail(library, ItemFiles(library), large, size, form)
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == form.upper()
        wide = min(size, 2000)  # nothing is enlarged
        assert image.size == (wide, wide // 2)


def test_a_library_that_cannot_be_written_still_shows_thumbnails(library, files, item):
    library.thumbnails.rmdir()
    library.thumbnails.touch()  # a file in the way stands for every reason not to write
    with pytest.raises(NotADirectoryError):
        (library.thumbnails / "x").read_bytes()
    assert thumbnail(library, files, item).startswith(b"\xff\xd8")


def test_a_file_that_has_changed_does_not_get_into_the_cache(library, files, item):
    """Else the thumbnail of one content would be kept, for ever, under the name of another."""
    Image.new("RGB", (48, 40), "black").save(item.path)
    with pytest.raises(NotFoundError, match="has changed"):
        thumbnail(library, files, item)
    assert not list(library.thumbnails.iterdir())


def test_the_address_changes_with_the_content(library, item):
    assert thumbnail_url(item) == f"/v1/items/1/thumbnail?size=320&v={item.content_hash}"


def test_a_passage_of_a_note_has_no_picture(tmp_path, tiny_encoder):
    (tmp_path / "note.txt").write_text("A walk through the woods with two dogs.")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "note.txt"])
    with library.catalog.snapshot() as snapshot:
        passage = snapshot.item(1)
    assert not passage.has_picture
    assert thumbnail_url(passage) is None
    with pytest.raises(NotFoundError, match="a text has no picture"):
        thumbnail(library, ItemFiles(library), passage)


def test_one_that_can_neither_be_read_nor_replaced_is_answered_all_the_same(library, files, item):
    first = thumbnail(library, files, item)
    [cached] = library.thumbnails.iterdir()
    cached.unlink()
    (cached / "inside").mkdir(parents=True)  # a directory in its place, for root, too
    assert thumbnail(library, files, item) == first


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user"
)
def test_one_of_another_user_counts_as_missing():
    with tempfile.TemporaryDirectory() as folder:  # which another user can reach, unlike tmp_path
        Path(folder).chmod(0o755)
        cached = Path(folder) / "1-320.jpeg"
        cached.write_bytes(sealed(b"content"))
        cached.chmod(0o600)
        assert read_thumbnail(cached) == b"content"
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                cached.read_bytes()
            assert read_thumbnail(cached) is None
        finally:
            os.seteuid(0)
