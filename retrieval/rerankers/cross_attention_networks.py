"""A cross-attention model as it runs: by PyTorch from its weight file, or by ONNX Runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Tokens
from retrieval.encoders.runtimes.network_folder import NetworkFolder

if TYPE_CHECKING:
    from torch import Tensor

    from retrieval.rerankers.cross_attention_model import CrossAttentionModel

ONNX_FORMAT = "mmsearch-cross-attention-onnx-1"

Array = NDArray[np.float32]


class CrossAttentionNetwork(Protocol):
    """What a reranker computes with a model. Tokens are embedded, but for the first two methods."""

    def embed_images(self, tokens: Tokens) -> Array:
        """Embed tokens of images, (n, t, c) -> (n, t, width)."""
        ...

    def embed_texts(self, tokens: Tokens) -> Array:
        """Embed tokens of texts, (m, t, c) -> (m, t, width)."""
        ...

    def match(self, texts: Tokens, images: Tokens) -> Array:
        """Compute the match logits of all pairs, (m, n), of at least one text and one image."""
        ...

    def trust(self, side: str, states: Array) -> Array:
        """Compute the out-of-distribution trust in (n, width) mean states of a `side`, (n,).

        side: `text` or `image`.
        """
        ...

    @property
    def image_centre(self) -> Array:
        """Return the mean state of the images of the training data, (width,)."""
        ...

    def attribution(self, text: Array, image: Array) -> Array:
        """Attribute the match of (t, width) and (u, width), without padding, to pairs, (t, u)."""
        ...


class TorchNetwork:
    """Satisfies `CrossAttentionNetwork`, with any model, on any device of PyTorch."""

    def __init__(self, model: "CrossAttentionModel", device: str) -> None:
        self.model = model
        self.device = device

    def embed_images(self, tokens: Tokens) -> Array:
        """As of the protocol."""
        return self._run(self.model.embed_images, tokens.values, tokens.mask)

    def embed_texts(self, tokens: Tokens) -> Array:
        """As of the protocol."""
        return self._run(self.model.embed_texts, tokens.values, tokens.mask)

    def match(self, texts: Tokens, images: Tokens) -> Array:
        """As of the protocol."""
        mask = None if images.mask.all() else images.mask
        return self._run(
            self.model.match,
            texts.values.astype(np.float32, copy=False),
            texts.mask,
            images.values.astype(np.float32, copy=False),
            mask,
        ).T

    def trust(self, side: str, states: Array) -> Array:
        """As of the protocol."""
        return self._run(getattr(self.model, f"{side}_trust"), states)

    @property
    def image_centre(self) -> Array:
        """As of the protocol."""
        centre: Array = self.model.image_trust.mean.cpu().numpy()
        return centre

    def attribution(self, text: Array, image: Array) -> Array:
        """As of the protocol; see `CrossAttentionModel.attribution`."""
        found: Array = self.model.attribution(self._tensor(text), self._tensor(image)).cpu().numpy()
        return found

    def _run(self, call: Any, *arrays: NDArray[Any] | None) -> Array:
        import torch

        with torch.inference_mode():
            tensors = (None if array is None else self._tensor(array) for array in arrays)
            found: Array = call(*tensors).cpu().numpy()
        return found

    def _tensor(self, array: NDArray[Any]) -> "Tensor":
        import torch

        return torch.from_numpy(np.require(array, requirements="W")).to(self.device)


class OnnxNetwork:
    """Satisfies `CrossAttentionNetwork`, with a folder that `mmsearch train export` made."""

    def __init__(self, networks: NetworkFolder) -> None:
        self._networks = networks

    def embed_images(self, tokens: Tokens) -> Array:
        """As of the protocol."""
        return self._run("embed_images", tokens=tokens.values, mask=tokens.mask)

    def embed_texts(self, tokens: Tokens) -> Array:
        """As of the protocol."""
        return self._run("embed_texts", tokens=tokens.values, mask=tokens.mask)

    def match(self, texts: Tokens, images: Tokens) -> Array:
        """As of the protocol."""
        return self._run(
            "match",
            texts=texts.values,
            text_mask=texts.mask,
            images=images.values,
            image_mask=images.mask,
        ).T

    def trust(self, side: str, states: Array) -> Array:
        """As of the protocol."""
        return self._run(f"{side}_trust", states=states)

    @property
    def image_centre(self) -> Array:
        """As of the protocol."""
        return np.array(self._networks.card["image_centre"], np.float32)

    def attribution(self, text: Array, image: Array) -> Array:
        """As of the protocol."""
        return self._run("attribution", text=text, image=image)

    def _run(self, name: str, **inputs: NDArray[Any]) -> Array:
        given = {
            name: values if values.dtype == np.bool_ else values.astype(np.float32, copy=False)
            for name, values in inputs.items()
        }
        [found] = self._networks[name](given)
        return found


def load_networks(folder: Path, device: str, remedy: str) -> tuple[OnnxNetwork, dict[str, Any]]:
    """Open a folder of networks; return them and what its card says.

    Raises:
        EncoderUnavailableError: the card is missing, damaged or of another kind.
    """
    networks = NetworkFolder(folder, ONNX_FORMAT, device=device, remedy=remedy)
    return OnnxNetwork(networks), networks.card
