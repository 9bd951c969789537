from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from retrieval.errors import UsageError
from retrieval.training.encoders.gradient_cache import PairEncoder, backward_in_parts
from retrieval.training.encoders.tuning import tune
from retrieval.training.losses import PAIR_LOSSES, contrastive_loss
from tests.tiny_dual_encoders import pairs, tiny_dual_encoder

GROUPS = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4, 5, 6])
LOSSES = {**PAIR_LOSSES, "smoothed": partial(contrastive_loss, smoothing=0.2)}


def loss_of(name: str) -> Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]:
    return lambda images, texts, scale, bias: LOSSES[name](
        images, texts, scale, bias=bias, groups=GROUPS
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", [*LOSSES])
@pytest.mark.parametrize("part", [1, 3, 5, 10])
def test_parts_give_the_gradients_of_the_whole_batch(name: str, part: int, tmp_path: Path) -> None:
    model = tiny_dual_encoder("vit", tmp_path, bias=True)
    pixels, ids = pairs(10)
    loss = loss_of(name)
    whole = loss(*PairEncoder(model)(pixels, ids))
    whole.backward()
    expected = gradients(model)
    value = backward_in_parts(PairEncoder(model), pixels, ids, loss, part=part)
    found = gradients(model)
    assert value.item() == pytest.approx(whole.item(), abs=1e-6)
    for each, gradient in expected.items():
        within = 1e-5 * max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(found.pop(each), gradient, rtol=0, atol=within, msg=each)
    # Not of all losses: but each process must have gradients of the same parameters.
    assert found.keys() <= {"logit_scale", "logit_bias"}
    assert not any(gradient.any() for gradient in found.values())


def test_dropout_is_the_same_in_both_passes(tmp_path: Path) -> None:
    model = tiny_dual_encoder("bert", tmp_path).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    pixels, ids = pairs(10)
    encoder = PairEncoder(model)
    torch.manual_seed(1)
    outputs = [encoder(pixels[rows], ids[rows]) for rows in (slice(0, 5), slice(5, 10))]
    images, texts = (torch.cat([output[side] for output in outputs]) for side in (0, 1))
    loss_of("smoothed")(images, texts, outputs[0][2], None).backward()
    following = torch.rand(3)
    expected = gradients(model)
    torch.manual_seed(1)
    backward_in_parts(encoder, pixels, ids, loss_of("smoothed"), part=5)
    assert torch.rand(3).equal(following)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-5, msg=name)


def test_statistics_of_batch_norms_move_once(tmp_path: Path) -> None:
    model = tiny_dual_encoder("timm-cnn", tmp_path).train()
    backward_in_parts(PairEncoder(model), *pairs(10), loss_of("contrastive"), part=5)
    counts = [v for name, v in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts
    assert {int(count) for count in counts} == {2}  # two parts


class Linear(nn.Module):
    """Encodes vectors, texts as the sum of several."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layer = nn.Linear(4, 3)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.logit_bias = nn.Parameter(torch.tensor(-2.0))

    def encode_image(self, inputs: Tensor, normalize: bool) -> Tensor:
        return nn.functional.normalize(self.layer(inputs), dim=1)

    def encode_text(self, inputs: tuple[Tensor, ...], normalize: bool) -> Tensor:
        return self.encode_image(torch.stack(inputs).sum(0), normalize)


def vectors() -> tuple[Tensor, tuple[Tensor, Tensor]]:
    images, some, others = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0))
    return images, (some, others)


def test_inputs_of_several_tensors_are_cut_alike() -> None:
    model = Linear()
    images, texts = vectors()
    loss = loss_of("sigmoid")
    backward_in_parts(PairEncoder(model), images, texts, loss, part=4)
    in_parts = gradients(model)
    backward_in_parts(PairEncoder(model), images, (texts[0] + texts[1],), loss, part=10)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(in_parts[name], gradient, msg=name)


def test_scaled_gradients_stay_scaled(tmp_path: Path) -> None:
    model = tiny_dual_encoder("vit", tmp_path)
    pixels, ids = pairs(10)
    found = []
    for scale in (1, 4):
        backward_in_parts(
            PairEncoder(model),
            pixels,
            ids,
            loss_of("contrastive"),
            part=4,
            autocast=partial(torch.autocast, "cpu", torch.bfloat16),
            backward=lambda loss, scale=scale: (scale * loss).backward(),  # type: ignore[misc]
        )
        found.append(gradients(model))
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], 4 * gradient, rtol=1e-2, atol=1e-3, msg=name)


def test_frozen_parameters_get_no_gradients(tmp_path: Path) -> None:
    model = tiny_dual_encoder("vit", tmp_path)
    tune(model, "linear", learning_rate=1e-3)
    backward_in_parts(PairEncoder(model), *pairs(10), loss_of("sigmoid"), part=4)
    assert gradients(model).keys() == {"visual.proj", "text_projection", "logit_scale"}


def test_parts_need_an_item(tmp_path: Path) -> None:
    model = tiny_dual_encoder("vit", tmp_path)
    with pytest.raises(UsageError, match="at least 1 item, not 0"):
        backward_in_parts(PairEncoder(model), *pairs(10), loss_of("sigmoid"), part=0)


class Gathered(torch.autograd.Function):
    """Rows of both processes; backward adds up what the losses of both say of one's own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        both = [torch.empty_like(rows) for _ in range(2)]
        distributed.all_gather(both, rows.contiguous())
        return torch.cat(both)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous()
        distributed.all_reduce(total)
        return total.chunk(2)[distributed.get_rank()]


def _train_apart(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    images, texts = vectors()
    own = slice(5 * rank, 5 * rank + 5)
    wrapped = DistributedDataParallel(PairEncoder(Linear()))

    def loss(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        gathered = Gathered.apply(images), Gathered.apply(texts)
        return loss_of("sigmoid")(*gathered, scale, bias)

    for part in (5, 2):
        backward_in_parts(wrapped, images[own], tuple(t[own] for t in texts), loss, part=part)
        torch.save(gradients(wrapped.module.model), folder / f"{rank}-{part}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_together_give_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_train_apart, (tmp_path,), nprocs=2)
    model = Linear()
    loss_of("sigmoid")(*PairEncoder(model)(*vectors())).backward()
    for name, gradient in gradients(model).items():
        for file in ("0-5", "1-5", "0-2", "1-2"):
            found = torch.load(tmp_path / f"{file}.pt", weights_only=True)[name]
            torch.testing.assert_close(found, gradient, msg=f"{file} {name}")
