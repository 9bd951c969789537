"""Rerank with models that read text and image together: one adapter, by the model's own config."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from retrieval.encoders.base import Pixels, Tokens
from retrieval.encoders.checkpoints import read_config
from retrieval.rerankers.base import Reranker
from retrieval.rerankers.pair_scoring import (
    KIND,
    MOST_QUERY_TOKENS,
    VLM,
    PairReranker,
    load_model,
    load_processors,
    text_ids,
)
from retrieval.rerankers.qwen_vl import load_jina, load_qwen3

_IMAGES_PER_BATCH = 4


class Blip2Reranker(PairReranker):
    """Image-text matching of BLIP-2's Q-Former (Li et al. 2023).

    Tokens of an image are the hidden states of its vision tower. `match` is the mean over the
    Q-Former's queries of logit(match) - logit(no match).

    `match_weight`: 0.5, as of `BlipItmReranker`: the published evaluation adds logit(match) to the
    similarity. `depth`: 20, as there. It runs in float32 everywhere, as parts of it must.
    """

    match_weight = 0.5
    depth = 20

    def __init__(self, name: str, directory: Path, device: torch.device) -> None:
        model = load_model("Blip2ForImageTextRetrieval", name, directory, torch.float32)
        super().__init__(name, directory, model, device)
        self._processor, self._tokenizer = load_processors(directory, "BlipImageProcessor")
        self._context_length = min(
            MOST_QUERY_TOKENS,
            int(self._tokenizer.model_max_length),
            int(model.config.qformer_config.max_position_embeddings),
        )

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the checkpoint's own image processor; (3, height, width) float32."""
        pixels: Pixels = self._processor(image, return_tensors="np")["pixel_values"][0]
        return pixels.astype(np.float32, copy=False)

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Encode images, (n, 3, h, w), to hidden states of the vision tower, (n, t, c) float32."""
        tower = self._model.vision_model
        shape = tower.embeddings.num_positions, self._model.config.vision_config.hidden_size
        batches = [np.empty((0, *shape), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(pixels), _IMAGES_PER_BATCH):
                batch = self._tensor(pixels[start : start + _IMAGES_PER_BATCH], np.float32)
                states = tower(pixel_values=batch).last_hidden_state
                batches.append(states.cpu().numpy())
        return Tokens.all_present(np.concatenate(batches))

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Tokenize texts to ids with special tokens, (m, t, 1) float32."""
        return text_ids(self._tokenizer, texts, self._context_length)

    def _score(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        queries = self._model.query_tokens.expand(len(ids), -1, -1)
        states = self._model.qformer(
            query_embeds=self._model.embeddings(input_ids=ids, query_embeds=queries),
            query_length=queries.shape[1],
            encoder_hidden_states=seen,
        ).last_hidden_state[:, : queries.shape[1]]
        logits: torch.Tensor = self._model.itm_head(states).mean(dim=1)
        return logits[:, 1] - logits[:, 0]


_LOADERS: dict[str, Callable[[str, Path, torch.device], Reranker]] = {
    "blip-2": Blip2Reranker,
    "qwen3_vl": load_qwen3,
    "qwen2_vl": load_jina,
}


def load_vlm(name: str, device: str = "cpu") -> Reranker:
    """Load the reranker of a checkpoint, by the `model_type` of its configuration.

    Weights are read from safetensors files only, and no code of a checkpoint is run.

    - `blip-2`: the image-text matching of BLIP-2 (Li et al. 2023), such as
      `Salesforce/blip2-itm-vit-g`
    - `qwen3_vl`: Qwen3-VL-Reranker, which says "yes" or "no"
    - `qwen2_vl` with a score head: jina-reranker-m0

    Args:
        name: a folder as `save_pretrained` writes it, or a repository of the model hub, whose local
            cache is used before the network.
        device: a device of PyTorch.

    Raises:
        UsageError: the name is neither a folder nor that of a hub repository.
        EncoderUnavailableError: `transformers` or the weights cannot be had, or the checkpoint is
            of another class.
    """
    directory = KIND.local_folder(name)
    name = f"{VLM}:{directory or name}"
    KIND.import_transformers(name)
    directory = directory or KIND.hub_folder(name.partition(":")[2])
    with KIND.loading(name, directory):
        model_type = read_config(directory).get("model_type")
        load = _LOADERS.get(str(model_type))
        if load is None:
            raise ValueError(
                f"config.json is of the model type {model_type!r}, not one of {', '.join(_LOADERS)}"
            )
        return load(name, directory, torch.device(device))
