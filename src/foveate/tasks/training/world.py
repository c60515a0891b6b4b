"""One process, or several that torchrun started: who am I, and how do gradients meet?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import Tensor, nn

__all__ = ["DEVICES", "World", "joined", "settled_device"]

DEVICES = ("auto", "cpu", "cuda")
PATIENCE = timedelta(hours=2)  # others wait while the leader validates


@dataclass(frozen=True)
class World:
    """This process among `size`. `restarted`: torchrun started all of them anew, after one of them ended."""

    rank: int = 0
    size: int = 1
    restarted: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def shared(self, model: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over all processes."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def agreed(self, number: float) -> float:
        """The leader's number, in all processes."""
        if self.size == 1:
            return number
        told = torch.tensor([number], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(told, 0)
        return float(told)

    def summed(self, numbers: Tensor) -> Tensor:
        """Sums over all processes."""
        if self.size > 1:
            torch.distributed.all_reduce(numbers)
        return numbers


def settled_device(name: str) -> str:
    """ "cpu" or "cuda"; "auto" is a GPU, where PyTorch has one.

    Raises:
        ValueError: an unknown name, or there is no such device.
    """
    if name not in DEVICES:
        raise ValueError(f"unknown device {name!r}; expected one of {', '.join(map(repr, DEVICES))}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ValueError("PyTorch sees no CUDA device here; use device 'cpu', or 'auto'")
    return ("cuda" if there else "cpu") if name == "auto" else name


@contextmanager
def joined(device: str = "cpu") -> Iterator[World]:
    """The world that torchrun describes in the environment; one process without it.

    Raises:
        ValueError: as `settled_device`.
    """
    device = settled_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    starts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if size == 1:
        yield World(restarted=starts > 0, device=torch.device(device))
        return
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group(
        "nccl" if place.type == "cuda" else "gloo", store=_store(starts), rank=rank, world_size=size, timeout=PATIENCE
    )
    try:
        yield World(rank, size, starts > 0, place)
    finally:
        torch.distributed.destroy_process_group()


def _store(start: int) -> torch.distributed.Store:
    """Where processes find each other: each start by itself.

    torchrun keeps one store through all restarts, in which those of before left addresses that nobody answers at.
    """
    from torch.distributed.rendezvous import rendezvous

    found: torch.distributed.Store = next(iter(rendezvous("env://", timeout=PATIENCE)))[0]
    return torch.distributed.PrefixStore(f"start {start}", found)
