import pytest

from retrieval.integrity.storage import measure_storage
from retrieval.lance.records import table_of
from retrieval.lance.storage import measure_table
from retrieval.lance.table import LanceTable
from retrieval.library import open_library

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


def test_a_table_and_its_caches_are_measured(tmp_path, space, make_file, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = LanceTable.create(f"lance:{tmp_path}/table", space)
    table.append(table_of([make_file(f"/{number}.jpg") for number in range(50)], space))
    library = open_library(table.location)
    measured = measure_table(library)
    assert measured.embeddings == 50 * 8 * 2
    data = sum(path.stat().st_size for path in (tmp_path / "table" / "data").iterdir())
    assert measured.catalog + measured.embeddings == data
    assert (measured.indices, measured.thumbnails) == (0, 0)
    LanceTable.open(table.location).create_indices()
    library = open_library(table.location)
    library.thumbnails.mkdir(parents=True)
    (library.thumbnails / "a.jpg").write_bytes(b"x" * 77)
    assert measure_storage(library).indices > 0
    assert measure_storage(library).thumbnails == 77
