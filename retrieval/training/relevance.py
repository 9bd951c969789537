"""Calibrate relevance: fit the probability that a hit is relevant to its score.

The shipped calibrations were made by `train_relevance` on Flickr8k with its defaults. Searches are
simulated on photos of `val`, since encoders are trained on `train`, with photos of `train` as
distractors. Half of all photos and texts is for training, the other half for measuring
(`is_held_out`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.encoders.base import Encoder
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.indices.tuning_queries import bundled_texts
from retrieval.media import Modality
from retrieval.media.images import read_image
from retrieval.search.relevance import Calibration, CalibrationFile, CohortStatistics, Reference
from retrieval.training.captions import CaptionedPhoto, digest_of_photos, read_captioned_photos
from retrieval.training.class_names import class_names
from retrieval.training.feature_folder import FeatureFolder, Progress
from retrieval.training.fitting import (
    UNRELATED_BELOW,
    Floats,
    Gallery,
    caption_similarity,
    naming_words,
)
from retrieval.training.simulated_libraries import (
    SimulatedQuery,
    SimulatedSearch,
    caption_queries,
    image_queries,
    outside_queries,
    simulate_searches,
    word_queries,
)

REFERENCE_ROWS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
BINS = 10
_LARGE_LIBRARY = 200
_PHOTO_BATCH = 32
_TEXT_BATCH = 64
_RIDGE = 1e-6

LIMITS = (
    "Labels are captions and their similarity, not people's judgements of hits.",
    "The similarity is MiniLM's, which is starter's text tower, too.",
    "Of the simulated text queries under half have an answer; where more of them do, relevances "
    "are too low, where fewer do, too high.",
    "Libraries of up to two thousand photos of people, dogs, sports and landscapes; English.",
    "For image queries, relevant means that a caption of the one photo fits the other.",
)


@dataclass(frozen=True)
class RelevanceTraining:
    """Settings of a run.

    dataset: directory with `captions.jsonl` (splits `train` and `val`) and `images/`. output: file
    to write. generic: second file, independent of the scale of the encoder's scores. cache:
    directory for embeddings. distractors: photos of `train` in each half. outside: out-of-domain
    texts in each half. searches: simulated searches of each kind of query and half.
    """

    dataset: Path
    output: Path
    cache: Path
    generic: Path | None = None
    distractors: int = 1500
    outside: int = 2500
    searches: int = 6000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.distractors < 0 or self.outside < 0 or self.searches < 1:
            raise UsageError("distractors and outside must be at least 0, searches at least 1.")


@dataclass(frozen=True)
class Quality:
    """Agreement of relevances with labels, over the hits of simulated searches.

    brier: mean squared difference; ece: expected calibration error (Guo et al. 2017) in ten bins
    of equal width. base: the Brier score of saying the mean share of fitting hits each time.
    predicted, observed, counts: by bin, NaN where a bin is empty.
    """

    hits: int
    searches: int
    brier: float
    base: float
    ece: float
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TrainedRelevance:
    """Calibrations and their quality on the held-out half, by kind of query."""

    calibrations: CalibrationFile
    quality: Mapping[Modality, Quality]
    generic_quality: Mapping[Modality, Quality]


def is_held_out(name: str) -> bool:
    """Return whether a photo (by its file name) or a text is in the half not trained on."""
    return xxhash.xxh3_64_intdigest(name.encode()) % 2 == 1


def train_relevance(
    config: RelevanceTraining, encoder: Encoder, *, on_progress: Progress = lambda *_: None
) -> TrainedRelevance:
    """Fit calibrations for an encoder's space and write them.

    Raises:
        UsageError: the dataset has too few photos, or one of them cannot be decoded.
        NotFoundError: it does not exist.
    """
    if not config.output.parent.is_dir():
        raise UsageError(f"There is no folder {config.output.parent} to write to.")
    learned = _simulate(config, encoder, held_out=False, on_progress=on_progress)
    measured = _simulate(config, encoder, held_out=True, on_progress=on_progress)
    fitted = {kind: fit_calibration(searches) for kind, searches in learned.items()}
    plain = {
        kind: fit_calibration(searches, with_reference=False) for kind, searches in learned.items()
    }
    quality = {kind: measure(fitted[kind], measured[kind]) for kind in fitted}
    generic_quality = {kind: measure(plain[kind], measured[kind]) for kind in plain}
    file = CalibrationFile(
        encoder=encoder.space.encoder,
        space_id=encoder.space.id,
        by_kind=fitted,
        card=_card(config, encoder, quality),
    )
    file.write(config.output)
    if config.generic:
        card = _card(config, encoder, generic_quality)
        card["limits"].insert(0, "Learned with this encoder's scores; unmeasured on any other's.")
        replace(file, space_id="", by_kind=plain, card=card).write(config.generic)
    return TrainedRelevance(file, quality, generic_quality)


def fit_calibration(
    searches: Sequence[SimulatedSearch], *, with_reference: bool = True
) -> Calibration:
    """Fit the logistic model to the hits of searches, with probabilities as labels.

    The weight of the reference, in rows, is chosen by the likelihood of the same hits. Raises
    UsageError if relevance does not rise with similarity.
    """
    fits = np.concatenate([search.fits for search in searches]).astype(np.float64)
    prior = float(fits.mean())
    cohorts = [CohortStatistics.of(search.cohort) for search in searches]
    reference = _reference(searches, cohorts) if with_reference else None
    best, best_loss = None, np.inf
    for rows in REFERENCE_ROWS:
        start = Calibration(0.0, 1.0, 0.0, prior, rows, reference)
        features = np.concatenate(
            [
                start.features(search.similarity, cohort)
                for search, cohort in zip(searches, cohorts, strict=True)
            ]
        )
        weights = _logistic_regression(features, fits)
        if weights[1] <= 0:
            raise UsageError(
                "Relevance does not rise with similarity here: nothing can be learned."
            )
        intercept, z, log_rows = weights.tolist()
        fitted = Calibration(intercept, z, log_rows, prior, rows, reference)
        loss = _log_loss(_relevances(fitted, searches), fits)
        if loss < best_loss:
            best, best_loss = fitted, loss
    if best is None:
        raise UsageError("The fitted relevances are not numbers.")
    return best


def measure(calibration: Calibration, searches: Sequence[SimulatedSearch]) -> Quality:
    """Compare relevances with labels."""
    fits = np.concatenate([search.fits for search in searches]).astype(np.float64)
    relevances = _relevances(calibration, searches)
    bins = np.minimum((relevances * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(bins, relevances, BINS) / counts
        observed = np.bincount(bins, fits, BINS) / counts
    gaps = np.abs(np.nan_to_num(predicted - observed))
    return Quality(
        hits=len(fits),
        searches=len(searches),
        brier=float(((relevances - fits) ** 2).mean()),
        base=float(((fits.mean() - fits) ** 2).mean()),
        ece=float(gaps @ counts / len(fits)),
        predicted=tuple(predicted.tolist()),
        observed=tuple(observed.tolist()),
        counts=tuple(counts.tolist()),
    )


def build_gallery(
    photos: Sequence[CaptionedPhoto],
    encoder: Encoder,
    cache: Path,
    on_progress: Progress = lambda *_: None,
) -> Gallery:
    """Embed photos with the encoder and their captions with MiniLM, through the cache.

    Args:
        photos: the photos with captions.
        encoder: embeds the photos.
        cache: directory of the embedding cache.
        on_progress: called with stage, done and total.

    Raises:
        UsageError: a photo cannot be decoded.
    """
    captions = [caption for photo in photos for caption in photo.captions]
    return Gallery(
        photos,
        _photo_vectors(photos, encoder, cache, on_progress),
        sentence_vectors(captions, cache, on_progress),
    )


def ask_texts(
    gallery: Gallery,
    asked: NDArray[np.int64],
    outside: Sequence[str],
    encoder: Encoder,
    cache: Path,
    on_progress: Progress = lambda *_: None,
) -> list[SimulatedQuery]:
    """Make the text queries of a gallery: captions, words and out-of-domain texts.

    Args:
        gallery: the photos.
        asked: (n,) int64, numbers of the captions to ask.
        outside: candidates of out-of-domain texts; those similar to a caption are dropped.
        encoder: embeds the texts.
        cache: directory of the embedding cache.
        on_progress: called with stage, done and total.
    """
    captions = [caption for photo in gallery.photos for caption in photo.captions]
    words = naming_words(gallery.photos) if gallery.tells_what_fits else {}
    outside_vectors = sentence_vectors(outside, cache, on_progress)
    nearest = caption_similarity(outside_vectors, gallery).max(1, initial=0)
    absent = [text for text, most in zip(outside, nearest, strict=True) if most < UNRELATED_BELOW]
    texts = [*(captions[number] for number in asked), *words, *absent]
    vectors = text_vectors(texts, encoder, cache, on_progress)
    first, second = len(asked), len(asked) + len(words)
    return [
        *caption_queries(gallery, vectors[:first], asked),
        *word_queries(words, vectors[first:second]),
        *outside_queries(absent, vectors[second:], len(gallery.photos)),
    ]


def outside_texts() -> list[str]:
    """List out-of-domain texts: the bundled query texts in ASCII, and the classes of ImageNet."""
    names = (f"a photo of a {names[0]}" for names in class_names())
    return [text for text in (*bundled_texts(), *names) if text.isascii()]


def text_vectors(
    texts: Sequence[str], encoder: Encoder, cache: Path, on_progress: Progress = lambda *_: None
) -> Floats:
    """Embed texts through the cache, (n, d) float32."""
    return _computed(
        cache,
        "text-vectors",
        [encoder.space.id, _digest(texts)],
        (len(texts), encoder.space.dimension),
        lambda part: encoder.encode(Modality.TEXT, texts[part]),
        _TEXT_BATCH,
        on_progress,
    )


def sentence_vectors(
    texts: Sequence[str], cache: Path, on_progress: Progress = lambda *_: None
) -> Floats:
    """Embed texts with MiniLM through the cache, (n, 384) float32, unit."""
    from retrieval.encoders.towers import TEXT_WIDTH, TextTower
    from retrieval.encoders.weight_files import TEXT_WEIGHTS_SHA256

    tower: TextTower | None = None

    def encode(part: slice) -> Floats:
        nonlocal tower
        tower = tower or TextTower()
        pooled = tower(tower.tokenize(texts[part])).pooled.cpu().numpy()
        unit: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit

    key = [TEXT_WEIGHTS_SHA256, _digest(texts)]
    shape = (len(texts), TEXT_WIDTH)
    return _computed(cache, "sentence-vectors", key, shape, encode, _TEXT_BATCH, on_progress)


def _photo_vectors(
    photos: Sequence[CaptionedPhoto], encoder: Encoder, cache: Path, on_progress: Progress
) -> Floats:
    def encode(part: slice) -> Floats:
        pixels = []
        for photo in photos[part]:
            try:
                pixels.append(encoder.preprocess(read_image(photo.path)))
            except (OSError, UnreadableFileError) as error:
                raise UsageError(f"Cannot decode the photo {photo.path}: {error}") from error
        return encoder.encode(Modality.IMAGE, np.stack(pixels))

    key = [encoder.space.id, digest_of_photos(photos)]
    shape = (len(photos), encoder.space.dimension)
    return _computed(cache, "photo-vectors", key, shape, encode, _PHOTO_BATCH, on_progress)


def _computed(
    cache: Path,
    name: str,
    key: Sequence[str],
    shape: tuple[int, int],
    encode: Callable[[slice], Floats],
    batch: int,
    on_progress: Progress,
) -> Floats:
    """Compute rows through the cache; float32 with float16 precision."""
    if not shape[0]:
        return np.empty(shape, np.float32)
    folder = FeatureFolder(cache, name, key)
    rows = folder.open("rows.f16", shape)
    for part in folder.missing(shape[0], batch, name.replace("-", " "), on_progress):
        rows[part] = encode(part)
    return np.asarray(rows, np.float32)


def _simulate(
    config: RelevanceTraining, encoder: Encoder, *, held_out: bool, on_progress: Progress
) -> dict[Modality, list[SimulatedSearch]]:
    """Simulate searches of both kinds of queries over one half of the dataset."""
    splits = []
    for split in ("val", "train"):
        photos = read_captioned_photos(config.dataset, split)
        splits.append([photo for photo in photos if is_held_out(photo.path.name) == held_out])
    asked, distractors = splits[0], splits[1][: config.distractors]
    if len(asked) < 2:
        raise UsageError(f"The split val of {config.dataset} has too few photos to learn from.")
    gallery = build_gallery([*asked, *distractors], encoder, config.cache, on_progress)
    captions = np.arange(sum(len(photo.captions) for photo in asked))
    outside = [text for text in outside_texts() if is_held_out(text) == held_out][: config.outside]
    texts = ask_texts(gallery, captions, outside, encoder, config.cache, on_progress)
    images = image_queries(gallery, np.arange(len(asked)))
    seed = 2 * config.seed + held_out
    return {
        Modality.TEXT: simulate_searches(gallery, texts, config.searches, seed=seed),
        Modality.IMAGE: simulate_searches(gallery, images, config.searches, seed=seed),
    }


def _reference(
    searches: Sequence[SimulatedSearch], cohorts: Sequence[CohortStatistics]
) -> Reference:
    """Average the cohort over the larger libraries, or over all if none is large."""
    large = [
        cohort
        for search, cohort in zip(searches, cohorts, strict=True)
        if search.rows >= _LARGE_LIBRARY
    ]
    chosen = large or cohorts
    return Reference(
        float(np.mean([each.location for each in chosen])),
        float(np.sqrt(np.mean([each.scale**2 for each in chosen]))),
    )


def _relevances(
    calibration: Calibration, searches: Sequence[SimulatedSearch]
) -> NDArray[np.float64]:
    relevances = [calibration.relevance(each.similarity, each.cohort) for each in searches]
    return np.concatenate(relevances).astype(np.float64)


def _log_loss(chances: NDArray[np.float64], fits: NDArray[np.float64]) -> float:
    chances = np.clip(chances, 1e-7, 1 - 1e-7)
    return float(-(fits * np.log(chances) + (1 - fits) * np.log(1 - chances)).mean())


def _logistic_regression(
    features: NDArray[np.float64], fits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit a logistic regression to probabilities as labels, by Newton's method."""
    weights = np.zeros(features.shape[1])
    ridge = _RIDGE * len(fits) * np.eye(features.shape[1])
    for _ in range(50):
        chances = 1 / (1 + np.exp(-np.clip(features @ weights, -50, 50)))
        slopes = features.T * (chances * (1 - chances))
        step = np.linalg.solve(slopes @ features + ridge, features.T @ (fits - chances))
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def _card(
    config: RelevanceTraining, encoder: Encoder, quality: Mapping[Modality, Quality]
) -> dict[str, Any]:
    return {
        "data": f"{config.dataset.name}: half of val's photos, and {config.distractors} of train's "
        "that nothing asks for",
        "recipe": f"mmsearch train relevance --encoder {encoder.space.encoder} --distractors "
        f"{config.distractors} --outside {config.outside} --searches {config.searches} "
        f"--seed {config.seed}",
        "labels": "A caption's own photo fits; others by the similarity of their captions with the "
        "query (MiniLM), which 85 pairs judged by hand turned into probabilities.",
        "quality": {
            kind: {name: value for name, value in asdict(each).items() if name in _SHOWN}
            for kind, each in quality.items()
        },
        "limits": list(LIMITS),
    }


_SHOWN = ("hits", "searches", "brier", "base", "ece")


def _digest(texts: Sequence[str]) -> str:
    lines = (text.replace("\\", "\\\\").replace("\n", "\\n") for text in texts)
    return xxhash.xxh3_128_hexdigest("\n".join(lines).encode())
