import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from retrieval.catalog import FileEntry, ItemEntry, TakenFrom
from retrieval.errors import DamagedLibraryError
from retrieval.lance.records import (
    StoredFile,
    StoredItem,
    cell_of,
    details_of,
    files_of,
    item_id_of,
    items_of,
    row_id_of,
    said_in,
    stored_file,
    table_of,
    vectors_of,
)
from retrieval.lance.schema import arrow
from retrieval.media import MediaKind, Metadata, Modality

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PATHS = st.binary(min_size=1, max_size=12).map(
    lambda octets: "/" + octets.replace(b"\0", b"x").decode("utf-8", "surrogateescape")
)
COLUMNS = st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(), st.lists(TEXTS)), max_size=3)
NUMBERS = st.none() | st.integers(0, 2**40)
METADATA = st.builds(
    Metadata,
    taken_at=st.none() | st.integers(0, 2**31),
    camera=st.none() | TEXTS,
    latitude=st.none() | st.floats(-90, 90),
    text=st.none() | TEXTS,
    place=st.none() | TEXTS,
    date_source=st.none() | st.just("exif"),
    taken_local=st.none() | st.integers(0, 2**31),
)
ITEMS = st.lists(
    st.builds(
        StoredItem,
        st.builds(
            ItemEntry,
            st.sampled_from(Modality),
            st.just(-1),
            part=st.text("pr0123456789", max_size=5),
            width=NUMBERS,
            page=NUMBERS,
            time_s=st.none() | st.floats(0, 1e6),
            text=st.none() | TEXTS,
            columns=st.none() | COLUMNS,
        ),
        st.lists(st.floats(-1, 1, width=16), min_size=8, max_size=8).map(
            lambda values: np.array(values, np.float16)
        ),
        st.booleans(),
        st.lists(TEXTS, max_size=2).map(tuple),
    ),
    max_size=3,
    unique_by=lambda item: (item.entry.modality, item.entry.part),
)
FILES = st.builds(
    StoredFile,
    st.builds(
        FileEntry,
        PATHS,
        st.sampled_from(MediaKind),
        st.integers(0, 2**62),
        st.integers(-1, 2**62),
        st.text("0123456789abcdef", max_size=32),
        METADATA,
        NUMBERS,
    ),
    ITEMS,
    st.lists(st.tuples(PATHS, COLUMNS), max_size=2).map(tuple),
    st.lists(TEXTS, max_size=2).map(tuple),
    st.none() | TEXTS,
    st.booleans(),
    st.integers(-2, 2),
    st.none() | TEXTS,
)


def same(left: StoredFile, right: StoredFile) -> bool:
    def comparable(stored: StoredFile) -> tuple:
        return (
            dataclasses.replace(stored, items=()),
            [
                (item.entry, item.vector.tobytes(), item.hidden, item.collections)
                for item in stored.items
            ],
        )

    return comparable(left) == comparable(right)


@settings(max_examples=60)
@given(st.lists(FILES, max_size=3, unique_by=lambda stored: stored.file.path))
def test_files_come_back_as_they_were(space, files):
    rows = table_of(files, space)
    back = files_of(rows)
    assert len(back) == len(files)
    assert all(map(same, back, files))
    assert table_of(back, space).equals(rows)


def test_a_row_says_what_is_found_by(space, make_file):
    [row] = table_of([make_file("/photos/sub/it's beach2019.jpg")], space, ["/photos"]).to_pylist()
    assert row["folder"] == "/photos/sub/"
    assert row["name"] == "it's beach2019.jpg"
    assert row["date"] == 5
    assert set(row["cells"]) == {cell_of("n", "0"), cell_of("rating", "5")}
    words = row["words"].split(" ")
    assert {"hund", "canon", "beach", "2019", "photos", "sub"} <= set(words)
    assert "jpg" not in words


def test_a_file_without_items_is_one_row(space, make_file):
    file = make_file("/a.jpg", 0, failure="broken")
    [row] = table_of([file], space).to_pylist()
    assert (row["modality"], row["vector"], row["words"]) == (None, None, None)
    assert items_of(table_of([file], space).append_column("_rowid", [[0]])) == []
    assert not vectors_of(table_of([file], space)).any()


def test_the_digest_is_of_everything(space, make_file):
    file = make_file("/a.jpg")
    changed = [
        file,
        make_file("/a.jpg", seed=1),
        make_file("/a.jpg", notes=("torn",)),
        make_file("/a.jpg", said=[("/t.csv", {"a": 1})]),
        dataclasses.replace(file, items=[dataclasses.replace(file.items[0], hidden=True)]),
        dataclasses.replace(
            file, items=[StoredItem(file.items[0].entry, -np.asarray(file.items[0].vector))]
        ),
    ]
    digests = [table_of([one], space).to_pydict()["digest"][0] for one in [*changed, file]]
    assert len(set(digests)) == len(changed)
    assert digests[0] == digests[-1]


def test_items_have_the_ids_of_their_rows(space, make_file):
    rows = table_of([make_file("/a\udcff.jpg", 2)], space)
    first, second = items_of(rows.append_column("_rowid", [[7, 9]]))
    assert (first.id, second.id) == (8, 10)
    assert [row_id_of(item.id) for item in (first, second)] == [7, 9]
    assert item_id_of(row_id_of(5)) == 5
    assert first.path == "/a\udcff.jpg"
    assert (first.columns, first.part, first.taken_from) == ({"n": 0}, "p0", TakenFrom.MTIME)


def test_details_are_those_of_the_file(space, make_file):
    file = make_file("/a.jpg", notes=("torn",), said=[("/t.csv", {"a": 1})])
    [details] = details_of(table_of([file], space))
    assert details.annotations == [{"rating": 5}, {"a": 1}]
    assert details.notes == ["torn"]
    assert (details.taken_at, details.size, details.metadata.camera) == (5, 10, "Canon")
    assert details.metadata.taken_local is None  # it has no date of its own


def test_a_date_of_a_file_counts_before_its_mtime(monkeypatch):
    def local(metadata: Metadata, mtime_ns: int) -> int | None:
        entry = FileEntry("/a", MediaKind.IMAGE, 1, mtime_ns, "x", metadata)
        return stored_file(entry, []).file.metadata.taken_local

    assert local(Metadata(taken_at=100, taken_local=3700), 5) == 3700
    assert local(Metadata(), -1) is None
    assert local(Metadata(taken_at=86_400), -1) is not None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "song"),
        ("modality", "smell"),
        ("columns", "[1]"),
        ("columns", "{"),
        ("said", '[{"of": "zz", "columns": {}}]'),
        ("said", "7"),
        ("path", ""),
        ("path", "a\0b"),
        ("taken_local", 10**18),
    ],
)
def test_a_value_that_cannot_be_is_reported(space, make_file, column, value):
    rows = table_of([make_file("/a.jpg")], space).append_column("_rowid", [[0]])
    place = rows.schema.get_field_index(column)
    damaged = rows.set_column(place, rows.schema.field(column), arrow().array([value]))
    with pytest.raises(DamagedLibraryError):
        [items_of(damaged), files_of(damaged), details_of(damaged)]
    assert said_in(None) == []
