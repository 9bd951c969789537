import json
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import LibraryError, LibraryLockedError
from retrieval.indices import generations
from retrieval.indices.base import Effort
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.generations import (
    Training,
    Tuning,
    building,
    generation_numbers,
    latest,
    load_latest,
    write,
)

TRAINING = Training(2000, 800, 0.5, is_forced=False, reasons=("It was small.",))
TUNING = Tuning(2000, 0.98, {"text": Effort(8, 10, 0.99), "image": Effort(4, 5)})


@pytest.fixture(scope="module")
def rows():
    vectors = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def index_over(rows):
    index = FactoryIndex("IVF16,Flat", rows)
    index.add(rows)
    return index


@pytest.fixture
def written(tmp_path, rows):
    return write(tmp_path, "image", index_over(rows), rows, TRAINING, TUNING)


def problems_of(directory, rows, modality="image"):
    problems = []
    assert load_latest(directory, modality, rows, problems.append) is None
    return problems


def test_what_is_written_is_found_again(tmp_path, rows, written):
    assert latest(tmp_path, "image", rows) == written
    generation, index = load_latest(tmp_path, "image", rows)
    assert generation == written
    assert (generation.rows, generation.kind) == (2000, "IVF16,Flat")
    assert generation.details["lists"] == 16
    queries = rows[:5].astype(np.float32)
    for found, expected in zip(
        index.search(queries, 3), index_over(rows).search(queries, 3), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert latest(tmp_path, "text", rows) is None
    assert latest(tmp_path / "nowhere", "image", rows) is None


def test_the_next_generation_replaces_those_before(tmp_path, rows, written):
    (tmp_path / "image-99.faiss").write_bytes(b"left by a crash")
    (tmp_path / "image-7.faiss.tmp").write_bytes(b"left by a crash")
    (tmp_path / "image-8.json.0a1b2c3d.new").write_bytes(b"left by a crash")
    (tmp_path / "image.f16").write_bytes(b"vectors")
    (tmp_path / "text-1.json").write_bytes(b"of another modality")
    following = write(tmp_path, "image", index_over(rows), rows, TRAINING, TUNING)
    assert following.number == 100
    assert latest(tmp_path, "image", rows) == following
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "image-100.faiss",
        "image-100.json",
        "image.f16",
        "text-1.json",
    ]


def test_settings_of_an_unknown_query_modality_are_the_most_thorough(written):
    assert written.effort_for("image").breadth == 4
    assert written.effort_for("sound").breadth == 8
    untuned = replace(written, tuning=replace(TUNING, settings={}))
    assert untuned.effort_for("text") == Effort()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "bytes, not"),
        (lambda content: b"", "has 0 bytes"),
        (lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:], "checksum"),
        (lambda content: bytes(len(content)), "checksum"),
    ],
    ids=["cut", "empty", "one bit", "zeros"],
)
def test_faiss_never_reads_a_damaged_file(tmp_path, rows, written, monkeypatch, damage, message):
    file = written.index_file(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    monkeypatch.setattr(FactoryIndex, "open", lambda *_: pytest.fail("FAISS has read it"))
    [problem] = problems_of(tmp_path, rows)
    assert message in problem
    assert str(file) in problem


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format_version": 1}',
        b'{"format_version": 2}',
        b'{"format_version": 1, "training": 3, "tuning": 4}',
    ],
)
def test_a_description_that_cannot_be_understood_is_told(tmp_path, rows, written, content):
    (tmp_path / "image-1.json").write_bytes(content)
    [problem] = problems_of(tmp_path, rows)
    assert "image-1.json" in problem


@pytest.mark.parametrize(
    "change",
    [
        {"rows": "many"},
        {"rows": -1},
        {"surprise": 1},
        {"tuning": {"of_rows": 1, "target_recall": 1, "settings": {"text": {"nprobe": 0}}}},
    ],
)
def test_a_description_that_was_edited_wrongly_is_told(tmp_path, rows, written, change):
    file = tmp_path / "image-1.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert problems_of(tmp_path, rows)


def test_an_index_of_other_vectors_is_not_used(tmp_path, rows, written):
    assert "other vectors" in problems_of(tmp_path, np.roll(rows, 1, axis=0))[0]
    rewritten = rows.copy()
    rewritten[-1] *= -1  # as after a crash and a catalog from a backup
    assert "other vectors" in problems_of(tmp_path, rewritten)[0]
    for suffix in ("json", "faiss"):
        shutil.copy(tmp_path / f"image-1.{suffix}", tmp_path / f"text-5.{suffix}")
    assert "another index" in problems_of(tmp_path, rows, "text")[0]


