"""Texts and images to vectors, and back to nothing but numbers."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmsearch.inputs import ImageLike, as_image
from mmsearch.progress import track
from retrieval.encoders.base import Encoder as AnyEncoder
from retrieval.encoders.base import Space, Vectors, least_side
from retrieval.encoders.registry import choose_encoder, load_encoder
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.search.engine import Engine

Input: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A text (`str`), or an image: a path (`pathlib.Path`), bytes, a PIL image, an array of uint8."""


class Encoder:
    """Encodes texts and images as unit vectors of one space, which can be compared by dot products.

    >>> encoder = Encoder("starter")                                # doctest: +SKIP
    >>> texts = encoder.encode(["a dog", "a cat"])                  # doctest: +SKIP
    >>> images = encoder.encode_images(["dog.jpg", "cat.jpg"])      # doctest: +SKIP
    >>> texts @ images.T                                            # doctest: +SKIP

    May be used from several threads, which wait for one another.

    Args:
        name: `auto`, `starter`, `open_clip:MODEL/PRETRAINED` or `local-dir:DIR`, as for
            `mmsearch index --encoder`.
        device: `cpu`, `cuda` or `auto`.

    Raises:
        UsageError: Unknown name.
        EncoderUnavailableError: Its weights cannot be had.
    """

    def __init__(self, name: str = "auto", *, device: str = "auto") -> None:
        if not isinstance(name, str):
            raise TypeError(f"The name of an encoder is a text, not {name!r:.60}.")
        encoder = load_encoder(choose_encoder(name).name, device)
        lock = threading.Lock()

        def encode(modality: Modality, inputs: Sequence[str | Image.Image]) -> Vectors:
            with lock:
                if modality is Modality.TEXT:
                    return encoder.encode(modality, inputs)
                pixels = [encoder.preprocess(one) for one in inputs if isinstance(one, Image.Image)]
                return encoder.encode(modality, np.stack(pixels))

        self._set(encoder, encode)

    @classmethod
    def _of(cls, engine: Engine) -> "Encoder":
        """Return the encoder of an engine, which goes on using it."""

        def encode(modality: Modality, inputs: Sequence[str | Image.Image]) -> Vectors:
            if modality is Modality.TEXT:
                return engine.encode_texts([one for one in inputs if isinstance(one, str)])
            return engine.encode_images([one for one in inputs if isinstance(one, Image.Image)])

        made = cls.__new__(cls)
        made._set(engine.encoder, encode)
        return made

    def _set(
        self,
        encoder: AnyEncoder,
        encode: Callable[[Modality, Sequence[str | Image.Image]], Vectors],
    ) -> None:
        self._encode = encode
        self._least_side = least_side(encoder)
        self._space: Space = encoder.space
        self._modalities = encoder.modalities

    @property
    def name(self) -> str:
        """Name of the encoder."""
        return self._space.encoder

    @property
    def space(self) -> str:
        """Id of its vector space: vectors of two spaces cannot be compared."""
        return self._space.id

    @property
    def dimension(self) -> int:
        """Number of values of a vector."""
        return self._space.dimension

    def encode(
        self, inputs: Input | Iterable[Input], *, batch_size: int = 32, show_progress: bool = False
    ) -> NDArray[np.float32]:
        """Encode texts and images, which may be mixed.

        Args:
            inputs: Texts (`str`), and images: paths as `pathlib.Path`, bytes of image files, PIL
                images, arrays of uint8, (H, W, 3). One alone gives one vector.
            batch_size: Number of inputs that are read and encoded together.
            show_progress: Show a progress bar.

        Returns:
            Vectors of unit length, (n, d) float32 in the order of the inputs; (d,) of one alone.

        Raises:
            TypeError: An input is neither text nor image.
            UsageError: An image cannot be read, or the encoder does not take it.
        """
        is_one = is_one_input(inputs)
        vectors = self._encoded([inputs] if is_one else inputs, batch_size, show_progress)
        return vectors.reshape(-1) if is_one else vectors

    def encode_images(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        batch_size: int = 32,
        show_progress: bool = False,
    ) -> NDArray[np.float32]:
        """Encode images as `encode` does; texts are paths of image files."""
        is_one = is_one_input(images)
        given = [images] if is_one else images
        vectors = self._encoded(given, batch_size, show_progress, strings_are_paths=True)
        return vectors.reshape(-1) if is_one else vectors

    def _encoded(
        self,
        inputs: object,
        batch_size: int,
        show_progress: bool,
        *,
        strings_are_paths: bool = False,
    ) -> NDArray[np.float32]:
        if not isinstance(inputs, Iterable) or isinstance(inputs, dict):
            raise TypeError(
                "encode() takes a list of texts (str) and images (pathlib.Path, bytes, PIL image, "
                f"array of uint8); not {type(inputs).__name__}."
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            raise TypeError(f"batch_size= is int, not {type(batch_size).__name__}.")
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}.")
        total = len(inputs) if isinstance(inputs, Sequence | np.ndarray) else None
        batches = [
            self._encoded_batch(batch, strings_are_paths=strings_are_paths)
            for batch in _batches(track(inputs, "Encoding", total, show_progress), batch_size)
        ]
        if not batches:
            return np.empty((0, self.dimension), np.float32)
        return np.concatenate(batches)

    def _encoded_batch(self, batch: Sequence[object], *, strings_are_paths: bool) -> Vectors:
        vectors = np.empty((len(batch), self.dimension), np.float32)
        chosen: dict[Modality, list[tuple[int, str | Image.Image]]] = {}
        for place, one in enumerate(batch):
            if isinstance(one, str) and not strings_are_paths:
                chosen.setdefault(Modality.TEXT, []).append((place, one))
            else:
                image = _image(one, self._least_side, is_encode=not strings_are_paths)
                chosen.setdefault(Modality.IMAGE, []).append((place, image))
        for modality, placed in chosen.items():
            if modality not in self._modalities:
                raise UsageError(f"The encoder {self.name} takes no {modality.plural}.")
            places, values = zip(*placed, strict=True)
            vectors[list(places)] = self._encode(modality, values)
        return vectors

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, dimension={self.dimension})"


def is_one_input(inputs: object) -> bool:
    """Return whether this is one input: an array of three dimensions is one image."""
    if isinstance(inputs, np.ndarray):
        return inputs.ndim == 3
    return isinstance(inputs, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)


def _image(value: object, least_side: int, *, is_encode: bool) -> Image.Image:
    try:
        return as_image(value, least_side)  # type: ignore[arg-type]  # it checks
    except TypeError as error:
        raise TypeError(
            f"An input is a text (str) or an image. {error}" if is_encode else error
        ) from None


def _batches(values: Iterable[object], size: int) -> Iterator[list[object]]:
    batch: list[object] = []
    for value in values:
        batch.append(value)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
