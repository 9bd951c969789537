"""Calibrate relevance: fit the probability that a hit is relevant to its score.

The shipped calibrations were made by `train_relevance` on Flickr8k with its defaults. Searches are
simulated on photos of `val`, since encoders are trained on `train`, with photos of `train` as
distractors; the vocabulary is that of `train`. Words and phrases are searched on all photos of
`val`, and on no others: of photos that an encoder was trained on, it finds far more. Half of all
texts, and of the photos that captions are of, is for training, the other half for measuring
(`is_held_out`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.encoders.base import Encoder
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.indices.tuning_queries import bundled_texts
from retrieval.media import Modality
from retrieval.media.images import read_image
from retrieval.search.relevance import (
    FEATURES,
    OF_SCALE,
    AnyCalibration,
    Calibration,
    CalibrationFile,
)
from retrieval.search.vocabulary import Vocabulary, Word, stems_in
from retrieval.training.captions import CaptionedPhoto, digest_of_photos, read_captioned_photos
from retrieval.training.class_names import class_names
from retrieval.training.feature_folder import FeatureFolder, Progress
from retrieval.training.fitting import (
    FUNCTION_WORDS,
    LANGUAGE,
    UNRELATED_BELOW,
    Floats,
    Gallery,
    caption_similarity,
    named_pairs,
    named_things,
)
from retrieval.training.simulated_libraries import (
    HITS,
    Kind,
    SimulatedQuery,
    SimulatedSearch,
    caption_queries,
    image_queries,
    outside_queries,
    simulate_searches,
    word_queries,
)

REFERENCE_ROWS = 16.0
"""How many rows of a library count as much as the usual cohort."""

BINS = 10
UNKNOWN_SHARE = 0.05
"""Share of searches whose words are taken for unknown, though the vocabulary has them."""

_STEPS = 200
_RIDGE = 3e-5
_FEWEST_SHOWN = 5
"""Photos that must show a word before it is asked, or has a threshold."""

_FEWEST_NAMED = 3
"""Photos of which a caption must name a word, to be of the vocabulary."""

_LEAST_RISE = 0.01
"""By how much relevance must rise from the last hit of a search to the first, on average."""

_LARGE_LIBRARY = 200
_PHOTO_BATCH = 32
_TEXT_BATCH = 64

LIMITS = (
    "Labels are captions and their similarity, not people's judgements of hits.",
    "The similarity is MiniLM's, which is starter's text tower, too.",
    "Libraries of up to two thousand photos of people, dogs, sports and landscapes; English. What "
    "words of the vocabulary show, and how often, is that of such photos.",
    "Of words that few photos show, both the captions and the relevances are unsure.",
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
    """Calibrations and their quality on the held-out half.

    quality: by kind of query, and of text queries by what was asked: `caption`, `word`, `phrase`
    or what no photo shows, `outside`.
    """

    calibrations: CalibrationFile
    quality: Mapping[str, Quality]
    generic_quality: Mapping[str, Quality]


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
    dataset = _Dataset.embed(config, encoder, on_progress)
    vocabulary = build_vocabulary(
        dataset.train,
        dataset.train_vectors,
        lambda texts: text_vectors(texts, encoder, config.cache, on_progress),
    )
    learned = _simulate(config, encoder, dataset, held_out=False, on_progress=on_progress)
    measured = _simulate(config, encoder, dataset, held_out=True, on_progress=on_progress)
    fitted = {
        kind: fit_calibration(
            searches,
            vocabulary=vocabulary if kind is Modality.TEXT else None,
            seed=config.seed,
        )
        for kind, searches in learned.items()
    }
    plain = {
        kind: fit_calibration(searches, of_scale=False, seed=config.seed)
        for kind, searches in learned.items()
    }
    quality = _qualities(fitted, measured)
    generic_quality = _qualities(plain, measured)
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


def _qualities(
    calibrations: Mapping[Modality, Calibration],
    measured: Mapping[Modality, Sequence[SimulatedSearch]],
) -> dict[str, Quality]:
    quality = {str(kind): measure(calibrations[kind], measured[kind]) for kind in measured}
    by_text: dict[str, list[SimulatedSearch]] = {}
    for search in measured[Modality.TEXT]:
        by_text.setdefault(search.query.kind, []).append(search)
    for kind, searches in sorted(by_text.items()):
        quality[kind] = measure(calibrations[Modality.TEXT], searches)
    return quality


def fit_calibration(
    searches: Sequence[SimulatedSearch],
    *,
    vocabulary: Vocabulary | None = None,
    of_scale: bool = True,
    seed: int = 0,
) -> Calibration:
    """Fit the parameters of curves to the hits of searches, with probabilities as labels.

    Args:
        searches: simulated searches.
        vocabulary: what is known of words; in some searches it is taken to know none.
        of_scale: whether the scale of the scores may be used; a calibration for other encoders
            cannot.
        seed: of the searches without known words.

    Raises:
        UsageError: relevance does not rise with similarity.
    """
    names = [name for name in FEATURES if of_scale or name not in OF_SCALE]
    start = Calibration({}, {}, {}, _usual_cohort(searches, of_scale), REFERENCE_ROWS)
    random = np.random.default_rng(seed)
    rows, hits = [], []
    for place, search in enumerate(searches):
        known = vocabulary
        if vocabulary and random.random() < UNKNOWN_SHARE:
            known = replace(vocabulary, words={})
        one = replace(start, vocabulary=known)
        features, location, scale = one.features(search.cohort, search.query.text_asked)
        rows.append(features)
        similarity = search.similarity.astype(np.float64)
        spreads = np.clip((similarity - location) / scale, -50, 50) if scale > 0 else 0 * similarity
        told = ~np.isnan(search.fits)
        above = similarity - features[FEATURES.index("threshold")]
        columns = (np.full(len(spreads), place), spreads, above, search.fits)
        hits.append(np.stack(columns)[:, told])
    table = np.stack(rows)[:, [FEATURES.index(name) for name in names]]
    weights = _fit_curves(table, np.concatenate(hits, axis=1), of_scale)
    offset, spread, cosine = (dict(zip(names, each, strict=True)) for each in weights.tolist())
    if not np.isfinite(weights).all():
        raise UsageError("The fitted relevances are not numbers.")
    fitted = Calibration(
        offset, spread, cosine if of_scale else {}, start.reference, REFERENCE_ROWS, vocabulary
    )
    rises = [np.ptp(fitted.curve(each.cohort)(each.similarity)) for each in searches]
    if not np.mean(rises) > _LEAST_RISE:
        raise UsageError("Relevance does not rise with similarity here: nothing can be learned.")
    return fitted


def build_vocabulary(
    photos: Sequence[CaptionedPhoto],
    photo_vectors: Floats,
    encode: Callable[[list[str]], Floats],
) -> Vocabulary:
    """Collect the words of captions, with what photos and scores say of them.

    photo_vectors: (n, d) float32, unit. encode: unit vectors of texts, (m, d) float32.
    """
    named = named_things(photos, leave_out=())
    kept = {
        stem: counts for stem, counts in named.counts.items() if (counts > 0).sum() >= _FEWEST_NAMED
    }
    asked = [stem for stem, counts in kept.items() if (counts > 1).sum() >= _FEWEST_SHOWN]
    vectors = encode([named.texts[stem] for stem in asked])
    known = {stem: Word(int((of_photos > 1).sum())) for stem, of_photos in kept.items()}
    for stem, vector in zip(asked, vectors, strict=True):
        threshold, f1 = best_threshold(photo_vectors @ vector, kept[stem])
        known[stem] = known[stem]._replace(threshold=round(threshold, 4), f1=float(f"{f1:.3g}"))
    # They tell no photos apart, however many captions have them.
    left_out = {stem for word in FUNCTION_WORDS for stem in stems_in(word, LANGUAGE)}
    for stem in left_out & known.keys():
        known[stem] = known[stem]._replace(photos=len(photos))
    return Vocabulary(
        language=LANGUAGE,
        photos=len(photos),
        words=known,
        line=_usual([(known[stem].photos, known[stem].threshold) for stem in asked], len(photos)),
        level_line=_usual([(known[stem].photos, known[stem].level) for stem in asked], len(photos)),
    )


def _usual(values: Sequence[tuple[int, float | None]], photo_count: int) -> tuple[float, float]:
    """Fit a line to values of words by the logarithms of the shares of photos that show them."""
    if len(values) < 2:
        return 0.0, 0.0
    counts, found = np.array(values, dtype=np.float64).T
    intercept, slope = np.polynomial.polynomial.polyfit(np.log(counts / photo_count), found, 1)
    return round(float(intercept), 4), round(float(slope), 4)


def best_threshold(similarity: Floats, counts: NDArray[np.int16]) -> tuple[float, float]:
    """Find the least similarity to show with the highest F1, and that F1.

    counts: (n,), how many captions of each photo name what was asked: two or more: it is right,
    one: it does not count.
    """
    told = counts != 1
    order = np.argsort(-similarity[told], kind="stable")
    right = counts[told][order] > 1
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(right) + 1) + right.sum())
    return float(similarity[told][order[f1.argmax()]]), float(f1.max())


def measure(calibration: AnyCalibration, searches: Sequence[SimulatedSearch]) -> Quality:
    """Compare relevances of the best hits with labels."""
    relevances, fits = _relevances(calibration, searches, first=HITS)
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
    *,
    vectors: Floats | None = None,
) -> Gallery:
    """Embed photos with the encoder and their captions with MiniLM, through the cache.

    Args:
        photos: the photos with captions.
        encoder: embeds the photos.
        cache: directory of the embedding cache.
        on_progress: called with stage, done and total.
        vectors: of the photos, where they are known.

    Raises:
        UsageError: a photo cannot be decoded.
    """
    captions = [caption for photo in photos for caption in photo.captions]
    return Gallery(
        photos,
        _photo_vectors(photos, encoder, cache, on_progress) if vectors is None else vectors,
        sentence_vectors(captions, cache, on_progress),
    )


def ask_texts(
    gallery: Gallery,
    asked: NDArray[np.int64],
    outside: Sequence[str],
    encoder: Encoder,
    cache: Path,
    on_progress: Progress = lambda *_: None,
    *,
    is_asked: Callable[[str], bool] = lambda _: True,
    searched: int | None = None,
) -> list[SimulatedQuery]:
    """Make the text queries of a gallery: captions, words, phrases and out-of-domain texts.

    Args:
        gallery: the photos.
        asked: (n,) int64, numbers of the captions to ask.
        outside: candidates of out-of-domain texts; those similar to a caption are dropped.
        encoder: embeds the texts.
        cache: directory of the embedding cache.
        on_progress: called with stage, done and total.
        is_asked: whether a word or phrase is one of the queries.
        searched: how many of the gallery's photos, the first ones, are searched for words and
            phrases; None: all.
    """
    captions = [caption for photo in gallery.photos for caption in photo.captions]
    named: dict[Kind, dict[str, Floats]] = {"word": {}, "phrase": {}}
    if gallery.tells_what_fits:
        photos = gallery.photos[:searched]
        named["word"] = named_things(photos).fits(_FEWEST_SHOWN)
        named["phrase"] = named_pairs(photos, _FEWEST_SHOWN).fits(_FEWEST_SHOWN)
    outside_vectors = sentence_vectors(outside, cache, on_progress)
    nearest = caption_similarity(outside_vectors, gallery).max(1, initial=0)
    absent = [text for text, most in zip(outside, nearest, strict=True) if most < UNRELATED_BELOW]
    things = [text for texts in named.values() for text in texts if is_asked(text)]
    texts = [*(captions[number] for number in asked), *things, *absent]
    vectors = text_vectors(texts, encoder, cache, on_progress)
    vector_of = dict(zip(things, vectors[len(asked) :], strict=False))
    queries = caption_queries(gallery, vectors[: len(asked)], asked)
    for kind, fits in named.items():
        wanted = {text: each for text, each in fits.items() if text in vector_of}
        queries += word_queries(wanted, [vector_of[text] for text in wanted], kind)
    return queries + outside_queries(
        absent, vectors[len(asked) + len(things) :], len(gallery.photos)
    )


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


@dataclass(frozen=True, eq=False)
class _Dataset:
    """Photos of both splits with their unit vectors, (n, d) float32."""

    val: list[CaptionedPhoto]
    val_vectors: Floats
    train: list[CaptionedPhoto]
    train_vectors: Floats

    @classmethod
    def embed(cls, config: RelevanceTraining, encoder: Encoder, on_progress: Progress) -> Self:
        """Read the splits, and embed their photos through the cache."""
        found: list[Any] = []
        for split in ("val", "train"):
            photos = read_captioned_photos(config.dataset, split)
            found += [photos, _photo_vectors(photos, encoder, config.cache, on_progress)]
        return cls(*found)


def _simulate(
    config: RelevanceTraining,
    encoder: Encoder,
    dataset: _Dataset,
    *,
    held_out: bool,
    on_progress: Progress,
) -> dict[Modality, list[SimulatedSearch]]:
    """Simulate searches of both kinds of queries over one half of the dataset."""

    def of_half(photos: Sequence[CaptionedPhoto]) -> list[int]:
        names = [photo.path.name for photo in photos]
        return [place for place, name in enumerate(names) if is_held_out(name) == held_out]

    asked, others = of_half(dataset.val), of_half(dataset.train)[: config.distractors]
    if len(asked) < 2:
        raise UsageError(f"The split val of {config.dataset} has too few photos to learn from.")
    photos = [*dataset.val, *(dataset.train[place] for place in others)]
    vectors = np.concatenate([dataset.val_vectors, dataset.train_vectors[others]])
    gallery = build_gallery(photos, encoder, config.cache, on_progress, vectors=vectors)
    captions = np.flatnonzero(np.isin(gallery.caption_owners, asked))
    outside = [text for text in outside_texts() if is_held_out(text) == held_out][: config.outside]
    texts = ask_texts(
        gallery,
        captions,
        outside,
        encoder,
        config.cache,
        on_progress,
        is_asked=lambda text: is_held_out(text) == held_out,
        searched=len(dataset.val),
    )
    images = image_queries(gallery, np.array(asked))
    seed = 2 * config.seed + held_out
    return {
        Modality.TEXT: simulate_searches(gallery, texts, config.searches, seed=seed),
        Modality.IMAGE: simulate_searches(gallery, images, config.searches, seed=seed),
    }


def _usual_cohort(searches: Sequence[SimulatedSearch], of_scale: bool) -> dict[str, float]:
    """Average the features of cohorts over the larger libraries, or over all if none is large."""
    large = [search for search in searches if search.rows >= _LARGE_LIBRARY] or searches
    names = ("upper", "tail", "top") + (("location", "scale") if of_scale else ())
    nothing = Calibration({}, {}, {}, dict.fromkeys(("upper", "tail", "top"), 0.0), 1e-9)
    found = np.mean([nothing.features(search.cohort, "")[0] for search in large], axis=0)
    return {name: float(found[FEATURES.index(name)]) for name in names}


def _relevances(
    calibration: AnyCalibration, searches: Sequence[SimulatedSearch], *, first: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute relevances of the first hits of searches, and their labels, where there are any."""
    relevances, fits = [], []
    for each in searches:
        told = (each.ranks < first) & ~np.isnan(each.fits)
        curve = calibration.curve(each.cohort, each.query.text_asked)
        relevances.append(curve(each.similarity[told]))
        fits.append(each.fits[told])
    return np.concatenate(relevances).astype(np.float64), np.concatenate(fits).astype(np.float64)


