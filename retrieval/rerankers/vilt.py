"""Rerank with ViLT's image-text matching, through `transformers`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from retrieval.encoders.base import Pixels, Tokens
from retrieval.encoders.checkpoints import CheckpointKind, read_config
from retrieval.encoders.multi_vector import padded_to_ratio
from retrieval.rerankers.pair_scoring import PairReranker, load_model, load_processors, text_ids

VILT = "vilt"

_KIND = CheckpointKind(VILT, "--rerank", "dandelin/vilt-b32-finetuned-coco", "`--rerank none`")
_LONGER_TO_SHORTER = 1333 / 800
"""Sides of the largest image, as ViLT's image processor has it fixed."""


class ViltReranker(PairReranker):
    """ViLT fine-tuned for image-text retrieval (Kim et al. 2021).

    Tokens of an image are its embedded patches with their positions: one transformer reads them
    together with the words, without a vision tower before it. Images keep their proportions, so
    they differ in how many patches they have. It runs in float32.

    `match` is the score of the ranking head. Training sets it against those of 15 wrong texts
    for the same image (softmax), so it orders pairs and is no calibrated logit: 0 is not even odds.

    `match_weight`: 1, since ViLT ranks by that score alone; the similarity decides where scores are
    close. `depth`: 10, since each pair costs a pass of 12 layers over up to 269 tokens, 48 GFLOP.
    """

    def __init__(self, name: str, directory: Path, device: torch.device) -> None:
        model = load_model(
            "ViltForImageAndTextRetrieval", name, directory, torch.float32, kind=_KIND
        )
        super().__init__(name, directory, model, device)
        self._processor, self._tokenizer = load_processors(directory, "ViltImageProcessor")
        self._context_length = min(
            int(self._tokenizer.model_max_length), int(model.config.max_position_embeddings)
        )
        divisor, patch = int(self._processor.size_divisor), int(model.config.patch_size)
        shorter = int(self._processor.size["shortest_edge"])
        longer = int(_LONGER_TO_SHORTER * shorter)
        if not self._processor.do_resize or not patch <= divisor <= shorter:
            raise ValueError(
                f"its images may be smaller than a patch: do_resize {self._processor.do_resize}, "
                f"shortest_edge {shorter}, size_divisor {divisor}, patch_size {patch}"
            )
        rows, columns = (side // divisor * divisor // patch for side in (shorter, longer))
        self.most_image_tokens = 1 + rows * columns
        self._most_ratio = longer // divisor

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the checkpoint's image processor; a () array of a record, since sizes differ."""
        made = self._processor(padded_to_ratio(image, self._most_ratio), return_tensors="np")
        pixels = np.empty((), np.object_)
        pixels[()] = np.asarray(made["pixel_values"][0], np.float32)
        return pixels

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Encode n images as `preprocess` gives them, (n,), to patches, (n, 1 + t, c) float32."""
        made = [self._embed(each) for each in pixels]
        lengths = np.array([len(values) for values in made], np.int64)
        width = int(self._model.config.hidden_size)
        values = np.zeros((len(made), max(lengths, default=0), width), np.float32)
        for place, each in enumerate(made):
            values[place, : len(each)] = each
        return Tokens.padded(values, lengths)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Tokenize texts to ids with special tokens, (m, t, 1) float32."""
        return text_ids(self._tokenizer, texts, self._context_length)

    def _embed(self, pixels: Pixels) -> Any:
        """Embed the patches of an image, (3, h, w), as `ViltEmbeddings.visual_embed` does.

        That draws patches by chance where `max_image_length` is set, and shuffles them otherwise,
        which changes no score but the state of the random numbers.
        """
        embeddings = self._model.vilt.embeddings
        side = self._model.config.image_size // self._model.config.patch_size
        with torch.inference_mode():
            patches = embeddings.patch_embeddings(self._tensor(pixels[np.newaxis], np.float32))
            positions = embeddings.position_embeddings
            grid = positions[:, 1:].transpose(1, 2).unflatten(2, (side, side))
            grid = torch.nn.functional.interpolate(
                grid, size=patches.shape[2:], mode="bilinear", align_corners=True
            )
            first = embeddings.cls_token + positions[:, :1]
            embedded = torch.cat([first, (patches + grid).flatten(2).transpose(1, 2)], dim=1)
        return embedded[0].cpu().numpy()

    def _score(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            image_embeds=seen,
            pixel_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
        ).logits
        return logits[:, 0]


def load_vilt(name: str, device: str = "cpu") -> ViltReranker:
    """Load a ViLT checkpoint; weights are read from safetensors files only, no code is run.

    Args:
        name: a folder as `save_pretrained` writes it, or a repository of the model hub, whose local
            cache is used before the network.
        device: a device of PyTorch.

    Raises:
        UsageError: the name is neither a folder nor that of a hub repository.
        EncoderUnavailableError: `transformers` or the weights cannot be had, or the checkpoint is
            of another class, such as one of ViLT without a ranking head.
    """
    directory = _KIND.local_folder(name)
    name = f"{VILT}:{directory or name}"
    _KIND.import_transformers(name)
    directory = directory or _KIND.hub_folder(name.partition(":")[2])
    with _KIND.loading(name, directory):
        model_type = read_config(directory).get("model_type")
        if model_type != VILT:
            raise ValueError(f"config.json is of the model type {model_type!r}, not {VILT!r}")
        return ViltReranker(name, directory, torch.device(device))
