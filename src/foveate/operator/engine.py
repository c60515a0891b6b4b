"""What computes statistics of all weights: a compiled kernel where one can, else the block loop."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from ..native import Wanted
from . import gpu, identities, native
from .choice import Choice
from .problem import Problem

__all__ = ["ENGINES", "engine"]

# Each has `obstacle(problem, values, wanted)` and `passes(problem, values, wanted, rows)`. The first that can is taken.
ENGINES: dict[str, ModuleType] = {"native": native, "triton": gpu, "identities": identities}
BLOCKS_SUFFICE = ("cpu",)  # devices on which blocks are as fast as the identities


def engine(problem: Problem, v_BGKV: Tensor | None, wanted: Wanted, rows: slice | None = None) -> Choice:
    """The name of what computes these statistics (and the output, if there are values), or "blocks", and why."""
    reasons: list[str] = []
    whole = rows is None or (rows.start, rows.stop) == (0, problem.geometry.queries)
    for name, module in ENGINES.items():
        hindrance = module.obstacle(problem, v_BGKV, wanted)
        if name == "identities" and problem.q_BHQD.device.type in BLOCKS_SUFFICE:
            hindrance = hindrance or "blocks are as fast on this device"
        elif name == "identities" and not whole:
            hindrance = hindrance or "they take all rows at once"
        if hindrance is None:
            return Choice(name, "; ".join(reasons) or f"{name} is the first choice, and can")
        reasons.append(f"{name}: {hindrance}")
    return Choice("blocks", "; ".join(reasons))
