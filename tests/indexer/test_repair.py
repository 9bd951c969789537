"""What is damaged is made again from the files, and what cannot be stays told."""

import shutil

import numpy as np
import pytest

from indexer.pipeline import index_sources
from indexer.repair import repair
from retrieval.errors import EncoderUnavailableError
from retrieval.integrity.check import check_library
from retrieval.media import Modality


def contents(library):
    """Each item that can be found: its id, and its vector."""
    space = library.space()
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(space.id, Modality.IMAGE)
        items = snapshot.items_at(space.id, Modality.IMAGE, range(count))
    rows = library.embeddings(space, Modality.IMAGE).rows(count)
    return {item.path: (item.id, np.array(rows[row])) for row, at in items.items() for item in at}


def spoil(library, rows):
    file = library.embeddings(library.space(), Modality.IMAGE)
    with file.path.open("r+b") as stream:
        for row in rows:
            stream.seek(row * file.row_bytes + 5)
            stream.write(b"\x12\x34\x56")


def assert_same(library, before):
    after = contents(library)
    assert after.keys() == before.keys()
    for path, (item_id, vector) in before.items():
        assert after[path][0] == item_id
        np.testing.assert_allclose(after[path][1], vector, atol=2e-3)


def test_damaged_vectors_are_made_again_and_items_keep_their_ids(indexed_library, tiny_encoder):
    before = contents(indexed_library)
    spoil(indexed_library, [1, 4])
    done = repair(indexed_library, check_library(indexed_library), lambda _id: tiny_encoder)
    assert (done.embedded, done.problems) == (2, [])
    assert check_library(indexed_library).is_whole
    assert_same(indexed_library, before)


@pytest.mark.parametrize("size", [0, 2 * 64 + 1])
def test_a_cut_file_is_made_again(indexed_library, tiny_encoder, size):
    before = contents(indexed_library)
    file = indexed_library.embeddings(indexed_library.space(), Modality.IMAGE)
    file.path.write_bytes(file.path.read_bytes()[:size])
    done = repair(indexed_library, check_library(indexed_library), lambda _id: tiny_encoder)
    assert done.embedded == 6 - size // 64
    assert check_library(indexed_library).is_whole
    assert_same(indexed_library, before)


def test_of_copies_one_is_enough_and_files_that_are_gone_stay_told(
    library_with_copies, picture_folder, tiny_encoder
):
    library = library_with_copies
    count = len(contents(library))
    rows = library.embeddings(library.space(), Modality.IMAGE).size_in_rows()
    spoil(library, range(rows))
    (picture_folder / "folder 0" / "picture-0.png").unlink()  # copy.png has its content
    gone = picture_folder / "folder 1" / "picture-1.png"
    kept = shutil.move(gone, picture_folder.parent / "kept.png")
    repair(library, check_library(library), lambda _id: tiny_encoder)
    [problem] = check_library(library).problems
    assert "1 vectors are damaged, of 1 files" in problem.description
    assert not problem.repairable
    shutil.move(kept, gone)
    repair(library, check_library(library), lambda _id: tiny_encoder)
    assert check_library(library).is_whole
    assert len(contents(library)) == count - 1 - 1  # the original, and the link to it


def test_nothing_is_forgotten_without_the_encoder(indexed_library):
    before = contents(indexed_library)
    spoil(indexed_library, [1])

    def load(_id):
        raise EncoderUnavailableError("no weights")

    done = repair(indexed_library, check_library(indexed_library), load)
    assert "no weights" in done.problems[0]
    assert contents(indexed_library).keys() == before.keys()
    assert len(check_library(indexed_library).damaged_rows[0].used) == 1


def test_missing_checksums_and_caches_are_made_again(indexed_library, tiny_encoder):
    file = indexed_library.embeddings(indexed_library.space(), Modality.IMAGE)
    before = file.checksum_path.read_bytes()
    file.checksum_path.write_bytes(before[:16] + bytes(8) + before[24:32])
    (indexed_library.thumbnails / "x.jpeg").write_bytes(b"")
    done = repair(indexed_library, check_library(indexed_library), lambda _id: tiny_encoder)
    assert (done.embedded, done.deleted) == (0, 1)
    assert file.checksum_path.read_bytes() == before
    assert check_library(indexed_library).is_whole


def test_a_repair_that_was_killed_goes_on(indexed_library, tiny_encoder, monkeypatch):
    before = contents(indexed_library)
    spoil(indexed_library, [0, 3])
    monkeypatch.setattr("indexer.repair.index_sources", lambda *_args, **_kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        repair(indexed_library, check_library(indexed_library), lambda _id: tiny_encoder)
    monkeypatch.undo()
    assert len(contents(indexed_library)) == 4
    assert index_sources(indexed_library, tiny_encoder).embedded == 2
    assert_same(indexed_library, before)
