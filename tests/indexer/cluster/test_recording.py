"""What is written to a real table: once, in any order, also again; no Ray is started."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytest.importorskip("ray", reason="needs Ray: pip install 'mmsearch[cluster]'")

from indexer.cluster.recording import KnownFiles, Recorder, Steps
from indexer.cluster.stages import NumberedStep
from indexer.decode import Content
from indexer.encode import EncodedPiece, EncodedStep
from indexer.media.base import Annotation, Locator
from indexer.progress import Summary
from indexer.scan import Comparison, FoundFile, compare
from retrieval.catalog import FailedFile
from retrieval.encoders.base import Space
from retrieval.lance.records import files_of
from retrieval.lance.table import LanceTable
from retrieval.media import MediaKind, Modality

pytestmark = pytest.mark.slow

_ROOT = "/photos"


@pytest.fixture
def table(tmp_path: Path) -> LanceTable:
    space = Space("toy", "sha256:0", "none", 8)
    return LanceTable.create(f"lance:{tmp_path / 'table'}", space, {_ROOT: {}})


def _found(name: str, size: int = 10, mtime_ns: int = 5) -> FoundFile:
    return FoundFile(f"{_ROOT}/{name}", size, mtime_ns, MediaKind.IMAGE)


def _step(found: FoundFile, content: str, parts: int = 1, **known: Any) -> EncodedStep:
    vectors = np.random.default_rng(len(content)).normal(size=(parts, 8)).astype(np.float16)
    pieces = tuple(
        EncodedPiece(Modality.IMAGE, Locator(f"p{n}" if parts > 1 else ""), vector=vector)
        for n, vector in enumerate(vectors)
    )
    return EncodedStep(found, Content(found.size, found.mtime_ns, content), pieces=pieces, **known)


def _recorder(table: LanceTable, found: list[FoundFile]) -> tuple[Recorder, Summary, Comparison]:
    table.refresh()
    summary = Summary()
    comparison = compare(found, KnownFiles.of(table).by_path.values())
    return Recorder(table, [_ROOT], comparison, summary), summary, comparison


def _index(table: LanceTable, *steps: EncodedStep) -> Summary:
    """Record files as a run that finds these and no others."""
    recorder, summary, _ = _recorder(table, [step.found for step in steps])
    assert recorder.record([[step] for step in steps]) == []
    recorder.finish()
    return summary


def _files(table: LanceTable) -> dict[str, Any]:
    table.refresh()
    names = table.dataset.schema.names
    rows = table.read(names)
    assert len(set(rows.column("key").to_pylist())) == rows.num_rows
    return {file.file.path.removeprefix(f"{_ROOT}/"): file for file in files_of(rows)}


def test_recorded_twice_is_there_once(table: LanceTable) -> None:
    steps = [_step(_found("a.jpg"), "aaaa"), _step(_found("b.jpg"), "bb", parts=3)]
    first, _, _ = _recorder(table, [step.found for step in steps])
    second, _, _ = _recorder(table, [step.found for step in steps])
    for recorder in (first, second, first):
        recorder.record([[step] for step in steps])
    found = _files(table)
    assert {name: len(file.items) for name, file in found.items()} == {"a.jpg": 1, "b.jpg": 3}
    assert table.count() == 4


def test_changed_file_loses_its_old_parts(table: LanceTable) -> None:
    _index(table, _step(_found("b.jpg"), "bb", parts=3), _step(_found("a.jpg"), "aaaa"))
    changed = _step(_found("b.jpg", mtime_ns=9), "ccc", parts=2)
    recorder, summary, comparison = _recorder(table, [changed.found, _found("a.jpg")])
    assert [one.path for one in comparison.to_read] == [changed.found.path]
    recorder.record([[changed]])
    assert (summary.changed, summary.added) == (1, 0)
    found = _files(table)
    assert len(found["b.jpg"].items) == 2
    assert found["b.jpg"].file.content_hash == "ccc"
    assert len(found["a.jpg"].items) == 1


def test_failure_takes_the_place_of_a_file_and_back(table: LanceTable) -> None:
    _index(table, _step(_found("a.jpg"), "aaaa"))
    bad = _found("a.jpg", mtime_ns=9)
    failure = FailedFile(bad.path, "it is damaged", bad.size, bad.mtime_ns)
    assert _index(table, EncodedStep(bad, failure=failure)).failed == 1
    [file] = _files(table).values()
    assert (file.failure, file.items) == ("it is damaged", [])
    _, _, comparison = _recorder(table, [bad])
    assert (comparison.to_read, comparison.still_failed) == ([], 1)
    _index(table, _step(_found("a.jpg", mtime_ns=11), "aaaa"))
    [file] = _files(table).values()
    assert file.failure is None
    assert len(file.items) == 1


def test_known_content_is_copied_moved_or_touched(table: LanceTable) -> None:
    _index(table, _step(_found("a.jpg"), "aaaa"), _step(_found("b.jpg"), "bb", parts=2))
    before = _files(table)
    steps = [
        _step(_found("a.jpg", mtime_ns=7), "aaaa", 0, is_known=True),
        _step(_found("copy.jpg"), "aaaa", 0, is_known=True),
        _step(_found("moved.jpg"), "bb", 0, is_known=True),
    ]
    summary = _index(table, *steps)
    assert (summary.unchanged, summary.duplicates, summary.moved) == (1, 1, 1)
    assert (summary.added, summary.removed, summary.embedded) == (1, 0, 0)
    found = _files(table)
    assert found.keys() == {"a.jpg", "copy.jpg", "moved.jpg"}
    assert found["a.jpg"].file.mtime_ns == 7
    for name, original in (("copy.jpg", "a.jpg"), ("moved.jpg", "b.jpg"), ("a.jpg", "a.jpg")):
        pairs = zip(found[name].items, before[original].items, strict=True)
        assert all(np.array_equal(one.vector, other.vector) for one, other in pairs)


def test_content_that_is_gone_is_read_again(table: LanceTable) -> None:
    step = _step(_found("a.jpg"), "aaaa", 0, is_known=True)
    recorder, _, _ = _recorder(table, [step.found])
    assert recorder.record([[step]]) == [step.found]
    assert table.count() == 0


def test_gone_files_are_deleted_and_hashes_known(table: LanceTable) -> None:
    _index(table, _step(_found("a.jpg"), "aaaa"), _step(_found("b.jpg"), "bb"))
    known = KnownFiles.of(table)
    assert known.hashes_for(_found("new.jpg")) == {"aaaa", "bb"}
    assert known.hashes_for(_found("new.jpg", size=11)) == frozenset()
    recorder, summary, _ = _recorder(table, [_found("a.jpg")])
    recorder.finish()
    assert summary.removed == 1
    assert _files(table).keys() == {"a.jpg"}


def test_tables_say_what_they_say_now(table: LanceTable) -> None:
    photo = _step(_found("a.jpg"), "aaaa")
    path = photo.found.path
    found = replace(_found("t.csv"), kind=MediaKind.TABLE)
    csv = _step(found, "t1", 0, annotations=(Annotation(path, {"city": "Rome"}),))
    _index(table, csv, photo)
    assert _files(table)["a.jpg"].said == ((csv.found.path, {"city": "Rome"}),)
    # A changed photo keeps what a table says of it that is not read again.
    changed = _found("a.jpg", mtime_ns=9)
    recorder, _, _ = _recorder(table, [changed, csv.found])
    recorder.record([[_step(changed, "bbbbb")]])
    recorder.finish()
    assert _files(table)["a.jpg"].said == ((csv.found.path, {"city": "Rome"}),)
    # A changed table says something else, and one that is gone nothing.
    newer = replace(csv.found, mtime_ns=9)
    says = (Annotation(path, {"city": "Paris"}),)
    recorder, _, _ = _recorder(table, [changed, newer])
    recorder.record([[_step(newer, "t2", 0, annotations=says)]])
    recorder.finish()
    assert _files(table)["a.jpg"].said == ((csv.found.path, {"city": "Paris"}),)
    recorder, _, _ = _recorder(table, [changed])
    recorder.finish()
    assert _files(table)["a.jpg"].said == ()


def test_steps_of_a_file_in_any_order() -> None:
    found = _found("a.pdf")
    steps = [
        NumberedStep(0, _step(found, "a", is_last=False)),
        NumberedStep(1, _step(found, "a", is_first=False, is_last=False)),
        NumberedStep(2, _step(found, "a", is_first=False)),
    ]
    collected = Steps()
    assert collected.add([steps[2]]) == []
    assert collected.add([steps[0]]) == []
    other = NumberedStep(0, _step(_found("b.jpg"), "b"))
    assert collected.add([other, steps[1]]) == [[other.step], [one.step for one in steps]]
