"""The telephone game: words are said, others talk, and after a growing distance someone must repeat what was said.

Two games. "message": some words in a row, and at the end the same words again, each told from those before it. "who":
each word is said by someone, and at the end it is asked for each of them, in any order, what they said. What is between
is chatter. A recurrent state must carry everything through it; attention reads what was said where it stands.

Axes: B sequences, N places, T words that are asked for, M width, H heads, O words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ...linear import linear_attention
from ...nn import Decoder, MultiHeadAttention
from ...nn.parts import merge_heads, split_heads
from ...positions import RelativeBuckets, sinusoidal
from ..training import Options
from ..training.loop import Losses
from . import small

__all__ = ["GAMES", "PLAYERS", "Batch", "Game", "Played", "Player", "Playing", "Setting", "draw", "judge", "trained"]

Game = Literal["message", "who"]
GAMES: tuple[Game, ...] = get_args(Game)
STEPS = 50  # of an epoch, which ends with a validation
CHECKED, JUDGED = 128, 512  # sequences of a validation, and of each distance in the end
CHECK, JUDGE = 1, 2  # seeds of these, beside those of training
HEADS, LAYERS = 4, 2
REACH = 16  # places back that have a bias of their own; all farther ones share the last
TIMES = (0, 0.5, 1, 2, 4, 8)  # distances that are judged, in terms of the farthest in training


@dataclass(frozen=True)
class Setting:
    """How it is played.

    Args:
        words: T, said and asked for. `kinds`: O, how many words there are, and how many people.
        chatter: kinds of what is said in between.
        farthest: places of chatter in training, at most.
        epochs: of 50 batches each.
    """

    words: int = 16
    kinds: int = 64
    chatter: int = 32
    farthest: int = 32
    width: int = 64
    batch: int = 64
    epochs: int = 40
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.words <= self.kinds:
            raise ValueError(f"words all differ: at least 1 and at most {self.kinds}; got {self.words}")
        if self.farthest < 1:
            raise ValueError(f"farthest must be at least 1; got {self.farthest}")


@dataclass(frozen=True)
class Batch:
    """At each place who speaks and what is said; the words that are asked for at the last places."""

    who_BN: Int[Tensor, "B N"]
    what_BN: Int[Tensor, "B N"]
    target_BT: Int[Tensor, "B T"]


def draw(game: Game, setting: Setting, distance: int, count: int, draws: torch.Generator) -> Batch:
    """Sequences with so many places of chatter. After all words there is a word that asks; after all people, nobody."""
    words, kinds = setting.words, setting.kinds
    asks, nobody = kinds + setting.chatter, kinds
    between_BD = kinds + torch.randint(0, setting.chatter, (count, distance), generator=draws)
    if game == "message":
        said_BT = torch.rand(count, kinds, generator=draws).argsort(-1)[:, :words]
        asked_B1 = torch.full((count, 1), asks)
        what_BN = torch.cat([said_BT, between_BD, asked_B1, said_BT[:, :-1]], 1)
        return Batch(torch.full_like(what_BN, nobody), what_BN, said_BT)
    said_BT = torch.randint(0, kinds, (count, words), generator=draws)
    people_BT = torch.rand(count, kinds, generator=draws).argsort(-1)[:, :words]
    order_BT = torch.rand(count, words, generator=draws).argsort(-1)
    quiet_BD = torch.full((count, distance), nobody)
    who_BN = torch.cat([people_BT, quiet_BD, people_BT.gather(1, order_BT)], 1)
    what_BN = torch.cat([said_BT, between_BD, torch.full((count, words), asks)], 1)
    return Batch(who_BN, what_BN, said_BT.gather(1, order_BT))


class _Linear(nn.Module):
    """Self-attention whose keys and values are summed into one matrix for each head (Katharopoulos et al. 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x_BNM: Tensor, **_: Any) -> Tensor:
        q, k, v = (split_heads(part(x_BNM), HEADS) for part in (self.query, self.key, self.value))
        out: Tensor = self.output(merge_heads(linear_attention(q, k, v)[0]))
        return out


class _Recurrent(nn.Module):
    """A recurrence with about as many parameters as it is told, and a state as wide as that allows."""

    def __init__(self, kind: type[nn.GRU | nn.LSTM], width: int, parameters: int) -> None:
        super().__init__()
        gates = 3 if kind is nn.GRU else 4
        self.width = max(h for h in range(1, parameters) if gates * h * (width + h + 2) <= parameters)
        self.states: nn.RNNBase = kind(width, self.width, batch_first=True)
        if kind is nn.LSTM:  # it begins by remembering
            forget: Any = self.states.bias_ih_l0
            forget.data[self.width : 2 * self.width] = 2.0

    def forward(self, x_BNM: Tensor) -> Tensor:
        out: Tensor = self.states(x_BNM)[0]
        return out


