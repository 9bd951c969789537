"""Where a list of hits should end: at the highest expected F1, found by query.

Relevances are probabilities, so they say how many right items a library is expected to have, and
what precision and recall are expected of the first k. The k with the highest expected F1 is also
the best threshold on the probabilities: half of that F1 (Lipton et al. 2014).
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.search.vocabulary import Known

AUTO: Literal["auto"] = "auto"
"""The value of `min_relevance` for a cut that is found by query."""

FLOOR = 0.08
"""The best hit of an answer must have this relevance, or nothing is shown.

Of 60 texts about what 1,000 photos of Flickr8k's `val` do not show, 92% get no hit, and of captions
whose photo is there 10% (`mmsearch bench queries`).
"""

UNKNOWN_FLOOR = 0.3
"""The same for a query of which the encoder knows no word: its relevance is little but a guess.

Without it, a word of a language that the encoder does not read shows hundreds of photos.
"""

CUT_POOL = 200
"""How many of the nearest are looked at one by one; others are known from a sample."""


@dataclass(frozen=True)
class Cut:
    """Where the hits of a query end.

    least: the relevance from which they are shown; above 1: nothing is. expected: number of right
    items in the library. kept: how many items have the least relevance, as estimated from a sample
    of the library. is_unsure: nothing is likely to be right; the nearest are shown nevertheless.
    """

    least: float
    expected: float
    kept: float = math.nan
    is_unsure: bool = False


@dataclass(frozen=True, eq=False)
class Outlook:
    """Relevances of all items of a library, as far as known: the nearest ones and a sample.

    relevance: (n,), the highest first. items: (n,), how many items each stands for.
    """

    relevance: NDArray[np.float64]
    items: NDArray[np.float64]

    @classmethod
    def of(cls, nearest: NDArray[np.float32], sample: NDArray[np.float32], others: int) -> Self:
        """Join the relevances of the nearest, (n,), with those of a sample of all others, (m,).

        others: number of items that the sample stands for.
        """
        share = max(others, 0) / max(len(sample), 1)
        relevance = np.concatenate([nearest, sample]).astype(np.float64)
        items = np.repeat([1.0, share], [len(nearest), len(sample)])
        order = np.argsort(-relevance, kind="stable")
        return cls(relevance[order], items[order])

    def at(self, least: float) -> Cut:
        """Return the cut at a relevance that the user chose."""
        return Cut(
            least,
            expected=float(self.relevance @ self.items),
            kept=float(self.items[self.relevance >= least].sum()),
        )

    def best(self, *, known: Known) -> Cut:
        """Find the cut with the highest expected F1; nothing is shown where all is below FLOOR.

        known: words of the query that the encoder knows. If it knows all, the nearest items are
        worth a look; if it knows none, UNKNOWN_FLOOR takes the place of FLOOR.
        """
        expected = float(self.relevance @ self.items)
        if not len(self.relevance) or not expected > 0:
            return Cut(math.inf, expected, 0.0)
        floor = UNKNOWN_FLOOR if known is Known.NONE else FLOOR
        is_unsure = bool(self.relevance[0] < floor)
        if is_unsure and known is not Known.ALL:
            return Cut(math.inf, expected, 0.0)
        kept = np.cumsum(self.items)
        f1 = 2 * np.cumsum(self.relevance * self.items) / (kept + expected)
        last = int(f1.argmax())
        least = float(self.relevance[last])
        if last + 1 < len(self.relevance):
            # Between the two, so that scores that shift in their last digits do not matter.
            least = (least + float(self.relevance[last + 1])) / 2
        return Cut(least, expected, float(kept[last]), is_unsure)
