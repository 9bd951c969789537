"""What heads are trained on: photos, captions, words, sentences of classes, translations."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.encoders.registry import load_encoder
from retrieval.encoders.towers import CLASSES
from retrieval.errors import UsageError, require_at_least, require_share
from retrieval.training.captions import (
    CaptionedPhoto,
    digest_of_texts,
    read_captioned_photos,
    read_parallel,
)
from retrieval.training.class_names import class_names, class_sentences
from retrieval.training.feature_folder import Progress
from retrieval.training.features import (
    PhotoFeatures,
    SentenceFeatures,
    photo_features,
    photo_vectors,
    sentence_features,
    text_vectors,
)
from retrieval.training.state import TrainingConfig
from retrieval.training.words import CaptionWords, caption_words

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class HeadsTraining(TrainingConfig):
    """Settings of a training run.

    languages: the first is the main one, which the teacher knows; the second is drawn as often as
        all that follow together.
    cache: about 120 KB a photo and variant, 12 KB a caption.
    dropout, position_dropout: shares of the heads' inputs and of the image's positions left out.
    earlier_dropout: share of photos of which only the channels of the tower's last block are seen.
    words: words and phrases of the captions a step; 0 for none.
    class_photos: synthetic photos of classes a step; 0 for none.
    parallel: files of sentences in several languages, as for `read_parallel`.
    parallel_sentences: at most so many of each file, drawn at random.
    teacher: encoder whose similarities are imitated; "" for none.
    word_weight, class_weight, parallel_weight, teacher_weight: of their losses, captions having 1.
    start: heads of an earlier run to go on from.
    also_measure: second dataset whose `val` is measured after each epoch only.
    """

    warm_up_steps = 60
    most_gradient = 5.0
    local_names: ClassVar[frozenset[str]] = frozenset({"also_measure", "parallel", "start"})

    epochs: int = 18
    patience: int = 18
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    variants: int = 8
    averaging: float = 0.995
    dropout: float = 0.2
    position_dropout: float = 0.2
    earlier_dropout: float = 0.2
    words: int = 128
    class_photos: int = 128
    parallel: tuple[Path, ...] = ()
    parallel_sentences: int = 6000
    teacher: str = "starter:1"
    word_weight: float = 0.3
    class_weight: float = 0.5
    parallel_weight: float = 0.3
    teacher_weight: float = 0.5
    start: Path | None = None
    also_measure: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "words", "class_photos")
        require_at_least(self, 1, "parallel_sentences")
        require_share(self, "dropout", "position_dropout", "earlier_dropout")
        if self.class_photos > CLASSES:
            raise UsageError(f"class_photos must be at most {CLASSES}, the number of classes.")


@dataclass(frozen=True)
class Captions:
    """Captions of n photos in one or more languages.

    rows: (n, languages, 2) int64, the first row of the captions of a photo in a language, and the
    one after its last. features: of all rows.
    """

    texts: tuple[str, ...]
    rows: Rows
    features: SentenceFeatures

    @property
    def present(self) -> NDArray[np.bool_]:
        """Return whether a photo has captions in a language, (n, languages)."""
        return self.rows[..., 1] > self.rows[..., 0]

    def draw(self, photos: Rows, random: np.random.Generator) -> Rows:
        """Draw a caption for each of some photos, which all have one.

        The first language is drawn as often as all others that the photo has together.
        """
        weights = self.present[photos].astype(np.float64)
        weights[:, 0] *= np.maximum(1, weights[:, 1:].sum(1))
        ends = weights.cumsum(1)
        draws = random.random((2, len(photos)))
        language = (draws[:1].T * ends[:, -1:] >= ends).sum(1)
        first, end = self.rows[photos, language].T
        return np.asarray(first + (draws[1] * (end - first)).astype(np.int64))


@dataclass(frozen=True)
class ParallelSentences:
    """Sentences that mean the same; rows: (n, languages) int64, -1 where there is none."""

    rows: Rows
    features: SentenceFeatures

    def draw(self, count: int, random: np.random.Generator) -> tuple[Rows, Rows]:
        """Draw pairs in two languages each."""
        rows = self.rows[random.integers(0, len(self.rows), count)]
        order = np.argsort(np.where(rows < 0, 2.0, random.random(rows.shape)), axis=1)
        first, second = np.take_along_axis(rows, order[:, :2], axis=1).T
        return first, second


@dataclass(frozen=True)
class ClassSentences:
    """Sentences of the classes' names; class i has the rows `first[i]` to `first[i + 1]`."""

    first: Rows
    features: SentenceFeatures

    def draw(self, classes: Rows, random: np.random.Generator) -> Rows:
        """Draw a sentence for each class; the smaller of two draws favours the best known name."""
        counts = self.first[classes + 1] - self.first[classes]
        draws = np.minimum(random.integers(0, counts), random.integers(0, counts))
        return np.asarray(self.first[classes] + draws)


@dataclass(frozen=True)
class Teacher:
    """Unit vectors of another encoder, float16: of the photos, and of the main captions' rows."""

    photos: NDArray[np.float16]
    captions: NDArray[np.float16]

    def similarity(self, photos: Rows, captions: Rows) -> Tensor:
        """Compute the cosines of captions with photos, (captions, photos)."""
        texts = torch.from_numpy(self.captions[captions]).float()
        return texts @ torch.from_numpy(self.photos[photos]).float().T


