"""A supervised task as one short file: what its examples are, a model for them, and what the model has to choose.

`Recipe` is what a task says of itself. Everything else is here, once: batches of examples of about one length, a loss,
accuracy, a run from files to a folder (`Run`, `run`), and that folder read again (`opened`).

Axes: N choices to make, O what there is to choose from.
"""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .bucketing import buckets, cut
from .card import write_card
from .files import save_text
from .rows import Rows
from .training import Options
from .training.checkpoint import load_model, save_model
from .training.curves import draw_curves
from .training.loop import Losses, Outcome
from .training.precision import Precision
from .training.run import how_trained, run_task
from .training.world import World

__all__ = ["KNOWN", "Answer", "Learning", "Predictor", "Ready", "Recipe", "Run", "opened", "percent", "run", "told"]

E = TypeVar("E")
KNOWN = "known.json"
EXAMPLES = 3  # texts of validation that the model's page offers to try


class Recipe(ABC, Generic[E]):
    """A task, its model's shape, and what was learned from the training data before any step (words, labels).

    Args:
        shape: a frozen dataclass with a `name` for people.
        known: what `learn` gave, or what was kept of it: JSON.
    """

    task: ClassVar[str]  # as its folders call it
    command: ClassVar[str]  # as `foveate train` calls it, and the command that uses a model
    summary: ClassVar[str]  # of that command: "train a classifier, which shows ..."
    about: ClassVar[str]  # what a model is, for its card: "A classifier of texts"
    files: ClassVar[str]  # what a file of examples is: "a TSV file (text, tab, label)"
    ending: ClassVar[str]  # of its name: ".tsv"
    unit: ClassVar[str]  # what is counted, one of it: "sentence"
    shapes: ClassVar[type[Any]]  # of `shape`
    sizes: ClassVar[dict[str, dict[str, Any]]]  # for each architecture, the first being the usual one, of its shape
    rates: ClassVar[dict[str, dict[str, Any]]]  # for each architecture, the usual `peak` and `warmup`
    epochs: ClassVar[int]  # that are usual
    metric: ClassVar[str] = "accuracy"  # of `scores`: what is to grow, and which epoch is kept
    use: ClassVar[str] = '"..."'  # what the command that uses a model takes after it
    precision: ClassVar[Precision] = "auto"  # that is usual, as in `training.Options`

    def __init__(self, shape: Any, known: dict[str, Any]) -> None:
        self.shape, self.known = shape, known

    @classmethod
    @abstractmethod
    def read(cls, path: Path, known: dict[str, Any] | None, *, skip_bad: bool) -> Rows[E]:
        """The examples of a file. With `known`, those that training does not know (another label) are malformed.

        Raises:
            Malformed: a row breaks a rule, without `skip_bad`; the whole file does; or no row can be used.
        """

    @classmethod
    def made(cls, name: str, seed: int) -> Rows[E]:
        """Examples that the task makes by itself where no file is given, for "train", "valid" or "test".

        Raises:
            ValueError: it makes none.
        """
        raise ValueError(f"{cls.command} needs a file of examples for {name}; it makes none by itself")

    @classmethod
    @abstractmethod
    def learn(cls, examples: Sequence[E], shape: Any) -> dict[str, Any]:
        """What models and batches need to know of the training data; raises ValueError where they cannot do."""

    @abstractmethod
    def size(self, example: E) -> int:
        """How long an example is: examples of about one size make a batch."""

    @abstractmethod
    def choices(self, example: E) -> int:
        """How many choices an example asks for."""

    @abstractmethod
    def text(self, example: E) -> str:
        """An example for people to try."""

    @abstractmethod
    def model(self) -> nn.Module:
        """Fresh parameters."""

    @abstractmethod
    def logits(self, model: nn.Module, examples: Sequence[E]) -> tuple[Tensor, Tensor]:
        """(N, O) what the model makes of some examples, and (N,) what it should choose; on the model's device."""

    def scores(self, model: nn.Module, examples: Sequence[E], cells: int) -> dict[str, float]:
        """How good a model is: the share of choices that are right, in percent; called without gradients."""
        return {"accuracy": percent(right_N for _, right_N in self.judged(model, examples, cells))}

    def judged(self, model: nn.Module, examples: Sequence[E], cells: int) -> Iterator[tuple[list[E], Tensor]]:
        """All examples, some of about one size at a time, and (N,) which of their choices are right."""
        for some in self.together(examples, cells):
            logits_NO, target_N = self.logits(model, some)
            yield some, (logits_NO.argmax(-1) == target_N).cpu()

    def together(self, examples: Sequence[E], cells: int) -> Iterator[list[E]]:
        """All examples, some of about one size at a time."""
        sizes = np.array([self.size(one) for one in examples])
        for rows in cut(np.argsort(sizes, kind="stable"), sizes, cells):
            yield [examples[row] for row in rows]


