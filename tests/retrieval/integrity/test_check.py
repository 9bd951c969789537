"""Every part of a library is damaged in turn; the check names it, and nothing else."""

import json
import os
import shutil

import numpy as np
import pytest

from indexer.pipeline import index_sources
from retrieval.integrity.check import check_library
from retrieval.library import open_library
from retrieval.media import Modality


def embeddings(library):
    return library.embeddings(library.space(), Modality.IMAGE)


def parts(report):
    return [problem.part for problem in report.problems]


def test_a_new_library_is_whole(indexed_library):
    report = check_library(indexed_library, files=True)
    assert report.is_whole
    assert report.notes == []
    assert (report.rows, report.files) == (6, 6)


@pytest.mark.parametrize(
    ("damage", "rows"),
    [
        (lambda rows: rows.__setitem__(2, 0), [2]),
        (lambda rows: rows.__setitem__((3, 0), np.nan), [3]),
        (lambda rows: rows.__setitem__([0, 5], rows[[5, 0]]), [0, 5]),
        (lambda rows: rows.view(np.uint16).__ixor__(np.eye(6, 32, dtype=np.uint16)), range(6)),
    ],
    ids=["zeros", "nan", "swapped", "bits"],
)
def test_damaged_vectors_are_found_with_their_files(indexed_library, damage, rows):
    stored = np.array(embeddings(indexed_library).rows(6))
    damage(stored)
    stored.tofile(embeddings(indexed_library).path)
    report = check_library(indexed_library)
    assert parts(report) == ["vectors"]
    assert report.damaged_rows[0].used.tolist() == list(rows)
    assert f"{len(rows)} vectors are damaged, of {len(rows)} files" in str(report.problems)
    assert ".png" in report.problems[0].description
    assert report.problems[0].repairable


def test_a_cut_or_missing_file_is_found(indexed_library):
    path = embeddings(indexed_library).path
    os.truncate(path, 3 * 64 + 10)
    assert check_library(indexed_library).damaged_rows[0].used.tolist() == [3, 4, 5]
    path.unlink()
    assert check_library(indexed_library).damaged_rows[0].used.tolist() == list(range(6))


def test_missing_checksums_are_told_and_vectors_of_gone_files_named(
    indexed_library, picture_folder
):
    embeddings(indexed_library).checksum_path.unlink()
    [problem] = check_library(indexed_library).problems
    assert "checksums of 6 vectors are missing" in problem.description
    shutil.rmtree(picture_folder)
    embeddings(indexed_library).path.write_bytes(bytes(6 * 64))
    [problem] = check_library(indexed_library).problems
    assert "6 of the files are not there now" in problem.description
    assert not problem.repairable


def test_rows_past_the_catalog_are_a_note(indexed_library):
    embeddings(indexed_library).write(np.eye(2, 32), 6)
    report = check_library(indexed_library)
    assert report.is_whole
    assert "2 vectors past the 6 of the catalog" in report.notes[0]


def test_caches_and_their_damage_are_found(indexed_library):
    tokens = indexed_library.tokens
    tokens.put("reranker", "ab" * 16, np.ones((3, 4), np.float32))
    [entry] = tokens.folder.rglob("*.tokens")
    entry.write_bytes(entry.read_bytes()[:-1] + b"x")
    (indexed_library.thumbnails / "x.jpeg").write_bytes(b"")
    queries = indexed_library.space_directory(indexed_library.space()) / "queries.f16"
    queries.write_bytes(b"x")
    report = check_library(indexed_library)
    assert parts(report) == ["cache"] * 3
    assert sorted(report.derived) == sorted([entry, indexed_library.thumbnails / "x.jpeg", queries])


def test_a_damaged_index_is_found(indexed_library):
    directory = indexed_library.space_directory(indexed_library.space())
    (directory / "image-3.json").write_text(json.dumps({"format_version": 1}))
    report = check_library(indexed_library)
    assert parts(report) == ["index"]
    assert [(modality, number) for _, modality, number in report.generations] == [("image", 3)]


def test_a_damaged_description_of_a_space_is_found_and_the_rest_checked(indexed_library):
    library = open_library(indexed_library.path)
    file = library.space_directory(library.space()) / "space.toml"
    file.write_text("nonsense")
    (library.thumbnails / "x.jpeg").write_bytes(b"")
    assert parts(check_library(library)) == ["library", "cache"]


def test_files_that_rotted_are_told_from_those_that_were_changed(
    indexed_library, picture_folder, tiny_encoder
):
    rotten, changed, gone, *_ = paths = sorted(picture_folder.rglob("*.png"))
    for path in paths:  # as if written long before they were read
        os.utime(path, (10**9, 10**9))
    index_sources(indexed_library, tiny_encoder)
    for path in (rotten, changed):
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    os.utime(rotten, (10**9, 10**9))
    gone.unlink()
    report = check_library(indexed_library, files=True)
    assert [(problem.part, problem.path) for problem in report.problems] == [("file", str(rotten))]
    assert "1 files were changed" in report.notes[0]
    assert "1 are not there now" in report.notes[0]


def test_it_stops_when_asked(indexed_library):
    assert check_library(indexed_library, files=True, should_stop=lambda: True).interrupted
