"""An exported model behind the encoder protocol: by ONNX Runtime, without PyTorch."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from retrieval.encoders.base import ImageTextEncoder, Pixels, Tokens, Vectors
from retrieval.encoders.exports.store import (
    IMAGE_TOWER,
    TEXT_TOWER,
    TOKENIZER,
    Export,
)
from retrieval.encoders.exports.tokenizer import ExportedTokenizer
from retrieval.encoders.exports.transform import input_size, transform, view
from retrieval.encoders.runtimes.onnx_runtime import Array, OnnxModel

if TYPE_CHECKING:
    from retrieval.encoders.open_clip import OpenClipEncoder

IMAGE_BATCH = 16
TEXT_BATCH = 64


class ExportedEncoder(ImageTextEncoder):
    """Satisfies `base.TokenEncoder`; each tower is loaded when it is first needed.

    What the export lacks (tokens, a tokenizer) is asked of the model by PyTorch.

    Args:
        export: the export; its files are compared with their checksums when they are loaded.
        device: as of `OnnxModel`.
        threads: as of `OnnxModel`.
    """

    def __init__(self, export: Export, device: str = "cpu", threads: int = 0) -> None:
        self.export = export
        self.space = export.space
        self.context_length = export.context_length
        self.input_side = min(input_size(export.image))
        self.runtime = f"ONNX Runtime {export.precision}"
        self._device = device
        self._threads = threads

    @cached_property
    def _image_tower(self) -> OnnxModel:
        file = self.export.file(IMAGE_TOWER)
        return OnnxModel(file, device=self._device, threads=self._threads)

    @cached_property
    def _text_tower(self) -> OnnxModel:
        file = self.export.file(TEXT_TOWER)
        return OnnxModel(file, device=self._device, threads=self._threads)

    @cached_property
    def _tokenizer(self) -> ExportedTokenizer | None:
        if self.export.text is None:
            return None
        return ExportedTokenizer(self.export.file(TOKENIZER), **self.export.text)

    @cached_property
    def _original(self) -> "OpenClipEncoder":
        from retrieval.encoders.open_clip import OpenClipEncoder

        name, weights = self.export.original
        return OpenClipEncoder(name, "cpu", weights)

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the model's own transform; (3, height, width) float32."""
        return transform(image, self.export.image)

    def _encode_images(self, pixels: Pixels) -> Vectors:
        return self._joined(self._run_images(np.asarray(pixels, np.float32), "vectors"))

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        return self._joined(self._run_texts(texts, "vectors"))

    def _joined(self, batches: list[Array]) -> Vectors:
        return np.concatenate([np.empty((0, self.space.dimension), np.float32), *batches])

    def _run_images(self, pixels: Pixels, output: str) -> list[Array]:
        return [
            self._image_tower({"pixels": pixels[start : start + IMAGE_BATCH]}, [output])[0]
            for start in range(0, len(pixels), IMAGE_BATCH)
        ]

    def _run_texts(self, texts: Sequence[str], output: str) -> list[Array]:
        batches = (texts[start : start + TEXT_BATCH] for start in range(0, len(texts), TEXT_BATCH))
        return [self._text_tower({"ids": self._ids(batch)}, [output])[0] for batch in batches]

    def _ids(self, texts: Sequence[str]) -> Array:
        tokenize = self._tokenizer or self._original.tokenize
        return tokenize(texts)

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Last block's spatial outputs, row by row of the patch grid."""
        if not self.export.tokens:
            return self._original.image_tokens(pixels)
        if len(pixels) == 0:
            one = self.image_tokens(np.zeros((1, *pixels.shape[1:]), np.float32))
            return Tokens(one.values[:0], one.mask[:0])
        values = np.concatenate(self._run_images(pixels, "tokens"))
        return Tokens.all_present(values)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Last block's outputs at each token, padding masked."""
        if not self.export.tokens:
            return self._original.text_tokens(texts)
        if not texts:
            one = self.text_tokens([""])
            return Tokens(one.values[:0], one.mask[:0])
        values = np.concatenate(self._run_texts(texts, "tokens"))
        lengths = np.array([self.token_count(text) for text in texts])
        return Tokens.padded(values, lengths)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's tokens in it; (0, 0) for special ones."""
        if self._tokenizer is None:
            return self._original.token_spans(text)
        return self._tokenizer.spans(text)

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that the transform keeps: left, top, right, bottom (px)."""
        return view(width, height, self.export.image)

    def token_count(self, text: str) -> int:
        """Tokens of a text with the special ones, before truncation."""
        if self._tokenizer is None:
            return self._original.token_count(text)
        return self._tokenizer.count(text)