@dataclass(frozen=True)
class Measured:
    """A split to measure on: its photos, and captions of each language that it has."""

    photos: PhotoFeatures
    captions: Mapping[str, Captions]


class HeadData:
    """All training data, as outputs of the frozen towers.

    main: captions in the first language. others: in all others; None: there is only one. usable:
    photos that have both. words, parallel, classes, teacher: None where they are not wanted.
    """

    def __init__(self, settings: HeadsTraining, on_progress: Progress) -> None:
        self._photos = partial(
            photo_features, cache=settings.cache, device=settings.device, on_progress=on_progress
        )
        self._texts = partial(
            sentence_features, cache=settings.cache, device=settings.device, on_progress=on_progress
        )
        main, *others = settings.languages
        photos = read_captioned_photos(
            settings.dataset, "train", settings.languages, settings.captions
        )
        self.photos = self._photos(photos, variants=settings.variants)
        self.main = self._captions(photos, [main])
        self.others = self._captions(photos, others) if others else None
        both = self.main.present.any(1)
        if self.others:
            both &= self.others.present.any(1)
        self.usable = np.flatnonzero(both)
        if not len(self.usable):
            raise UsageError(
                f"{settings.dataset} has no photo of split 'train' with captions in {main}"
                + (f" and in {' or '.join(others)}." if others else ".")
            )
        self.words: CaptionWords | None = None
        if settings.words:
            self.words = caption_words(
                {each: _in_language(photos, each) for each in settings.languages}
            )
            self.word_features = self._texts(self.words.texts)
        self.parallel = self._parallel(settings) if settings.parallel else None
        self.classes: ClassSentences | None = None
        if settings.class_photos:
            sentences = class_sentences()
            self.classes = ClassSentences(
                np.cumsum([0, *map(len, sentences)]),
                self._texts([text for of_class in sentences for text in of_class]),
            )
        self.teacher = None
        if settings.teacher:
            encoder = load_encoder(settings.teacher, settings.device)
            cache = settings.cache
            self.teacher = Teacher(
                photo_vectors(photos, encoder, cache=cache, on_progress=on_progress),
                text_vectors(self.main.texts, encoder, cache=cache, on_progress=on_progress),
            )
        self.validation = self._measured(settings.dataset, settings.languages, settings.captions)
        self.also = None
        if settings.also_measure:
            self.also = self._measured(settings.also_measure, settings.languages)

    def class_names(self) -> NDArray[np.float32]:
        """Compute the pooled features of the best known name of each class alone, (1000, 384)."""
        return self._texts([names[0] for names in class_names()]).pooled.astype(np.float32)

    def mean_sentence(self) -> NDArray[np.float32]:
        """Compute the mean of the pooled features of captions and parallel sentences, (384,)."""
        parts = [part for part in (self.main, self.others, self.parallel) if part]
        pooled = [np.asarray(part.features.pooled, np.float32) for part in parts]
        mean: NDArray[np.float32] = np.concatenate(pooled).mean(0)
        return mean

    def digest(self) -> str:
        """Compute a checksum of what no setting tells: the data."""
        texts = [*self.main.texts, *(self.others.texts if self.others else ())]
        digest = hashlib.sha256(digest_of_texts(texts).encode())
        digest.update(self.photos.pooled[0].tobytes())
        if self.parallel:
            digest.update(self.parallel.features.pooled.tobytes())
        return digest.hexdigest()

    def _captions(self, photos: Sequence[CaptionedPhoto], languages: Sequence[str]) -> Captions:
        texts: list[str] = []
        rows = np.empty((len(photos), len(languages), 2), np.int64)
        for number, photo in enumerate(photos):
            for place, language in enumerate(languages):
                rows[number, place, 0] = len(texts)
                texts += _of_language(photo, language)
                rows[number, place, 1] = len(texts)
        if not texts:
            raise UsageError(f"No photo has captions in: {', '.join(languages)}.")
        return Captions(tuple(texts), rows, self._texts(texts))

    def _parallel(self, settings: HeadsTraining) -> ParallelSentences:
        random = np.random.default_rng(settings.seed)
        texts: list[str] = []
        rows: list[list[int]] = []
        for file in settings.parallel:
            found = read_parallel(file, settings.languages)
            most = min(settings.parallel_sentences, len(found))
            for number in np.sort(random.permutation(len(found))[:most]):
                rows.append([-1] * len(settings.languages))
                for place, language in enumerate(settings.languages):
                    if text := found[number].get(language):
                        rows[-1][place] = len(texts)
                        texts.append(text)
        return ParallelSentences(np.array(rows), self._texts(texts))

    def _measured(
        self, dataset: Path, languages: Sequence[str], extra: Sequence[Path] = ()
    ) -> Measured:
        photos = read_captioned_photos(dataset, "val", languages, extra)
        spoken = {language for photo in photos for language in photo.languages}
        return Measured(
            self._photos(photos, variants=1),
            {each: self._captions(photos, [each]) for each in languages if each in spoken},
        )


def _in_language(photos: Sequence[CaptionedPhoto], language: str) -> list[list[str]]:
    return [_of_language(photo, language) for photo in photos]


def _of_language(photo: CaptionedPhoto, language: str) -> list[str]:
    pairs = zip(photo.captions, photo.languages, strict=True)
    return [text for text, own in pairs if own == language]
