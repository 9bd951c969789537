"""Gradients of a large batch, computed in parts that fit the memory of the device."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from retrieval.errors import UsageError

Inputs = Tensor | tuple[Tensor, ...]
"""Inputs of n items: one tensor, or several, of n rows each."""

Encoded = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""(n, d) unit vectors of images and of texts, the scale of similarities, and their bias."""

BatchLoss = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Computes a scalar from what is encoded."""


class PairEncoder(nn.Module):
    """Encode images and texts in one call, which `DistributedDataParallel` and `compile` need.

    model: has the interface of open_clip.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Inputs, texts: Inputs) -> Encoded:
        """Encode n images and n texts."""
        model = self.model
        return (
            model.encode_image(images, normalize=True),  # type: ignore[operator]
            model.encode_text(texts, normalize=True),  # type: ignore[operator]
            model.logit_scale.exp(),  # type: ignore[operator]
            getattr(model, "logit_bias", None),
        )


def backward_in_parts(
    encoder: nn.Module,
    images: Inputs,
    texts: Inputs,
    loss: BatchLoss,
    *,
    part: int,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> Tensor:
    """Add the gradients of the loss of a whole batch to the parameters, a part at a time.

    The batch is encoded without a graph, the loss gives the gradient of each vector, and each part
    is encoded again, with the same random numbers, to pass it on (Gao et al. 2021, "Scaling Deep
    Contrastive Learning Batch Size under Memory Limited Setup"). Costs another forward pass, none
    if the batch is one part.

    Trained batch norms see the parts as batches: only for them the gradients are not quite those of
    the large batch.

    Args:
        encoder: a `PairEncoder`, or one in `DistributedDataParallel`, whose processes synchronise
            once a batch. They average gradients, so the loss of vectors that were gathered from
            all processes must give each process the sum of its vectors' gradients over processes,
            as the gradient of `torch.distributed.nn.functional.all_gather` does.
        images: n images.
        texts: n texts.
        loss: gets the vectors of the whole batch in float32, and may gather those of others.
        part: most items that are encoded with a graph; at least 1.
        autocast: makes the context in which items are encoded.
        backward: starts the backward pass of a scalar; with a `GradScaler`, of the scaled one.

    Returns:
        The loss, without a graph.

    Raises:
        UsageError: `part` is too small.
    """
    if part < 1:
        raise UsageError(f"Parts of a batch must have at least 1 item, not {part}.")
    device, count = _device_and_count(images)
    if count <= part:
        with autocast():
            encoded = encoder(images, texts)
        value = loss(*_float(encoded))
        # Not every loss has a scale, but all processes must agree which parameters have gradients.
        backward(value + 0 * _sum_of_scales(encoded))
        return value.detach()
    parts = [slice(start, start + part) for start in range(0, count, part)]
    states: list[_RandomState] = []
    outputs: list[Encoded] = []
    with torch.no_grad(), batch_statistics_kept(encoder):
        for rows in parts:
            states.append(_random_state(device))
            with autocast():
                outputs.append(_float(encoder(rows_of(images, rows), rows_of(texts, rows))))
    leaves = _leaves(outputs)
    value = loss(*leaves)
    backward(value)
    gradients = [None if leaf is None else leaf.grad for leaf in leaves]
    no_sync = getattr(encoder, "no_sync", nullcontext)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for rows, state in zip(parts, states, strict=True):
            _set_random_state(device, state)
            is_last = rows is parts[-1]
            with nullcontext() if is_last else no_sync():
                with autocast():
                    encoded = _float(encoder(rows_of(images, rows), rows_of(texts, rows)))
                total = 0 * _sum_of_scales(encoded)
                for place, (own, gradient) in enumerate(zip(encoded, gradients, strict=True)):
                    if own is None or gradient is None:
                        continue
                    if place < 2:
                        total = total + (own * gradient[rows]).sum()
                    elif is_last:  # every part has the same scale, which counts once
                        total = total + (own * gradient).sum()
                total.backward()  # type: ignore[no-untyped-call]
    return value.detach()


@contextmanager
def batch_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Let batch norms compute as in training, without moving their statistics."""
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.training
        and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


_RandomState = tuple[Tensor, Tensor | None]


def _random_state(device: torch.device) -> _RandomState:
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def _set_random_state(device: torch.device, state: _RandomState) -> None:
    on_host, on_device = state
    torch.set_rng_state(on_host)
    if on_device is not None:
        torch.cuda.set_rng_state(on_device, device)


def _device_and_count(inputs: Inputs) -> tuple[torch.device, int]:
    first = inputs if isinstance(inputs, Tensor) else inputs[0]
    return first.device, len(first)


def moved(inputs: Inputs, device: str) -> Inputs:
    """Move all tensors to a device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    return tuple(each.to(device, non_blocking=True) for each in inputs)


def rows_of(inputs: Inputs, rows: slice) -> Inputs:
    """Select rows of all tensors."""
    if isinstance(inputs, Tensor):
        return inputs[rows]
    return tuple(each[rows] for each in inputs)


def _float(encoded: Encoded) -> Encoded:
    images, texts, scale, bias = encoded
    return images.float(), texts.float(), scale.float(), None if bias is None else bias.float()


def _leaves(outputs: list[Encoded]) -> Encoded:
    """Join the vectors of all parts; what is returned gets gradients of its own."""
    images = torch.cat([output[0] for output in outputs]).requires_grad_()
    texts = torch.cat([output[1] for output in outputs]).requires_grad_()
    _, _, scale, bias = outputs[0]
    return (
        images,
        texts,
        scale.detach().clone().requires_grad_(),
        None if bias is None else bias.detach().clone().requires_grad_(),
    )


def _sum_of_scales(encoded: Encoded) -> Tensor:
    _, _, scale, bias = encoded
    return scale.sum() if bias is None else scale.sum() + bias.sum()
