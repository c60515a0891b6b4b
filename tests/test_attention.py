"""`fv.attention`: backends, layouts, dtypes and NumPy against an oracle in float64, and its error texts."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import foveate as fv
import oracle
from foveate.operator import Problem, choose, observe
from oracle import B, D, G, H, K, Q, V

BACKENDS = ["auto", "reference", "sdpa", "blocks"]
ANY = ["auto", "reference", "blocks"]  # those that take everything


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many strips and many blocks per strip, even for a few keys."""
    monkeypatch.setattr("foveate.operator.problem.BLOCK_NUMBERS", 4)
    monkeypatch.setattr("foveate.operator.problem.GOOD_NUMBERS", 4)
    monkeypatch.setattr("foveate.operator.problem.MOST_ROWS", 4)
    monkeypatch.setattr("foveate.operator.problem.FEWEST_ROWS", 2)
    monkeypatch.setattr("foveate.operator.problem.MASK_STEP", 2)


# the mechanism


def test_the_textbook_example(backend: str) -> None:
    query, keys = [1, 0.5], [(1, 0.5), (0.1, 0.9), (-1, -0.5)]
    values = [(10, 20), (30, 40), (50, 60)]
    output, weights = fv.attention(query, keys, values, score="dot", backend=backend)
    e = np.exp([1.25, 0.55, -1.25])
    by_hand = e / e.sum()
    assert weights.shape == (3,) and output.shape == (2,)
    np.testing.assert_allclose(weights[:], by_hand, rtol=1e-14)
    np.testing.assert_allclose(output, by_hand @ np.array(values), rtol=1e-14)
    np.testing.assert_allclose(weights[:], [0.633, 0.315, 0.052], atol=5e-4)
    np.testing.assert_allclose(output, [18.37, 28.37], atol=5e-3)


@pytest.mark.parametrize("score", ["dot", "scaled_dot"])
@pytest.mark.parametrize("groups", [1, G, H])
def test_grouped_queries_and_both_scores(backend: str, score: str, groups: int) -> None:
    q, k, v = oracle.inputs(groups=groups)
    exact = oracle.weights(q, k, scale=1.0 if score == "dot" else D**-0.5)
    out, weights = fv.attention(q, k, v, score=score, backend=backend)
    oracle.close(weights.dense(), exact)
    oracle.close(out, oracle.output(exact, v))


@pytest.mark.parametrize("lead", [(), (B,), (B, 3), (1, 2, 3)])
def test_any_leading_axes(backend: str, lead: tuple[int, ...]) -> None:
    q, k, v = oracle.inputs(lead)
    mask = torch.rand(*lead, H, Q, K) < 0.6
    bias = torch.randn(*lead, 1, Q, K, dtype=torch.float64)
    exact = oracle.weights(q, k, allowed=mask, bias=bias)
    out, weights = fv.attention(q, k, v, mask=mask, bias=bias, backend=backend)
    assert weights.shape == (*lead, H, Q, K) and out.shape == (*lead, H, Q, V)
    oracle.close(weights.dense(), exact)
    oracle.close(out, oracle.output(exact, v))


def test_leading_axes_broadcast(backend: str) -> None:
    q, k, v = oracle.inputs((2, 3))
    k, v = k[:1], v[:, :1]
    out, weights = fv.attention(q, k, v, backend=backend)
    exact = oracle.weights(q, k)
    assert weights.shape == (2, 3, H, Q, K)
    oracle.close(weights.dense(), exact)
    oracle.close(out, oracle.output(exact, v.expand(2, 3, G, K, V)))


def test_no_head_axis_and_one_query(backend: str) -> None:
    q, k, v = (t[0, 0] for t in oracle.inputs())
    mask = torch.rand(Q, K) < 0.6
    exact = oracle.weights(q[None], k[None], allowed=mask)[0]
    out, weights = fv.attention(q, k, v, mask=mask, backend=backend)
    assert weights.shape == (Q, K) and out.shape == (Q, V)
    oracle.close(weights.dense(), exact)
    oracle.close(out, exact @ v)
    out, weights = fv.attention(q[2], k, v, mask=mask[2], backend=backend)
    assert weights.shape == (K,) and out.shape == (V,)
    oracle.close(weights.dense(), exact[2])
    oracle.close(out, (exact @ v)[2])


