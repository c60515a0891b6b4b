"""One call of the compiled core: tensors in, tensors out.

Axes: B batch, H query heads, G key/value heads (G divides H), Q queries, K keys, D head width, V value width.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .abi import Call, Pooled
from .library import ISAS, find

__all__ = ["DTYPES", "MOST_WIDTH", "NAN_ROWS", "ODD_VALUES", "Found", "Lists", "Wanted", "run"]

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
MOST_WIDTH = 1024  # of keys and of values
NAN_ROWS, ODD_VALUES = 1, 2  # bits of the status: a row is NaN; a value is NaN or Inf
PAIRS = "avx512bf16"  # the instructions that multiply bfloat16 in pairs
_FAILED = {-1: "there is not enough memory", -2: "a size is out of range"}


NOTHING = torch.empty(0, device="cpu")  # where something was not wanted


@dataclass(frozen=True)
class Lists:
    """A mask by blocks of `rows` rows of this call.

    Block i looks at the panels (64 keys each) `panel[start[i]:start[i + 1]]`, in order. `word` says where in `words`
    each panel's bits begin, one int64 per row, or -1 where all its keys are seen. Blocks run over the rows, then
    (where they differ) the heads, then the batches.
    """

    rows: int
    start: Tensor
    panel: Tensor
    word: Tensor
    words: Tensor
    stride: tuple[int, int]  # blocks from one batch to the next, from one head to the next


@dataclass(frozen=True)
class Wanted:
    """Which statistics to compute: `pooled` are grids (rows, columns, "max" or "mean")."""

    lse: bool = False
    entropy: bool = False
    top: int = 0
    received: bool = False
    pooled: tuple[tuple[int, int, str], ...] = ()

    @classmethod
    def union(cls, parts: Sequence[Wanted]) -> Wanted:
        """All that any of the parts wants; each grid once."""
        return cls(
            lse=any(p.lse for p in parts),
            entropy=any(p.entropy for p in parts),
            top=max((p.top for p in parts), default=0),
            received=any(p.received for p in parts),
            pooled=tuple(dict.fromkeys(grid for p in parts for grid in p.pooled)),
        )


@dataclass(frozen=True)
class Found:
    """What a call gave. Means are sums still."""

    status: int
    output: Tensor | None = None
    lse: Tensor = NOTHING
    entropy: Tensor = NOTHING
    top: tuple[Tensor, Tensor] = (NOTHING, NOTHING)
    received: Tensor = NOTHING
    pooled: dict[tuple[int, int, str], Tensor] = field(default_factory=dict)
    passed_over: int = 0  # panels of 64 keys that a bias by distance puts out of reach, once for each tile of 6 rows


def run(
    q_BHQD: Tensor,
    k_BGKD: Tensor,
    v_BGKV: Tensor | None = None,
    wanted: Wanted = Wanted(),
    *,
    scale: float = 1.0,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    known: Tensor | None = None,
    spans: tuple[Tensor, Tensor] | None = None,
    lists: Lists | None = None,
    table: Tensor | None = None,
    bias: Tensor | None = None,
    first_row: int = 0,
    all_rows: int | None = None,
    threads: int | None = None,
) -> Found:
    """Output (if there are values) and the statistics wanted, in one pass.

    Args:
        known: (B, H, Q) log-sum-exp over all keys of a row, where only some are given: pooled weights are then those of
            the whole row. Output and entropy are not to be asked for.
        spans: each row's keys [lo, hi), int32, broadcast to (B, H, Q).
        table: (B|1, H|1, all_rows + K - 1), bias by distance: entry j - i + all_rows - 1; hides no key. Keys that
            it puts so far down that nothing of them is left are passed over (`far.h` says when).
        bias: broadcasts to (B, H, Q, K). An entry at or below its dtype's smallest finite number hides its key.
        first_row, all_rows: these queries are rows `first_row`.. of `all_rows`; for `table` and `pooled`.
    """
    core = find()
    assert core.library is not None and core.isa is not None, core.reason
    (b, h, n, d), (g, keys) = q_BHQD.shape, k_BGKD.shape[1:3]
    rows = n if all_rows is None else all_rows
    call, held = Call(), list[Any]()
    call.size, call.isa = ctypes.sizeof(Call), ISAS.index(core.isa)
    call.B, call.H, call.G, call.Q, call.K, call.D = b, h, g, n, keys, d
    call.first_row, call.all_rows = first_row, rows
    call.dtype, call.threads = DTYPES[q_BHQD.dtype], torch.get_num_threads() if threads is None else threads
    call.scale, call.softcap = scale, softcap or 0.0
    call.q, call.q_stride = _rows(q_BHQD, held)
    call.k, call.k_stride = _rows(k_BGKD, held)
    if v_BGKV is not None:
        call.V, (call.v, call.v_stride) = v_BGKV.shape[-1], _rows(v_BGKV, held)
    for name, numbers in (("sinks", sinks), ("known", known)):
        if numbers is not None:
            setattr(call, name, _keep(numbers.detach().to(torch.float64).contiguous(), held))
    _mask(call, spans, lists, held)
    _bias(call, table, bias, held)
    call.passed_over = ctypes.addressof(passed := ctypes.c_int64(0))
    found = _results(call, q_BHQD, v_BGKV, wanted, held)
    status = core.library.fv_run(ctypes.byref(call))
    if status & NAN_ROWS and status > 0 and core.isa == PAIRS and call.dtype == DTYPES[torch.bfloat16]:
        passed.value = 0
        call.isa -= 1  # products of pairs are scaled afterwards, so they overflow where others do not yet
        found = _results(call, q_BHQD, v_BGKV, wanted, held)
        status = core.library.fv_run(ctypes.byref(call))
    if status < 0:
        raise MemoryError(f"the native core cannot compute this attention: {_FAILED[status]}")
    return Found(status, **found, passed_over=passed.value)


def _mask(call: Call, spans: tuple[Tensor, Tensor] | None, lists: Lists | None, held: list[Any]) -> None:
    if spans is not None:
        shape = call.B, call.H, call.Q
        lo, hi = (t.to(torch.int32).expand(shape) for t in spans)
        lo, hi = (lo, hi) if lo.stride() == hi.stride() else (lo.contiguous(), hi.contiguous())
        call.lo, call.hi, call.span_stride = _keep(lo, held), _keep(hi, held), (ctypes.c_int64 * 3)(*lo.stride())
    if lists is not None:
        call.list_start, call.list_panel = _keep(lists.start, held), _keep(lists.panel, held)
        call.list_word, call.words = _keep(lists.word, held), _keep(lists.words, held)
        call.list_rows, call.list_stride = lists.rows, (ctypes.c_int64 * 2)(*lists.stride)


def _bias(call: Call, table: Tensor | None, bias: Tensor | None, held: list[Any]) -> None:
    if table is not None:
        spread = table.detach().to(torch.float32).contiguous().expand(call.B, call.H, call.all_rows + call.K - 1)
        call.table, call.table_stride = _keep(spread, held), (ctypes.c_int64 * 2)(*spread.stride()[:2])
        call.bias_hides = math.nan
    elif bias is not None:
        spread = bias.detach().expand(call.B, call.H, call.Q, call.K)
        call.bias, call.bias_stride = _keep(spread, held), (ctypes.c_int64 * 4)(*spread.stride())
        call.bias_dtype, call.bias_hides = DTYPES[bias.dtype], torch.finfo(bias.dtype).min


def _rows(t: Tensor, held: list[Any]) -> tuple[int, ctypes.Array[ctypes.c_int64]]:
    t = t.detach()
    if t.stride(-1) != 1 and t.shape[-1] > 1:
        t = t.contiguous()
    return _keep(t, held), (ctypes.c_int64 * 3)(*t.stride()[:3])


def _keep(thing: Tensor, held: list[Any]) -> int:
    held.append(thing)
    return thing.data_ptr()


def _results(call: Call, q: Tensor, v: Tensor | None, wanted: Wanted, held: list[Any]) -> dict[str, Any]:
    """Room for what is wanted, by the names of `Found`. The core writes all of it, but the grids, which add up."""
    lead, row = (call.B, call.H), (call.B, call.H, call.Q)
    found: dict[str, Any] = {}

    def room(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, device=q.device)

    if v is not None:
        found["output"] = room((*row, call.V), q.dtype)
        call.out = found["output"].data_ptr()
    if wanted.lse:
        found["lse"] = room(row, torch.float64)
        call.lse = found["lse"].data_ptr()
    if wanted.entropy:
        found["entropy"] = room(row, torch.float32)
        call.entropy = found["entropy"].data_ptr()
    if wanted.top:
        found["top"] = room((*row, wanted.top), torch.float32), room((*row, wanted.top), torch.int64)
        call.top_values, call.top_indices = (t.data_ptr() for t in found["top"])
        call.top = wanted.top
    if wanted.received:
        found["received"] = room((*lead, call.K), torch.float64)
        call.received = found["received"].data_ptr()
    if wanted.pooled:
        dtypes = {"max": torch.float32, "mean": torch.float64}
        found["pooled"] = {(r, c, how): room((*lead, r, c), dtypes[how]).zero_() for r, c, how in wanted.pooled}
        grids = (Pooled * len(wanted.pooled))()
        for grid, ((r, c, how), out) in zip(grids, found["pooled"].items(), strict=True):
            grid.rows, grid.columns, grid.mean, grid.out = r, c, how == "mean", out.data_ptr()
        held.append(grids)
        call.pooled, call.n_pooled = ctypes.addressof(grids), len(grids)
    return found
