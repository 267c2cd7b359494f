"""Training on several devices: ``torchrun`` starts one process for each, gradients are averaged."""

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """This process among all.

    Attributes:
        rank: Number of this process, from 0; only 0 writes.
        size: Number of processes.
        device: Where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_leader(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes, in place.

        A parameter that no process used keeps no gradient, so that it is not decayed either.
        """
        if self.size == 1:
            return
        listed = list(parameters)
        is_used = torch.tensor(
            [p.grad is not None for p in listed], dtype=torch.uint8, device=self.device
        )
        distributed.all_reduce(is_used, op=distributed.ReduceOp.MAX)
        used = [p for p, is_any in zip(listed, is_used.tolist(), strict=True) if is_any]
        if not used:
            return
        # All in one message: hundreds of small ones would mostly wait for each other.
        together = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in used]
        )
        distributed.all_reduce(together)
        together /= self.size
        for parameter, mean in zip(used, together.split([p.numel() for p in used]), strict=True):
            parameter.grad = mean.view_as(parameter).to(parameter.dtype)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def join_processes(device: str | None) -> Generator[ProcessGroup]:
    """Join the processes that ``torchrun`` started; alone without it.

    Args:
        device: ``cpu``, ``cuda`` or ``None`` for what there is; under ``torchrun`` each process
            takes the device of its local rank.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if size == 1:
        yield ProcessGroup(rank=0, size=1, device=torch.device(kind))
        return
    own = (
        torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    )
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield ProcessGroup(rank=rank, size=size, device=own)
    finally:
        distributed.destroy_process_group()
