"""The compiled core against the float64 oracle: every set of instructions, statistic, mask, bias and odd number."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import foveate as fv
import oracle
from foveate import masks, native, normalizers, scores, stats
from foveate.operator import choose
from foveate.stats import in_one_pass
from native_oracle import EVERYTHING, FLOATS, GRIDS, ISAS, check, plain, use

pytestmark = pytest.mark.skipif(not fv.config().native, reason=f"no compiled core: {fv.config().reason}")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each set of instructions that this machine runs."""
    return use(request.param, monkeypatch)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("sizes", [(5, 7, 11, 13), (101, 331, 32, 64), (29, 1301, 65, 3)], ids=str)
def test_everything_is_as_exact_as_a_plain_computation(isa: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    queries, keys, width, depth = sizes
    q, k, v = oracle.inputs(queries=queries, keys=keys, width=width, depth=depth, dtype=dtype)
    found = native.run(q, k, v, EVERYTHING, scale=width**-0.5)
    assert found.status == 0
    check(q, k, v, found)
    s = torch.einsum("bhqd,bhkd->bhqk", q.double(), k.double().repeat_interleave(2, 1)) * width**-0.5
    torch.testing.assert_close(found.lse, s.logsumexp(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_cap_sinks_bias_and_mask_at_once(isa: str, dtype: torch.dtype) -> None:
    q, k, v = oracle.inputs(queries=53, keys=331, dtype=dtype)
    mask = masks.causal() & masks.window(97) & masks.padding([331, 291])
    options: dict[str, Any] = {"softcap": 2.5, "sinks": torch.randn(oracle.H), "bias": torch.randn(oracle.H, 53, 331)}
    gap = torch.arange(331) - (torch.arange(53)[:, None] + 331 - 53)
    allowed = (gap <= 0) & (gap >= -97) & (torch.arange(331) < torch.tensor([331, 291]).reshape(2, 1, 1, 1))
    w = fv.AttentionMap(
        q,
        k,
        mask=mask,
        bias=options["bias"],
        score=scores.scaled_dot(softcap=2.5),
        normalizer=normalizers.softmax(options["sinks"]),
    )
    reducers = [stats.Entropy(), stats.TopK(3), stats.Received(), *(stats.Pooled(*grid) for grid in GRIDS)]
    both = in_one_pass(w.problem, v, reducers)
    assert both is not None
    states = [s[0] if isinstance(s, tuple) and not isinstance(s[1], Tensor) else s for s in both[1]]
    found = native.Found(0, both[0], torch.empty(0), *states[:3], dict(zip(GRIDS, states[3:], strict=True)))
    check(q, k, v, found, allowed=allowed, **options)


B, H, Q, K = 2, 6, 53, 131
DOCUMENTS = torch.tensor([0] * 17 + [3] * 60 + [1] * 54)
INTERVALS = {
    "everything": masks.everything(),
    "causal": masks.causal(),
    "from the start": masks.causal(align="start"),
    "window": masks.window(7, 2),
    "padding": masks.padding([0, 129]),
    "padding on the left": masks.padding([3, 131], side="left"),
    "documents": masks.documents(DOCUMENTS),
    "documents of each": masks.documents(torch.stack([DOCUMENTS, DOCUMENTS.flip(0)])),
    "prefix": masks.causal() | masks.prefix(90),
    "future": ~masks.causal(),
    "all three": masks.causal() & masks.window(30) & masks.documents(DOCUMENTS),
    "shifted": masks.window(9, 3, offset=[5, 70]),
    "packed": masks.packed([20, 33], [50, 81], causal=True),
}
OTHERS = {
    "hole": ~masks.window(7),
    "two parts": masks.window(3) | masks.prefix(5),
    "documents that come back": masks.documents(torch.arange(K) % 3),
    "by head": masks.where(lambda b, h, q, k: (q * 3 + k * 5 + h + b) % 7 < 3),
    "in blocks": masks.where(lambda b, h, q, k: (q // 16 + k // 64) % 2 == 0),
    "no one": masks.where(lambda b, h, q, k: (q < 0) & (k < 0)),
    "all": masks.where(lambda b, h, q, k: (q >= 0) & (k >= 0)),
}


@pytest.mark.parametrize("name", [*INTERVALS, *OTHERS])
def test_masks(name: str) -> None:
    """Each mask's intervals are those of its predicate, and the core sees what the predicate says."""
    mask = (INTERVALS | OTHERS)[name]
    q, k, v = oracle.inputs(queries=Q, keys=K, dtype=torch.float32)
    weights = fv.AttentionMap(q, k, mask=mask)
    assert weights.mask is not None
    g = weights.problem.geometry
    axes = torch.meshgrid(*(torch.arange(n) for n in g.shape), indexing="ij")
    allowed = weights.mask.predicate(g)(*axes).expand(g.shape)
    intervals = masks.spans.spans(weights.mask, g)
    assert (intervals is None) == (name in OTHERS)
    if intervals is not None:
        first, last = (t[..., None] for t in intervals)
        assert torch.equal(((torch.arange(K) >= first) & (torch.arange(K) < last)).expand(g.shape), allowed)
    out = fv.attention(q, k, v, mask=mask, backend="native")[0]
    exact = oracle.output(oracle.weights(q, k, allowed=allowed), v)
    loose = plain(q, k, allowed=allowed) @ v.repeat_interleave(2, 1)
    oracle.as_good_as(out, loose, exact)
    assert bool((out[~allowed.any(-1)] == 0).all())


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "dtype": draw(st.sampled_from(FLOATS)),
        "queries": draw(st.sampled_from([1, 2, 5, 13, 47, 53, 97])),
        "keys": draw(st.sampled_from([3, 61, 64, 67, 257, 311])),
        "width": draw(st.sampled_from([1, 2, 3, 31, 64])),
        "depth": draw(st.sampled_from([1, 7, 16, 37, 80])),
        "size": draw(st.sampled_from([1e-3, 1.0, 6.0])),
        "layout": draw(st.sampled_from(["plain", "turned", "every second", "shared heads", "backwards"])),
        "mask": draw(st.sampled_from([None, *INTERVALS.values(), *OTHERS.values()][:10])),
        "bias": draw(st.sampled_from(["none", "distance", "rows", "keys", "all", "hides"])),
        "seed": draw(st.integers(0, 99)),
    }


def laid_out(t: Tensor, layout: str) -> Tensor:
    """The same numbers in other strides."""
    if layout == "turned":
        return t.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "every second":
        room = torch.full((*t.shape[:-1], 2 * t.shape[-1]), torch.nan, dtype=t.dtype)
        room[..., ::2] = t
        return room[..., ::2]
    if layout == "backwards":
        return torch.stack([t, t])[1]
    return t[:, :1].expand_as(t) if layout == "shared heads" else t


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(p=problems())
def test_any_problem(p: dict[str, Any]) -> None:
    torch.manual_seed(p["seed"])
    n, m = p["queries"], p["keys"]
    q, k, v = oracle.inputs(queries=n, keys=m, width=p["width"], depth=p["depth"])
    q, k, v = (laid_out(t.to(p["dtype"]), p["layout"]) for t in (q * p["size"], k, v))
    shapes = {"rows": (H, n, 1), "keys": (B, 1, 1, m), "all": (B, H, n, m), "hides": (1, n, m)}
    bias: Any = None
    numbers = None
    if p["bias"] in shapes:
        bias = torch.randn(shapes[p["bias"]]).to(p["dtype"])
        bias = bias.masked_fill(bias < 0, -torch.inf) if p["bias"] == "hides" else bias
        numbers = bias.float()
    elif p["bias"] == "distance":
        bias = fv.biases.Distances(torch.randn(H, n + m - 1))
        numbers = bias.table[:, torch.arange(m) - torch.arange(n)[:, None] + n - 1]
    mask = p["mask"] if (n, m) == (Q, K) else masks.window(11) if p["mask"] is not None else None
    weights = fv.AttentionMap(q, k, mask=mask, bias=bias)
    g = weights.problem.geometry
    axes = torch.meshgrid(*(torch.arange(i) for i in g.shape), indexing="ij")
    allowed = torch.ones(g.shape, dtype=torch.bool)
    allowed = allowed if weights.mask is None else weights.mask.predicate(g)(*axes).expand(g.shape)
    if p["bias"] == "hides":
        allowed = allowed & (numbers > -torch.inf)
        numbers = numbers.masked_fill(numbers == -torch.inf, 0.0)
    both = in_one_pass(weights.problem, v, [stats.Entropy(), stats.TopK(min(3, m)), stats.Received()])
    assert both is not None
    found = native.Found(0, both[0], torch.empty(0), *both[1])
    check(q, k, v, found, allowed=allowed, bias=numbers)


def test_results_do_not_depend_on_threads(isa: str, one_thread: None) -> None:
    q, k, v = oracle.inputs(queries=311, keys=521, width=16, dtype=torch.float32)
    found = [native.run(q, k, v, EVERYTHING, threads=n) for n in (1, 2, 3)]
    for other in found[1:]:
        for name in ("output", "lse", "entropy", "received"):
            assert torch.equal(getattr(other, name), getattr(found[0], name)), name
        assert all(torch.equal(a, b) for a, b in zip(other.top, found[0].top, strict=True))
        assert all(torch.equal(other.pooled[grid], found[0].pooled[grid]) for grid in GRIDS)
    torch.set_num_threads(1)
    assert torch.equal(native.run(q, k, v, EVERYTHING).received, found[0].received)


@pytest.mark.parametrize("k_best", [1, 8, 17, 64])
@pytest.mark.parametrize("kind", ["random", "equal", "falling", "two values", "few seen"])
def test_the_largest_weights(isa: str, k_best: int, kind: str) -> None:
    keys = 1409
    q = torch.ones(1, 1, 7, 1)
    numbers = {
        "random": torch.randn(keys),
        "equal": torch.zeros(keys),
        "falling": -torch.arange(keys) / 100.0,
        "two values": (torch.arange(keys) % 2).float(),
        "few seen": torch.randn(keys),
    }[kind]
    mask = masks.prefix(5) if kind == "few seen" else None
    exact = torch.softmax(numbers[: 5 if mask else keys].double(), -1)
    weights = fv.AttentionMap(q, numbers.reshape(1, 1, -1, 1), score="dot", mask=mask)
    both = in_one_pass(weights.problem, None, [stats.TopK(k_best)])
    assert both is not None
    values, indices = (t[0, 0] for t in both[1][0])
    n = min(k_best, len(exact))
    expected = exact.topk(n).values.expand(7, n)
    torch.testing.assert_close(values[:, :n].double(), expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(exact[indices[:, :n]], expected, rtol=1e-6, atol=1e-9)
    assert all(len(set(row.tolist())) == n for row in indices[:, :n])
    assert bool((values[:, n:] == 0).all()) and bool((indices[:, n:] == -1).all())


@pytest.mark.parametrize("where", ["query", "key", "overflow", "hidden key", "all overflow"])
def test_nan_and_overflow_reach_their_rows_and_no_other(isa: str, where: str) -> None:
    q, k, v = oracle.inputs(queries=13, keys=71, dtype=torch.float32)
    mask, lost = masks.causal(), torch.zeros(B, H, 13, dtype=torch.bool)
    if where == "query":
        q[1, 2, 3, 4] = torch.nan
        lost[1, 2, 3] = True
    elif where == "key":
        k[0, 1, 65, 2] = torch.nan
        lost[0, 2:4, 7:] = True
    elif where == "overflow":
        q[0, 0, 5], k[0, 0, 0] = 1e20, 1e20
        lost[0, 0, 5] = True
    elif where == "hidden key":
        k[0, 1, 70] = torch.nan
        lost[0, 2:4, 12] = True
    else:
        q[0, 0, 5], k[0, 0] = 1e20, -1e20
        lost[0, 0, 5] = True
    out, weights = fv.attention(q, k, v, mask=mask, backend="native")
    assert torch.equal(out.isnan().all(-1), lost) and torch.equal(out.isnan().any(-1), lost)
    if where != "all overflow":  # where rounding decides which key is the largest
        other = fv.attention(q, k, v, mask=mask, backend="blocks")[0]
        torch.testing.assert_close(out, other, equal_nan=True)
    assert in_one_pass(weights.problem, None, [stats.Entropy()]) is None  # left to the blocks, which mark such rows
    assert torch.equal(weights.reduce(stats.Entropy()).isnan(), lost)
    assert torch.equal(weights.nan_rows(), lost)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_smallest_number_in_a_bias_hides_its_key_whatever_it_holds(isa: str, dtype: torch.dtype) -> None:
    q, k, v = oracle.inputs(queries=13, keys=71, dtype=dtype)
    k[:, :, 5] = torch.nan
    bias = torch.zeros(13, 71, dtype=dtype)
    bias[:, 5], bias[3] = torch.finfo(dtype).min, torch.finfo(dtype).min
    out = fv.attention(q, k, v, bias=bias, backend="native")[0]
    allowed = torch.arange(71) != 5
    expected = fv.attention(q, k, v, mask=allowed[None], backend="native")[0]
    assert bool((out[:, :, 3] == 0).all())
    assert torch.equal(out[:, :, 4:], expected[:, :, 4:]) and torch.equal(out[:, :, :3], expected[:, :, :3])


def test_blocks_of_fewer_rows_than_a_list_has() -> None:
    """So many keys that not all rows of one block of the list are kept at once."""
    q, k = torch.randn(1, 1, 53, 2), torch.randn(1, 1, 23003, 2)
    weights = fv.AttentionMap(q, k, mask=masks.where(lambda b, h, i, j: (i * 7 + j) % 5 == 0))
    exact = weights.to(torch.float64).reduce(stats.Received())
    torch.testing.assert_close(weights.reduce(stats.Received()).double(), exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", FLOATS[1:], ids=str)
def test_outputs_are_rounded_to_nearest(isa: str, dtype: torch.dtype) -> None:
    q, k, v = oracle.inputs(queries=53, keys=331, dtype=dtype)
    wide = native.run(q.float(), k.float(), v.float(), scale=0.3).output
    narrow = native.run(q, k, v, scale=0.3).output
    assert wide is not None and narrow is not None
    same = (narrow == wide.to(dtype)).float().mean()
    assert same > 0.999 if isa == "avx512bf16" else same == 1  # there sums of products run in another order


def test_bfloat16_products_that_overflow_before_they_are_scaled(isa: str) -> None:
    q, k = (torch.full((1, 1, n, 2), 1.5e19, dtype=torch.bfloat16) for n in (3, 5))
    out = fv.attention(q, k, torch.ones(1, 1, 5, 2, dtype=torch.bfloat16), scale=0.1, backend="native")[0]
    assert bool((out == 1).all())


def test_values_that_are_not_numbers_are_read_only_where_they_weigh(isa: str) -> None:
    q, k, v = oracle.inputs(queries=13, keys=71, dtype=torch.float32)
    v[0, 0, 60, 0], v[1, 1, 2, 3] = torch.nan, torch.inf
    out = fv.attention(q, k, v, mask=masks.causal(), backend="native")[0]
    other = fv.attention(q, k, v, mask=masks.causal(), backend="blocks")[0]
    assert bool(out.isnan().any()) and bool(out.isinf().any()) and not bool(out[0, 0, 0].isnan().any())
    torch.testing.assert_close(out, other, equal_nan=True)
    read, _ = fv.AttentionMap(q, k, mask=masks.causal()).read(v, stats.Entropy())
    torch.testing.assert_close(read, other, equal_nan=True)


@pytest.mark.parametrize("axis", ["batch", "queries", "keys"])
def test_empty_axes_go_elsewhere(axis: str) -> None:
    sizes = {"lead": (0,)} if axis == "batch" else {"queries": 0} if axis == "queries" else {"keys": 0}
    q, k, v = oracle.inputs(**sizes, dtype=torch.float32)  # type: ignore[arg-type]
    weights = fv.AttentionMap(q, k)
    assert choose(weights.problem, v).backend != "native"
    with pytest.raises(ValueError, match="'native' cannot compute this attention: one of its axes is empty"):
        choose(weights.problem, v, "native")


def test_what_it_refuses() -> None:
    q, k, v = oracle.inputs(dtype=torch.float32)
    assert choose(fv.AttentionMap(q, k).problem, v, "native").reason == "it was asked for"
    for text, options in {
        "its score is ": {"score": lambda a, b: a @ b.mT},
        "its normalizer is sigmoid": {"normalizer": "sigmoid"},
        "its bias is torch.float64": {"bias": torch.zeros(7).double()},
    }.items():
        with pytest.raises(ValueError, match=f"cannot compute this attention: {text}.*use 'auto' or 'blocks'"):
            fv.attention(q, k, v, backend="native", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"its inputs are torch.float64; it takes float32"):
        fv.attention(q.double(), k.double(), v.double(), backend="native")
    with pytest.raises(ValueError, match="it has no gradients"):
        fv.attention(q.requires_grad_(), k, v, backend="native")
    with pytest.raises(ValueError, match="it has no dropout"):
        fv.attention(q.detach(), k, v, dropout=0.5, backend="native")


def test_auto_takes_it_for_large_problems_without_gradients() -> None:
    if fv.config().isa == "portable":
        pytest.skip("PyTorch's own products are faster than the portable ones")
    q, k, v = (torch.randn(1, 8, 256, 16) for _ in range(3))
    for mask in (None, masks.causal(), masks.window(5), masks.where(lambda b, h, i, j: (i + j) % 2 == 0)):
        weights = fv.AttentionMap(q, k, mask=mask)
        assert choose(weights.problem, v).backend == "native"
        assert choose(weights.problem, v, dropout=0.1).backend != "native"
        assert choose(weights.problem, v.clone().requires_grad_()).backend != "native"
    assert choose(fv.AttentionMap(q[:, :, :1], k).problem, v).backend == "sdpa"


def test_reading_and_statistics_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = oracle.inputs(lead=(3, 2), queries=29, keys=83, dtype=torch.float32)
    weights = fv.AttentionMap(q, k, mask=masks.causal())
    reducers = stats.Entropy(), stats.TopK(2), stats.Received(), stats.LogSumExp(), stats.Pooled(4, 4, "mean")
    out, found = weights.read(v, *reducers)
    torch.testing.assert_close(out, fv.attention(q, k, v, mask=masks.causal(), backend="blocks")[0])
    assert torch.equal(weights.read(v)[0], out) and weights.read(v)[1] is None
    assert torch.equal(weights.read(v, stats.Entropy())[1], found[0])
    exact, best = weights.to(torch.float64).read(v.double(), *reducers)  # by the other way, which takes float64
    torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-5)
    for a, b in zip([found[0], *found[1], *found[2:]], [best[0], *best[1], *best[2:]], strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=1e-5)
        assert a.dtype in (torch.float32, torch.int64)
    with pytest.raises(ValueError, match="same number of heads"):
        weights.read(v[:, :, :1])


def test_fewer_of_the_largest_are_no_part_of_more() -> None:
    weights = fv.AttentionMap(*oracle.inputs(queries=29, keys=83, dtype=torch.float32)[:2])
    more, fewer = weights.reduce(stats.TopK(4), stats.TopK(2))
    kept = more.values.clone()
    fewer.values.view(-1).zero_()
    assert torch.equal(more.values, kept) and fewer.indices.is_contiguous()


def test_some_rows_progress_and_foreign_reducers() -> None:
    q, k, _ = oracle.inputs(queries=1100, keys=83, dtype=torch.float32)
    bias = fv.biases.Distances(torch.randn(H, 1100 + 83 - 1))
    weights, seen = fv.AttentionMap(q, k, mask=masks.causal(), bias=bias), list[float]()
    reducers = stats.Received(), stats.Pooled(7, 9), stats.Pooled(7, 9, "mean"), stats.TopK(1), stats.LogSumExp()
    whole = weights.reduce(*reducers)
    again = weights.reduce(*reducers, progress=seen.append)
    parts = weights.partial(*reducers, rows=slice(0, 500)).merge(weights.partial(*reducers, rows=slice(500, 1100)))
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) > 1
    nothing = weights.partial(*reducers, rows=slice(5, 5))
    for a, b, c, d in zip(whole, again, parts.result(), parts.merge(nothing).result(), strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a, c)
        torch.testing.assert_close(a, d)

    class Own(stats.Entropy):
        def result(self, state: Tensor) -> Tensor:
            return state + 1

    torch.testing.assert_close(weights.reduce(Own()), weights.reduce(stats.Entropy()) + 1, rtol=1e-5, atol=1e-5)


def test_a_list_longer_than_its_room_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.operator.native.LIST_BYTES", 2000)
    q, k, v = oracle.inputs(queries=211, keys=131, dtype=torch.float32)
    mask = masks.where(lambda b, h, i, j: (i * 7 + j) % 5 != h)
    weights = fv.AttentionMap(q, k, mask=mask)
    out, best = weights.read(v, stats.Received())
    other = weights.to(torch.float64).read(v.double(), stats.Received())
    torch.testing.assert_close(out.double(), other[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(best.double(), other[1], rtol=1e-5, atol=1e-5)
