"""A small task for the training loop, and ways to be killed in the middle of it. Also a script that torchrun starts.

Axes: N rows, D width.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # for two seconds, as the first optimizer would: processes that are forked need not again
from torch import Tensor, nn

from foveate.tasks.training import Options, train
from foveate.tasks.training.loop import Losses, Outcome
from foveate.tasks.training.world import World, joined

ROWS, BATCH, D = 48, 8, 4
STEPS = ROWS // BATCH  # of an epoch
OPTIONS = Options(
    epochs=3, peak=0.02, warmup=3, patience=0, average=2, precision="float32", save_every=4, log_every=1, seed=5
)


class Toy:
    """Learn tanh of a sum. What happens at a call is counted in `calls`, and told to `at`."""

    metric = "score"

    def __init__(self, *, rows: int = ROWS, scores: Sequence[float] | None = None) -> None:
        draw = torch.Generator().manual_seed(1)
        self.x_ND = torch.randn(rows, D, generator=draw)
        self.y_N = torch.tanh(self.x_ND.sum(-1))
        self.scores = None if scores is None else iter(scores)
        self.calls: dict[str, int] = {}
        self.at: Callable[[str, int], None] = lambda what, number: None
        self.ended: list[tuple[int, list[str]]] = []

    def model(self, dropout: float = 0.3) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            return nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))

    def identity(self) -> dict[str, Any]:
        return {"rows": len(self.y_N), "shape": {"width": 8}}

    def batches(self, epoch: int, rank: int, world: int) -> list[tuple[Tensor, int]]:
        order = torch.from_numpy(np.random.default_rng([7, epoch]).permutation(len(self.y_N)))
        return [(rows[rank::world], len(rows)) for rows in order.split(BATCH)]

    def losses(self, model: nn.Module, batch: tuple[Tensor, int]) -> Losses:
        self._tell("step")
        rows, count = batch
        total = (model(self.x_ND[rows])[:, 0] - self.y_N[rows]).square().sum()
        return Losses(total, {"loss": total.detach()}, count)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        self._tell("valid")
        assert not model.training
        if self.scores is not None:
            return {"score": next(self.scores)}
        return {"score": -float((model(self.x_ND)[:, 0] - self.y_N).square().mean())}

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Path) -> None:
        self._tell("ended")
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        self.ended.append((epoch, lines))

    def _tell(self, what: str) -> None:
        number = self.calls[what] = self.calls.get(what, 0) + 1
        self.at(what, number)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_until(folder: Path, resume: bool, what: str = "", number: int = 0) -> None:
    """Train the toy in this process, which is killed at the `number`th time that `what` happens.

    What may happen is a "step", a validation ("valid"), the end of an epoch ("ended"), or that a file is about to take
    its place ("replace") or has just done so ("replaced").
    """
    torch.set_num_threads(1)
    task = Toy()
    real, count = os.replace, 0

    def replace(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if (what, number) == ("replace", count):
            die()
        real(source, target)
        if (what, number) == ("replaced", count):
            die()

    def at(happened: str, times: int) -> None:
        if happened == "step":
            with (folder / "calls").open("ab") as file:
                file.write(b".")
        if (happened, times) == (what, number):
            die()

    task.at, os.replace = at, replace
    folder.mkdir(exist_ok=True)
    model = task.model()
    train(task, model, OPTIONS, folder, resume=resume, quiet=True)
    torch.save(model.state_dict(), folder / "final.pt")


def kill_once(folder: Path, world: World, step: int) -> Callable[[int], None]:
    """The last process dies at a step, unless all of them were started anew."""

    def at(now: int) -> None:
        if now == step and world.rank == world.size - 1 and not world.restarted:
            (folder / "killed").touch()
            die()

    return at


def translate_in(world: World, folder: Path, step: int) -> Outcome:
    """Train a tiny translator, one of whose batches has a single row."""
    import miniature

    torch.set_num_threads(1)
    task = miniature.task(extra=[("one " * 40, "un " * 40)], dropout=0.0)
    model = task.model().double()
    at, losses, validate, calls = kill_once(folder, world, step), task.losses, task.validate, [0, 0]

    def counted_losses(model: Any, batch: Any) -> Losses:
        calls[0] += 1
        at(calls[0])
        return losses(model, batch)

    def counted_validate(model: Any) -> dict[str, float]:
        calls[1] += 1
        return validate(model)

    task.losses, task.validate = counted_losses, counted_validate  # type: ignore[method-assign]
    outcome = train(task, model, miniature.OPTIONS, folder, world=world, quiet=True)
    name = f"final-{world.rank}-of-{world.size}.pt"
    told = {"steps": outcome.steps, "restarted": world.restarted, "validated": calls[1]}
    torch.save({"model": model.state_dict(), **told}, folder / name)
    return outcome


def one_of(folder: Path, rank: int, size: int, port: int, step: int = 0) -> None:
    """One process among several, as torchrun would start it."""
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    with joined() as world:
        translate_in(world, folder, step)


if __name__ == "__main__":
    with joined() as world:
        translate_in(world, Path(sys.argv[1]), int(sys.argv[2]))
