from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity.limits import most_rows
from benchmarks.capacity.measurements import bundled_measurements
from benchmarks.capacity.plan import make_plan
from benchmarks.capacity.records import Machine, Wanted

MEASURED = bundled_measurements()


@given(st.integers(0, 10**14))
def test_the_largest_number_that_fits_is_found(most):
    assert most_rows(lambda rows: rows <= most) == most


@pytest.mark.parametrize("encoder", ["starter", "ViT-L-14"])
def test_limits_are_where_they_say(encoder):
    """A library of a limit's size fits one machine for that part, the next larger one does not."""
    wanted = Wanted(10**6, encoder=encoder)
    for limit in make_plan(wanted, MEASURED).limits:
        for images, passed in ((limit.items, False), (limit.items + 2, True)):
            plan = make_plan(replace(wanted, images=images), MEASURED)
            [same] = [one for one in plan.limits if one.part == limit.part]
            assert same.items == pytest.approx(limit.items, abs=1)
            assert same.is_passed == passed, limit


def test_the_first_limit_is_embedding_and_the_index_the_last(planned):
    limits = planned(10**9).limits
    assert [limit.items for limit in limits] == sorted(limit.items for limit in limits)
    assert {limit.part for limit in limits} == {"embedding", "catalog", "disk", "index"}
    assert limits[0].part == "embedding"
    assert limits[-1].part == "index"


def test_a_larger_machine_ends_later(planned):
    small, large = Machine(), Machine(cores=64, memory_bytes=10**12, disk_bytes=10**14)
    for before, after in zip(
        sorted(planned(machine=small).limits, key=lambda one: one.part),
        sorted(planned(machine=large).limits, key=lambda one: one.part),
        strict=True,
    ):
        assert (before.part, before.items <= after.items) == (after.part, True)
        assert before.part == "catalog" or before.items < after.items


def test_without_measured_filters_nothing_is_said_of_the_catalog():
    plan = make_plan(Wanted(10**6), replace(MEASURED, filtering=None))
    assert "catalog" not in {limit.part for limit in plan.limits}


def test_texts_stay_in_their_proportion(planned):
    alone, mixed = planned(10**6), planned(10**6, texts=10**6)
    disk = [next(x.items for x in plan.limits if x.part == "disk") for plan in (alone, mixed)]
    assert disk[1] > disk[0]  # a chunk of text has no thumbnail
