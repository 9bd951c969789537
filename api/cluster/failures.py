"""What tells that a replica is lost, and not that it has refused: another one is asked then."""

from collections.abc import Iterator

from api.cluster.runtime import import_serve

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0


def lost_replica_errors() -> tuple[type[BaseException], ...]:
    """List the errors of Ray for a replica, or its machine, that is gone or was never there."""
    import_serve()
    from ray import exceptions
    from ray.serve.exceptions import ReplicaUnavailableError

    return (
        exceptions.RayActorError,
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
        exceptions.RaySystemError,
        ReplicaUnavailableError,
    )


def waits() -> Iterator[float]:
    """Yield the seconds to wait before each further try."""
    wait = FIRST_WAIT_S
    while True:
        yield wait
        wait = min(2 * wait, LONGEST_WAIT_S)
