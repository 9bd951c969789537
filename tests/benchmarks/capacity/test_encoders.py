import pytest

from benchmarks.capacity.encoders import (
    encoder_cost,
    encoder_names,
    gpu_images_per_second,
    require_encoder_cost,
    short_name,
)
from retrieval.encoders.registry import RECOMMENDED, RECOMMENDED_XLM
from retrieval.errors import UsageError

PUBLISHED = [(8.0, 2500.0), (32.0, 1100.0), (160.0, 300.0)]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("ViT-L-14", "ViT-L-14"),
        ("open_clip:ViT-L-14/openai", "ViT-L-14"),
        ("open_clip:ViT-L-14/openai@bf16", "ViT-L-14"),
        ("starter:1", "starter:1"),
        ("local-dir:/models/mine", "local-dir:/models/mine"),
    ],
)
def test_names_that_cost_the_same_are_one(name, short):
    assert short_name(name) == short


def test_the_recommended_encoders_are_known():
    assert require_encoder_cost(RECOMMENDED).dimension == 768
    assert require_encoder_cost(RECOMMENDED_XLM).dimension == 512


def test_an_unknown_encoder_is_refused_with_similar_names():
    assert encoder_cost("ViT-L-15") is None
    with pytest.raises(UsageError, match=r"'ViT-L-15' costs is unknown.*ViT-L-1\d.*--measured"):
        require_encoder_cost("ViT-L-15")


def test_rates_of_a_gpu_go_through_the_published_ones_and_fall():
    for operations, rate in PUBLISHED:
        assert gpu_images_per_second(operations, PUBLISHED) == pytest.approx(rate)
    assert gpu_images_per_second(2.0, PUBLISHED) == 2500  # reading limits
    assert gpu_images_per_second(1600.0, PUBLISHED) == pytest.approx(30)
    rates = [gpu_images_per_second(10 * step, PUBLISHED) for step in range(1, 100)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32-SigLIP2-256", "ViT-L-14"])
def test_operations_are_those_that_pytorch_counts(name):
    open_clip = pytest.importorskip("open_clip")
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    assert name in encoder_names()
    cost = require_encoder_cost(name)
    with torch.device("meta"):  # shapes alone, no weights
        model = open_clip.create_model(name, device="meta", load_weights=False)
        model = model.eval().requires_grad_(False)
        side = model.visual.image_size
        sides = side if isinstance(side, tuple) else (side, side)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            vectors = model.encode_image(torch.empty(1, 3, *sides))
        assert vectors.shape[1] == cost.dimension
        assert counter.get_total_flops() == pytest.approx(cost.image_operations, rel=0.01)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.encode_text(torch.zeros(1, model.context_length, dtype=torch.long))
        assert counter.get_total_flops() == pytest.approx(cost.text_operations, rel=0.01)
