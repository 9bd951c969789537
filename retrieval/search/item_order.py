"""The order of all items of a list, as arrays: SQL would count what a list skips one by one."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog.records import local_time

Ints = NDArray[np.int64]

_NO_DATE = np.iinfo(np.int64).max


class Order(StrEnum):
    """The order of a list: by the time when items were added to the library or a collection, by
    date, or by path.
    """

    OLDEST = "oldest"
    NEWEST = "newest"
    DATE = "date"
    DATE_ASC = "date-asc"
    NAME = "name"
    COLLECTION = "collection"

    @property
    def can_skip(self) -> bool:
        """Return whether a list can begin anywhere: not where only the catalog knows the ranks."""
        return self not in {Order.NAME, Order.COLLECTION}

    @property
    def is_by_date(self) -> bool:
        """Return whether items come by date, those without one last."""
        return self in {Order.DATE, Order.DATE_ASC}


@dataclass(frozen=True)
class Place:
    """Where a list goes on: behind the item with this id. second: of its date, if it has one."""

    item_id: int
    second: int | None = None

    @property
    def date(self) -> datetime | None:
        """Return the date of the item by its own clock."""
        return None if self.second is None else local_time(self.second)


@dataclass(frozen=True, eq=False)
class ItemOrder:
    """The items of a list in their order.

    first, second: (n,) int64, rising together: by what they are sorted, by `first` and then by
    `second`. sign: of the ids in `second`, -1 where the newest come first.
    """

    order: Order
    first: Ints
    second: Ints
    sign: int

    @classmethod
    def of(cls, order: Order, ids: Ints, seconds: Ints, is_dated: NDArray[np.bool_]) -> "ItemOrder":
        """Sort n items.

        Args:
            order: The order, one that can skip.
            ids: (n,), of the items.
            seconds: (n,), their dates; not looked at where there is none.
            is_dated: (n,), which of them have a date.
        """
        sign = -1 if order in {Order.NEWEST, Order.DATE} else 1
        first = np.zeros_like(ids)
        if order.is_by_date:
            first = np.where(is_dated, sign * seconds, _NO_DATE)
        places = np.lexsort((sign * ids, first))
        return cls(order, first[places], (sign * ids)[places], sign)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return self.first.nbytes + self.second.nbytes

    def skip(self, count: int, after: Place | None = None) -> Place | None:
        """Go on by a number of items; past the end, the place is the last item.

        after: from where; None: from the beginning. Returns None at the beginning.
        """
        start = 0 if after is None else self.rank(after)
        last = min(start + count, len(self.first)) - 1
        if last < 0:
            return after
        item_id, first = self.sign * int(self.second[last]), int(self.first[last])
        is_dated = self.order.is_by_date and first != _NO_DATE
        return Place(item_id, self.sign * first if is_dated else None)

    def rank(self, place: Place) -> int:
        """Count the items up to a place, with that at the place itself."""
        key = self.key(place)
        left = int(np.searchsorted(self.first, key[0]))
        right = int(np.searchsorted(self.first, key[0], side="right"))
        return left + int(np.searchsorted(self.second[left:right], key[1], side="right"))

    def precedes(self, place: Place, other: Place) -> bool:
        """Return whether a place comes before another in this order."""
        return self.key(place) < self.key(other)

    def key(self, place: Place) -> tuple[int, int]:
        """Return what places are compared by."""
        if not self.order.is_by_date:
            return 0, self.sign * place.item_id
        first = _NO_DATE if place.second is None else self.sign * place.second
        return first, self.sign * place.item_id
