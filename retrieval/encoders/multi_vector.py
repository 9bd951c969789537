"""Models that give a vector for each patch of a page and each token of a text: ColPali, ColQwen2.

Their classes are those of `transformers`; the package `colpali-engine` pins older versions of
PyTorch and is not needed.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import regex
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from retrieval.encoders.base import Inputs, Pixels, Tokens
from retrieval.encoders.checkpoints import CheckpointKind, checkpoint_digest, read_config

LATE_INTERACTION = "late-interaction"
EXAMPLE = "vidore/colqwen2-v1.0-hf"

_CLASSES = {
    "colpali": ("ColPaliForRetrieval", "ColPaliProcessor"),
    "colqwen2": ("ColQwen2ForRetrieval", "ColQwen2Processor"),
}
"""Class of the model and of its processor, by `model_type` of the configuration."""

MOST_TEXT_TOKENS = 512
"""Of a query's own text; longer ones are truncated. ColPali was trained with 50, ColQwen2 too."""
MOST_RATIO = 100
"""Of the sides of an image; longer ones are padded, since Qwen2-VL refuses more than 200."""

_IMAGES_PER_BATCH = 4
_TEXTS_PER_BATCH = 16


class MultiVectorModel:
    """ColPali or ColQwen2 (Faysse et al. 2024), whichever a checkpoint's configuration names.

    Weights are read from safetensors files only, and no code of a checkpoint is run. They are
    computed with in float32 on CPUs, elsewhere in the checkpoint's own precision. Inputs of
    different lengths never share a batch, so that no vector depends on padding.

    Args:
        kind: how the checkpoint is named, for errors.
        name: a folder as `save_pretrained` writes it, or a repository of the model hub, whose local
            cache is used before the network.
        device: a device of PyTorch.

    Raises:
        UsageError: the name is neither a folder nor that of a hub repository.
        EncoderUnavailableError: `transformers` or the weights cannot be had, or the checkpoint is
            of another class.
    """

    def __init__(self, kind: CheckpointKind, name: str, device: str = "cpu") -> None:
        directory = kind.local_folder(name)
        self.name = f"{kind.prefix}:{directory or name}"
        kind.import_transformers(self.name)
        directory = directory or kind.hub_folder(name)
        self._device = torch.device(device)
        dtype = torch.float32 if self._device.type == "cpu" else "auto"
        self._model, self._processor, self._is_qwen = _load(kind, self.name, directory, dtype)
        self._model.to(self._device)
        self.digest = checkpoint_digest(directory, MOST_TEXT_TOKENS, MOST_RATIO)
        self.dimension = int(self._model.embedding_dim)

    @property
    def input_side(self) -> int:
        """Side of a square as large as the largest input, in pixels."""
        processor = self._processor.image_processor
        if self._is_qwen:
            return int(processor.size["longest_edge"] ** 0.5)
        return int(processor.size["height"])

    @property
    def most_image_tokens(self) -> int:
        """Number of vectors of an image, at most."""
        processor = self._processor.image_processor
        if not self._is_qwen:
            return self._lengths(Image.new("RGB", (64, 64)))
        # The prompt around the patches is the same for all images.
        around = self._lengths(Image.new("RGB", (64, 64)))
        around -= int(self.patches(self.preprocess(Image.new("RGB", (64, 64)))).size)
        side = processor.patch_size * processor.merge_size
        patches = int(processor.size["longest_edge"]) // side**2
        # A strip is one patch wide, and may have more of them.
        most: int = max(patches, int((patches * MOST_RATIO) ** 0.5) + 1)
        return around + most

    def preprocess(self, image: Image.Image) -> Pixels:
        """Prepare an upright RGB image; a () array of a record, since sizes differ."""
        inputs = self._processor.process_images(images=[padded_to_ratio(image)])
        record = {key: inputs[key].numpy() for key in inputs if key != "labels"}
        pixels = np.empty((), np.object_)
        pixels[()] = record
        return pixels

    def image_vectors(self, pixels: Inputs) -> Tokens:
        """Encode n images as `preprocess` gives them, (n,), to (n, t, d) float32 unit vectors."""
        # Of an array its elements, of a list arrays of one.
        records: list[Any] = [each[()] if isinstance(each, np.ndarray) else each for each in pixels]
        sizes = [tuple(value.shape for value in record.values()) for record in records]
        return self._encode(records, sizes, _IMAGES_PER_BATCH)

    def text_vectors(self, texts: Sequence[str]) -> Tokens:
        """Encode m texts to (m, t, d) float32 unit vectors.

        A text stands between the words and the padding tokens that the model was trained with,
        which have vectors, too.
        """
        records = []
        for text in texts:
            inputs = self._inputs(self._cleaned(text))
            inputs.pop("offset_mapping")
            records.append({key: value.numpy() for key, value in inputs.items()})
        lengths = [record["input_ids"].shape for record in records]
        return self._encode(records, lengths, _TEXTS_PER_BATCH)

    def token_count(self, text: str) -> int:
        """Count the tokens of a text, with those around it, before truncation."""
        whole = without_marks(self._processor.tokenizer, text)
        return int(self._inputs(whole)["input_ids"].shape[1])

    @property
    def context_length(self) -> int:
        """Longest text, in tokens with those around it."""
        return MOST_TEXT_TOKENS + self.token_count("")

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's vectors in it; (0, 0) for those around it."""
        cleaned = self._cleaned(text)
        offsets = self._inputs(cleaned)["offset_mapping"][0].tolist()
        behind = f"{self._processor.query_augmentation_token * 10}\n"
        begin = offsets[-1][1] - len(behind) - len(cleaned)
        spans = [(max(a - begin, 0), min(b - begin, len(cleaned))) for a, b in offsets]
        return [(a, b) if a < b else (0, 0) for a, b in spans]

    def patches(self, pixels: Pixels) -> NDArray[np.int64]:
        """Places of an image's patches among its vectors, as they lie on it: (rows, columns)."""
        record = pixels[()]
        [places] = np.nonzero(record["input_ids"][0] == self._processor.image_token_id)
        if self._is_qwen:
            _, height, _ = record["image_grid_thw"][0]
            rows = int(height) // self._processor.image_processor.merge_size
        else:
            rows = round(len(places) ** 0.5)
        grid: NDArray[np.int64] = places.reshape(rows, -1)
        return grid

    def _lengths(self, image: Image.Image) -> int:
        return int(self.preprocess(image)[()]["input_ids"].shape[1])

    def _cleaned(self, text: str) -> str:
        """Leave out marks of the model and what is beyond the longest text."""
        tokenizer = self._processor.tokenizer
        return truncated(tokenizer, without_marks(tokenizer, text), MOST_TEXT_TOKENS)

    def _inputs(self, text: str) -> dict[str, torch.Tensor]:
        return dict(self._processor.process_queries(text=[text], return_offsets_mapping=True))

    def _encode(
        self, records: Sequence[dict[str, NDArray[Any]]], keys: Sequence[Hashable], most: int
    ) -> Tokens:
        encoded: list[NDArray[np.float32]] = [np.empty((0, self.dimension), np.float32)] * len(
            records
        )
        for places in alike_batches(keys, most):
            inputs = {
                key: torch.from_numpy(np.concatenate([records[place][key] for place in places]))
                for key in records[places[0]]
            }
            with torch.inference_mode():
                made = self._model(
                    **{key: value.to(self._device) for key, value in inputs.items()}
                ).embeddings
            for place, values in zip(places, made.float().cpu().numpy(), strict=True):
                encoded[place] = values
        lengths = np.array([len(values) for values in encoded], np.int64)
        padded = np.zeros((len(records), max(lengths, default=0), self.dimension), np.float32)
        for place, values in enumerate(encoded):
            padded[place, : len(values)] = values
        return Tokens.padded(padded, lengths)


