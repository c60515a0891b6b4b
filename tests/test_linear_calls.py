"""Linear attention as it is called: states, masks, feature maps, gradients, long ranges, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import foveate as fv
import oracle
from foveate import linear, masks
from oracle import B, D, G, H, K, Q, V
from test_linear import RULES, N, defined, defined_weights, elu, inputs, ours, share

# states


@pytest.mark.parametrize("form", ["parallel", "chunked", "recurrent"])
@pytest.mark.parametrize("rule", RULES)
def test_two_calls_are_one(rule: str, form: str) -> None:
    """Output, state and weights of the second part, whose rows are those of the whole."""
    q, k, v = inputs()
    whole = linear.run(q, k, v, **ours(rule))
    cut = 4
    first, second = _parts(ours(rule), cut)
    a = linear.run(q[:, :, :cut], k[:, :, :cut], v[:, :, :cut], form=form, chunk=3, **first)
    b = linear.run(q[:, :, cut:], k[:, :, cut:], v[:, :, cut:], form=form, chunk=3, state=a.state, **second)
    oracle.close(torch.cat([a.output, b.output], 2), whole.output)
    assert a.state is not None and b.state is not None and whole.state is not None
    oracle.close(b.state.memory, whole.state.memory)
    oracle.close(b.weights.dense(), whole.weights.dense()[..., cut:, cut:])
    if whole.state.total is not None:
        assert b.state.total is not None and whole.state.total.shape == (B, G, D)
        oracle.close(b.state.total, whole.state.total)


def _parts(options: dict[str, Any], cut: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the first keys and of the others; one gate for all keys stays."""
    first, second = dict(options), dict(options)
    for name, t in options.items():
        if isinstance(t, Tensor) and (t.shape[-1] == N or t.ndim == 4):
            first[name], second[name] = t.narrow(2, 0, cut), t.narrow(2, cut, N - cut)
    return first, second


def test_token_by_token() -> None:
    q, k, v = inputs()
    whole, _ = fv.linear_attention(q, k, v)
    state, rows = None, []
    for i in range(N):
        at = slice(i, i + 1)
        output, weights, state = linear.run(q[:, :, at], k[:, :, at], v[:, :, at], state=state)
        rows.append(output)
        assert weights.shape == (B, H, 1, 1)
    oracle.close(torch.cat(rows, 2), whole)


