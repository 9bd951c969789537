"""Generated vectors beside the real ones that they were fitted to."""

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.vectors.synthetic_vectors import BLOCK, CLIP, STARTER, SyntheticVectors

pytestmark = pytest.mark.slow

ROWS = 500
LISTS = 16


@dataclass(frozen=True)
class Statistics:
    """Of ROWS images and a text each. Cosines are medians or means over rows."""

    within: float
    spread: float
    rank: float
    nearest: float
    tenth: float
    hundredth: float
    dimension: float
    same_list: float
    pair: float
    strangers: float
    own_first: float
    text_nearest: float
    text_tenth: float


TOLERANCES = Statistics(
    within=0.01,
    spread=0.02,
    rank=8,
    nearest=0.05,
    tenth=0.05,
    hundredth=0.04,
    dimension=6,
    same_list=0.06,
    pair=0.04,
    strangers=0.02,
    own_first=0.06,
    text_nearest=0.04,
    text_tenth=0.04,
)


def statistics(images, texts) -> Statistics:
    cosines = images @ images.T
    others = cosines[~np.eye(len(images), dtype=bool)]
    np.fill_diagonal(cosines, -2)
    descending = np.sort(cosines, axis=1)[:, ::-1]
    eigenvalues = np.linalg.eigvalsh(np.cov(images.T))
    distances = np.sqrt(2 - 2 * descending[:, :20].clip(-1, 0.9999))
    # Levina and Bickel (2004), from the distances to 20 neighbours.
    dimensions = -1 / np.log(distances[:, :-1] / distances[:, -1:]).mean(axis=1)
    across = texts @ images.T
    pairs = across.diagonal()
    across_descending = np.sort(across, axis=1)[:, ::-1]
    return Statistics(
        within=others.mean(),
        spread=others.std(),
        rank=eigenvalues.sum() ** 2 / (eigenvalues**2).sum(),
        nearest=np.median(descending[:, 0]),
        tenth=np.median(descending[:, 9]),
        hundredth=np.median(descending[:, 99]),
        dimension=np.median(dimensions),
        same_list=share_in_same_list(images, np.argsort(-cosines, axis=1)[:, :10]),
        pair=pairs.mean(),
        strangers=across[~np.eye(len(images), dtype=bool)].mean(),
        own_first=(across_descending[:, 0] == pairs).mean(),
        text_nearest=np.median(across_descending[:, 0]),
        text_tenth=np.median(across_descending[:, 9]),
    )


def share_in_same_list(images, neighbours) -> float:
    """How many of a row's neighbours are in its k-means list."""
    centroids = images[np.random.default_rng(0).choice(len(images), LISTS, replace=False)]
    for _ in range(10):
        lists = (images @ centroids.T).argmax(axis=1)
        sums = np.stack([images[lists == one].sum(axis=0) for one in range(LISTS)])
        centroids = sums / np.maximum(1e-9, np.linalg.norm(sums, axis=1, keepdims=True))
    return float((lists[neighbours] == lists[:, None]).mean())


@pytest.fixture(scope="module")
def real(shared_data, starter, request) -> Statistics:
    """The validation photos of Flickr8k under `starter`, which was not trained on them."""
    from benchmarks.datasets import load_dataset
    from benchmarks.quality.embedding_cache import EmbeddingCache

    data = load_dataset(f"jsonl:{shared_data / 'flickr8k'}", split="val", language="en")
    data = data.first_images(ROWS)
    text_of = {image: text for text, image in reversed(data.captions)}
    cache = EmbeddingCache(request.config.cache.mkdir("mmsearch-embeddings"))
    images = cache.embed_images(starter, list(data.images.values())).rows
    texts = cache.embed_texts(starter, [data.texts[text_of[image]] for image in data.images]).rows
    return statistics(images.astype(np.float32), texts.astype(np.float32))


def generated(profile) -> Statistics:
    """The mean over three seeds."""
    each = []
    for seed in range(3):
        vectors = SyntheticVectors(profile, seed=seed)
        each.append(vars(statistics(vectors.images(ROWS), vectors.texts(ROWS))))
    return Statistics(**{name: float(np.mean([one[name] for one in each])) for name in each[0]})


@pytest.mark.parametrize("name", vars(TOLERANCES))
def test_the_statistics_are_those_of_real_embeddings(real, fitted, name):
    assert getattr(fitted, name) == pytest.approx(
        getattr(real, name), abs=getattr(TOLERANCES, name)
    )


@pytest.fixture(scope="module")
def fitted() -> Statistics:
    return generated(STARTER)


def test_uniform_noise_has_no_neighbourhoods(fitted):
    noise = np.random.default_rng(0).standard_normal((ROWS, 512)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    uniform = statistics(noise, noise)
    assert fitted.same_list > 2 * uniform.same_list
    assert fitted.nearest > 2 * uniform.nearest


def test_the_gap_is_that_published_for_clip():
    vectors = SyntheticVectors(CLIP)
    images, texts = vectors.images(2000), vectors.texts(2000)
    assert np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0)) == pytest.approx(0.82, abs=0.03)
    across = texts @ images.T
    assert across.diagonal().mean() == pytest.approx(0.33, abs=0.03)
    assert across.mean() == pytest.approx(0.16, abs=0.03)
    assert (images[:1000] @ images[1000:].T).mean() == pytest.approx(0.5, abs=0.03)


def test_rows_do_not_depend_on_how_many_are_made(tmp_path):
    vectors = SyntheticVectors(dimension=32, seed=3)
    few, many = vectors.images(10), vectors.images(BLOCK + 10)
    assert (few == many[:10]).all()
    assert np.linalg.norm(many, axis=1) == pytest.approx(1, abs=1e-5)
    rows = vectors.write(tmp_path / "rows.f16", BLOCK + 10)
    assert rows.shape == (BLOCK + 10, 32)
    assert (rows == many.astype(np.float16)).all()
    assert len(np.unique(many, axis=0)) == len(many)


def test_held_out_images_and_other_seeds_are_other_rows():
    vectors = SyntheticVectors(dimension=32)
    assert (vectors.images(100) @ vectors.images(100, held_out=True).T).max() < 0.999
    assert not np.allclose(vectors.images(1), SyntheticVectors(dimension=32, seed=1).images(1))
