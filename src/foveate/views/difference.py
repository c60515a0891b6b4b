"""The same place in two recordings: which call, which tokens, and per head how much of the attention differs.

Tokens are paired by position where both texts are the same, else by a diff of their tokens (difflib): what the diff
leaves over has no counterpart, and its weight counts as different.

Axes: H heads, R rows that both have, C columns that both have.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.views.axes import Axis
from foveate.views.document import LEVELS, Call, Level
from foveate.views.source import Source

__all__ = ["Blocks", "Difference", "counterpart", "difference", "paired"]

Blocks = tuple[tuple[int, int, int], ...]  # runs that are the same in both: first place in one, in the other, length
BUDGET = 1 << 26  # weights of each recording that are compared, of all heads; of more only some rows, evenly
CHUNK = 1 << 22  # of them at once
LONG = 4096  # tokens that differ, beyond which no diff is made


@dataclass(frozen=True)
class Difference:
    """One call of a document beside its counterpart in another one.

    `call`, `heads`: of the other (None where it has none). `rows`, `columns`: the units that both have. For every head:
    `moved`, the share of a row's attention that lies elsewhere, half the sum of absolute differences, 0 to 1; and
    `divergence`, of Jensen and Shannon, in bits, 0 to 1; both are means over `compared` of `of` rows.
    """

    call: int | None
    heads: list[int | None]
    rows: Blocks
    columns: Blocks
    moved: list[float | None]
    divergence: list[float | None]
    compared: int
    of: int
    note: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def counterpart(calls: Sequence[Call], others: Sequence[Call], call: int) -> tuple[int | None, str]:
    """The call of the same module and step among others, else the one at the same place; and what does not match."""
    mine = calls[call]
    for other in others:
        if (other.name, other.step) == (mine.name, mine.step):
            return other.index, ""
    place = [one.index for one in calls if one.kind == mine.kind].index(call)
    same = [one for one in others if one.kind == mine.kind]
    if place >= len(same):
        return None, f"the other recording has no {mine.name}, and nothing at its place"
    return same[place].index, f"the other recording has no {mine.name}; {same[place].name} is at the same place"


def paired(a: Sequence[str], b: Sequence[str]) -> tuple[Blocks, bool]:
    """The runs that two lists of tokens share, and whether they were looked for as far as they could be found."""
    if list(a) == list(b):
        return (((0, 0, len(a)),) if a else ()), True
    start, end = 0, 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    inner = a[start : len(a) - end], b[start : len(b) - end]
    short = max(map(len, inner)) <= LONG
    found = difflib.SequenceMatcher(None, *inner, autojunk=False).get_matching_blocks() if short else []
    blocks = [(0, 0, start), *((m.a + start, m.b + start, m.size) for m in found), (len(a) - end, len(b) - end, end)]
    return tuple(block for block in blocks if block[2]), short


def difference(a: Source, b: Source, call: int, sequence: int, level: Level) -> Difference:
    """`a`'s call beside its counterpart in `b`.

    Raises:
        ValueError: there is no such call, sequence or level.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(map(repr, LEVELS))}")
    axes_a = a.axes(call, sequence)
    documents = a.document(), b.document()
    mine = documents[0].calls[call]
    other, note = counterpart(documents[0].calls, documents[1].calls, call)
    none: list[Any] = [None] * mine.heads
    if other is not None and sequence >= len(documents[1].sequences):
        other, note = None, f"the other recording has {len(documents[1].sequences)} texts, and no number {sequence + 1}"
    if other is None:
        return Difference(None, none, (), (), none, none, 0, axes_a[0].length, note)
    axes_b = b.axes(other, sequence)
    there = documents[1].calls[other]
    numbers = {there.number_of(head): head for head in range(there.heads)}
    heads = [numbers.get(mine.number_of(head)) for head in range(mine.heads)]
    if None in heads:
        note = "; ".join(filter(None, [note, f"the other has heads {', '.join(map(str, numbers))}"]))
    blocks, whole = _pairs(axes_a, axes_b, level)
    tokens = blocks if level == "token" else _pairs(axes_a, axes_b, "token")[0]
    if not whole:
        note = "; ".join(filter(None, [note, "the texts differ in more than can be compared token by token"]))
    moved, divergence, compared = _of_heads(a, b, (call, other, sequence), heads, (axes_a, axes_b), tokens)
    shares, bits = ([_of(t, h, there) for h, there in enumerate(heads)] for t in (moved, divergence))
    return Difference(other, heads, *blocks, shares, bits, compared, axes_a[0].length, note)


