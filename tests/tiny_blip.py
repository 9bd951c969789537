"""What the tiny checkpoints of BLIP and BLIP-2 share: small towers, a vocabulary of words."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def text_tower(tokens: int, longest: int, **settings: Any) -> dict[str, Any]:
    """Configure a text tower of 32 channels."""
    return _tower(32, 4) | {"vocab_size": tokens, "max_position_embeddings": longest} | settings


def image_tower(width: int) -> dict[str, Any]:
    """Configure an image tower of 16 patches; heads have 8 channels."""
    return _tower(width, width // 8) | {"image_size": 32, "patch_size": 8}


def processors(
    folder: Path, words: Iterable[str], *, more: Sequence[str] = (), **tokens: str
) -> tuple[Any, Any]:
    """Make image processor and tokenizer. more: special words after the usual ones."""
    import transformers

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL, *more, *words]))
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    return images, transformers.BertTokenizerFast(str(vocabulary), **tokens)


def _tower(width: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
    }
