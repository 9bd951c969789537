"""Data-parallel training: processes that `torchrun` starts, each with a part of every batch.

    torchrun --nproc-per-node 4 --no-python mmsearch train encoder ...

Every process computes the loss of the whole batch from the features of all, and lets the gradient
flow to its own part. The sum of those gradients over the processes is that of the loss, so that n
processes take the step that one would.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from retrieval.errors import UsageError

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LONGEST_WAIT = timedelta(days=1)
"""The first process measures and writes alone; the others wait."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run; by default this one alone.

    rank: number of this one, from 0. world: how many there are. device: of this one.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that writes and prints."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """Join the rows of all processes, in their order.

        Args:
            rows: (n, ...), of the same shape in every process. Only to these flow gradients, times
                the number of processes, so that their mean (`average_gradients`) is the gradient.

        Returns:
            (world * n, ...).
        """
        if self.world == 1:
            return rows
        everyone = [torch.empty_like(rows) for _ in range(self.world)]
        dist.all_gather(everyone, rows.detach().contiguous())
        if rows.requires_grad:
            own = rows * 1.0
            own.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: gradient * self.world
            )
            everyone[self.rank] = own
        return torch.cat(everyone)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their means over the processes."""
        if self.world == 1:
            return
        trained = [each for each in parameters if each.requires_grad]
        for each in trained:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
            dist.all_reduce(each.grad)
            each.grad /= self.world

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set in any process."""
        if self.world == 1:
            return flag
        told = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(told)
        return bool(told.item() > 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            # A reduction, since a barrier of NCCL has to guess the device.
            self.any(False)


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """Join the processes that `torchrun` has started, if it has; else there is this one.

    Args:
        device: `cpu`, where they talk through Gloo, or `cuda`, through NCCL: each takes the GPU of
            its number on the machine.

    Raises:
        UsageError: the environment is not as `torchrun` sets it, there are too few GPUs, or PyTorch
            has no such device here.
    """
    _require_device(device)
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        yield Processes(device=device)
        return
    for name in _VARIABLES:
        if name not in os.environ:
            raise UsageError(
                f"WORLD_SIZE is set, but {name} is not. Start several processes with torchrun "
                "--nproc-per-node N --no-python mmsearch train encoder ..., or unset WORLD_SIZE."
            )
    rank = _number("RANK", 0)
    if device.startswith("cuda"):
        local = _number("LOCAL_RANK", rank)
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"There are {torch.cuda.device_count()} GPUs on this machine and more processes. "
                "Start one for each GPU: --nproc-per-node."
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=_LONGEST_WAIT)
    try:
        yield Processes(rank, world, device)
    finally:
        dist.destroy_process_group()


def _require_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    # An AssertionError is how a PyTorch without CUDA says so.
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"PyTorch cannot use the device {device!r} on this machine. Take --device cpu, or auto."
        ) from error


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise UsageError(f"{name} must be a number, not {value!r}. torchrun sets it.")
    return int(value)
