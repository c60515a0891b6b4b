"""One figure of a benchmark, as a line that people read and `run.py` collects.

    from figures import figure

    figure("watched / unwatched", 1.012, "x", goal="<= 1.05", peer=("output_attentions=True", 1.3), threads=2)

prints

    = watched / unwatched | 1.012 x | goal <= 1.05 | output_attentions=True: 1.3 x | 2 threads

Goal, peer and threads may be left out; "-" stands in their place. Goal and peer are in the figure's own unit.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

__all__ = ["Figure", "figure", "parse"]

_BOUNDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Figure:
    """What was measured, what was to be reached, and what a peer takes for the same."""

    name: str
    measured: float
    unit: str
    goal: str | None = None
    peer: tuple[str, float] | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for text in (self.name, self.unit, self.peer[0] if self.peer else "-"):
            if not text or "|" in text or "\n" in text or text != text.strip():
                raise ValueError(f"names and units of figures are one line without '|'; got {text!r}")
        if self.goal is not None and self.goal.split(" ")[0] not in _BOUNDS:
            raise ValueError(f"a goal is a bound such as '<= 1.05'; got {self.goal!r}")

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.goal is None:
            return None
        bound, number = self.goal.split(" ")
        return bool(_BOUNDS[bound](self.measured, _number(number)))

    def __str__(self) -> str:
        goal = "-" if self.goal is None else f"goal {self.goal}"
        peer = "-" if self.peer is None else f"{self.peer[0]}: {digits(self.peer[1])} {self.unit}"
        threads = "-" if self.threads is None else f"{self.threads} thread{'s' * (self.threads != 1)}"
        return " | ".join((f"= {self.name}", f"{digits(self.measured)} {self.unit}", goal, peer, threads))


def figure(
    name: str,
    measured: float,
    unit: str,
    *,
    goal: str | None = None,
    peer: tuple[str, float] | None = None,
    threads: int | None = None,
) -> None:
    """Print one figure. `goal` is a bound such as "<= 1.05", `peer` a name and a number in the same unit."""
    print(Figure(name, measured, unit, goal, peer, threads), flush=True)


def parse(line: str) -> Figure | None:
    """The figure that a line says; None for any other line."""
    cells = line.strip().removeprefix("= ").split(" | ")
    if not line.startswith("= ") or len(cells) != 5:
        return None
    name, measured, goal, peer, threads = cells
    number, _, unit = measured.partition(" ")
    whose, _, other = peer.rpartition(": ")
    return Figure(
        name,
        _number(number),
        unit,
        None if goal == "-" else goal.removeprefix("goal "),
        None if peer == "-" else (whose, _number(other.partition(" ")[0])),
        None if threads == "-" else int(threads.split()[0]),
    )


def digits(number: float) -> str:
    """Four digits, and all of them before the point."""
    short = float(f"{number:.4g}") if abs(number) < 1000 else round(number)
    return f"{short:,.10g}" if abs(short) < 1e10 else f"{short:g}"


def _number(text: str) -> float:
    return float(text.replace(",", ""))
