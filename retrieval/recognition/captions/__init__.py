"""Captions of pictures and answers about them, by image-to-text models of `transformers`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrieval.recognition.base import PictureRecognizer


def load_recognizer(name: str, *, is_of_user: bool = True) -> "PictureRecognizer":
    """Load the model that writes captions of the pictures of a library.

    Args:
        name: repository of the model hub, or folder.
        is_of_user: False for a name that a library tells: it may be a stranger's, so nothing is
            downloaded, and a folder must be one that the user has named before.

    Raises:
        UsageError: unknown name, or a model that only answers questions.
        EncoderUnavailableError: the model cannot be had, or may not be used.
    """
    from retrieval.recognition.captions.captioner import Captioner
    from retrieval.recognition.captions.checkpoint import require_usable

    require_usable(name, is_of_user=is_of_user)
    captioner = Captioner(name)
    captioner.require_captions()
    return captioner
