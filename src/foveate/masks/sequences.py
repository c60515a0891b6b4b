"""Masks for batches of sequences of unequal length: padding, and several documents packed into one row."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout, as_tensor, whole
from .base import Coverage, Mask, MaskMod, Span, check_whole

__all__ = ["Documents", "Packed", "Padding", "documents", "packed", "padding"]


@describable
@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """Keys inside each sequence's length: the first ones, or (`side="left"`) the last ones."""

    lengths: Tensor
    side: str = "right"

    def __post_init__(self) -> None:
        check_whole(self.lengths, "padding lengths")
        if self.side not in ("right", "left"):
            raise ValueError(f"side must be 'right' or 'left'; got {self.side!r}")

    @cached_property
    def _range(self) -> Span:
        n = self.lengths
        return (int(n.min()), int(n.max())) if n.numel() else (0, 0)

    def predicate(self, g: Geometry) -> MaskMod:
        lengths, keys, left = self.lengths, g.keys, self.side == "left"

        def padding(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            length = lengths.to(k.device)[b]
            return k >= keys - length if left else k < length

        return padding

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        shortest, longest = self._range
        low, high = columns if self.side == "right" else (g.keys - columns[1], g.keys - columns[0])
        if high <= shortest:
            return Coverage.ALL
        return Coverage.NONE if low >= longest else Coverage.SOME

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        if self.lengths.numel() != g.batch:
            raise ValueError(f"padding needs one length per sequence, {g.batch}; got {self.lengths.numel()}")
        if self._range[0] < 0 or self._range[1] > g.keys:
            raise ValueError(f"padding lengths must lie between 0 and the number of keys, {g.keys}")
        return self

    def __str__(self) -> str:
        return "padding" if self.side == "right" else "padding(side='left')"


@describable
@dataclass(frozen=True, eq=False)
class Documents(Mask):
    """A query sees the keys of its own document; `ids` (K,) or (B, K) number the documents of packed sequences."""

    ids: Tensor

    def __post_init__(self) -> None:
        check_whole(self.ids, "document ids")

    def predicate(self, g: Geometry) -> MaskMod:
        ids, offset = self.ids, g.offset

        def documents(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            place = q + offset
            inside, place, table = place >= 0, place.clamp(min=0), ids.to(k.device)
            if table.ndim == 1:
                return inside & (table[place] == table[k])
            return inside & (table[b, place] == table[b, k])

        return documents

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        if tuple(self.ids.shape) == (g.keys,):
            return self
        if tuple(self.ids.shape) not in ((g.batch, g.keys), (*layout.lead, g.keys)):
            raise ValueError(
                f"document ids must have shape ({g.keys},) or ({g.batch}, {g.keys}); got {tuple(self.ids.shape)}"
            )
        return Documents(self.ids.reshape(g.batch, g.keys))

    @cached_property
    def _at_hand(self) -> Tensor:
        return self.ids.detach().cpu().reshape(-1, self.ids.shape[-1])

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        first, last = rows[0] + g.offset, rows[1] + g.offset
        if last <= 0 or self._at_hand.numel() == 0:
            return Coverage.NONE
        low, high = torch.aminmax(self._at_hand[:, max(first, 0) : last], dim=-1)
        lowest, highest = torch.aminmax(self._at_hand[:, slice(*columns)], dim=-1)
        if bool(((high < lowest) | (highest < low)).all()):
            return Coverage.NONE
        same = (low == high) & (lowest == highest) & (low == lowest)
        return Coverage.ALL if first >= 0 and bool(same.all()) else Coverage.SOME

    def __str__(self) -> str:
        return "documents"


@describable
@dataclass(frozen=True, eq=False)
class Packed(Mask):
    """Sequences end to end. Within each, keys from `left` before to `right` after the query, aligned to its end."""

    query_lengths: Tensor
    key_lengths: Tensor
    left: int | None
    right: int | None

    def __post_init__(self) -> None:
        for t, name in ((self.query_lengths, "query lengths"), (self.key_lengths, "key lengths")):
            _check_lengths(t, name)
        if self.query_lengths.shape != self.key_lengths.shape or self.query_lengths.ndim != 1:
            counts = f"{tuple(self.query_lengths.shape)} and {tuple(self.key_lengths.shape)}"
            raise ValueError(f"there must be as many query lengths as key lengths; got {counts}")
        if min(self.left or 0, self.right or 0) < 0:
            raise ValueError("window distances must be 0 or more")

    @property
    def is_causal(self) -> bool:
        return self.right == 0 and bool((self.query_lengths == self.key_lengths).all())

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        totals = int(self.query_lengths.sum()), int(self.key_lengths.sum())
        if totals != (g.queries, g.keys):
            raise ValueError(
                f"packed lengths must add up to the numbers of queries and keys, {g.queries} and {g.keys}; "
                f"got {totals[0]} and {totals[1]}"
            )
        return self

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor, Tensor]:
        """The sequence of each query and of each key, and how far a query's own key lies from it, by plain indices."""
        number = torch.arange(len(self.query_lengths), device=self.query_lengths.device)
        of_query = number.repeat_interleave(self.query_lengths)
        of_key = number.repeat_interleave(self.key_lengths)
        shift = self.key_lengths.cumsum(0) - self.query_lengths.cumsum(0)
        return of_query, of_key, shift[of_query]

    @cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        return self.query_lengths.cumsum(0).tolist(), self.key_lengths.cumsum(0).tolist()

    def predicate(self, g: Geometry) -> MaskMod:
        left, right = self.left, self.right

        def packed(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            of_query, of_key, shift = (t.to(k.device) for t in self._places)
            ok, gap = of_query[q] == of_key[k], k - (q + shift[q])
            ok = ok if right is None else ok & (gap <= right)
            return ok if left is None else ok & (gap >= -left)

        return packed

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        q_ends, k_ends = self._ends
        first = max(bisect_right(q_ends, rows[0]), bisect_right(k_ends, columns[0]))
        last = min(bisect_right(q_ends, rows[1] - 1), bisect_right(k_ends, columns[1] - 1))
        if first > last:
            return Coverage.NONE
        if last - first > 16:  # too many to ask one by one
            return Coverage.SOME
        found = {self._of(s, rows, columns) for s in range(first, last + 1)}
        alone = rows[1] <= q_ends[first] and columns[1] <= k_ends[first]
        alone = alone and rows[0] >= q_ends[first] - int(self.query_lengths[first])
        alone = alone and columns[0] >= k_ends[first] - int(self.key_lengths[first])
        return found.pop() if len(found) == 1 and (alone or found == {Coverage.NONE}) else Coverage.SOME

    def _of(self, s: int, rows: Span, columns: Span) -> Coverage:
        """What is known of the part of a block that lies in one sequence."""
        q_end, k_end = (ends[s] for ends in self._ends)
        r0, r1 = max(rows[0], q_end - int(self.query_lengths[s])), min(rows[1], q_end)
        c0, c1 = max(columns[0], k_end - int(self.key_lengths[s])), min(columns[1], k_end)
        if r0 >= r1 or c0 >= c1:
            return Coverage.NONE
        low, high = (c0 - k_end) - (r1 - 1 - q_end), (c1 - 1 - k_end) - (r0 - q_end)
        if (self.right is not None and low > self.right) or (self.left is not None and high < -self.left):
            return Coverage.NONE
        near = self.right is None or high <= self.right
        return Coverage.ALL if near and (self.left is None or low >= -self.left) else Coverage.SOME

    def __str__(self) -> str:
        if (self.left, self.right) == (None, None):
            return "packed"
        return (
            "packed(causal)" if (self.left, self.right) == (None, 0) else f"packed(window({self.left}, {self.right}))"
        )


def padding(lengths: Tensor | list[int], side: Literal["right", "left"] = "right") -> Mask:
    """Hide the padding keys. `lengths` (batch,): real keys per sequence; `side`: where the padding lies.

    Raises:
        ValueError: lengths that are no whole numbers, or an unknown side.
    """
    return Padding(_whole(lengths, "padding lengths").reshape(-1), side)


def documents(ids: Tensor | list[int] | None = None, *, lengths: Tensor | list[int] | None = None) -> Mask:
    """Sequences packed into one: a query sees only its own document. `ids` (K,) or (B, K), whole numbers; or the
    `lengths` of the documents one after the other.

    Raises:
        ValueError: neither or both, or no whole numbers.
    """
    if (ids is None) == (lengths is None):
        raise ValueError("documents takes either ids or lengths")
    if ids is not None:
        return Documents(_whole(ids, "document ids"))
    sizes = _lengths(lengths, "document lengths")
    return Documents(torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes))


def packed(
    query_lengths: Tensor | list[int],
    key_lengths: Tensor | list[int] | None = None,
    *,
    causal: bool = False,
    window: int | tuple[int, int] | None = None,
) -> Mask:
    """Sequences of unequal length laid end to end, without padding: (H, total, D), as FlashAttention's `varlen` has
    them. A query sees the keys of its own sequence only.

    `query_lengths` and `key_lengths` (default: the same) say how long each is; they differ in cross-attention, and
    where keys of the past are cached. `causal` and `window` then count within each sequence, aligned to its end, which
    composing with `masks.causal()` would not. `cu_seqlens.diff()` gives lengths from cumulative ones.

    Raises:
        ValueError: lengths, or a window, that are negative or no whole numbers.
    """
    queries = _lengths(query_lengths, "query lengths")
    keys = queries if key_lengths is None else _lengths(key_lengths, "key lengths")
    left = right = None
    if window is not None:
        sides = window if isinstance(window, tuple | list) else (window, window)
        left, right = (whole(n, "a window distance") for n in sides)
    return Packed(queries, keys, left, 0 if causal else right)


def _lengths(values: Any, name: str) -> Tensor:
    t = _whole(values, name).reshape(-1)
    _check_lengths(t, name)
    return t


def _check_lengths(t: Tensor, name: str) -> None:
    check_whole(t, name)
    if t.numel() and int(t.min()) < 0:
        raise ValueError(f"{name} must be 0 or more; got {int(t.min())}")


def _whole(values: Any, name: str) -> Tensor:
    t = as_tensor(values)
    if t.numel() == 0:
        return t.to(torch.int64)
    check_whole(t, name)
    return t.to(torch.int64)
