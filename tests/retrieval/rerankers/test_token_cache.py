import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from retrieval.errors import UsageError
from retrieval.rerankers import token_cache
from retrieval.rerankers.token_cache import (
    TokenCache,
    TokenCacheSettings,
    TokenMemory,
    default_token_memory,
)

RERANKER = "reranker-1"
SMALL = np.ones((4, 8), np.float32)

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
token_values = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(-60_000, 60_000, width=32),
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "tokens"


@pytest.fixture
def cache(folder):
    return TokenCache(folder)


def key(number: int) -> str:
    return f"{number:032x}"


def files_of(cache: TokenCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.tokens"))


def held_bytes(cache: TokenCache) -> int:
    return sum(file.stat().st_size for file in files_of(cache))


def limit_to(cache: TokenCache, entries: float, **changes) -> int:
    """Let a cache hold some entries like SMALL; returns the limit in bytes."""
    limit = int(entries * cache.bytes_per_image(*SMALL.shape))
    cache.configure(replace(cache.settings, limit_bytes=limit, **changes))
    return limit


def use_in_order(cache: TokenCache, numbers: list[int]) -> None:
    """Set when entries were used: the first one longest ago."""
    for second, number in enumerate(numbers):
        [file] = cache.folder.rglob(f"{key(number)}.tokens")
        os.utime(file, (1000 + second, 1000 + second))


def kept(cache: TokenCache) -> set[int]:
    return {int(file.stem, 16) for file in files_of(cache)}


@same_folder
@given(values=token_values)
def test_float16_gives_what_float16_can_hold(cache, values):
    returned = cache.put(RERANKER, key(1), values)
    assert returned.dtype == np.float32
    np.testing.assert_array_equal(returned, values.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(cache.get(RERANKER, key(1)), returned)


@same_folder
@given(values=token_values)
def test_int8_is_within_half_a_step_of_each_token(cache, values):
    cache.configure(TokenCacheSettings(precision="int8"))
    returned = cache.put(RERANKER, key(1), values)
    half_step = np.abs(values).max(axis=1, keepdims=True).astype(np.float64) / 127 / 2
    assert (np.abs(returned.astype(np.float64) - values) <= half_step * 1.0001 + 1e-40).all()
    np.testing.assert_array_equal(cache.get(RERANKER, key(1)), returned)


def test_what_does_not_fit_float16_becomes_its_largest_value(cache):
    values = np.array([[1e6, -1e6, 65_519, 1]], np.float32)
    expected = np.array([[65_504, -65_504, 65_504, 1]], np.float32)
    np.testing.assert_array_equal(cache.put(RERANKER, key(1), values), expected)
    np.testing.assert_array_equal(cache.get(RERANKER, key(1)), expected)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_what_is_not_finite_is_returned_and_not_kept(cache, wrong, precision):
    cache.configure(TokenCacheSettings(precision=precision))
    values = SMALL.copy()
    values[1, 2] = wrong
    np.testing.assert_array_equal(cache.put(RERANKER, key(1), values), values)
    assert cache.get(RERANKER, key(1)) is None


def test_no_tokens_are_tokens_too(cache):
    for precision in ("float16", "int8"):
        cache.configure(TokenCacheSettings(precision=precision))
        assert cache.put(RERANKER, key(1), np.empty((0, 8), np.float32)).shape == (0, 8)


def test_what_was_kept_is_read_whatever_the_precision_is_now(cache):
    cache.put(RERANKER, key(1), 3 * SMALL)
    cache.configure(TokenCacheSettings(precision="int8"))
    cache.put(RERANKER, key(2), 3 * SMALL)
    cache.configure(TokenCacheSettings(precision="float16"))
    for number in (1, 2):
        np.testing.assert_allclose(cache.get(RERANKER, key(number)), 3 * SMALL)


def test_rerankers_and_contents_do_not_meet(cache):
    cache.put(RERANKER, key(1), SMALL)
    assert (RERANKER, key(1)) in cache
    assert (RERANKER, key(2)) not in cache
    assert ("reranker-2", key(1)) not in cache
    assert cache.get("reranker-2", key(1)) is None


def test_int8_takes_half_the_space(cache):
    assert cache.bytes_per_image(81, 256, "int8") < 0.55 * cache.bytes_per_image(81, 256, "float16")
    for precision in ("float16", "int8"):
        cache.configure(TokenCacheSettings(precision=precision))
        cache.put(RERANKER, key(1), SMALL)
        assert files_of(cache)[0].stat().st_size == cache.bytes_per_image(*SMALL.shape)


@same_folder
@given(
    numbers=st.lists(st.integers(0, 30), max_size=40),
    entries=st.floats(0, 12),
)
def test_the_limit_is_never_exceeded(tmp_path_factory, numbers, entries):
    cache = TokenCache(tmp_path_factory.mktemp("limited"))
    limit = limit_to(cache, entries)
    for number in numbers:
        cache.put(RERANKER, key(number), SMALL)
        assert held_bytes(cache) <= limit
        assert ((RERANKER, key(number)) in cache) == (entries >= 1)
    assert cache.usage().bytes == held_bytes(cache)


def test_the_least_recently_used_go_first(cache):
    limit_to(cache, 4)
    for number in range(4):
        cache.put(RERANKER, key(number), SMALL)
    use_in_order(cache, [2, 0, 3, 1])
    assert cache.get(RERANKER, key(2)) is not None
    cache.put(RERANKER, key(9), SMALL)
    # Down to nine tenths of four entries: the two that were used longest ago.
    assert kept(cache) == {1, 2, 9}


def test_putting_an_entry_again_takes_no_room(cache):
    limit_to(cache, 4)
    for number in (0, 1, 2):
        cache.put(RERANKER, key(number), SMALL)
    for _ in range(10):
        cache.put(RERANKER, key(2), SMALL)
    assert kept(cache) == {0, 1, 2}


def test_an_entry_larger_than_the_limit_is_not_kept(cache):
    limit_to(cache, 3)
    cache.put(RERANKER, key(1), SMALL)
    large = np.ones((64, 64), np.float32)
    np.testing.assert_array_equal(cache.put(RERANKER, key(2), large), large)
    assert kept(cache) == {1}


def test_a_smaller_limit_evicts_at_once(cache):
    for number in range(4):
        cache.put(RERANKER, key(number), SMALL)
    use_in_order(cache, [3, 1, 0, 2])
    limit_to(cache, 2)
    assert kept(cache) == {0, 2}
    limit_to(cache, 0)
    assert kept(cache) == set()
    np.testing.assert_array_equal(cache.put(RERANKER, key(1), SMALL), SMALL)
    assert kept(cache) == set()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:-1],
        lambda content: content + b"more",
        lambda content: bytes(len(content)),
        lambda content: b"garbage" * 40,
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        lambda content: bytes([content[0] ^ 1]) + content[1:],
    ],
    ids=["empty", "header cut", "end cut", "longer", "zeros", "garbage", "a bit", "checksum"],
)
def test_a_damaged_file_is_a_miss_and_goes(cache, damage):
    cache.put(RERANKER, key(1), SMALL)
    [file] = files_of(cache)
    file.write_bytes(damage(file.read_bytes()))
    assert cache.get(RERANKER, key(1)) is None
    assert not file.exists()
    cache.put(RERANKER, key(1), SMALL)
    np.testing.assert_array_equal(cache.get(RERANKER, key(1)), SMALL)


