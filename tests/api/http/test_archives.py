import io
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.archives import Names, Ticket, Tickets, one_item_a_file, safe_name, zip_of
from api.http.files import ItemFiles
from retrieval.catalog import Item
from retrieval.errors import NotFoundError
from retrieval.library import create_library
from retrieval.media import MediaKind, Modality

CONTENTS = {
    "a/dog.jpg": os.urandom(700_000),
    "b/dog.jpg": b"another dog",
    "b/DOG.JPG": b"a third one",
    "b/雪 in March.png": b"snow",
    "empty.txt": b"",
}


@pytest.fixture
def files(tmp_path, tiny_encoder):
    """A library of a source, the items of its files, and how they are opened."""
    library = create_library(tmp_path / "library", tiny_encoder.space)
    source = tmp_path / "source"
    with library.catalog.transaction() as transaction:
        transaction.add_sources({str(source): None})
    items = []
    for number, (name, content) in enumerate(CONTENTS.items(), 1):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        told = path.stat()
        items.append(
            Item(
                number,
                str(path),
                MediaKind.IMAGE,
                Modality.IMAGE,
                "hash",
                told.st_size,
                told.st_mtime_ns,
            )
        )
    return items, ItemFiles(library)


def opened(parts) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(b"".join(parts)))
    assert archive.testzip() is None
    return archive


def test_an_archive_has_the_files_as_they_are_each_under_a_name_of_its_own(files):
    items, item_files = files
    archive = opened(zip_of(items, item_files))
    assert {i.filename: archive.read(i) for i in archive.infolist()} == {
        "dog.jpg": CONTENTS["a/dog.jpg"],
        "dog (2).jpg": CONTENTS["b/dog.jpg"],
        "DOG (3).JPG": CONTENTS["b/DOG.JPG"],
        "雪 in March.png": CONTENTS["b/雪 in March.png"],
        "empty.txt": b"",
    }
    assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_an_archive_comes_in_parts_as_its_files_are_read(files):
    items, item_files = files
    parts = zip_of(items[:1], item_files)
    first = next(parts)
    assert len(first) < len(CONTENTS["a/dog.jpg"])
    parts.close()


def test_what_is_gone_or_changed_is_told_inside(files):
    items, item_files = files
    os.unlink(items[1].path)  # noqa: PTH108
    with open(items[3].path, "ab") as file:  # noqa: PTH123
        file.write(b"more")
    archive = opened(zip_of(items, item_files, missing=[99]))
    assert sorted(archive.namelist()) == [
        "DOG (3).JPG",
        "Not in this archive.txt",
        "dog.jpg",
        "empty.txt",
    ]
    told = archive.read("Not in this archive.txt").decode()
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        "item 99",
        "dog (2).jpg",
        "雪 in March.png",
    ]


def test_a_file_that_shrinks_while_it_is_sent_leaves_the_others_whole(files):
    items, item_files = files
    parts = zip_of(items[:2], item_files)
    begun = next(parts)
    os.truncate(items[0].path, 300_000)
    archive = opened([begun, *parts])
    assert len(archive.read("dog.jpg")) == 300_000
    assert archive.read("dog (2).jpg") == CONTENTS["b/dog.jpg"]
    assert "incomplete" in archive.read("Not in this archive.txt").decode()


def test_several_items_of_a_file_are_one(files):
    [first, second, *_] = files[0]
    assert one_item_a_file([first, second, first]) == [first, second]


@given(st.lists(st.text(st.characters(exclude_characters="/"), max_size=300), max_size=6))
def test_names_are_safe_and_unique_whatever_files_are_called(names):
    used = Names()
    given_names = [used.unique(f"/folder/{name}") for name in [*names, *names]]
    assert len({name.casefold() for name in given_names}) == len(given_names)
    for name in given_names:
        assert name == PureWindowsPath(name).name
        assert name not in {".", ".."}
        assert not set(name) & set('<>:"/\\|?*\0\n\u202e')
        name.encode()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.jpg", "b.jpg"),
        ("/a/CON.txt", "_CON.txt"),
        ("/a/nul", "_nul"),
        ("/a/..", "_"),
        ("/a/ x. ", "x"),
        ("/a/.hidden", ".hidden"),
        ("/a/cod\u202egnp.exe", "cod_gnp.exe"),
        ("/a/" + "x" * 300 + ".jpeg", "x" * 145 + ".jpeg"),
        (os.fsdecode(b"/a/caf\xe9.png"), "caf\ufffd.png"),
        ("/a/\ud800.png", "\ufffd.png"),
    ],
)
def test_names_that_some_system_would_refuse(path, name):
    assert safe_name(path) == name


def test_tickets_are_of_no_use_for_ever():
    tickets = Tickets(seconds=0)
    with pytest.raises(NotFoundError):
        tickets.get(tickets.add(Ticket("a.zip", [1])))
    tickets = Tickets()
    token = tickets.add(Ticket("a.zip", [1]))
    assert tickets.get(token).item_ids == [1]
    assert tickets.add(Ticket("a.zip", [1])) != token
    with pytest.raises(NotFoundError):
        tickets.get("guess")


def test_thousands_of_files_may_have_one_name():
    names = Names()
    found = [names.unique(f"/{folder}/cover.jpg") for folder in range(10_000)]
    assert found[0] == "cover.jpg"
    assert len(set(found)) == 10_000


def test_tickets_are_asked_for_on_several_threads():
    tickets = Tickets(seconds=0.002)

    def ask(_number):
        for _ in range(300):
            with suppress(NotFoundError):
                tickets.get(tickets.add(Ticket("name", ())))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))
    finally:
        sys.setswitchinterval(before)