def _fit_curves(
    features: NDArray[np.float64], hits: NDArray[np.float64], of_scale: bool
) -> NDArray[np.float64]:
    """Fit weights, (3, f), of the parameters of curves, by L-BFGS (Liu & Nocedal 1989).

    features: (s, f), of each search. hits: (4, h): the search of each, by how many spreads it
    stands out, how far its cosine is above the threshold of the query, and its label.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, softplus

    mean, deviation = features.mean(0), features.std(0)
    one = FEATURES.index("one")
    mean[one] = 0.0
    deviation[deviation < 1e-9] = 1.0  # what never differs is 0 then, and has no weight
    scaled = torch.tensor((features - mean) / deviation, dtype=torch.float32)
    search = torch.tensor(hits[0].astype(np.int64))
    spreads, cosines, fits = torch.tensor(hits[1:], dtype=torch.float32)
    weights = torch.zeros(3, features.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Any:
        optimizer.zero_grad()
        offset, spread, cosine = (scaled @ weights.T).T[:, search]
        logits = offset + softplus(spread) * spreads
        if of_scale:
            logits = logits + softplus(cosine) * cosines
        found = binary_cross_entropy_with_logits(logits, fits) + _RIDGE * weights.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    fitted = weights.detach().double().numpy() / deviation
    fitted[:, one] -= fitted @ mean
    return np.asarray(fitted)


def _card(
    config: RelevanceTraining, encoder: Encoder, quality: Mapping[str, Quality]
) -> dict[str, Any]:
    return {
        "data": f"{config.dataset.name}: val's photos, and {config.distractors} of train's that no "
        "caption asks for; the words are of all of train's captions",
        "recipe": f"mmsearch train relevance --encoder {encoder.space.encoder} --distractors "
        f"{config.distractors} --outside {config.outside} --searches {config.searches} "
        f"--seed {config.seed}",
        "labels": "A word fits photos with two captions that have it; those with one do not count. "
        "A caption's own photo fits; others by the similarity of their captions with the query "
        "(MiniLM), which 85 pairs judged by hand turned into probabilities.",
        "libraries": "4 to all photos, for words and phrases of val. A tenth of them have lost all "
        "photos that fit, in a fifth any share of the photos fits.",
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
