"""Tiny models of open_clip with random weights, one of each kind of tower."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CONTEXT = 12
SIDE = 32
VOCABULARY = 100
PAD = 0
"""Token of padding; the last of the vocabulary ends a text."""

_VISION: dict[str, Any] = {"image_size": SIDE, "layers": 3, "width": 64, "patch_size": 8}
_TEXT: dict[str, Any] = {
    "context_length": CONTEXT,
    "vocab_size": VOCABULARY,
    "width": 32,
    "heads": 2,
    "layers": 3,
}

KINDS = ("vit", "resnet", "timm-cnn", "timm-vit", "timm-convnext", "bert")


def tiny_dual_encoder(kind: str, folder: Path, *, bias: bool = False) -> nn.Module:
    """Make a model: native towers, or one of timm with a text tower of open_clip or transformers.

    folder: for the configuration of a text tower of transformers.
    """
    from open_clip.model import CLIP, CustomTextCLIP

    options: dict[str, Any] = {"embed_dim": 32, "init_logit_bias": -10.0 if bias else None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "vit":
            return CLIP(vision_cfg=_VISION, text_cfg=_TEXT, **options)
        if kind == "resnet":
            layers = {"layers": [1, 1, 1, 1], "width": 16}
            model = CLIP(vision_cfg={**_VISION, **layers}, text_cfg=_TEXT, **options)
            for name, parameter in model.named_parameters():
                if name.endswith("bn3.weight"):  # zero at first, which would stop gradients
                    nn.init.ones_(parameter)
            return model
        image = {
            "timm-cnn": "test_efficientnet",
            "timm-vit": "test_vit",
            "timm-convnext": "test_convnext",
            "bert": "test_efficientnet",
        }[kind]
        text = _bert(folder) if kind == "bert" else _TEXT
        vision = {
            "timm_model_name": image,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": SIDE,
        }
        return CustomTextCLIP(vision_cfg=vision, text_cfg=text, **options)


def pairs(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw pixels, (count, 3, 32, 32), and token ids of several lengths, (count, 12)."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 3, SIDE, SIDE, generator=generator)
    ids = torch.randint(2, VOCABULARY - 1, (count, CONTEXT), generator=generator)
    for row, length in enumerate(torch.randint(3, CONTEXT, (count,), generator=generator)):
        ids[row, length] = VOCABULARY - 1
        ids[row, length + 1 :] = PAD
    return pixels, ids


def _bert(folder: Path) -> dict[str, Any]:
    import transformers

    transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=CONTEXT,
        pad_token_id=PAD,
    ).save_pretrained(folder / "bert")
    return {
        "hf_model_name": str(folder / "bert"),
        "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "mlp",
        "context_length": CONTEXT,
    }


def encoded(model: nn.Module, pixels: Any, ids: Any) -> tuple[Tensor, Tensor]:
    """Encode pairs to unit vectors."""
    encode_image: Callable[..., Tensor] = model.encode_image  # type: ignore[assignment]
    encode_text: Callable[..., Tensor] = model.encode_text  # type: ignore[assignment]
    return encode_image(pixels, normalize=True), encode_text(ids, normalize=True)
