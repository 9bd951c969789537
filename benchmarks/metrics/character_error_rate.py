"""Character error rate: how much a recognised text differs from what stands there."""

import unicodedata
from collections.abc import Sequence

import numpy as np


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Divide the edit distances of texts to their references by the length of these.

    CER = (S + D + I) / N: the fewest substitutions, deletions and insertions of characters
    (Levenshtein 1966) over the number of characters, as OCR reports it; above 1 where more is
    inserted than there is. Both are compared as `normalized` has them.

    Args:
        references: What stands there, not all blank.
        hypotheses: What was recognised, in the same order.
    """
    pairs = [(normalized(a), normalized(b)) for a, b in zip(references, hypotheses, strict=True)]
    length = sum(len(reference) for reference, _ in pairs)
    if not length:
        raise ValueError("the references have no characters")
    return sum(edit_distance(*pair) for pair in pairs) / length


def normalized(text: str) -> str:
    """Fold widths and compositions of characters (NFKC), and make each run of blanks one space."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def edit_distance(first: str, second: str) -> int:
    """Count the fewest insertions, deletions and substitutions of characters between two texts.

    Wagner and Fischer 1974, a row at once: what is inserted along a row is a running minimum.
    """
    codes = np.array([ord(character) for character in second], np.int64)
    places = np.arange(len(codes) + 1)
    row = places.copy()
    for number, character in enumerate(first, start=1):
        above = row + 1
        changed = row[:-1] + (codes != ord(character))
        best = np.concatenate([[number], np.minimum(above[1:], changed)])
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])
