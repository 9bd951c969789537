import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retrieval.embeddings import (
    LOST,
    NO_CHECKSUM,
    EmbeddingsFile,
    RowChecker,
    checksums_of,
    read_singly,
)
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


def checked(file, count, checksum_count):
    """Which rows a new process takes to be damaged."""
    checker = RowChecker(file)
    checker.extend(file.rows(count), checksum_count)
    damaged = checker.damaged_between(0, count)
    return [] if damaged is None else np.flatnonzero(damaged).tolist()


@pytest.fixture
def written(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(100, 32)).astype(np.float32)
    file = EmbeddingsFile(tmp_path / "image.f16", 32)
    file.write(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 0)
    return file


def overwrite(path, offset, content):
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


@given(st.integers(0, 100 * 64 - 1), st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_flipped_bit_is_found_in_its_row(written, at, bit):
    before = written.path.read_bytes()
    overwrite(written.path, at, bytes([before[at] ^ (1 << bit)]))
    assert checked(written, 100, 100) == [at // 64]
    written.path.write_bytes(before)
    assert checked(written, 100, 100) == []


def test_zeros_swapped_rows_and_nan_are_found(written):
    content = written.path.read_bytes()
    overwrite(written.path, 0, bytes(128))
    overwrite(written.path, 10 * 64, content[11 * 64 : 12 * 64] + content[10 * 64 : 11 * 64])
    overwrite(written.path, 99 * 64, b"\xff\x7f")
    assert checked(written, 100, 100) == [0, 1, 10, 11, 99]


def test_of_rows_without_a_checksum_only_what_no_encoder_gives_is_damaged(written):
    written.checksum_path.unlink()
    overwrite(written.path, 3 * 64, bytes(64))
    overwrite(written.path, 5 * 64, b"\x00\x7c")  # infinity
    overwrite(written.path, 7 * 64, b"\x00\x3c")
    assert checked(written, 100, 100) == [3, 5]
    assert checked(written, 100, 0) == [3, 5]


def test_checksums_that_an_earlier_version_wrote_over_do_not_count(written):
    """Rows past the catalog's, of a run that crashed, replaced by one that knows no checksums."""
    overwrite(written.path, 90 * 64, written.path.read_bytes()[: 10 * 64])
    assert checked(written, 100, 90) == []
    assert checked(written, 100, 100) == list(range(90, 100))


def test_each_row_is_compared_once(written, monkeypatch):
    checker, compared = RowChecker(written), []
    checker.extend(written.rows(100), 100)

    def count(rows):
        compared.append(len(rows))
        return checksums_of(rows)

    monkeypatch.setattr("retrieval.embeddings.checksums_of", count)
    assert not checker.are_damaged(np.array([50, 3, 3, 51])).any()
    assert compared == [3]
    assert checker.damaged_between(0, 100) is None
    assert checker.damaged_between(0, 100) is None
    assert sum(compared) == 100


def test_repaired_rows_are_compared_again_when_rows_are_added(written):
    content = written.path.read_bytes()
    overwrite(written.path, 0, bytes(64))
    checker = RowChecker(written)
    checker.extend(written.rows(100), 100)
    assert checker.are_damaged(np.arange(100)).sum() == 1
    overwrite(written.path, 0, content[:64])
    written.write(np.eye(1, 32), 100)
    checker.extend(written.rows(101), 101)
    assert checker.damaged_between(0, 101) is None


def test_cleared_rows_are_zero_and_lost_ones_stay_damaged(written):
    written.clear([3, 4], lost=False)
    written.clear([7, 120], lost=True)
    assert not written.rows(100)[[3, 4, 7]].any()
    assert checked(written, 100, 100) == [7]
    assert written.checksums(121)[[7, 120]].tolist() == [LOST, LOST]
    assert written.checksums(121)[110] == NO_CHECKSUM


def test_rows_that_are_read_singly_are_the_same(tmp_path):
    file = EmbeddingsFile(tmp_path / "image.f16", DIMENSION)
    rows = np.random.default_rng(0).random((5000, DIMENSION)).astype(np.float16)
    file.write(rows, 0)
    mapped = file.rows(len(rows))
    read_singly(mapped)
    read_singly(mapped[10:])
    read_singly(rows)  # in memory
    np.testing.assert_array_equal(mapped, rows)
