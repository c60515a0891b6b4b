"""What a schedule must know of a model that is pruned, whatever it does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from ..training import Task

__all__ = ["Subject"]


class Subject(Protocol):
    """A model with the data that tells how good it is.

    `metric` names the value of `measure` that people look at; a larger one is better. `relative`: the loss is how far
    the model is from what it was, and so 0, with no gradient, while it is whole.
    """

    name: str
    metric: str
    relative: bool

    @property
    def model(self) -> nn.Module: ...

    def batches(self) -> Iterable[Any]:
        """The data on which heads are chosen; the same whenever it is asked."""

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        """The loss of a batch, summed, and over how many places."""

    def measure(self) -> dict[str, float]:
        """How good the model is, on all of the data."""

    def work(self) -> object:
        """A little of what the model is there for, always the same: how long it takes is how fast the model is."""

    def task(self) -> Task[Any] | None:
        """What it is trained further on; None without data for that."""

    def save(self, folder: Path) -> None:
        """Write the model as it is, so that `reopen` and whoever uses such models can read it."""

    def reopen(self, folder: Path) -> None:
        """Go on with the model that `save` wrote."""
