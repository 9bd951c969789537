"""Rerankers by name: which there are, and loading the one that fits an encoder."""

from retrieval.encoders.base import Encoder, require_tokens
from retrieval.encoders.registry import resolve_device
from retrieval.errors import UsageError
from retrieval.rerankers.base import Reranker

AUTO = "auto"
NONE = "none"
FUSION = "fusion"
BLIP_ITM = "blip-itm"


def load_reranker(name: str, encoder: Encoder, device: str = "auto") -> Reranker | None:
    """Load a reranker by its name for an encoder's space; None for `none`.

    `auto` is the fusion model that was made for this space, if there is one, else `none`.
    `fusion`, `fusion:FILE`: our own cross-attention model. `blip-itm`, `blip-itm:NAME_OR_DIR`:
    BLIP through `transformers`, for any space.

    Raises UsageError for an unknown name, SpaceMismatchError for a fusion model of another space,
    EncoderUnavailableError when weights cannot be had.
    """
    from retrieval.rerankers.cross_attention import FusionReranker, shipped_model

    kind, _, which = name.partition(":")
    if name == NONE:
        return None
    device = resolve_device(device)
    if name == AUTO:
        file = shipped_model(encoder.space)
        return FusionReranker(file, require_tokens(encoder), device) if file else None
    if kind == FUSION:
        return FusionReranker.by_name(which, require_tokens(encoder), device)
    if kind == BLIP_ITM:
        from retrieval.rerankers.blip import BlipItmReranker

        return BlipItmReranker(which or None, device=device)
    raise UsageError(
        f"There is no reranker {name!r}. Use auto, fusion, fusion:FILE, blip-itm, "
        "blip-itm:NAME_OR_DIR or none."
    )
