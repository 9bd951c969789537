import threading
import time
from collections.abc import Callable

import pytest

from retrieval.lance.copies import Copied, open_copy
from retrieval.lance.follower import TableFollower, first_copy
from retrieval.lance.records import table_of
from retrieval.lance.table import LanceTable
from retrieval.library import create_library, open_library

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


def wait_for(holds: Callable[[], object]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError(holds)


@pytest.fixture
def table(tmp_path, space, unit_file):
    table = LanceTable.create(f"lance:{tmp_path}/table", space)
    table.append(table_of([unit_file("/p/a")], space))
    return table


@pytest.fixture
def follow():
    """A function that starts a follower, which ends with the test."""
    started = []

    def start(location, library, **options) -> tuple[list[Copied], list[str | None]]:
        updates, problems = [], []
        follower = TableFollower(
            location,
            library,
            poll_s=0.01,
            encoder=lambda space: pytest.fail("nothing is encoded"),
            on_update=updates.append,
            on_problem=problems.append,
            **options,
        )
        started.append(follower)
        follower.start()
        return updates, problems

    yield start
    for follower in started:
        follower.stop()
    assert not [one for one in threading.enumerate() if one.name == "mmsearch-follow"]


def test_new_versions_are_taken_up(table, tmp_path, space, unit_file, follow):
    assert first_copy(table.location, tmp_path / "copy").rows == 1
    assert first_copy(table.location, tmp_path / "copy") is None  # there is one
    library = open_library(tmp_path / "copy")
    updates, problems = follow(table.location, library)
    wait_for(lambda: problems)
    table.append(table_of([unit_file("/p/b", 2)], space))
    wait_for(lambda: updates)
    with library.catalog.snapshot() as snapshot:
        assert len(snapshot.items(space.id, limit=10)) == 3
    table.delete("path = '/p/a'")
    wait_for(lambda: len(updates) == 2)
    assert (updates[1].rows, updates[1].removed) == (0, 2)
    assert set(problems) == {None}


def test_a_store_that_is_away_is_told_and_followed_again(table, tmp_path, follow):
    first_copy(table.location, tmp_path / "copy")
    (tmp_path / "table").rename(tmp_path / "away")
    updates, problems = follow(table.location, open_library(tmp_path / "copy"))
    wait_for(lambda: problems)
    assert "no table" in str(problems[0])
    (tmp_path / "away").rename(tmp_path / "table")
    wait_for(lambda: problems[-1] is None)
    assert updates == []


def test_what_is_no_copy_is_told(table, tmp_path, space, write_files, follow):
    import numpy as np

    library = create_library(tmp_path / "own", space)
    write_files(library, {"/own": np.full((1, 8), 8**-0.5, np.float32)})
    _, problems = follow(table.location, library)
    wait_for(lambda: problems)
    assert "no copy of" in str(problems[0])


def test_while_something_writes_it_waits(table, tmp_path, space, unit_file, follow):
    first_copy(table.location, tmp_path / "copy")
    other = open_library(tmp_path / "copy")
    with other.writer():
        updates, problems = follow(table.location, open_library(tmp_path / "copy"))
        table.append(table_of([unit_file("/p/b")], space))
        time.sleep(0.2)
        assert updates == []
    wait_for(lambda: updates)
    assert set(problems) <= {None}


def test_a_first_copy_that_was_stopped_is_made_whole(table, tmp_path, space, unit_file):
    open_copy(LanceTable.open(table.location), tmp_path / "copy")  # and was killed
    done = first_copy(table.location, tmp_path / "copy")
    assert done is not None
    assert done.is_complete
