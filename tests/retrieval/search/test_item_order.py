"""Skipping items of a list, against lists that are sorted and cut by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.search.item_order import ItemOrder, Order, Place

items = st.dictionaries(
    st.integers(1, 40), st.none() | st.integers(-3, 3) | st.integers(-(10**9), 10**9), max_size=25
)


def sorted_by_hand(dates: dict[int, int | None], order: Order) -> list[Place]:
    sign = -1 if order in {Order.NEWEST, Order.DATE} else 1

    def key(item_id):
        date = dates[item_id]
        if not order.is_by_date:
            return (sign * item_id,)
        return (date is None, sign * (date or 0), sign * item_id)

    return [
        Place(item_id, dates[item_id] if order.is_by_date else None)
        for item_id in sorted(dates, key=key)
    ]


@pytest.mark.parametrize("order", list(Order))
@given(dates=items, count=st.integers(0, 30), data=st.data())
def test_it_goes_on_where_a_sorted_list_does(order, dates, count, data):
    ids = np.array([*dates], np.int64)
    seconds = np.array([date or 0 for date in dates.values()], np.int64)
    is_dated = np.array([date is not None for date in dates.values()], np.bool_)
    given_order = ItemOrder.of(order, ids, seconds, is_dated)
    wanted = sorted_by_hand(dates, order)
    after = data.draw(st.none() | st.sampled_from(wanted)) if wanted else None
    begin = 0 if after is None else wanted.index(after) + 1
    last = min(begin + count, len(wanted)) - 1
    assert given_order.skip(count, after) == (wanted[last] if last >= 0 else None)


def test_it_goes_on_behind_an_item_that_is_gone():
    ids = np.array([2, 5, 9], np.int64)
    order = ItemOrder.of(Order.NEWEST, ids, np.zeros(3, np.int64), np.zeros(3, np.bool_))
    assert order.skip(1, Place(7)) == Place(5)
    assert order.skip(0, Place(7)) == Place(9)
