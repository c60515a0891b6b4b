"""Linear attention against its definition, one head and one key after the other in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import foveate as fv
import oracle
from foveate import linear
from foveate.describe import describe, restore
from foveate.linear import forms
from oracle import B, D, G, H, K, Q

N = 11  # keys, and queries where they are as many


def inputs(queries: int = N, keys: int = N, lead: tuple[int, ...] = (B,), width: int = D) -> tuple[Tensor, ...]:
    q, k, v = oracle.inputs(lead, queries=queries, keys=keys, width=width)
    return q, torch.nn.functional.normalize(k, dim=-1) * 0.9, v


def elu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, x.exp())


def defined(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    phi: Any = elu,
    gate: Tensor | None = None,
    beta: Tensor | None = None,
    scale: float = 1.0,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(B, H, Q, V), not normalised, and the state (B, G, F, V), by the definition alone; causal, queries at the end."""
    (batch, heads, queries, _), (groups, keys) = q.shape, k.shape[1:3]
    fq, fk = phi(q) * scale, phi(k)
    out = torch.zeros(batch, heads, queries, v.shape[-1], dtype=q.dtype)
    states = torch.zeros(batch, groups, fk.shape[-1], v.shape[-1], dtype=q.dtype)
    gate = None if gate is None else torch.broadcast_to(gate, (batch, groups, keys, fk.shape[-1]))
    for b in range(batch):
        for h in range(heads):
            g = h // (heads // groups)
            s = states[b, g].clone() * 0 if state is None else state[b, g].clone()
            for j in range(keys):
                if gate is not None:
                    s = gate[b, g, j].exp()[:, None] * s
                new = v[b, g, j]
                if beta is not None:
                    new = beta[b, g, j] * (new - s.T @ fk[b, g, j])
                s = s + torch.outer(fk[b, g, j], new)
                i = j - (keys - queries)
                if i >= 0:
                    out[b, h, i] = s.T @ fq[b, h, i]
            states[b, g] = s
    return out, states


def defined_weights(q: Tensor, k: Tensor, **parts: Any) -> Tensor:
    """(B, H, Q, K): the output is linear in the values, so unit values give the weights."""
    return defined(q, k, torch.eye(k.shape[2], dtype=q.dtype).expand(*k.shape[:2], -1, -1), **parts)[0]


def share(w: Tensor) -> Tensor:
    return w / w.sum(-1, keepdim=True)


def _drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


RULES: dict[str, dict[str, Tensor]] = {
    "plain": {},
    "scalar gate": {"gate": -_drawn(1, B, G, N, 1)},
    "one gate per head": {"gate": -_drawn(2, G, 1, 1)},
    "gate per feature": {"gate": -2 * _drawn(3, B, G, N, D)},
    "delta": {"beta": _drawn(4, B, G, N)},
    "gated delta": {"gate": -_drawn(5, B, G, N, 1), "beta": _drawn(6, B, G, N)},
    "delta, gate per feature": {"gate": -_drawn(7, B, G, N, D), "beta": _drawn(8, B, G, N)},
}
FORMS = [("parallel", None), ("recurrent", None), ("chunked", None), ("chunked", 1), ("chunked", 3), ("chunked", 4)]


def ours(rule: str) -> dict[str, Any]:
    """A rule in the terms of `fv.linear_attention`."""
    parts: dict[str, Any] = dict(RULES[rule])
    gate = parts.get("gate")
    if gate is not None and gate.shape[-1] == 1:
        parts["gate"] = gate[..., 0]
    return parts | ({"feature_map": "identity"} if "delta" in rule else {})  # longer keys would make the rule unstable


def phi_of(rule: str) -> Callable[[Tensor], Tensor]:
    return identity if "delta" in rule else elu


def identity(x: Tensor) -> Tensor:
    return x


# the forms


