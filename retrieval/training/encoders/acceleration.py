"""Mixed precision where it is faster on the device at hand, and less memory for activations."""

import time
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from retrieval.errors import UsageError
from retrieval.training.encoders.gradient_cache import Inputs, batch_statistics_kept
from retrieval.training.losses import contrastive_loss

GAIN = 0.9
"""A precision is chosen if a step takes less than this share of one in float32."""


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Make the context in which a model computes in a precision; float32: as it is."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def fastest_precision(
    encoder: nn.Module, images: Inputs, texts: Inputs, *, repeats: int = 3
) -> torch.dtype:
    """Measure a training step in each precision, and return the one that is clearly fastest.

    bfloat16 by autocast is compared with float32, in turns; float16, with which gradients must be
    scaled, is not. Neither gradients, nor statistics, nor the state of random numbers change.

    Args:
        encoder: a `PairEncoder`.
        images: as many images as a device computes at a time.
        texts: as many texts.
        repeats: measured steps of each; one more warms up.
    """
    device = (images if isinstance(images, Tensor) else images[0]).device
    candidates = [torch.float32, torch.bfloat16]
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    best = dict.fromkeys(candidates, float("inf"))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), batch_statistics_kept(encoder):
        for repeat in range(repeats + 1):
            for precision in candidates:
                started = _now(device)
                with autocast(device, precision):
                    vectors = encoder(images, texts)
                loss = contrastive_loss(vectors[0].float(), vectors[1].float(), vectors[2])
                torch.autograd.grad(loss, trained, allow_unused=True)
                if repeat:
                    best[precision] = min(best[precision], _now(device) - started)
    fastest = min(candidates, key=lambda precision: best[precision])
    return fastest if best[fastest] < GAIN * best[torch.float32] else torch.float32


def checkpoint_activations(model: nn.Module) -> None:
    """Let a model compute the activations of its layers again in the backward pass (slower).

    They take most of the memory of training (Chen et al. 2016). Gradients stay the same.

    Raises:
        UsageError: the image tower cannot do this.
    """
    from open_clip.hf_model import HFTextEncoder
    from open_clip.modified_resnet import ModifiedResNet

    if isinstance(model.visual, ModifiedResNet):  # open_clip would do nothing, silently
        raise UsageError(
            "The ResNets of open_clip cannot recompute activations. Train without gradient "
            "checkpointing, in smaller parts of a batch."
        )
    text = getattr(model, "text", None)
    if isinstance(text, HFTextEncoder):
        model.visual.set_grad_checkpointing()  # type: ignore[operator, union-attr]
        transformer = text.transformer
        # The older name, which open_clip calls, is deprecated in transformers 5.
        enable = getattr(transformer, "activation_checkpointing_enable", None)
        (enable or transformer.gradient_checkpointing_enable)()
    else:
        model.set_grad_checkpointing()  # type: ignore[operator]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
