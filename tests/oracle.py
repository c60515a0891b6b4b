"""What attention is, written a second time and in float64 only, so that the package is not compared with itself.

Axes: B batch, H query heads, G key heads, Q queries, K keys, D width, V value width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

B, H, G, Q, K, D, V = 2, 6, 3, 5, 7, 11, 13


def inputs(
    lead: tuple[int, ...] = (B,),
    heads: int = H,
    groups: int = G,
    queries: int = Q,
    keys: int = K,
    width: int = D,
    depth: int = V,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor]:
    """Random queries, keys and values; every axis of another size, so that a swapped one cannot pass."""
    q = torch.randn(*lead, heads, queries, width, dtype=torch.float64)
    k = torch.randn(*lead, groups, keys, width, dtype=torch.float64)
    v = torch.randn(*lead, groups, keys, depth, dtype=torch.float64)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def table(mask: Any, lead: tuple[int, ...] = (B,), heads: int = H, queries: int = Q, keys: int = K) -> Tensor:
    """The booleans of one of our masks, entry by entry: its predicate is asked about one place at a time."""
    from foveate.masks import Mask
    from foveate.shapes import Geometry, Layout

    assert isinstance(mask, Mask)
    batch = int(torch.tensor(lead).prod()) if lead else 1
    g = Geometry(batch, heads, queries, keys)
    predicate = mask.settle(Layout(lead, 2), g).predicate(g)
    found = torch.zeros(batch, heads, queries, keys, dtype=torch.bool)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in g.shape)).reshape(-1, 4):
        found[tuple(place)] = bool(predicate(*place))
    return found.reshape(*lead, heads, queries, keys)


def weights(
    q: Tensor,
    k: Tensor,
    *,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """(..., H, Q, D), (..., G, K, D) -> weights (..., H, Q, K) in float64. A row that sees no key is 0."""
    q, k = q.double(), k.double()
    shared = q.shape[-3] // k.shape[-3]
    heads = [h // shared for h in range(q.shape[-3])]
    s = torch.einsum("...qd,...kd->...qk", q, k[..., heads, :, :]) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap is not None:
        s = softcap * torch.tanh(s / softcap)
    if bias is not None:
        s = s + bias.double()
    seen = torch.ones_like(s, dtype=torch.bool) if allowed is None else allowed.expand_as(s)
    e = torch.where(seen, torch.exp(s - s.amax(-1, keepdim=True)), 0.0)
    total = e.sum(-1, keepdim=True)
    if sinks is not None:
        total = total + torch.exp(sinks.double()[:, None, None] - s.amax(-1, keepdim=True))
    return e / torch.where(total == 0, 1.0, total)


def output(w: Tensor, v: Tensor) -> Tensor:
    """Weights (..., H, Q, K), values (..., G, K, V) -> (..., H, Q, V) in float64."""
    shared = w.shape[-3] // v.shape[-3]
    heads = [h // shared for h in range(w.shape[-3])]
    return torch.einsum("...qk,...kv->...qv", w.double(), v.double()[..., heads, :, :])


def close(got: Any, exact: Tensor) -> None:
    """Equal up to the rounding of float64."""
    torch.testing.assert_close(torch.as_tensor(got), exact, rtol=1e-11, atol=1e-13)


def as_good_as(got: Tensor, plain: Tensor, exact: Tensor) -> None:
    """The error is at most twice that of the plain computation in the same dtype, give or take one rounding."""
    error, allowed = ((t.double() - exact).abs().max().item() for t in (got, plain))
    rounding = torch.finfo(got.dtype).eps * exact.abs().max().item()
    assert error <= 2 * allowed + rounding, (
        f"error {error:.3g}, plain computation {allowed:.3g}, rounding {rounding:.3g}"
    )
