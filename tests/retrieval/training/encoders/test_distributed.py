"""Processes of data-parallel training; the steps that they take are those of test_fine_tuning."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from retrieval.errors import UsageError
from retrieval.training.encoders.distributed import Processes, joined_processes


def test_one_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes("cpu") as processes:
        rows = torch.ones(2, 3)
        assert processes.gather(rows) is rows
        assert processes.is_first
        assert [processes.any(flag) for flag in (True, False)] == [True, False]
        assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is not"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a number"),
    ],
)
def test_a_broken_environment_is_refused(variables, said, monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said), joined_processes("cpu"):
        pass


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_refused(device, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UsageError, match="cannot use the device"), joined_processes(device):
        pass


def compare(rank: int, address: str, world: int) -> None:
    """Compare gradients of a joined loss with those of the whole, in one of the processes."""
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    processes = Processes(rank, world)
    everything = torch.arange(12.0).reshape(world * 2, 3) / 12
    weight = torch.nn.Parameter(torch.eye(3))
    scale = torch.nn.Parameter(torch.tensor(2.0))
    whole = torch.nn.Parameter(torch.eye(3))
    own = everything[2 * rank : 2 * rank + 2]
    rows = processes.gather(own @ weight)
    torch.testing.assert_close(rows, everything)
    (scale * rows @ rows.T).logsumexp(1).sum().backward()
    processes.average_gradients([weight, scale])
    expected = everything @ whole
    (2.0 * expected @ expected.T).logsumexp(1).sum().backward()
    torch.testing.assert_close(weight.grad, whole.grad)
    assert processes.any(rank == 1)
    assert not processes.any(False)
    processes.wait()
    dist.destroy_process_group()


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    mp.spawn(compare, args=(f"file://{tmp_path / 'meeting'}", 2), nprocs=2)