@same_folder
@given(content=st.binary(max_size=300))
def test_any_bytes_are_a_miss(cache, content):
    cache.put(RERANKER, key(1), SMALL)
    files_of(cache)[0].write_bytes(content)
    assert cache.get(RERANKER, key(1)) is None


def test_a_folder_that_cannot_be_written_costs_only_the_cache(folder):
    folder.write_text("a file where the folder should be")
    cache = TokenCache(folder)
    np.testing.assert_array_equal(cache.put(RERANKER, key(1), SMALL), SMALL)
    assert cache.get(RERANKER, key(1)) is None
    assert cache.settings == TokenCacheSettings()
    assert cache.usage().bytes == 0
    with pytest.raises(OSError, match="Not a directory"):
        cache.configure(TokenCacheSettings())


def test_a_full_disk_costs_only_the_cache(cache, monkeypatch):
    cache.put(RERANKER, key(1), SMALL)

    def write_half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    np.testing.assert_array_equal(cache.put(RERANKER, key(2), SMALL), SMALL)
    monkeypatch.undo()
    assert kept(cache) == {1}
    assert [path.suffix for path in cache.folder.rglob("*") if path.is_file()] == [".tokens"]


def test_files_that_cannot_be_removed_keep_others_out(cache, monkeypatch):
    limit = limit_to(cache, 2)
    for number in (1, 2):
        cache.put(RERANKER, key(number), SMALL)

    def refuse(path, **_):
        raise PermissionError(path)

    monkeypatch.setattr(Path, "unlink", refuse)
    cache.put(RERANKER, key(3), SMALL)
    monkeypatch.undo()
    assert kept(cache) == {1, 2}
    assert held_bytes(cache) <= limit


def test_what_a_killed_process_left_is_removed(cache, folder):
    cache.put(RERANKER, key(1), SMALL)
    shard = files_of(cache)[0].parent
    old, fresh = shard / "a.tokens.1.new", shard / "b.tokens.2.new"
    for file in (old, fresh):
        file.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    TokenCache(folder).usage()
    assert not old.exists()
    assert fresh.exists()


def test_two_caches_over_one_folder_see_each_others_tokens(folder):
    first, second = TokenCache(folder), TokenCache(folder)
    first.put(RERANKER, key(1), SMALL)
    np.testing.assert_array_equal(second.get(RERANKER, key(1)), SMALL)
    assert second.usage() == first.usage()
    assert second.usage().images == 1