@functools.cache
def _exact(rule: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return defined(*inputs(), phi=identity, scale=0.7, **RULES[rule])


@pytest.mark.parametrize("gentle", [-1.0, 60.0])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_every_form_is_the_definition(
    rule: str, form: tuple[str, int | None], gentle: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "feature" not in rule and gentle > 0:
        return
    monkeypatch.setattr(forms, "TILE", 2)
    monkeypatch.setattr(forms, "GENTLE", gentle)
    q, k, v = inputs()
    exact, state = _exact(rule)
    options = {"feature_map": "identity", "scale": 0.7, "normalize": False, "form": form[0], "chunk": form[1]}
    got = linear.run(q, k, v, **ours(rule) | options)
    oracle.close(got.output, exact)
    assert got.state is not None and got.state.total is None
    oracle.close(got.state.memory, state)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("rule", [rule for rule in RULES if "delta" not in rule])
def test_normalised(rule: str, form: tuple[str, int | None]) -> None:
    q, k, v = inputs()
    exact = oracle.output(share(defined_weights(q, k, **RULES[rule])), v)
    output, _ = fv.linear_attention(q, k, v, form=form[0], chunk=form[1], **ours(rule))
    oracle.close(output, exact)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_key_at_once(form: tuple[str, int | None]) -> None:
    q, k, v = inputs(Q, K)
    w = torch.einsum("bhqf,bhkf->bhqk", elu(q), elu(k)[:, [h // (H // G) for h in range(H)]])
    output, weights = fv.linear_attention(q, k, v, causal=False, form=form[0], chunk=form[1])
    oracle.close(output, oracle.output(share(w), v))
    oracle.close(weights.dense(), share(w))


# the weights


@functools.cache
def _exact_map(rule: str) -> Tensor:
    torch.manual_seed(0)
    return defined_weights(*inputs(7)[:2], phi=phi_of(rule), **RULES[rule])


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("span", [3, 100])
def test_the_map_is_the_definition(rule: str, normalize: bool, span: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if normalize and "delta" in rule:
        return
    monkeypatch.setattr("foveate.linear.kernels.SPAN", span)
    monkeypatch.setattr("foveate.linear.kernels.SPAN_BY_CHANNEL", span)
    q, k, v = inputs(7)
    exact = _exact_map(rule)
    exact = share(exact) if normalize else exact
    _, weights = fv.linear_attention(q, k, v, normalize=normalize, **ours(rule))
    oracle.close(weights.dense(), exact)
    oracle.close(weights[1, 2:4, 3], exact[1, 2:4, 3])
    oracle.close(weights[0, 4, 2:6, 3:8], exact[0, 4, 2:6, 3:8])
    oracle.close(weights[..., [6, 0, 3], :], exact[..., [6, 0, 3], :])
    oracle.close(weights[1, 5, [6, 0, 3, 3], [8, 2, 10, 0]], exact[1, 5, [6, 0, 3, 3], [8, 2, 10, 0]])
    oracle.close(
        weights[..., [1, 0, 1], [2, 5, 2], [3, 6, 0], [10, 4, 1]], exact[[1, 0, 1], [2, 5, 2], [3, 6, 0], [10, 4, 1]]
    )
    oracle.close(weights.reduce(fv.stats.Received()), exact.sum(-2))
    oracle.close(weights.to(torch.float64).dense(), exact)


@pytest.mark.parametrize("rule", RULES)
def test_the_oracle_of_the_package_agrees(rule: str) -> None:
    q, k, v = inputs()
    output, weights = fv.linear_attention(q, k, v, **ours(rule))
    for name in ("blocks", "reference"):
        oracle.close(fv_backend(name, weights, v), output)


def fv_backend(name: str, weights: fv.AttentionMap, v: Tensor) -> Tensor:
    from foveate.operator import BACKENDS

    return BACKENDS[name](weights.problem, v, 0.0)


def test_what_it_says_of_itself() -> None:
    q, k, v = inputs(keys=N)
    assert "score=kernel, mask=causal, normalizer=proportional, holds" in repr(fv.linear_attention(q, k, v)[1])
    weights = fv.linear_attention(q, k, v, **ours("gated delta"))[1]
    assert "score=kernel with gate and delta rule, mask=causal, normalizer=unscaled" in repr(weights)
    parts = weights.explain(0, 1, 4, 2)
    assert parts["weight"] == pytest.approx(float(weights[0, 1, 4, 2]), rel=1e-12)
    assert parts["products"] is None and parts["normalizer"] == "unscaled"
    assert not weights.explain(0, 1, 2, 4)["allowed"] and weights.explain(0, 1, 2, 4)["weight"] == 0


@pytest.mark.parametrize("rule", RULES)
def test_score_and_normalizer_can_be_stored(rule: str) -> None:
    """The same map from a description in JSON and tensors, as recordings keep them."""
    q, k, v = inputs()
    for options in (ours(rule), {"feature_map": linear.favor(D), "normalize": False}):
        _, weights = fv.linear_attention(q, k, v, **options)
        score, normalizer = (restore(*describe(part)) for part in (weights.score, weights.normalizer))
        again = fv.AttentionMap(q, k, score=score, normalizer=normalizer, mask=weights.mask)
        assert torch.equal(again.dense(), weights.dense())


def test_top_weights_without_a_dense_map() -> None:
    q, k, v = oracle.inputs((), heads=1, groups=1, queries=600, keys=600, width=3, dtype=torch.float64)
    _, weights = fv.linear_attention(q, k, v, gate=-0.01 * torch.ones(1, 600, dtype=torch.float64))
    best = weights.reduce(fv.stats.TopK(2))
    wanted = weights.dense().topk(2)
    oracle.close(best.values, wanted.values)
    assert torch.equal(best.indices, torch.where(wanted.values == 0, -1, wanted.indices))