MASKS = {
    "none": lambda: None,
    "causal": fv.masks.causal,
    "causal from the start": lambda: fv.masks.causal(align="start"),
    "window": lambda: fv.masks.window(2, 1),
    "padding": lambda: fv.masks.padding([3, 7]),
    "padding on the left": lambda: fv.masks.padding([3, 7], side="left"),
    "documents": lambda: fv.masks.documents([0, 0, 1, 1, 1, 2, 2]),
    "prefix": lambda: fv.masks.causal() | fv.masks.prefix(3),
    "where": lambda: fv.masks.where(lambda b, h, q, k: (q + k + h + b) % 3 != 0),
    "composed": lambda: fv.masks.causal() & ~fv.masks.window(1) & fv.masks.padding([6, 5]),
    "tensor": lambda: fv.masks.tensor(torch.arange(H * Q * K).reshape(H, Q, K) % 5 != 0) & fv.masks.causal(),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_every_mask_with_and_without_bias(backend: str, name: str, with_bias: bool) -> None:
    q, k, v = oracle.inputs()
    mask = MASKS[name]()
    bias = torch.randn(H, 1, K, dtype=torch.float64) if with_bias else None
    exact = oracle.weights(q, k, allowed=None if mask is None else oracle.table(mask), bias=bias)
    out, weights = fv.attention(q, k, v, mask=mask, bias=bias, backend=backend)
    oracle.close(weights.dense(), exact)
    oracle.close(out, oracle.output(exact, v))


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.usefixtures("small_blocks")
def test_many_blocks_make_the_same_output(name: str) -> None:
    q, k, v = oracle.inputs()
    mask = MASKS[name]()
    bias = torch.randn(B, 1, Q, K, dtype=torch.float64)
    exact = oracle.weights(q, k, allowed=None if mask is None else oracle.table(mask), bias=bias)
    out, weights = fv.attention(q, k, v, mask=mask, bias=bias, backend="blocks")
    oracle.close(weights[1:, 2:5, :, 1::2], exact[1:, 2:5, :, 1::2])
    oracle.close(out, oracle.output(exact, v))


@pytest.mark.parametrize("backend", ANY)
@pytest.mark.usefixtures("small_blocks")
def test_softcap_and_sinks(backend: str) -> None:
    q, k, v = oracle.inputs()
    sinks = torch.randn(H, dtype=torch.float64)
    mask = fv.masks.window(1)
    exact = oracle.weights(q, k, allowed=oracle.table(mask), softcap=0.8, sinks=sinks)
    out, weights = fv.attention(
        q,
        k,
        v,
        mask=mask,
        score=fv.scores.scaled_dot(softcap=0.8),
        normalizer=fv.normalizers.softmax(sinks),
        backend=backend,
    )
    oracle.close(weights.dense(), exact)
    oracle.close(out, oracle.output(exact, v))
    assert (exact.sum(-1) < 0.999).any()  # the sinks took a share


@pytest.mark.parametrize("backend", ANY)
def test_a_sink_of_minus_infinity_takes_nothing(backend: str) -> None:
    q, k, v = (t.requires_grad_() for t in oracle.inputs())
    mask = fv.masks.causal(align="start") & ~fv.masks.prefix(2)
    sinks = torch.full((H,), -torch.inf, dtype=torch.float64)
    out, weights = fv.attention(q, k, v, mask=mask, normalizer=fv.normalizers.softmax(sinks), backend=backend)
    oracle.close(out.detach(), oracle.output(oracle.weights(q, k, allowed=oracle.table(mask)), v).detach())
    out.sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in (q, k, v))
    assert (weights.logsumexp()[..., :2] == -torch.inf).all()


