"""Which module loads the recogniser of a task. Models are named `NAME` or by a directory."""

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from retrieval.encoders import hub
from retrieval.encoders.trust import folder_of_model, require_trusted_model
from retrieval.errors import EncoderUnavailableError
from retrieval.recognition.base import (
    SIDECAR,
    PictureRecognizer,
    Recognizer,
    SpeechRecognizer,
    Task,
)

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


_PACKAGES = {
    Task.OCR: ("rapidocr", "onnxruntime"),
    Task.SPEECH: ("faster_whisper",),
    Task.CAPTION: ("transformers",),
}


def require_model(task: Task, name: str) -> None:
    """Check that the model of a library may be loaded and seems to be there, without loading it.

    Raises UsageError for a folder that is not trusted, EncoderUnavailableError for one that is gone
    and for packages that are not installed.
    """
    require_trusted_model(name)
    folder, _ = folder_of_model(name)
    if folder is None and Path(name).is_absolute():
        raise EncoderUnavailableError(f"There is no model in {name} any more.")
    missing = [package for package in _PACKAGES[task] if find_spec(package) is None]
    if missing and name.partition("@")[0] != SIDECAR:
        raise EncoderUnavailableError(f"{name} needs the package {missing[0]}.")


def can_find_text_in_pictures() -> bool:
    """Return whether the packages that find text in pictures are installed."""
    return all(find_spec(name) is not None for name in _PACKAGES[Task.OCR])


def without_downloads() -> AbstractContextManager[None]:
    """Let no model be fetched: for names that a library says, and no user has just given."""
    # Without the package no loader can fetch anything.
    return hub.offline() if find_spec("huggingface_hub") else nullcontext()