_loaded: WeakValueDictionary[tuple[str, str], MultiVectorModel] = WeakValueDictionary()


def load_multi_vector(kind: CheckpointKind, name: str, device: str = "cpu") -> MultiVectorModel:
    """Load a model, or return the one that is loaded: encoder and reranker may share it.

    Raises as `MultiVectorModel`.
    """
    key = str(kind.local_folder(name) or name), device
    model = _loaded.get(key)
    if model is None:
        model = _loaded[key] = MultiVectorModel(kind, name, device)
    return model


def alike_batches(keys: Sequence[Hashable], most: int) -> Iterator[list[int]]:
    """Yield the places of equal keys together, at most so many at once."""
    alike: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        alike[key].append(place)
    for places in alike.values():
        for start in range(0, len(places), most):
            yield places[start : start + most]


def padded_to_ratio(image: Image.Image, most: int = MOST_RATIO) -> Image.Image:
    """Pad an image so that no side is longer than `most` times the other one."""
    width, height = image.size
    least = -(-max(width, height) // most)
    if min(width, height) >= least:
        return image
    size = max(width, least), max(height, least)
    return ImageOps.pad(image, size, Image.Resampling.NEAREST, centering=(0, 0))


def without_marks(tokenizer: Any, text: str) -> str:
    """Leave out what a tokenizer takes for marks of the model, such as places of images."""
    marks = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
    return regex.sub("|".join(map(regex.escape, marks)), " ", text) if marks else text


def truncated(tokenizer: Any, text: str, most: int) -> str:
    """Cut a text after so many tokens."""
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = made["offset_mapping"]
    return text if len(offsets) <= most else text[: offsets[most - 1][1]]


def _load(
    kind: CheckpointKind, name: str, directory: Path, dtype: torch.dtype | str
) -> tuple[Any, Any, bool]:
    with kind.loading(name, directory) as transformers:
        model_type = read_config(directory).get("model_type")
        if model_type not in _CLASSES:
            raise ValueError(
                f"config.json is of the model type {model_type!r}, not {' or '.join(_CLASSES)}, "
                "whose checkpoints for transformers often end with -hf"
            )
        model_class, processor_class = (getattr(transformers, c) for c in _CLASSES[model_type])
        processor = processor_class.from_pretrained(directory, trust_remote_code=False)
        model, report = model_class.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        missing = (key for key in report["missing_keys"] if not key.endswith("lm_head.weight"))
        kind.require_weights(name, directory, missing)
    return model.eval(), processor, model_type == "colqwen2"
