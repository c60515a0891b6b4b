"""One training run of a translator, from files of parallel text to a folder with a model and its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..corpus import Corpus, Pair, read_pairs
from ..subwords import Subwords
from ..training import Options, train
from ..training.checkpoint import describe_checkpoint
from ..training.loop import Outcome
from ..training.precision import Precision, settled
from ..training.resume import check_options, resumes
from ..training.world import World
from . import store
from .card import write_card
from .shape import Shape, build
from .task import Judge, TranslationTask, metric_of, prepare

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
        tokenize: sacrebleu's, for validation: "13a" for plain text, "none" for text that is tokenised already.
        reverse: translate from the second language into the first.
        half: keep the finished parameters in float16.
        pictures: how many sentences of validation are drawn after each epoch.
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
    world = world or World()
    resume = resumes(folder, world, resume)
    metric_of(given.tokenize)
    with torch.random.fork_rng(devices=[]):
        build(given.shape, 1, torch.arange(1))  # raises where widths do not fit
    if resume:
        check_options(folder, given.options)
    data, valid = _read(given, given.train), _read(given, given.valid)
    kept = Subwords.load(folder / "subwords.json") if resume else None
    prepared = prepare(data.pairs, valid.pairs, given.vocabulary, kept, dropout=given.subword_dropout)
    same: dict[str, Any] = {name: getattr(given, name) for name in ("tokens", "smoothing", "tokenize", "pictures")}
    task = TranslationTask(prepared, given.shape, seed=given.options.seed, judge=judge, **same)
    model = task.model()
    if world.leads and not resume:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").unlink(missing_ok=True)  # an earlier model does not know these sub-words
        prepared.subwords.save(folder / "subwords.json")
    precision = _precision(given.options, folder, world, resume)
    if world.leads and started is not None:
        sizes = sum(p.numel() for p in model.parameters()), len(prepared.subwords), len(prepared.outputs)
        started(Start(data, valid, *sizes, len(task.batches(0, 0, 1)), precision))
    outcome = train(
        task, model, replace(given.options, precision=precision), folder, world=world, resume=resume, quiet=quiet
    )
    if world.leads:
        facts = _facts(given, data, valid, task, model, outcome, world)
        store.save(folder, model.cpu(), prepared.subwords, given.shape, facts, half=given.half)
        write_card(folder / "CARD.md", given.shape, facts)
    return outcome


def _read(given: Run, paths: Sequence[Path]) -> Corpus:
    found = read_pairs(paths, skip_bad=given.skip_bad)
    return replace(found, items=[Pair(p.target, p.source) for p in found.pairs]) if given.reverse else found


def _precision(options: Options, folder: Path, world: World, resume: bool) -> Precision:
    """The same in all processes, and in all parts of a run that is resumed."""
    if resume:
        kept: Precision = describe_checkpoint(folder)["precision"]
        return kept
    return "bfloat16" if world.agreed(settled(options.precision, world.device) == "bfloat16") else "float32"


def _facts(
    given: Run,
    data: Corpus,
    valid: Corpus,
    task: TranslationTask,
    model: torch.nn.Module,
    outcome: Outcome,
    world: World,
) -> dict[str, Any]:
    return {
        "examples": [source for source, _ in task.examples(EXAMPLES)],
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": {
            "data": [path.name for path in given.train],
            "pairs": len(data),
            "reading": data.report(),
            "valid": [path.name for path in given.valid],
            "valid_pairs": len(valid),
            "vocabulary": len(task.data.subwords),
            "steps": outcome.steps,
            "epochs": outcome.epochs,
            "seconds": round(outcome.seconds),
            "threads": torch.get_num_threads(),
            "processes": world.size,
            "device": world.device.type,
            "precision": outcome.precision,
            "chosen": outcome.chosen,
            "validation": outcome.metrics,
        },
        "settings": {
            "vocabulary": given.vocabulary,
            "tokens": given.tokens,
            "smoothing": given.smoothing,
            "subword_dropout": given.subword_dropout,
            "tokenize": given.tokenize,
            "reverse": given.reverse,
            "half": given.half,
            "options": asdict(given.options),
        },
    }
