"""Do induction heads copy? Train a small decoder on repeats, find its heads by their scores, and knock them out.

As in Olsson et al. 2022: an induction head reads what came after an earlier place of the token at hand, and needs a
head of the layer before that tells each place which token it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import torch

from ...change import knockout
from ..training import Options
from ..training.report import read_log
from . import small
from .repeats import CHECKED, STEPS, Copier, Copying, Setting, accuracy, draw, scores

__all__ = ["Head", "Moment", "Result", "judge", "learned", "moments", "trained", "verdict"]

SCORE = 2  # of a head that is called one, in terms of what even attention scores
NEAR = 0.05  # of chance, or of the whole model: less is no difference
DRAWS = 20  # of as many other heads
TEST = 3  # seed of the sequences that are judged on


@dataclass(frozen=True)
class Head:
    """A head, its scores, what it is called by them, and the model's accuracy without it."""

    layer: int
    head: int
    kind: str
    previous: float
    induction: float
    without: float

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True)
class Moment:
    """A validation on the way: copying accuracy, what is read, and the highest scores that a head had."""

    step: int
    loss: float
    copying: float
    reads: float
    previous: float
    induction: float


@dataclass(frozen=True)
class Result:
    """A trained model: its accuracy, whole and without heads.

    `chance` is a guess among the tokens of the block, `fresh` what it gets right where nothing repeats; `without` is
    its accuracy without all heads of a kind at once; `others` without as many heads of neither kind as there are
    induction heads, drawn 20 times at most.
    """

    name: str
    cost: float
    copying: float
    chance: float
    fresh: float
    heads: tuple[Head, ...]
    without: dict[str, float]
    others: tuple[float, ...]

    def of(self, kind: str) -> list[Head]:
        return [head for head in self.heads if head.kind == kind]


def trained(setting: Setting, folder: Path, *, quiet: bool = False) -> Copier:
    """The model in `folder`, trained there unless it is already; a run that was cut off goes on.

    Raises:
        ValueError: the folder holds a run with other settings.
        Stopped: Ctrl-C, after a checkpoint.
    """
    torch.manual_seed(setting.seed)
    model, task = Copier(setting), Copying(setting)
    options = Options(
        epochs=setting.epochs, peak=setting.peak, warmup=2 * STEPS, patience=0, average=1, precision="float32",
        weight_decay=0.01, log_every=STEPS, seed=setting.seed,
    )  # fmt: skip
    small.trained(model, task, options, folder, task.identity(), quiet=quiet)
    return model


def moments(folder: Path) -> list[Moment]:
    """The validations of a run, from its log."""
    names = ("step", "loss", "copying", "reads", "previous", "induction")
    return [
        Moment(*(line[name] for name in names)) for line in read_log(folder / "log.jsonl") if line["kind"] == "valid"
    ]


def learned(found: Sequence[Moment]) -> int | None:
    """The first validation at which more than half of what is ever copied is copied."""
    most = max((moment.copying for moment in found), default=0.0)
    return next((m.step for m in found if m.copying > most / 2 > 0.25), None)


def judge(name: str, model: Copier, setting: Setting) -> Result:
    """Measure the heads, then take them out, each alone and all of a kind at once, and see what is still copied."""
    draws = small.stream(setting.seed, TEST)
    batch = draw(setting, 2 * CHECKED, draws)
    found = scores(model, batch)

    def without(heads: Sequence[tuple[int, int]]) -> float:
        with knockout(model, heads=heads):
            return accuracy(model, batch)

    even = mean(1 / (row + 1) for row in range(1, setting.length))  # the score of attention that reads all keys alike
    places = [(layer, head) for layer in range(2) for head in range(setting.heads)]
    heads = tuple(
        Head(*place, _kind(previous, induction, SCORE * even), previous, induction, without([place]))
        for place, previous, induction in zip(places, found["previous"], found["induction"], strict=True)
    )
    of_kind = {
        kind: [(h.layer, h.head) for h in heads if h.kind == kind] for kind in ("previous", "induction", "other")
    }
    return Result(
        name,
        setting.cost,
        accuracy(model, batch),
        float((batch.known_BN[:, 1:] / batch.period_B[:, None]).sum() / batch.known_BN[:, 1:].sum()),
        accuracy(
            model, replace(batch, ids_BN=torch.randint(0, setting.vocabulary, batch.ids_BN.shape, generator=draws))
        ),
        heads,
        {kind: without(places) for kind, places in of_kind.items() if places},
        tuple(_drawn(of_kind["other"], len(of_kind["induction"]), without, setting.seed)),
    )


def _kind(previous: float, induction: float, least: float) -> str:
    """What a head is called: by the higher of its scores, if that is high enough."""
    if max(previous, induction) < least:
        return "other"
    return "induction" if induction >= previous else "previous"


def _drawn(
    others: list[tuple[int, int]], count: int, without: Callable[[Sequence[tuple[int, int]]], float], seed: int
) -> list[float]:
    """Accuracy without `count` of the others, all ways of choosing them, or 20 that are drawn."""
    ways = list(combinations(others, count)) if count else []
    return [without(way) for way in Random(seed).sample(ways, min(DRAWS, len(ways)))]


def verdict(result: Result) -> dict[str, Any]:
    """What the claim says, against what was measured; None if there are no heads to compare.

    The claim: without the induction heads, copying falls to chance; without as many other heads it does not fall. Both
    within 5 points.
    """
    after = result.without.get("induction")
    if after is None or not result.others:
        return {"holds": None}
    falls, stays = after <= result.chance + NEAR, mean(result.others) >= result.copying - NEAR
    return {
        "induction heads": [head.name for head in result.of("induction")],
        "lost without them": round(result.copying - after, 4),
        "left above chance": round(after - result.chance, 4),
        "lost without others": round(result.copying - mean(result.others), 4),
        "lost without others, at most": round(result.copying - min(result.others), 4),
        "holds": falls and stays,
    }
