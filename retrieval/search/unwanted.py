"""Texts that hits must not fit: what a query says with a negative weight.

Subtracting the vector of a text moves the query away from it, but also from what it was looking
for, and finds as many hits that fit the text as before. So an unwanted text is a query of its own,
and what is likely to be right for it is left out.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from retrieval.search.cut import Outlook
from retrieval.search.query import TextPart
from retrieval.search.relevance import AnyCalibration, Curve

_NOTHING = np.empty(0, np.float32)


@dataclass(frozen=True)
class Unwanted:
    """A text that hits must not fit.

    curve: of its relevances. weight: above 0; with more, less likely ones are left out, too. least:
    the chance from which they are.
    """

    curve: Curve
    weight: float
    least: float

    @classmethod
    def of(
        cls,
        calibration: AnyCalibration,
        part: TextPart,
        cohort: NDArray[np.float32],
        total: int,
    ) -> Self:
        """Judge a text by its own cut in the library.

        Args:
            calibration: of text queries.
            part: the text, with its negative weight.
            cohort: (m,), its similarities with a sample of the library.
            total: number of items of the library.
        """
        curve = calibration.curve(cohort, part.text)
        cut = Outlook.of(_NOTHING, curve(cohort), total).best(well_known=False)
        return cls(curve, -part.weight, cut.least)

    def chance(self, similarity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the probability that items fit the text, by their similarities, (n,)."""
        return 1 - (1 - self.curve(similarity)) ** np.float32(self.weight)
