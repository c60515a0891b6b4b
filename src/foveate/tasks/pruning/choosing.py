"""Which heads of a subject go next: by what the loss is without them, or by a score of each head."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ...heads.importance import importance
from ...heads.pruning.moments import Moments
from ...heads.pruning.order import Step, eliminate, ranked, until
from ...heads.pruning.prune import prunable, record_of
from ...watch.standing import shown
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
        return until(ranked(subject.model, _importance(subject, rank, stand_ins, tell)), count)
    lines = [line for line in read_log(log) if line["round"] == round_]
    steps = [_step(line) for line in lines]
    record = record_of(subject.model)
    first = {} if record is None else record.kept  # the numbers that heads had before any went
    with log.open("a", encoding="utf-8") as file:
        loss = lambda: mean_loss(subject)  # noqa: E731
        for step in eliminate(subject.model, loss, count, probes=probes, before=steps, stand_ins=stand_ins):
            file.write(json.dumps({"round": round_, **asdict(step)}) + "\n")
            file.flush()
            steps.append(step)
            gone = sum(len(s.heads) for s in steps)
            heads = ", ".join(str(first[step.path][h] if step.path in first else h) for h in step.heads)
            tell(gone, count, f"without head {heads} of {step.path}: loss {step.loss:.4g}")
    return until([step.unit for step in steps], count)


def _step(line: dict[str, Any]) -> Step:
    """A line of the log as a step again."""
    tried = tuple(((path, tuple(heads)), loss) for (path, heads), loss in line["tried"])
    return Step(line["path"], tuple(line["heads"]), line["loss"], tried)


def mean_loss(subject: Subject, batches: Iterable[Any] | None = None) -> float:
    """Of the model as it is, over the data on which heads are chosen, or others."""
    subject.model.eval()
    total, places = 0.0, 0
    with torch.no_grad():
        for batch in subject.batches() if batches is None else batches:
            loss, count = subject.loss(subject.model, batch)
            total, places = total + float(loss), places + count
    return total / max(1, places)


def _importance(
    subject: Subject, method: str, stand_ins: Mapping[str, Moments], tell: Tell
) -> dict[tuple[str, int], float]:
    """Of each head that can be pruned, by the subject's loss; heads that go together are left out together."""
    model = subject.model.eval()
    names, units = {}, []
    for path, some in prunable(model).items():
        names[name := shown(path, model)] = path
        units += [[(name, head) for head in unit] for unit in some]
    heads = [pair for unit in units for pair in unit]
    alone: dict[str, Any] = {"units": units, "stand_ins": stand_ins} if method == "leave-one-out" else {"heads": heads}

    def progress(done: int, of: int) -> None:
        tell(done, of, f"passes of {method}")

    found = importance(model, subject.batches(), subject.loss, method, **alone, progress=progress)
    return {(names[row.module], row.head): row.importance for row in found.rows}
