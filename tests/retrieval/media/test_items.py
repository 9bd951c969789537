import os
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.catalog import Item
from retrieval.errors import UnreadableFileError
from retrieval.library import create_library
from retrieval.media import MediaKind, Modality
from retrieval.media.items import read_item_image, read_item_image_if_unchanged


def save_video(path: Path, *colours: str) -> None:
    """Four seconds a colour."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in colours:
            for _ in range(20):
                frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), colour))
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def save_document(path: Path, *colours: str) -> None:
    first, *rest = [Image.new("RGB", (60, 80), colour) for colour in colours]
    first.save(path, save_all=True, append_images=rest)


@pytest.fixture
def items(tmp_path, tiny_encoder) -> dict[tuple[MediaKind, str], Item]:
    """One item of each part of an image, a video, a document and a text."""
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.new("RGB", (50, 40), "yellow").save(folder / "image.png")
    save_video(folder / "video.mp4", "red", "blue")
    save_document(folder / "document.pdf", "lime", "white")
    (folder / "text.txt").write_text("A text.")
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    space_id = tiny_encoder.space.id
    with library.catalog.snapshot() as snapshot:
        rows = {modality: range(snapshot.row_count(space_id, modality)) for modality in Modality}
        found = [snapshot.items_at(space_id, *pair).values() for pair in rows.items()]
    return {(item.kind, item.part): item for items in chain(*found) for item in items}


def colour_of(image: Image.Image) -> str:
    red, green, blue = (value > 128 for value in image.getpixel((10, 10)))
    return {
        (True, True, False): "yellow",
        (True, False, False): "red",
        (False, False, True): "blue",
        (False, True, False): "lime",
        (True, True, True): "white",
    }[red, green, blue]


def test_each_item_shows_its_own_picture(items):
    shown = {}
    for (kind, part), item in items.items():
        if kind is not MediaKind.TEXT:
            image = read_item_image(item)
            assert image.mode == "RGB"
            shown[kind, part] = colour_of(image)
            assert colour_of(read_item_image_if_unchanged(item)) == shown[kind, part]
    assert shown[MediaKind.IMAGE, ""] == "yellow"
    assert shown[MediaKind.VIDEO, "t0"] == "red"
    assert shown[MediaKind.VIDEO, "t4000"] == "blue"
    assert shown[MediaKind.DOCUMENT, "p1"] == "lime"
    assert shown[MediaKind.DOCUMENT, "p2"] == "white"


def test_a_text_has_no_picture(items):
    with pytest.raises(UnreadableFileError, match="no picture"):
        read_item_image(items[MediaKind.TEXT, "c0"])
    assert read_item_image_if_unchanged(items[MediaKind.TEXT, "c0"]) is None


@pytest.mark.parametrize("key", [(MediaKind.IMAGE, ""), (MediaKind.VIDEO, "t0")])
def test_a_file_that_is_another_one_by_now_is_not_shown(items, key):
    item = items[key]
    with Path(item.path).open("ab") as file:
        file.write(b"more")
    assert read_item_image_if_unchanged(item) is None
    Path(item.path).unlink()
    assert read_item_image_if_unchanged(item) is None
    with pytest.raises(OSError, match="No such file"):
        read_item_image(item)


def test_pictures_of_one_file_are_told_apart(items):
    keys = [item.picture_key for item in items.values()]
    assert len(set(keys)) == len(keys)
    assert items[MediaKind.IMAGE, ""].picture_key == items[MediaKind.IMAGE, ""].content_hash