def test_two_caches_over_one_folder_keep_the_limit_to_within_a_tenth(folder):
    first, second = TokenCache(folder), TokenCache(folder)
    limit = limit_to(first, 40)
    for number in range(200):
        (first, second)[number % 2].put(RERANKER, key(number), SMALL)
        assert held_bytes(first) <= 1.1 * limit + len(SMALL.tobytes())


def test_a_changed_setting_reaches_a_running_process(folder):
    first, second = TokenCache(folder), TokenCache(folder)
    limit_to(first, 2)
    second.put(RERANKER, key(0), SMALL)
    limit_to(first, 10)
    for number in range(8):
        second.put(RERANKER, key(number), SMALL)
    assert kept(first) == set(range(8))


def test_settings_survive(cache, folder):
    chosen = TokenCacheSettings(limit_bytes=123_456, precision="int8")
    cache.configure(chosen)
    assert cache.settings == TokenCache(folder).settings == chosen


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"limit_bytes = ",
        b"limit_bytes = -1",
        b"limit_bytes = 'much'",
        b"limit_bytes = 1.5",
        b"limit_bytes = true",
        b"precision = 'float64'",
        b"precision = []",
        b"size = 3",
        b"\xff\xfe\x00",
    ],
)
def test_settings_that_cannot_be_read_are_the_defaults(folder, content):
    folder.mkdir()
    (folder / "settings.toml").write_bytes(content)
    cache = TokenCache(folder)
    assert cache.settings == TokenCacheSettings()
    cache.put(RERANKER, key(1), SMALL)
    assert cache.get(RERANKER, key(1)) is not None


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(UsageError, match="cannot be -1 bytes"):
        TokenCacheSettings(limit_bytes=-1)
    with pytest.raises(UsageError, match="float16 or int8, not as 'float32'"):
        TokenCacheSettings(precision="float32")


def test_usage_counts_an_image_once(cache):
    assert cache.usage() == token_cache.TokenCacheUsage(0, 0)
    cache.put("reranker-1", key(1), SMALL)
    cache.put("reranker-2", key(1), SMALL)
    cache.put("reranker-2", key(2), SMALL)
    assert cache.usage().images == 2
    assert cache.usage().bytes == 3 * cache.bytes_per_image(*SMALL.shape)


def tokens(seed=0):
    return np.random.default_rng(seed).normal(size=(9, 16)).astype(np.float32)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_memory_gives_what_the_disk_gives(cache, precision):
    cache.configure(TokenCacheSettings(precision=precision))
    memory = TokenMemory(cache)
    put = memory.put("reranker", "a" * 32, tokens())
    np.testing.assert_array_equal(put, cache.get("reranker", "a" * 32))
    np.testing.assert_array_equal(memory.get("reranker", "a" * 32), put)
    fresh = TokenMemory(cache)
    np.testing.assert_array_equal(fresh.get("reranker", "a" * 32), put)
    for path in cache.folder.rglob("*.tokens"):
        path.unlink()
    np.testing.assert_array_equal(fresh.get("reranker", "a" * 32), put)


def test_values_that_float16_holds_take_half_the_space(cache):
    memory = TokenMemory(cache)
    memory.put("reranker", "a" * 32, tokens())
    assert memory.get("reranker", "a" * 32).dtype == np.float16


def test_what_was_read_is_not_read_again(cache):
    memory = TokenMemory(cache)
    put = memory.put("reranker", "a" * 32, tokens())
    for path in cache.folder.rglob("*.tokens"):
        path.unlink()
    np.testing.assert_array_equal(memory.get("reranker", "a" * 32), put)
    assert memory.get("another", "a" * 32) is None
    assert memory.get("reranker", "b" * 32) is None


def test_memory_is_bounded_and_forgets_what_was_not_used(cache):
    cache.configure(TokenCacheSettings(limit_bytes=0))
    memory = TokenMemory(cache, max_bytes=1500)  # three of 9 x 16 float16
    for name in "abc":
        memory.put("reranker", name * 32, tokens())
    assert memory.get("reranker", "a" * 32) is not None
    memory.put("reranker", "d" * 32, tokens())
    held = [name for name in "abcd" if memory.get("reranker", name * 32) is not None]
    assert held == ["a", "c", "d"]
    assert TokenMemory(cache, max_bytes=0).put("reranker", "e" * 32, tokens()).shape == (9, 16)


def test_values_that_are_not_finite_are_not_kept(cache):
    memory = TokenMemory(cache)
    values = tokens()
    values[3, 3] = np.nan
    assert memory.put("reranker", "a" * 32, values) is values
    assert memory.get("reranker", "a" * 32) is None


def test_the_default_is_a_share_of_the_memory():
    assert 1_000_000 < default_token_memory() <= 512_000_000
