"""One run of pruning: measure, choose heads and remove them by a schedule, train where it says so, measure again."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ...heads.pruning.moments import Moments, moments
from ...heads.pruning.prune import head_count, prune, record_of
from ..files import save_text
from ..training import Options, train
from ..training.checkpoint import CHECKPOINT
from ..training.world import World, settled_device
from .choosing import RANKS, chosen, mean_loss
from .gates import GatedTask, fold
from .subject import Subject

__all__ = ["SCHEDULES", "Plan", "Report", "budget", "run"]

SCHEDULES = ("one-shot", "iterative", "gates")
TUNING = Options(epochs=3, peak=5e-4, warmup=100, patience=0, average=3)
PLAN, STATE, ORDER = "plan.json", "state.json", "order.jsonl"
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """How to prune.

    Args:
        keep: the share of heads that is to stay, from 0 to 1.
        schedule: "one-shot" removes all at once; "iterative" some in each of `rounds`, and in between refits and, if
            `tune` says how, trains; "gates" trains the model with gates that close, and removes what they closed.
        rank: "greedy" removes each time the head without which the loss is smallest; "leave-one-out" the heads without
            which alone the loss grows least; "gradient" by the gradient of the loss with respect to each head.
        probes: of "greedy", how many heads are tried at each step; None: all.
        refit: the heads that stay stand in for those that go, as well as a linear map can (`fv.heads.moments`); not
            with gates, which train without it.
        tune: how it is trained after heads went, in each round; None: not at all, except that gates must be trained.
    """

    keep: float
    schedule: str = "one-shot"
    rank: str = "greedy"
    rounds: int = 4
    probes: int | None = 8
    refit: bool = True
    tune: Options | None = None
    seed: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep must be a share of the heads, from 0 to 1; got {self.keep}")
        for name, value, known in (("schedule", self.schedule, SCHEDULES), ("rank", self.rank, RANKS)):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; expected one of {', '.join(map(repr, known))}")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1; got {self.rounds}")
        if self.schedule == "gates" and self.tune is None:
            raise ValueError("gates are trained with the model; say how, tune=Options(...)")


@dataclass(frozen=True)
class Report:
    """What came of it; `before` and `after` hold heads, parameters, loss, the metric, and milliseconds of some work."""

    before: dict[str, float]
    after: dict[str, float]
    kept: dict[str, tuple[int, ...]]


def run(
    plan: Plan,
    subject: Subject,
    folder: Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    tell: Tell | None = None,
    order: Path | None = None,
    device: str = "cpu",
) -> Report:
    """Prune a subject's model, and write it into `folder`; with `resume` go on where an earlier run was stopped.

    Args:
        quiet: show no progress of trainings.
        tell: is told each step of choosing, as a line.
        order: a file of greedy steps to go on after, and to add to: who removes more heads of the same model, on the
            same data, need not begin again. Default: one of this run.
        device: "cpu", "cuda", or "auto", which is a GPU where there is one.

    Raises:
        ValueError: the plan trains, and there is nothing to train on; it asks a gradient that is 0; nothing would be
            removed; there is no such device; or a run is resumed by another plan.
        Stopped: Ctrl-C in a training, after a checkpoint.
    """
    tell = tell or (lambda line: None)
    if plan.tune is not None and subject.task() is None:
        raise ValueError("this plan trains the model, and there are no data to train on")
    if plan.rank == "gradient" and plan.schedule != "gates" and subject.relative:
        raise ValueError(
            f"the loss of {subject.name} is how far it is from what it was, and its gradient there is 0; rank by "
            "'greedy' or 'leave-one-out'"
        )
    world = World(device=torch.device(settled_device(device)))
    goals = budget(subject, plan)
    subject.model.to(world.device)
    before = {} if resume else {"before": measured(subject)}  # what cannot be measured leaves no folder behind
    folder.mkdir(parents=True, exist_ok=True)
    state = _begun(plan, folder, resume) | before
    _keep(folder, state)
    if state["round"]:
        subject.reopen(folder / f"round-{state['round']:02d}" / "model")
        subject.model.to(world.device)
    for number, goal in enumerate(goals[state["round"] :], state["round"] + 1):
        _round(plan, subject, folder, number, goal, world, quiet, tell, order or folder / ORDER)
        state["round"] = number
        _keep(folder, state)
    after = measured(subject)
    record = record_of(subject.model)
    subject.save(folder)
    report = Report(state["before"], after, {} if record is None else record.kept)
    save_text(folder / "pruning.json", json.dumps(asdict(report) | {"plan": asdict(plan)}, indent=1) + "\n")
    return report


def budget(subject: Subject, plan: Plan) -> list[int]:
    """How many heads are to be left after each round.

    Raises:
        ValueError: that would be as many as there are.
    """
    total = head_count(subject.model)
    record = record_of(subject.model)
    first = total if record is None else record.heads[0]
    goal = round(plan.keep * first)
    if goal >= total:
        raise ValueError(f"keep={plan.keep:g} of {first} heads leaves {goal}; {total} are there, and none would go")
    rounds = min(plan.rounds, total - goal) if plan.schedule == "iterative" else 1
    return [round(total + (goal - total) * (n + 1) / rounds) for n in range(rounds)]


def measured(subject: Subject) -> dict[str, float]:
    """What people ask of a model before and after.

    Raises:
        ValueError: its loss is not finite.
    """
    subject.model.eval()
    heads = head_count(subject.model)
    parameters = sum(p.numel() for p in subject.model.parameters())
    seconds = min(_timed(subject.work) for _ in range(3))
    loss = mean_loss(subject)
    if not math.isfinite(loss):
        raise ValueError(f"the loss of {subject.name} on its data is {loss}: no head can be told from another by it")
    values = {"heads": heads, "parameters": parameters, "loss": round(loss, 5)}
    return {**values, **subject.measure(), "milliseconds": round(1000 * seconds, 1)}


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _begun(plan: Plan, folder: Path, resume: bool) -> dict[str, Any]:
    """The state of a run that is resumed by the same plan; else a new one, and what an earlier run left forgotten."""
    told = json.loads(json.dumps(asdict(plan)))
    if resume:
        if not (folder / STATE).is_file():
            raise ValueError(f"nothing to resume: no {STATE} in {folder.name}")
        before = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        if other := [name for name, value in told.items() if before.get(name) != value]:
            changed = ", ".join(f"{name} was {before.get(name)} and is {told[name]}" for name in other)
            raise ValueError(f"a resumed run must have the plan it began with: {changed}")
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return state
    (folder / ORDER).unlink(missing_ok=True)
    for path in folder.glob(f"round-*/{CHECKPOINT}"):
        path.unlink()
    save_text(folder / PLAN, json.dumps(told, indent=1) + "\n")
    return {"round": 0}


def _keep(folder: Path, state: dict[str, Any]) -> None:
    save_text(folder / STATE, json.dumps(state, indent=1) + "\n")


def _round(
    plan: Plan,
    subject: Subject,
    folder: Path,
    number: int,
    goal: int,
    world: World,
    quiet: bool,
    tell: Tell,
    order: Path,
) -> None:
    """Heads go until `goal` are left, and the model is trained, if the plan says so."""
    here = folder / f"round-{number:02d}"
    count = head_count(subject.model) - goal
    stand_ins: dict[str, Moments] = {}
    if plan.schedule == "gates":
        gone = _gated(plan, subject, here / "gates", goal, world, quiet)
    else:
        progress = lambda done, of, line: tell(f"{done} of {of}: {line}")  # noqa: E731
        stand_ins = moments(subject.model, lambda: mean_loss(subject)) if plan.refit else {}
        gone = chosen(subject, plan.rank, count, order, number, plan.probes, stand_ins, progress)
    prune(subject.model, gone, stand_ins=stand_ins)
    if plan.tune is not None:
        _train(subject.task(), subject.model, plan, here, world, quiet)
    subject.save(here / "model")


def _gated(
    plan: Plan, subject: Subject, folder: Path, goal: int, world: World, quiet: bool
) -> dict[str, tuple[int, ...]]:
    task = subject.task()
    assert task is not None
    assert plan.tune is not None
    steps = plan.tune.epochs * len(task.batches(0, 0, 1))
    gated = GatedTask(task, subject.model, goal, steps, plan.tune.peak)
    with gated.switches:
        _train(gated, subject.model, plan, folder, world, quiet)
        return fold(subject.model, gated)


def _train(task: Any, model: Any, plan: Plan, folder: Path, world: World, quiet: bool) -> None:
    assert plan.tune is not None
    folder.mkdir(parents=True, exist_ok=True)
    options = replace(plan.tune, seed=plan.seed)
    train(task, model, options, folder, world=world, resume=(folder / CHECKPOINT).is_file(), quiet=quiet)
