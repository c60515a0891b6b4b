"""What the compiled core is held to: the float64 oracle, and what a plain computation in the same dtype errs by.

Axes: B batch, H query heads, G key heads, Q queries, K keys, D width, V value width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import oracle
from foveate import native
from foveate.native import Wanted, library

HERE = Path(native.__file__).parent / library.LIBRARY
ISAS = [name for name in library.ISAS if library.load(HERE, name).library is not None]
FLOATS = [torch.float32, torch.bfloat16, torch.float16]


def use(isa: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has the core compute with one set of instructions."""
    core = library.load(HERE, isa)
    monkeypatch.setattr("foveate.native.call.find", lambda: core)
    return isa


def plain(q: Tensor, k: Tensor, **options: Any) -> Tensor:
    """Weights in float32 at least, as anybody would compute them in the inputs' dtype."""
    allowed, bias, sinks, softcap = (options.get(n) for n in ("allowed", "bias", "sinks", "softcap"))
    scale = options.get("scale") or q.shape[-1] ** -0.5
    n, m = q.shape[-2], k.shape[-2]
    rows = (q * scale).repeat(1, 1, -(-64 // n), 1)  # for a few rows or keys libraries take sums in another, finer way
    keys = torch.nn.functional.pad(k.repeat_interleave(q.shape[-3] // k.shape[-3], -3), (0, 0, 0, max(0, 64 - m)))
    s = (rows @ keys.mT)[..., :n, :m].float()
    s = s if softcap is None else softcap * torch.tanh(s / softcap)
    s = s if bias is None else s + bias.float()
    s = s if allowed is None else s.masked_fill(~allowed, -torch.inf)
    if sinks is None:
        return torch.softmax(s, -1).nan_to_num(0.0)
    column = sinks.float().reshape(-1, 1, 1).expand(*s.shape[:-1], 1)
    return torch.softmax(torch.cat([s, column], -1), -1)[..., :-1]


def several(q: Tensor, k: Tensor, **options: Any) -> list[Tensor]:
    """`plain` with several orders of the width: sums of few numbers round well or badly by luck."""
    orders = [torch.arange(q.shape[-1]), *(torch.randperm(q.shape[-1]) for _ in range(3))]
    return [plain(q[..., order], k[..., order], **options) for order in orders]


def pooled(w: Tensor, rows: int, columns: int, how: str) -> Tensor:
    """A grid of `w`, by the rule: query i falls into row i * rows // Q. Means are sums still."""
    for bins, axis in ((columns, -1), (rows, -2)):
        bin_of = torch.arange(w.shape[axis]) * bins // w.shape[axis]
        parts = w.split(torch.bincount(bin_of).tolist(), axis)
        w = torch.stack([part.amax(axis) if how == "max" else part.sum(axis) for part in parts], axis)
    return w


def entropy(w: Tensor) -> Tensor:
    return torch.special.entr(w).sum(-1)


def check(q: Tensor, k: Tensor, v: Tensor, found: native.Found, **options: Any) -> None:
    """All that the core found is as exact as the plain computation, by the float64 oracle."""
    exact = oracle.weights(q, k, **options)
    tried = several(q, k, **options)

    def as_good(got: Tensor, of: Callable[[Tensor], Tensor], truth: Tensor) -> None:
        worst = max((of(w) for w in tried), key=lambda t: float((t.double() - truth).abs().max()))
        oracle.as_good_as(got, worst, truth)

    shared = q.shape[-3] // k.shape[-3]
    assert found.output is not None and found.output.dtype == q.dtype
    read = v.repeat_interleave(shared, -3)
    as_good(found.output, lambda w: (w.to(q.dtype) @ read).to(q.dtype), oracle.output(exact, v))
    as_good(found.entropy, entropy, entropy(exact))
    as_good(found.received.float(), lambda w: w.sum(-2), exact.sum(-2))
    values, indices = found.top
    n = values.shape[-1]
    as_good(values, lambda w: w.topk(n).values, exact.topk(n).values)
    as_good(values, lambda w: w.topk(n).values, exact.gather(-1, indices.clamp(min=0)).masked_fill(indices < 0, 0.0))
    assert all(len(set(row[row >= 0].tolist())) == int((row >= 0).sum()) for row in indices.reshape(-1, n))
    for (rows, columns, how), grid in found.pooled.items():
        as_good(grid.float(), lambda w: pooled(w, rows, columns, how), pooled(exact, rows, columns, how))  # noqa: B023


GRIDS = ((3, 5, "max"), (3, 5, "mean"), (5, 2, "mean"))
EVERYTHING = Wanted(lse=True, entropy=True, top=3, received=True, pooled=GRIDS)
