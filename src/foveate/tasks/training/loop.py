"""The training loop of every task: epochs, checkpoints, resume, early stop, averaging, one process or several.

What happens at a step follows from the seed and the number of the step, whatever happened before this process started:
so a run that was killed and resumed ends where it would have ended, to the bit where the arithmetic is (one thread).
"""

from __future__ import annotations

import math
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_args

import torch
from torch import Tensor, nn

from .averaging import Epochs
from .checkpoint import CHECKPOINT, clear_temporaries, load_checkpoint, save_checkpoint
from .precision import Precision, autocast, settled
from .report import Log, Progress
from .resume import check_options, check_processes, check_task, resumes
from .schedule import learning_rate
from .world import World

__all__ = ["Losses", "Options", "Outcome", "Stopped", "Task", "train"]

B = TypeVar("B")


@dataclass(frozen=True)
class Options:
    """How to train, whatever the task.

    Args:
        epochs: passes over the data, at most.
        peak, warmup: the highest learning rate, and the steps until it is reached; then it falls to almost 0.
        clip: the largest norm of all gradients together.
        patience: epochs without a better validation until training stops; 0: it does not stop early.
        average: how many of the last epochs' parameters are averaged, if that validates better than the best epoch.
        precision: "float32", "bfloat16", or "auto", which is bfloat16 where this machine multiplies faster with it.
        save_every, log_every: steps between checkpoints, and between lines of the log.
        seed: of everything that is drawn.
    """

    epochs: int = 20
    peak: float = 1e-3
    warmup: int = 500
    clip: float = 1.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    patience: int = 5
    average: int = 5
    precision: Precision = "auto"
    save_every: int = 500
    log_every: int = 50
    seed: int = 1

    def __post_init__(self) -> None:
        least = {"epochs": 1, "warmup": 0, "patience": 0, "average": 1, "save_every": 1, "log_every": 1, "seed": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}; got {getattr(self, name)}")
        for name in ("peak", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        if self.precision not in get_args(Precision):
            names = ", ".join(map(repr, get_args(Precision)))
            raise ValueError(f"unknown precision {self.precision!r}; expected one of {names}")


@dataclass(frozen=True)
class Losses:
    """Of one batch: what to minimise, summed over this process's share; sums to log; `count` of the whole batch.

    The loss that is minimised is the sum over all processes, divided by `count`.
    """

    total: Tensor
    logged: dict[str, Tensor]
    count: int


class Task(Protocol[B]):
    """What the loop must know of a task. `unit`, if it has one, says what losses count; else that is tokens."""

    metric: str  # the value of `validate` that is to grow

    def identity(self) -> dict[str, Any]:
        """What results depend on beside the options (data, model), as JSON: a run is resumed with the same only."""

    def batches(self, epoch: int, rank: int, world: int) -> Sequence[B]:
        """The batches of an epoch, of which each process gets its share; the same whenever it is asked."""

    def losses(self, model: nn.Module, batch: B) -> Losses: ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """How good the model is now; called in evaluation mode, without gradients."""

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Path) -> None:
        """Draw pictures, for example."""


class Stopped(Exception):  # noqa: N818  # it is no error
    """Training was interrupted, and a checkpoint was saved."""


@dataclass
class _State:
    """Where a run stands. All of it goes into the checkpoint."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # of this epoch, the next one
    seconds: float = 0.0
    best: float = float("-inf")
    since_best: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # since the last line of the log


@dataclass(frozen=True)
class Outcome:
    """What came of it: steps, epochs and seconds of training, the metrics, and which parameters were the best."""

    steps: int
    epochs: int
    seconds: float
    precision: str
    chosen: str
    metrics: dict[str, float]


class _Objective(nn.Module, Generic[B]):
    """Model and loss as one module, so that gradients of both can be averaged over processes."""

    def __init__(self, model: nn.Module, task: Task[B]) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: B) -> tuple[Tensor, dict[str, Tensor], int]:
        found = self.task.losses(self.model, batch)
        return found.total, found.logged, found.count


def train(
    task: Task[B],
    model: nn.Module,
    options: Options,
    folder: Path,
    *,
    world: World | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train `model` in place, and leave it with the best parameters found.

    `folder` gets `checkpoint.safetensors`, `log.jsonl`, and `epochs/` with the parameters of the last epochs. With
    `resume` it goes on from the checkpoint; the options that change results, and the task, must be those of before.
    Without, what an earlier run left there is forgotten. Processes that torchrun restarted go on by themselves.

    Raises:
        Stopped: Ctrl-C; the checkpoint is of this step.
        ValueError: there is nothing to resume, or options or task were others before.
        FloatingPointError: the loss is no longer a number.
    """
    world = world or World()
    run = _Run(task, model, options, folder, world, resumes(folder, world, resume), quiet)
    try:
        with _interrupts() as asked:
            return run.go(asked)
    finally:
        run.progress.close()


