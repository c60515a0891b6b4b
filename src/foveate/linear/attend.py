"""`linear_attention`: attention in time O(n), and `run`, the same call that also gives the state to go on from.

Axes: B batch, H query heads, G key/value heads (G divides H), Q queries, K keys, D width, F features, V value width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import masks, normalizers
from ..map import AttentionMap
from ..masks import Mask
from ..masks.base import And, Everything
from ..masks.positional import Band
from ..masks.sequences import Padding
from ..operator import Problem, blocks, tell
from ..shapes import Geometry, Layout, as_tensor, canonical, full_precision, is_traced, to_tensors
from . import features, forms
from .features import FeatureMap
from .kernels import Kernel, Recurrence, Unscaled

__all__ = ["Result", "State", "linear_attention", "run"]

FORMS = ("auto", "parallel", "chunked", "recurrent")
CHUNK = 128
CHUNK_BY_CHANNEL = 64  # where a gate has one number per feature


class State(NamedTuple):
    """All that later queries need of the keys so far.

    `memory` (..., G, F, V) is the sum of phi(k) v^T, decayed and corrected; `total` (..., G, F) that of phi(k), None if
    the weights are not normalised.
    """

    memory: Any
    total: Any = None


class Result(NamedTuple):
    """`output` (..., H, Q, V), `weights`, an `AttentionMap` (..., H, Q, K), and the `state` after the last key."""

    output: Any
    weights: AttentionMap
    state: State | None


def linear_attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    feature_map: features.Given | tuple[features.Given, features.Given] | Any = "elu",
    causal: bool | Mask | Any = True,
    form: str = "auto",
    chunk: int | None = None,
    state: State | Any | None = None,
    gate: Any | None = None,
    beta: Any | None = None,
    normalize: bool | None = None,
    scale: float = 1.0,
) -> tuple[Any, AttentionMap]:
    """Attention whose weights are products of features, phi(q).phi(k), in time and memory O(n).

    A query reads `sum_j w_j v_j / sum_j w_j`, w_j = phi(q).phi(k_j) (Katharopoulos et al. 2020). The sum over the keys
    is one matrix, the state, so no query looks at the keys themselves. With `gate` the state decays from key to key
    (RetNet, Mamba-2, GLA); with `beta` each key's old value is replaced (DeltaNet); with both, gated DeltaNet.

    Args:
        query, key, value: as in `fv.attention`.
        feature_map: "elu" (elu + 1), "relu", "identity", "favor" (FAVOR+), one of `fv.linear`, a function or module
            (B, heads, rows, D) -> (B, heads, rows, F), or a pair, for queries and for keys.
        causal: True: a query sees the keys up to its own place, the last query all of them. False: all. Or a mask of
            `fv.masks`; any but `causal()`, `padding` and both together is computed in time O(Q K).
        form: "parallel" (one chunk), "chunked", "recurrent" (key by key), or "auto": by chunks, unless there are
            at most 4 keys, or NaN or Inf among keys or values.
        chunk: keys per chunk.
        state: where an earlier call ended, see `fv.linear.run`; its keys come before these, and are not in `weights`.
        gate: logarithms, at most 0, of what is kept of the state at each key: (..., G, K), or, if it has as many axes
            as the key, (..., G, K, F), one number per feature. It broadcasts.
        beta: (..., G, K), how much of a key's old value is replaced: the delta rule. Keys should have length 1 or less.
        normalize: divide each row by the sum of its weights. Default: yes, unless `beta` is given.
        scale: a factor of the weights before they are normalised.

    Returns:
        output: (..., H, Q, V) in the inputs' dtype; sums run in float32 or wider.
        weights: an `AttentionMap` (..., H, Q, K): lazy, exact, free until it is looked at. Weights may be negative
            where features may, and by the delta rule; entropies then mean nothing.

    Raises:
        ValueError: shapes, feature map, form, state, gate or beta break a rule; the text names it.
    """
    result = run(
        query,
        key,
        value,
        feature_map=feature_map,
        causal=causal,
        form=form,
        chunk=chunk,
        state=state,
        gate=gate,
        beta=beta,
        normalize=normalize,
        scale=scale,
    )
    return result.output, result.weights


def run(
    query: Any,
    key: Any,
    value: Any,
    *,
    feature_map: features.Given | tuple[features.Given, features.Given] | Any = "elu",
    causal: bool | Mask | Any = True,
    form: str = "auto",
    chunk: int | None = None,
    state: State | Any | None = None,
    gate: Any | None = None,
    beta: Any | None = None,
    normalize: bool | None = None,
    scale: float = 1.0,
) -> Result:
    """`fv.linear_attention`, with the same options, that also gives the state after the last key.

    Another call, over one token or many, goes on from there: `run(q, k, v, state=state, ...)`.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; expected one of {', '.join(map(repr, FORMS))}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1; got {chunk}")
    tensors, numpy = to_tensors(query=query, key=key, value=value)
    q, k, v, layout = canonical(tensors[0], tensors[1], tensors[2], numpy)
    call = _Call.of(q, k, v, layout, feature_map, causal, gate, beta, normalize, float(scale))
    with full_precision(q.device):
        result = call.run(state, form, chunk)
    tell(result.weights, v)
    return result


