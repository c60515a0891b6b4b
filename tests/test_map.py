"""`AttentionMap`: indexing against dense indexing, the dense limit, text, moving, explaining, the kept log-sum-exp."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import foveate as fv
import oracle
from foveate import AttentionMap, masks
from oracle import B, D, G, H, K, Q, V


def a_map(lead: tuple[int, ...] = (B,), dtype: torch.dtype = torch.float64, **parts: Any) -> AttentionMap:
    q, k, v = oracle.inputs(lead, dtype=dtype)
    return AttentionMap(q, k, value=v, **{"mask": masks.causal(), **parts})


# indexing


def _axis_index(n: int, arrays: bool) -> st.SearchStrategy:
    ints = st.integers(-n, n - 1)
    kinds = [ints, st.slices(n)]
    if arrays:
        some = st.lists(ints, max_size=4)
        kinds += [
            some,
            some.map(np.array),
            some.map(lambda x: torch.tensor(x, dtype=torch.int64)),
            ints.map(torch.tensor),
        ]
        kinds += [st.lists(st.booleans(), min_size=n, max_size=n), ints.map(np.int64), st.just([[0, -1], [n - 1, 0]])]
    return st.one_of(kinds)


@st.composite
def indices(draw, shape: tuple[int, ...]) -> Any:
    """One array index at most, anywhere, an ellipsis, and ints and slices elsewhere."""
    n = draw(st.integers(0, len(shape)))
    dots = draw(st.none() | st.integers(0, n))
    front = n if dots is None else dots
    sizes = [*shape[:front], *shape[len(shape) - (n - front) :]] if n else []
    array_at = draw(st.none() | st.integers(0, max(0, n - 1)))
    items = [draw(_axis_index(size, i == array_at)) for i, size in enumerate(sizes)]
    if dots is not None:
        items.insert(dots, ...)
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


def _plain(index: Any, kind: type) -> Any:
    """The same index in the terms of the library compared with."""
    items = index if isinstance(index, tuple) else (index,)
    if kind is Tensor:
        items = tuple(
            torch.as_tensor(i if i.dtype != float else i.astype(int)) if isinstance(i, np.ndarray) else i for i in items
        )
        items = tuple(torch.tensor(i, dtype=torch.int64) if isinstance(i, list) and not i else i for i in items)
        items = tuple(torch.tensor(i) if isinstance(i, list) else i for i in items)
        return tuple(int(i) if isinstance(i, np.integer) else i for i in items)
    items = tuple(np.asarray(i) if isinstance(i, list | Tensor) else i for i in items)
    return tuple(i.astype(int) if isinstance(i, np.ndarray) and i.size == 0 and i.dtype != bool else i for i in items)


def _by_torch(dense: Tensor, index: Any) -> Tensor:
    """Torch refuses negative steps; NumPy says what they mean."""
    items = _plain(index, Tensor)
    if any(isinstance(i, slice) and i.step is not None and i.step < 0 for i in items):
        if any(isinstance(i, Tensor) and i.ndim for i in items):
            return None  # type: ignore[return-value]
        items = tuple(int(i) if isinstance(i, Tensor) else i for i in items)
        return torch.from_numpy(np.array(dense.numpy()[items], order="C", copy=True))
    return dense[items]


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_index_gives_what_it_gives_on_dense_weights(lead: tuple[int, ...], data) -> None:
    torch.manual_seed(0)
    weights = a_map(lead)
    dense = weights.dense()
    index = data.draw(indices(tuple(weights.shape)))
    wanted = _by_torch(dense, index)
    if wanted is None:
        return
    if data.draw(st.booleans()):
        weights.logsumexp()
    got = weights[index]
    assert got.shape == wanted.shape
    oracle.close(got, wanted)


@pytest.mark.parametrize("lead", [(), (2, 3)], ids=str)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_arrays_are_indexed_as_numpy_does(lead: tuple[int, ...], data) -> None:
    torch.manual_seed(0)
    q, k, _ = (t.numpy() for t in oracle.inputs(lead))
    weights = AttentionMap(q, k, mask=masks.window(2))
    dense = weights.dense()
    index = data.draw(indices(tuple(weights.shape)))
    items = _plain(index, np.ndarray)
    if len(items) == dense.ndim + 1:  # NumPy moves axes for an ellipsis that stands for no axis; we do not
        items = tuple(i for i in items if i is not ...)
    wanted = dense[items]
    got = weights[index]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13)


@st.composite
def several_arrays(draw, shape: tuple[int, ...]) -> tuple:
    """Index arrays of shapes that broadcast, on two axes or more, ints and slices on the others."""
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=2))
    full = draw(st.sampled_from([(3,), (2, 3), (1,), (0,)]))
    items: list[Any] = []
    for i, n in enumerate(shape):
        if i in axes:
            one = tuple(draw(st.sampled_from([a, 1])) for a in full)
            count = int(np.prod(one))
            values = draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
            items.append(np.array(values, dtype=np.int64).reshape(one))
        else:
            items.append(draw(st.one_of(st.integers(-n, n - 1), st.just(slice(None)), st.just(slice(1, None, 2)))))
    return tuple(items)


@pytest.mark.parametrize("outer_limit", [0, 8])
@pytest.mark.parametrize("numpy", [False, True])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_several_index_arrays(outer_limit: int, numpy: bool, data) -> None:
    torch.manual_seed(0)
    q, k, _ = oracle.inputs((2, 3))
    weights = AttentionMap(q.numpy(), k.numpy()) if numpy else AttentionMap(q, k)
    dense = weights.dense()
    index = data.draw(several_arrays(tuple(weights.shape)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foveate.indexing.OUTER_LIMIT", outer_limit)
        got = weights[index]
    wanted = dense[index if numpy else tuple(torch.from_numpy(i) if isinstance(i, np.ndarray) else i for i in index)]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13)


def test_pairs_far_apart_cost_what_they_give() -> None:
    """Hundreds of (query, key) pairs under a slice of heads: not their outer product."""
    q, k, _ = oracle.inputs((), heads=2, groups=1, queries=20_000, keys=15_000, width=3)
    weights = AttentionMap(q, k)
    i, j = torch.arange(0, 20_000, 40), torch.arange(0, 15_000, 30)
    got = weights[:, i, j]
    assert got.shape == (2, 500)
    oracle.close(got[1, 499], weights[1, i[499]][j[499]])


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ((0, 0, 0, 0, 0), r"take 4 indices; got 5"),
        ((..., ...), "one ellipsis only"),
        ((None, 0), "take no new axis"),
        ((0, H), "index 6 is out of range for axis 1 of size 6"),
        ((0, -H - 1), "index -7 is out of range for axis 1"),
        ((slice(None), [0, H]), "an index array for axis 1 of size 6 is out of range"),
        (1.5, "indexed by ints, slices, an ellipsis and index arrays; got float"),
        ([0.5], "whole numbers or booleans; got torch.float64"),
        (torch.tensor(0.5), "whole numbers or booleans; got torch.float32"),
        (True, "a single boolean is no index"),
        (torch.tensor(True), r"must have shape \(2,\); got \(\)"),
        ("a", "got str"),
        ([True], r"a boolean index of axis 0 must have shape \(2,\); got \(1,\)"),
        (([0, 1], [0, 1, 2], 0, 0), "must broadcast"),
        (([0, 1], [0, 1, 2]), "must broadcast"),
        ([[0], [0, 1]], "."),
    ],
)
def test_indices_that_cannot_be(index: Any, text: str) -> None:
    with pytest.raises((IndexError, ValueError), match=text):
        a_map()[index]


def test_maps_without_head_or_query_axis() -> None:
    q, k, _ = (t[0, 0] for t in oracle.inputs())
    exact = oracle.weights(q[None], k[None])[0]
    weights = AttentionMap(q, k)
    oracle.close(weights[1:3, ::2], exact[1:3, ::2])
    oracle.close(weights[[1, 2], [0, 3]], exact[[1, 2], [0, 3]])
    one = AttentionMap(q[3], k)
    oracle.close(one[2:5], exact[3, 2:5])
    oracle.close(one[[6, -7]], exact[3, [6, 0]])
    assert one.logsumexp().shape == () and one.reduce(fv.stats.Received()).shape == (K,)
    assert one.reduce(fv.stats.TopK(2)).values.shape == (2,) and one.reduce(fv.stats.Pooled(2, 2)).shape == (1, 2)


def test_rows_equal_the_dense_slice_and_sum_to_one() -> None:
    weights = a_map(dtype=torch.float32)
    dense = weights.dense()
    for q in range(Q):
        torch.testing.assert_close(weights[..., q, :], dense[..., q, :], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(dense.sum(-1), torch.ones(B, H, Q))
    assert [tuple(part.shape) for part in weights] == [(H, Q, K)] * B and len(weights) == B


def test_rows_split_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = a_map()
    dense = weights.dense()
    monkeypatch.setattr("foveate.map.TILE_NUMBERS", 9)
    oracle.close(weights.dense(), dense)
    oracle.close(weights[:, [5, 1, 2], 1:, [3, 3, 0]], dense[:, [5, 1, 2], 1:, [3, 3, 0]])
    weights.logsumexp()
    oracle.close(weights[1, :, ::2, 2:4], dense[1, :, ::2, 2:4])
    flat = torch.randint(0, dense.numel(), (50,))
    oracle.close(weights[torch.unravel_index(flat, dense.shape)], dense.flatten()[flat])


# dense


def test_dense_refuses_above_a_limit() -> None:
    q = torch.zeros(12, 16_384, 4)
    weights = AttentionMap(q, q)
    text = r"would take 12.9 GB, more than the limit of 1.07 GB; .* r0:r1, c0:c1\].*Pooled\(64, 64\).*limit=...\)"
    for ask in (weights.dense, lambda: np.asarray(weights), lambda: weights[:], lambda: weights[:, ::1]):
        with pytest.raises(MemoryError, match=text):
            ask()
    assert weights[3, 5:7].shape == (2, 16_384)
    small = a_map()
    assert small.dense(limit=B * H * Q * K * 8).shape == small.shape
    with pytest.raises(MemoryError, match=r"would take 3.36e-06 GB, more than the limit of 3.36e-06 GB"):
        small.dense(limit=B * H * Q * K * 8 - 1)


def test_as_an_array() -> None:
    weights = a_map(dtype=torch.bfloat16)
    array = np.asarray(weights)
    assert array.dtype == np.float32 and array.shape == weights.shape
    assert np.asarray(weights, dtype=np.float16).dtype == np.float16
    assert np.array(weights).sum() == pytest.approx(B * H * Q, rel=0.02)
    with pytest.raises(ValueError, match="always a new one"):
        np.asarray(weights, copy=False)
    tracked = AttentionMap(*(t.requires_grad_() for t in oracle.inputs()[:2]))
    assert np.asarray(tracked).shape == tracked.shape


# what it says of itself


def test_repr_shows_shape_mask_and_bytes() -> None:
    q, k, _ = oracle.inputs(dtype=torch.float32)
    held = q.nbytes + k.nbytes
    assert repr(AttentionMap(q, k)) == (
        f"AttentionMap(shape=(2, 6, 5, 7), float32, score=scaled_dot, holds {held / 1e3:.3g} kB (dense: 1.68 kB))"
    )
    text = repr(
        AttentionMap(
            q,
            k,
            mask=masks.causal() & masks.window(2),
            bias=torch.zeros(K),
            score="dot",
            normalizer=fv.normalizers.softmax(torch.zeros(H)),
        )
    )
    assert "score=dot, mask=causal & window(2, 2), bias=(1, 1, 1, 7), normalizer=softmax with sinks, holds" in text
    assert "score=mine" in repr(AttentionMap(q, k, score=lambda q, k: q @ k.mT)).replace("<lambda>", "mine")
    big = AttentionMap(torch.zeros(1, 1, 1).expand(12, 100_000, 64), torch.zeros(1, 1, 1).expand(12, 100_000, 64))
    assert "holds 8 B (dense: 480 GB)" in repr(big)


def test_bytes_held_are_those_of_the_memory_behind() -> None:
    fused = torch.zeros(2, 5, 3, 4, 8)
    q, k, v = (fused[:, :, i].transpose(1, 2) for i in range(3))
    assert AttentionMap(q, k, value=v).nbytes == fused.nbytes
    assert AttentionMap(q.clone(), k.clone()).nbytes == 2 * q.numel() * 4
    row = torch.zeros(1000, 8)[3:5]
    assert AttentionMap(row, row).nbytes == 1000 * 8 * 4
    padded = AttentionMap(q.clone(), k.clone(), mask=masks.padding([3, 5]), bias=torch.zeros(5))
    assert padded.nbytes == 2 * q.numel() * 4 + 16 + 20
    before = padded.nbytes
    padded.logsumexp()
    assert padded.nbytes == before + 2 * 4 * 5 * 8


def test_its_parts() -> None:
    q, k, v = oracle.inputs((2, 3))
    weights = AttentionMap(q, k, value=v, score="dot", scale=0.5, bias=torch.zeros(K), mask=masks.causal())
    assert torch.equal(weights.query, q) and torch.equal(weights.key, k)
    assert weights.value is not None and torch.equal(weights.value, v)
    assert weights.scale == 0.5 and str(weights.mask) == "causal" and weights.ndim == 5 and weights.device == q.device
    assert weights.bias is not None and weights.bias.shape == (1, 1, 1, K)
    one = AttentionMap(q[0, 0, 0, 0], k[0, 0, 0], value=v[0, 0, 0])
    assert torch.equal(one.query, q[0, 0, 0, 0]) and torch.equal(one.key, k[0, 0, 0]) and one.shape == (K,)
    assert fv.attention(q, k, v)[1].scale == D**-0.5


# moving


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_to_another_dtype(dtype: torch.dtype) -> None:
    q, k, v = oracle.inputs(dtype=torch.float32)
    bias = torch.zeros(Q, K, dtype=torch.float64)
    bias[0, 1], bias[1], bias[2, 3], bias[4] = torch.finfo(bias.dtype).min, -torch.inf, -1e5, 1e6
    weights = AttentionMap(q, k, value=v, bias=bias, mask=masks.padding([4, 7]))
    moved = weights.to(dtype)
    assert moved.dense().dtype == dtype and moved.query.dtype == dtype and moved.value is not None
    assert torch.isfinite(moved.dense()).all() and moved.value.dtype == dtype
    plain = AttentionMap(q.to(dtype), k.to(dtype), bias=bias, mask=masks.padding([4, 7])).dense()
    torch.testing.assert_close(moved.dense(), plain, rtol=1e-3, atol=1e-3)
    assert (moved.dense()[:, :, 1] == 0).all() and (moved.dense()[:, :, 0, 1] == 0).all()
    assert weights.dense().dtype == torch.float32  # the old one is as it was


def test_to_keeps_hidden_what_a_narrow_bias_hides() -> None:
    q, k, _ = oracle.inputs(dtype=torch.float16)
    bias = torch.zeros(Q, K, dtype=torch.float16)
    bias[1] = torch.finfo(torch.float16).min
    moved = AttentionMap(q, k, bias=bias).to(torch.float64)
    assert (moved.dense()[:, :, 1] == 0).all() and (moved.logsumexp()[:, :, 1] == -torch.inf).all()


def test_to_names_what_it_takes() -> None:
    weights = a_map(dtype=torch.float32)
    assert weights.to("cpu").device.type == "cpu" and weights.to("cpu", torch.float64).dtype == torch.float64
    assert weights.to(device="cpu").dtype == torch.float32
    with pytest.raises(TypeError, match=r"weights are real numbers; got torch.int64"):
        weights.to(torch.int64)


def test_numbers_in_another_dtype_than_the_queries() -> None:
    q, k, _ = oracle.inputs(dtype=torch.float16)
    weights = AttentionMap(q, k, dtype=torch.float32)
    assert weights[0].dtype == torch.float32
    oracle.as_good_as(
        weights.dense(), torch.softmax(q.float() * D**-0.5 @ _heads(k).float().mT, -1), oracle.weights(q, k)
    )


def _heads(k: Tensor) -> Tensor:
    return k[:, [h // (H // G) for h in range(H)]]


# the kept log-sum-exp


def test_the_kept_log_sum_exp_changes_nothing() -> None:
    weights = a_map()
    fresh = weights[1, 2:5, :, 2:6]
    points = weights[[0, 1], [3, 4], [2, 1], [1, 2]]
    lse = weights.logsumexp()
    assert lse.shape == (B, H, Q)
    oracle.close(weights[1, 2:5, :, 2:6], fresh)
    oracle.close(weights[[0, 1], [3, 4], [2, 1], [1, 2]], points)
    oracle.close(lse, weights.reduce(fv.stats.LogSumExp()))
    assert a_map(dtype=torch.float16).logsumexp().dtype == torch.float32


@pytest.mark.parametrize("kept", [False, True])
def test_a_tile_of_long_even_rows_is_as_exact_as_plain_softmax(kept: bool) -> None:
    """Their log-sum-exp is large, which costs digits if it is taken off the scores carelessly."""
    q, k, _ = oracle.inputs((), heads=2, groups=2, queries=3, keys=5000, dtype=torch.float32)
    q = q * 0.02
    weights = AttentionMap(q, k)
    if kept:
        weights.logsumexp()
    exact, plain = oracle.weights(q, k), torch.softmax(q * D**-0.5 @ k.mT, -1)
    relative = exact[:, :, 1000:3000]
    got = weights[:, :, 1000:3000]
    oracle.as_good_as(got / relative.float(), plain[:, :, 1000:3000] / relative.float(), torch.ones_like(relative))


def test_log_sum_exp_against_torch() -> None:
    q, k, _ = oracle.inputs()
    s = (q * D**-0.5 @ _heads(k).mT).masked_fill(~torch.ones(Q, K, dtype=torch.bool).tril(K - Q), -torch.inf)
    oracle.close(AttentionMap(q, k, mask=masks.causal()).logsumexp(), s.logsumexp(-1))


def test_a_written_tensor_is_noticed() -> None:
    q, k, _ = oracle.inputs()
    weights = AttentionMap(q, k)
    weights.logsumexp()
    k.mul_(3)
    oracle.close(weights[1, 2, 3:, 4:6], oracle.weights(q, k)[1, 2, 3:, 4:6])
    oracle.close(weights.logsumexp(), AttentionMap(q, k).logsumexp())


def test_a_written_mask_is_noticed() -> None:
    q, k, _ = oracle.inputs()
    seen = torch.ones(Q, K, dtype=torch.bool)
    weights = AttentionMap(q, k, mask=masks.causal() & masks.tensor(seen))
    weights.logsumexp()
    seen[:, 0] = False
    after = AttentionMap(q, k, mask=masks.causal() & masks.tensor(seen.clone()))
    oracle.close(weights[1, 2, 3:, 4:6], after[1, 2, 3:, 4:6])
    oracle.close(weights.logsumexp(), after.logsumexp())


@pytest.mark.parametrize("form", [Tensor.clone, Tensor.numpy])
@pytest.mark.parametrize("name", ["logsumexp", "statistic"])
def test_a_statistic_given_out_is_the_callers(name: str, form: Any) -> None:
    q, k, _ = oracle.inputs()
    weights = AttentionMap(form(q), form(k))
    found = getattr(weights, name)()
    found -= 1
    oracle.close(torch.as_tensor(weights[1, 2, 3:, 4:6]), oracle.weights(q, k)[1, 2, 3:, 4:6])


@pytest.mark.parametrize("who", ["query", "value"])
def test_what_is_read_has_gradients(who: str) -> None:
    q, k, v = oracle.inputs(queries=70, keys=70, dtype=torch.float32)
    leaf = (q if who == "query" else v).requires_grad_()
    (expected,) = torch.autograd.grad(fv.attention(q, k, v, backend="blocks")[0].square().sum(), leaf)
    out, entropy = AttentionMap(q, k).read(v, fv.stats.Entropy())
    torch.testing.assert_close(torch.autograd.grad(out.square().sum(), leaf)[0], expected, rtol=1e-4, atol=1e-5)
    assert not entropy.requires_grad


# explaining


@pytest.mark.parametrize("score", ["dot", "scaled_dot", "capped"])
def test_explain_adds_up(score: str) -> None:
    q, k, v = oracle.inputs()
    sinks = torch.randn(H, dtype=torch.float64)
    bias = torch.randn(H, Q, 1, dtype=torch.float64)
    made = fv.scores.scaled_dot(softcap=2.0) if score == "capped" else score
    parts = {"score": made, "bias": bias, "mask": masks.causal(), "normalizer": fv.normalizers.softmax(sinks)}
    weights = AttentionMap(q, k, value=v, **parts)
    out, _ = fv.attention(q, k, v, **parts)
    b, h, i, j = 1, 3, 2, 4
    found = weights.explain(b, h, i, j)
    assert found["query"] == q[b, h, i].tolist() and found["key"] == k[b, h // 2, j].tolist()
    assert found["products"] == pytest.approx((q[b, h, i] * k[b, h // 2, j]).tolist())
    assert found["score"] == pytest.approx(sum(found["products"]))
    scaled = found["score"] * found["scale"]
    assert found["scaled"] == pytest.approx(scaled if score != "capped" else 2 * np.tanh(scaled / 2))
    assert found["softcap"] == (2.0 if score == "capped" else None)
    assert found["bias"] == pytest.approx(bias[h, i, 0].item()) and found["sink"] == pytest.approx(sinks[h].item())
    assert found["allowed"] and found["logsumexp"] == pytest.approx(weights.logsumexp()[b, h, i].item())
    assert found["weight"] == pytest.approx(np.exp(found["scaled"] + found["bias"] - found["logsumexp"]))
    assert found["weight"] == pytest.approx(weights[b, h, i, j].item())
    assert found["value"] == v[b, h // 2, j].tolist()
    assert found["contribution"] == pytest.approx((found["weight"] * v[b, h // 2, j]).tolist())
    assert found["output"] == pytest.approx(out[b, h, i].tolist())
    hidden = weights.explain(b, h, 0, 6)
    assert not hidden["allowed"] and hidden["weight"] == 0 and hidden["contribution"] == [0.0] * V


def test_explain_of_other_shapes() -> None:
    q, k, v = oracle.inputs((2, 3))
    weights = AttentionMap(q, k, value=v)
    assert weights.explain(-1, 2, 1, 0, -1)["weight"] == pytest.approx(weights[1, 2, 1, 0, 6].item())
    one = AttentionMap([1, 0.5], [(1, 0.5), (0.1, 0.9), (-1, -0.5)], value=[(10, 20), (30, 40), (50, 60)], score="dot")
    assert one.explain(1)["score"] == pytest.approx(0.55) and one.explain(1)["output"] == pytest.approx(
        [18.371, 28.371], abs=1e-3
    )
    mine = AttentionMap(q, k, score=lambda q, k: -torch.cdist(q, k))
    assert mine.explain(0, 0, 0, 0, 0)["scale"] is None and mine.explain(0, 0, 0, 0, 0)["value"] is None
    with pytest.raises(IndexError, match="explain takes one int for each of the 5 axes; got 2"):
        weights.explain(0, 0)
    with pytest.raises(IndexError, match="out of range"):
        weights.explain(0, 0, 0, 0, K)


def test_explain_of_tensors_that_learn_warns_of_nothing() -> None:
    q, k, v = (t.requires_grad_() for t in oracle.inputs())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bias = torch.zeros(K, dtype=torch.float64, requires_grad=True)
        sinks = torch.zeros(H, dtype=torch.float64, requires_grad=True)
        found = AttentionMap(q, k, value=v, bias=bias, normalizer=fv.normalizers.softmax(sinks)).explain(0, 0, 0, 0)
    assert 0 < found["weight"] < 1