class _Run(Generic[B]):
    def __init__(
        self, task: Task[B], model: nn.Module, options: Options, folder: Path, world: World, resume: bool, quiet: bool
    ) -> None:
        self.task, self.model, self.options, self.folder, self.world = task, model, options, folder, world
        model.to(world.device)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=options.peak, betas=options.betas, fused=True)
        self.state, self.precision = _State(), ""
        if resume:
            self._restore()
        self.precision = self.precision or self._settled()
        check_processes(world, task.identity())
        self.epochs = Epochs(folder / "epochs", options.average)
        self.objective = world.shared(_Objective(model, task))
        self.steps = options.epochs * len(task.batches(0, world.rank, world.size))
        if world.leads:  # and all have read the checkpoint: making gradients shared waits for everyone
            clear_temporaries(folder)
            if not resume:
                (folder / CHECKPOINT).unlink(missing_ok=True)
                self.epochs.forget()
            self.log = Log(folder / "log.jsonl", after=self.state.step if resume else None, epochs=self.state.epoch)
        self.progress = Progress(
            self.steps, first=self.state.step, seconds=self.state.seconds, quiet=quiet or not world.leads
        )
        self.logged_at = self.state.seconds
        self.latest: dict[str, float] = {}  # means of the last report

    def go(self, asked: threading.Event) -> Outcome:
        state, options = self.state, self.options
        while state.epoch < options.epochs and not (options.patience and state.since_best >= options.patience):
            self._epoch(asked)
            self._end_epoch()
            self._save()
            if self._agreed(asked):
                raise Stopped
        return self._choose()

    def _epoch(self, asked: threading.Event) -> None:
        state, options = self.state, self.options
        batches = self.task.batches(state.epoch, self.world.rank, self.world.size)
        self.model.train()
        while state.batch < len(batches):
            self._step(batches[state.batch])
            state.step += 1
            state.batch += 1
            if state.step % options.log_every == 0:
                self._report()
            elif self.progress.live:
                self.progress.at(state.step, None if self.latest or self.world.size > 1 else self._means())
            if self._agreed(asked):
                self._save()
                raise Stopped
            if state.step % options.save_every == 0:
                self._save()

    def _agreed(self, asked: threading.Event) -> bool:
        return bool(self.world.agreed(float(asked.is_set())))

    def _step(self, batch: B) -> None:
        options, state = self.options, self.state
        torch.manual_seed((options.seed * 1_000_003 + state.step) * self.world.size + self.world.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(state.step, self.steps, peak=options.peak, warmup=options.warmup)
        with autocast(self.precision, self.world.device):
            total, logged, count = self.objective(batch)
        self.optimizer.zero_grad(set_to_none=True)
        (total * (self.world.size / count)).backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the loss or its gradient is no number after {state.step} steps; try a lower learning rate than "
                f"{options.peak:g}, or --precision float32"
            )
        self.optimizer.step()
        sums = Counter(state.sums)
        sums.update({name: float(value) for name, value in logged.items()})
        sums.update({"count": count, "steps": 1})
        state.sums = dict(sums)

    def _report(self) -> None:
        state, world = self.state, self.world
        self._gather()
        means = self.latest = self._means()
        seconds = self.progress.seconds
        pace = state.sums["count"] / max(1e-9, seconds - self.logged_at)
        state.sums, self.logged_at = {}, seconds
        if world.leads:
            shown = {"epoch": state.epoch + 1, **means, f"{getattr(self.task, 'unit', 'tokens')}/s": round(pace)}
            rate = self.optimizer.param_groups[0]["lr"]
            self.log.add(kind="train", step=state.step, seconds=round(seconds, 1), learning_rate=rate, **shown)
            self.progress.at(state.step, shown)
            if state.step % (10 * self.options.log_every) == 0:
                self.progress.say(state.step, shown)

    def _means(self) -> dict[str, float]:
        """Of what was gathered since the last report; empty right after one."""
        sums = self.state.sums
        return {name: value / sums["count"] for name, value in sums.items() if name not in ("count", "steps")}

    def _gather(self) -> None:
        """What all processes summed up, with the leader, whose state the checkpoint holds; zeros with the others."""
        state, world = self.state, self.world
        names = [name for name in state.sums if name not in ("count", "steps")]
        if world.size > 1:
            own = torch.tensor([state.sums[name] for name in names], dtype=torch.float64, device=world.device)
            summed = world.summed(own) if world.leads else world.summed(own) * 0
            state.sums |= dict(zip(names, summed.tolist(), strict=True))

    def _end_epoch(self) -> None:
        state, score = self.state, 0.0
        self._gather()
        if self.world.leads:
            self.model.eval()
            with torch.no_grad():
                metrics = self.task.validate(self.model)
                score = metrics[self.task.metric]
                self.epochs.keep(state.epoch, self.model, best=score > state.best or state.epoch == 0)
                self.log.add(kind="valid", step=state.step, epoch=state.epoch + 1,
                             seconds=round(self.progress.seconds, 1), **metrics)  # fmt: skip
                self.task.epoch_ended(self.model, state.epoch, self.folder)
            learned = self._means() or self.latest
            shown = {**metrics, **({"training_loss": learned["loss"]} if "loss" in learned else {})}
            self.progress.say(state.step, shown, f"epoch {state.epoch + 1}/{self.options.epochs}")
        score = self.world.agreed(score)
        state.since_best = 0 if score > state.best else state.since_best + 1
        state.best = score if score > state.best else state.best  # and never NaN, which nothing exceeds
        state.epoch, state.batch = state.epoch + 1, 0

    def _choose(self) -> Outcome:
        """The average of the last epochs or the best one, whichever validates better."""
        chosen = ""
        metrics: dict[str, float] = {}
        self.model.eval()
        with torch.no_grad():
            for name, tensors in self.epochs.candidates() if self.world.leads else ():
                self.model.load_state_dict(tensors)
                found = self.task.validate(self.model)
                least = metrics.get(self.task.metric, math.nan)
                if math.isnan(least) or found[self.task.metric] > least:
                    chosen, metrics, best = name, found, tensors
            if self.world.leads:
                self.model.load_state_dict(best)
                seconds = round(self.progress.seconds, 1)
                self.log.add(kind="chosen", step=self.state.step, seconds=seconds, chosen=chosen, **metrics)
        state = self.state
        return Outcome(state.step, state.epoch, round(self.progress.seconds, 1), self.precision, chosen, metrics)

    def _save(self) -> None:
        self.state.seconds = self.progress.seconds
        self._gather()
        if self.world.leads:
            kept = {
                "state": asdict(self.state),
                "options": asdict(self.options),
                "precision": self.precision,
                "identity": self.task.identity(),
            }
            save_checkpoint(self.folder, self.model, self.optimizer, kept)

    def _restore(self) -> None:
        check_options(self.folder, self.options)
        check_task(self.folder, self.task.identity())
        kept = load_checkpoint(self.folder, self.model, self.optimizer)
        self.state, self.precision = _State(**kept["state"]), kept["precision"]
        if not self.world.leads:
            self.state.sums = {k: v if k in ("count", "steps") else 0.0 for k, v in self.state.sums.items()}

    def _settled(self) -> str:
        """The leader's measurement, where several processes measure."""
        half = settled(self.options.precision, self.world.device) == "bfloat16"
        return "bfloat16" if self.world.agreed(float(half)) else "float32"


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, which is looked at between steps; a second one interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