@pytest.mark.parametrize("backend", ANY)
@pytest.mark.usefixtures("small_blocks")
def test_a_score_of_ones_own(backend: str) -> None:
    q, k, v = oracle.inputs()
    u = torch.randn(D, dtype=torch.float64)

    def additive(q, k):
        return torch.tanh(q[..., :, None, :] + k[..., None, :, :]) @ u

    mask = fv.masks.causal()
    heads = [h // (H // G) for h in range(H)]
    s = additive(q, k[:, heads]).masked_fill(~oracle.table(mask), -torch.inf)
    exact = torch.softmax(s, -1)
    out, weights = fv.attention(q, k, v, score=additive, mask=mask, backend=backend)
    oracle.close(weights.dense(), exact)
    oracle.close(weights[[0, 1], [2, 5], [0, 4], [1, 1]], exact[[0, 1], [2, 5], [0, 4], [1, 1]])
    oracle.close(out, oracle.output(exact, v))


# dtypes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [0.1, 1.0, 8.0])
def test_as_exact_as_the_plain_computation(backend: str, dtype: torch.dtype, spread: float) -> None:
    q, k, v = oracle.inputs(queries=37, keys=101, width=64, depth=64, dtype=dtype)
    q = q * spread
    exact = oracle.weights(q, k)
    heads = [h // (H // G) for h in range(H)]
    plain = torch.softmax(q * 64**-0.5 @ k[:, heads].mT, -1)
    out, weights = fv.attention(q, k, v, backend=backend)
    assert out.dtype == weights.dense().dtype == dtype
    oracle.as_good_as(weights.dense(), plain, exact)
    oracle.as_good_as(out, plain @ v[:, heads], oracle.output(exact, v))


def test_a_large_common_offset_costs_no_accuracy_beyond_the_scores_own() -> None:
    q, k, v = oracle.inputs(keys=101, dtype=torch.float32)
    bias = torch.full((1, 101), 3000.0)
    exact = oracle.weights(q, k, bias=bias)
    heads = [h // (H // G) for h in range(H)]
    plain = torch.softmax(q * D**-0.5 @ k[:, heads].mT + bias, -1)
    for backend in BACKENDS:
        out, weights = fv.attention(q, k, v, bias=bias, backend=backend)
        for got, simple, true in ((weights.dense(), plain, exact), (out, plain @ v[:, heads], oracle.output(exact, v))):
            oracle.as_good_as(got, simple, true)


def test_one_row_over_very_many_keys(backend: str) -> None:
    q, k, v = oracle.inputs(heads=2, groups=1, queries=1, keys=100_003, dtype=torch.float32)
    exact = oracle.weights(q, k)
    plain = torch.softmax(q * D**-0.5 @ k.mT, -1)
    out, weights = fv.attention(q, k, v, backend=backend)
    oracle.as_good_as(weights.dense(), plain, exact)
    oracle.as_good_as(out, plain @ v, oracle.output(exact, v))
    assert abs(weights[0, 1, 0].double().sum().item() - 1) < 1e-4


def test_autocast_changes_nothing(backend: str) -> None:
    q, k, v = oracle.inputs(dtype=torch.float32)
    out, weights = fv.attention(q, k, v, backend=backend)
    dense, explained = weights.dense(), weights.explain(1, 2, 3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        again, weights = fv.attention(q, k, v, backend=backend)
        assert torch.equal(again, out)
        assert torch.equal(weights.dense(), dense)
        torch.testing.assert_close(weights[[1], [2], [3], [4]], dense[1, 2, 3, 4:5])
        assert weights.explain(1, 2, 3, 4) == explained
        assert torch.equal(fv.AttentionMap(q, k).reduce(fv.stats.Entropy()), weights.reduce(fv.stats.Entropy()))


def test_autocast_reconciles_dtypes_as_torch_does() -> None:
    q, k, v = oracle.inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = fv.attention(q, k, v.bfloat16())
    assert out.dtype == torch.bfloat16
    with pytest.raises(TypeError, match=r"share one dtype; got query torch.float32, key torch.float32, value"):
        fv.attention(q, k, v.bfloat16())


# inputs of all kinds


def test_numpy_in_numpy_out(backend: str) -> None:
    q, k, v = (t.numpy() for t in oracle.inputs())
    exact = oracle.weights(*(torch.from_numpy(t) for t in (q, k)))
    out, weights = fv.attention(q, k, v, backend=backend)
    assert isinstance(out, np.ndarray) and isinstance(weights[0], np.ndarray)
    assert isinstance(weights.logsumexp(), np.ndarray) and isinstance(weights.nan_rows(), np.ndarray)
    assert isinstance(weights.reduce(fv.stats.TopK(2)).indices, np.ndarray)
    oracle.close(out, oracle.output(exact, torch.from_numpy(v)))
    oracle.close(np.asarray(weights), exact)


def test_arrays_of_every_make() -> None:
    q, k, v = (t[0].numpy() for t in oracle.inputs())
    expected, _ = fv.attention(q, k, v)
    frozen = q.copy()
    frozen.flags.writeable = False
    reversed_twice = np.ascontiguousarray(k[:, ::-1])[:, ::-1]
    foreign = v.astype(">f8")
    mask = np.ones((Q, K), dtype=bool)
    mask.flags.writeable = False
    out, _ = fv.attention(frozen, reversed_twice, foreign, mask=mask, bias=np.broadcast_to(np.float64(0), (Q, K)))
    np.testing.assert_array_equal(out, expected)
    assert fv.attention(q.astype(np.longdouble), k, v)[0].dtype == np.float64
    assert fv.attention(q.astype(np.float32), k.astype(np.float16), v.astype(np.float32))[0].dtype == np.float32
    ints, weights = fv.attention([[1, 0]], [[1, 0], [0, 1]], [[1], [3]])
    assert ints.dtype == np.float64 and isinstance(weights[0, 1], np.generic | np.ndarray)


def test_integer_and_mixed_tensors() -> None:
    q, k, v = (t.round().to(torch.int64) for t in oracle.inputs())
    out, _ = fv.attention(q, k, v)
    expected, _ = fv.attention(q.float(), k.float(), v.float())
    assert torch.equal(out, expected) and out.dtype == torch.float32
    mixed, _ = fv.attention(q.float(), k.numpy(), v)
    assert torch.equal(mixed, expected)


def test_views_are_read_as_they_are_and_never_written(backend: str) -> None:
    q, k, v = oracle.inputs(dtype=torch.float32)
    fused = torch.randn(B, Q, H, 2 * D)
    q = fused.transpose(1, 2)[..., 1::2]  # neither contiguous nor dense
    k = k[:, :1].expand(B, G, K, D)
    bias = torch.zeros(1, 1, 1, 1).expand(B, H, Q, K)
    before = [t.clone() for t in (fused, k, v, bias)]
    out, weights = fv.attention(q, k, v, bias=bias, mask=fv.masks.causal(), backend=backend)
    plain, _ = fv.attention(q.clone(), k.clone(), v.clone(), mask=fv.masks.causal(), backend=backend)
    torch.testing.assert_close(out, plain)
    (
        weights.dense(),
        weights.reduce(fv.stats.Entropy(), fv.stats.TopK(2), fv.stats.Pooled(2, 2)),
        weights.explain(0, 0, 0, 0),
    )
    assert all(torch.equal(a, b) for a, b in zip(before, (fused, k, v, bias), strict=True))


def test_inference_mode_and_no_grad(backend: str) -> None:
    q, k, v = oracle.inputs(dtype=torch.float32)
    expected, weights = fv.attention(q, k, v, backend=backend)
    with torch.inference_mode():
        out, held = fv.attention(q.clone(), k.clone(), v.clone(), backend=backend)
        torch.testing.assert_close(held.logsumexp(), weights.logsumexp())
    torch.testing.assert_close(out.clone(), expected)
    torch.testing.assert_close(held.dense().clone(), weights.dense())  # looked at after inference mode
    with torch.no_grad():
        out, _ = fv.attention(q.requires_grad_(), k, v, backend=backend)
    assert not out.requires_grad
    torch.testing.assert_close(out, expected)


def test_dropout_drops_when_reading_only(backend: str) -> None:
    q, k, _ = oracle.inputs(keys=401)
    v = torch.ones(B, G, 401, V, dtype=torch.float64)
    out, weights = fv.attention(q, k, v, dropout=0.25, backend=backend)
    oracle.close(weights.dense(), oracle.weights(q, k))
    spread = oracle.weights(q, k).square().sum(-1).sqrt() * (0.25 / 0.75) ** 0.5
    assert ((out[..., 0] - 1).abs() < 6 * spread).all() and (out[..., 0] - 1).abs().max() > spread.min() / 10
    exact, _ = fv.attention(q, k, v, dropout=0.0, backend=backend)
    oracle.close(exact, torch.ones_like(exact))


def test_threads_agree() -> None:
    q, k, v = oracle.inputs(queries=67, keys=301, dtype=torch.float32)
    _, weights = fv.attention(q, k, v, mask=fv.masks.causal())
    found: list[tuple] = []

    def look() -> None:
        found.append((weights.logsumexp(), weights[1, 2, 5:9], weights.reduce(fv.stats.Entropy())))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 8
    for one in found[1:]:
        for a, b in zip(one, found[0], strict=True):
            torch.testing.assert_close(a, b)


def test_observers_are_told_of_each_call() -> None:
    q, k, v = oracle.inputs()
    seen: list[fv.AttentionMap] = []
    with observe(seen.append), observe(seen.append):
        _, weights = fv.attention(q, k, v)
    fv.attention(q, k, v)
    assert seen == [weights, weights]


def _problem(q, k, **parts) -> Problem:
    return fv.AttentionMap(q, k, **parts).problem


def test_auto_chooses_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.operator.native.worthwhile", lambda problem: False)  # as where there is no compiler
    q, k, v = oracle.inputs(dtype=torch.float32)
    assert choose(_problem(q, k), v).backend == "sdpa"
    assert "no mask" in choose(_problem(q, q, mask=fv.masks.causal()), v).reason
    assert choose(_problem(q, k, score=fv.scores.dot(softcap=3.0)), v).backend == "blocks"
    assert "softcap" in choose(_problem(q, k, score=fv.scores.dot(softcap=3.0)), v).reason
    q, k = torch.randn(1, 1, 2100, 2), torch.randn(1, 1, 2100, 2)
    assert choose(_problem(q, k, mask=fv.masks.window(3)), k).backend == "blocks"
    assert choose(_problem(q, k), torch.randn(1, 1, 2100, 3)).backend == "blocks"
    assert choose(_problem(q, k, mask=fv.masks.causal()), k).backend == "sdpa"


@pytest.mark.parametrize(
    ("parts", "obstacle"),
    [
        ({"score": fv.scores.dot(softcap=1.0)}, "softcap"),
        ({"score": lambda q, k: q @ k.mT}, "function of yours"),
        ({"normalizer": fv.normalizers.softmax(torch.zeros(H))}, "sinks"),
        ({"bias": torch.zeros(K, dtype=torch.float32)}, "another dtype"),
        ({"scale": float("nan")}, "NaN or Inf"),
    ],
)
def test_a_named_backend_never_gives_way(parts: dict, obstacle: str) -> None:
    q, k, v = oracle.inputs()
    with pytest.raises(
        ValueError, match=f"backend 'sdpa' cannot compute this attention: .*{obstacle}.*; use 'auto' or"
    ):
        fv.attention(q, k, v, backend="sdpa", **parts)
    fv.attention(q, k, v, **parts)


Z = torch.zeros
ERRORS = [
    ((Z(3, 4), Z(5, 6), Z(5, 2)), {}, ValueError, r"same width D; got \(1, 3, 4\) and \(1, 5, 6\)"),
    (
        (Z(3, 4), Z(1, 5, 4), Z(1, 5, 2)),
        {},
        ValueError,
        r"key must have 2 axes .* shape \(3, 4\); got shape \(1, 5, 4\)",
    ),
    ((Z(1, 3, 4), Z(1, 5, 4), Z(5, 2)), {}, ValueError, r"value must have 3 axes"),
    ((Z(()), Z(5, 4), Z(5, 2)), {}, ValueError, "at least one axis"),
    ((np.float64(1), Z(5, 4).numpy(), Z(5, 2).numpy()), {}, ValueError, "at least one axis"),
    ((Z(1, 3, 0), Z(1, 5, 0), Z(1, 5, 2)), {}, ValueError, "width D must be at least 1"),
    ((Z(0, 3, 4), Z(1, 5, 4), Z(1, 5, 2)), {}, ValueError, "at least one head"),
    ((Z(1, 3, 4), Z(0, 5, 4), Z(0, 5, 2)), {}, ValueError, "at least one head"),
    (
        (Z(2, 1, 3, 4), Z(3, 1, 5, 4), Z(2, 1, 5, 2)),
        {},
        ValueError,
        r"leading axes .* must broadcast; got \(2, 1, 3, 4\)",
    ),
    (
        (Z(3, 4), Z(5, 4), Z(5, 2)),
        {"score": "falsh"},
        ValueError,
        "unknown score 'falsh'; expected 'scaled_dot', 'dot'",
    ),
    ((Z(3, 4), Z(5, 4), Z(5, 2)), {"score": 3}, ValueError, "score must be .*; got int"),
    ((Z(3, 4), Z(5, 4), Z(5, 2)), {"score": lambda q, k: q @ k.mT, "scale": 2.0}, ValueError, "scale goes with"),
    ((Z(3, 4), Z(5, 4), Z(5, 2)), {"scale": Z((), requires_grad=True)}, ValueError, "scale is a plain number"),
    (
        (Z(3, 4), Z(5, 4), Z(5, 2)),
        {"normalizer": "softmin"},
        ValueError,
        "unknown normalizer 'softmin'; expected 'softmax'",
    ),
    ((Z(3, 4), Z(5, 4), Z(5, 2)), {"normalizer": 1}, ValueError, "normalizer must be 'softmax' or one of .*; got int"),
    (
        (Z(3, 4), Z(5, 4), Z(5, 2)),
        {"normalizer": fv.normalizers.softmax(Z(2))},
        ValueError,
        r"one logit per head, \(1,\)",
    ),
    ((Z(3, 4), Z(5, 4), Z(5, 2)), {"mask": Z(3, 5)}, TypeError, "mask holds booleans, .* are a bias="),
    ((Z(3, 4), Z(5, 4), Z(5, 2)), {"bias": Z(3, 5) > 0}, TypeError, "booleans are a mask="),
    ((Z(3, 4), Z(5, 4), Z(5, 2)), {"bias": [[True]]}, TypeError, "booleans are a mask="),
    (
        (Z(3, 4), Z(5, 4), Z(5, 2)),
        {"backend": "falsh"},
        ValueError,
        "unknown backend 'falsh'; expected one of 'auto', 'ref",
    ),
    ((Z(3, 4), Z(5, 4), Z(5, 2, dtype=torch.float64)), {}, TypeError, "share one dtype; got query torch.float32"),
    ((Z(3, 4, dtype=torch.complex64), Z(5, 4), Z(5, 2)), {}, TypeError, "takes float16, .*; got query torch.complex64"),
    (
        tuple(Z(3, 4).to(torch.float8_e5m2) for _ in range(3)),
        {},
        TypeError,
        "takes float16, bfloat16, float32 or float64",
    ),
    ((np.array(["a"]), np.zeros((5, 1)), np.zeros((5, 2))), {}, TypeError, "query must hold real numbers"),
]


@pytest.mark.parametrize(("args", "parts", "kind", "text"), ERRORS, ids=range(len(ERRORS)))
def test_errors_name_the_rule_and_the_shapes(args: tuple, parts: dict, kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        fv.attention(*args, **parts)


@st.composite
def problems(draw):
    integers = st.integers
    lead = tuple(draw(st.lists(integers(0, 2), max_size=2)))
    groups, shared = draw(integers(1, 2)), draw(integers(1, 3))
    queries, keys, width, depth = (draw(integers(low, 6)) for low in (0, 0, 1, 0))
    sizes = {
        "heads": groups * shared,
        "groups": groups,
        "queries": queries,
        "keys": keys,
        "width": width,
        "depth": depth,
    }
    return lead, sizes, draw(st.booleans()), draw(st.booleans()), draw(integers(0, 99))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_any_sizes_at_all(case) -> None:
    lead, sizes, masked, biased, seed = case
    torch.manual_seed(seed)
    q, k, v = oracle.inputs(lead, **sizes)
    full = (*lead, sizes["heads"], sizes["queries"], sizes["keys"])
    mask = torch.rand(full[-2:]) < 0.5 if masked else None
    bias = torch.randn(full[-3], 1, full[-1], dtype=torch.float64) if biased else None
    exact = torch.zeros(full, dtype=torch.float64)
    if exact.numel():
        exact = oracle.weights(q, k, allowed=mask, bias=bias)
    for backend in ANY:
        out, weights = fv.attention(q, k, v, mask=mask, bias=bias, backend=backend)
        assert weights.shape == full
        oracle.close(weights.dense(), exact)
        oracle.close(out, oracle.output(exact, v))
