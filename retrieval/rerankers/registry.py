"""Registry of rerankers: load one by its name for an encoder."""

from retrieval.encoders.base import Encoder, require_tokens
from retrieval.encoders.registry import resolve_device
from retrieval.errors import UsageError, left_out_packages_explained
from retrieval.rerankers.base import Reranker

AUTO = "auto"
NONE = "none"
CROSS_ATTENTION = "cross-attention"
FUSION = "fusion"
"""The earlier name of `cross-attention`, still valid."""
BLIP_ITM = "blip-itm"
LATE_INTERACTION = "late-interaction"
VILT = "vilt"
VLM = "vlm"


def load_reranker(name: str, encoder: Encoder, device: str = "auto") -> Reranker | None:
    """Load a reranker by its name for an encoder's space.

    Args:
        name: `auto` (the cross-attention model shipped for this space, if there is one, else
            `none`), `cross-attention`, `cross-attention:FILE` (or a folder of exported networks),
            `none`, or, through `transformers` and for any space, `blip-itm`,
            `blip-itm:NAME_OR_DIR` (BLIP), `late-interaction:NAME_OR_DIR` (ColPali or ColQwen2),
            `vilt:NAME_OR_DIR` (ViLT) or `vlm:NAME_OR_DIR` (BLIP-2, Qwen3-VL-Reranker or
            jina-reranker-m0).
        encoder: the encoder whose candidates are reranked.
        device: `cpu`, `cuda` or `auto`.

    Returns:
        The reranker, or None for `none`.

    Raises:
        UsageError: unknown name.
        SpaceMismatchError: the cross-attention model was trained for another space.
        EncoderUnavailableError: missing or damaged weights.
    """
    if name == NONE:
        return None
    with left_out_packages_explained(f"The reranker {name!r}"):
        return _load(name, encoder, device)


def _load(name: str, encoder: Encoder, device: str) -> Reranker | None:
    from retrieval.rerankers.cross_attention import CrossAttentionReranker, shipped_model

    kind, _, which = name.partition(":")
    if name == AUTO:
        file = shipped_model(encoder.space)
        return CrossAttentionReranker(file, require_tokens(encoder), device) if file else None
    if kind in (CROSS_ATTENTION, FUSION):
        return CrossAttentionReranker.by_name(which, require_tokens(encoder), device)
    if kind == BLIP_ITM:
        from retrieval.rerankers.blip import BlipItmReranker

        return BlipItmReranker(which or None, device=resolve_device(device))
    if kind == LATE_INTERACTION and which:
        from retrieval.rerankers.page_patches import LateInteractionReranker

        return LateInteractionReranker(which, device=resolve_device(device))
    if kind == VILT and which:
        from retrieval.rerankers.vilt import load_vilt

        return load_vilt(which, resolve_device(device))
    if kind == VLM and which:
        from retrieval.rerankers.vlm import load_vlm

        return load_vlm(which, resolve_device(device))
    raise UsageError(
        f"There is no reranker {name!r}. Use auto, cross-attention, cross-attention:FILE, "
        "blip-itm, blip-itm:NAME_OR_DIR, late-interaction:NAME_OR_DIR, vilt:NAME_OR_DIR, "
        "vlm:NAME_OR_DIR or none."
    )
