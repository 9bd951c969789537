"""Spaces of vectors that were made elsewhere: no encoder here knows how."""

import re
from typing import NoReturn

from PIL import Image

from retrieval.encoders.base import Encoder, Inputs, Pixels, Space, Vectors
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.files import GIVEN
from retrieval.media import Modality

_NAME = re.compile(r"[\w.-]{1,40}")


def given_space(name: str, dimension: int) -> Space:
    """Return the space of vectors that somebody adds under a name.

    Raises UsageError for a name that is not one to forty letters, digits, `_`, `.` and `-`.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a space of your own vectors: take up to 40 letters, "
            "digits, '_', '.' and '-'."
        )
    return Space(f"{GIVEN}{name}/{dimension}", "given", "given as vectors", dimension)


def name_of_given(space: Space) -> str:
    """Return the name of a space of added vectors."""
    return space.encoder.removeprefix(GIVEN).rpartition("/")[0]


class GivenVectors:
    """The encoder of a space of added vectors, which encodes nothing: it satisfies `base.Encoder`.

    Such a space is asked for what is near to a vector or to an item.
    """

    modalities: frozenset[Modality] = frozenset()
    context_length = 0
    input_side = 1

    def __init__(self, space: Space) -> None:
        self.space = space

    def preprocess(self, image: Image.Image) -> Pixels:
        """Raise UsageError."""
        self._refuse(Modality.IMAGE)

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        """Raise UsageError."""
        self._refuse(modality)

    def token_count(self, text: str) -> int:
        """Return 0."""
        return 0

    def _refuse(self, modality: Modality) -> NoReturn:
        raise no_encoder(self.space, modality)


def no_encoder(space: Space, modality: Modality) -> UsageError:
    """Say that nothing can be encoded in a space of added vectors."""
    return UsageError(
        f"The space {space.id} holds vectors that were added, and no encoder for a new {modality}. "
        "Search it by a vector or by an item (`like`), or search another space."
    )


def load_given(name: str, _device: str, _weights: str | None) -> Encoder:
    """Return the encoder of a space of added vectors by its name, `vectors:NAME/DIMENSION`."""
    own_name, _, dimension = name.removeprefix(GIVEN).rpartition("/")
    if not own_name or not dimension.isascii() or not dimension.isdigit():
        raise EncoderUnavailableError(
            f"{name!r} does not name a space of added vectors: it is {GIVEN}NAME/DIMENSION."
        )
    return GivenVectors(given_space(own_name, int(dimension)))
