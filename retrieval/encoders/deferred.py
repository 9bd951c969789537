"""An encoder that is loaded when it is first needed, for runs that may have nothing to encode."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from retrieval.encoders.base import (
    Encoder,
    Inputs,
    Pixels,
    Space,
    Tokens,
    Vectors,
    least_side,
    require_tokens,
    sound_input,
)
from retrieval.encoders.modalities import modalities_of
from retrieval.media import Modality, SoundInput

if TYPE_CHECKING:
    from retrieval.library import Library


class DeferredEncoder:
    """Satisfies `base.TokenEncoder`; of a space that is known, so that loading can wait.

    `load` gives the encoder of this space, and raises what it does when first needed.
    """

    def __init__(self, space: Space, load: Callable[[], Encoder]) -> None:
        self.space = space
        self._load = load
        self._loaded: Encoder | None = None
        self._lock = threading.Lock()

    @property
    def loaded(self) -> Encoder:
        """Return the encoder; loads it at the first call."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    @property
    def modalities(self) -> frozenset[Modality]:
        """As of the encoder, by its name."""
        return modalities_of(self.space.encoder)

    @property
    def sound_input(self) -> SoundInput | None:
        """As of the encoder; None: it takes no sound."""
        return sound_input(self.loaded)

    @property
    def context_length(self) -> int:
        """As of the encoder."""
        return self.loaded.context_length

    @property
    def input_side(self) -> int:
        """As of the encoder."""
        return self.loaded.input_side

    @property
    def reduced_to_sides(self) -> int:
        """As of the encoder."""
        return least_side(self.loaded) // self.loaded.input_side

    @property
    def preprocess(self) -> Callable[[Image.Image], Pixels]:
        """As of the encoder."""
        return self.loaded.preprocess

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        """As of the encoder."""
        return self.loaded.encode(modality, inputs)

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """As of the encoder."""
        return require_tokens(self.loaded).image_tokens(pixels)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """As of the encoder."""
        return require_tokens(self.loaded).text_tokens(texts)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """As of the encoder."""
        return require_tokens(self.loaded).token_spans(text)

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """As of the encoder."""
        return require_tokens(self.loaded).view(width, height)

    def token_count(self, text: str) -> int:
        """As of the encoder."""
        return self.loaded.token_count(text)


def deferred_encoder(library: "Library", space: Space, device: str = "auto") -> DeferredEncoder:
    """Return the encoder of a space of a library, which is loaded when it is first used."""
    return DeferredEncoder(space, lambda: encoder_of(library, space, device))


def encoder_of(library: "Library", space: Space, device: str = "auto") -> Encoder:
    """Load the encoder of a space; raises SpaceMismatchError if its weights have changed."""
    from retrieval.encoders.registry import load_encoder

    encoder = load_encoder(space.encoder, device, space.weights)
    library.require_space(encoder.space, among=space)
    return encoder
