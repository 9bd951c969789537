"""Steps through files become rows and items; an encoder of two dimensions stands for a network."""

import time
from dataclasses import replace

import numpy as np
import pytest

from indexer.commit import Batch, commit
from indexer.decode import Content
from indexer.encode import FileStep, failed_file
from indexer.media.base import Decoded, Locator, Piece
from indexer.progress import Summary
from indexer.scan import Comparison, FoundFile
from retrieval.catalog import FailedFile
from retrieval.encoders.base import Space
from retrieval.errors import MissingExtraError, UnreadableFileError
from retrieval.library import create_library
from retrieval.media import MediaKind, Modality

OLD_NS = 10**18


class Numbers:
    """Places numbers on a circle, and texts by their number of words."""

    space = Space("numbers", "none", "none", 2)
    modalities = frozenset(Modality)
    context_length = 4

    def __init__(self):
        self.encoded = []

    def encode(self, modality, inputs):
        self.encoded += inputs
        angles = [len(x.split()) if modality is Modality.TEXT else x for x in inputs]
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def token_count(self, text):
        return len(text.split())


@pytest.fixture
def encoder():
    return Numbers()


@pytest.fixture
def library(tmp_path):
    library = create_library(tmp_path / "library", Numbers.space)
    yield library
    library.close()


def step(path, *pieces, content=None, **more):
    """One step through a file; numbers are images, and each has a part of its own."""
    if content is None:
        content = f"content of {path}"
    decoded = Decoded(
        tuple(
            Piece(Modality.TEXT if isinstance(value, str) else Modality.IMAGE, value, Locator(part))
            for part, value in zip(("", "p2", "p3"), pieces, strict=False)
        )
    )
    found = FoundFile(path, 10, OLD_NS, MediaKind.IMAGE)
    return FileStep(found, Content(10, OLD_NS, content), decoded, **more)


def known(path, content):
    return replace(step(path, content=content), decoded=None)


@pytest.fixture
def write(library, encoder):
    """Commit a batch; gives the summary and the files to be read again."""

    def run(*steps):
        batch, summary = Batch(), Summary()
        for one in steps:
            batch.add(one)
        return summary, commit(library, encoder, batch, Comparison(), summary)

    return run


def items(library, modality):
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(Numbers.space.id, modality)
        found = snapshot.items_at(Numbers.space.id, modality, range(count))
    return {(item.path, item.part): row for row in found for item in found[row]}


def test_pieces_get_rows_of_their_modality_with_their_vectors(library, write):
    summary, again = write(step("/a", 0.5, 1.5), step("/b", "three short words", 2.5))
    assert (summary.added, summary.embedded, summary.failed, again) == (2, 4, 0, [])
    rows = items(library, Modality.IMAGE)
    assert set(rows) == {("/a", ""), ("/a", "p2"), ("/b", "p2")}
    stored = library.embeddings(Numbers.space, Modality.IMAGE).rows(3)
    for place, angle in {("/a", ""): 0.5, ("/a", "p2"): 1.5, ("/b", "p2"): 2.5}.items():
        expected = [np.cos(angle), np.sin(angle)]
        np.testing.assert_allclose(stored[rows[place]], expected, atol=1e-3)
    assert items(library, Modality.TEXT) == {("/b", ""): 0}


def test_a_content_is_encoded_once_however_many_files_have_it(library, encoder, write):
    write(step("/a", 0.5, content="same"), step("/b", 0.5, content="same"))
    summary, again = write(known("/c", "same"))
    assert encoder.encoded == [0.5]
    assert (summary.duplicates, summary.added, summary.embedded, again) == (1, 1, 0, [])
    write(step("/d", 0.5, content="same"))  # read before the first batch was committed
    assert encoder.encoded == [0.5]
    assert items(library, Modality.IMAGE) == {(f"/{name}", ""): 0 for name in "abcd"}


def test_a_content_that_is_known_no_more_is_read_again(write):
    lost = known("/c", "gone")
    summary, again = write(lost)
    assert again == [lost.found]
    assert (summary.added, summary.duplicates) == (0, 0)


def test_a_long_text_becomes_chunks_that_fit(library, encoder, write):
    write(step("/a", "one two three. four five six. seven eight nine."))
    assert len(encoder.encoded) > 1
    assert all(encoder.token_count(text) <= encoder.context_length for text in encoder.encoded)
    parts = {part for _, part in items(library, Modality.TEXT)}
    assert len(parts) == len(encoder.encoded)
    assert all(part.startswith("x") for part in parts)


def test_a_file_without_a_finite_vector_fails_and_the_others_do_not(library, write):
    summary, _ = write(step("/bad", 1.0, np.nan), step("/good", 2.0))
    assert (summary.failed, summary.added) == (1, 1)
    assert ("/good", "") in items(library, Modality.IMAGE)
    with library.catalog.snapshot() as snapshot:
        [failure] = snapshot.failures()
    assert failure == FailedFile("/bad", "the encoder gave no finite vector", 10, OLD_NS)


def test_a_batch_is_full_by_one_modality_or_by_files_without_pieces():
    batch = Batch()
    for name in "abc":
        batch.add(step(name, 1.0, "text"))
    assert (batch.is_full(3), batch.is_full(4)) == (True, False)
    for number in range(13):
        batch.add(step(str(number)))
    assert batch.is_full(4)


def test_what_may_pass_by_itself_is_tried_again():
    found = FoundFile("/a.jpg", 10, OLD_NS, MediaKind.IMAGE)
    again = {"size": -1, "mtime_ns": -1}
    assert failed_file(found, PermissionError(13, "Permission denied")) == FailedFile(
        "/a.jpg", "permission denied", **again
    )
    extra = failed_file(found, MissingExtraError("PDF files", "documents"))
    assert (extra.size, extra.mtime_ns) == (-1, -1)
    fresh = failed_file(replace(found, mtime_ns=time.time_ns()), UnreadableFileError("cut off"))
    assert fresh == FailedFile("/a.jpg", "cut off", **again)
    lasting = failed_file(found, UnreadableFileError("cut off"))
    assert lasting == FailedFile("/a.jpg", "cut off", 10, OLD_NS)
