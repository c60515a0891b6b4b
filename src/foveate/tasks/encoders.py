"""What small models of text are built of: word vectors, an encoder of one of two kinds, and one vector for a text.

Axes: B texts, L words, M width of word vectors, H width of what an encoder gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from .. import masks
from ..nn import AttentionPooling, BidirectionalRNN, Encoder, MultiHeadAttention
from ..nn.bidirectional import Cell
from ..positions import RelativeBuckets
from .words import UNKNOWN, WordBatch, Words

__all__ = [
    "Arch",
    "MeanPooling",
    "Pooling",
    "Shape",
    "TextEncoder",
    "WordVectors",
    "check_shares",
    "chosen",
    "neighbours",
    "pooling",
]

Arch = Literal["rnn", "transformer"]
Pooling = Literal["attention", "mean"]
BUCKETS = 32  # of distances
PREFERENCE = 3.0  # for one place: 20 times as much weight


@dataclass(frozen=True)
class Shape:
    """An encoder's kind and its widths; what the other kind needs is left alone.

    Args:
        arch: "rnn", read from both ends, or "transformer".
        cell: of an "rnn".
        width: of word vectors; of a Transformer everywhere.
        hidden: of an "rnn", both directions together.
        layers: of either.
        heads, inner: of a "transformer".
        dropout: of word vectors, and inside.
        unknown: how often training takes a known word for one that it does not know.
        buckets: of affixes; 0: words that are not known are all alike.

    Raises:
        ValueError: a name that is unknown, or a number out of range.
    """

    arch: Arch = "rnn"
    cell: Cell = "lstm"
    width: int = 128
    hidden: int = 128
    layers: int = 1
    heads: int = 4
    inner: int = 256
    dropout: float = 0.3
    unknown: float = 0.1
    buckets: int = 20_000

    def __post_init__(self) -> None:
        chosen("arch", self.arch, get_args(Arch))
        chosen("cell", self.cell, get_args(Cell))
        check_shares(self, "dropout", "unknown")

    @property
    def name(self) -> str:
        """For people."""
        return "Transformer" if self.arch == "transformer" else f"Bi{self.cell.upper()}"


def check_shares(shape: Any, *names: str) -> None:
    """Raises ValueError if an attribute of these names is no share that something may be left out by."""
    for name in names:
        if not 0 <= getattr(shape, name) < 1:
            raise ValueError(f"{name} must be at least 0 and less than 1; got {getattr(shape, name)}")


def chosen(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError if `value` is none of the choices."""
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; expected {' or '.join(map(repr, choices))}")


class WordVectors(nn.Module):
    """The vector of a word's number, and the sum of those of its n affixes over sqrt(n)."""

    def __init__(self, words: Words, width: int, *, unknown: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(len(words), width, padding_idx=0)
        self.affixes = nn.EmbeddingBag(words.buckets, width, mode="sum") if words.buckets else None
        self.unknown, self.dropout = unknown, nn.Dropout(dropout)
        for table in (self.table, self.affixes):
            if table is not None:
                nn.init.normal_(table.weight, std=width**-0.5)
        with torch.no_grad():
            self.table.weight[0] = 0.0

    def forward(self, batch: WordBatch) -> Tensor:
        """(B, L, M)."""
        numbers_BL = batch.numbers_BL
        if self.training and self.unknown:
            hidden_BL = torch.rand(numbers_BL.shape, device=numbers_BL.device) < self.unknown
            numbers_BL = torch.where(hidden_BL & (numbers_BL > UNKNOWN), UNKNOWN, numbers_BL)
        x_BLM = self.table(numbers_BL)
        if self.affixes is not None:
            ends_W = torch.cat([batch.starts_W[1:], batch.starts_W.new_tensor([len(batch.affixes_N)])])
            size_W1 = (ends_W - batch.starts_W).clamp(min=1).float().rsqrt()[:, None]
            x_BLM = x_BLM + (self.affixes(batch.affixes_N, batch.starts_W) * size_W1)[batch.place_BL]
        out: Tensor = self.dropout(x_BLM)
        return out


class TextEncoder(nn.Module):
    """Vectors of words in their places -> vectors of words in their context. `width` is H."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.width = shape.width if shape.arch == "transformer" else shape.hidden
        if shape.arch == "rnn":
            self.rnn: nn.Module | None = BidirectionalRNN(
                shape.width, shape.hidden, layers=shape.layers, cell=shape.cell, dropout=shape.dropout
            )
            return
        self.rnn = None
        self.encoder = Encoder(
            shape.layers,
            shape.width,
            shape.heads,
            shape.inner,
            dropout=shape.dropout,
            attention=lambda: MultiHeadAttention(shape.width, shape.heads, positions=neighbours(shape.heads)),
        )
        for name, weight in self.encoder.named_parameters():
            if weight.ndim > 1 and "positions" not in name:
                nn.init.xavier_uniform_(weight)

    def forward(self, x_BLM: Tensor, lengths_B: Tensor) -> Tensor:
        """(B, L, M) -> (B, L, H)."""
        if self.rnn is not None:
            states: Tensor = self.rnn(x_BLM, lengths_B)[0]
            return states
        padded = bool((lengths_B < x_BLM.shape[1]).any())
        out: Tensor = self.encoder(x_BLM, mask=masks.padding(lengths_B) if padded else None)
        return out


def neighbours(heads: int, *, ahead: bool = False) -> RelativeBuckets:
    """Learned biases by distance, each head beginning with one place that it prefers: one word to the left, one to the
    right, two to the left ... From nothing, a small corpus does not teach heads to find their neighbours.

    `ahead`: for words that see none to their left; half of the heads prefer one to the right, two to the right ...
    """
    made = RelativeBuckets(heads, BUCKETS)
    half = BUCKETS // 2  # of them for keys to the right
    with torch.no_grad():
        for head in range(heads // 2 if ahead else heads):
            distance, right = (head, 1) if ahead else divmod(head, 2)
            made.weight[1 + distance % (half // 2 - 1) + right * half, head] += PREFERENCE
    return made


class MeanPooling(nn.Module):
    """The mean of a sequence: what attention that looks at nothing would give."""

    def forward(self, x_BLH: Tensor, lengths_B: Tensor) -> tuple[Tensor, None]:
        inside_BL1 = (torch.arange(x_BLH.shape[1], device=x_BLH.device) < lengths_B[:, None])[..., None]
        return (x_BLH * inside_BL1).sum(1) / lengths_B[:, None], None


def pooling(kind: Pooling, width: int) -> AttentionPooling | MeanPooling:
    """What makes one vector of a sequence: a module that returns it and the weights, if it has any."""
    return AttentionPooling(width) if kind == "attention" else MeanPooling()
