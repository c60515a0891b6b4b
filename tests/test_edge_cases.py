"""The operator where other libraries differ among themselves, one test for each such case.

`sdpa`, asked for by name, either does what is promised or refuses; it never gives another answer.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import foveate as fv
import oracle
from oracle import B, D, G, H, K, Q, V

BACKENDS = ["auto", "reference", "sdpa", "blocks"]
ANY = ["auto", "reference", "blocks"]  # those that take everything
every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_able_backend = pytest.mark.parametrize("backend", ANY)


def leaves(dtype: torch.dtype = torch.float64, **sizes: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (t.requires_grad_() for t in oracle.inputs(dtype=dtype, **sizes))
    return q, k, v


def gradients(out: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum(), inputs))


EMPTY_ROWS: dict[str, Callable[[], object]] = {
    "tensor": lambda: torch.tensor([True, False, True, True, False])[:, None].expand(Q, K),
    "padding": lambda: fv.masks.padding([0, 3]),
    "window": lambda: fv.masks.window(1) & fv.masks.prefix(3),
    "documents": lambda: fv.masks.documents([1] * K) & ~fv.masks.prefix(K),
    "where": lambda: fv.masks.where(lambda b, h, q, k: (q > 1) & (k > 2)),
    "start": lambda: fv.masks.causal("start") & ~fv.masks.prefix(2),
}


@every_backend
@pytest.mark.parametrize("name", EMPTY_ROWS)
def test_a_row_that_may_see_no_key(backend: str, name: str) -> None:
    q, k, v = leaves()
    mask = EMPTY_ROWS[name]()
    allowed = mask if isinstance(mask, Tensor) else oracle.table(mask)
    empty = ~allowed.expand(B, H, Q, K).any(-1)
    assert empty.any()
    out, weights = fv.attention(q, k, v, mask=mask, backend=backend)
    assert (out[empty] == 0).all() and (weights.dense()[empty] == 0).all()
    assert (weights[:, :, :, 1:4][empty] == 0).all()
    lse = weights.logsumexp()
    assert (lse[empty] == -torch.inf).all() and torch.isfinite(lse[~empty]).all()
    assert not weights.nan_rows().any()
    entropy, top = weights.reduce(fv.stats.Entropy(), fv.stats.TopK(2))
    assert (entropy[empty] == 0).all() and (top.indices[empty] == -1).all() and (top.values[empty] == 0).all()
    found = gradients(out, q, k, v)
    assert all(torch.isfinite(g).all() for g in found) and (found[0][empty] == 0).all()
    assert all(torch.isfinite(g).all() for g in gradients(weights.dense(), q, k))


@every_backend
def test_more_queries_than_keys_leaves_the_first_without_any(backend: str) -> None:
    q, k, v = oracle.inputs(queries=7, keys=5)
    out, weights = fv.attention(q, k, v, mask=fv.masks.causal(), backend=backend)
    assert (out[:, :, :2] == 0).all() and (weights.logsumexp()[:, :, :2] == -torch.inf).all()
    assert (out[:, :, 2:] != 0).all()


@every_backend
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lowest", ["finfo.min", "-inf"])
def test_a_float_mask_of_the_lowest_number(backend: str, dtype: torch.dtype, lowest: str) -> None:
    """A row of only such entries sees nothing; one such entry hides its key; large negative numbers hide nothing."""
    q, k, v = leaves(dtype)
    hidden = torch.finfo(dtype).min if lowest == "finfo.min" else -torch.inf
    bias = torch.zeros(Q, K, dtype=dtype)
    bias[1] = hidden
    bias[2, 3:] = hidden
    bias[4] = -1e4
    out, weights = fv.attention(q, k, v, bias=bias, backend=backend)
    assert (out[:, :, 1] == 0).all() and (weights[:, :, 1] == 0).all()
    assert (weights.logsumexp()[:, :, 1] == -torch.inf).all()
    assert (weights[:, :, 2, 3:] == 0).all()
    plain, _ = fv.attention(q[:, :, 2:3], k[:, :, :3], v[:, :, :3], backend="reference")
    torch.testing.assert_close(out[:, :, 2:3], plain)
    unbiased, _ = fv.attention(q[:, :, 4:], k, v, backend="reference")
    torch.testing.assert_close(out[:, :, 4:], unbiased, rtol=0.02, atol=0.02)  # -1e4 costs the scores digits
    assert all(torch.isfinite(g).all() for g in gradients(out, q, k, v))


@every_backend
def test_causal_is_explicit_about_its_corner(backend: str) -> None:
    q, k, v = oracle.inputs()
    end = torch.ones(Q, K, dtype=torch.bool).tril(K - Q)
    start = torch.ones(Q, K, dtype=torch.bool).tril()
    out, weights = fv.attention(q, k, v, mask=fv.masks.causal(), backend=backend)
    oracle.close(weights.dense(), oracle.weights(q, k, allowed=end))
    oracle.close(out, oracle.output(weights.dense(), v))
    out, weights = fv.attention(q, k, v, mask=fv.masks.causal(align="start"), backend=backend)
    oracle.close(weights.dense(), oracle.weights(q, k, allowed=start))
    torch_own = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    oracle.close(out, torch_own)


@every_backend
def test_masks_compose_and_there_is_no_flag(backend: str) -> None:
    q, k, v = oracle.inputs()
    mine = torch.rand(B, 1, Q, K) < 0.7
    out, weights = fv.attention(q, k, v, mask=fv.masks.causal() & fv.masks.tensor(mine), backend=backend)
    both = mine & torch.ones(Q, K, dtype=torch.bool).tril(K - Q)
    oracle.close(weights.dense(), oracle.weights(q, k, allowed=both))
    oracle.close(out, oracle.output(weights.dense(), v))
    with pytest.raises(TypeError, match="unexpected keyword argument 'is_causal'"):
        fv.attention(q, k, v, is_causal=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"wrap a tensor in masks.tensor\(...\); got Tensor"):
        fv.masks.causal() & mine  # type: ignore[operator]


@every_backend
@pytest.mark.parametrize("length", [K + 1, K - 1, 1, 0])
def test_values_of_another_length_than_keys(backend: str, length: int) -> None:
    q, k, _ = oracle.inputs()
    with pytest.raises(ValueError, match=rf"same length K; got \(2, 3, 7, 11\) and \(2, 3, {length}, 13\)"):
        fv.attention(q, k, torch.zeros(B, G, length, V, dtype=torch.float64), backend=backend)


def _nan_query(q: Tensor, k: Tensor) -> dict:
    q[1, 2, 3, 4] = torch.nan
    return {}


def _nan_key(q: Tensor, k: Tensor) -> dict:
    k[1, 1, 6] = torch.nan
    return {"mask": fv.masks.causal("start") | (fv.masks.where(lambda b, h, q, k: (b == 1) & (h == 2) & (q == 3)))}


def _overflow(q: Tensor, k: Tensor) -> dict:
    q[1, 2, 3] = 1e30
    k[1] = k[1].abs() * 1e15
    return {}


def _overflow_below(q: Tensor, k: Tensor) -> dict:
    q[1, 2, 3] = -1e30
    k[1] = k[1].abs() * 1e15
    return {"mask": fv.masks.causal()}


def _nan_bias(q: Tensor, k: Tensor) -> dict:
    bias = torch.zeros(B, H, Q, K)
    bias[1, 2, 3, 0] = torch.nan
    return {"bias": bias}


@every_backend
@pytest.mark.parametrize("how", [_nan_query, _nan_key, _overflow, _overflow_below, _nan_bias])
def test_nan_and_overflow_show_in_their_rows_only(backend: str, how: Callable) -> None:
    q, k, v = oracle.inputs(dtype=torch.float32)
    parts = how(q, k)
    if backend == "sdpa":
        with pytest.raises(ValueError, match="its inputs hold NaN or Inf, or numbers so large"):
            fv.attention(q, k, v, backend=backend, **parts)
        return
    out, weights = fv.attention(q, k, v, backend=backend, **parts)
    rows = torch.zeros(B, H, Q, dtype=torch.bool)
    rows[1, 2, 3] = True
    assert torch.equal(weights.nan_rows(), rows)
    assert torch.equal(torch.isnan(out), rows[..., None].expand_as(out))
    assert torch.equal(torch.isnan(weights.dense()), rows[..., None].expand(B, H, Q, K))
    assert torch.isnan(weights[1, 2, 3, 0]) and not torch.isnan(weights[0, 2, 3]).any()


@every_able_backend
def test_a_scale_of_nan_is_nan(backend: str) -> None:
    q, k, v = oracle.inputs()
    out, weights = fv.attention(q, k, v, scale=float("nan"), backend=backend)
    assert torch.isnan(out).all() and torch.isnan(weights.dense()).all() and weights.nan_rows().all()
    out, weights = fv.attention(q, k, v, scale=float("nan"), mask=fv.masks.prefix(0), backend=backend)
    assert (out == 0).all() and (weights.dense() == 0).all() and not weights.nan_rows().any()


@every_backend
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_lies_in_a_masked_value_does_not_matter(backend: str, bad: float) -> None:
    q, k, v = leaves()
    mask = fv.masks.causal() & fv.masks.padding([4, 6])
    expected, _ = fv.attention(q, k, v, mask=mask, backend="reference")
    wanted = gradients(expected, q, k, v)
    spoilt = v.detach().clone()
    spoilt[0, :, 4:] = bad
    spoilt[1, :, 6:, ::2] = bad
    spoilt.requires_grad_()
    if backend == "sdpa":
        with pytest.raises(ValueError, match="its inputs hold NaN or Inf"):
            fv.attention(q, k, spoilt, mask=mask, backend=backend)
        return
    out, _ = fv.attention(q, k, spoilt, mask=mask, backend=backend)
    oracle.close(out.detach(), expected.detach())
    for a, b in zip(gradients(out, q, k, spoilt), wanted, strict=True):
        oracle.close(a, b)
    weights = fv.AttentionMap(q, k, value=spoilt, mask=mask)
    assert weights.explain(0, 1, 2, 5)["contribution"] == [0.0] * V
    oracle.close(torch.tensor(weights.explain(0, 1, 2, 3)["output"], dtype=v.dtype), expected[0, 1, 2].detach())


@every_able_backend
def test_what_lies_in_a_value_that_is_read_does_matter(backend: str) -> None:
    q, k, v = oracle.inputs()
    v[0, 0, 1, 0], v[0, 0, 2, 1], v[0, 0, 3, 2] = torch.nan, torch.inf, -torch.inf
    v[0, 0, 2, 3], v[0, 0, 3, 3] = torch.inf, -torch.inf
    out, _ = fv.attention(q, k, v, mask=fv.masks.causal("start"), backend=backend)
    first = out[0, 0, :, :5]
    assert torch.isnan(first[1:, 0]).all() and torch.isfinite(first[0]).all()
    assert (first[2:, 1] == torch.inf).all() and (first[3:, 2] == -torch.inf).all()
    assert (first[2, 3] == torch.inf) and torch.isnan(first[3:, 3]).all()
    assert torch.isfinite(first[:, 4]).all() and torch.isfinite(out[1]).all() and torch.isfinite(out[:, 2:]).all()


@every_backend
def test_plus_infinity_in_a_bias_is_an_error(backend: str) -> None:
    q, k, v = oracle.inputs()
    bias = torch.zeros(Q, K, dtype=torch.float64)
    bias[1, 2] = torch.inf
    with pytest.raises(ValueError, match=r"a bias may not hold \+inf; -inf hides a key"):
        fv.attention(q, k, v, bias=bias, backend=backend)
    with pytest.raises(TypeError, match=r"a mask holds booleans, True = may attend; got torch.float64"):
        fv.attention(q, k, v, mask=bias, backend=backend)


@every_able_backend
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, Q, K), (B, 0, K), (B, Q, 0), (B, 0, 0), (0, 0, 0)])
def test_empty_axes(backend: str, batch: int, queries: int, keys: int, masked: bool) -> None:
    q, k, v = (t.requires_grad_() for t in oracle.inputs((batch,), queries=queries, keys=keys))
    parts = {"mask": fv.masks.causal(), "bias": torch.zeros(keys, dtype=torch.float64)} if masked else {}
    out, weights = fv.attention(q, k, v, backend=backend, **parts)
    assert out.shape == (batch, H, queries, V) and (out == 0).all()
    assert weights.dense().shape == weights.shape == (batch, H, queries, keys)
    assert weights.logsumexp().shape == (batch, H, queries) and (weights.logsumexp() == -torch.inf).all()
    entropy, received, pooled, pooled_mean = weights.reduce(
        fv.stats.Entropy(), fv.stats.Received(), fv.stats.Pooled(2, 2), fv.stats.Pooled(2, 2, "mean")
    )
    assert entropy.shape == (batch, H, queries) and received.shape == (batch, H, keys)
    assert pooled.shape == pooled_mean.shape == (batch, H, min(2, queries), min(2, keys))
    if keys:
        assert weights.reduce(fv.stats.TopK(2)).indices.shape == (batch, H, queries, 2)
    out.sum().backward()
    assert all(t.grad is None or torch.isfinite(t.grad).all() for t in (q, k, v))


def test_the_fused_kernel_refuses_empty_axes() -> None:
    q, k, v = oracle.inputs(keys=0)
    with pytest.raises(ValueError, match="one of its axes is empty"):
        fv.attention(q, k, v, backend="sdpa")


@every_backend
@pytest.mark.parametrize(("heads", "groups"), [(6, 4), (2, 3), (3, 6)])
def test_query_heads_are_a_multiple_of_key_heads(backend: str, heads: int, groups: int) -> None:
    q, k, v = oracle.inputs(heads=heads, groups=groups)
    with pytest.raises(ValueError, match=f"query heads must be a multiple of key heads; got {heads} and {groups}"):
        fv.attention(q, k, v, backend=backend)


@every_backend
def test_key_heads_equal_value_heads(backend: str) -> None:
    q, k, _ = oracle.inputs()
    for heads in (1, 6):
        v = torch.zeros(B, heads, K, V, dtype=torch.float64)
        with pytest.raises(ValueError, match=f"key and value must have the same number of heads; got 3 and {heads}"):
            fv.attention(q, k, v, backend=backend)


@every_backend
@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_is_a_probability_below_one(backend: str, dropout: float) -> None:
    q, k, v = oracle.inputs()
    with pytest.raises(ValueError, match="dropout must be at least 0 and less than 1"):
        fv.attention(q, k, v, dropout=dropout, backend=backend)


SHORT = [(), (1,), (K,), (1, K), (Q, 1), (Q, K), (H, 1, K), (1, Q, 1), (B, 1, 1, K), (1, H, Q, 1), (B, H, Q, K)]


@every_backend
@pytest.mark.parametrize("shape", SHORT)
def test_masks_and_biases_broadcast(backend: str, shape: tuple[int, ...]) -> None:
    q, k, v = oracle.inputs()
    mask = torch.rand(shape) < 0.7
    bias = torch.randn(shape, dtype=torch.float64)
    exact = oracle.weights(q, k, allowed=mask, bias=bias)
    out, weights = fv.attention(q, k, v, mask=mask, bias=bias, backend=backend)
    oracle.close(weights.dense(), exact)
    oracle.close(out, oracle.output(exact, v))


@every_backend
def test_masks_align_by_their_last_axes(backend: str) -> None:
    """Where all sizes are alike, nothing but the rule says which axes a short mask has."""
    q, k, v = oracle.inputs((3,), heads=3, groups=3, queries=3, keys=3)
    for axes in range(1, 5):
        mask, bias = torch.rand((3,) * axes) < 0.7, torch.randn((3,) * axes, dtype=torch.float64)
        exact = oracle.weights(q, k, allowed=mask.expand(3, 3, 3, 3), bias=bias.expand(3, 3, 3, 3))
        out, weights = fv.attention(q, k, v, mask=mask, bias=bias, backend=backend)
        oracle.close(weights.dense(), exact)
        oracle.close(out, oracle.output(exact, v))


@every_backend
@pytest.mark.parametrize("shape", [(Q,), (K, K), (Q, Q), (G, Q, K), (H, B, Q, K), (1, B, H, Q, K), (0,)])
def test_masks_that_do_not_broadcast(backend: str, shape: tuple[int, ...]) -> None:
    q, k, v = oracle.inputs()
    told = (
        r"must broadcast to \(..., heads, queries, keys\) = \(2, 6, 5, 7\); got " + str(shape).replace("(", r"\(")[:-1]
    )
    with pytest.raises(ValueError, match="mask " + told):
        fv.attention(q, k, v, mask=torch.ones(shape, dtype=torch.bool), backend=backend)
    with pytest.raises(ValueError, match="bias " + told):
        fv.attention(q, k, v, bias=torch.ones(shape, dtype=torch.float64), backend=backend)


def test_errors_speak_of_the_axes_the_caller_has() -> None:
    q, k, v = (t[0, 0] for t in oracle.inputs())
    with pytest.raises(ValueError, match=r"mask must broadcast to \(queries, keys\) = \(5, 7\); got \(7, 7\)"):
        fv.attention(q, k, v, mask=torch.ones(K, K, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask must broadcast to \(keys,\) = \(7,\); got \(5,\)"):
        fv.attention(q[0], k, v, mask=torch.ones(5, dtype=torch.bool))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own, on first use
def test_second_and_forward_derivatives_exist() -> None:
    """See test_gradients.py for their values."""
    q, k, v = leaves()
    out, _ = fv.attention(q, k, v, mask=fv.masks.causal())
    (g,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    (gg,) = torch.autograd.grad(g.square().sum(), k)
    assert torch.isfinite(gg).all() and (gg != 0).any()
    tangent = torch.ones_like(q)
    _, moved = torch.func.jvp(lambda t: fv.attention(t, k.detach(), v.detach())[0], (q.detach(),), (tangent,))
    assert torch.isfinite(moved).all() and (moved != 0).any()


@every_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_beyond_half_precision(backend: str, dtype: torch.dtype) -> None:
    q, k, v = oracle.inputs(dtype=dtype)
    q, k = q * 60, k * 60
    q[0, 0, 0], k[0, 0, 1] = 250, 250
    out, weights = fv.attention(q, k, v, scale=1.0, backend=backend)
    assert 250 * 250 * D > 65504
    exact = oracle.weights(q, k, scale=1.0)
    assert torch.isfinite(out).all() and weights.dense()[0, 0, 0, 1] == 1
    oracle.as_good_as(weights.dense(), exact.to(dtype), exact)
    oracle.as_good_as(out, oracle.output(exact, v).to(dtype), oracle.output(exact, v))


def test_a_map_is_a_live_view_of_queries_and_keys() -> None:
    query, key, _ = oracle.inputs()
    weights, kept = fv.AttentionMap(query, key), fv.AttentionMap(query.clone(), key)
    weights.logsumexp()  # from here on kept, for as long as it is right
    before = weights.dense()
    query.mul_(2.0)
    oracle.close(weights.dense(), oracle.weights(query, key))
    oracle.close(weights.logsumexp(), fv.AttentionMap(query, key).logsumexp())
    oracle.close(kept.dense(), before)
