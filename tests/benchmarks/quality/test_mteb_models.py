"""Runs the package itself, on tasks whose data is made here: 30 pictures with two captions each."""

import gc
import math
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.metrics import evaluate, judge_scores
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.quality.mteb_models import MtebEncoder, MtebEngine
from benchmarks.quality.retrieval import Setup, measure_quality
from retrieval.encoders.registry import load_encoder
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.media.audio import resample
from retrieval.media.images import read_image
from retrieval.rerankers.registry import load_reranker
from retrieval.search.query import Mode
from tests.conftest import REPOSITORY
from tests.tiny_clap import RATE, make_clap, tones

pytestmark = pytest.mark.slow

METRICS = {
    "ndcg@10": "ndcg_at_10",
    "recall@5": "recall_at_5",
    "hit_recall@3": "hit_rate_at_3",
    "map@20": "map_at_20",
    "mrr@10": "mrr_at_10",
}
"""Our names of metrics, and mteb's."""


@pytest.fixture(scope="module")
def mteb():
    return pytest.importorskip("mteb", reason="pip install 'mmsearch[mteb]'")


@pytest.fixture(scope="module")
def captioned(dataset):
    """The small data set without its third captions, which are too long for the encoder."""
    return dataset.first_captions(2)


@pytest.fixture(scope="module")
def name(tiny_checkpoint):
    return f"local-dir:{tiny_checkpoint}"


@pytest.fixture(scope="module")
def encoder(mteb, name):
    return MtebEncoder(name, device="cpu")


