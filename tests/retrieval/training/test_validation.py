import pytest
import torch

from retrieval.training.validation import Recalls, mean_recalls, recalls


def test_recalls_by_hand() -> None:
    # Six photos on six axes, one text each: two texts point at the wrong photo first.
    images = torch.eye(6)
    texts = torch.eye(6)
    texts[0] = torch.tensor([0.6, 0.8, 0, 0, 0, 0])
    texts[5] = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1, -0.6])
    measured = recalls(images, texts, torch.arange(6))
    assert measured.text_to_image == pytest.approx((4 / 6, 5 / 6, 1.0))
    # Photo 1's own text is nearest to it; photo 0 has text 0 nearest; photo 5's comes last.
    assert measured.image_to_text == pytest.approx((5 / 6, 5 / 6, 1.0))


def test_any_own_caption_counts_for_a_photo() -> None:
    images = torch.eye(2)
    texts = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    measured = recalls(images, texts, torch.tensor([0, 0, 1]))
    assert measured.text_to_image[0] == pytest.approx(2 / 3)
    assert measured.image_to_text[0] == pytest.approx(1 / 2)  # photo 1 ties with photo 0's text


def test_a_constant_encoder_recalls_nothing() -> None:
    same = torch.ones(20, 4) / 2
    measured = recalls(same, same, torch.arange(20))
    assert measured.mean == 0


def test_recalls_are_averaged_depth_by_depth() -> None:
    one = Recalls((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    other = Recalls((0.3, 0.4, 0.5), (0.4, 0.5, 1.0))
    mean = mean_recalls([one, other])
    assert mean.text_to_image == pytest.approx((0.2, 0.3, 0.4))
    assert mean.image_to_text == pytest.approx((0.4, 0.5, 0.8))
