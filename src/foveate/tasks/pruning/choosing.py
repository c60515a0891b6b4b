"""Which heads of a subject go next: by what the loss is without them, or by a score of each head."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ...heads.pruning.moments import Moments
from ...heads.pruning.order import Step, eliminate, ranked, until
from ...heads.pruning.switches import Switches
from ..training.report import read_log
from .subject import Subject

__all__ = ["RANKS", "chosen", "mean_loss"]

RANKS = ("greedy", "leave-one-out", "gradient")
Tell = Callable[[int, int, str], object]  # heads gone, to go, and the last step in words


def chosen(
    subject: Subject,
    rank: str,
    count: int,
    log: Path,
    round_: int,
    probes: int | None,
    stand_ins: Mapping[str, Moments],
    tell: Tell,
) -> dict[str, tuple[int, ...]]:
    """The heads to remove in this round, `count` at most. Greedy steps are kept in `log`, and not taken again."""
    if rank != "greedy":
        importance = _gradient(subject) if rank == "gradient" else _without(subject, stand_ins, tell)
        return until(ranked(subject.model, importance), count)
    lines = [line for line in read_log(log) if line["round"] == round_]
    steps = [_step(line) for line in lines]
    with log.open("a", encoding="utf-8") as file:
        loss = lambda: mean_loss(subject)  # noqa: E731
        for step in eliminate(subject.model, loss, count, probes=probes, before=steps, stand_ins=stand_ins):
            file.write(json.dumps({"round": round_, **asdict(step)}) + "\n")
            file.flush()
            steps.append(step)
            gone = sum(len(s.heads) for s in steps)
            tell(gone, count, f"without head {', '.join(map(str, step.heads))} of {step.path}: loss {step.loss:.4f}")
    return until([step.unit for step in steps], count)


def _step(line: dict[str, Any]) -> Step:
    """A line of the log as a step again."""
    tried = tuple(((path, tuple(heads)), loss) for (path, heads), loss in line["tried"])
    return Step(line["path"], tuple(line["heads"]), line["loss"], tried)


def mean_loss(subject: Subject) -> float:
    """Of the model as it is, over the data on which heads are chosen."""
    subject.model.eval()
    total, places = 0.0, 0
    with torch.no_grad():
        for batch in subject.batches():
            loss, count = subject.loss(subject.model, batch)
            total, places = total + float(loss), places + count
    return total / max(1, places)


def _without(subject: Subject, stand_ins: Mapping[str, Moments], tell: Tell) -> dict[tuple[str, int], float]:
    """How much the loss grows without each unit; each of its heads has its share."""
    whole = mean_loss(subject)
    found: dict[tuple[str, int], float] = {}
    with Switches(subject.model, stand_ins=stand_ins) as switches:
        for number, (path, heads) in enumerate(switches.units, 1):
            switches.off = [(path, heads)]
            grown = mean_loss(subject) - whole
            found |= {(path, head): grown / len(heads) for head in heads}
            tell(number, len(switches.units), f"tried head {', '.join(map(str, heads))} of {path}: {grown:+.4f}")
    return found


def _gradient(subject: Subject) -> dict[tuple[str, int], float]:
    """Michel et al. 2019, eq. 2, by batches."""
    subject.model.eval()
    sizes: dict[str, int] = {}
    for path, heads in Switches(subject.model).units:
        sizes[path] = sizes.get(path, 0) + len(heads)
    factors = {path: torch.ones(size, requires_grad=True) for path, size in sizes.items()}
    total = {path: torch.zeros(size) for path, size in sizes.items()}
    with Switches(subject.model, {path: (lambda f=f: f) for path, f in factors.items()}):
        for batch in subject.batches():
            loss, places = subject.loss(subject.model, batch)
            gradients = torch.autograd.grad(loss / places, list(factors.values()))
            for path, gradient in zip(factors, gradients, strict=True):
                total[path] += gradient.abs()
    return {(path, head): float(value) for path, values in total.items() for head, value in enumerate(values)}
