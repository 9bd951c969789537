"""What runs on Ray Serve, and what replicas are told."""

from pathlib import Path

import pytest

from api.cluster.deployment import Plan, application
from api.http.settings import ServiceSettings

pytest.importorskip("ray.serve", reason="needs Ray Serve: pip install 'mmsearch[cluster]'")

SETTINGS = ServiceSettings(api_keys="phone:read:a-secret-of-a-key-that-is-long", deadline_s=7)


def test_replicas_have_processors_for_an_update() -> None:
    assert Plan([Path("a")], False, 2, SETTINGS).cpus == 5
    assert Plan([Path("a"), Path("b")], True, 2, SETTINGS).cpus == 8


@pytest.mark.parametrize("is_sharded", [False, True])
def test_replicas_are_not_told_keys(is_sharded: bool) -> None:
    plan = Plan([Path("a"), Path("b")][: 1 + is_sharded], is_sharded, 3, SETTINGS)
    deployment = application(plan)._bound_deployment
    assert deployment.num_replicas == 3
    settings = deployment.init_args[1]
    assert settings["deadline_s"] == 7
    assert not any("key" in name or "secret" in str(value) for name, value in settings.items())


def test_each_shard_is_a_deployment_of_its_own() -> None:
    plan = Plan([Path("a"), Path("b")], True, 2, SETTINGS, table="lance:t")
    shards = [one._bound_deployment for one in application(plan)._bound_deployment.init_args[0]]
    assert [one.name for one in shards] == ["shard-1", "shard-2"]
    places = [one.init_args[0] for one in shards]
    assert [(place.table, place.shard) for place in places] == [
        ("lance:t", (0, 2)),
        ("lance:t", (1, 2)),
    ]
