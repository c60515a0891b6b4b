"""Sequences in which a block of random tokens repeats, and a two-layer decoder that learns to copy it.

Nothing but the block tells what comes next: who predicts it must find where the token at hand stood before, and read
what came after it (Olsson et al. 2022).

Axes: B batch, N tokens of a sequence, V vocabulary, M model width, H heads, Q and K queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ...heads.engine import gather, here, jobs_of
from ...heads.shard import Options as Measured
from ...heads.subject import subject_of
from ...heads.table import columns
from ...map import AttentionMap
from ...nn import Decoder, MultiHeadAttention
from ...operator import observe
from ...positions import Rotary
from ..training.loop import Losses
from . import small

__all__ = ["Batch", "Copier", "Copying", "Setting", "accuracy", "draw", "reads", "scores"]

STEPS = 25  # of an epoch, which ends with a validation
CHECKED = 128  # sequences of a validation
CHECK, SCORED = 1, 2  # seeds of what is validated on, beside those of training


@dataclass(frozen=True)
class Setting:
    """What is trained, on what, and for how long.

    Args:
        length: N. `shortest`, `longest`: tokens of the block that repeats; all of them differ.
        epochs: of 25 batches each.
        free: epochs before reading costs anything.
        cost: what a head pays for the share of its attention that leaves the token itself, as a part of the loss.
    """

    vocabulary: int = 64
    width: int = 64
    heads: int = 4
    length: int = 48
    shortest: int = 6
    longest: int = 20
    batch: int = 32
    epochs: int = 36
    free: int = 16
    cost: float = 0.0
    peak: float = 3e-3
    seed: int = 1

    def __post_init__(self) -> None:
        fits = 1 <= self.shortest <= self.longest <= min(self.vocabulary, self.length // 2)
        if not fits:
            raise ValueError(
                f"a block has shortest <= longest <= vocabulary tokens, and fits twice into a sequence; got "
                f"{self.shortest} to {self.longest} tokens, {self.vocabulary} kinds, sequences of {self.length}"
            )
        if self.cost < 0:
            raise ValueError(f"cost must be at least 0; got {self.cost}")


@dataclass(frozen=True)
class Batch:
    """Sequences; which of their tokens can be known from those before; the length of each block; what reading costs."""

    ids_BN: Int[Tensor, "B N"]
    known_BN: Bool[Tensor, "B N"]
    period_B: Int[Tensor, " B"]
    cost: float = 0.0


def draw(setting: Setting, count: int, draws: torch.Generator, cost: float = 0.0) -> Batch:
    """A block that stands somewhere in the first quarter, and again and again after it.

    The first token of the first repetition cannot be known: the block might as well be longer.
    """
    shape = (count, 1)
    period_B1 = torch.randint(setting.shortest, setting.longest + 1, shape, generator=draws)
    first_B1 = torch.randint(0, max(1, setting.length // 4), shape, generator=draws)
    order_BV = torch.rand(count, setting.vocabulary, generator=draws).argsort(-1)
    before_BN = torch.randint(0, setting.vocabulary, (count, setting.length), generator=draws)
    since_BN = torch.arange(setting.length) - first_B1
    block_BN = order_BV.gather(1, since_BN.clamp(min=0) % period_B1)
    ids_BN = torch.where(since_BN < 0, before_BN, block_BN)
    return Batch(ids_BN, since_BN > period_B1, period_B1[:, 0], cost)


class Copier(nn.Module):
    """A decoder of two layers, with rotary positions, that predicts the next token."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        width, heads = setting.width, setting.heads

        def attention() -> nn.Module:
            return MultiHeadAttention(width, heads, positions=Rotary())

        self.embedding = nn.Embedding(setting.vocabulary, width)
        self.decoder = Decoder(2, width, heads, 2 * width, cross=False, attention=attention)
        self.output = nn.Linear(width, setting.vocabulary)

    def forward(self, ids_BN: Int[Tensor, "B N"]) -> Float[Tensor, "B N V"]:
        """(B, N) -> (B, N, V): logits of the token after each."""
        logits_BNV: Tensor = self.output(self.decoder(self.embedding(ids_BN)))
        return logits_BNV


def reads(maps: Sequence[AttentionMap]) -> Float[Tensor, "layers H"]:
    """The mean share of attention that leaves the token itself, of each head. Of all rows but a sequence's first."""
    return torch.stack([1 - w[...].diagonal(dim1=-2, dim2=-1)[..., 1:].mean((0, 2)) for w in maps])


@torch.no_grad()
def accuracy(model: nn.Module, batch: Batch) -> float:
    """The share of tokens that come first of all, of those that can be known."""
    right_BN = model(batch.ids_BN[:, :-1]).argmax(-1) == batch.ids_BN[:, 1:]
    return float(right_BN[batch.known_BN[:, 1:]].double().mean())


def scores(model: nn.Module, batch: Batch) -> dict[str, list[float]]:
    """ "previous" and "induction" of all heads, in the order of layers and heads: see `foveate.heads.measures`."""
    wanted = ("previous", "induction")
    options = Measured.of(wanted, rows=batch.ids_BN.shape[1], examples=False, layers=None)
    state = gather(jobs_of(batch.ids_BN.tolist()), here(subject_of(model), options))
    found = columns(state, wanted)
    return {name: [float(score or 0) for score in found[name]] for name in wanted}


class Copying:
    """The task: the tokens that can be known, and what reading costs. For one process: it takes half a minute."""

    metric = "objective"

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.check = draw(setting, CHECKED, small.stream(setting.seed, CHECK))
        self.scored = draw(setting, CHECKED // 2, small.stream(setting.seed, SCORED))

    def identity(self) -> dict[str, Any]:
        return asdict(self.setting)

    def batches(self, epoch: int, rank: int, world: int) -> Sequence[Batch]:
        setting, draws = self.setting, small.stream(self.setting.seed, SCORED + 1 + epoch)
        cost = setting.cost if epoch >= setting.free else 0.0
        return [draw(setting, setting.batch, draws, cost) for _ in range(STEPS)]

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        count = int(batch.known_BN.sum())
        with _heard() as maps:
            loss = self._loss(model, batch)
        cost = reads(maps).sum() * batch.cost if batch.cost else torch.zeros(())
        return Losses((loss + cost) * count, {"loss": loss.detach() * count}, count)

    def _loss(self, model: nn.Module, batch: Batch) -> Tensor:
        logits_BNV, known_BN = model(batch.ids_BN[:, :-1]), batch.known_BN[:, 1:]
        return F.cross_entropy(logits_BNV[known_BN], batch.ids_BN[:, 1:][known_BN])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss, accuracy, what is read by all heads together, and the highest scores that a head has."""
        with _heard() as maps:
            loss = float(self._loss(model, self.check))
        read = float(reads(maps).sum())
        objective = -(loss + self.setting.cost * read)
        found = {"objective": objective, "loss": loss, "reads": read, "copying": accuracy(model, self.check)}
        return found | {name: max(of_heads) for name, of_heads in scores(model, self.scored).items()}

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Path) -> None:
        pass


@contextmanager
def _heard() -> Iterator[list[AttentionMap]]:
    maps: list[AttentionMap] = []
    with observe(maps.append):
        yield maps
