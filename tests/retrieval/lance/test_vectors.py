import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.lance import vectors
from retrieval.lance.records import table_of
from retrieval.lance.table import LanceTable
from retrieval.lance.vectors import distinct_pictures, vectors_at
from retrieval.library import open_library

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


@pytest.fixture
def files(make_file):
    # The hash of a file's content ends as its name does: two of them are copies.
    return [make_file("/a.jpg"), make_file("/a/a.jpg"), make_file("/b.tif", parts=3)]


@pytest.fixture
def location(tmp_path, space, files):
    table = LanceTable.create(f"lance:{tmp_path}/table", space)
    table.append(table_of(files, space))
    return table.location


def test_vectors_come_in_the_order_of_their_rows(location, files):
    table = LanceTable.open(location)
    written = [item.vector for file in files for item in file.items]
    found, is_there = vectors_at(table, [4, 0, 99, 2])
    assert is_there.tolist() == [True, True, False, True]
    assert np.array_equal(found[[0, 1, 3]], np.stack([written[4], written[0], written[2]]))
    assert not found[2].any()
    assert vectors_at(table, [])[0].shape == (0, 8)


def test_one_picture_of_each_content_is_read(location, files, monkeypatch):
    library = open_library(location)
    rows, hashes, found = distinct_pictures(library, frames=False)
    assert (rows.tolist(), hashes) == ([0], ["0-jpg"])
    assert np.array_equal(found, files[0].items[0].vector[np.newaxis])
    rows, hashes, found = distinct_pictures(library, frames=True)
    assert rows.tolist() == [0, 2, 3, 4]
    assert found.shape == (4, 8)
    monkeypatch.setattr(vectors, "MOST_PICTURES", 2)
    with pytest.raises(UsageError, match="--exact-only"):
        distinct_pictures(library, frames=True)
