"""One call whose weights are changed: which links are gone, which heads read by other numbers, and what comes out.

Only rows that a change concerns are computed again; all others stay as the model computed them.

Axes: B batch, H heads, G key/value heads, Q queries, K keys, V value width; R some rows, h some heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..map import AttentionMap
from ..masks.links import Links
from ..normalizers.given import AsGiven
from ..operator import Problem
from ..scores.table import Table
from ..watch.events import Event

__all__ = ["Reading"]

NUMBERS = 1 << 22  # weights held at a time


class Reading:
    """A call of one module on its way through the interventions."""

    def __init__(self, event: Event, name: str, module: nn.Module, batch: int) -> None:
        self.event, self.name, self.module = event, name, module
        self.heads, self.queries = event.query.shape[1:3]
        self.batch, self.keys = batch, event.key.shape[2]
        self.given: dict[int, Tensor] = {}  # head -> weights (B, Q, K)
        self.touched = torch.zeros(batch, self.heads, self.queries, dtype=torch.bool, device=event.query.device)

    @property
    def problem(self) -> Problem:
        """The call as it is by now, but for the heads in `given`."""
        return self.event.map().problem

    def seen(self, heads: slice, rows: Any) -> Tensor:
        """Which keys these rows may read, (B, h, R, K)."""
        shape = (
            self.batch,
            heads.stop - heads.start,
            len(range(self.queries)[rows]) if isinstance(rows, slice) else len(rows),
            self.keys,
        )
        ok = self.problem.allowed(slice(0, self.batch), heads, rows, slice(0, self.keys))
        return (torch.ones(1, dtype=torch.bool, device=self.touched.device) if ok is None else ok).expand(shape)

    def unlink(self, pairs: Tensor, heads: Sequence[int], sequences: Sequence[int] | None) -> Tensor:
        """Take links (P, 2), rows and columns of this call, away; which of them anyone could read, (P,)."""
        device = self.touched.device
        rows, columns = (pairs[:, i].to(device) for i in (0, 1))
        chosen = torch.zeros(self.heads, dtype=torch.bool, device=device)
        chosen[list(heads)] = True
        of = torch.ones(self.batch, dtype=torch.bool, device=device)
        if sequences is not None:
            of[:] = False
            of[[b for b in sequences if b < self.batch]] = True
        once, at = torch.unique(rows, return_inverse=True)
        could = torch.zeros(len(pairs), dtype=torch.bool, device=device)
        for run in _runs(list(heads)):
            could |= self.seen(run, once)[of][:, :, at, columns].flatten(0, 1).any(0)
        which = None if sequences is None else torch.tensor([list(sequences)])
        gone = ~Links(pairs[None].cpu(), chosen.cpu(), which)
        mask = gone if self.event.mask is None else self.event.mask & gone
        self.event = replace(self.event, mask=mask)
        self.touched |= (
            of[:, None, None] & chosen[:, None] & torch.isin(torch.arange(self.queries, device=device), once)
        )
        for head in set(heads) & set(self.given):
            hidden = torch.zeros(self.queries, self.keys, dtype=torch.bool, device=device)
            hidden[rows, columns] = True
            self.given[head] = _shared_out(self.given[head], ~(hidden & of[:, None, None]))
        return could.cpu()

    def substitute(self, head: int, table: Tensor | None) -> None:
        """One head reads by these numbers, (B|1, Q, K), or, without any, by all keys it may read alike."""
        seen = self.seen(slice(head, head + 1), slice(0, self.queries))[:, 0]
        if table is None:
            wide = seen.to(torch.promote_types(self.event.query.dtype, torch.float32))
            self.given[head] = wide / wide.sum(-1, keepdim=True).clamp_min(1)
        else:
            self.given[head] = _shared_out(table.to(self.touched.device).expand(seen.shape), seen)
        self.touched[:, head] = True

    def output(self, out_BHQV: Tensor) -> Tensor:
        """The output with the rows that are touched read again."""
        touched = self.touched
        if not bool(touched.any()):
            return out_BHQV
        v_BGKV, new = self.event.value, out_BHQV.clone()
        assert v_BGKV is not None
        shared = self.heads // v_BGKV.shape[1]
        for heads in _runs(touched.any(-1).any(0).nonzero()[:, 0].tolist()):
            of = [head // shared for head in range(heads.start, heads.stop)]
            for rows in touched[:, heads].flatten(0, 1).any(0).nonzero()[:, 0].split(self._step(heads)):
                w = self.weights(heads, rows)
                v = v_BGKV[:, of].to(w.dtype)
                w = torch.nn.functional.dropout(w, self.event.dropout) if self.event.dropout else w
                was = out_BHQV[:, heads, rows]
                new[:, heads, rows] = torch.where(touched[:, heads, rows, None], (w @ v).to(was.dtype), was)
        return new

    def _step(self, heads: slice) -> int:
        return max(1, NUMBERS // max(1, self.batch * (heads.stop - heads.start) * self.keys))

    def weights(self, heads: slice, rows: Tensor) -> Tensor:
        """(B, h, R, K) as they are by now."""
        pieces = []
        for head in range(heads.start, heads.stop):
            if head in self.given:
                pieces.append(self.given[head][:, None, rows])
        if len(pieces) == heads.stop - heads.start:
            return torch.cat(pieces, dim=1)
        p, at = self.problem, (slice(0, self.batch), heads, rows, slice(0, self.keys))
        w = p.whole(*at, p.scores(*at))[1]
        if pieces:
            mine = [head - heads.start for head in range(heads.start, heads.stop) if head in self.given]
            w = w.index_copy(1, torch.tensor(mine, device=w.device), torch.cat(pieces, dim=1).to(w.dtype))
        return w

    def changed(self, out_BHQV: Tensor) -> Event:
        """The call as it is to be recorded. Where heads read by given numbers, all of its weights are numbers."""
        if not self.given:
            return replace(self.event, output=out_BHQV)
        rows = torch.arange(self.queries, device=self.touched.device)
        whole = slice(0, self.heads)
        with torch.no_grad():
            parts = [self.weights(whole, some) for some in rows.split(self._step(whole))]
        table = Table(torch.cat(parts, dim=2).to(self.event.query.dtype))
        bare = replace(self.event, mask=None, bias=None, sinks=None, softcap=None)
        return replace(bare, score=table, normalizer=AsGiven(), output=out_BHQV)

    def map(self, out_BHQV: Tensor) -> AttentionMap:
        """The weights as the caller is shown them."""
        return self.changed(out_BHQV).map()


def _shared_out(table: Tensor, seen: Tensor) -> Tensor:
    """Weights of the keys that are seen, grown so that each row adds up to what it did."""
    kept = table * seen
    total, left = table.sum(-1, keepdim=True), kept.sum(-1, keepdim=True)
    return torch.where((left == total) | (left == 0), kept, kept * (total / left.clamp_min(1e-38)))


def _runs(heads: list[int]) -> Iterator[slice]:
    """Ascending numbers as slices."""
    heads = sorted(set(heads))
    start = 0
    for i in range(1, len(heads) + 1):
        if i == len(heads) or heads[i] != heads[i - 1] + 1:
            yield slice(heads[start], heads[i - 1] + 1)
            start = i
