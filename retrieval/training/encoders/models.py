"""Dual encoders to be trained: loaded by an encoder's name, saved as a folder that one names."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from retrieval.encoders.exports.store import BF16, INT8, LOCAL_DIR, OPEN_CLIP, canonical_name
from retrieval.encoders.modalities import ASSEMBLED
from retrieval.encoders.registry import STARTER
from retrieval.encoders.trust import trust_named_encoder
from retrieval.errors import UsageError
from retrieval.training.encoders.gradient_cache import Inputs

CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"


@dataclass(eq=False)
class DualModel:
    """A dual encoder with open_clip's interface, and all that its inputs need.

    model: has `encode_image` and `encode_text`, (n, d) each, and `logit_scale`, the logarithm of
    the inverse temperature; for sigmoid losses `logit_bias`, too.
    preprocess: from an upright RGB image to (3, height, width) float32, as for a search.
    tokenizer: from n texts to (n, context length) int64.
    encoder: name that it was loaded by.
    checksum: of the weights, as in `Space.weights`.
    config: contents of its `open_clip_config.json`; of encoders from parts, the model knows it.
    """

    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Any
    encoder: str
    checksum: str
    config: dict[str, Any]

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of the image tower's input, in pixels."""
        side: Any = self.model.visual.image_size  # type: ignore[union-attr]
        height, width = side if isinstance(side, tuple | list) else (side, side)
        return int(height), int(width)

    @property
    def input_side(self) -> int:
        """Shorter side of the image tower's input, in pixels."""
        return min(self.input_shape)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Tokenize n texts: (n, context length) int64."""
        ids: Tensor = self.tokenizer(list(texts))
        return ids

    def save(self, folder: Path) -> None:
        """Write a folder that `local-dir:FOLDER` loads, in the place of one that is there.

        Raises UsageError where there is something else.
        """
        from retrieval.encoders.assembled import AssembledModel, save_assembled

        if folder.exists() and not (folder / CONFIG_NAME).is_file():
            raise UsageError(f"{folder} is no encoder, and is not replaced. Choose another output.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
            made = Path(place) / folder.name
            if isinstance(self.model, AssembledModel):
                save_assembled(self.model, self.tokenizer, made)
            else:
                self._save_plain(made)
            # safetensors keeps others from reading what it writes, such as a service.
            (made / WEIGHTS_NAME).chmod((made / CONFIG_NAME).stat().st_mode)
            if folder.exists():
                folder.rename(Path(place) / "before")
            made.rename(folder)

    def _save_plain(self, folder: Path) -> None:
        """Write a model that open_clip itself builds from its configuration."""
        from safetensors.torch import save_file

        folder.mkdir()
        if hasattr(self.tokenizer, "save_pretrained"):
            self.tokenizer.save_pretrained(str(folder))
        weights = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in self.model.state_dict().items()
        }
        save_file(weights, folder / WEIGHTS_NAME, metadata={"format": "pt"})
        text = json.dumps(self.config, indent=2) + "\n"
        (folder / CONFIG_NAME).write_text(text, encoding="utf-8")


def load_trainable(name: str, **parts: Any) -> DualModel:
    """Load an encoder to train, in float32 on the CPU and in evaluation mode.

    Args:
        name: `open_clip:MODEL/PRETRAINED`, `local-dir:DIR` or `assembled:IMAGE+TEXT`. The folder or
            file in it is trusted from then on.
        parts: of encoders from parts, arguments of `retrieval.encoders.assembled.assemble`.

    Raises:
        UsageError: another kind of encoder, or a name that cannot be meant.
        EncoderUnavailableError: the weights cannot be had, or are damaged.
    """
    if name.endswith((BF16, INT8)):
        plain = name.removesuffix(BF16).removesuffix(INT8)
        raise UsageError(f"{name} cannot be trained: weights are trained in float32. Name {plain}.")
    if name.startswith(ASSEMBLED):
        from retrieval.encoders.assembled import assemble
        from retrieval.encoders.open_clip import checksum_of

        assembled, transform, tokenizer = assemble(name, **parts)
        checksum = checksum_of(assembled)
        return DualModel(assembled, transform, tokenizer, name, checksum, {})
    if parts:
        raise UsageError(f"{', '.join(parts)}: these are settings of encoders from parts only.")
    if name.partition(":")[0] == STARTER:
        raise UsageError(
            f"{name} cannot be trained: its heads are, by `mmsearch train heads` and "
            "`mmsearch train export`. To train towers like its own, start with "
            f"{ASSEMBLED}efficientnet-lite2+minilm."
        )
    if not name.startswith((OPEN_CLIP, LOCAL_DIR)):
        raise UsageError(
            f"The encoder {name!r} cannot be trained. Name a model of open_clip, "
            f"{OPEN_CLIP}MODEL/PRETRAINED, a folder with one, {LOCAL_DIR}DIR, or one from parts, "
            f"{ASSEMBLED}IMAGE+TEXT."
        )
    from retrieval.encoders.open_clip import OpenClipEncoder

    encoder = OpenClipEncoder(name)
    trust_named_encoder(name)
    model, tokenizer = encoder.parts
    return DualModel(
        model=model,
        preprocess=_transform(model),
        tokenizer=tokenizer,
        encoder=canonical_name(name),
        checksum=encoder.space.weights,
        config=_config(name, model),
    )


def _transform(model: nn.Module) -> Callable[[Image.Image], Tensor]:
    """Build the transform that open_clip gives with a pretrained model."""
    import open_clip

    settings = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    transform: Callable[[Image.Image], Tensor] = open_clip.transform.image_transform_v2(
        settings, is_train=False
    )
    return transform


def _config(name: str, model: nn.Module) -> dict[str, Any]:
    """Describe a model as `open_clip_config.json` does."""
    import open_clip

    if name.startswith(LOCAL_DIR):
        folder = Path(name.removeprefix(LOCAL_DIR))
        found: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        return found
    described = open_clip.get_model_config(name.removeprefix(OPEN_CLIP).partition("/")[0])
    preprocess = open_clip.get_model_preprocess_cfg(model)
    kept = ("mean", "std", "interpolation", "resize_mode")
    return {
        "model_cfg": described,
        "preprocess_cfg": {key: preprocess[key] for key in kept if key in preprocess},
    }


@torch.inference_mode()
def encode_photos(model: nn.Module, pixels: Tensor) -> Tensor:
    """Encode a batch of n preprocessed images: (n, d) float32, unit L2 norm."""
    rows: Tensor = model.encode_image(pixels, normalize=False)  # type: ignore[operator]
    return nn.functional.normalize(rows.float(), dim=-1)


@torch.inference_mode()
def encode_captions(model: nn.Module, ids: Inputs) -> Tensor:
    """Encode a batch of n tokenized texts: (n, d) float32, unit L2 norm."""
    rows: Tensor = model.encode_text(ids, normalize=False)  # type: ignore[operator]
    return nn.functional.normalize(rows.float(), dim=-1)
