"""Qwen-VL models as rerankers: Qwen3-VL-Reranker and jina-reranker-m0."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Pixels, Tokens
from retrieval.encoders.multi_vector import (
    MOST_RATIO,
    padded_to_ratio,
    truncated,
    without_marks,
)
from retrieval.errors import EncoderUnavailableError
from retrieval.rerankers.base import Reranker
from retrieval.rerankers.pair_scoring import (
    MOST_IMAGE_TOKENS,
    MOST_QUERY_TOKENS,
    PairReranker,
    load_model,
    token_ids,
)

_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"

JINA_BIAS = 2.65
"""What jina-reranker-m0 takes from its score before the sigmoid: even odds."""
_JINA_SCORE_TOKEN = 100
"""The last token of a prompt, at which it reads the score."""


class QwenReranker(PairReranker):
    """A Qwen-VL language model that reads a prompt with text and image, and one score at its end.

    Tokens of an image are what its vision tower gives to the language model, behind one token that
    holds the number of their rows; those of a text are the ids of the whole prompt, in which one
    mark stands for the image.

    Args:
        name: as it was asked for.
        directory: the checkpoint.
        model: of a class for generation.
        tokenizer: of the checkpoint.
        device: where it runs.
        prompt: makes the prompt of a text.
        head: maps last hidden states, (n, c), to logits, (n,).
        appended: ids of tokens after the prompt.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        model: Any,
        tokenizer: Any,
        device: torch.device,
        *,
        prompt: Callable[[str], str],
        head: torch.nn.Module,
        appended: Sequence[int] = (),
    ) -> None:
        super().__init__(name, directory, model, device)
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._head = head.eval().requires_grad_(False).to(device, model.dtype)
        self._appended = appended
        import transformers

        # Published use has images resized by Pillow. The class has this name since version 5.
        processor_class = getattr(
            transformers, "Qwen2VLImageProcessorPil", transformers.Qwen2VLImageProcessor
        )
        self._processor = processor_class.from_pretrained(directory)
        side = self._processor.patch_size * self._processor.merge_size
        least = int(self._processor.size["shortest_edge"])
        most = min(int(self._processor.size["longest_edge"]), MOST_IMAGE_TOKENS * side**2)
        self._processor.size = {"shortest_edge": min(least, most), "longest_edge": most}
        patches = most // side**2
        # A strip is one patch wide, and may have more of them.
        self.most_image_tokens = 1 + max(patches, int((patches * MOST_RATIO) ** 0.5) + 1)
        self._image_id = int(model.config.image_token_id)

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the checkpoint's image processor; a () array of a record, since sizes differ."""
        inputs = self._processor(images=[padded_to_ratio(image)], return_tensors="np")
        pixels = np.empty((), np.object_)
        pixels[()] = {key: np.asarray(inputs[key]) for key in ("pixel_values", "image_grid_thw")}
        return pixels

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Encode n images as `preprocess` gives them, (n,), to (n, 1 + t, c) float32.

        Features of several layers (DeepStack) stand side by side.
        """
        made = [self._see(record) for record in pixels]
        lengths = np.array([len(values) for values in made], np.int64)
        values = np.zeros((len(made), max(lengths, default=0), self._width), np.float32)
        for place, each in enumerate(made):
            values[place, : len(each)] = each
        return Tokens.padded(values, lengths)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Tokenize prompts, with one id in place of the image, (m, t, 1) float32."""
        ids = []
        for text in texts:
            own = truncated(
                self._tokenizer, without_marks(self._tokenizer, text), MOST_QUERY_TOKENS
            )
            prompt = self._tokenizer(self._prompt(own), add_special_tokens=False)["input_ids"]
            ids.append([*prompt, *self._appended])
        return token_ids(ids)

    @property
    def _width(self) -> int:
        """Width of an image's tokens: the hidden states that the language model takes, by layer."""
        config = self._model.config
        layers = len(getattr(config.vision_config, "deepstack_visual_indexes", ()))
        return int(config.text_config.hidden_size) * (1 + layers)

    def _see(self, record: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        grid = self._tensor(record["image_grid_thw"], np.int64)
        with torch.inference_mode():
            seen = self._model.model.get_image_features(
                self._tensor(record["pixel_values"], np.float32).to(self._model.dtype), grid
            )
        layers = [seen.pooler_output, *getattr(seen, "deepstack_features", ())]
        values = torch.cat([layer[0].float() for layer in layers], dim=1).cpu().numpy()
        first = np.zeros((1, values.shape[1]), np.float32)
        # A single number a row: halves and 8 bits with a scale keep it exactly.
        first[0, 0] = int(grid[0, 1]) // self._processor.merge_size
        return np.concatenate([first, values])

    def _score(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        rows, seen = seen[:, 0, 0].round().long(), seen[:, 1:].to(self._model.dtype)
        count = seen.shape[1]
        merge = self._processor.merge_size
        grid = torch.stack([torch.ones_like(rows), rows * merge, count // rows * merge], dim=1)
        # The mark of the image becomes as many as it has tokens.
        expanded = torch.stack([self._expand(each, count) for each in ids])
        is_image = expanded == self._image_id
        first, *others = seen.chunk(self._width // self._model.config.text_config.hidden_size, -1)
        features = SimpleNamespace(
            pooler_output=tuple(first), deepstack_features=[tuple(layer) for layer in others]
        )
        states = self._model.model(
            input_ids=expanded,
            attention_mask=torch.ones_like(expanded),
            mm_token_type_ids=is_image.long(),
            image_grid_thw=grid,
            mm_encoder_outputs={"image": features},
            use_cache=False,
        ).last_hidden_state[:, -1]
        logits: torch.Tensor = self._head(states).squeeze(-1)
        return logits

    def _expand(self, ids: torch.Tensor, count: int) -> torch.Tensor:
        [[place]] = (ids == self._image_id).nonzero().tolist()
        mark = ids[place : place + 1].expand(count)
        return torch.cat([ids[:place], mark, ids[place + 1 :]])


def load_qwen3(name: str, directory: Path, device: torch.device) -> Reranker:
    """Load Qwen3-VL-Reranker (Li et al. 2026), whose score is that of "yes" against "no".

    The published score is the probability of "yes" among the two; `match` is its logit, which is a
    linear map of the last hidden state: the difference of both words' rows of the output layer.
    """
    model, tokenizer = _load("Qwen3VLForConditionalGeneration", name, directory, device)
    vocabulary = tokenizer.get_vocab()
    if not {"yes", "no"} <= vocabulary.keys():
        raise ValueError('the tokenizer has no tokens "yes" and "no"')
    rows = model.get_output_embeddings().weight
    head = torch.nn.Linear(rows.shape[1], 1, bias=False)
    head.weight.data = (rows[vocabulary["yes"]] - rows[vocabulary["no"]])[None].detach().clone()
    return QwenReranker(name, directory, model, tokenizer, device, prompt=_qwen3_prompt, head=head)


def _qwen3_prompt(text: str) -> str:
    """The published prompt, with its default instruction."""
    return (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n<Instruct>: Given a search query, retrieve relevant candidates that "
        f"answer the query.<Query>:{text or 'NULL'}\n<Document>:{_IMAGE}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def load_jina(name: str, directory: Path, device: torch.device) -> Reranker:
    """Load jina-reranker-m0: Qwen2-VL with a head of two layers at a score token.

    Its own class is code of the checkpoint, which is not run: the weights fit the class of
    `transformers` and the head below. `match` is the score minus its published bias, so that the
    sigmoid of it is the published score.
    """
    from safetensors import safe_open

    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            found = [key for key in weights.keys() if key.startswith("score.")]  # noqa: SIM118
            tensors |= {key.removeprefix("score."): weights.get_tensor(key) for key in found}
    if tensors.keys() != {"0.weight", "0.bias", "2.weight", "2.bias"}:
        raise ValueError("it has no score head as jina-reranker-m0 has")
    # The score is read from hidden states: the output layer may be missing.
    model, tokenizer = _load(
        "Qwen2VLForConditionalGeneration", name, directory, device, unused=["lm_head.weight"]
    )
    width = int(model.config.text_config.hidden_size)
    tensors["2.bias"] = tensors["2.bias"].float() - JINA_BIAS
    head = torch.nn.Sequential(
        torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 1)
    )
    head.load_state_dict(tensors)
    return QwenReranker(
        name,
        directory,
        model,
        tokenizer,
        device,
        prompt=lambda text: f"**Document**:\n{_IMAGE}\n**Query**:\n{text}",
        head=head,
        appended=[_JINA_SCORE_TOKEN],
    )


def _load(
    class_name: str,
    name: str,
    directory: Path,
    device: torch.device,
    unused: Sequence[str] = (),
) -> tuple[Any, Any]:
    """Load a model, in float32 on CPUs, elsewhere as it is stored, and its tokenizer."""
    import transformers

    dtype = torch.float32 if device.type == "cpu" else "auto"
    model = load_model(class_name, name, directory, dtype, unused)
    if "mm_encoder_outputs" not in inspect.signature(model.model.forward).parameters:
        raise EncoderUnavailableError(
            f"{name} needs a newer version of transformers than {transformers.__version__}: "
            "`pip install --upgrade transformers`."
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    return model, tokenizer
