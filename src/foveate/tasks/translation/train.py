"""One training run of a translator or a summariser, from files of pairs to a folder with a model and its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..corpus import Corpus, Pair, read_pairs
from ..subwords import Subwords
from ..training import Options
from ..training.loop import Outcome
from ..training.precision import Precision
from ..training.run import how_trained, run_task
from ..training.world import World
from . import store
from .card import write_card
from .goal import TRANSLATION, Goal
from .shape import Shape, Trained, build
from .task import Judge, TranslationTask, prepare

__all__ = ["Run", "Start", "run"]


EXAMPLES = 3  # sentences of validation that the model's page offers to try


@dataclass(frozen=True)
class Run:
    """What to train, on what.

    Args:
        train, valid: a TSV file, or two line-aligned files.
        vocabulary: sub-words of both languages together.
        tokens: of a batch, at most, padding included.
        smoothing: of targets.
        subword_dropout: share of merges that are left out at random, so that words are cut otherwise in each epoch.
        tokenize: sacrebleu's, for BLEU: "13a" for plain text, "none" for text that is tokenised already.
        reverse: translate from the second language into the first.
        half: keep the finished parameters in float16.
        pictures: how many sentences of validation are drawn after each epoch.
        goal: what is learned: to translate, or to summarise.
    """

    train: Sequence[Path]
    valid: Sequence[Path]
    shape: Shape = field(default_factory=Shape)
    options: Options = field(default_factory=Options)
    vocabulary: int = 8000
    tokens: int = 4096
    smoothing: float = 0.1
    subword_dropout: float = 0.0
    tokenize: str = "13a"
    reverse: bool = False
    skip_bad: bool = False
    half: bool = False
    pictures: int = 4
    goal: Goal = TRANSLATION

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"tokens must be at least 1; got {self.tokens}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and less than 1; got {self.smoothing}")
        if not 0 <= self.subword_dropout < 1:
            raise ValueError(f"subword_dropout must be at least 0 and less than 1; got {self.subword_dropout}")


@dataclass(frozen=True)
class Start:
    """What a run is about to train, its texts read: of which size, in how many batches an epoch."""

    train: Corpus
    valid: Corpus
    parameters: int
    vocabulary: int
    outputs: int  # sub-words that targets use
    batches: int
    precision: str


def run(
    given: Run,
    folder: Path,
    *,
    world: World | None = None,
    resume: bool = False,
    quiet: bool = False,
    judge: Judge | None = None,
    started: Callable[[Start], object] | None = None,
) -> Outcome:
    """Read, train, and write the model and its card into `folder`.

    Whatever can be wrong with options, data and folder is found before anything is learned or written.

    Args:
        judge: what else to measure at each validation.
        started: is told by the process that leads, before the first step.
        others: as in `foveate.tasks.training.train`.

    Raises:
        Malformed: text breaks a rule (file, line, rule).
        ValueError: options break one, or there is nothing to resume.
        Stopped: Ctrl-C, after a checkpoint.
    """
    given.goal.metric(given.tokenize)  # raises where it cannot count
    with torch.random.fork_rng(devices=[]):
        build(given.shape, 1, torch.arange(1))  # raises where widths do not fit

    def begun(ready: _Ready, model: nn.Module, precision: Precision) -> None:
        if started is not None:
            data = ready.task.data
            sizes = sum(p.numel() for p in model.parameters()), len(data.subwords), len(data.outputs)
            started(Start(ready.data, ready.valid, *sizes, len(ready.task.batches(0, 0, 1)), precision))

    def read(kept: Path | None) -> _Ready:
        return _prepared(given, judge, kept)

    return run_task(given.options, read, folder, world=world, resume=resume, quiet=quiet, started=begun)


@dataclass(frozen=True)
class _Ready:
    given: Run
    data: Corpus
    valid: Corpus
    task: TranslationTask

    def model(self) -> Trained:
        return self.task.model()

    def keep(self, folder: Path) -> None:
        self.task.data.subwords.save(folder / "subwords.json")

    def finish(self, folder: Path, model: nn.Module, outcome: Outcome, world: World) -> None:
        facts = _facts(self, model, outcome, world)
        store.save(folder, cast(Trained, model), self.task.data.subwords, self.given.shape, facts, half=self.given.half)
        write_card(folder / "CARD.md", self.given.shape, self.task, facts)


def _prepared(given: Run, judge: Judge | None, kept: Path | None) -> _Ready:
    data, valid = _read(given, given.train), _read(given, given.valid)
    known = None if kept is None else Subwords.load(kept / "subwords.json")
    prepared = prepare(
        data.pairs, valid.pairs, given.vocabulary, known, dropout=given.subword_dropout, copies=given.goal.copies
    )
    names = ("goal", "tokens", "smoothing", "tokenize", "pictures")
    same: dict[str, Any] = {name: getattr(given, name) for name in names}
    return _Ready(
        given, data, valid, TranslationTask(prepared, given.shape, seed=given.options.seed, judge=judge, **same)
    )


def _read(given: Run, paths: Sequence[Path]) -> Corpus:
    found = read_pairs(paths, skip_bad=given.skip_bad, **given.goal.rules)
    return replace(found, items=[Pair(p.target, p.source) for p in found.pairs]) if given.reverse else found


def _facts(ready: _Ready, model: nn.Module, outcome: Outcome, world: World) -> dict[str, Any]:
    given, data, valid, task = ready.given, ready.data, ready.valid, ready.task
    return {
        **task.facts(),
        "examples": [source for source, _ in task.examples(EXAMPLES)],
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": {
            "data": [path.name for path in given.train],
            "pairs": len(data),
            "reading": data.report(),
            "valid": [path.name for path in given.valid],
            "valid_pairs": len(valid),
            "vocabulary": len(task.data.subwords),
            **how_trained(outcome, world),
        },
        "settings": {
            "vocabulary": given.vocabulary,
            "tokens": given.tokens,
            "smoothing": given.smoothing,
            "subword_dropout": given.subword_dropout,
            **task.scored.settings,
            "reverse": given.reverse,
            "half": given.half,
            "options": asdict(given.options),
        },
    }
