"""What rerankers share whose models read text and image together, pair by pair."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval.encoders.base import Tokens
from retrieval.encoders.checkpoints import CheckpointKind, checkpoint_digest
from retrieval.encoders.multi_vector import alike_batches, without_marks
from retrieval.errors import EncoderUnavailableError
from retrieval.rerankers.base import Scores

VLM = "vlm"
KIND = CheckpointKind(VLM, "--rerank", "Qwen/Qwen3-VL-Reranker-2B", "`--rerank none`")

MOST_QUERY_TOKENS = 512
"""Of a text, as of jina-reranker-m0; longer ones are truncated."""
MOST_IMAGE_TOKENS = 768
"""Of an image, as of jina-reranker-m0; larger ones are made smaller, their sides in proportion."""

_PAIRS_PER_BATCH = 8


class PairReranker(ABC):
    """What rerankers share whose models read a whole pair: batches, and limits a step.

    `depth`: 10, since a pair costs a pass through the whole language model. Even so a search takes
    minutes on a CPU where a model has billions of weights: they are meant for GPUs.
    """

    match_weight = 1.0
    """The models are published to rank alone: the similarity only parts what they find equal."""
    depth = 10
    images_per_step = 1
    """Candidates without cached tokens between two looks at the clock."""
    pairs_per_step = _PAIRS_PER_BATCH
    """Candidates between two looks at the clock."""

    def __init__(self, name: str, directory: Path, model: Any, device: torch.device) -> None:
        self.name = name
        digest = checkpoint_digest(directory, MOST_QUERY_TOKENS, MOST_IMAGE_TOKENS)
        self.identity = f"{name.partition(':')[0]}-{digest}"
        self._model = model.eval().to(device)
        self._device = device

    def text_query_weight(self, texts: Tokens) -> Scores:
        """Return 1 for each text."""
        return np.ones(len(texts.values), np.float32)

    def image_query_weight(self, images: Tokens) -> Scores:
        """Return 1 for each image."""
        return np.ones(len(images.values), np.float32)

    def match(self, texts: Tokens, images: Tokens) -> Scores:
        """Score every text with every image: (m, n) float32 logits, 0 at even odds.

        Pairs of different lengths never share a batch, so that no score depends on padding.
        """
        scores = np.empty((len(texts.values), len(images.values)), np.float32)
        lengths = texts.mask.sum(1)[:, np.newaxis], images.mask.sum(1)[np.newaxis]
        keys = np.stack(np.broadcast_arrays(*lengths), -1).reshape(-1, 2).tolist()
        for pairs in alike_batches([tuple(key) for key in keys], _PAIRS_PER_BATCH):
            rows, columns = np.unravel_index(pairs, scores.shape)
            ids = np.stack([texts.values[row, texts.mask[row], 0] for row in rows])
            seen = np.stack([images.values[place, images.mask[place]] for place in columns])
            with torch.inference_mode():
                logits = self._score(self._tensor(ids, np.int64), self._tensor(seen, np.float32))
            scores[rows, columns] = logits.float().cpu().numpy()
        return scores

    @abstractmethod
    def _score(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Compute the logits of n pairs of (n, t) token ids and (n, u, c) image tokens, (n,)."""

    def _tensor(self, values: NDArray[Any], dtype: type[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype)).to(self._device)


def load_processors(directory: Path, image_processor: str) -> tuple[Any, Any]:
    """Load the image processor of a class, and the tokenizer, of a checkpoint."""
    import transformers

    # The images were resized by Pillow. The class has this name since version 5.
    by_pillow = getattr(transformers, f"{image_processor}Pil", None)
    made = (by_pillow or getattr(transformers, image_processor)).from_pretrained(directory)
    return made, transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=False)


def load_model(
    class_name: str,
    name: str,
    directory: Path,
    dtype: torch.dtype | str,
    unused: Collection[str] = (),
    kind: CheckpointKind = KIND,
) -> Any:
    """Load a model of a class of `transformers` from a checkpoint.

    Args:
        class_name: of the class.
        name: of the reranker, for errors.
        directory: the checkpoint.
        dtype: of the weights; `auto`: as they are stored.
        unused: weights that may be missing.
        kind: of the checkpoint, for errors.
    """
    import transformers

    model_class = getattr(transformers, class_name, None)
    if model_class is None:
        raise EncoderUnavailableError(
            f"{name} needs a newer version of transformers than {transformers.__version__}: "
            "`pip install --upgrade transformers`."
        )
    model, report = model_class.from_pretrained(
        directory,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    missing = (key for key in report["missing_keys"] if key not in unused)
    kind.require_weights(name, directory, missing)
    return model


def text_ids(tokenizer: Any, texts: Sequence[str], most: int) -> Tokens:
    """Tokenize texts to ids with special tokens, (m, t, 1) float32, at most `most` of each.

    What the tokenizer would take for a special token in a text is left out.
    """
    return token_ids(
        [
            tokenizer(without_marks(tokenizer, text), truncation=True, max_length=most)["input_ids"]
            for text in texts
        ]
    )


def token_ids(rows: Sequence[Sequence[int]]) -> Tokens:
    """Pad token ids to (m, t, 1) float32, which holds them exactly."""
    lengths = np.array([len(row) for row in rows], np.int64)
    mask = np.arange(max(lengths, default=0)) < lengths[:, np.newaxis]
    values = np.zeros((*mask.shape, 1), np.float32)
    values[mask, 0] = [token for row in rows for token in row]
    return Tokens(values, mask)
