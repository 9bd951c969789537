from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrieval.errors import UsageError
from retrieval.training.encoders import frozen_prefix
from retrieval.training.encoders.frozen_prefix import (
    FrozenPrefix,
    caption_bytes,
    caption_states,
    photo_bytes,
    photo_states,
)
from retrieval.training.encoders.tuning import Tuned, TuningMode, tune
from retrieval.training.losses import contrastive_loss
from tests.tiny_dual_encoders import KINDS, encoded, pairs, tiny_dual_encoder

MOST = 10**9


def prepared(
    kind: str, folder: Path, mode: TuningMode = "partial", layers: tuple[int, int] | None = (1, 2)
) -> tuple[Tuned, FrozenPrefix]:
    """Tune a model without dropout and batch statistics, and cut it."""
    model = tiny_dual_encoder(kind, folder).eval()
    tuned = tune(model, mode, learning_rate=1e-2, layers=layers or (None, None))
    return tuned, FrozenPrefix(tuned, *pairs(2))


def outcome(model: nn.Module, cut: nn.Module, *inputs: object) -> tuple[Tensor, dict[str, Tensor]]:
    """Return vectors, and gradients of a loss by parameter."""
    images, texts = encoded(cut, *inputs)
    contrastive_loss(images, texts, model.logit_scale.exp()).backward()  # type: ignore[operator]
    named = model.named_parameters()
    gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
    model.zero_grad()
    return torch.cat([images, texts]).detach(), gradients


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("mode", "layers"), [("partial", (1, 2)), ("linear", None), ("lora", (1, 1))]
)
def test_a_cut_model_computes_and_learns_as_the_whole(
    kind: str, mode: TuningMode, layers: tuple[int, int] | None, tmp_path: Path
) -> None:
    tuned, prefix = prepared(kind, tmp_path, mode, layers)
    model = tuned.model
    pixels, ids = pairs(7)
    vectors, gradients = outcome(model, model, pixels, ids)
    states = prefix.image_states(pixels), prefix.text_states(ids)
    for _ in range(2):
        found, own = outcome(model, prefix, *states)
        torch.testing.assert_close(found, vectors, rtol=0, atol=1e-6)
        assert own.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(own[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_states_on_disk_give_nearly_the_vectors_of_the_whole(kind: str, tmp_path: Path) -> None:
    tuned, prefix = prepared(kind, tmp_path)
    pixels, ids = pairs(70)
    cache = tmp_path / "cache"
    images = photo_states(
        prefix,
        lambda photo, variant: pixels[photo].flip(2) if variant else pixels[photo],
        photos=70,
        variants=2,
        key=["photos"],
        cache=cache,
        most_bytes=MOST,
    )
    texts = caption_states(prefix, ids, cache=cache, most_bytes=MOST)
    rows = np.array([69, 3, 3, 40])
    variants = np.array([0, 1, 0, 1])
    mirrored = pixels[rows]
    mirrored[variants == 1] = mirrored[variants == 1].flip(3)
    vectors, gradients = outcome(tuned.model, tuned.model, mirrored, ids[rows])
    found, own = outcome(tuned.model, prefix, images.batch(variants, rows), texts.batch(rows))
    torch.testing.assert_close(found, vectors, rtol=0, atol=5e-3)
    for name, gradient in gradients.items():
        within = 2e-2 * max(1e-2, gradient.abs().max().item())
        torch.testing.assert_close(own[name], gradient, rtol=0, atol=within, msg=name)
    on_disk = {file.parent.name[:5]: file.stat().st_size for file in cache.glob("*/states.f16")}
    assert on_disk == {
        "image": photo_bytes(prefix, 70, 2),
        "text-": caption_bytes(prefix, ids),
    }


def test_only_tokens_that_matter_are_kept(tmp_path: Path) -> None:
    _, ids = pairs(9)
    expected = [row.tolist().index(99) + 1 for row in ids]
    for kind in ("vit", "timm-vit", "bert"):
        _, prefix = prepared(kind, tmp_path)
        assert prefix.lengths(ids).tolist() == expected
        assert caption_bytes(prefix, ids) == 2 * 32 * sum(expected)
    _, prefix = prepared("bert", tmp_path, "linear", None)
    assert caption_bytes(prefix, ids) == 2 * 32 * 9


def test_an_interrupted_run_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_prefix, "IMAGE_BATCH", 2)
    _, prefix = prepared("vit", tmp_path)
    pixels, _ = pairs(6)
    read: list[int] = []

    def cached(reader: Callable[[int, int], Tensor], key: str = "photos") -> np.ndarray:
        states = photo_states(
            prefix, reader, photos=6, variants=1, key=[key], cache=tmp_path, most_bytes=MOST
        )
        return np.array(states.values[0])

    def failing(photo: int, _: int) -> Tensor:
        if photo == 4:
            raise UsageError("cut")
        return pixels[photo]

    def reading(photo: int, _: int) -> Tensor:
        read.append(photo)
        return pixels[photo]

    with pytest.raises(UsageError, match="cut"):
        cached(failing)
    first = cached(reading)
    assert sorted(read) == [4, 5]
    assert np.array_equal(first, cached(failing))
    cached(reading, key="other photos")
    assert len(read) == 2 + 6
    expected = prefix.image_states(pixels).numpy()
    assert np.allclose(first, expected, rtol=2e-3, atol=1e-3)


def test_other_weights_are_not_taken_for_the_same(tmp_path: Path) -> None:
    tuned, prefix = prepared("timm-cnn", tmp_path)
    digests = prefix.digest(0), prefix.digest(1)
    with torch.no_grad():
        tuned.model.logit_scale.add_(1)  # type: ignore[operator, union-attr]
        tuned.model.get_parameter("visual.head.proj.weight").add_(1)
    assert (prefix.digest(0), prefix.digest(1)) == digests
    tuned.model.get_buffer("visual.trunk.bn1.running_mean").add_(1)
    assert prefix.digest(0) != digests[0]
    assert prefix.digest(1) == digests[1]


def test_too_little_space_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    _, prefix = prepared("vit", tmp_path)
    needed = photo_bytes(prefix, 5, 3)
    assert needed == 2 * 5 * 3 * 17 * 64

    def unread(*_: int) -> Tensor:
        raise AssertionError("read")

    with pytest.raises(UsageError, match=r"the bound is 0.0 GB.*cache fewer variants"):
        photo_states(
            prefix,
            unread,
            photos=5,
            variants=3,
            key=[],
            cache=tmp_path,
            most_bytes=needed - 1,
        )
    with pytest.raises(UsageError, match="of all captions take"):
        caption_states(prefix, pairs(5)[1], cache=tmp_path, most_bytes=1)
    with pytest.raises(UsageError, match="the disk of"):
        photo_states(
            prefix,
            unread,
            photos=10**9,
            variants=10**6,
            key=[],
            cache=tmp_path,
            most_bytes=10**30,
        )


def test_states_beyond_float16_are_refused(tmp_path: Path) -> None:
    _, prefix = prepared("vit", tmp_path)
    pixels, _ = pairs(2)
    with torch.no_grad():
        prefix.model.get_parameter("visual.ln_pre.weight").mul_(1e7)
    with pytest.raises(UsageError, match="exceed the range of float16"):
        photo_states(
            prefix,
            lambda photo, _: pixels[photo],
            photos=2,
            variants=1,
            key=[],
            cache=tmp_path,
            most_bytes=MOST,
        )


def test_a_tower_without_frozen_layers_is_not_cut(tmp_path: Path) -> None:
    tuned, prefix = prepared("vit", tmp_path, "partial", (4, 1))
    pixels, ids = pairs(3)
    assert prefix.image_states(pixels) is pixels
    vectors, _ = outcome(tuned.model, tuned.model, pixels, ids)
    found, _ = outcome(tuned.model, prefix, pixels, prefix.text_states(ids))
    torch.testing.assert_close(found, vectors)
    with pytest.raises(UsageError, match="image tower has no frozen layers"):
        photo_bytes(prefix, 1, 1)


def test_a_text_tower_whose_layers_share_a_bias_is_refused(tmp_path: Path) -> None:
    import transformers
    from open_clip.model import CustomTextCLIP

    transformers.MT5Config(
        vocab_size=100, d_model=32, d_kv=16, d_ff=48, num_layers=3, num_heads=2, pad_token_id=0
    ).save_pretrained(tmp_path / "mt5")
    model = CustomTextCLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
        text_cfg={
            "hf_model_name": str(tmp_path / "mt5"),
            "hf_model_pretrained": False,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
            "context_length": 12,
        },
    )
    tuned = tune(model, "partial", learning_rate=1e-3, layers=(0, 1))
    with pytest.raises(UsageError, match="frozen layers of this text tower cannot be cached"):
        FrozenPrefix(tuned, *pairs(2))
    FrozenPrefix(tune(model, "linear", learning_rate=1e-3), *pairs(2))
