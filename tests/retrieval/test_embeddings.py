import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retrieval.embeddings import EmbeddingsFile
from retrieval.errors import DamagedLibraryError

DIMENSION = 4
batches = st.lists(
    st.integers(0, 7).flatmap(
        lambda n: hnp.arrays(
            np.float32, (n, DIMENSION), elements=st.floats(-1, 1, width=16, allow_nan=False)
        )
    ),
    max_size=6,
)


@given(batches, st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_batches_come_back_whatever_a_crash_left_behind(tmp_path, written, leftover):
    file = EmbeddingsFile(tmp_path / "image.f16", DIMENSION)
    file.path.unlink(missing_ok=True)
    count = 0
    for batch in written:
        if file.path.exists():
            with file.path.open("ab") as stream:
                stream.write(leftover)
        file.write(batch, count)
        count += len(batch)
    expected = np.concatenate([np.empty((0, DIMENSION)), *written]).astype(np.float16)
    np.testing.assert_array_equal(file.rows(count), expected)


def test_committed_rows_are_never_touched_by_later_writes(tmp_path):
    file = EmbeddingsFile(tmp_path / "image.f16", 2)
    file.write(np.array([[1, 0], [0, 1]]), 0)
    before = np.array(file.rows(2))
    file.write(np.array([[0.5, 0.5]]), 2)
    np.testing.assert_array_equal(file.rows(2), before)


def test_half_precision_is_near(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    file = EmbeddingsFile(tmp_path / "image.f16", 64)
    file.write(vectors, 0)
    np.testing.assert_allclose(file.rows(100), vectors, atol=5e-4)


def test_a_cut_file_is_reported_not_read(tmp_path):
    file = EmbeddingsFile(tmp_path / "image.f16", 2)
    file.write(np.eye(2), 0)
    with file.path.open("r+b") as stream:
        stream.truncate(6)
    with pytest.raises(DamagedLibraryError, match="has 1 rows, but the catalog has 2"):
        file.rows(2)
    with pytest.raises(DamagedLibraryError, match="has 1 rows"):
        file.write(np.eye(2), 2)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(DamagedLibraryError, match="has 0 rows"):
        EmbeddingsFile(tmp_path / "image.f16", 2).rows(1)


@pytest.mark.parametrize(
    "vectors", [np.ones((1, 3)), np.ones(2), np.array([[np.nan, 1]]), np.array([[1e30, 1]])]
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_vectors_that_cannot_be_stored_are_refused(tmp_path, vectors):
    file = EmbeddingsFile(tmp_path / "image.f16", 2)
    with pytest.raises(ValueError, match=r"expected|finite"):
        file.write(vectors, 0)
    assert not file.path.exists()
