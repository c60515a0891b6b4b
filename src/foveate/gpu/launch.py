"""One problem through the Triton kernels: tensors in, tensors out.

Axes: B batch, H query heads, G key/value heads (G divides H), Q queries, K keys, D head width, V value width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..native import NAN_ROWS, ODD_VALUES, Found, Wanted
from .find import interpreted

__all__ = ["DTYPES", "MOST_BEST", "MOST_WIDTH", "Band", "Tiles", "run", "tiles"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_WIDTH, MOST_BEST = 256, 16


@dataclass(frozen=True)
class Band:
    """Query i, at key position i + offset, sees the keys from `left` before to `right` after it; None: no limit."""

    left: int | None
    right: int | None
    offset: int


@dataclass(frozen=True)
class Tiles:
    """Rows and keys of a tile in the kernel `rows`, keys and rows at most in `columns`, how both are compiled, and rows
    of a program of `pick`."""

    rows: int
    keys: int
    most_columns: int
    most_rows: int
    warps: int
    stages: int
    picked: int = 1


def tiles(width: int, dtype: torch.dtype) -> Tiles:
    """By hand, so that nothing spills when compiled for sm_90; no GPU has measured them yet (benchmarks/gpu.py)."""
    if dtype == torch.float32:
        return Tiles(64, 32, 32, 64, 4, 2) if width <= 128 else Tiles(32, 16, 16, 32, 4, 2)
    if width <= 64:
        return Tiles(128, 64, 64, 128, 8, 3)
    return Tiles(128, 64, 128, 64, 8, 3) if width <= 128 else Tiles(64, 32, 64, 32, 8, 2)


def run(
    q_BHQD: Tensor,
    k_BGKD: Tensor,
    v_BGKV: Tensor | None,
    wanted: Wanted,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    band: Band | None = None,
    first_row: int = 0,
    all_rows: int | None = None,
    shape: Tiles | None = None,
) -> Found:
    """Output (if there are values) and the statistics wanted.

    Args:
        first_row, all_rows: these queries are rows `first_row`.. of `all_rows`; for `band` and `pooled`.
        shape: tiles other than those chosen by width.
    """
    call = _Call(q_BHQD, k_BGKD, scale, softcap, sinks, band, first_row, all_rows, shape)
    with torch.no_grad():
        output, entropy, chunks = call.rows(v_BGKV, wanted)
        received, pooled = call.columns(wanted)
        found: dict[str, Any] = {"output": output, "lse": call.logsumexp(), "entropy": entropy, "received": received}
        if chunks is not None:
            found["top"] = call.pick(chunks, wanted.top)
        status = NAN_ROWS if _odd(found["lse"]) or (entropy is not None and _odd(entropy)) else 0
        if v_BGKV is not None and not bool(torch.isfinite(v_BGKV).all()):
            status |= ODD_VALUES
    return Found(status, pooled=pooled, **{name: t for name, t in found.items() if t is not None})


class _Call:
    """What the kernels of one problem share: inputs, their strides, the band, and each row's peak and sum."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        scale: float,
        softcap: float | None,
        sinks: Tensor | None,
        band: Band | None,
        first_row: int,
        all_rows: int | None,
        shape: Tiles | None,
    ) -> None:
        self.q, self.k = _ready(q), _ready(k)
        self.batch, self.heads, self.queries, self.width = q.shape
        self.shared, self.keys = self.heads // k.shape[1], k.shape[2]
        self.sinks = None if sinks is None else sinks.detach().to(q.device, torch.float32).contiguous()
        self.first_row, self.all_rows = first_row, self.queries if all_rows is None else all_rows
        self.band = band or Band(None, None, 0)
        self.tiles = tiles(self.width, q.dtype) if shape is None else shape
        far = self.keys + self.all_rows + abs(self.band.offset) + 1
        self.left, self.right = (
            far if n is None else max(-far, min(n, far)) for n in (self.band.left, self.band.right)
        )
        self.factors = (scale, 1.0) if softcap is None else (scale / softcap, softcap)
        rows = (self.batch, self.heads, self.queries)
        self.peak, self.total = (torch.empty(rows, dtype=torch.float32, device=q.device) for _ in range(2))
        self.flags: dict[str, Any] = {
            "D": _power(self.width),
            "LEFT": self.band.left is not None,
            "RIGHT": self.band.right is not None,
            "CAP": softcap is not None,
        }
        self.compiled = {"num_warps": self.tiles.warps, "num_stages": self.tiles.stages}

    def rows(self, v: Tensor | None, wanted: Wanted) -> tuple[Tensor | None, Tensor | None, tuple[Tensor, ...] | None]:
        """Output, entropy, and the chunks of the largest scores with these: (B, H, Q, slots)."""
        from . import kernels

        rows, device = (self.batch, self.heads, self.queries), self.q.device
        depth = self.width if v is None else v.shape[-1]
        values = self.k if v is None else _ready(v)
        output = None if v is None else torch.empty(*rows, depth, dtype=v.dtype, device=device)
        entropy = torch.empty(rows, dtype=torch.float32, device=device) if wanted.entropy else None
        slots = max(2, _power(wanted.top, 1)) if wanted.top else 1
        kinds = (torch.int32, torch.float32)
        chunks = tuple(torch.empty(*rows, slots, dtype=d, device=device) for d in kinds) if wanted.top else None
        grid = (-(-self.queries // self.tiles.rows), self.batch * self.heads)
        kernels.rows[grid](
            self.q, self.k, values, self.peak if self.sinks is None else self.sinks,
            self.peak if output is None else output, self.peak, self.total,
            self.peak if entropy is None else entropy, *((self.peak, self.peak) if chunks is None else chunks),
            *self.q.stride()[:3], *self.k.stride()[:3], *values.stride()[:3],
            self.heads, self.shared, self.queries, self.keys, self.width, depth,
            self.band.offset + self.first_row, self.left, self.right, *self.factors,
            M=self.tiles.rows, N=self.tiles.keys, V=_power(depth), SLOTS=slots, PARTS=self.tiles.keys // 8,
            OUT=output is not None, ENTROPY=entropy is not None, SINKS=self.sinks is not None, PRECISION="ieee",
            **self.flags, **self.compiled,
        )  # fmt: skip
        return output, entropy, chunks

    def pick(self, chunks: tuple[Tensor, ...], top: int) -> tuple[Tensor, Tensor]:
        """The largest weights and their keys, best first."""
        from . import kernels

        shape = (self.batch, self.heads, self.queries, top)
        values = torch.empty(shape, dtype=torch.float32, device=self.q.device)
        indices = torch.empty(shape, dtype=torch.int64, device=self.q.device)
        kernels.pick[(-(-self.queries // self.tiles.picked), self.batch * self.heads)](
            self.q, self.k, *chunks, self.peak, self.total, values, indices, *self.q.stride()[:3], *self.k.stride()[:3],
            self.heads, self.shared, self.queries, self.keys, self.width, top,
            self.band.offset + self.first_row, self.left, self.right, *self.factors,
            M=self.tiles.picked, N=self.tiles.keys, SLOTS=chunks[0].shape[-1], PARTS=self.tiles.keys // 8,
            num_warps=4, **self.flags,
        )  # fmt: skip
        return values, indices

    def columns(self, wanted: Wanted) -> tuple[Tensor | None, dict[tuple[int, int, str], Tensor]]:
        """Attention received (B, H, K), and the grids: maxima, or sums."""
        pooled: dict[tuple[int, int, str], Tensor] = {}
        received = None
        grids = list(dict.fromkeys((r, c) for r, c, _ in wanted.pooled))
        if wanted.received and not grids:
            grids = [(1, -(-self.keys // self.tiles.most_columns))]
        for i, (r, c) in enumerate(grids):
            how = {h for *grid, h in wanted.pooled if tuple(grid) == (r, c)}
            mass, found = self._grid(r, c, how, wanted.received and i == 0)
            received = mass if i == 0 and wanted.received else received
            pooled |= {(r, c, h): t for h, t in found.items()}
        return received, pooled

    def _grid(self, r: int, c: int, how: set[str], receive: bool) -> tuple[Tensor, dict[str, Tensor]]:
        from . import kernels

        tall, wide = -(-self.all_rows // r), -(-self.keys // c)
        m, n = min(self.tiles.most_rows, _power(tall)), min(self.tiles.most_columns, _power(wide))
        per_row, per_column = -(-tall // m), -(-wide // n)
        lead, device = (self.batch, self.heads), self.q.device
        received = torch.empty(*lead, self.keys if receive else 0, dtype=torch.float64, device=device)
        found = {
            h: torch.zeros(*lead, r, c, per_column, dtype=d, device=device)
            for h, d in (("max", torch.float32), ("mean", torch.float64))
            if h in how
        }
        kernels.columns[(c * per_column, self.batch * self.heads)](
            self.q, self.k, self.peak, self.total, received, found.get("max", received), found.get("mean", received),
            *self.q.stride()[:3], *self.k.stride()[:3], self.heads, self.shared, self.queries, self.keys, self.width,
            self.first_row, self.all_rows, self.band.offset, self.left, self.right, *self.factors,
            r, c, per_row, per_column, M=m, N=n, RECEIVED=receive, MAX="max" in how, MEAN="mean" in how,
            PRECISION="ieee", **self.flags, **self.compiled,
        )  # fmt: skip
        return received, {h: t.amax(-1) if h == "max" else t.sum(-1) for h, t in found.items()}

    def logsumexp(self) -> Tensor:
        """Natural log, float64; -inf where a row sees no key."""
        return self.peak.double() + self.total.double().log()


def _odd(t: Tensor) -> bool:
    """Whether any is NaN or +inf."""
    return bool((~(t < torch.inf)).any())


def _ready(t: Tensor) -> Tensor:
    """With its last axis dense; in float32 for the interpreter, whose products of bfloat16 are wrong."""
    t = t.detach().float() if interpreted() and t.dtype == torch.bfloat16 else t.detach()
    return t if t.stride(-1) == 1 else t.contiguous()


def _power(n: int, least: int = 16) -> int:
    """The least power of two that is not below n."""
    return max(least, 1 << (n - 1).bit_length())
