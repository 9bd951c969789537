"""Attacks on the files of items: each by somebody who can write to a source, or name items."""

import os
import socket
import threading
from dataclasses import replace

import pytest
from PIL import Image

from api.http.files import ItemFiles
from indexer.pipeline import index_sources
from retrieval.errors import NotFoundError
from retrieval.library import create_library
from retrieval.media import Modality


@pytest.fixture
def folder(tmp_path):
    """A source: two pictures, one of them in a folder."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(source / "red.png")
    Image.new("RGB", (40, 30), "blue").save(source / "below" / "blue.png")
    return source


@pytest.fixture
def secret(tmp_path):
    """A picture that the library was never told of."""
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (40, 30), "black").save(outside / "secret.png")
    return outside / "secret.png"


@pytest.fixture
def library(tmp_path, folder, tiny_encoder):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture
def files(library):
    return ItemFiles(library)


@pytest.fixture
def item(library):
    """Find an item by the end of its path."""

    def item(name: str):
        with library.catalog.snapshot() as snapshot:
            items = [snapshot.item(item_id) for item_id in range(1, 10)]
        [found] = [one for one in items if one and one.path.endswith(name)]
        return found

    return item


def disguise(path, like) -> None:
    """Give a file the size and times of another, as an attacker can."""
    status = like.stat()
    with path.open("r+b") as file:
        file.truncate(status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_file_and_picture_of_an_item(files, item, folder):
    with files.open(item("red.png")) as file:
        assert file.read() == (folder / "red.png").read_bytes()
    assert files.picture(item("blue.png")).getpixel((0, 0)) == (0, 0, 255)


def test_a_sound_shows_no_scene(files, item):
    assert files.scene(item("red.png")).size == (40, 30)
    with pytest.raises(NotFoundError, match="waveform"):
        files.scene(replace(item("red.png"), modality=Modality.AUDIO))


def test_file_replaced_by_a_link_to_a_secret(files, item, folder, secret):
    red = item("red.png")
    disguise(secret, folder / "red.png")
    (folder / "red.png").unlink()
    (folder / "red.png").symlink_to(secret)
    for use in (files.open, files.picture):
        with pytest.raises(NotFoundError, match="does not lie below a source"):
            use(red)


def test_file_replaced_by_a_link_to_the_password_file(files, item, folder):
    red = item("red.png")
    (folder / "red.png").unlink()
    (folder / "red.png").symlink_to("/etc/passwd")
    with pytest.raises(NotFoundError, match="does not lie below a source"):
        files.open(red)


def test_folder_replaced_by_a_link(files, item, folder, secret):
    blue = item("blue.png")
    (folder / "below" / "blue.png").rename(folder / "blue-was-here.png")
    secret.rename(secret.with_name("blue.png"))
    (folder / "below").rmdir()
    (folder / "below").symlink_to(secret.parent)
    with pytest.raises(NotFoundError, match="does not lie below a source"):
        files.open(blue)


def test_source_replaced_by_a_link(files, item, folder, secret):
    red = item("red.png")
    disguise(secret, folder / "red.png")
    secret.rename(secret.with_name("red.png"))
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(secret.parent)
    with pytest.raises(NotFoundError, match="does not lie below a source"):
        files.open(red)


def test_folder_that_becomes_a_link_after_the_check(files, item, folder, secret, monkeypatch):
    """The race: between resolving the path and opening it."""
    blue = item("blue.png")
    disguise(secret, folder / "below" / "blue.png")
    secret.rename(secret.with_name("blue.png"))
    real = os.path.realpath

    def realpath_then_swap(path, **options):
        resolved = real(path, **options)
        if str(path).endswith("blue.png"):
            (folder / "below").rename(folder / "aside")
            (folder / "below").symlink_to(secret.parent)
        return resolved

    monkeypatch.setattr(os.path, "realpath", realpath_then_swap)
    with pytest.raises(NotFoundError, match="cannot be opened any more"):
        files.open(blue)


def test_file_that_becomes_a_link_after_the_check(files, item, folder, secret, monkeypatch):
    red = item("red.png")
    disguise(secret, folder / "red.png")
    real = os.path.realpath

    def realpath_then_swap(path, **options):
        resolved = real(path, **options)
        if str(path).endswith("red.png"):
            (folder / "red.png").unlink()
            (folder / "red.png").symlink_to(secret)
        return resolved

    monkeypatch.setattr(os.path, "realpath", realpath_then_swap)
    with pytest.raises(NotFoundError, match="cannot be opened any more"):
        files.open(red)


def test_links_swapped_all_the_time_never_show_the_secret(files, item, folder, secret):
    """The same race, for real: a thread turns a folder into a link and back while files open."""
    blue = item("blue.png")
    disguise(secret, folder / "below" / "blue.png")
    secret.rename(secret.with_name("blue.png"))
    content = (folder / "below" / "blue.png").read_bytes()
    stop = threading.Event()

    def swap() -> None:
        link = folder / "link"
        link.symlink_to(secret.parent)
        while not stop.is_set():
            (folder / "below").rename(folder / "aside")
            link.rename(folder / "below")
            (folder / "below").rename(link)
            (folder / "aside").rename(folder / "below")

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    for _ in range(300):
        try:
            with files.open(blue) as file:
                outcomes.add(file.read() == content)
        except NotFoundError:
            outcomes.add(None)
    stop.set()
    thread.join()
    assert False not in outcomes
    assert outcomes == {True, None}


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_what_is_no_regular_file_is_not_opened(files, item, folder, kind, monkeypatch):
    """Opening a pipe would wait for ever."""
    red = item("red.png")
    (folder / "red.png").unlink()
    if kind == "pipe":
        os.mkfifo(folder / "red.png")
    elif kind == "folder":
        (folder / "red.png").mkdir()
    else:
        monkeypatch.chdir(folder)  # the path of a socket may not be long
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("red.png")
    with pytest.raises(NotFoundError, match="cannot be opened any more"):
        files.open(red)


def test_link_to_a_device_is_not_opened(files, item, folder):
    red = item("red.png")
    (folder / "red.png").unlink()
    (folder / "red.png").symlink_to("/dev/zero")
    with pytest.raises(NotFoundError, match="does not lie below a source"):
        files.open(red)


def test_source_whose_name_begins_like_another_folders(library, files, item, folder, tmp_path):
    """`/data/source-private` is not below `/data/source`."""
    red = item("red.png")
    private = tmp_path / "source-private"
    private.mkdir()
    (folder / "red.png").rename(private / "red.png")
    (folder / "red.png").symlink_to(private / "red.png")
    with pytest.raises(NotFoundError, match="does not lie below a source"):
        files.open(red)


def test_link_within_the_source_is_followed(files, item, folder):
    red = item("red.png")
    (folder / "red.png").rename(folder / "below" / "red-too.png")
    (folder / "red.png").symlink_to(folder / "below" / "red-too.png")
    with files.open(red) as file:
        assert file.read(4) == b"\x89PNG"


def test_source_that_was_a_link_from_the_beginning(tmp_path, folder, tiny_encoder):
    (tmp_path / "link").symlink_to(folder)
    library = create_library(tmp_path / "linked", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "link"])
    with library.catalog.snapshot() as snapshot:
        linked = snapshot.item(1)
    with ItemFiles(library).open(linked) as file:
        assert file.read(4) == b"\x89PNG"


def test_source_that_is_a_file(tmp_path, folder, tiny_encoder):
    library = create_library(tmp_path / "single", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder / "red.png"])
    with library.catalog.snapshot() as snapshot:
        red = snapshot.item(1)
    with ItemFiles(library).open(red) as file:
        assert file.read(4) == b"\x89PNG"


def test_source_that_came_while_the_service_runs(library, files, item, tmp_path, tiny_encoder):
    Image.new("RGB", (40, 30), "green").save(tmp_path / "green.png")
    index_sources(library, tiny_encoder, [tmp_path / "green.png"])
    files.open(item("green.png")).close()


@pytest.mark.parametrize("change", ["grown", "touched", "gone"])
def test_file_that_is_not_what_was_indexed(library, files, item, folder, change):
    red = item("red.png")
    path = folder / "red.png"
    if change == "grown":
        path.write_bytes(path.read_bytes() + b"private")
    elif change == "touched":
        os.utime(path, ns=(0, 0))
        index_sources_again_makes_times_known(library, red)
        red = item("red.png")
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    with pytest.raises(NotFoundError):
        files.open(red)


def index_sources_again_makes_times_known(library, item) -> None:
    """Record a time, as a later run of the indexer does: that of a fresh file is not trusted."""
    from retrieval.catalog import FileEntry

    with library.catalog.transaction() as transaction:
        transaction.record_touched(
            [FileEntry(item.path, item.kind, item.size, 0, item.content_hash)]
        )


def test_picture_of_the_same_size_but_other_content(files, item, folder):
    """So fresh that its time says nothing: the content decides before it is shown."""
    red = item("red.png")
    path = folder / "red.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(NotFoundError, match="has changed since it was indexed"):
        files.picture(red)


@pytest.mark.parametrize("is_remembered", [True, False])
def test_the_limit_of_indexing_holds_for_pictures(
    library, files, item, folder, tiny_encoder, monkeypatch, is_remembered
):
    if is_remembered:
        index_sources(library, tiny_encoder, [folder], max_pixels=1200)
    monkeypatch.setattr("retrieval.media.images.default_max_pixels", lambda: 1199)
    if is_remembered:
        assert files.picture(item("red.png")).size == (40, 30)
    else:
        with pytest.raises(NotFoundError, match="larger than the limit of this service: refused"):
            files.picture(item("red.png"))
