"""Which errors mean a lost replica, and how long to wait before another try."""

from itertools import islice

import pytest

from api.cluster.failures import LONGEST_WAIT_S, lost_replica_errors, waits
from retrieval.errors import NotFoundError

ray = pytest.importorskip("ray", reason="needs Ray Serve: pip install 'mmsearch[cluster]'")


def test_waits_grow_up_to_a_limit() -> None:
    first = list(islice(waits(), 8))
    assert first == sorted(first)
    assert first[-1] == LONGEST_WAIT_S
    assert first[0] < 0.1


def test_a_refusal_is_no_loss() -> None:
    lost = lost_replica_errors()
    assert issubclass(ray.exceptions.ActorDiedError, lost)
    assert issubclass(ray.exceptions.ActorUnavailableError, lost)
    assert not issubclass(NotFoundError, lost)
    assert not issubclass(ray.exceptions.RayTaskError, lost)
