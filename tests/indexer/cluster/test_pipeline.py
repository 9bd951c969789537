"""How a cluster is shared out between reading and encoding."""

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'mmsearch[cluster]'")

from hypothesis import given
from hypothesis import strategies as st

from indexer.cluster.connection import ClusterError, Resources
from indexer.cluster.pipeline import plan_job
from indexer.cluster.stages import Measured

pytestmark = pytest.mark.slow

_GB = 1 << 30
_MANY = 1_000_000


def _measured(read_s: float, encode_s: float, memory_bytes: int = _GB) -> Measured:
    return Measured((), (), read_s, encode_s, 16, memory_bytes)


def test_shares_follow_the_measurement() -> None:
    cluster = Resources(16, 0, 100 * _GB, 2)
    plan = plan_job(cluster, _measured(0.01, 0.03), uses_gpu=False, left=_MANY)
    assert (plan.encoders, plan.cpus_an_encoder, plan.readers) == (12, 1, 4)
    assert "10 ms and encoded in 30 ms" in plan.reasons[0]


def test_one_encoder_a_gpu() -> None:
    cluster = Resources(16, 4, 100 * _GB, 2)
    plan = plan_job(cluster, _measured(0.01, 0.001), uses_gpu=True, left=_MANY)
    assert (plan.encoders, plan.readers) == (4, 12)


def test_memory_bounds_the_encoders() -> None:
    cluster = Resources(16, 0, 10 * _GB, 1)
    plan = plan_job(cluster, _measured(0.001, 0.03, 3 * _GB), uses_gpu=False, left=_MANY)
    assert plan.encoders == 2
    assert plan.encoders * plan.cpus_an_encoder + plan.readers <= 16
    assert plan.cpus_an_encoder > 1


def test_few_files_start_few_encoders() -> None:
    cluster = Resources(16, 0, 100 * _GB, 1)
    assert plan_job(cluster, _measured(0.01, 0.03), uses_gpu=False, left=100).encoders == 1


@given(
    cpus=st.integers(2, 500),
    gpus=st.integers(0, 8),
    read_s=st.floats(0, 10),
    encode_s=st.floats(0, 10),
    memory=st.integers(1, 64 * _GB),
    left=st.integers(1, _MANY),
)
def test_room_for_a_reader_is_always_left(
    cpus: int, gpus: int, read_s: float, encode_s: float, memory: int, left: int
) -> None:
    plan = plan_job(
        Resources(cpus, gpus, 16 * _GB, 1),
        _measured(read_s, encode_s, memory),
        uses_gpu=gpus > 0,
        left=left,
    )
    assert plan.encoders >= 1
    assert plan.readers >= 1
    assert plan.encoders * plan.cpus_an_encoder + plan.readers <= cpus


def test_more_encoders_than_fit() -> None:
    cluster = Resources(4, 0, 100 * _GB, 1)
    with pytest.raises(ClusterError, match="4 encoders and a process that reads do not fit"):
        plan_job(cluster, _measured(0.1, 0.1), uses_gpu=False, left=_MANY, encoders=4)
