"""In which order heads go: ranked once, or each time the one whose loss is the smallest without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from .moments import Moments
from .prune import prunable
from .switches import Switches, Unit

__all__ = ["Step", "eliminate", "ranked", "until"]

Loss = Callable[[], float]


@dataclass(frozen=True)
class Step:
    """One removal: the heads of a module that went, and the loss without them and all that went before.

    `tried` are all units that were tried at this step, with their losses.
    """

    path: str
    heads: tuple[int, ...]
    loss: float
    tried: tuple[tuple[Unit, float], ...] = field(default=(), repr=False)

    @property
    def unit(self) -> Unit:
        return self.path, self.heads


def ranked(model: nn.Module, importance: Mapping[tuple[str, int], float]) -> list[Unit]:
    """Units, the least important one first; a unit of several heads is as important as they are together.

    Raises:
        ValueError: a head has no importance.
    """
    units = [(path, unit) for path, some in prunable(model).items() for unit in some]
    for path, heads in units:
        for head in heads:
            if (path, head) not in importance:
                raise ValueError(f"importance must have a number for each head; it has none for head {head} of {path}")
    return sorted(units, key=lambda unit: sum(importance[unit[0], head] for head in unit[1]))


def until(units: Sequence[Unit], count: int) -> dict[str, tuple[int, ...]]:
    """The first units with at most `count` heads together, by path."""
    found: dict[str, tuple[int, ...]] = {}
    for path, heads in units:
        if len(heads) <= count:
            found[path] = tuple(sorted((*found.get(path, ()), *heads)))
            count -= len(heads)
    return found


def eliminate(
    model: nn.Module,
    loss: Loss,
    count: int,
    *,
    probes: int | None = None,
    before: Sequence[Step] = (),
    stand_ins: Mapping[str, Moments] | None = None,
) -> Iterator[Step]:
    """Greedy backward elimination: of all heads that are left, knock out the one without which the loss is smallest,
    and again, until `count` heads are gone. Heads that stand in for each other are told apart so, as no ranking does.

    Args:
        loss: of the model as it is, a number; smaller is better.
        probes: how many heads are tried at each step, those first that cost least when they were tried last; default:
            all. The first step tries all.
        before: steps that were taken already, to go on after.
        stand_ins: as in `Switches`.

    Yields:
        Each step as it is decided. Nothing is taken out of the model: `prune` does that.
    """
    if probes is not None and probes < 1:
        raise ValueError(f"probes must be at least 1; got {probes}")
    gone = [step.unit for step in before]
    left = count - sum(len(heads) for _, heads in gone)
    known = {unit: value for step in before for unit, value in step.tried}
    with Switches(model, stand_ins=stand_ins) as switches:
        while True:
            open_units = [u for u in switches.units if u not in gone and len(u[1]) <= left]
            if not open_units:
                return
            first = sorted(open_units, key=lambda unit: known.get(unit, -1.0))
            tried = first if probes is None or not known else first[:probes]
            fresh = {}
            for unit in tried:
                switches.off = [*gone, unit]
                fresh[unit] = known[unit] = loss()
            best = min(tried, key=lambda unit: fresh[unit])
            gone.append(best)
            left -= len(best[1])
            yield Step(*best, fresh[best], tuple(fresh.items()))
