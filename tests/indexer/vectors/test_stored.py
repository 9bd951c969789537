"""Reading vectors page by page."""

import numpy as np
import pytest

from indexer.vectors.add import GivenItem, add_vectors
from indexer.vectors.stored import stored_items, stored_vectors
from retrieval.encoders.given import given_space
from retrieval.filters import Filter
from retrieval.library import create_library
from retrieval.media import Modality

SPACE = given_space("things", 4)


@pytest.fixture
def library(tmp_path):
    library = create_library(tmp_path / "library", SPACE)
    vectors = np.eye(4)[[0, 1, 2, 3, 0, 1, 2]]
    items = [
        GivenItem(str(n), modality=Modality.TEXT if n % 2 else Modality.IMAGE, columns={"n": n})
        for n in range(7)
    ]
    add_vectors(library, SPACE, [(items, vectors)])
    yield library
    library.close()


@pytest.mark.parametrize("batch_rows", [1, 2, 7, 100])
def test_each_item_comes_once_with_its_vector(library, batch_rows):
    batches = list(stored_vectors(library, SPACE, batch_rows=batch_rows))
    assert all(len(batch.items) <= batch_rows for batch in batches)
    ids = [item.id for batch in batches for item in batch.items]
    assert ids == sorted(set(ids))
    rows = {
        record["columns"]["n"]: vector
        for batch in batches
        for record, vector in zip(batch.records(), batch.vectors, strict=True)
    }
    assert {n: int(vector.argmax()) for n, vector in rows.items()} == {n: n % 4 for n in range(7)}


def test_filters_and_modalities_choose(library):
    texts = [i for page in stored_items(library, SPACE, modality=Modality.TEXT) for i in page]
    assert [item.columns["n"] for item in texts] == [1, 3, 5]
    where = Filter.model_validate({"columns": {"n": {"min": 5}}})
    assert sum(len(batch.items) for batch in stored_vectors(library, SPACE, where=where)) == 2


def test_damaged_vectors_are_left_out(library):
    file = library.embeddings(SPACE, Modality.IMAGE)
    with file.path.open("r+b") as stream:
        stream.write(b"\1\2")
    numbers = {i.columns["n"] for b in stored_vectors(library, SPACE) for i in b.items}
    assert numbers == {1, 2, 3, 4, 5, 6}
