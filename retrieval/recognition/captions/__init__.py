"""Captions of pictures and answers about them, by image-to-text models of `transformers`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrieval.recognition.base import PictureRecognizer


def load_recognizer(name: str) -> "PictureRecognizer":
    """Load the model that writes captions of the pictures of a library.

    Raises UsageError for an unknown name and a model that only answers questions,
    EncoderUnavailableError where the model cannot be had. name: repository of the model hub, or
    folder.
    """
    from retrieval.recognition.captions.captioner import Captioner

    captioner = Captioner(name)
    captioner.require_captions()
    return captioner
