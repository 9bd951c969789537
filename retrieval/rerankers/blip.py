"""Rerank with BLIP's image-text matching, through `transformers`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Pixels, Tokens
from retrieval.encoders.checkpoints import CheckpointKind, read_config
from retrieval.rerankers.base import Scores
from retrieval.rerankers.pair_scoring import load_processors

BLIP_ITM = "blip-itm"
DEFAULT_CHECKPOINT = "Salesforce/blip-itm-base-coco"

_KIND = CheckpointKind(BLIP_ITM, "--rerank", DEFAULT_CHECKPOINT, "`--rerank none`")

_IMAGES_PER_BATCH = 8
_PAIRS_PER_BATCH = 16


class BlipItmReranker:
    """BLIP for image-text retrieval (Li et al. 2022) behind the reranker protocol.

    `name_or_dir` is a repository of the model hub or a folder in the layout of `save_pretrained`,
    with the processor's files; weights are read from safetensors files only. The local cache of
    the hub is used before the network. The whole model runs in float32 on `device`.

    `match` is logit(match) - logit(no match) of the matching head. The text goes in as
    `transformers` and BLIP's `blip_itm` give it, with [CLS] in front; BLIP's training puts its
    [ENC] there instead, which the published tokenizers do not have.

    `match_weight`: not measured. BLIP's evaluation (`train_retrieval.py`, and LAVIS after it) ranks
    by similarity + logit(match). The gradients of a two-class softmax on its two logits cancel, so
    training moves them apart symmetrically and logit(match) is half of the difference but for what
    remains of their initial values: hence 0.5. The similarity is that of the encoder at hand and
    not of BLIP's own towers, so another weight may suit it better.

    `depth`: BLIP reranks 128 (Flickr30k) or 256 (COCO) candidates on GPUs. In BLIP-base at 384
    pixels the keys and values of 577 image tokens in 12 layers cost 16 GFLOP a pair, 0.3 to 0.6 s
    measured on two busy CPU cores: hence 20 here.

    Raises UsageError for a name that is neither a folder nor a hub repository,
    EncoderUnavailableError when `transformers` or the weights cannot be had.
    """

    match_weight = 0.5
    depth = 20

    def __init__(self, name_or_dir: str | None = None, *, device: str = "cpu") -> None:
        checkpoint = name_or_dir or DEFAULT_CHECKPOINT
        directory = _KIND.local_folder(checkpoint)
        if directory:
            checkpoint = str(directory)
        self.name = f"{BLIP_ITM}:{checkpoint}" if name_or_dir else BLIP_ITM
        _KIND.import_transformers(self.name)
        directory = directory or _KIND.hub_folder(checkpoint)
        model, self._processor, self._tokenizer = _load(self.name, directory)
        self._device = torch.device(device)
        self.context_length = min(
            int(self._tokenizer.model_max_length),
            int(model.config.text_config.max_position_embeddings),
        )
        self.identity = _digest(model, self._processor, self._tokenizer, self.context_length)
        self._model = model.to(self._device)

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the checkpoint's own image processor; (3, height, width) float32."""
        pixels: Pixels = self._processor(image, return_tensors="np")["pixel_values"][0]
        return pixels.astype(np.float32, copy=False)

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Encode images, (n, 3, h, w), to last hidden states, (n, 1 + patches, c) float32."""
        width = self._model.config.vision_config.hidden_size
        batches = [np.empty((0, self._image_token_count(), width), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(pixels), _IMAGES_PER_BATCH):
                batch = self._tensor(pixels[start : start + _IMAGES_PER_BATCH], np.float32)
                states = self._model.vision_model(pixel_values=batch).last_hidden_state
                batches.append(states.cpu().numpy())
        values = np.concatenate(batches)
        return Tokens.all_present(values)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Tokenize texts to ids with special tokens, (m, t, 1) float32, padded to the longest.

        Texts beyond `context_length` tokens are truncated.
        """
        ids = [
            self._tokenizer(text, truncation=True, max_length=self.context_length)["input_ids"]
            for text in texts
        ]
        lengths = np.array([len(row) for row in ids], np.int64)
        mask = np.arange(max(lengths, default=0)) < lengths[:, np.newaxis]
        values = np.zeros((*mask.shape, 1), np.float32)
        values[mask, 0] = [token for row in ids for token in row]
        return Tokens(values, mask)

    def text_query_weight(self, texts: Tokens) -> Scores:
        """Return 1 for each text: BLIP was trained on millions of captions."""
        return np.ones(len(texts.values), np.float32)

    def image_query_weight(self, images: Tokens) -> Scores:
        """Return 1 for each image."""
        return np.ones(len(images.values), np.float32)

    def match(self, texts: Tokens, images: Tokens) -> Scores:
        """Score every text with every image: (m, n) float32, logit(match) - logit(no match).

        A fixed number of pairs goes through the network at a time. Raises ValueError for masked
        image tokens.
        """
        # Refused, since the cross-attention of transformers 5.23 silently ignores its mask.
        if not images.mask.all():
            raise ValueError("BLIP takes image tokens whole: their mask must be all True.")
        scores = np.empty((len(texts.values), len(images.values)), np.float32)
        for start in range(0, scores.size, _PAIRS_PER_BATCH):
            pairs = np.arange(start, min(start + _PAIRS_PER_BATCH, scores.size))
            rows, columns = np.unravel_index(pairs, scores.shape)
            scores[rows, columns] = self._match_pairs(
                texts.values[rows, :, 0],
                texts.mask[rows],
                images.values[columns],
            )
        return scores

    def _match_pairs(
        self,
        token_ids: NDArray[np.float32],
        text_mask: NDArray[np.bool_],
        image_values: NDArray[Any],
    ) -> Scores:
        longest = int(text_mask.sum(axis=1).max())
        with torch.inference_mode():
            states = self._model.text_encoder(
                input_ids=self._tensor(token_ids[:, :longest], np.int64),
                attention_mask=self._tensor(text_mask[:, :longest], np.int64),
                encoder_hidden_states=self._tensor(image_values, np.float32),
            ).last_hidden_state
            logits = self._model.itm_head(states[:, 0])
            scores: Scores = (logits[:, 1] - logits[:, 0]).cpu().numpy()
        return scores

    def _tensor(self, values: NDArray[Any], dtype: type[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype)).to(self._device)

    def _image_token_count(self) -> int:
        return int(self._model.vision_model.embeddings.num_positions)


def _load(name: str, directory: Path) -> tuple[Any, Any, Any]:
    """Load the model in float32, the image processor and the tokenizer from a folder."""
    with _KIND.loading(name, directory) as transformers:
        model_type = read_config(directory).get("model_type")
        if model_type != "blip":
            raise ValueError(f"config.json is of the model type {model_type!r}, not 'blip'")
        processor, tokenizer = load_processors(directory, "BlipImageProcessor")
        model, report = transformers.BlipForImageTextRetrieval.from_pretrained(
            directory, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        missing = (key for key in report["missing_keys"] if not key.endswith("position_ids"))
        _KIND.require_weights(name, directory, missing)
    return model.float().eval(), processor, tokenizer


def _digest(model: Any, processor: Any, tokenizer: Any, context_length: int) -> str:
    digest = xxhash.xxh3_128()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    steps = {
        key: value
        for key, value in processor.to_dict().items()
        if key.startswith(("do_", "image_", "resample", "rescale", "size"))
        and not key.endswith("_type")
    }
    preprocessing = [steps, sorted(tokenizer.get_vocab().items()), context_length]
    digest.update(json.dumps(preprocessing, sort_keys=True, default=str).encode())
    return f"xxh3-128:{digest.hexdigest()}"
