import shutil

import numpy as np
import pytest

from indexer.pipeline import index_sources, remove_paths
from retrieval.errors import DamagedLibraryError, SpaceMismatchError
from retrieval.lance.copies import open_import
from retrieval.lance.export import export_library
from retrieval.lance.records import files_of, table_of
from retrieval.lance.table import LanceTable
from retrieval.library import create_library
from retrieval.media import Modality
from tests.rich_library import contents_of, rich_library

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")

pytestmark = pytest.mark.slow


def rows_of(table: LanceTable) -> dict:
    """The rows of a table by path and part, each as a tuple of all values."""
    rows = table.read(table.dataset.schema.names).to_pylist()
    return {(row["file_key"], row["modality"], row["part"]): row for row in rows}


def test_a_table_gets_everything_once(rich, tmp_path):
    location = f"lance:{tmp_path}/table"
    first = export_library(rich, location)
    assert (first.written, first.unchanged, first.deleted, first.is_complete) == (21, 0, 0, True)
    table = LanceTable.open(location)
    assert table.count("modality IS NOT NULL") == first.items == 73
    assert table.count("failure IS NOT NULL") == 2
    assert table.sources.keys() == {str(tmp_path / "photos")}
    again = export_library(rich, location)
    assert (again.written, again.unchanged, again.version) == (0, 21, table.version)
    # The vectors are the bytes of the library.
    imported = open_import(table, tmp_path / "imported")
    imported.update()
    assert contents_of(imported.library) == contents_of(rich)


def test_only_changes_are_written(rich, tmp_path, tiny_encoder):
    location = f"lance:{tmp_path}/table"
    export_library(rich, location)
    before = rows_of(LanceTable.open(location))
    folder = tmp_path / "photos"
    (folder / "dogs" / "IMG_0_003.jpg").unlink()
    shutil.move(folder / "2018", folder / "2017")
    shutil.copyfile(folder / "dogs" / "IMG_0_007.jpg", folder / "dogs" / "IMG_0_011.jpg")
    (folder / "broken0.jpg").unlink()
    index_sources(rich, tiny_encoder, [folder], workers=1)
    with rich.catalog.transaction() as transaction:
        [hidden] = [i for i in range(1, 200) if transaction.unhide_items([i])]
    done = export_library(rich, location)
    table = LanceTable.open(location)
    after = rows_of(table)
    # Three files were moved, one of which is shown again, and one was changed.
    assert (done.written, done.deleted) == (4, 5)
    assert hidden
    paths = {row["path"] for row in after.values()}
    assert not any("2018" in path or "broken" in path or "IMG_0_003" in path for path in paths)
    unchanged = [key for key in before.keys() & after.keys() if before[key] == after[key]]
    assert len(unchanged) == len(after) - 4
    again = LanceTable.open(location)
    rows = again.read(again.dataset.schema.names)
    rebuilt = table_of(files_of(rows), again.space, again.sources)
    assert sorted(rebuilt["digest"].to_pylist()) == sorted(rows["digest"].to_pylist())


def test_what_another_library_wrote_stays(rich, tmp_path, tiny_encoder):
    location = f"lance:{tmp_path}/table"
    other = rich_library(tmp_path / "other", tmp_path / "library2", tiny_encoder, seed=5)
    export_library(rich, location)
    export_library(other, location)
    table = LanceTable.open(location)
    assert table.count() == 2 * 75
    assert set(table.sources) == {str(tmp_path / "photos"), str(tmp_path / "other")}
    remove_paths(rich, [tmp_path / "photos" / "dogs"])
    export_library(rich, location)
    table.refresh()
    assert table.count("folder LIKE '%/dogs/'") == 4
    remove_paths(rich, [tmp_path / "photos"])
    export_library(rich, location)
    table.refresh()
    assert table.count() == 75
    assert set(table.sources) == {str(tmp_path / "other")}


def test_damaged_vectors_are_left_out_and_told(rich, tmp_path):
    file = rich.embeddings(rich.space(), Modality.IMAGE)
    rows = np.fromfile(file.path, np.float16)
    rows[:4] = 0.5
    rows.tofile(file.path)
    done = export_library(rich, f"lance:{tmp_path}/table")
    assert done.damaged
    table = LanceTable.open(f"lance:{tmp_path}/table")
    assert table.count("modality IS NOT NULL") == 73 - done.damaged
    assert table.count("NOT is_complete AND failure IS NULL") > 0


def test_a_library_that_lacks_rows_is_reported(rich, tmp_path):
    space = rich.space()
    with rich.catalog.transaction() as transaction:
        ids = transaction.items(space.id, modality=Modality.IMAGE, limit=1)
        transaction.set_rows(space.id, Modality.IMAGE, {ids[0].id: 10_000})
    with pytest.raises(DamagedLibraryError, match="mmsearch check"):
        export_library(rich, f"lance:{tmp_path}/table")


def test_a_table_takes_vectors_of_its_space_only(rich, tmp_path, other_encoder):
    location = f"lance:{tmp_path}/table"
    export_library(rich, location)
    other = create_library(tmp_path / "other", other_encoder.space)
    with pytest.raises(SpaceMismatchError):
        export_library(other, location)
    assert LanceTable.open(location).count() == 75


def test_an_export_that_was_stopped_goes_on(rich, tmp_path):
    location = f"lance:{tmp_path}/table"
    stopped = export_library(rich, location, should_stop=lambda: True)
    assert not stopped.is_complete
    assert LanceTable.open(location).count() == 0
    seen: list[int] = []
    done = export_library(rich, location, on_progress=seen.append)
    assert done.is_complete
    assert done.written == 21
