"""Writers of a Lance table in an object store are killed at random instants, two at a time.

`MMSEARCH_TEST_KILLS` sets the number of kills, `MMSEARCH_TEST_SEED` what is drawn.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

KILLS = int(os.environ.get("MMSEARCH_TEST_KILLS", "5"))
SEED = int(os.environ.get("MMSEARCH_TEST_SEED", "0"))

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 20 * KILLS)]

PROGRAM = Path(__file__).with_name("table_writer.py")
KINDS = {"one": "merge", "two": "export"}


def start(location: str, work: Path, name: str) -> subprocess.Popen:
    with (work / f"{name}.err").open("a") as errors:
        return subprocess.Popen(
            [sys.executable, PROGRAM, location, work, name, KINDS[name], str(SEED)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            stderr=errors,
        )


def wait_for_acknowledgements(process: subprocess.Popen, work: Path, name: str, more: int) -> None:
    from tests.faults.table_writer import Log

    log = Log(work / f"{name}.log")
    wanted = log.read()[2] + more
    while log.read()[2] < wanted:
        assert process.poll() is None, (work / f"{name}.err").read_text()
        time.sleep(0.01)


def check(location: str, work: Path, name: str) -> int:
    """The files of a writer are as it left them; returns how many."""
    from retrieval.lance.table import LanceTable
    from tests.faults.table_writer import Log, files_in

    acknowledged, intended, _ = Log(work / f"{name}.log").read()
    found = files_in(LanceTable.open(location), f"/{name}/")
    if intended is None:
        assert found == acknowledged
    elif KINDS[name] == "merge":  # one commit: everything or nothing
        assert found in (acknowledged, intended)
    else:
        for path in acknowledged | intended | found:
            assert found.get(path) in (acknowledged.get(path), intended.get(path)), path
    return len(found)


def test_killed_writers_lose_and_double_nothing(bucket, tmp_path):
    from retrieval.lance.table import LanceTable
    from tests.faults.table_writer import files_in

    location = f"lance+s3://{bucket}/table"
    chance = random.Random(SEED)
    running = {name: start(location, tmp_path, name) for name in KINDS}
    try:
        for name, process in running.items():
            wait_for_acknowledgements(process, tmp_path, name, 1)
        for number in range(KILLS):
            name = list(KINDS)[number % 2]
            if number % 5 == 4:  # while it starts
                time.sleep(chance.random() * 2)
            else:
                wait_for_acknowledgements(running[name], tmp_path, name, 1)
                time.sleep(chance.random() * 0.4)
            running[name].kill()
            running[name].wait()
            check(location, tmp_path, name)
            running[name] = start(location, tmp_path, name)
        for name, process in running.items():
            wait_for_acknowledgements(process, tmp_path, name, 2)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert all(check(location, tmp_path, name) for name in KINDS)
    table = LanceTable.open(location)
    assert set(map(tuple, files_in(table, "/shared/").values())) <= {(0, 2)}
    keys = table.read(["key", "_rowid"])
    for column in ("key", "_rowid"):
        values = keys.column(column).to_pylist()
        assert len(values) == len(set(values)) == table.count()
    assert not any((tmp_path / f"{name}.err").read_text() for name in KINDS)
