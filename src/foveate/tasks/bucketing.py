"""Batches of sentences of about one length, so that little of them is padding.

What a pass over the data looks like follows from the seed, the epoch and the data alone: a run that goes on after
it was killed sees the batches it would have seen, and so does each of several processes.

Axes: B sentences, S source tokens (with `</s>`), T target tokens (with `<s>` or `</s>`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Batch", "Bitext", "Epoch", "SourceBatch", "batches", "buckets", "cut", "in_length_order", "padding_share"]

JITTER = 1.0  # 0 would pad 1 to 2 % less, and keep twice as many pairs together from epoch to epoch
PAD, BEGIN, END = 0, 1, 2  # as in `subwords`, which this file does not need


class _Lists:
    """Lists of numbers in one array, with the places where each begins: 4 bytes a number and 8 a list."""

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        self.lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self.flat = np.fromiter(chain.from_iterable(lists), np.int32, int(self.starts[-1]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.flat[self.starts[index] : self.starts[index + 1]]

    def padded(self, rows: NDArray[np.int64], *, first: int | None = None, last: int | None = None) -> Tensor:
        """These lists as one int64 tensor, `first` before and `last` behind each, padded on the right with 0."""
        before = int(first is not None)
        lengths = self.lengths[rows] + before
        width = int(lengths.max(initial=0)) + int(last is not None)
        out = np.full((len(rows), max(1, width)), PAD, np.int64)
        if first is not None:
            out[:, 0] = first
        for number, row in enumerate(rows):
            out[number, before : lengths[number]] = self[row]
        if last is not None:
            out[np.arange(len(rows)), lengths] = last
        return torch.from_numpy(out)


class Bitext:
    """Pairs of token lists, without special tokens, kept compactly: `sources[i]` goes with `targets[i]`.

    Raises:
        ValueError: there are not as many targets as sources.
    """

    def __init__(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> None:
        if len(sources) != len(targets):
            raise ValueError(f"each source needs one target; got {len(sources):,} sources and {len(targets):,} targets")
        self.sources, self.targets = _Lists(sources), _Lists(targets)

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class Batch:
    """Padded with 0; all int64. Where a process gets a share of a batch, only `tokens` is of the whole batch."""

    source_BS: Tensor  # x1 .. xn </s>
    source_lengths_B: Tensor  # </s> included
    target_in_BT: Tensor  # <s> y1 .. ym
    target_out_BT: Tensor  # y1 .. ym </s>
    target_lengths_B: Tensor  # m + 1
    index_B: Tensor  # which pairs these are
    tokens: int  # target tokens to predict in the whole batch, over all processes, padding not counted


@dataclass(frozen=True)
class SourceBatch:
    """Sources only, as in `Batch`; `index_B` says where they stood."""

    source_BS: Tensor
    source_lengths_B: Tensor
    index_B: Tensor


@dataclass(frozen=True, eq=False)
class Epoch(Sequence[Batch]):
    """The batches of one pass over a bitext, made when they are asked for; `epoch[k]` makes no other than batch k."""

    bitext: Bitext
    rows: list[NDArray[np.int64]]
    rank: int
    world: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # no slices
        whole = self.rows[index]
        share, sources, targets = whole[self.rank :: self.world], self.bitext.sources, self.bitext.targets
        return Batch(
            source_BS=sources.padded(share, last=END),
            source_lengths_B=torch.from_numpy(sources.lengths[share] + 1),
            target_in_BT=targets.padded(share, first=BEGIN),
            target_out_BT=targets.padded(share, last=END),
            target_lengths_B=torch.from_numpy(targets.lengths[share] + 1),
            index_B=torch.from_numpy(share.copy()),
            tokens=int(targets.lengths[whole].sum()) + len(whole),
        )


def batches(
    bitext: Bitext, *, tokens: int = 4096, seed: int = 0, epoch: int = 0, rank: int = 0, world: int = 1
) -> Epoch:
    """One pass over all pairs, each in exactly one batch, in an order that follows from `seed` and `epoch` alone.

    Pairs are sorted by the length of their longer side, then by how much longer it is, plus up to `JITTER` at random,
    so that batches have other members in each epoch; cut where a batch would exceed `tokens`; and the batches shuffled.

    Args:
        bitext: the pairs.
        tokens: the most cells of a batch, padding included, on its wider side: rows times the longest source (with
            `</s>`) or target (with `<s>`). A pair that is longer than this makes a batch of its own.
        seed: any whole number from 0.
        epoch: the number of the pass, from 0.
        rank: with several processes, which one this is. Each gets the rows `rank::world` of every batch, so that
            together they have the batch; where it has fewer rows than there are processes, some get none.
        world: the number of processes.

    Raises:
        ValueError: `tokens`, `seed`, `epoch` or `rank` is out of range.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must be from 0 to world - 1 = {world - 1}; got {rank}")
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must not be negative; got {seed} and {epoch}")
    chance = np.random.default_rng([seed, epoch])
    sources, targets = bitext.sources.lengths + 1, bitext.targets.lengths + 1
    longer = np.maximum(sources, targets)
    apart = sources - targets + chance.uniform(-JITTER, JITTER, len(bitext))
    order = np.lexsort((np.where(longer % 2, -apart, apart), longer))  # there and back: alike across a step too
    rows = cut(order, longer, tokens)
    return Epoch(bitext, [rows[k] for k in chance.permutation(len(rows))], rank, world)


def buckets(lengths: Sequence[int], *, cells: int, seed: int = 0, epoch: int = 0) -> list[NDArray[np.int64]]:
    """Which elements make each batch of one pass, every one in exactly one, of about one length; as `batches` does it.

    Raises:
        ValueError: `cells` is out of range.
    """
    chance = np.random.default_rng([seed, epoch])
    given = np.asarray(lengths, np.int64)
    rows = cut(np.argsort(given + chance.uniform(-JITTER, JITTER, len(given)), kind="stable"), given + 1, cells)
    return [rows[k] for k in chance.permutation(len(rows))]


def in_length_order(sources: Sequence[Sequence[int]], tokens: int = 4096) -> Iterator[SourceBatch]:
    """Sources only, shortest first, in batches of at most `tokens` cells; a longer one makes a batch of its own.

    Raises:
        ValueError: `tokens` is out of range.
    """
    lists = _Lists(sources)
    for rows in cut(np.argsort(lists.lengths, kind="stable"), lists.lengths + 1, tokens):
        lengths_B = torch.from_numpy(lists.lengths[rows] + 1)
        yield SourceBatch(lists.padded(rows, last=END), lengths_B, torch.from_numpy(rows.copy()))


def padding_share(batches: Iterable[Batch]) -> float:
    """Which part of all cells, of sources and targets together, is padding: 0 is none; without batches 0."""
    cells = real = 0
    for batch in batches:
        cells += batch.source_BS.numel() + batch.target_in_BT.numel()
        real += int(batch.source_lengths_B.sum() + batch.target_lengths_B.sum())
    return 1 - real / cells if cells else 0.0


def cut(order: NDArray[np.int64], lengths: NDArray[np.int64], tokens: int) -> list[NDArray[np.int64]]:
    """Cut an order, shortest first, into stretches of at most `tokens` cells, or of one element.

    Raises:
        ValueError: `tokens` is out of range.
    """
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1; got {tokens}")
    cuts, start = [], 0
    for end, length in enumerate(lengths[order].tolist()):
        if end > start and (end + 1 - start) * length > tokens:
            cuts.append(end)
            start = end
    return np.split(order, cuts) if len(order) else []
