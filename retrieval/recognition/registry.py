"""Which module loads the recogniser of a task. Models are named `NAME` or by a directory."""

from contextlib import nullcontext
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


def load_recognizer(task: Task, name: str, may_download: bool = False) -> Recognizer:
    """Load the model of a task; imports the package that it needs. Raises MMSearchError.

    may_download: fetch it from the hub if it is not on this machine; only for a name that the user
    has given, not for one that a library says.
    """
    module: Any = import_module(LOADERS[task])
    # Without the package no loader can download anything.
    can_download = find_spec("huggingface_hub") is not None
    with nullcontext() if may_download or not can_download else hub.offline():
        recognizer: PictureRecognizer | SpeechRecognizer = module.load_recognizer(name)
    return recognizer


def can_find_text_in_pictures() -> bool:
    """Return whether the packages that find text in pictures are installed."""
    return all(find_spec(name) is not None for name in ("rapidocr", "onnxruntime"))
