import math
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from retrieval.training.losses import (
    PAIR_LOSSES,
    PairLoss,
    clamp_scale,
    contrastive_loss,
    distillation_loss,
    shares_loss,
    sigmoid_loss,
    triplet_loss,
)


def slow_reference(images: torch.Tensor, texts: torch.Tensor, scale: float) -> float:
    """The formula of the docstring, term by term, in float64."""
    n = len(images)
    similarity = [[scale * float(x @ y) for y in texts.double()] for x in images.double()]
    total = 0.0
    for i in range(n):
        row = sum(math.exp(similarity[i][j]) for j in range(n))
        column = sum(math.exp(similarity[j][i]) for j in range(n))
        total -= math.log(math.exp(similarity[i][i]) / row)
        total -= math.log(math.exp(similarity[i][i]) / column)
    return total / (2 * n)


@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0])
def test_contrastive_loss_follows_its_formula(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(7, 16, generator=generator), dim=1)
    texts = F.normalize(torch.randn(7, 16, generator=generator), dim=1)
    loss = contrastive_loss(images, texts, torch.tensor(scale)).item()
    assert loss == pytest.approx(slow_reference(images, texts, scale), rel=1e-4)


def test_contrastive_loss_of_vectors_that_say_nothing_is_log_n() -> None:
    same = F.normalize(torch.ones(8, 4), dim=1)
    assert contrastive_loss(same, same, torch.tensor(10.0)).item() == pytest.approx(math.log(8))


def test_contrastive_loss_treats_both_sides_alike() -> None:
    images, texts = F.normalize(torch.randn(2, 5, 8), dim=2)
    scale = torch.tensor(10.0)
    forth, back = contrastive_loss(images, texts, scale), contrastive_loss(texts, images, scale)
    assert forth.item() == pytest.approx(back.item(), rel=1e-5)


def test_distillation_loss_is_the_divergence_of_rows_and_columns() -> None:
    generator = torch.Generator().manual_seed(0)
    own, teacher = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    total = 0.0
    for true, found in ((teacher, own), (teacher.T, own.T)):
        p, q = true.softmax(1), found.softmax(1)
        total += float((p * (p / q).log()).sum() / len(p))
    assert distillation_loss(own, teacher).item() == pytest.approx(total / 2)
    assert distillation_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-12)


def test_shares_loss_compares_with_shares_of_photos_that_show_a_word() -> None:
    logits = torch.tensor([[2.0, 2.0, -50.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    # The first row is right, the second says nothing, the third has less than one photo.
    assert shares_loss(logits, weights).item() == pytest.approx(math.log(3) / 2)
    assert shares_loss(logits, torch.zeros(3, 3)).item() == 0


GROUPS = (0, 1, 1, 2, 3, 3, 3)


def unit_pairs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 7, 5, generator=generator, dtype=torch.float64)
    return F.normalize(images, dim=1), F.normalize(texts, dim=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_contrastive_loss_divides_its_target_over_texts_of_one_image(smoothing: float) -> None:
    images, texts = unit_pairs()
    similarity = (9 * images @ texts.T).tolist()
    total = 0.0
    for i, group in enumerate(GROUPS):
        fellows = [j for j, other in enumerate(GROUPS) if other == group]
        for logits in (similarity[i], [row[i] for row in similarity]):
            others = sum(math.exp(logits[j]) for j in range(7) if j not in fellows)
            for j in fellows:
                share = (1 - smoothing) * (i == j) + smoothing / len(fellows)
                total -= share * math.log(math.exp(logits[j]) / (math.exp(logits[j]) + others))
    loss = contrastive_loss(images, texts, 9.0, groups=torch.tensor(GROUPS), smoothing=smoothing)
    assert loss.item() == pytest.approx(total / 14)


def test_sigmoid_loss_follows_its_formula() -> None:
    images, texts = unit_pairs()
    for groups in (GROUPS, range(7)):
        total = 0.0
        for i, j in product(range(7), repeat=2):
            sign = 1 if groups[i] == groups[j] else -1
            total += math.log1p(math.exp(-sign * (9 * float(images[i] @ texts[j]) - 4)))
        found = sigmoid_loss(images, texts, 9.0, bias=-4.0, groups=torch.tensor(groups))
        assert found.item() == pytest.approx(total / 7)
    assert sigmoid_loss(images, texts, 9.0, bias=-4.0).item() == pytest.approx(total / 7)


def test_triplet_loss_follows_its_formula() -> None:
    images, texts = unit_pairs()
    cosines = (images @ texts.T).tolist()
    for groups in (GROUPS, range(7)):
        total = 0.0
        for i in range(7):
            others = [j for j in range(7) if groups[j] != groups[i]]
            for hardest in (max(cosines[i][j] for j in others), max(cosines[j][i] for j in others)):
                total += max(0.0, 0.3 - cosines[i][i] + hardest)
        found = triplet_loss(images, texts, 9.0, groups=torch.tensor(groups), margin=0.3)
        assert found.item() == pytest.approx(total / 7)
    assert triplet_loss(images, texts, 1.0, margin=0.3).item() == pytest.approx(total / 7)


@pytest.mark.parametrize("groups", [None, torch.tensor(GROUPS)])
@pytest.mark.parametrize(
    "loss",
    [*PAIR_LOSSES.values(), partial(contrastive_loss, smoothing=0.2)],
    ids=[*PAIR_LOSSES, "smoothed"],
)
def test_gradients_of_pair_losses_are_those_of_small_steps(
    loss: PairLoss, groups: torch.Tensor | None
) -> None:
    images, texts = unit_pairs()
    scale, bias = torch.tensor([3.0, -1.0], dtype=torch.float64)
    inputs = [each.detach().clone().requires_grad_() for each in (images, texts, scale, bias)]
    assert torch.autograd.gradcheck(
        lambda images, texts, scale, bias: loss(images, texts, scale, bias=bias, groups=groups),
        inputs,
    )


@pytest.mark.parametrize("loss", [*PAIR_LOSSES.values()], ids=[*PAIR_LOSSES])
def test_a_batch_of_one_image_has_a_finite_loss(loss: PairLoss) -> None:
    images, texts = unit_pairs()
    images.requires_grad_()
    value = loss(images, texts, 5.0, groups=torch.zeros(7, dtype=torch.int64))
    value.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(value)
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()


def test_the_scale_is_kept_from_1_to_100() -> None:
    for given, kept in ((-3.0, 1.0), (2.0, math.exp(2)), (9.0, 100.0)):
        scale = torch.nn.Parameter(torch.tensor(given))
        clamp_scale(scale)
        assert scale.exp().item() == pytest.approx(kept)
