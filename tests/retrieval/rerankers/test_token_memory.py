import numpy as np
import pytest

from retrieval.rerankers.token_cache import TokenCache, TokenCacheSettings
from retrieval.rerankers.token_memory import TokenMemory, default_token_memory


@pytest.fixture
def disk(tmp_path):
    return TokenCache(tmp_path / "tokens")


def tokens(seed=0):
    return np.random.default_rng(seed).normal(size=(9, 16)).astype(np.float32)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_memory_gives_what_the_disk_gives(disk, precision):
    disk.configure(TokenCacheSettings(precision=precision))
    memory = TokenMemory(disk)
    put = memory.put("reranker", "a" * 32, tokens())
    np.testing.assert_array_equal(put, disk.get("reranker", "a" * 32))
    np.testing.assert_array_equal(memory.get("reranker", "a" * 32), put)
    fresh = TokenMemory(disk)
    for _ in range(2):
        np.testing.assert_array_equal(fresh.get("reranker", "a" * 32), put)
    assert (fresh.hits, fresh.misses) == (1, 1)


def test_values_that_float16_holds_take_half_the_space(disk):
    memory = TokenMemory(disk)
    memory.put("reranker", "a" * 32, tokens())
    assert memory.get("reranker", "a" * 32).dtype == np.float16


def test_what_was_read_is_not_read_again(disk):
    memory = TokenMemory(disk)
    put = memory.put("reranker", "a" * 32, tokens())
    for path in disk.folder.rglob("*.tokens"):
        path.unlink()
    np.testing.assert_array_equal(memory.get("reranker", "a" * 32), put)
    assert memory.get("another", "a" * 32) is None
    assert memory.get("reranker", "b" * 32) is None


def test_memory_is_bounded_and_forgets_what_was_not_used(disk):
    disk.configure(TokenCacheSettings(limit_bytes=0))
    memory = TokenMemory(disk, max_bytes=1500)  # three of 9 x 16 float16
    for name in "abc":
        memory.put("reranker", name * 32, tokens())
    assert memory.get("reranker", "a" * 32) is not None
    memory.put("reranker", "d" * 32, tokens())
    held = [name for name in "abcd" if memory.get("reranker", name * 32) is not None]
    assert held == ["a", "c", "d"]
    assert TokenMemory(disk, max_bytes=0).put("reranker", "e" * 32, tokens()).shape == (9, 16)


def test_values_that_are_not_finite_are_not_kept(disk):
    memory = TokenMemory(disk)
    values = tokens()
    values[3, 3] = np.nan
    assert memory.put("reranker", "a" * 32, values) is values
    assert memory.get("reranker", "a" * 32) is None


def test_the_default_is_a_share_of_the_memory():
    assert 1_000_000 < default_token_memory() <= 512_000_000
