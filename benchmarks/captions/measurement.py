"""Let a model describe the images of a dataset, or answer questions, and score what it writes."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from PIL import Image

from benchmarks.captions.scores import score_captions, score_people
from benchmarks.captions.vqa import Question, accuracy
from benchmarks.datasets import RetrievalDataset
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.images import LEAST_SIDE, read_image
from retrieval.recognition.captions.captioner import Captioner, texts_of

_IMAGES_AT_ONCE = 8

_T = TypeVar("_T")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CaptionResult:
    """Scores of captions, and the captions by image.

    model: its name, or `people`. failed: images that could not be read or described, whose caption
    is empty. seconds: of the model, images read included; 0 for people.
    """

    model: str
    identity: str | None
    tokenizer: str
    scores: dict[str, float]
    images: int
    failed: int
    seconds: float
    captions: dict[str, str]


@dataclass(frozen=True)
class AnswerResult:
    """Accuracy of answers, 0 to 1, and each answer with its own; failed ones are empty."""

    model: str
    identity: str
    accuracy: float
    failed: int
    seconds: float
    answers: list[tuple[Question, str, float]]


def references_of(dataset: RetrievalDataset) -> dict[str, list[str]]:
    """Return the texts of people for each image that has any.

    Raises UsageError if the dataset has no images with texts.
    """
    references: dict[str, list[str]] = {}
    for text, image in dataset.captions:
        references.setdefault(image, []).append(dataset.texts[text])
    if not references:
        raise UsageError("The dataset has no images with captions.")
    return references


def measure_captions(
    dataset: RetrievalDataset,
    captioner: Captioner,
    tokenizer: str = "13a",
    on_progress: Progress = lambda *_: None,
) -> CaptionResult:
    """Describe each image that people have described, and score that against their texts."""
    captioner.require_captions()
    references = references_of(dataset)
    started = time.perf_counter()
    captions: dict[str, str] = {}
    failed = 0
    names = list(references)
    for batch in _batches(names):
        texts = _written([dataset.images[name] for name in batch], captioner.caption)
        failed += texts.count(None)
        captions |= {name: text or "" for name, text in zip(batch, texts, strict=True)}
        on_progress("images", len(captions), len(names))
    seconds = time.perf_counter() - started
    scores = score_captions(captions, references, tokenizer)
    return CaptionResult(
        captioner.name,
        captioner.identity,
        tokenizer,
        scores,
        len(captions),
        failed,
        seconds,
        captions,
    )


def measure_people(dataset: RetrievalDataset, tokenizer: str = "13a") -> CaptionResult:
    """Score one text of each image against the others: what people reach by this measure."""
    references = references_of(dataset)
    scores = score_people(references, tokenizer)
    return CaptionResult("people", None, tokenizer, scores, len(references), 0, 0.0, {})


def measure_answers(
    questions: Sequence[Question], captioner: Captioner, on_progress: Progress = lambda *_: None
) -> AnswerResult:
    """Answer questions in a word or a phrase, and compare with the answers of people.

    Raises UsageError if there are no questions, or the model answers none.
    """
    captioner.require_answers()
    if not questions:
        raise UsageError("There are no questions.")
    started = time.perf_counter()
    answers: list[tuple[Question, str, float]] = []
    failed = 0
    for question in questions:

        def write(images: Sequence[Image.Image], asked: str = question.text) -> list[str]:
            return captioner.answers(images, [asked] * len(images), briefly=True)

        [text] = _written([question.image], write)
        failed += text is None
        answers.append((question, text or "", accuracy(text or "", question.answers)))
        on_progress("questions", len(answers), len(questions))
    mean = sum(value for *_, value in answers) / len(answers)
    seconds = time.perf_counter() - started
    return AnswerResult(captioner.name, captioner.identity, mean, failed, seconds, answers)


def _written(
    files: Sequence[Path], write: Callable[[Sequence[Image.Image]], list[str]]
) -> list[str | None]:
    """Write a text for each file; None where it cannot be read or the model failed."""
    images: dict[int, Image.Image] = {}
    for place, file in enumerate(files):
        try:
            images[place] = read_image(file, least_side=LEAST_SIDE)
        except (OSError, UnreadableFileError):
            continue
    texts: list[str | None] = [None] * len(files)
    for place, text in zip(images, texts_of(list(images.values()), write), strict=True):
        texts[place] = text if isinstance(text, str) else None
    return texts


def _batches(values: Iterable[_T]) -> Iterable[list[_T]]:
    remaining = iter(values)
    while batch := list(islice(remaining, _IMAGES_AT_ONCE)):
        yield batch
