"""Rows of an earlier version, which wrote no checksums, get them once."""

import numpy as np
import pytest

from indexer.pipeline import index_sources
from retrieval.embeddings import LOST
from retrieval.integrity.checksums import add_missing_checksums, are_no_vectors
from retrieval.media import Modality
from retrieval.search.engine import Engine
from retrieval.search.query import Query, TextPart


@pytest.fixture
def old(indexed_library):
    """A library as it was before there were checksums."""
    space = indexed_library.space()
    indexed_library.embeddings(space, Modality.IMAGE).checksum_path.unlink()
    with indexed_library.catalog.transaction() as transaction:
        transaction.set_checksum_count(space.id, Modality.IMAGE, 0)
    return indexed_library


def counts(library):
    with library.catalog.snapshot() as snapshot:
        space = library.space()
        return tuple(
            count(space.id, Modality.IMAGE)
            for count in (snapshot.row_count, snapshot.checksum_count)
        )


def test_the_next_run_adds_them(old, tiny_encoder):
    assert counts(old) == (6, 0)
    index_sources(old, tiny_encoder)
    assert counts(old) == (6, 6)
    with old.writer():
        assert add_missing_checksums(old, old.space()) == 0


def test_rows_of_an_earlier_version_behind_others_are_not_taken_for_damaged(
    indexed_library, tiny_encoder, write_files
):
    """It appends without checksums, over those that a crashed run of this version left."""
    space = indexed_library.space()
    file = indexed_library.embeddings(space, Modality.IMAGE)
    crashed = np.eye(4, space.dimension, dtype=np.float32)
    file.write(crashed, 6)
    checksums = file.checksum_path.read_bytes()
    write_files(indexed_library, {"/a.jpg": np.eye(4, space.dimension, k=9, dtype=np.float32)})
    file.checksum_path.write_bytes(checksums)
    with indexed_library.catalog.transaction() as transaction:
        transaction.set_checksum_count(space.id, Modality.IMAGE, 6)  # as it would leave it
    engine = Engine(indexed_library, device="cpu")
    engine._encoder = tiny_encoder
    answer = engine.search(Query((TextPart("x"),), k=20))
    assert len(answer.hits) == 10
    assert not any("damaged" in warning for warning in answer.warnings)
    index_sources(indexed_library, tiny_encoder)
    assert counts(indexed_library) == (10, 10)
    assert (file.checksums(10) > LOST).all()


def test_what_is_no_unit_vector_is_marked_not_blessed(old):
    file = old.embeddings(old.space(), Modality.IMAGE)
    rows = np.array(file.rows(6))
    rows[1] = 0
    rows[2, 0] = np.nan
    rows[4] *= 3
    rows.tofile(file.path)
    with old.writer():
        assert add_missing_checksums(old, old.space()) == 6
    assert np.flatnonzero(file.checksums(6) == LOST).tolist() == [1, 2, 4]


def test_half_precision_is_no_damage():
    vectors = np.random.default_rng(0).normal(size=(500, 512))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert not are_no_vectors(vectors.astype(np.float16)).any()
