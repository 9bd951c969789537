import numpy as np

from benchmarks.catalog.first_filters import (
    FILTERS,
    RandomEncoder,
    Timing,
    measure,
    timings_table,
)
from benchmarks.catalog.library_maker import make_library
from retrieval.encoders.base import Encoder
from retrieval.media import Modality


def test_every_kind_of_request_is_timed(tmp_path):
    library = make_library(tmp_path / "library", 400)
    timings = {timing.what: timing for timing in measure(library, rounds=1)}
    assert {f"filter by {kind}" for kind in FILTERS} < set(timings)
    assert timings["facets of all"].found == 400
    assert 0 < timings["filter by year"].found < 100
    assert timings["words"].found > 0
    assert all(0 < t.median_ms <= t.slowest_ms for t in timings.values())
    library.close()


def test_the_random_encoder_encodes_the_same_text_alike():
    encoder = RandomEncoder()
    assert isinstance(encoder, Encoder)
    one, other, same = encoder.encode(Modality.TEXT, ["a", "b", "a"])
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.isclose(np.linalg.norm(one), 1)


def test_the_table_is_markdown():
    table = timings_table(1000, [Timing("words", 1.25, 3.0, 1.0, 1234.0)])
    assert "| 1,000 items | median ms |" in table
    assert "| words | 1.2 | 3.0 | 1.0 | 1,234 |" in table
