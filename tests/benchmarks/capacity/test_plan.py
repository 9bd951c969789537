from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity.encoding import encoding_of
from benchmarks.capacity.measurements import bundled_measurements
from benchmarks.capacity.plan import fleet_for, make_plan, shards_for
from benchmarks.capacity.records import MEMORY, STORED, Machine, Prices, Wanted, Work
from retrieval.errors import UsageError

MEASURED = bundled_measurements()
ENCODERS = st.sampled_from(["starter", "ViT-B-32", "ViT-L-14", "ViT-H-14"])
IMAGES = st.integers(1, 10**11)


@given(IMAGES, st.integers(0, 10**10), ENCODERS, st.integers(0, 10**9))
def test_more_images_take_no_less_of_anything(images, more, encoder, texts):
    wanted = Wanted(images, texts=texts, encoder=encoder)
    small, large = (
        make_plan(replace(wanted, images=count), MEASURED) for count in (images, images + more)
    )
    for name in ("machines", "gpus"):
        assert getattr(small.fleet, name) <= getattr(large.fleet, name)
    assert small.serving.shards <= large.serving.shards
    assert small.serving.nodes <= large.serving.nodes
    if small.is_one_machine == large.is_one_machine:  # a table's catalog is smaller
        assert small.bytes_at(STORED) <= large.bytes_at(STORED)
    assert small.bytes_at(MEMORY) <= large.bytes_at(MEMORY)
    assert small.total(monthly=True) <= large.total(monthly=True)
    if small.serving.shards == large.serving.shards:  # smaller shards have fewer lists each
        assert small.build_core_hours <= large.build_core_hours
        assert small.total(monthly=False) <= large.total(monthly=False)
    assert small.is_one_machine >= large.is_one_machine


@given(IMAGES, ENCODERS, st.integers(1, 1000))
def test_twice_the_machines_take_half_the_hours(images, encoder, machines):
    wanted = Wanted(images, encoder=encoder)
    once, twice = (
        make_plan(replace(wanted, machines=count), MEASURED).fleet
        for count in (machines, 2 * machines)
    )
    assert twice.hours == pytest.approx(once.hours / 2)


@given(IMAGES, ENCODERS, st.floats(1, 1000))
def test_the_fleet_ends_in_time_and_is_no_larger_than_it_has_to_be(images, encoder, hours):
    plan = make_plan(Wanted(images, encoder=encoder, hours=hours), MEASURED)
    assert plan.fleet.hours <= hours * (1 + 1e-9)
    cores = sum(job.core_hours for job in plan.work)
    if plan.fleet.machines > 1:
        assert cores / plan.machine.cores / (plan.fleet.machines - 1) > hours * (1 - 1e-9)


@given(IMAGES, st.floats(0, 100), st.floats(0, 1000))
def test_money_follows_the_prices(images, price, tb_month):
    wanted = Wanted(images, encoder="ViT-L-14")
    free = Prices(*[0.0] * 5)
    plan = make_plan(wanted, MEASURED, prices=replace(free, gpu_hour=price, tb_month=tb_month))
    gpu_hours = sum(job.gpu_hours for job in plan.work)
    assert plan.total(monthly=False) == pytest.approx(gpu_hours * price)
    assert plan.total(monthly=True) == pytest.approx(plan.bytes_at(STORED) / 1e12 * tb_month)


def test_the_arithmetic_of_a_billion_photos(planned):
    """Recomputed by hand from the rates: 1e9 images at 312 a second of a GPU are 890 hours."""
    plan = planned(10**9, encoder="ViT-L-14")
    [encoding] = [job for job in plan.work if job.name == "encode images"]
    assert encoding.gpu_hours == pytest.approx(1e9 / 312 / 3600)
    assert plan.fleet.gpus == 38
    [reading] = [job for job in plan.work if job.name == "read and decode images"]
    assert reading.core_hours == pytest.approx(1e9 * plan.image.core_s / 3600)
    assert 10_000 < reading.core_hours < 20_000  # 20 photos a second of a core are 13,900
    costs = {cost.name: cost.amount for cost in plan.costs}
    assert costs["encode images"] == pytest.approx(2.5 * encoding.gpu_hours)
    assert costs["requests for originals"] == pytest.approx(400)
    assert costs["store vectors"] == pytest.approx(1e9 * 768 * 2 / 1e12 * 23)


def test_thumbnails_are_the_largest_store_of_photos(planned):
    plan = planned(10**9)
    stored = [one for one in plan.bytes if one.place == STORED]
    assert max(stored, key=lambda one: one.bytes).name == "thumbnails"
    without = planned(10**9, thumbnails=None)
    assert without.bytes_at(STORED) < plan.bytes_at(STORED) / 2
    assert "thumbnails" not in str([cost for cost in without.costs if cost.amount])


def test_more_queries_take_more_replicas(planned):
    few, many = planned(queries_per_second=1), planned(queries_per_second=50_000)
    assert few.serving.replicas == 2  # one may fail
    assert many.serving.replicas > 2
    assert many.serving.queries_per_second >= 50_000
    assert planned(10_000).serving.replicas == 1


def test_every_copy_builds_its_index(planned):
    one, two = planned(10**9), planned(10**9, queries_per_second=50_000)
    assert two.serving.nodes > one.serving.nodes
    for plan in (one, two):
        hours = plan.serving.build_hours * plan.machine.cores * plan.serving.nodes
        assert plan.build_core_hours == pytest.approx(hours)
    assert planned(1000).build_core_hours == 0


def test_shards_hold_the_index_and_the_files():
    machine = Machine(memory_bytes=128 * 10**9, disk_bytes=4 * 10**12)
    assert shards_for(10**8, 512, machine, 1e11) == 1
    assert shards_for(10**10, 512, machine, 1e12) == 13  # 803 GB of index by 64 GB
    assert shards_for(10**6, 512, machine, 9e12) == 3


def test_machines_and_gpus_that_are_given_are_used():
    work = (Work("read", core_hours=320), Work("encode", gpu_hours=30))
    fleet = fleet_for(work, Wanted(1, machines=2), Machine(cores=32))
    assert (fleet.machines, fleet.gpus, fleet.hours) == (2, 2, 15)
    assert fleet_for(work, Wanted(1, machines=2, gpus=10), Machine(cores=32)).hours == 5


def test_texts_cost_too(planned):
    with_texts = planned(10**6, texts=10**6)
    assert [job.name for job in with_texts.work][2] == "encode texts"
    assert with_texts.bytes_at(STORED) > planned(10**6).bytes_at(STORED)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"images": 0}, "Nothing to plan for"),
        ({"gpus": 2}, "--gpus needs --machines"),
        ({"encoder": "local-dir:/models/mine"}, "costs is unknown"),
        ({"recall": 0.9999}, "--target-recall 0.9999"),
    ],
)
def test_plans_that_cannot_be_made_are_refused(planned, wanted, message):
    with pytest.raises(UsageError, match=message):
        planned(**wanted)


def test_the_plan_says_what_encoding_rests_on(planned):
    assert planned(encoder="ViT-L-14").encoding == encoding_of("ViT-L-14", MEASURED)