def told(what: str, probability: float) -> str:
    """`what (93.1 %)`"""
    return f"{what} ({100 * probability:.1f} %)"


def percent(right: Iterable[Tensor]) -> float:
    """Which share of all of these is true; NaN of none."""
    together = torch.cat(list(right))
    return round(100 * float(together.double().mean()), 3)


@dataclass(frozen=True)
class Batch(Generic[E]):
    """This process's share of a batch, of which `count` choices are asked in all; `weight` is 0 where it has none."""

    examples: list[E]
    count: int
    weight: float


@dataclass(frozen=True)
class _Epoch(Sequence[Batch[E]]):
    task: Learning[E]
    rows: list[NDArray[np.int64]]
    rank: int
    world: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch[E]:  # type: ignore[override]  # no slices
        recipe, whole = self.task.recipe, [self.task.train[row] for row in self.rows[index]]
        share = whole[self.rank :: self.world]
        return Batch(share or whole[:1], sum(map(recipe.choices, whole)), float(bool(share)))


class Learning(Generic[E]):
    """A recipe with data, as the training loop sees it.

    Args:
        cells: of a batch, at most: examples times the size of the longest.
    """

    def __init__(
        self,
        recipe: Recipe[E],
        train: Sequence[E],
        valid: Sequence[E],
        *,
        cells: int = 1024,
        seed: int = 1,
    ) -> None:
        self.recipe, self.train, self.valid = recipe, train, valid
        self.cells, self.seed = cells, seed
        self.metric, self.unit = recipe.metric, f"{recipe.unit}s"
        self._sizes = [recipe.size(one) for one in train]

    def model(self) -> nn.Module:
        """Fresh parameters, drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.recipe.model()

    def identity(self) -> dict[str, Any]:
        return self._identity

    @cached_property
    def _identity(self) -> dict[str, Any]:
        sums = {name: zlib.crc32(repr(list(getattr(self, name))).encode()) for name in ("train", "valid")}
        settings = {"cells": self.cells, "examples": len(self.train)}
        checks = {f"checksum of {name}": found for name, found in sums.items()}
        return {"task": self.recipe.task, "shape": asdict(self.recipe.shape), **settings, **checks}

    def batches(self, epoch: int, rank: int, world: int) -> _Epoch[E]:
        rows = buckets(self._sizes, cells=self.cells, seed=self.seed, epoch=epoch)
        return _Epoch(self, rows, rank, world)

    def losses(self, model: nn.Module, batch: Batch[E]) -> Losses:
        logits_NO, target_N = self.recipe.logits(model, batch.examples)
        logits_NO = logits_NO.float()
        total = F.cross_entropy(logits_NO, target_N, reduction="sum") * batch.weight
        right = (logits_NO.argmax(-1) == target_N).sum() * batch.weight
        return Losses(total, {"loss": total.detach(), "accuracy": 100 * right}, batch.count)

    def validate(self, model: nn.Module) -> dict[str, float]:
        return self.recipe.scores(model, self.valid, self.cells)

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Path) -> None:
        draw_curves(folder / "log.jsonl", folder / "curves.png", self.metric, self.recipe.unit)


@dataclass(frozen=True)
class Run(Generic[E]):
    """What to train, on what.

    Args:
        recipe: the task.
        train, valid, test: a file each; the test set is looked at once, when everything is done. None of them: what
            the recipe makes.
        cells: as in `Learning`.
        command: what was typed, for the card.
    """

    recipe: type[Recipe[E]]
    shape: Any
    train: Path | None
    valid: Path | None
    test: Path | None = None
    options: Options = field(default_factory=Options)
    cells: int = 1024
    skip_bad: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        if (self.train is None) != (self.valid is None) or (self.train is None and self.test is not None):
            given = " and ".join(name for name in ("train", "valid", "test") if getattr(self, name) is not None)
            raise ValueError(f"train and valid are files, and test may be one; or none of them is: got {given} alone")
        if self.cells < 1:
            raise ValueError(f"cells must be at least 1; got {self.cells}")

    def named(self, name: str) -> str:
        """What "train", "valid" or "test" is called: the name of its file."""
        path: Path | None = getattr(self, name)
        return f"made ({name})" if path is None else path.name

    def rows(self, name: str, known: dict[str, Any] | None) -> Rows[E]:
        """The examples of "train", "valid" or "test"; raises as `Recipe.read` and `made`."""
        path: Path | None = getattr(self, name)
        if path is None:
            return self.recipe.made(name, self.options.seed)
        return self.recipe.read(path, known, skip_bad=self.skip_bad)


@dataclass(frozen=True)
class Ready(Generic[E]):
    """A run whose files are read."""

    given: Run[E]
    task: Learning[E]
    data: dict[str, Rows[E]]  # "train", "valid", and "test" if there is one

    def model(self) -> nn.Module:
        return self.task.model()

    def keep(self, folder: Path) -> None:
        save_text(folder / KNOWN, json.dumps(self.task.recipe.known, ensure_ascii=False) + "\n")

    @torch.no_grad()
    def finish(self, folder: Path, model: nn.Module, outcome: Outcome, world: World) -> None:
        given, recipe = self.given, self.task.recipe
        facts: dict[str, Any] = {
            "task": recipe.task,
            "shape": asdict(recipe.shape),
            "examples": [recipe.text(one) for one in _spread(self.task.valid, EXAMPLES)],
            "parameters": sum(p.numel() for p in model.parameters()),
            "data": {
                name: {"file": given.named(name), "examples": len(rows), "reading": rows.report()}
                for name, rows in self.data.items()
            },
            "trained": how_trained(outcome, world),
            "test": recipe.scores(model, self.data["test"].items, given.cells) if "test" in self.data else None,
            "settings": {"cells": given.cells, "options": asdict(given.options)},
            "command": given.command,
        }
        save_model(folder, model.state_dict(), facts)
        own = ("arch", *recipe.sizes[recipe.shape.arch])
        sizes = {name: size for name, size in facts["shape"].items() if name in own}
        write_card(folder / "CARD.md", f"{recipe.about}: {recipe.shape.name}", sizes, facts)


def run(
    given: Run[E],
    folder: Path,
    *,
    world: World | None = None,
    resume: bool = False,
    quiet: bool = False,
    started: Callable[[Ready[E], nn.Module, Precision], object] | None = None,
) -> Outcome:
    """Read, train, and write the model and its card into `folder`, as `training.run.run_task` does it.

    Raises:
        Malformed: a row breaks a rule (file, line, rule).
        others: as `run_task`.
    """

    def read(kept: Path | None) -> Ready[E]:
        recipe, train = given.recipe, given.rows("train", None)
        known = recipe.learn(train.items, given.shape) if kept is None else _known(kept)
        names = ("valid", "test") if given.train is None or given.test is not None else ("valid",)
        data = {name: given.rows(name, known) for name in names}
        same: dict[str, Any] = {"cells": given.cells, "seed": given.options.seed}
        task = Learning(recipe(given.shape, known), train.items, data["valid"].items, **same)
        return Ready(given, task, {"train": train, **data})

    return run_task(given.options, read, folder, world=world, resume=resume, quiet=quiet, started=started)


R = TypeVar("R", bound=Recipe[Any])


@dataclass(frozen=True)
class Answer:
    """What a model says of a text: the words that it read, a line, for attention whose queries are no words what each
    query stands for, and what else a reader should know.

    `pixels`: of a picture whose parts were read ((height, width, 3) uint8), and its `grid` of rows and columns; then
    `words` are what was read besides, before the parts.
    """

    words: tuple[str, ...]
    message: str
    queries: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pixels: NDArray[np.uint8] | None = None
    grid: tuple[int, int] = (0, 0)


class Predictor(ABC, Generic[R]):
    """A trained model, as `opened` gives it. `shown`: which of its attention a page shows, as `fv.watch` takes it."""

    shown: ClassVar[str | None] = None

    def __init__(self, recipe: R, model: nn.Module, facts: dict[str, Any]) -> None:
        self.recipe, self.model, self.facts = recipe, model, facts

    @property
    def examples(self) -> list[str]:
        """Texts to try."""
        return list(self.facts.get("examples") or ())

    @abstractmethod
    def look(self, text: str) -> Answer:
        """What the model says of a text; raises ValueError if there is nothing in it, or too much."""


def opened(folder: str | Path, kind: type[R]) -> tuple[R, nn.Module, dict[str, Any]]:
    """The recipe, the model and its description that a run left in a folder; the model in evaluation mode.

    Raises:
        ValueError: there is none, it is of another task, or its files do not belong together.
    """
    folder = Path(folder)
    tensors, facts = load_model(folder)
    if facts.get("task") != kind.task:
        raise ValueError(
            f"{folder.name} holds a model for {facts.get('task', 'something else')!r}, not for {kind.task}"
        )
    try:
        recipe = kind(kind.shapes(**facts["shape"]), _known(folder))
        with torch.random.fork_rng(devices=[]):  # parameters are drawn, and then replaced
            model = recipe.model()
        model.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        told = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ValueError(f"the files in {folder.name} do not belong together: {told}") from None
    return recipe, model.eval(), facts


def _known(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / KNOWN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{KNOWN} in {folder.name} is missing or broken ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{KNOWN} in {folder.name} must hold an object")
    return found


def _spread(examples: Sequence[E], count: int) -> list[E]:
    """A few, from all over."""
    return list(examples[:: max(1, len(examples) // count)][:count])