def _pairs(a: tuple[Axis, Axis], b: tuple[Axis, Axis], level: Level) -> tuple[tuple[Blocks, Blocks], bool]:
    rows, columns = (paired(_units(mine, level), _units(other, level)) for mine, other in zip(a, b, strict=True))
    return (rows[0], columns[0]), rows[1] and columns[1]


def _units(axis: Axis, level: Level) -> list[str]:
    text = axis.tokens.text[axis.offset : axis.offset + axis.length]
    if level == "token" or not axis.length:
        return list(text)
    return ["".join(text[i:j]) for i, j in zip(axis.starts, axis.starts[1:], strict=False)]


def _of_heads(
    a: Source,
    b: Source,
    where: tuple[int, int, int],
    heads: Sequence[int | None],
    axes: tuple[tuple[Axis, Axis], tuple[Axis, Axis]],
    blocks: tuple[Blocks, Blocks],
) -> tuple[Tensor, Tensor, int]:
    """(H,) shares and divergences, means over the rows that were compared, and how many these are."""
    call, other, sequence = where
    rows, columns = blocks
    most = max(len(heads), b.document().calls[other].heads)
    at_a, at_b = (_indices(columns, side) for side in (0, 1))
    order = torch.tensor([there or 0 for there in heads])
    keys = max(axes[0][1].length, axes[1][1].length, 1)
    count = sum(size for *_, size in rows)
    stride = max(1, -(-count * keys * len(heads) // BUDGET))
    step = max(1, CHUNK // (keys * most))
    moved = torch.zeros(len(heads), dtype=torch.float64)
    diverged, compared = moved.clone(), 0
    for first, second, size in rows:
        for begin in range(0, size, step * stride):
            end = min(size, begin + step * stride)
            parts = []
            for source, index, axis, start in ((a, call, axes[0], first), (b, other, axes[1], second)):
                here = slice(axis[0].first + start + begin, axis[0].first + start + end, stride)
                parts.append(source.weights(index, sequence, here, axis[1].at(0, axis[1].length)).double())
            of_a, of_b = parts[0], parts[1][order]
            both_a, both_b = of_a[..., at_a], of_b[..., at_b]
            alone = of_a.sum(-1) - both_a.sum(-1) + of_b.sum(-1) - both_b.sum(-1)
            moved += ((both_a - both_b).abs().sum(-1) + alone).sum(-1) / 2
            mean = (both_a + both_b) / 2
            entropies = torch.special.entr(mean) - (torch.special.entr(both_a) + torch.special.entr(both_b)) / 2
            diverged += (entropies.sum(-1) / torch.log(torch.tensor(2.0, dtype=torch.float64)) + alone / 2).sum(-1)
            compared += of_a.shape[1]
    return moved / max(1, compared), (diverged / max(1, compared)).clamp(min=0), compared


def _indices(blocks: Blocks, side: int) -> Tensor:
    spans = [torch.arange(block[side], block[side] + block[2]) for block in blocks]
    return torch.cat(spans) if spans else torch.zeros(0, dtype=torch.int64)


def _of(values_H: Tensor, head: int, there: int | None) -> float | None:
    """The number of a head; None where the other has no such head, or where it is NaN."""
    value = float(values_H[head])
    return float(f"{value:.5g}") if there is not None and math.isfinite(value) else None