def _decoder(width: int, attention: Callable[[], nn.Module] | None) -> Decoder:
    return Decoder(LAYERS, width, HEADS, 3 * width // 2, cross=False, attention=attention)


def _near(width: int) -> nn.Module:
    places = RelativeBuckets(HEADS, REACH, max_distance=REACH, bidirectional=False)
    return MultiHeadAttention(width, HEADS, positions=places)


PLAYERS = ("attention", "attention, sinusoidal", "linear attention", "GRU", "LSTM")


class Player(nn.Module):
    """A model of some kind that is told who says what, and says what is asked for. All kinds are about as large."""

    def __init__(self, kind: str, setting: Setting) -> None:
        super().__init__()
        if kind not in PLAYERS:
            raise ValueError(f"unknown model {kind!r}; expected some of {', '.join(map(repr, PLAYERS))}")
        self.kind, width = kind, setting.width
        self.who = nn.Embedding(setting.kinds + 1, width)
        self.what = nn.Embedding(setting.kinds + setting.chatter + 1, width)
        if kind in ("GRU", "LSTM"):
            size = sum(p.numel() for p in _decoder(width, None).parameters())
            self.body: nn.Module = _Recurrent(nn.GRU if kind == "GRU" else nn.LSTM, width, size)
        else:
            made = {"attention": lambda: _near(width), "linear attention": lambda: _Linear(width)}
            self.body = _decoder(width, made.get(kind))
        self.output = nn.Linear(getattr(self.body, "width", width), setting.kinds)

    def forward(self, batch: Batch) -> Float[Tensor, "B T O"]:
        """Logits of the words that are asked for."""
        x_BNM = self.who(batch.who_BN) + self.what(batch.what_BN)
        if self.kind in ("attention, sinusoidal", "linear attention"):
            x_BNM = x_BNM + sinusoidal(x_BNM.shape[1], x_BNM.shape[2], device=x_BNM.device)
        logits_BTO: Tensor = self.output(self.body(x_BNM)[:, -batch.target_BT.shape[1] :])
        return logits_BTO

    @property
    def size(self) -> int:
        """Parameters between the embeddings and the output."""
        return sum(p.numel() for p in self.body.parameters())


@torch.no_grad()
def _accuracy(model: nn.Module, batch: Batch) -> float:
    return float((model(batch).argmax(-1) == batch.target_BT).double().mean())


class Playing:
    """The task: distances up to the farthest, each batch another one. For one process: it takes a minute or two."""

    metric = "accuracy"

    def __init__(self, game: Game, setting: Setting) -> None:
        self.game, self.setting = game, setting
        draws = small.stream(setting.seed, CHECK)
        near = sorted({round(times * setting.farthest) for times in TIMES if times <= 1})
        self.checks = [draw(game, setting, distance, CHECKED, draws) for distance in near]

    def identity(self) -> dict[str, Any]:
        return {"game": self.game, **asdict(self.setting)}

    def batches(self, epoch: int, rank: int, world: int) -> Sequence[Batch]:
        setting, draws = self.setting, small.stream(self.setting.seed, JUDGE + 1 + epoch)
        far = torch.randint(0, setting.farthest + 1, (STEPS,), generator=draws).tolist()
        return [draw(self.game, setting, distance, setting.batch, draws) for distance in far]

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        total = F.cross_entropy(model(batch).flatten(0, 1), batch.target_BT.flatten(), reduction="sum")
        return Losses(total, {"loss": total.detach()}, batch.target_BT.numel())

    def validate(self, model: nn.Module) -> dict[str, float]:
        found = [_accuracy(model, batch) for batch in self.checks]
        return {"accuracy": round(100 * sum(found) / len(found), 2)}

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Path) -> None:
        pass


@dataclass(frozen=True)
class Played:
    """One model in one game: the share of words that it repeats, by distance. `guess`: of one who knows which words
    were said, and not by whom or in which order."""

    game: Game
    name: str
    parameters: int
    farthest: int
    accuracy: dict[int, float]
    guess: float


def trained(kind: str, game: Game, setting: Setting, folder: Path, *, quiet: bool = False) -> Player:
    """The model in `folder`, trained there unless it is already; a run that was cut off goes on.

    Raises:
        ValueError: the folder holds a run with other settings.
        Stopped: Ctrl-C, after a checkpoint.
    """
    torch.manual_seed(setting.seed)
    model, task = Player(kind, setting), Playing(game, setting)
    options = Options(
        epochs=setting.epochs, peak=5e-3, warmup=2 * STEPS, patience=0, average=1,
        precision="float32", log_every=STEPS, seed=setting.seed,
    )  # fmt: skip
    small.trained(model, task, options, folder, {"model": kind, **task.identity()}, quiet=quiet)
    return model


def judge(model: Player, game: Game, setting: Setting) -> Played:
    """How much it repeats, at distances up to eight times the farthest in training."""
    found = {}
    for distance in sorted({round(times * setting.farthest) for times in TIMES}):
        draws = small.stream(setting.seed, JUDGE)
        batches = [draw(game, setting, distance, JUDGED // 4, draws) for _ in range(4)]
        found[distance] = round(sum(_accuracy(model, batch) for batch in batches) / len(batches), 4)
    return Played(game, model.kind, model.size, setting.farthest, found, round(1 / setting.words, 4))
