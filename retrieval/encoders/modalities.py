"""What the encoders take, by their names, and which kinds of files have something for them."""

from collections.abc import Iterable

from retrieval.files import GIVEN
from retrieval.media import MediaKind, Modality

CLAP = "clap:"
"""Begins the names of encoders of sound and text."""

ASSEMBLED = "assembled:"
"""Begins the names of encoders from two towers, which are to be trained."""

_PIECES = {
    MediaKind.IMAGE: {Modality.IMAGE},
    MediaKind.VIDEO: {Modality.IMAGE, Modality.AUDIO},
    MediaKind.AUDIO: {Modality.AUDIO},
    MediaKind.DOCUMENT: {Modality.IMAGE, Modality.TEXT},
    MediaKind.TEXT: {Modality.TEXT},
    MediaKind.TABLE: {Modality.TEXT},
}
"""What pieces the files of a kind have. Tables are read for what they say of other files, too."""


def modalities_of(encoder: str) -> frozenset[Modality]:
    """Return the modalities of an encoder by its name, without loading it.

    Added vectors can be of any.
    """
    if encoder.startswith(GIVEN):
        return frozenset(Modality)
    second = Modality.AUDIO if encoder.startswith(CLAP) else Modality.IMAGE
    return frozenset({Modality.TEXT, second})


def kinds_of(modalities: Iterable[Modality]) -> frozenset[MediaKind]:
    """Return the kinds of files that have pieces of some modalities."""
    taken = set(modalities)
    return frozenset(kind for kind, pieces in _PIECES.items() if pieces & taken)
