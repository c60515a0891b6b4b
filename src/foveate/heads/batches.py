"""Texts as numbers, in batches of about the same length.

Axes: B texts of a batch, n places (padded on the right).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["Batch", "Encoded", "Side", "batched"]

TOKENS = 2048  # of a batch: as many as keep the model's matrix products busy


@dataclass(frozen=True)
class Encoded:
    """A text of the corpus: its number there, its ids, and those that a decoder reads, if the model has two sides."""

    number: int
    ids: tuple[int, ...]
    target: tuple[int, ...] | None = None

    @property
    def longest(self) -> int:
        return max(len(self.ids), len(self.target or ()))


@dataclass(frozen=True, eq=False)
class Side:
    """The texts that queries or keys of a batch come from. Places beyond a text's length are padding."""

    ids: Int[Tensor, "B n"]
    lengths: Int[Tensor, " B"]
    special: Bool[Tensor, "B n"]

    @property
    def real(self) -> Bool[Tensor, "B n"]:
        return torch.arange(self.ids.shape[1]) < self.lengths[:, None]

    def sized(self, n: int) -> Side:
        """The same with n places."""
        more = max(0, n - self.ids.shape[1])
        ids = torch.nn.functional.pad(self.ids, (0, more), value=-1)[:, :n]
        return Side(ids, self.lengths.clamp(max=n), torch.nn.functional.pad(self.special, (0, more))[:, :n])

    def __getitem__(self, texts: slice) -> Side:
        return Side(self.ids[texts], self.lengths[texts], self.special[texts])


@dataclass(frozen=True, eq=False)
class Batch:
    """Some texts, in the order of the corpus. `target` is what a decoder of its own reads."""

    numbers: Int[Tensor, " B"]
    source: Side
    target: Side | None

    @property
    def padded(self) -> bool:
        sides = [side for side in (self.source, self.target) if side is not None]
        return any(bool((side.lengths < side.ids.shape[1]).any()) for side in sides)


def batched(
    texts: Sequence[Encoded], special: frozenset[int], pad: int, *, whole: int, mixed: bool = True
) -> list[Batch]:
    """All texts in batches, the shortest first.

    Args:
        special: ids that are no part of the text.
        pad: fills up shorter texts; where they end, `lengths` says.
        whole: texts of more tokens are alone in their batch.
        mixed: whether texts of different lengths may share a batch.
    """
    batches: list[Batch] = []
    held: list[Encoded] = []
    for text in sorted(texts, key=lambda one: (one.longest, len(one.ids), one.number)):
        other = bool(held) and not mixed and _sizes(held[0]) != _sizes(text)
        full = (len(held) + 1) * text.longest > TOKENS or text.longest > whole
        if held and (other or full):
            batches.append(_batch(held, special, pad))
            held = []
        held.append(text)
    return [*batches, _batch(held, special, pad)] if held else batches


def _sizes(text: Encoded) -> tuple[int, int]:
    return len(text.ids), len(text.target or ())


def _batch(texts: list[Encoded], special: frozenset[int], pad: int) -> Batch:
    texts = sorted(texts, key=lambda one: one.number)
    targets = [text.target for text in texts if text.target is not None]
    return Batch(
        torch.tensor([text.number for text in texts]),
        _side([text.ids for text in texts], special, pad),
        _side(targets, special, pad) if targets else None,
    )


def _side(texts: Sequence[tuple[int, ...]], special: frozenset[int], pad: int) -> Side:
    lengths = torch.tensor([len(ids) for ids in texts])
    n = int(lengths.max())
    ids = torch.tensor([[*one, *[pad] * (n - len(one))] for one in texts])
    marked = torch.isin(ids, torch.tensor(sorted(special))) if special else torch.zeros_like(ids, dtype=torch.bool)
    return Side(ids, lengths, marked & (torch.arange(n) < lengths[:, None]))
