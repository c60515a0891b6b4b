"""Heads that read by other weights: all keys alike, the mean over a corpus, or those of another run.

Axes: B batch, H heads, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..map import AttentionMap
from ..watch.standing import kind_of
from .errors import ChangeError
from .intervention import Intervention
from .naming import Pair
from .places import Places
from .reading import Reading

__all__ = ["Average", "Replacing", "weights_by"]


class Average:
    """Mean weights of each head over the sequences of a corpus: `Average(recordings)`, or `add` one after another.

    The weight of position i for position j is the mean over the sequences that have both. In a call, rows are cut to
    the keys that they may read and made to add up to what they did. Matrices (H, N, N), N the longest sequence.
    """

    def __init__(self, recordings: Iterable[Mapping[str, Any]] = ()) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        for recording in recordings:
            self.add(recording)

    def add(self, recording: Mapping[str, Any]) -> None:
        """Take in a recording whose modules were called once each.

        Raises:
            ValueError: a module was called several times.
        """
        for name, weights in recording.items():
            if not isinstance(weights, AttentionMap):
                raise ValueError(f"{name} was called {len(weights)} times; average over runs that call it once")
            for w_HQK in weights.dense():
                w_HQK = w_HQK.double()
                real = (w_HQK.sum((0, 2)) > 0)[:, None] & (w_HQK.sum((0, 1)) > 0)
                self._into(self.sums, name, w_HQK)
                self._into(self.counts, name, real[None].double())

    def _into(self, held: dict[str, Tensor], name: str, new: Tensor) -> None:
        old = held.get(name, new.new_zeros(new.shape[0], 0, 0))
        sizes = [max(a, b) for a, b in zip(old.shape, new.shape, strict=True)]
        both = new.new_zeros(sizes)
        both[:, : old.shape[1], : old.shape[2]] += old
        both[:, : new.shape[1], : new.shape[2]] += new
        held[name] = both

    def __getitem__(self, name: str) -> Tensor:
        """(H, N, N)"""
        if name not in self.sums:
            raise ChangeError(f"the average knows no module {name!r}; it knows {', '.join(self.sums) or 'none'}")
        return self.sums[name] / self.counts[name].clamp_min(1)


class Replacing(Intervention):
    """Puts other weights in the place of heads' own."""

    reweighs = True

    def __init__(self, model: nn.Module, pairs: list[Pair], by: Any) -> None:
        super().__init__(model, pairs)
        self.by = by
        self.calls: dict[str, int] = {}
        self.places = Places()

    def __enter__(self) -> None:
        self.calls, self.places = {}, Places()
        super().__enter__()

    def reweigh(self, reading: Reading) -> None:
        heads = sorted(set(self.heads_of(reading.name, reading.heads).values()))
        table = None if self.by == "uniform" else self._table(reading)
        for head in heads:
            reading.substitute(head, None if table is None else table[:, head])

    def _table(self, reading: Reading) -> Tensor:
        """Weights for this call, (B|1, H, Q, K), outside the graph."""
        name, by = reading.name, self.by
        wanted = (reading.batch, reading.heads, reading.queries, reading.keys)
        if isinstance(by, Average):
            kind = kind_of(name, reading.module, reading.event)
            q, k = self.places.of(reading, kind)
            mean = by[name]
            if q + wanted[2] > mean.shape[1] or k + wanted[3] > mean.shape[2]:
                raise ChangeError(
                    f"{name} reads {q + wanted[2]} x {k + wanted[3]} positions, and the average is of texts of "
                    f"at most {mean.shape[1]} x {mean.shape[2]}"
                )
            found = mean[:, q : q + wanted[2], k : k + wanted[3]]
        else:
            if isinstance(by, Mapping):
                found = self._call_of(by, name)
            else:
                found = by
            found = found.dense(limit=1 << 62) if isinstance(found, AttentionMap) else found
            found = torch.as_tensor(found)
        found = found.detach()[(None,) * (4 - found.ndim)]
        fits = all(n in (1, want) for n, want in zip(found.shape[:2], wanted[:2], strict=True))
        if not fits or found.shape[2:] != wanted[2:]:
            raise ChangeError(f"{name} has weights {wanted}; what replaces them is {tuple(found.shape)}")
        wide = torch.promote_types(reading.event.query.dtype, torch.float32)
        return found.to(reading.touched.device, wide).expand(-1, wanted[1], -1, -1)

    def _call_of(self, recording: Mapping[str, Any], name: str) -> Any:
        """The recorded call that happened when this one does: the first for the first, and so on."""
        if name not in recording:
            raise ChangeError(f"the recording has no module {name!r}; it has {', '.join(recording)}")
        found, call = recording[name], self.calls.get(name, 0)
        self.calls[name] = call + 1
        if isinstance(found, AttentionMap):
            return found
        if call >= len(found):
            raise ChangeError(f"{name} is called for the {call + 1}th time; the recording has {len(found)} calls of it")
        return found[call]


def weights_by(by: Any, over: Any) -> Any:
    """What `replace` replaces by, checked.

    Raises:
        ValueError: something else, or "average" without recordings.
    """
    rule = 'by is "uniform", "average" (over=recordings), a recording, an AttentionMap, or a matrix of weights'
    if (by == "average") != (over is not None) if isinstance(by, str) else over is not None:
        raise ValueError(f'{rule}; over= goes with "average", and holds recordings of a corpus')
    if isinstance(by, str) and by == "average":
        return over if isinstance(over, Average) else Average([over] if isinstance(over, Mapping) else over)
    if isinstance(by, Tensor | np.ndarray):
        table = torch.as_tensor(by)
        if not 2 <= table.ndim <= 4 or not table.is_floating_point():
            raise ValueError(f"{rule}, (Q, K), (H, Q, K) or (B, H, Q, K); got {tuple(table.shape)}, {table.dtype}")
        if not bool(((table >= 0) & table.isfinite()).all()):
            raise ValueError(f"{rule}; weights are finite, none below 0")
        return table
    if (isinstance(by, str) and by == "uniform") or isinstance(by, Mapping | AttentionMap | Average):
        return by
    raise ValueError(f"{rule}; got {by!r}")