@pytest.fixture(scope="module")
def engine(mteb, name):
    made = MtebEngine(name, device="cpu", workers=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def retrieval_task(mteb):
    """Make a retrieval task of mteb from columns of queries and documents."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    def made(category, queries, documents, relevant, *, same_ids=False, top_ranked=None):
        modalities = sorted({*queries, *documents} - {"id"})
        split = {
            "queries": Dataset.from_dict(queries),
            "corpus": Dataset.from_dict(documents),
            "relevant_docs": {query: dict(gains) for query, gains in relevant.items()},
            "top_ranked": top_ranked,
        }

        class Task(AbsTaskRetrieval):
            ignore_identical_ids = same_ids
            metadata = mteb.TaskMetadata(
                name=f"Made-{category}",
                description="Noise with captions",
                dataset={"path": "none", "revision": "none"},
                type="Retrieval" if modalities == ["text"] else "Any2AnyRetrieval",
                category=category,
                modalities=modalities,
                eval_splits=["test"],
                eval_langs=["eng-Latn"],
                main_score="ndcg_at_10",
            )

            def load_data(self, **_):
                self.dataset = {"default": {"test": split}}
                self.data_loaded = True

        return Task()

    return made


@pytest.fixture(scope="module")
def task(retrieval_task, captioned):
    """Make the task of a direction of the data set."""

    def columns(things):
        values = list(things.values())
        if isinstance(values[0], Path):
            return {"id": list(things), "image": [read_image(path) for path in values]}
        return {"id": list(things), "text": values}

    def made(direction):
        return retrieval_task(
            direction,
            columns(captioned.queries(direction)),
            columns(captioned.items(direction)),
            captioned.qrels(direction),
            same_ids=direction == "t2t",
        )

    return made


@pytest.fixture
def scores(mteb):
    def run(model, task):
        result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
        [scores] = result.task_results[0].scores["test"]
        return scores

    return run


def figures(judgments):
    return {METRICS[name]: value for name, value in evaluate(judgments, METRICS).items()}


def measured(dataset, direction, encoder, tmp_path, reranker=None, **settings):
    """What `mmsearch bench retrieval` measures."""
    setup = Setup(directions=(direction,), **settings)
    cache = EmbeddingCache(tmp_path / "cache")
    result = measure_quality(dataset, encoder, setup, cache, reranker=reranker)
    return figures(result.directions[direction].judgments)


def found(scores, expected):
    return {name: scores[name] for name in expected}


@pytest.mark.parametrize("direction", ["t2i", "i2t", "t2t"])
def test_the_engine_has_the_figures_of_our_own_benchmark(
    direction, engine, task, scores, captioned, tiny_encoder, tmp_path
):
    expected = measured(captioned, direction, tiny_encoder, tmp_path)
    assert 0.01 < expected["ndcg_at_10"] < 0.99
    mtebs = scores(engine, task(direction))
    assert found(mtebs, expected) == pytest.approx(expected, abs=1e-4)


def test_a_reranked_engine_has_the_figures_of_our_own_benchmark(
    name, tiny_fusion, task, scores, captioned, tiny_encoder, tmp_path
):
    rerank = f"cross-attention:{tiny_fusion}"
    reranker = load_reranker(rerank, tiny_encoder, "cpu")
    expected = measured(captioned, "t2i", tiny_encoder, tmp_path, reranker, rerank_depth=8)
    assert expected != measured(captioned, "t2i", tiny_encoder, tmp_path)
    engine = MtebEngine(name, device="cpu", rerank=rerank, rerank_depth=8, workers=1)
    assert found(scores(engine, task("t2i")), expected) == pytest.approx(expected, abs=1e-4)
    engine.close()


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_an_encoder_has_the_figures_of_exact_cosines(
    direction, encoder, task, scores, captioned, tiny_encoder, tmp_path
):
    def vectors(things):
        values = list(things.values())
        if isinstance(values[0], str):
            return tiny_encoder.encode(Modality.TEXT, values)
        pixels = [tiny_encoder.preprocess(read_image(path)) for path in values]
        return tiny_encoder.encode(Modality.IMAGE, np.stack(pixels))

    queries, items = captioned.queries(direction), captioned.items(direction)
    cosines = vectors(queries) @ vectors(items).T
    judgments = judge_scores(captioned.qrels(direction), list(queries), list(items), cosines)
    expected = figures(judgments)
    mtebs = scores(encoder, task(direction))
    assert found(mtebs, expected) == pytest.approx(expected, abs=1e-4)
    # Libraries keep half precision.
    ours = measured(captioned, direction, tiny_encoder, tmp_path)
    assert found(mtebs, ours) == pytest.approx(ours, abs=0.02)


def test_pictures_with_texts_are_queries_of_both(encoder, engine, retrieval_task, scores):
    generator = np.random.default_rng(3)
    images = [
        Image.fromarray(generator.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(6)
    ]
    images[5] = images[4]  # each of two that are equal is found
    names = [f"i{number}" for number in range(6)]
    seen = encoder.encode([{"image": images}])
    best = int((seen @ (seen[2] + encoder.encode([{"text": ["snow"]}])[0])).argmax())
    task = retrieval_task(
        "it2i",
        {"id": ["q"], "image": images[2:3], "text": ["snow"]},
        {"id": names, "image": images},
        {"q": {names[best]: 1, "i4": 1, "i5": 1}},
    )
    for model in (encoder, engine):
        figures = scores(model, task)
        assert (figures["hit_rate_at_1"], figures["recall_at_10"]) == (1, 1)
    mixed = retrieval_task(
        "i2it",
        {"id": ["q"], "image": images[:1]},
        {"id": names, "image": images, "text": ["snow"] * 6},
        {"q": {"i0": 1}},
    )
    assert math.isfinite(scores(encoder, mixed)["ndcg_at_10"])
    with pytest.raises(UsageError, match=r"documents of Made-i2it are image with text"):
        scores(engine, mixed)


def test_vectors_are_unit_vectors_of_each_modality_and_of_sums(encoder, tiny_encoder):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8))
    texts = encoder.encode([{"text": ["snow", ""]}, {"text": ["a dog"]}])
    np.testing.assert_allclose(
        texts, tiny_encoder.encode(Modality.TEXT, ["snow", "", "a dog"]), atol=1e-6
    )
    [seen] = encoder.encode([{"image": [image]}])
    [both] = encoder.encode([{"image": [image], "text": ["snow"]}])
    total = seen + texts[0]
    np.testing.assert_allclose(both, total / np.linalg.norm(total), atol=1e-6)
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.similarity(texts, texts).shape == (3, 3)
    np.testing.assert_allclose(encoder.similarity_pairwise(texts, texts), 1, atol=1e-5)


def test_sound_is_cut_into_windows_whose_mean_counts(mteb, tmp_path):
    pytest.importorskip("av")
    encoder = MtebEncoder(make_clap(tmp_path), device="cpu")
    ours = load_encoder(f"clap:{tmp_path}", "cpu")
    sound = tones(440, 900, 2000)
    stereo = {"array": np.stack([sound, sound]), "sampling_rate": RATE}
    faster = {"array": resample(sound, RATE, 3 * RATE), "sampling_rate": 3 * RATE}
    silence = {"array": np.zeros(5), "sampling_rate": RATE}
    vectors = encoder.encode([{"audio": [stereo, faster, silence]}])
    windows = ours.encode(
        Modality.AUDIO, [sound[start : start + RATE] for start in (0, RATE, 2 * RATE)]
    )
    mean = windows.sum(axis=0)
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)
    assert vectors[1] @ vectors[0] > 0.99
    assert np.isfinite(vectors[2]).all()
    with pytest.raises(UsageError, match="takes audio and text, not image"):
        encoder.encode([{"image": [Image.new("RGB", (8, 8))]}])


def test_the_lines_of_the_documentation_run(mteb, name, task, monkeypatch):
    page = (REPOSITORY / "docs" / "how-to" / "measure.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?mteb.*?)```", page, re.DOTALL)
    known, asked = mteb.get_tasks, []

    def here(tasks):
        asked.extend(each.metadata.name for each in known(tasks=tasks))
        return [task("t2i")]

    monkeypatch.setattr(mteb, "get_tasks", here)
    monkeypatch.setattr(mteb, "evaluate", partial(mteb.evaluate, cache=None))
    scope = {}
    exec(compile(block.replace('"starter"', repr(name)), "measure.md", "exec"), scope)
    assert asked == ["Flickr30kT2IRetrieval", "Flickr30kI2TRetrieval"]
    assert 0 < scope["figures"]["ndcg_at_10"] < 1


def test_what_an_encoder_does_not_take_is_said(encoder):
    with pytest.raises(UsageError, match="takes image and text, not audio"):
        encoder.encode([{"audio": [{"array": np.ones(9), "sampling_rate": 8000}]}])
    with pytest.raises(UsageError, match="tensors"):
        encoder.encode([{"video": []}])
    with pytest.raises(UsageError, match="no text, image or audio, but label"):
        encoder.encode([{"label": [1]}])


def test_other_tasks_run_too(mteb, encoder, scores):
    from mteb.mocks.mock_tasks import MockSTSTask

    assert math.isfinite(scores(encoder, MockSTSTask())["cosine_spearman"])


def test_long_blank_equal_and_unreadable_texts_by_words_too(name, retrieval_task, scores, caplog):
    long = "one of many words. " * 700
    documents = ["", "red snow", long + "red snow", "red snow", "\0\1 of no format"]
    task = retrieval_task(
        "t2t",
        {"id": ["q1", "q2", "q3"], "text": [" ", long, "red snow"]},
        {"id": [f"d{number}" for number in range(5)], "text": documents},
        {"q1": {"d1": 1}, "q2": {"d2": 1}, "q3": {"d1": 1, "d3": 1}},
    )
    hybrid = MtebEngine(name, device="cpu", mode=Mode.HYBRID, workers=1)
    figures = scores(hybrid, task)
    assert figures["recall_at_10"] == pytest.approx(2 / 3, abs=1e-4)  # a blank query finds nothing
    assert "2 of 5 documents are empty or cannot be read" in caplog.text
    hybrid.close()


def test_candidates_that_are_given_are_refused(engine, retrieval_task, scores):
    texts = {"id": ["a", "b"], "text": ["snow", "red"]}
    given = retrieval_task("t2t", texts, texts, {"a": {"a": 1}}, top_ranked={"a": ["a"]})
    with pytest.raises(UsageError, match="gives the candidates of each query"):
        scores(engine, given)


def test_results_are_filed_by_what_was_measured(encoder, name, tiny_checkpoint, tiny_fusion):
    rerank = f"cross-attention:{tiny_fusion}"
    engine = MtebEngine(name, device="cpu", rerank=rerank, rerank_depth=5)
    metas = [encoder.mteb_model_meta, engine.mteb_model_meta]
    own = tiny_checkpoint.name
    assert [meta.name for meta in metas] == [
        f"mmsearch/local-dir-{own}",
        f"mmsearch/local-dir-{own}-engine-vector-cross-attention-{tiny_fusion.name}-5",
    ]
    space = load_encoder(name).space
    assert {meta.revision for meta in metas} == {space.id.rpartition("-")[2]}
    assert metas[0].embed_dim == 32
    assert metas[0].modalities == ["image", "text"]
    with pytest.raises(UsageError, match="There is no reranker 'best'"):
        MtebEngine(name, rerank="best")


def test_the_library_is_removed(mteb, name, retrieval_task, scores, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    texts = {"id": ["a", "b"], "text": ["snow", "red"]}
    task = retrieval_task("t2t", texts, texts, {"a": {"a": 1}})
    engine = MtebEngine(name, device="cpu", workers=1)
    with pytest.raises(UsageError, match="call index first"):
        engine.search(None, task_metadata=task.metadata, top_k=1, num_proc=None)
    for _ in range(2):
        scores(engine, task)
        assert len(list(tmp_path.glob("mmsearch-mteb-*"))) == 1
    del engine
    gc.collect()
    assert not list(tmp_path.glob("mmsearch-mteb-*"))


def test_without_the_package_the_remedy_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb.models.model_meta", None)
    with pytest.raises(UsageError, match=r"pip install 'mmsearch\[mteb\]'"):
        MtebEncoder(name)