def test_a_state_that_is_one_tensor() -> None:
    q, k, v = inputs()
    start = torch.randn(B, G, D, V, dtype=torch.float64)
    exact, end = defined(q, k, v, phi=lambda x: x, state=start)
    got = linear.run(q, k, v, feature_map="identity", normalize=False, state=start)
    oracle.close(got.output, exact)
    assert got.state is not None
    oracle.close(got.state.memory, end)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_shapes_rules_and_cuts(data) -> None:
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 99)))
    groups, shared, width = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    queries = draw(st.integers(0, 9))
    keys = queries + draw(st.integers(0, 5))
    q, k, v = oracle.inputs((2,), groups * shared, groups, queries, keys, width, draw(st.integers(1, 3)))
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        shape = draw(
            st.sampled_from([(2, groups, keys, 1), (groups, 1, 1), (2, groups, keys, width), (1, 1, keys, width)])
        )
        options["gate"] = -draw(st.sampled_from([0.1, 3.0, 300.0])) * torch.rand(shape, dtype=torch.float64)
    if draw(st.booleans()):
        options["beta"] = torch.rand(2, groups, keys, dtype=torch.float64)
        k = torch.nn.functional.normalize(k, dim=-1)
    exact, state = defined(q, k, v, phi=lambda x: x, **options)
    if "gate" in options and (options["gate"].ndim < 4 or options["gate"].shape[-1] == 1 != width):
        options["gate"] = options["gate"][..., 0]
    form = draw(st.sampled_from(linear.attend.FORMS))
    chunk = draw(st.none() | st.integers(1, 12))
    got = linear.run(q, k, v, feature_map="identity", normalize=False, form=form, chunk=chunk, **options)
    torch.testing.assert_close(got.output, exact, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(got.state.memory, state, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(oracle.output(got.weights.dense(), v), exact, rtol=1e-9, atol=1e-11)


# masks


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_stays_linear(causal: bool, side: Any) -> None:
    q, k, v = inputs()
    padding = masks.padding([N - 3, N], side=side)
    mask = masks.causal() & padding if causal else padding
    allowed = oracle.table(mask, queries=N, keys=N)
    w = torch.einsum("bhqf,bhkf->bhqk", elu(q), elu(k).repeat_interleave(H // G, 1)) * allowed
    w = w / w.sum(-1, keepdim=True).where(w.sum(-1, keepdim=True) != 0, 1.0)
    v = v.masked_fill(~oracle.table(padding, queries=N, keys=N)[:, :G, 0, :, None], torch.nan)  # is not read
    for form in ("chunked", "recurrent"):
        output, weights = fv.linear_attention(q, k, v, causal=mask, form=form, chunk=4)
        oracle.close(output, oracle.output(w, v.nan_to_num()))
        oracle.close(weights.dense(), w)


def test_any_other_mask_is_computed_as_the_map_is() -> None:
    q, k, v = inputs()
    for mask in (masks.window(2), masks.causal() & masks.window(3), masks.documents([0] * 4 + [1] * 7)):
        w = torch.einsum("bhqf,bhkf->bhqk", elu(q), elu(k).repeat_interleave(H // G, 1))
        w = share(w * oracle.table(mask, queries=N, keys=N))
        output, weights = fv.linear_attention(q, k, v, causal=mask)
        oracle.close(output, oracle.output(w, v))
        oracle.close(weights.dense(), w)
    with pytest.raises(ValueError, match=r"no recurrence gives the mask window\(2, 2\); use form='parallel'"):
        fv.linear_attention(q, k, v, causal=masks.window(2), form="chunked")


# feature maps


@pytest.mark.parametrize("name", ["elu", "relu", "favor", "identity"])
def test_named_feature_maps(name: str) -> None:
    q, k, v = inputs()
    phi = {
        "elu": elu,
        "relu": lambda x: x.clamp(min=0),
        "identity": lambda x: x,
        "favor": linear.favor(D),
    }[name]
    exact = oracle.output(share(defined_weights(q, k, phi=phi)), v)
    if name == "relu":  # whose first rows may see nothing but zeros
        exact = exact.nan_to_num()
    got, weights = fv.linear_attention(q, k, v, feature_map=name, chunk=3)
    torch.testing.assert_close(got, exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(oracle.output(weights.dense(), v), exact, rtol=1e-9, atol=1e-9)


def test_relu_rows_of_zeros_read_zeros() -> None:
    q, k, v = inputs()
    q[0, 1] = -1.0
    for form in ("parallel", "chunked", "recurrent"):
        output, weights = fv.linear_attention(q, k, v, feature_map="relu", form=form)
        assert (output[0, 1] == 0).all() and (weights[0, 1] == 0).all() and torch.isfinite(output).all()


def test_favor_is_unbiased_and_its_error_falls() -> None:
    """The mean over draws lies within 4 standard errors of the softmax kernel; 16 times the features, 1/4 the error."""
    q, k = 0.5 * torch.randn(2, 5, 8, dtype=torch.float64)
    exact = torch.exp(q @ k.mT * 8**-0.5)
    error = {}
    for features in (8, 128):
        first = linear.favor(8, features)
        draws = torch.stack([phi(q) @ phi(k).mT for phi in map(first.redraw, range(100))])
        standard = draws.std(0) / 100**0.5
        assert ((draws.mean(0) - exact).abs() < 4 * standard).all()
        error[features] = float((draws - exact).square().mean().sqrt())
    assert 2.7 < error[8] / error[128] < 6


def test_favor_is_orthogonal_and_repeats() -> None:
    phi = linear.favor(7, 17, seed=3)
    assert torch.equal(phi.projection, linear.favor(7, 17, seed=3).projection) and phi.projection.shape == (17, 7)
    assert not torch.equal(phi.projection, phi.redraw(4).projection)
    block = phi.projection[7:14]
    oracle.close(block @ block.mT, torch.diag(block.square().sum(-1)))
    assert linear.favor(8).projection.shape == (17, 8)  # 8 log 8, rounded up
    lengths = torch.cat([linear.favor(7, 700, seed=s).projection.square().sum(-1) for s in range(3)])
    assert 6.5 < float(lengths.mean()) < 7.5  # as those of Gaussian rows


def test_favor_approximates_softmax_attention() -> None:
    q, k, v = (0.5 * t for t in inputs())
    exact, _ = fv.attention(q, k, v, mask=masks.causal())
    few, many = (
        float((fv.linear_attention(q, k, v, feature_map=linear.favor(D, n))[0] - exact).norm() / exact.norm())
        for n in (16, 4096)
    )
    assert many < 0.05 < few


def test_a_learned_map_learns_the_weights_of_softmax() -> None:
    q, k, v = inputs(lead=(1,))
    heads = torch.nn.ModuleList([linear.Hedgehog(n, D).double() for n in (H, G)])
    target = fv.AttentionMap(q, k, mask=masks.causal()).dense()
    optimizer = torch.optim.Adam(heads.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        _, weights = fv.linear_attention(q, k, v, feature_map=(heads[0], heads[1]))
        loss = (weights.dense() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    output, weights = fv.linear_attention(q, k, v, feature_map=(heads[0], heads[1]))
    oracle.close(oracle.output(weights.dense(), v), output)
    assert heads[0](q).shape == (1, H, N, 2 * D)


# gradients


@pytest.mark.parametrize("rule", ["plain", "gate per feature", "gated delta"])
def test_gradients(rule: str) -> None:
    q, k, v = (t.requires_grad_() for t in oracle.inputs((1,), 2, 1, 3, 4, 2, 2))
    options = {
        n: t[(slice(1), slice(1), slice(4), slice(2))[: t.ndim]].clone().requires_grad_()
        for n, t in RULES[rule].items()
    }

    def call(q: Tensor, k: Tensor, v: Tensor, *others: Tensor) -> Tensor:
        given = dict(zip(options, others, strict=True))
        if "gate" in given and given["gate"].shape[-1] == 1:
            given["gate"] = given["gate"][..., 0]
        return fv.linear_attention(q, k, v, chunk=2, **given)[0]

    assert torch.autograd.gradcheck(call, (q, k, v, *options.values()))
    assert torch.autograd.gradgradcheck(call, (q, k, v, *options.values()))


def test_gradients_keep_no_square() -> None:
    """What autograd saves grows with n, not with n x n: counted in numbers, for twice the length."""
    saved, held = {}, {}
    for n in (512, 1024):
        q, k, v = (t.requires_grad_() for t in oracle.inputs((), 1, 1, n, n, 4, 4, torch.float32))
        with torch.autograd.graph.saved_tensors_hooks(lambda t: _count(held, t), lambda t: t):
            fv.linear_attention(q, k, v, chunk=32)[0].sum()
        saved[n] = sum(held.values())
        held.clear()
    assert saved[1024] < 2.2 * saved[512] < 1024 * 1024


def _count(held: dict[int, int], t: Tensor) -> Tensor:
    held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // 4
    return t


def test_gradients_of_the_map() -> None:
    q, k, v = (t.requires_grad_() for t in inputs())
    output, weights = fv.linear_attention(q, k, v, **ours("gated delta"))
    a = torch.autograd.grad(output.square().sum(), (q, k), retain_graph=True)
    b = torch.autograd.grad((weights.dense() @ v.repeat_interleave(H // G, 1)).square().sum(), (q, k))
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-11)


# numbers


@pytest.mark.parametrize("features", [1, D])
def test_long_ranges_do_not_overflow(features: int) -> None:
    """A gate that forgets by e^-40 at each of 300 keys: exp of the summed logarithms alone would be inf and 0."""
    q, k, v = oracle.inputs((), 1, 1, 300, 300, dtype=torch.float32)
    gate = torch.full((1, 300, features), -40.0)
    for form in ("parallel", "chunked", "recurrent"):
        output, weights = fv.linear_attention(q, k, v, gate=gate if features > 1 else gate[..., 0], form=form)
        torch.testing.assert_close(output, v)  # nothing but the key itself is left
        torch.testing.assert_close(weights[0, 200, 198:203], torch.tensor([0.0, 0, 1, 0, 0]), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("form", ["parallel", "chunked", "recurrent"])
def test_a_gate_of_minus_infinity_forgets(form: str) -> None:
    q, k, v = inputs()
    gate = torch.zeros(N, dtype=torch.float64)
    gate[6] = -torch.inf
    output, weights = fv.linear_attention(q, k, v, gate=gate, form=form)
    again, _ = fv.linear_attention(q[:, :, 6:], k[:, :, 6:], v[:, :, 6:])
    oracle.close(output[:, :, 6:], again)
    assert (weights[..., 6:, :6] == 0).all() and (weights[..., :6, :6].sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_as_exact_as_the_plain_formula(dtype: torch.dtype) -> None:
    q, k, v = (t.to(dtype) for t in oracle.inputs((2,), 3, 3, 200, 200))
    w = torch.einsum("bhqd,bhkd->bhqk", elu(q.double()), elu(k.double())).tril()
    plain = torch.einsum("bhqd,bhkd->bhqk", elu(q.float()), elu(k.float())).tril()
    plain = (share(plain) @ v.float()).to(dtype)
    output, _ = fv.linear_attention(q, k, v)
    assert output.dtype == dtype
    oracle.as_good_as(output, plain, share(w) @ v.double())


def test_nan_stays_in_its_rows() -> None:
    q, k, v = inputs()
    q[0, 1, 3] = torch.nan
    for form in ("parallel", "chunked", "recurrent"):
        output, weights = fv.linear_attention(q, k, v, form=form)
        lost = torch.isnan(output).any(-1)
        assert lost[0, 1, 3] and lost.sum() == 1 and torch.equal(weights.nan_rows(), lost)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
@pytest.mark.parametrize("rule", ["plain", "scalar gate", "gated delta"])
def test_what_is_not_finite_reaches_no_earlier_query(rule: str, odd: float) -> None:
    q, k, v = inputs()
    exact, _ = fv.linear_attention(q, k, v, **ours(rule))
    for i, place in ((1, (1, 2, 6, 3)), (2, (1, 2, 6, 4))):
        given = [q, k.clone(), v.clone()]
        given[i][place] = odd
        output, _ = fv.linear_attention(*given, **ours(rule))
        oracle.close(output[0], exact[0])
        oracle.close(output[1, :, :6], exact[1, :, :6])
        assert not torch.isfinite(output[1, 4:, 6:]).all(-1).any() and torch.isfinite(output[1, :4]).all()


def test_other_layouts_and_arrays() -> None:
    q, k, v = inputs(lead=(2, 3))
    flat, _ = fv.linear_attention(*(t.flatten(0, 1) for t in (q, k, v)))
    output, weights, state = linear.run(q, k, v)
    oracle.close(output.flatten(0, 1), flat)
    assert weights.shape == (2, 3, H, N, N) and state is not None and state.memory.shape == (2, 3, G, D, V)
    one, weights, state = linear.run(q[0, 0, 0].numpy(), k[0, 0, 0].numpy(), v[0, 0, 0].numpy(), gate=np.full(N, -0.5))
    exact = share(defined_weights(q[:1, 0, :1], k[:1, 0, :1], gate=torch.full((1, 1, 1), -0.5).double()))
    np.testing.assert_allclose(one, oracle.output(exact, v[:1, 0, :1])[0, 0], rtol=1e-11)
    assert isinstance(weights[0], np.ndarray) and state is not None and state.memory.shape == (D, V)
    assert state.total.shape == (D,)
    again = linear.run(q[0, 0, 0].numpy(), k[0, 0, 0].numpy(), v[0, 0, 0].numpy(), state=state, gate=np.full(N, -0.5))
    assert isinstance(again.output, np.ndarray)


def test_empty_axes() -> None:
    for queries, keys in ((0, 0), (0, 3)):
        q, k, v = oracle.inputs(queries=queries, keys=keys)
        output, weights = fv.linear_attention(q, k, v)
        assert output.shape == (B, H, queries, V) and weights.dense().shape == (B, H, queries, keys)
    q, k, v = oracle.inputs(keys=0)
    assert (fv.linear_attention(q, k, v, causal=False)[0] == 0).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"form": "fast"}, "unknown form 'fast'; expected one of 'auto', 'parallel', 'chunked', 'recurrent'"),
        ({"chunk": 0}, "chunk must be at least 1; got 0"),
        (
            {"feature_map": "exp"},
            r"unknown feature map 'exp'; expected 'elu', 'relu', 'identity', 'favor' or a function",
        ),
        ({"feature_map": 3}, "unknown feature map int; expected"),
        ({"feature_map": ("elu", "elu", "elu")}, "one map, or one for queries and one for keys; got 3"),
        ({"feature_map": linear.favor(5)}, f"FAVOR\\+ features are for width 5; the queries have {D}"),
        ({"feature_map": ("elu", linear.favor(D, 3))}, "must give equally many features"),
        ({"gate": torch.full((N,), 0.5)}, "a gate holds logarithms, at most 0"),
        (
            {"gate": torch.zeros(N + 1)},
            rf"gate must broadcast to \(..., key heads, keys, features\) = \(2, 3, {N}, 11\)",
        ),
        (
            {"beta": torch.zeros(H, N)},
            rf"beta must broadcast to \(..., key heads, keys\) = \(2, 3, {N}\); got \(6, {N}\)",
        ),
        ({"beta": torch.zeros(N), "normalize": True}, "the delta rule has no row sums to divide by"),
        ({"beta": torch.zeros(N), "causal": False}, "gate and beta go with causal=True"),
        ({"gate": torch.zeros(N), "causal": masks.window(3)}, "gate and beta go with causal=True"),
        ({"beta": torch.zeros(N), "causal": masks.causal() & masks.padding([3, 4])}, "gate and beta go with causal"),
        ({"state": torch.zeros(B, G, D, V)}, "normalised weights need a state with a total"),
        ({"state": linear.State(torch.zeros(1), torch.zeros(1)), "normalize": False}, "are not normalised; go on with"),
        (
            {"state": torch.zeros(B, G, V, D), "normalize": False},
            r"memory must have shape \(2, 3, 11, 13\); got \(2, 3, 13",
        ),
    ],
)
def test_what_it_refuses(options: dict[str, Any], text: str) -> None:
    q, k, v = inputs()
    with pytest.raises(ValueError, match=text):
        fv.linear_attention(q, k, v, **options)


def test_more_queries_than_keys() -> None:
    q, k, v = oracle.inputs(queries=K, keys=Q)
    with pytest.raises(ValueError, match="causal linear attention needs a key for every query; got 7 and 5"):
        fv.linear_attention(q, k, v)
    assert fv.linear_attention(q, k, v, causal=False)[0].shape == (B, H, K, V)


def test_favor_refuses() -> None:
    with pytest.raises(ValueError, match="a width and a number of features of at least 1; got 4 and 0"):
        linear.favor(4, 0)


class Fast(nn.Module):
    """A model that attends in linear time, over everything before, its parts as it was made with."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = fv.linear_attention(q, k, v, **self.options)[0]
        return out


@pytest.mark.parametrize(
    "options",
    [{}, {"gate": torch.linspace(-1, 0, K)}, {"beta": torch.full((G, K), 0.3), "feature_map": "identity"}],
    ids=["plain", "gate", "delta"],
)
def test_watch_sees_it_and_a_recording_keeps_it(options: dict[str, Any], tmp_path: Path) -> None:
    q, k, v = oracle.inputs()
    model = Fast(options)
    plain = model(q, k, v)
    with fv.watch(model, dtype=torch.float64) as seen:
        assert torch.equal(model(q, k, v), plain)
    expected = fv.linear_attention(q, k, v, **options)[1].dense()
    assert torch.equal(seen["Fast"].dense(), expected)
    seen.save(tmp_path / "run.fov")
    assert torch.equal(fv.load(tmp_path / "run.fov")["Fast"].dense(), expected)
