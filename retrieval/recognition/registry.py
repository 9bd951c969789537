"""Which module loads the recogniser of a task. Models are named `NAME` or by a directory."""

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from retrieval.encoders import hub
from retrieval.recognition.base import PictureRecognizer, Recognizer, SpeechRecognizer, Task

LOADERS = {
    Task.OCR: "retrieval.recognition.ocr",
    Task.SPEECH: "retrieval.recognition.speech",
    Task.CAPTION: "retrieval.recognition.captions",
}
"""Modules with a function `load_recognizer(name) -> Recognizer`.

It raises MissingExtraError where a package is not installed, UsageError for a name that there is
not, and says what to do.
"""


def load_recognizer(task: Task, name: str) -> Recognizer:
    """Load the model of a task; imports the package that it needs. Raises MMSearchError."""
    module: Any = import_module(LOADERS[task])
    recognizer: PictureRecognizer | SpeechRecognizer = module.load_recognizer(name)
    return recognizer


def can_find_text_in_pictures() -> bool:
    """Return whether the packages that find text in pictures are installed."""
    return all(find_spec(name) is not None for name in ("rapidocr", "onnxruntime"))


def without_downloads() -> AbstractContextManager[None]:
    """Let no model be fetched: for names that a library says, and no user has just given."""
    # Without the package no loader can fetch anything.
    return hub.offline() if find_spec("huggingface_hub") else nullcontext()
