"""Describe pictures and answer questions about them with a model that the user has named."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from retrieval import machine
from retrieval.encoders.registry import resolve_device
from retrieval.errors import (
    EncoderUnavailableError,
    UnreadableFileError,
    UsageError,
    first_line,
    left_out_packages_explained,
)
from retrieval.media.images import LEAST_SIDE
from retrieval.recognition.base import Recognized, Segment, Task
from retrieval.recognition.captions import checkpoint
from retrieval.recognition.captions.checkpoint import Family

DEFAULT_NEW_TOKENS = 64
MOST_NEW_TOKENS = 512
"""Tokens of a text."""
MAX_QUESTION_LENGTH = 2_000
"""Characters of a question or a prompt."""

MOST_PIXELS = 1 << 20
"""A larger picture is made smaller first: Qwen2-VL makes one token of 28 x 28 pixels, and of this
1,337. Models with a fixed input size, such as BLIP with 384 x 384, lose nothing."""

_Value = TypeVar("_Value")

_MOST_OF_NAME = 120
_LEAST_SIDE = 32
_MOST_RATIO = 50
"""Of the sides; processors refuse longer strips (Qwen2-VL beyond 200)."""

_SETTINGS_VERSION = 1
"""Raised when beams, prompts or sizes change, and so do captions."""


class Captioner:
    """An image-to-text model of `transformers`: BLIP, ViT with GPT-2, or one with a chat template.

    `name` is a repository of the model hub or a folder in the layout of `save_pretrained`, with the
    processor's files; weights are read from safetensors files only, and no code of the checkpoint
    is run. The local cache of the hub is used before the network. Texts are deterministic. On a CPU
    the model runs in float32 if that takes at most half of the memory, else as it is stored.

    Methods may be called from several threads, which wait for one another.

    Args:
        name: Name or folder of the checkpoint.
        device: `cpu`, `cuda` or `auto`.

    Raises:
        UsageError: A name that is neither a folder nor a hub repository.
        EncoderUnavailableError: The model cannot be had, or is of a kind that is not supported.
    """

    task = Task.CAPTION

    least_side = LEAST_SIDE

    def __init__(self, name: str, *, device: str = "auto") -> None:
        with left_out_packages_explained(f"The image-to-text model {name!r}"):
            from retrieval.recognition.captions.models import load_model
        self.name = checkpoint.absolute_name(name)
        folder = checkpoint.find_checkpoint(self.name)
        where = resolve_device(device)
        try:
            family = checkpoint.family_of(folder)
            as_float32 = where == "cpu" and _fits_as_float32(checkpoint.weight_bytes(folder))
            self._model = load_model(folder, family, where, as_float32=as_float32)
        except Exception as error:  # each library underneath has errors of its own
            raise EncoderUnavailableError(
                f"The image-to-text model {self.name} cannot be loaded: "
                f"{first_line(error)}. Supported are checkpoints of {_families()}."
            ) from error
        digest = checkpoint.digest(folder)
        # Clients of a service read it: where a folder lies is none of their business.
        label = Path(self.name).name if Path(self.name).is_absolute() else self.name
        self.identity = f"{label[-_MOST_OF_NAME:]} {digest}/{_SETTINGS_VERSION}"
        self.batch_size = self._model.batch_size
        self.writes_captions = self._model.writes_captions
        self.answers_questions = self._model.answers_questions
        self._lock = threading.Lock()

    def caption(
        self,
        images: Iterable[Image.Image],
        prompt: str | None = None,
        *,
        new_tokens: int = DEFAULT_NEW_TOKENS,
    ) -> list[str]:
        """Describe pictures, a batch at a time.

        Args:
            images: Upright RGB images.
            prompt: What to write, for models with a chat template; how each caption begins, for
                BLIP; ViT with GPT-2 has none.
            new_tokens: Maximum length of a text.

        Returns:
            One text for each picture, on one line; empty where the model wrote nothing.

        Raises:
            UsageError: The model only answers questions, or an option is out of range.
            UnreadableFileError: The model failed on a picture.
        """
        self.require_captions()
        if prompt is not None:
            _require_question(prompt, "prompt")
        _require_length(new_tokens)
        texts: list[str] = []
        for batch in _batches(images, self.batch_size):
            texts += self._written(
                lambda fitted: self._model.captions(fitted, prompt, new_tokens), batch
            )
        return texts

    def recognize(self, images: Sequence[Image.Image]) -> list[Recognized]:
        """Write a caption for each picture; the failure of one is told in its place."""
        return [
            Recognized(failure=str(text))
            if isinstance(text, UnreadableFileError)
            else Recognized((Segment(text),) if text else ())
            for text in texts_of(images, self.caption)
        ]

    def answer(
        self,
        image: Image.Image,
        question: str,
        *,
        new_tokens: int = DEFAULT_NEW_TOKENS,
    ) -> str:
        """Answer a question about one upright RGB picture; raises as `answers`."""
        return self.answers([image], [question], new_tokens=new_tokens)[0]

    def answers(
        self,
        images: Iterable[Image.Image],
        questions: Iterable[str],
        *,
        new_tokens: int = DEFAULT_NEW_TOKENS,
        briefly: bool = False,
    ) -> list[str]:
        """Answer one question about each of some pictures, a batch at a time.

        Args:
            images: Upright RGB images.
            questions: As many questions.
            new_tokens: Maximum length of an answer.
            briefly: Ask for a word or a phrase, as benchmarks do; BLIP always answers so.

        Returns:
            One answer for each picture, on one line.

        Raises:
            UsageError: The model only writes captions, or a question is empty or too long.
            UnreadableFileError: The model failed on a picture.
        """
        self.require_answers()
        _require_length(new_tokens)
        texts: list[str] = []
        for batch in _batches(zip(images, questions, strict=True), self.batch_size):
            pictures, asked = zip(*batch, strict=True)
            for question in asked:
                _require_question(question, "question")

            def written(fitted: Sequence[Image.Image], asked: Sequence[str] = asked) -> list[str]:
                return self._model.answers(fitted, asked, new_tokens, briefly=briefly)

            texts += self._written(written, pictures)
        return texts

    def require_captions(self) -> None:
        """Raise UsageError if the model writes no captions."""
        if not self.writes_captions:
            raise UsageError(
                f"{self.name} answers questions but writes no captions. Name a model that does, "
                f"such as {checkpoint.EXAMPLE}."
            )

    def require_answers(self) -> None:
        """Raise UsageError if the model answers no questions."""
        if not self.answers_questions:
            raise UsageError(
                f"{self.name} writes captions but answers no questions. Name a model that does, "
                "such as Salesforce/blip-vqa-base or Qwen/Qwen2-VL-2B-Instruct."
            )

    def _written(
        self, write: Callable[[Sequence[Image.Image]], list[str]], images: Sequence[Image.Image]
    ) -> list[str]:
        with self._lock:
            try:
                texts = write([fitted(image) for image in images])
            except Exception as error:  # of processors and networks, on what they cannot take
                raise UnreadableFileError(
                    f"the image-to-text model failed: {first_line(error)}"
                ) from error
        return [" ".join(text.split()) for text in texts]


def texts_of(
    images: Sequence[Image.Image], write: Callable[[Sequence[Image.Image]], list[str]]
) -> list[str | UnreadableFileError]:
    """Write texts of a batch; if that fails, of one image at a time, with the error of each."""
    if not images:
        return []
    try:
        return list(write(images))
    except UnreadableFileError as error:
        if len(images) == 1:
            return [error]
    return [result for image in images for result in texts_of([image], write)]


def fitted(image: Image.Image) -> Image.Image:
    """Bring an RGB image to a size that image processors take; the longest strips are stretched."""
    width, height = image.size
    least = max(_LEAST_SIDE, -(-max(width, height) // _MOST_RATIO))
    if max(width, height) > _MOST_RATIO * min(width, height):
        width, height = max(width, least), max(height, least)
    scale = max(1.0, _LEAST_SIDE / min(width, height))
    if width * height > MOST_PIXELS:
        scale = (MOST_PIXELS / (width * height)) ** 0.5
    size = (int(width * scale), int(height * scale))
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)


def _batches(values: Iterable[_Value], size: int) -> Iterator[list[_Value]]:
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch


def _fits_as_float32(stored_bytes: int) -> bool:
    # Weights may be stored in 16 bits.
    memory: Any = machine.memory_bytes()
    return memory is None or 4 * stored_bytes <= memory


def _families() -> str:
    *most, last = Family
    return f"{', '.join(most)} and {last}"


def _require_question(text: str, what: str) -> None:
    if not text.strip():
        raise UsageError(f"The {what} is empty.")
    if len(text) > MAX_QUESTION_LENGTH:
        raise UsageError(
            f"The {what} has {len(text):,} characters; at most {MAX_QUESTION_LENGTH:,} are taken."
        )


def _require_length(new_tokens: int) -> None:
    if not 1 <= new_tokens <= MOST_NEW_TOKENS:
        raise UsageError(f"A text has from 1 to {MOST_NEW_TOKENS} tokens, not {new_tokens}.")