def test_an_index_of_more_rows_than_are_committed_is_not_used(tmp_path, rows, written):
    assert "2,000 rows, but only 1,999" in problems_of(tmp_path, rows[:-1])[0]
    assert latest(tmp_path, "image", np.vstack([rows, rows[:10]])) == written


def test_a_file_that_faiss_does_not_know_is_told(tmp_path, rows, written, monkeypatch):
    file = written.index_file(tmp_path)
    file.write_bytes(b"Huh?" + file.read_bytes()[4:])
    checksum = generations._checksum(file)
    description = tmp_path / "image-1.json"
    facts = json.loads(description.read_text()) | {"checksum": checksum}
    description.write_text(json.dumps(facts))
    assert "cannot be read with FAISS" in problems_of(tmp_path, rows)[0]


def test_an_index_without_its_engine_is_told(tmp_path, rows, written, monkeypatch):
    def fail(_name):
        raise ModuleNotFoundError("No module named 'faiss'")

    monkeypatch.setattr(generations, "load_engine", fail)
    [problem] = problems_of(tmp_path, rows)
    assert "needs the package faiss-cpu, which is not installed" in problem


def test_a_bad_generation_leaves_the_one_before(tmp_path, rows, written):
    (tmp_path / "image-2.json").write_text("{}")
    problems = []
    assert latest(tmp_path, "image", rows, problems.append) == written
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("owner", "step", "call"),
    [
        *((os, "fsync", call) for call in range(1, 5)),  # each file and its folder
        *((Path, "replace", call) for call in (1, 2)),
        (generations, "_remove_others", 1),
    ],
)
def test_a_crash_between_files_leaves_a_whole_generation(
    tmp_path, rows, written, monkeypatch, owner, step, call
):
    calls = []
    real = getattr(owner, step)

    def crash(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(owner, step, crash)
    with suppress(KeyboardInterrupt):
        write(tmp_path, "image", index_over(rows), rows, TRAINING, TUNING)
    monkeypatch.undo()
    assert len(generation_numbers(tmp_path, "image")) >= 1
    generation, index = load_latest(tmp_path, "image", rows, pytest.fail)
    assert len(index) == generation.rows == 2000
    final = write(tmp_path, "image", index_over(rows), rows, TRAINING, TUNING)
    assert generation_numbers(tmp_path, "image") == [final.number]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_without_its_description_does_not_exist(tmp_path, rows, written):
    (tmp_path / "image-1.json").unlink()
    assert problems_of(tmp_path, rows) == []


def test_a_description_without_its_file_is_told(tmp_path, rows, written):
    written.index_file(tmp_path).unlink()
    assert "image-1.faiss is missing" in problems_of(tmp_path, rows)[0]


def test_only_one_may_build_a_modality(tmp_path):
    refused = []

    def try_too():
        try:
            with building(tmp_path, "image"):
                refused.append(False)
        except LibraryLockedError:
            refused.append(True)

    with building(tmp_path, "image"), building(tmp_path, "text"):
        thread = threading.Thread(target=try_too)
        thread.start()
        thread.join()
    with building(tmp_path, "image"):
        pass
    assert refused == [True]


def test_a_directory_that_cannot_be_written_is_told(tmp_path, rows):
    index = index_over(rows)
    with pytest.raises(LibraryError, match="cannot be written"):
        write(tmp_path / "nowhere", "image", index, rows, TRAINING, TUNING)


def test_the_bits_of_a_query_are_kept_and_others_know_of_none(tmp_path, rows):
    tuned = Tuning(2000, 0.98, {"text": Effort(8, 10, 0.99, 4)})
    written = write(tmp_path, "image", index_over(rows), rows, TRAINING, tuned)
    assert latest(tmp_path, "image", rows).effort_for("text").query_bits == 4
    assert "query_bits" in written.facts()["tuning"]["settings"]["text"]
    file = tmp_path / "image-1.json"
    for wrong in ("0", "9", "-4", '"4"', "4.5"):
        told = json.dumps(written.facts())
        file.write_text(told.replace('"query_bits": 4', f'"query_bits": {wrong}'))
        problems = []
        assert latest(tmp_path, "image", rows, problems.append) is None, wrong
        assert "damaged" in problems[0]
    plain = write(tmp_path, "image", index_over(rows), rows, TRAINING, TUNING)
    assert "query_bits" not in str(plain.facts())
