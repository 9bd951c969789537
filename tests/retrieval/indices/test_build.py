import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.indices import growth
from retrieval.indices.build import TARGET_RECALL, TuningQueries, Wishes, build
from retrieval.indices.faiss.ivf import FactoryIndex, Stopped
from retrieval.indices.generations import generation_numbers, load_latest

NO_WISHES = Wishes()
FORCED = Wishes("IVF8,Flat", force=True)


def clustered(count: int, seed: int, offset: float = 0.0) -> np.ndarray:
    """Unit rows around eight directions; an offset moves them away from those."""
    centres = np.random.default_rng(0).normal(size=(8, 16)) + offset
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(8, size=count)] + generator.normal(0, 0.2, (count, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(autouse=True)
def few_rows_are_many(monkeypatch):
    monkeypatch.setattr(growth, "EXACT_UP_TO_ROWS", 500)


def make(directory, rows, wishes=NO_WISHES, **options):
    asked = {
        "text": TuningQueries(clustered(50, 1).astype(np.float32)),
        "image": TuningQueries(rows[:50].astype(np.float32), np.arange(50)),
    }
    return build(
        directory, "image", rows, lambda: asked, memory_bytes=1 << 30, wishes=wishes, **options
    )


def test_few_rows_need_no_index(tmp_path):
    def fail():
        pytest.fail("queries were made")

    rows = clustered(500, 0)
    assert build(tmp_path, "image", rows, fail, memory_bytes=1 << 30) is None
    assert make(tmp_path, rows[:0], FORCED) is None
    assert generation_numbers(tmp_path, "image") == []


def test_a_first_build_trains_adds_and_tunes(tmp_path):
    rows = clustered(1200, 0)
    seen = []
    built = make(tmp_path, rows, FORCED, on_progress=lambda *event: seen.append(event))
    assert built.factory == "IVF8,Flat"
    assert built.training.is_forced
    assert built.training.of_rows == built.tuning.of_rows == built.rows == 1200
    assert built.tuning.target_recall == TARGET_RECALL
    assert set(built.tuning.settings) == {"text", "image"}
    assert list(dict.fromkeys(stage for stage, _, _ in seen)) == ["Training", "Adding", "Tuning"]
    assert ("Adding", 1200, 1200) in seen


def test_new_rows_are_added_to_what_was_trained(tmp_path, monkeypatch):
    rows = clustered(1400, 0)
    first = make(tmp_path, rows[:1200], FORCED)
    assert make(tmp_path, rows[:1320]) is None
    monkeypatch.setattr(FactoryIndex, "__init__", lambda *_: pytest.fail("trained"))
    second = make(tmp_path, rows)
    assert second.rows == 1400
    assert (second.training, second.tuning) == (first.training, first.tuning)
    _, index = load_latest(tmp_path, "image", rows)
    assert len(index) == 1400
    everywhere = second.tuning.settings["text"].__class__(nprobe=8)
    _, found = index.search(rows[1390:].astype(np.float32), 1, None, everywhere)
    assert found[:, 0].tolist() == list(range(1390, 1400))


def test_rows_that_drifted_call_for_training(tmp_path):
    rows = clustered(1200, 0)
    make(tmp_path, rows, FORCED)
    drifted = np.vstack([rows, clustered(200, 3, offset=3.0)])
    built = make(tmp_path, drifted)
    assert built.training.of_rows == 1400
    assert built.factory == "IVF8,Flat"
    assert built.training.is_forced


def test_fourfold_growth_calls_for_training(tmp_path):
    rows = clustered(4800, 0)
    make(tmp_path, rows[:1200], FORCED)
    assert make(tmp_path, rows).training.of_rows == 4800


def test_settings_are_found_anew_where_the_rows_have_grown(tmp_path):
    rows = clustered(1900, 0)
    make(tmp_path, rows[:1200], FORCED)
    built = make(tmp_path, rows)
    assert (built.training.of_rows, built.tuning.of_rows) == (1200, 1900)


def test_wishes_are_kept_by_later_builds(tmp_path):
    rows = clustered(5000, 0)
    make(tmp_path, rows[:1200], Wishes("IVF4,Flat", target_recall=0.9))
    built = make(tmp_path, rows)
    assert built.factory == "IVF4,Flat"
    assert built.tuning.target_recall == 0.9


def test_a_damaged_index_is_built_anew(tmp_path):
    rows = clustered(1200, 0)
    first = make(tmp_path, rows, FORCED)
    first.index_file(tmp_path).write_bytes(b"")
    built = make(tmp_path, rows, FORCED)
    assert built.number == 2
    assert load_latest(tmp_path, "image", rows, pytest.fail)[0] == built


def test_a_build_that_is_stopped_leaves_what_was_there(tmp_path):
    rows = clustered(1400, 0)
    first = make(tmp_path, rows[:1200], FORCED)
    with pytest.raises(Stopped):
        make(tmp_path, rows, should_stop=lambda: True)
    assert load_latest(tmp_path, "image", rows, pytest.fail)[0] == first


def test_an_unknown_factory_string_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'PQQ'"):
        make(tmp_path, clustered(1200, 0), Wishes("PQQ"))
