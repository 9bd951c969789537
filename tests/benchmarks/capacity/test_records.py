import pytest

from benchmarks.capacity.records import CACHE, DISK, MEMORY, READ, STORED, Wanted


def test_bytes_and_money_add_up(planned):
    plan = planned()
    places = (READ, STORED, MEMORY, DISK, CACHE)
    assert sum(map(plan.bytes_at, places)) == pytest.approx(sum(one.bytes for one in plan.bytes))
    assert {one.place for one in plan.bytes} == set(places)
    totals = plan.total(monthly=True), plan.total(monthly=False)
    assert sum(totals) == pytest.approx(sum(cost.amount for cost in plan.costs))
    assert min(totals) > 0


def test_rows_are_images_and_texts():
    assert Wanted(3, texts=4).rows == 7


def test_nodes_are_shards_times_replicas(planned):
    serving = planned(10**10).serving
    assert serving.shards > 1
    assert serving.nodes == serving.shards * serving.replicas
