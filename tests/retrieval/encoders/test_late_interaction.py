import numpy as np
import pytest
from PIL import Image, ImageDraw

from indexer.pipeline import index_sources
from retrieval.encoders.base import Encoder, Tokens
from retrieval.encoders.late_interaction import LateInteractionEncoder, mean_vectors
from retrieval.encoders.registry import load_encoder
from retrieval.encoders.trust import path_of_encoder
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.media.images import read_image
from retrieval.rerankers.late_interaction import text_max_sim
from retrieval.search.engine import Engine
from retrieval.search.query import Query, Reranking, TextPart
from tests.tiny_checkpoints import make_colqwen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("colqwen")
    make_colqwen(directory)
    return directory


@pytest.fixture(scope="module")
def encoder(folder):
    return load_encoder(f"late-interaction:{folder}")


def test_the_mean_is_that_of_the_vectors_that_are_present():
    tokens = Tokens(
        np.array([[[1, 0], [0, 1], [9, 9]], [[0, 2], [9, 9], [0, 2]]], np.float32),
        np.array([[True, True, False], [True, False, True]]),
    )
    np.testing.assert_allclose(mean_vectors(tokens), [[0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-6)
    nothing = Tokens(np.empty((0, 0, 2), np.float32), np.empty((0, 0), np.bool_))
    assert mean_vectors(nothing).shape == (0, 2)


def test_means_propose_what_max_sim_finds_in_simulated_pages():
    """Pages of 8 of 400 concepts, half of each blank; queries of 4 words and 8 padding tokens."""
    random = np.random.default_rng(0)

    def near(vectors, noise=0.6):
        moved = vectors + noise * random.normal(size=vectors.shape) / 8
        return (moved / np.linalg.norm(moved, axis=-1, keepdims=True)).astype(np.float32)

    blank = near(np.zeros(64), 8)
    concepts = near(near(np.zeros((400, 64)), 8) + 0.8 * blank, 0)
    on_page = np.array([random.choice(400, 8, replace=False) for _ in range(200)])
    patches = np.concatenate([np.repeat(concepts[on_page], 4, 1), np.tile(blank, (200, 32, 1))], 1)
    asked = random.choice(200, 40, replace=False)
    words = concepts[[random.choice(on_page[page], 4, replace=False) for page in asked]]
    queries = Tokens.all_present(near(np.concatenate([words, np.tile(blank, (40, 8, 1))], 1)))
    pages = Tokens.all_present(near(patches))
    best = text_max_sim(queries, pages).argmax(1)
    pooled = mean_vectors(queries) @ mean_vectors(pages).T
    ranks = (pooled > pooled[np.arange(40), best][:, np.newaxis]).sum(1)
    assert (best == asked).mean() > 0.95
    assert (ranks < 20).mean() > 0.9
    assert (ranks == 0).mean() < 0.95  # proposals alone are not enough: hence the reranker


@pytest.mark.slow
def test_it_keeps_the_protocol(folder, encoder):
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, LateInteractionEncoder)
    assert encoder.space.encoder == f"late-interaction:{folder}"
    assert LateInteractionEncoder(f"late-interaction:{folder}").space == encoder.space
    random = np.random.default_rng(0)
    pictures = [
        Image.fromarray(random.integers(0, 256, (height, 40, 3), dtype=np.uint8))
        for height in (30, 90, 30)
    ]
    made = [encoder.preprocess(picture) for picture in pictures]
    vectors = encoder.encode(Modality.IMAGE, made)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(Modality.IMAGE, np.stack(made)), vectors, atol=1e-6)
    for one, vector in zip(made, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode(Modality.IMAGE, [one])[0], vector, atol=1e-5)
    assert encoder.encode(Modality.IMAGE, []).shape == (0, 8)
    assert encoder.encode(Modality.TEXT, []).shape == (0, 8)
    with pytest.raises(UsageError, match="takes image and text"):
        encoder.encode("smell", ["x"])


@pytest.mark.slow
def test_a_library_of_pages_is_searched_by_means_and_then_by_max_sim(folder, encoder, tmp_path):
    for number in range(10):
        page = Image.new("RGB", (40 + 5 * number, 60), "white")
        ImageDraw.Draw(page).rectangle([5, 5, 30, 10 + 4 * number], fill=(20 * number, 90, 10))
        page.save(tmp_path / f"{number}.png")
    library = create_library(tmp_path / ".library", encoder.space)
    index_sources(library, encoder, [tmp_path])
    name = f"late-interaction:{folder}"
    engine = Engine(library)
    query = Query((TextPart("two cats on a page"),), k=10)
    plain = engine.search(query, Reranking("none"))
    assert len(plain.hits) == 10
    answer = engine.search(query, Reranking(name))
    assert answer.reranked == 10
    reranker = engine.reranker(name)
    assert reranker._model is engine.encoder._model
    text = reranker.text_tokens(["two cats on a page"])
    for hit in answer.hits:
        pixels = np.stack([reranker.preprocess(read_image(hit.item.path))])
        assert hit.match == pytest.approx(
            reranker.match(text, reranker.image_tokens(pixels))[0, 0], abs=0.01
        )


def test_names_and_trust(tmp_path):
    assert path_of_encoder(f"late-interaction:{tmp_path}") == tmp_path
    assert path_of_encoder("late-interaction:someone/model") is None
    with pytest.raises(EncoderUnavailableError, match=r"never named with `--encoder`"):
        load_encoder(f"late-interaction:{tmp_path}", "cpu", "xxh3-128:0")
    with pytest.raises(EncoderUnavailableError, match="has no configuration"):
        load_encoder(f"late-interaction:{tmp_path}")
