"""All measurements, one after another: what is kept is taken up, what would not fit or takes too long is left out."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from foveate.apps.cost.forms import parse_form
from foveate.apps.cost.growth import Growth, exponent, larger
from foveate.apps.cost.machine import free_bytes
from foveate.apps.cost.settings import Settings
from foveate.apps.cost.store import Store

__all__ = ["Plan", "Point", "Study", "ask_child"]

Measure = Callable[[dict[str, Any]], dict[str, Any]]
SHARE = 0.8  # of the memory that is free
_FLOOR = 64_000_000  # bytes that an estimate may be wrong by


@dataclass(frozen=True)
class Plan:
    """What to measure, and how much each measurement may take."""

    forms: list[str]
    lengths: list[int]
    settings: Settings
    seconds: float = 60.0
    memory: int | None = None  # bytes; None: most of what is free


@dataclass(frozen=True)
class Point:
    """One form at one length: seconds of each call, wall and processor, and the bytes at its peak."""

    form: str
    n: int
    wall: list[float]
    processor: list[float]
    bytes: int | None
    memory: str
    backend: str

    def seconds(self, busy: bool = False) -> float:
        """Of the fastest call, which other programs disturbed least."""
        return min(self.processor if busy else self.wall)


@dataclass
class Study:
    """The measurements of a plan."""

    plan: Plan
    store: Store
    measure: Measure
    skipped: dict[str, str] = field(default_factory=dict)  # form: why, and from which length on

    def run(self) -> Iterable[tuple[str, int, str]]:
        """Measure what is missing; says (form, n, "next" | "done" | "skipped") as it goes."""
        for n in self.plan.lengths:
            for form in self.plan.forms:
                yield form, n, "next"
                if form not in self.skipped and self.point(form, n) is None:
                    why = self._too_much(form, n) or self._one(form, n)
                    if why:
                        self.skipped[form] = f"{form} from n = {n:,} on: {why}"
                        yield form, n, "skipped"
                yield form, n, "done"

    def point(self, form: str, n: int) -> Point | None:
        """A measurement that was made."""
        for row in reversed(self.store.rows):
            if row["form"] == form and row["n"] == n and "wall" in row:
                return Point(**row)
        return None

    def points(self, form: str) -> list[Point]:
        """Those of one form, by length."""
        return [point for n in self.plan.lengths if (point := self.point(form, n)) is not None]

    def lost(self) -> float:
        """The share of the calls' wall time in which a single thread did not run; 0 with several threads."""
        points = [point for form in self.plan.forms for point in self.points(form)]
        wall, processor = sum(sum(p.wall) for p in points), sum(sum(p.processor) for p in points)
        return max(0.0, 1 - processor / wall) if wall and self.plan.settings.threads == 1 else 0.0

    def growth(self, form: str, busy: bool = False) -> Growth | None:
        """The exponents over the larger lengths that ran on the backend of the longest; None if those are too few."""
        points = self.points(form)
        last = [p for p in points if p.backend == points[-1].backend]
        chosen = [p for p in last if p.n in larger([p.n for p in last])]
        if not chosen:
            return None
        lengths = [p.n for p in chosen]
        time = exponent(lengths, [p.seconds(busy) for p in chosen])
        counted = [p.bytes for p in chosen if p.bytes]
        memory = exponent(lengths, counted) if len(counted) == len(chosen) else None
        return Growth(time, memory, lengths[0], lengths[-1])

    def _one(self, form: str, n: int) -> str:
        """Measure and keep one point; a reason if that was not possible."""
        plan = self.plan
        task = {"form": form, "n": n, **asdict(plan.settings), "limit": plan.seconds, "room": self._room()}
        found = self.measure(task)
        if "failed" in found:
            return str(found["failed"])
        row = {"form": form, "n": n, **found}
        if "slow" in found:
            row["limit"] = plan.seconds
        self.store.append(row)
        return f"took more than {plan.seconds:g} s (--limit)" if "slow" in found else ""

    def _too_much(self, form: str, n: int) -> str:
        """Why this measurement had better not begin; empty if nothing speaks against it."""
        for row in self.store.rows:
            if row["form"] == form and row["n"] <= n and row.get("limit", 0) >= self.plan.seconds:
                return f"took more than {row['limit']:g} s (--limit)"
        seconds = self._expected_seconds(form, n)
        if seconds > self.plan.seconds:
            return f"would take about {seconds:,.0f} s a call; at most {self.plan.seconds:g} are allowed (--limit)"
        room, need = self._room(), self._expected_bytes(form, n)
        if room is not None and need > max(room, _FLOOR):
            limit = "are allowed (--memory)" if self.plan.memory is not None else "can be taken here"
            return f"needs about {_size(need)}; {_size(room)} {limit}"
        return ""

    def _expected_bytes(self, form: str, n: int) -> int:
        """By the form's own rule, or as the last two lengths grew, whichever is more."""
        guess = parse_form(form)[0].expected_bytes(n, self.plan.settings)
        grown = self._grown(form, n, lambda p: float(p.bytes or 0))
        return max(guess, round(grown))

    def _expected_seconds(self, form: str, n: int) -> float:
        return self._grown(form, n, Point.seconds)

    def _grown(self, form: str, n: int, cost: Callable[[Point], float]) -> float:
        before = [(p.n, cost(p)) for p in self.points(form) if p.n < n and cost(p) > 0][-2:]
        if len(before) < 2:
            return 0.0
        power = min(2.0, max(0.0, exponent(*zip(*before, strict=True))))
        return before[-1][1] * math.pow(n / before[-1][0], power)

    def _room(self) -> int | None:
        if self.plan.memory is not None:
            return self.plan.memory
        free = free_bytes()
        return None if free is None else round(SHARE * free)


def ask_child(task: dict[str, Any]) -> dict[str, Any]:
    """Measure in a process of its own. `{"slow": True}` if it ran past its limit, `{"failed": why}` if it died."""
    command = [sys.executable, "-m", "foveate.apps.cost.child", json.dumps({**task, "parent": os.getpid()})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=task["limit"], check=False)
    except subprocess.TimeoutExpired:
        return {"slow": True}
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    if done.returncode < 0:
        return {"failed": f"its process was killed (signal {-done.returncode}); memory may have run out"}
    return {"failed": (done.stderr.strip().splitlines() or ["its process gave no answer"])[-1][:200]}


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
