"""The learning of calibrations: what the scores of hits say of their relevance.

`train_relevance` with its default settings on Flickr8k made those that are shipped. Searches are
simulated on photos of `val`, since encoders are trained on `train`, among photos of `train` that
nothing asks for. Half of all photos and texts is learned from (`is_held_out`); how good the result
is, is measured on the other half.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.encoders.base import Encoder
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.indices.tuning_queries import bundled_texts
from retrieval.media.images import read_image
from retrieval.search.relevance import Calibration, CalibrationFile, CohortStatistics, Reference
from retrieval.training.captions import (
    CaptionedPhoto,
    digest_of_photos,
    read_captioned_photos,
)
from retrieval.training.class_names import class_names
from retrieval.training.feature_folder import FeatureFolder, Progress
from retrieval.training.fitting import UNLIKE, Floats, Gallery, likeness, naming_words
from retrieval.training.simulated_libraries import (
    Question,
    Search,
    caption_questions,
    image_questions,
    outside_questions,
    simulate_searches,
    word_questions,
)

REFERENCE_ROWS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
BINS = 10
_LARGE_LIBRARY = 200
_PHOTO_BATCH = 32
_TEXT_BATCH = 64
_RIDGE = 1e-6

LIMITS = (
    "Labels are captions and their likeness, not people's judgements of hits.",
    "The likeness is MiniLM's, which is starter's text tower, too.",
    "Of the simulated text queries under half have an answer; where more of them do, relevances "
    "are too low, where fewer do, too high.",
    "Libraries of up to two thousand photos of people, dogs, sports and landscapes; English.",
    "For image queries, relevant means that a caption of the one photo fits the other.",
)


@dataclass(frozen=True)
class RelevanceTraining:
    """Settings of a run.

    dataset: folder with `captions.jsonl` (splits `train` and `val`) and `images/`. output: the
    file to write. generic: a second one, which uses nothing of the scale of the encoder's scores.
    cache: folder for vectors. distractors: photos of `train` in each half. outside: texts in each
    half of which most show nothing here. searches: simulated ones of each kind of query and half.
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
    """How well relevances agree with what fits, over the hits of simulated searches.

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
    """What was written, and its quality on the held-out half, by kind of query."""

    calibrations: CalibrationFile
    quality: dict[str, Quality]
    generic_quality: dict[str, Quality]


def is_held_out(name: str) -> bool:
    """Whether a photo (by its file's name) or a text is in the half that is not learned from."""
    return xxhash.xxh3_64_intdigest(name.encode()) % 2 == 1


def train_relevance(
    config: RelevanceTraining, encoder: Encoder, *, on_progress: Progress = lambda *_: None
) -> TrainedRelevance:
    """Learn calibrations for an encoder's space and write them.

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
        text=fitted["text"],
        image=fitted["image"],
        card=_card(config, encoder, quality),
    )
    file.write(config.output)
    if config.generic:
        card = _card(config, encoder, generic_quality)
        card["limits"].insert(0, "Learned with this encoder's scores; unmeasured on any other's.")
        replace(file, space_id="", text=plain["text"], image=plain["image"], card=card).write(
            config.generic
        )
    return TrainedRelevance(file, quality, generic_quality)


def fit_calibration(searches: Sequence[Search], *, with_reference: bool = True) -> Calibration:
    """Fit the logistic model to the hits of searches by their probabilities of fitting.

    How many rows the reference counts as is chosen by the likelihood on the same hits. Raises
    UsageError where similarity tells nothing of what fits.
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
            raise UsageError("What is more similar fits no better here: nothing can be learned.")
        intercept, z, log_rows = weights.tolist()
        fitted = Calibration(intercept, z, log_rows, prior, rows, reference)
        loss = _log_loss(_relevances(fitted, searches), fits)
        if loss < best_loss:
            best, best_loss = fitted, loss
    if best is None:
        raise UsageError("The relevances that were learned are not numbers.")
    return best


def measure(calibration: Calibration, searches: Sequence[Search]) -> Quality:
    """Compare relevances with what fits."""
    fits = np.concatenate([search.fits for search in searches]).astype(np.float64)
    relevances = _relevances(calibration, searches)
    place = np.minimum((relevances * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(place, relevances, BINS) / counts
        observed = np.bincount(place, fits, BINS) / counts
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
    """Encode photos with the encoder and their captions with MiniLM, or find both in the cache.

    Raises UsageError for a photo that cannot be decoded.
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
) -> list[Question]:
    """Text questions to a gallery: captions by number, naming words, and texts from outside.

    Of the outside texts, those are taken that are like no caption of the gallery.
    """
    captions = [caption for photo in gallery.photos for caption in photo.captions]
    words = naming_words(gallery.photos) if gallery.tells_what_fits else {}
    alike = likeness(sentence_vectors(outside, cache, on_progress), gallery).max(1, initial=0)
    absent = [text for text, most in zip(outside, alike, strict=True) if most < UNLIKE]
    texts = [*(captions[number] for number in asked), *words, *absent]
    vectors = text_vectors(texts, encoder, cache, on_progress)
    first, second = len(asked), len(asked) + len(words)
    return [
        *caption_questions(gallery, vectors[:first], asked),
        *word_questions(words, vectors[first:second]),
        *outside_questions(absent, vectors[second:], len(gallery.photos)),
    ]


def outside_texts() -> list[str]:
    """Texts about all the world: the bundled query texts in ASCII, and the classes of ImageNet."""
    names = (f"a photo of a {names[0]}" for names in class_names())
    return [text for text in (*bundled_texts(), *names) if text.isascii()]


def text_vectors(
    texts: Sequence[str], encoder: Encoder, cache: Path, on_progress: Progress = lambda *_: None
) -> Floats:
    """Vectors of texts, (n, d) float32, computed once."""
    return _computed(
        cache,
        "text-vectors",
        [encoder.space.id, _digest(texts)],
        (len(texts), encoder.space.dimension),
        lambda begin, end: encoder.encode_texts(texts[begin:end]),
        _TEXT_BATCH,
        on_progress,
    )


def sentence_vectors(
    texts: Sequence[str], cache: Path, on_progress: Progress = lambda *_: None
) -> Floats:
    """MiniLM's unit vectors of texts, (n, 384) float32, computed once."""
    from retrieval.encoders.towers import TEXT_WIDTH, TextTower
    from retrieval.encoders.weight_files import TEXT_WEIGHTS_SHA256

    tower: TextTower | None = None

    def encode(begin: int, end: int) -> Floats:
        nonlocal tower
        tower = tower or TextTower()
        pooled = tower(tower.tokenize(texts[begin:end])).pooled.cpu().numpy()
        unit: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit

    key = [TEXT_WEIGHTS_SHA256, _digest(texts)]
    shape = (len(texts), TEXT_WIDTH)
    return _computed(cache, "sentence-vectors", key, shape, encode, _TEXT_BATCH, on_progress)


def _photo_vectors(
    photos: Sequence[CaptionedPhoto], encoder: Encoder, cache: Path, on_progress: Progress
) -> Floats:
    def encode(begin: int, end: int) -> Floats:
        pixels = []
        for photo in photos[begin:end]:
            try:
                pixels.append(encoder.preprocess(read_image(photo.path)))
            except (OSError, UnreadableFileError) as error:
                raise UsageError(f"Cannot decode the photo {photo.path}: {error}") from error
        return encoder.encode_images(np.stack(pixels))

    key = [encoder.space.id, digest_of_photos(photos)]
    shape = (len(photos), encoder.space.dimension)
    return _computed(cache, "photo-vectors", key, shape, encode, _PHOTO_BATCH, on_progress)


def _computed(
    cache: Path,
    name: str,
    key: Sequence[str],
    shape: tuple[int, int],
    encode: Callable[[int, int], Floats],
    batch: int,
    on_progress: Progress,
) -> Floats:
    """Rows that are computed once, as float32 of what float16 keeps."""
    if not shape[0]:
        return np.empty(shape, np.float32)
    folder = FeatureFolder(cache, name, key)
    rows = folder.open("rows.f16", shape)
    done = folder.done
    while done < shape[0]:
        end = min(done + batch, shape[0])
        rows[done:end] = encode(done, end)
        done = end
        folder.commit(done, rows)
        on_progress(name.replace("-", " "), done, shape[0])
    return np.asarray(rows, np.float32)


def _simulate(
    config: RelevanceTraining, encoder: Encoder, *, held_out: bool, on_progress: Progress
) -> dict[str, list[Search]]:
    """Searches of both kinds of queries over one half of the dataset."""
    splits = []
    for split in ("val", "train"):
        photos = read_captioned_photos(config.dataset, split)
        splits.append([one for one in photos if is_held_out(one.path.name) == held_out])
    asked, distractors = splits[0], splits[1][: config.distractors]
    if len(asked) < 2:
        raise UsageError(f"The split val of {config.dataset} has too few photos to learn from.")
    gallery = build_gallery([*asked, *distractors], encoder, config.cache, on_progress)
    captions = np.arange(sum(len(photo.captions) for photo in asked))
    outside = [text for text in outside_texts() if is_held_out(text) == held_out][: config.outside]
    texts = ask_texts(gallery, captions, outside, encoder, config.cache, on_progress)
    images = image_questions(gallery, np.arange(len(asked)))
    seed = 2 * config.seed + held_out
    return {
        "text": simulate_searches(gallery, texts, config.searches, seed=seed),
        "image": simulate_searches(gallery, images, config.searches, seed=seed),
    }


def _reference(searches: Sequence[Search], cohorts: Sequence[CohortStatistics]) -> Reference:
    """The mean cohort of the larger libraries, or of all where none is large."""
    large = [
        cohort
        for search, cohort in zip(searches, cohorts, strict=True)
        if search.rows >= _LARGE_LIBRARY
    ]
    chosen = large or cohorts
    return Reference(
        float(np.mean([one.location for one in chosen])),
        float(np.sqrt(np.mean([one.scale**2 for one in chosen]))),
    )


def _relevances(calibration: Calibration, searches: Sequence[Search]) -> NDArray[np.float64]:
    each = [calibration.relevance(one.similarity, one.cohort) for one in searches]
    return np.concatenate(each).astype(np.float64)


def _log_loss(chances: NDArray[np.float64], fits: NDArray[np.float64]) -> float:
    chances = np.clip(chances, 1e-7, 1 - 1e-7)
    return float(-(fits * np.log(chances) + (1 - fits) * np.log(1 - chances)).mean())


def _logistic_regression(
    features: NDArray[np.float64], fits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights of the most likely logistic model for probabilities as labels, by Newton's method."""
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
    config: RelevanceTraining, encoder: Encoder, quality: dict[str, Quality]
) -> dict[str, Any]:
    return {
        "data": f"{config.dataset.name}: half of val's photos, and {config.distractors} of train's "
        "that nothing asks for",
        "recipe": f"mmsearch train relevance --encoder {encoder.space.encoder} --distractors "
        f"{config.distractors} --outside {config.outside} --searches {config.searches} "
        f"--seed {config.seed}",
        "labels": "A caption's own photo fits; others by the likeness of their captions with the "
        "query (MiniLM), which 85 pairs judged by hand turned into probabilities.",
        "quality": {
            kind: {name: value for name, value in asdict(one).items() if name in _SHOWN}
            for kind, one in quality.items()
        },
        "limits": list(LIMITS),
    }


_SHOWN = ("hits", "searches", "brier", "base", "ece")


def _digest(texts: Sequence[str]) -> str:
    lines = (text.replace("\\", "\\\\").replace("\n", "\\n") for text in texts)
    return xxhash.xxh3_128_hexdigest("\n".join(lines).encode())
