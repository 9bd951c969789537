"""The application of Ray Serve: its deployments, how they are updated, and how they end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.cluster.places import Place
from api.cluster.runtime import import_serve
from api.http.settings import ServiceSettings
from indexer.cluster.connection import ClusterError

_SURGE_PERCENT = 50
"""Replicas that a rolling update may start before it ends old ones."""

_HEALTH_EVERY_S = 2
_HEALTH_WITHIN_S = 30
"""A machine that is very busy, as while new replicas start, is no reason to end old ones."""

_OF_GATEWAY = {
    *("host", "port", "socket_only", "idle_exit_minutes", "api_keys", "api_keys_file"),
    *("allowed_hosts", "root_path", "trusted_proxies", "cors_origins", "rate_limit"),
    *("max_connections", "max_connections_per_address", "access_log", "uploads", "index_below"),
}
"""Settings that replicas need not know, keys above all."""


@dataclass(frozen=True)
class Plan:
    """What runs: a library by some replicas, or its shards by some replicas each.

    directories: of the library, or of all shards in their order. table: location of the Lance table
    that they are copies of; they are made where replicas run.
    """

    directories: Sequence[Path]
    is_sharded: bool
    replicas: int
    settings: ServiceSettings
    device: str = "auto"
    name: str = "mmsearch"
    table: str | None = None

    @property
    def cpus(self) -> int:
        """Logical CPUs that all replicas need, with those that a rolling update adds."""
        deployments = len(self.directories)
        return 2 + deployments * (self.replicas + -(-self.replicas * _SURGE_PERCENT // 100))


def application(plan: Plan) -> Any:
    """Build the application of Ray Serve."""
    from api.cluster import replicas

    chosen = plan.settings.model_dump(mode="json", exclude=_OF_GATEWAY)
    count = len(plan.directories)
    places = [
        Place(str(path.absolute()), plan.table, (index, count))
        for index, path in enumerate(plan.directories)
    ]
    if not plan.is_sharded:
        whole = _deployment(plan, replicas.WholeReplica, plan.name, cpus=1)
        return whole.bind(places[0], chosen, plan.device)
    shards = [
        _deployment(plan, replicas.ShardReplica, f"shard-{number}", cpus=1).bind(
            place, chosen, plan.device
        )
        for number, place in enumerate(places, start=1)
    ]
    over_all = _deployment(plan, replicas.FanOutReplica, plan.name, cpus=0)
    return over_all.bind(shards, chosen | {"background_tokens": False}, plan.device)


def _deployment(plan: Plan, replica: type, name: str, *, cpus: int) -> Any:
    serve = import_serve()
    return serve.deployment(
        name=name,
        num_replicas=plan.replicas,
        ray_actor_options={"num_cpus": cpus},
        max_ongoing_requests=plan.settings.queue,
        health_check_period_s=_HEALTH_EVERY_S,
        health_check_timeout_s=_HEALTH_WITHIN_S,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=plan.settings.shutdown_s,
        max_surge_percent=_SURGE_PERCENT,
    )(replica)


@contextmanager
def deployed(plan: Plan) -> Iterator[Any]:
    """Run the application, and end it in the end; gives the handle of what answers.

    Where it runs already, its replicas are replaced one after the other, and it goes on if another
    command has deployed it since.

    Raises:
        ClusterError: It cannot be started.
    """
    serve = import_serve()
    serve.start(proxy_location="Disabled")
    handle = deploy(plan)
    since = _deployed_at(plan.name)
    try:
        yield handle
    finally:
        if _deployed_at(plan.name) == since:
            serve.delete(plan.name)


def deploy(plan: Plan) -> Any:
    """Run the application, or replace the replicas of one that runs; returns its handle."""
    serve = import_serve()
    try:
        return serve.run(application(plan), name=plan.name, route_prefix=None)
    except RuntimeError as error:
        raise ClusterError(
            f"The service could not be started on the cluster: {_reason(plan.name) or error}"
        ) from error


def _deployed_at(name: str) -> float | None:
    running = import_serve().status().applications.get(name)
    return running.last_deployed_time_s if running else None


def _reason(name: str) -> str:
    """Return the last line that says why the application has failed."""
    running = import_serve().status().applications.get(name)
    told = [one.message for one in running.deployments.values() if one.message] if running else []
    lines = [line.strip() for message in told for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else ""
