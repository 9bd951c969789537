import numpy as np
import pytest

from retrieval.indices.choice import BYTES_PER_ROW, EXACT_UP_TO_ROWS, choose
from retrieval.indices.faiss.gpu import CODE_PARTS
from retrieval.indices.faiss.ivf import LEAST_POINTS_PER_CENTROID, FactoryIndex

PLENTY = 1 << 40
SLOW_TO_TRAIN = [pytest.param(dimension, marks=pytest.mark.slow) for dimension in (521, 1000)]
"""Those that need a large rotation."""


def test_few_rows_are_searched_exactly():
    choice = choose(EXACT_UP_TO_ROWS, 512, PLENTY)
    assert (choice.factory, choice.memory_bytes) == (None, 0)
    assert "50,000 rows are searched exactly" in choice.reasons[0]


@pytest.mark.parametrize("rows", [50_001, 200_000, 1_000_000, 10_000_000, 100_000_000])
def test_an_index_takes_at_most_80_bytes_a_row(rows):
    choice = choose(rows, 512, PLENTY)
    assert choice.memory_bytes <= BYTES_PER_ROW * rows
    assert choice.code_bytes == 64
    assert choice.lists <= 4 * rows**0.5
    assert choice.training_rows >= min(rows, LEAST_POINTS_PER_CENTROID * choice.lists)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dimension", [7, 64, 100, 384, 512, 768, 1024, *SLOW_TO_TRAIN])
def test_every_dimension_has_an_index_that_can_be_built(dimension, device):
    choice = choose(60_000, dimension, PLENTY, device)
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(1100, dimension)).astype(np.float16)
    lists, rest = choice.factory.split("IVF")[1].split(",", 1)
    small = choice.factory.replace(f"IVF{lists}", "IVF4")
    index = FactoryIndex(small, rows)
    assert index.code_bytes == choice.code_bytes
    assert rest.startswith("PQ")


def test_codes_are_shortened_to_keep_to_the_memory():
    codes = [choose(10_000_000, 512, memory) for memory in (10**9, 6 * 10**8, 3 * 10**8)]
    assert [choice.code_bytes for choice in codes] == [64, 32, 16]
    assert all(choice.memory_bytes <= 6 * 10**8 for choice in codes[1:])
    assert any("shortened from 64 bytes" in reason for reason in codes[1].reasons)


def test_a_gpu_gets_codes_that_it_can_compare():
    assert choose(1_000_000, 512, PLENTY, "cuda").factory.endswith(",PQ64")
    for dimension in range(1, 1100):
        for memory in (PLENTY, 3 * 10**7):
            factory = choose(1_000_000, dimension, memory, "cuda").factory
            parts = int(factory.rpartition("PQ")[2])
            reduced = int(factory.partition("_")[2].partition(",")[0] or dimension)
            assert parts in CODE_PARTS, factory
            assert reduced % parts == 0, factory


def test_the_reasons_name_the_figures():
    choice = choose(1_000_000, 512, PLENTY)
    text = " ".join(choice.reasons)
    assert f"{choice.lists:,} inverted lists" in text
    assert "Codes of 64 bytes" in text
    assert f"{choice.memory_bytes / 1e6:,.0f} MB" in text
    assert all(reason.endswith(".") for reason in choice.reasons)


def test_rows_that_do_not_fit_the_page_cache_get_codes_of_signs():
    choice = choose(10_000_000, 512, PLENTY, cache_bytes=8 << 30)
    assert choice.factory == "RR512,IVF12649,RaBitQ"
    assert choice.code_bytes == 72
    assert choice.memory_bytes <= 85 * 10_000_000
    assert "more than the 8,590 MB of memory" in choice.reasons[0]
    fast_scan = choose(10_000_000, 512, PLENTY).factory
    assert "PQ128x4fs" in fast_scan
    assert choose(10_000_000, 512, PLENTY, cache_bytes=16 << 30).factory == fast_scan
    # Neither where the codes have no room, nor for few dimensions, nor on a GPU.
    assert "PQ" in choose(10_000_000, 512, 10**9 // 2, cache_bytes=1).factory
    assert "PQ" in choose(10_000_000, 64, PLENTY, cache_bytes=1).factory
    assert "PQ" in choose(10_000_000, 512, PLENTY, "cuda", cache_bytes=1).factory


@pytest.mark.slow
def test_codes_of_signs_can_be_built():
    choice = choose(60_000, 128, PLENTY, cache_bytes=0)
    rows = np.random.default_rng(0).normal(size=(500, 128)).astype(np.float16)
    index = FactoryIndex(choice.factory.replace(f"IVF{choice.lists}", "IVF4"), rows)
    assert index.code_bytes == choice.code_bytes
