"""Augment captions while an encoder is trained: drop words, join two captions of an image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.errors import UsageError

_NO_SPACES = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai and Lao letters, kana, ideographs: scripts without spaces between words."""
_WORD = re.compile(f"[{_NO_SPACES}]|[^\\W{_NO_SPACES}]+(?:['’-][^\\W{_NO_SPACES}]+)*")
_SPACES = re.compile(r"\s+")
_BEFORE_PUNCTUATION = re.compile(r"\s+(?=[,.;:!?])")


@dataclass(frozen=True)
class CaptionAugmentation:
    """Drop words and join captions, the same way for a seed.

    dropout: probability with which each word is left out, characters of scripts without spaces
    (random deletion, Wei and Zou 2019); one word at least is left. joined: probability
    that another caption of the image follows.
    """

    dropout: float = 0.0
    joined: float = 0.0

    def __post_init__(self) -> None:
        """Raise UsageError for a setting out of range."""
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and less than 1, not {self.dropout}.")
        if not 0 <= self.joined <= 1:
            raise UsageError(f"joined must be from 0 to 1, not {self.joined}.")

    def __call__(self, captions: Sequence[str], chosen: int, seed: int) -> str:
        """Make the variant of a caption for a seed.

        Args:
            captions: all captions of the image.
            chosen: number of one of them.
            seed: at least 0.
        """
        random = np.random.default_rng(seed)
        caption = captions[chosen]
        others = [text for text in dict.fromkeys(captions) if text != caption]
        if others and random.random() < self.joined:
            caption = join_captions(caption, others[int(random.integers(len(others)))])
        return drop_words(caption, self.dropout, random) if self.dropout else caption


def join_captions(first: str, second: str) -> str:
    """Join two captions as sentences of one text."""
    first = first.rstrip()
    if first.endswith(("。", "！", "？")):
        return first + second
    if re.search(f"[{_NO_SPACES}]$", first):
        return f"{first}。{second}"
    return f"{first} {second}" if first.endswith((".", "!", "?")) else f"{first}. {second}"


def drop_words(text: str, rate: float, random: np.random.Generator) -> str:
    """Leave out each word with a probability, but never all."""
    words = list(_WORD.finditer(text))
    if len(words) < 2:
        return text
    is_kept = random.random(len(words)) >= rate
    if not is_kept.any():
        is_kept[random.integers(len(words))] = True
    if is_kept.all():
        return text
    kept, end = "", 0
    for word, stays in zip(words, is_kept.tolist(), strict=True):
        kept += text[end : word.end() if stays else word.start()]
        end = word.end()
    return _BEFORE_PUNCTUATION.sub("", _SPACES.sub(" ", kept + text[end:])).strip()
