"""The processes of one training run: one alone, or as many as torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module

import torch
import torch.distributed as dist
from torch import Tensor

from index.errors import InvalidInput, StateError

_TIMEOUT = timedelta(minutes=5)
"""Time after which a rank that does not answer is taken for lost. One that was killed is noticed at once: its
connections close, and torchrun ends the others."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Who this process is among the others.

    Attributes:
        rank: from 0; rank 0 writes.
        world_size: how many there are.
        device: where this one computes.
    """

    rank: int
    world_size: int
    device: torch.device

    def gather(self, x_BD: Tensor, sizes: list[int]) -> Tensor:
        """The rows of all ranks, in the order of ranks. Carries no gradient: `trainer.pretraining.step` does.

        Args:
            x_BD: this rank's rows, float32.
            sizes: how many rows each rank has.
        """
        if self.world_size == 1:
            return x_BD
        padded = x_BD.new_zeros((max(sizes), *x_BD.shape[1:]))
        padded[: len(x_BD)] = x_BD
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank; all of them learn it."""
        if self.world_size == 1:
            return flag
        told = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told.item())

    def agree(self, what: str, digest: str) -> None:
        """Stop here unless all ranks hold the same.

        Raises:
            InvalidInput: If they don't.
        """
        if self.world_size == 1:
            return
        found: list[object] = [None] * self.world_size
        dist.all_gather_object(found, digest)
        if len(set(found)) > 1:
            others = ", ".join(f"rank {rank} has {str(value)[:8]}" for rank, value in enumerate(found))
            raise InvalidInput(f"the ranks disagree on {what}: {others}; give all of them the same files")


def alone() -> Ranks:
    """One process on the CPU."""
    return Ranks(0, 1, torch.device("cpu"))


def launched_ranks() -> tuple[int, int, int]:
    """(rank, world size, local rank) as torchrun set them; (0, 1, 0) without it."""
    try:
        return tuple(int(os.environ.get(name, default)) for name, default in _VARIABLES)  # type: ignore[return-value]
    except ValueError:
        raise InvalidInput("RANK, WORLD_SIZE and LOCAL_RANK are set, but not to numbers: start with torchrun") from None


_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


def check_device(device: str, precision: str = "fp32") -> None:
    """Check whether there is such a device, and whether it has the precision: before anything that takes long.

    Raises:
        InvalidInput: If there is none, or it has no bfloat16 where that is wanted.
    """
    if device not in {"cpu", "cuda"}:
        raise InvalidInput(f"expected a device of cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput('torch finds no GPU on this machine: set device = "cpu", or run it where there is one')
    if device == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InvalidInput(f'{torch.cuda.get_device_name()} has no bfloat16: use precision = "fp32"')


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the run's processes for the length of the block: gloo on CPUs, NCCL on GPUs.

    Raises:
        InvalidInput: If there is no such device.
        StateError: If another rank was lost.
    """
    check_device(device)
    rank, world_size, local_rank = launched_ranks()
    place = torch.device("cuda", local_rank) if device == "cuda" else torch.device("cpu")
    if world_size == 1:
        yield Ranks(0, 1, place)
        return
    if device == "cuda":
        torch.cuda.set_device(place)
    # Functions in there take the process group of the moment of their import for a default argument, and
    # DistributedDataParallel imports them: with no group yet it is None, later the group and its threads would outlive
    # `destroy_process_group`, and a thread that is not done when the interpreter ends aborts the process.
    import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Ranks(rank, world_size, place)
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise StateError("another rank is gone: run the same command again to go on from the last checkpoint") from None
    finally:
        dist.destroy_process_group()


def _lost(error: RuntimeError) -> bool:
    """Whether an error is a collective that found no partner; torch has no type of its own for it with gloo."""
    said = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in said for word in ("gloo", "nccl", "connection", "timed out")
    )
