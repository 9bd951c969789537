import math

import pytest
import torch
import torch.nn.functional as F

from retrieval.training.losses import contrastive_loss, distillation_loss, shares_loss


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
