"""Explain a match: each word's contribution and its attention over the image."""

from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Encoder
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.rerankers.base import ExplainableReranker, Reranker

_LETTERS = r"[\p{L}\p{M}\p{N}_]+"
_WORD = regex.compile(rf"[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}]|{_LETTERS}(?:[-'’]{_LETTERS})*")
"""A run of letters and digits, or one character of the scripts that put no space between words."""

HeatMap = NDArray[np.float32]
"""(rows, columns) float32, not negative, sum 1: attention over the image's view."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the upright image."""


@dataclass(frozen=True, eq=False)
class WordExplanation:
    """One word of the text, `text[start:end]`.

    contribution: by how much the match falls without the word. heat: its attention.
    """

    word: str
    start: int
    end: int
    contribution: float
    heat: HeatMap


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of a match of a text and an image.

    match: the reranker's logit. similarity: the cosine of both vectors. heat: attention of all
    words together. view: the part of the upright image that the heat maps cover.
    """

    text: str
    match: float
    similarity: float
    words: tuple[WordExplanation, ...]
    heat: HeatMap
    view: Box


def explain(
    reranker: Reranker | None, encoder: Encoder, text: str, image: Image.Image
) -> Explanation:
    """Explain the match of a text and an upright RGB image.

    The contribution of a word is the difference in the match without it (leave one out); its heat
    map is attention times gradient (`CrossAttentionModel.attribution`), or how near its tokens are
    to each patch (`LateInteractionReranker.attribution`).

    Args:
        reranker: one that can attribute its match: the cross-attention model of the encoder, or
            late interaction.
        encoder: the encoder of the reranker's space.
        text: the query.
        image: the upright RGB image.

    Raises:
        UsageError: the text is blank, or the reranker cannot attribute its match to tokens.
    """
    if not text.strip():
        raise UsageError("The text is empty: say what to look for in the image.")
    if not isinstance(reranker, ExplainableReranker):
        raise UsageError(
            "Only a cross-attention model or late interaction can explain a match, and there is "
            f"none for {encoder.space.encoder!r}. Train one with `mmsearch train reranker`, use "
            "`--rerank late-interaction:NAME_OR_DIR`, or the encoder `starter`."
        )
    prepared = reranker.preprocess(image)
    seen = reranker.image_tokens(np.stack([prepared]))
    grid = reranker.grid(prepared, int(seen.mask.sum()))
    spans = [word.span() for word in _WORD.finditer(text)] or [(0, len(text))]
    without = [f"{text[:start].rstrip()} {text[end:].lstrip()}".strip() for start, end in spans]
    matches = np.array(
        [reranker.match(reranker.text_tokens([each]), seen)[0, 0] for each in (text, *without)]
    )
    raised = reranker.attribution(reranker.text_tokens([text]), seen)
    tokens = reranker.token_spans(text)
    pixels = np.stack([encoder.preprocess(image)])
    vectors = encoder.encode(Modality.TEXT, [text]), encoder.encode(Modality.IMAGE, pixels)
    return Explanation(
        text=text,
        match=float(matches[0]),
        similarity=float(vectors[0][0] @ vectors[1][0]),
        words=tuple(
            WordExplanation(
                word=text[start:end],
                start=start,
                end=end,
                contribution=float(matches[0] - match),
                heat=_heat_map(
                    raised[[i for i, (a, b) in enumerate(tokens) if a < end and b > start]], grid
                ),
            )
            for (start, end), match in zip(spans, matches[1:], strict=True)
        ),
        heat=_heat_map(raised, grid),
        view=reranker.view(image.width, image.height),
    )


def _heat_map(raised: NDArray[np.float32], grid: NDArray[np.int64]) -> HeatMap:
    """Add up (t, u) over the tokens and lay it out as the image tokens lie on the image."""
    heat: HeatMap = raised.sum(0)[grid]
    total = heat.sum()
    return heat / total if total > 0 else np.full_like(heat, 1 / heat.size)
