"""What every dual encoder offers: the protocol, its vector space, its token-level outputs."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from types import FunctionType
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.errors import UsageError
from retrieval.files import GIVEN
from retrieval.media import Modality, SoundInput

Vectors = NDArray[np.float32]
"""(n, d) float32, rows of unit L2 norm."""

Pixels = NDArray[Any]
"""What `Encoder.preprocess` returns: one image, of one fixed shape and dtype per encoder."""

Inputs = NDArray[Any] | Sequence[Any]
"""n inputs of one modality: preprocessed images, stacked (n, ...) or one by one; or strings."""


REDUCED_TO_SIDES = 2
"""Pictures are read no smaller than this many sides of the network's input.

Larger ones may be made smaller by whole factors when they are decoded, which is several times
faster for photos of 12 megapixels; their vectors of `starter` have a cosine of at least 0.997, and
of 0.999 in the median, with those of the whole photos. An encoder may have another number, which
its space then says, as its attribute `reduced_to_sides`.
"""


def reduction(sides: int = REDUCED_TO_SIDES) -> str:
    """Say how pictures are reduced, for the description of a space's preprocessing."""
    least = f"{sides} side" if sides == 1 else f"{sides} sides"
    return f"larger pictures reduced by whole factors, to no less than {least}"


REDUCTION = reduction()

_MOST_DIMENSIONS = 1 << 16


@dataclass(frozen=True)
class Space:
    """The identity of a vector space: vectors of two different spaces never meet.

    `weights` is a checksum ("sha256:...") over everything that was learned; `preprocessing`
    names, in words, each step from a decoded image or a text to the network's input.
    """

    encoder: str
    weights: str
    preprocessing: str
    dimension: int
    normalization: str = "l2"

    def __post_init__(self) -> None:
        if not 0 < self.dimension <= _MOST_DIMENSIONS:
            raise ValueError(f"A space cannot have {self.dimension} dimensions.")

    @property
    def is_given(self) -> bool:
        """Return whether its vectors were added, so that nothing here can encode in it."""
        return self.encoder.startswith(GIVEN)

    @cached_property
    def id(self) -> str:
        """Return a directory name: the readable encoder and a digest of all fields."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.encoder).strip("-").lower()[:40]
        digest = hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:12]
        return f"{slug}-{digest}"


@dataclass(frozen=True)
class Tokens:
    """Token-level outputs of one tower for a batch.

    values: (n, t, c) float32, or float16 as they were kept; mask: (n, t) bool, True where a token
    is present. Values under a False mask are zero.
    """

    values: NDArray[Any]
    mask: NDArray[np.bool_]

    @classmethod
    def all_present(cls, values: NDArray[Any]) -> "Tokens":
        """Make those of a batch without padding."""
        return cls(values, np.ones(values.shape[:2], np.bool_))

    @classmethod
    def padded(cls, values: NDArray[Any], lengths: NDArray[np.integer[Any]]) -> "Tokens":
        """Make those of a batch of which only the first `lengths`, (n,), are present."""
        mask = np.arange(values.shape[1])[np.newaxis] < lengths[:, np.newaxis]
        return cls(values * mask[..., np.newaxis], mask)


@runtime_checkable
class Encoder(Protocol):
    """Maps inputs of its modalities into one vector space.

    `preprocess` may be called from several threads at once; the other methods are called from
    one thread at a time. Empty input gives empty output of the right width.

    One that takes sound has an attribute `sound_input`, a `retrieval.media.SoundInput`.

    Where `preprocess` is a function of a module (`preprocess = staticmethod(resize)`), it is called
    in the processes that read files, so that no whole pictures are passed between processes. Its
    module should import little. An encoder may also have `reduced_to_sides`.
    """

    space: Space

    @property
    def modalities(self) -> frozenset[Modality]:
        """List the modalities that `encode` takes."""
        ...

    @property
    def context_length(self) -> int:
        """Longest text, in tokens with the special ones; longer texts are truncated."""
        ...

    @property
    def input_side(self) -> int:
        """Shorter side of the network's input, in pixels."""
        ...

    def preprocess(self, image: Image.Image) -> Pixels:
        """Turn one upright RGB image of any size into the network's input."""
        ...

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        """Encode n inputs of one modality, (n, d) float32 of unit L2 norm.

        Images are given as `preprocess` returns them, texts as strings, sound as windows of samples
        of at most the length of `sound_input`, (m,) float32, not empty. Raises UsageError for a
        modality not in `modalities`.
        """
        ...

    def token_count(self, text: str) -> int:
        """Tokens of a text with the special ones, before truncation."""
        ...


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that also gives the outputs of its towers, for rerankers and explanations."""

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Spatial outputs of the image tower, one token a position of its map."""
        ...

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Outputs of the text tower, one a token."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's `text_tokens` in it; (0, 0) for special tokens."""
        ...

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that `preprocess` keeps: left, top, right, bottom (px)."""
        ...


class ImageTextEncoder(ABC):
    """Base of encoders of images and texts, which satisfies `Encoder`."""

    modalities = frozenset({Modality.IMAGE, Modality.TEXT})
    space: Space
    context_length: int
    input_side: int

    @abstractmethod
    def preprocess(self, image: Image.Image) -> Pixels:
        """As of `Encoder`."""

    @abstractmethod
    def token_count(self, text: str) -> int:
        """As of `Encoder`."""

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        """Encode n images, as `preprocess` returns them, or n strings -> (n, d), unit L2 norm."""
        match modality:
            case Modality.IMAGE:
                return self._encode_images(np.asarray(inputs))
            case Modality.TEXT:
                return self._encode_texts(cast("Sequence[str]", inputs))
            case _:
                raise cannot_encode(self, modality)

    @abstractmethod
    def _encode_images(self, pixels: Pixels) -> Vectors: ...

    @abstractmethod
    def _encode_texts(self, texts: Sequence[str]) -> Vectors: ...


def least_side(encoder: Encoder) -> int:
    """Return the pixels that both sides of a picture keep when it is reduced for an encoder."""
    sides: int = getattr(encoder, "reduced_to_sides", REDUCED_TO_SIDES)
    return sides * encoder.input_side


def sound_input(encoder: Encoder) -> SoundInput | None:
    """Return what an encoder hears at once; None: it takes no sound."""
    if Modality.AUDIO not in encoder.modalities:
        return None
    heard: SoundInput | None = getattr(encoder, "sound_input", None)
    return heard


def importable_preprocess(encoder: Encoder) -> Callable[[Image.Image], Pixels] | None:
    """Return `preprocess` if other processes can import it by its name; None: they cannot."""
    preprocess = encoder.preprocess
    is_importable = (
        isinstance(preprocess, FunctionType)
        and preprocess.__module__ != "__main__"
        and "<" not in preprocess.__qualname__  # of a function's own functions, and lambdas
    )
    return preprocess if is_importable else None


def require_tokens(encoder: Encoder) -> TokenEncoder:
    """Narrow an encoder to one with token-level outputs; raises UsageError where it has none."""
    if not isinstance(encoder, TokenEncoder):
        raise UsageError(
            f"The encoder {encoder.space.encoder!r} gives vectors only, and no tokens of images "
            "and texts. Use `--rerank none` or `--rerank blip-itm`, or another encoder."
        )
    return encoder


def cannot_encode(encoder: Encoder, modality: Modality) -> UsageError:
    """Say that an encoder does not take a modality."""
    return UsageError(
        f"The encoder {encoder.space.encoder!r} takes {' and '.join(sorted(encoder.modalities))}, "
        f"not {modality}. Use one that does; `mmsearch encoders` lists what can be used here."
    )
