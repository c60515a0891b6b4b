"""Learned gates: a head each has one, that training closes where it can be done without (Voita et al. 2019).

A gate is drawn from a hard concrete distribution (Louizos et al. 2018): a number in [0, 1] that is exactly 0 or 1 more
often than not, and has a gradient. How many gates may stay open is a bound that falls over the first half of training
(the augmented Lagrangian of Wang et al. 2020, section 3.3), so that a chosen share of heads is reached.

Axes: H heads of a module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...heads import hard_concrete
from ...heads.pruning.order import until
from ...heads.pruning.sites import find
from ...heads.pruning.switches import Switches, Unit
from ..training import Task
from ..training.loop import Losses

__all__ = ["GatedTask", "Gates", "fold"]

START, TRAVEL = 2.0, 20.0  # where gates begin (open), and how far they could go in a training
CURVE, ASCENT = 10.0, 100.0  # of the bound: its square's factor, and how fast its price rises where it is broken
FALL = 0.5  # the share of training in which the bound falls


class Gates(nn.Module):
    """A gate for each unit of heads, by module.

    Args:
        units: of a model, as `Switches` lists them.
        keep: how many heads are to stay.
        steps: of training.
        peak: the highest learning rate. Gates learn faster than the model, fast enough to close within these steps.
    """

    weight: Tensor
    state: Tensor

    def __init__(self, units: tuple[Unit, ...], keep: int, steps: int, peak: float) -> None:
        super().__init__()
        self.units, self.steps = units, steps
        sizes = torch.tensor([len(heads) for _, heads in units], dtype=torch.float32)
        self.speed = TRAVEL / (peak * steps / 2)
        self.theta = nn.Parameter(torch.full((len(units),), START / self.speed))
        self.theta.register_hook(lambda gradient: gradient / self.speed)
        self.register_buffer("weight", sizes / sizes.sum())
        self.register_buffer("state", torch.zeros(2))  # steps so far, and the price of an open head
        self.goal = keep / float(sizes.sum())

    @property
    def log_alpha(self) -> Tensor:
        return self.theta * self.speed

    def draw(self) -> Tensor:
        """A value for each gate: drawn in training, else the one in the middle."""
        return (hard_concrete.drawn if self.training else hard_concrete.middle)(self.log_alpha)

    def open(self) -> Tensor:
        """How many heads are open, as a share of all, on average."""
        return (hard_concrete.opened(self.log_alpha) * self.weight).sum()

    def penalty(self) -> Tensor:
        """What is added to the loss of a step. The price rises as long as too many are open."""
        steps, price = self.state.tolist()
        bound = max(self.goal, 1 - (1 - self.goal) * steps / max(1.0, FALL * self.steps))
        over = self.open() - bound
        price = max(0.0, price + ASCENT / self.steps * float(over.detach()))
        with torch.no_grad():
            self.state.copy_(torch.tensor([steps + 1, price]))
        return price * over + CURVE * over.clamp(min=0).square()

    def order(self) -> list[Unit]:
        """Units, the one whose gate is most closed first."""
        places = sorted(range(len(self.units)), key=lambda i: float(self.theta.detach()[i]))
        return [self.units[i] for i in places]

    def closed(self, count: int) -> dict[str, tuple[int, ...]]:
        """The heads to remove, `count` of them at most."""
        return until(self.order(), count)


class _Drawn:
    """The gates of one forward pass, as factors of heads by module."""

    def __init__(self, gates: Gates, sizes: Mapping[str, int]) -> None:
        self.gates, self.sizes, self.values = gates, sizes, gates.draw()

    def draw(self) -> None:
        self.values = self.gates.draw()

    def factor(self, path: str) -> Tensor:
        factor_H = self.values.new_ones(self.sizes[path])
        for place, (where, heads) in enumerate(self.gates.units):
            if where == path:
                index = torch.tensor(heads, device=factor_H.device)
                factor_H = factor_H.index_put((index,), self.values[place].expand(len(heads)))
        return factor_H


class GatedTask:
    """Another task, with gates in the model; judged as if the heads that are to go were gone already."""

    def __init__(self, task: Task[Any], model: nn.Module, keep: int, steps: int, peak: float) -> None:
        self.task, self.metric = task, task.metric
        units = Switches(model).units
        self.sizes = {path: sum(len(heads) for where, heads in units if where == path) for path, _ in units}
        self.total, self.keep = sum(self.sizes.values()), keep
        self.gates = Gates(units, keep, steps, peak)
        model.add_module("head_gates", self.gates)
        self.drawn = _Drawn(self.gates, self.sizes)
        self.switches = Switches(model, {path: partial(self.drawn.factor, path) for path in self.sizes})

    def identity(self) -> dict[str, Any]:
        return {**self.task.identity(), "gates": {"keep": self.keep, "steps": self.gates.steps}}

    def batches(self, epoch: int, rank: int, world: int) -> Any:
        return self.task.batches(epoch, rank, world)

    def losses(self, model: nn.Module, batch: Any) -> Losses:
        self.drawn.draw()
        found = self.task.losses(model, batch)
        opened = self.gates.open()
        logged = {**found.logged, "open": opened.detach() * found.count}
        return replace(found, total=found.total + self.gates.penalty() * found.count, logged=logged)

    def validate(self, model: nn.Module) -> dict[str, float]:
        self.drawn.draw()
        closed = self.gates.closed(self.total - self.keep)
        self.switches.off = closed.items()
        try:
            return {**self.task.validate(model), "open": round(float(self.gates.open()), 3)}
        finally:
            self.switches.off = []

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Any) -> None:
        self.task.epoch_ended(model, epoch, folder)


def fold(model: nn.Module, gated: GatedTask) -> dict[str, tuple[int, ...]]:
    """Take the gates out of a model again, what they let through in the weights; returns the heads to remove.

    Those stay as they are, to be put back one day.
    """
    gated.gates.eval()
    gated.drawn.draw()
    closed = gated.gates.closed(gated.total - gated.keep)
    with torch.no_grad():
        for path, site in find(model).items():
            factor_H = gated.drawn.factor(path)
            factor_H[list(closed.get(path, ()))] = 1
            factor_H = factor_H.repeat_interleave(site.width)
            slab = site.output_weight
            shape = [-1 if axis == slab.axis else 1 for axis in range(slab.parameter.ndim)]
            slab.parameter.mul_(factor_H.view(shape))
    del model.head_gates
    return closed