@dataclass(frozen=True, eq=False)
class _Call:
    """A call in canonical form. `causal`: whether the order counts; `dense`: the mask fits no recurrence."""

    parts: forms.Parts
    layout: Layout
    causal: bool
    dense: bool
    mask: Mask | None

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        layout: Layout,
        feature_map: Any,
        causal: Any,
        gate: Any,
        beta: Any,
        normalize: bool | None,
        scale: float,
    ) -> _Call:
        g = Geometry(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
        mask = masks.causal() if causal is True else None if causal is False else causal
        if mask is not None:
            mask = (mask if isinstance(mask, Mask) else masks.tensor(mask)).settle(layout, g)
        ordered, hidden, dense = _read(mask, g, q.device)
        phi_q, phi_k = features.resolve(feature_map, q.shape[-1])
        if not (isinstance(phi_q, FeatureMap) and isinstance(phi_k, FeatureMap)):
            q, k = phi_q(q), phi_k(k)  # a map that may know its heads: all rows, once
            phi_q = phi_k = features.Identity()
        width = phi_k(k[:, :, :0]).shape[-1]
        if phi_q(q[:, :, :0]).shape[-1] != width:
            raise ValueError("the feature maps of queries and keys must give equally many features")
        normalize = beta is None if normalize is None else normalize
        if beta is not None and normalize:
            raise ValueError("the delta rule has no row sums to divide by; pass normalize=False")
        gate = None if gate is None else _gate(gate, layout, k, width)
        beta = None if beta is None else _per_key(as_tensor(beta), "beta", layout, k)
        if (gate is not None or beta is not None) and (
            dense or not ordered or (beta is not None and hidden is not None)
        ):
            raise ValueError("gate and beta go with causal=True: they follow the order of the keys")
        if ordered and g.queries > g.keys:
            raise ValueError(f"causal linear attention needs a key for every query; got {g.queries} and {g.keys}")
        parts = forms.Parts(q, k, v, phi_q, phi_k, scale, normalize, gate, beta, hidden)
        return cls(parts, layout, ordered, dense, mask)

    def run(self, state: Any, form: str, chunk: int | None) -> Result:
        p, layout = self.parts, self.layout
        if self.dense:
            if form not in ("auto", "parallel") or state is not None:
                raise ValueError(f"no recurrence gives the mask {self.mask}; use form='parallel' and no state")
            weights = self.weights(None)
            return Result(layout.restore(blocks.output(weights.problem, p.v_BGKV)), weights, None)
        start = p.nothing() if state is None else _state_in(state, p, layout)
        n = p.k_BGKD.shape[2]
        if form == "auto":
            form = "recurrent" if self.causal and (n <= 4 or not _finite(p)) else "chunked"
        by_channel = p.gate is not None and p.gate.shape[-1] > 1
        size = max(1, n) if form == "parallel" else chunk or (CHUNK_BY_CHANNEL if by_channel else CHUNK)
        if not self.causal:
            rows, end = forms.together(p, start, 1 if form == "recurrent" else size)
        elif form == "recurrent":
            rows, end = forms.stepwise(p, start)
        else:
            rows, end = forms.chunked(p, start, size)
        weights = self.weights(rows.total if state is not None and p.normalize else None)
        return Result(layout.restore(rows.output), weights, _state_out(end, p, layout))

    def weights(self, total: Tensor | None) -> AttentionMap:
        p = self.parts
        score: Kernel | Recurrence = Kernel(p.phi_q, p.phi_k, p.scale)
        if p.gate is not None or p.beta is not None or total is not None:
            score = Recurrence(Kernel(p.phi_q, p.phi_k, p.scale), p.gate, p.beta, total)
        divide = p.normalize and total is None
        normalizer = normalizers.proportional() if divide else Unscaled()
        problem = Problem(p.q_BHQD, p.k_BGKD, score, normalizer, self.mask)
        return AttentionMap._of(problem, self.layout, p.q_BHQD.dtype, None)


def _read(mask: Mask | None, g: Geometry, device: torch.device) -> tuple[bool, Tensor | None, bool]:
    """Whether a mask follows the order of the keys; which keys (B, K) it leaves out; whether it asks for more."""
    ordered, hidden, dense = False, None, False
    left = [] if mask is None else [mask]
    while left:
        one = left.pop()
        if isinstance(one, And):
            left += [one.left, one.right]
        elif isinstance(one, Band) and (one.left, one.right) == (None, 0) and (one.align == "end" or not g.offset):
            ordered = True
        elif isinstance(one, Padding):
            batch, keys = torch.arange(g.batch, device=device)[:, None], torch.arange(g.keys, device=device)
            out = ~one.predicate(g)(batch, torch.zeros_like(batch), torch.zeros_like(batch), keys)
            hidden = out if hidden is None else hidden | out
        else:
            dense = dense or not isinstance(one, Everything)
    return ordered, hidden, dense


def _finite(p: forms.Parts) -> bool:
    """Whether all keys and values are finite numbers; products within a chunk would carry others to earlier queries."""
    return is_traced() or all(bool(t.sum(dtype=p.compute_dtype).isfinite()) for t in (p.k_BGKD, p.v_BGKV))


def _per_key(t: Tensor, name: str, layout: Layout, k_BGKF: Tensor, features: int | None = None) -> Tensor:
    """Numbers that broadcast to (..., G, K) or (..., G, K, F) -> (B|1, G|1, K) or (B|1, G|1, K, 1|F)."""
    groups, keys = k_BGKF.shape[1:3]
    tail = (groups, keys) if features is None else (groups, keys, features)
    full = (*layout.lead, *tail)
    shown = full if layout.axes == 2 else tail[1:]
    if t.ndim > len(shown) or any(a not in (1, b) for a, b in zip(reversed(t.shape), reversed(shown), strict=False)):
        names = ", ".join(["...", "key heads"][: layout.axes] + ["keys"] + ["features"] * (features is not None))
        raise ValueError(f"{name} must broadcast to ({names}) = {shown}; got {tuple(t.shape)}")
    if t.device != k_BGKF.device:
        raise ValueError(f"{name} must be on the device of the query, {k_BGKF.device}; got {t.device}")
    t = t if t.dtype.is_floating_point else t.to(k_BGKF.dtype)
    t = t.reshape((1,) * (len(full) - t.ndim) + tuple(t.shape))
    front, rest = t.shape[: len(layout.lead)], t.shape[len(layout.lead) :]
    t = t.reshape(1, *rest) if front.numel() == 1 else t.expand(*layout.lead, *rest).reshape(k_BGKF.shape[0], *rest)
    return t.expand(-1, -1, keys, *t.shape[3:])


def _gate(gate: Any, layout: Layout, k_BGKF: Tensor, features: int) -> Tensor:
    """(B|1, G|1, K, 1|F): one number per feature where the gate has as many axes as the key."""
    t = as_tensor(gate)
    if not is_traced() and bool((t > 0).any()):
        raise ValueError("a gate holds logarithms, at most 0; take the log of what is kept of the state")
    by_channel = t.ndim == (len(layout.lead) + 3 if layout.axes == 2 else 2)
    return _per_key(t if by_channel else t[..., None], "gate", layout, k_BGKF, features)


def _state_in(state: Any, p: forms.Parts, layout: Layout) -> Tensor:
    """A state as (B, G, F, W), the sums of the weights beside the values."""
    memory, total = state if isinstance(state, tuple) else (state, None)
    start = p.nothing()
    wanted = _state_out(start, p, replace(layout, numpy=False))
    if (total is None) != (wanted.total is None):
        which = "normalised weights need a state with a total" if p.normalize else "these weights are not normalised"
        raise ValueError(f"{which}; go on with the normalize= that the state was made with")
    parts = [(memory, wanted.memory, "memory"), (total, wanted.total, "total")]
    columns = []
    for given, like, name in parts[: 1 + p.normalize]:
        t = as_tensor(given, device=start.device)
        if t.shape != like.shape:
            raise ValueError(f"the state's {name} must have shape {tuple(like.shape)}; got {tuple(t.shape)}")
        columns.append(t.to(start.dtype).reshape(*start.shape[:3], -1))
    return torch.cat(columns, -1)


def _state_out(state: Tensor, p: forms.Parts, layout: Layout) -> State:
    if not p.normalize:
        return State(layout.restore(state, per_query=False))
    memory, total = state[..., :-1], state[..., -1]
    return State(layout.restore(memory, per_query=False), layout.restore(total, per_query=False))
