"""Rows by the hash of their content, which outlive a crash between rows and keys."""

import numpy as np
import pytest

from benchmarks.quality.keyed_rows import KeyedRows, key_of

A, B, C = (key_of(name) for name in (b"a", b"b", b"c"))


@pytest.fixture
def stem(tmp_path):
    rows = KeyedRows(tmp_path / "text", 2)
    rows.append([A], np.array([[0.6, 0.8]], np.float32))
    rows.append([B], np.array([[1, 0]], np.float32))
    return tmp_path / "text"


def test_rows_come_back_by_key_in_any_order(stem):
    taken = KeyedRows(stem, 2).take([B, None, A, C, B])
    assert taken.dtype == np.float16
    np.testing.assert_allclose(taken, [[1, 0], [0, 0], [0.6, 0.8], [0, 0], [1, 0]], atol=1e-3)


@pytest.mark.parametrize("lost", [1, 10, 32])
def test_a_key_that_was_cut_off_is_forgotten_and_written_over(stem, lost):
    keys = stem.with_suffix(".keys")
    keys.write_bytes(keys.read_bytes()[:-lost])
    rows = KeyedRows(stem, 2)
    assert rows.row_of == {A: 0}
    rows.append([C], np.array([[0, 1]], np.float32))
    again = KeyedRows(stem, 2)
    assert again.row_of == {A: 0, C: 1}
    np.testing.assert_array_equal(again.take([C]), [[0, 1]])


def test_what_is_not_finite_is_refused_and_has_no_key(stem):
    rows = KeyedRows(stem, 2)
    with pytest.raises(ValueError, match="finite"):
        rows.append([C], np.array([[np.nan, 1]], np.float32))
    assert C not in rows.row_of
    assert C not in KeyedRows(stem, 2).row_of


def test_keys_differ_with_the_content():
    assert len(A) == 32
    assert len({A, B, C}) == 3
    assert key_of(b"a") == A
