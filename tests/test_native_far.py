"""Keys that a bias by distance puts out of reach: what passes over them is as exact as what looks at them.

Axes: B batch, H query heads, G key heads, Q queries, K keys, D width, V value width, N distances.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import foveate as fv
import oracle
from foveate import masks, native, normalizers, scores
from foveate.biases import Distances
from foveate.native import Found, Wanted
from foveate.operator import native as backend
from native_oracle import FLOATS, ISAS, check, plain, several, use

pytestmark = pytest.mark.skipif(not fv.config().native, reason=f"no compiled core: {fv.config().reason}")
H, Q, K = oracle.H, 101, 389
SLOPES = 2.0 ** torch.arange(2, 2 - H, -1)
OUTPUT = Wanted()
GRIDS = ((3, 5, "max"), (31, 29, "mean"))  # cells so small that a plain sum over one is not exact by luck
EVERYTHING = Wanted(lse=True, entropy=True, top=3, received=True, pooled=GRIDS)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return use(request.param, monkeypatch)


def biases(queries: int = Q, keys: int = K) -> dict[str, Tensor]:
    """(H|1, N) by distance: those that fall, that grow, and others."""
    gap = torch.arange(queries + keys - 1) - (keys - 1)  # 0 where positions are equal, as they align to the end
    falling = -SLOPES[:, None] * gap.abs()
    generator = torch.Generator().manual_seed(0)
    return {
        "falling": falling,
        "one for all heads": falling[1:2],
        "growing": -falling,
        "to one side": SLOPES[:, None] * gap,
        "cliff": torch.where(gap.abs() < 70, 0.0, -1e4)[None],
        "cut off": torch.where(gap.abs() < 70, 0.0, -torch.inf)[None],
        "saw": (gap % 97).float()[None] * 5,
        "walk": 20 * torch.randn(H, len(gap), generator=generator).cumsum(-1),
        "flat": falling / 100,
    }


def inputs(dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    return oracle.inputs(lead=(1,), queries=Q, keys=K, dtype=dtype, **options)


def dense(table: Tensor, queries: int = Q, keys: int = K) -> Tensor:
    return table[:, torch.arange(keys) - torch.arange(queries)[:, None] + queries - 1]


def compute(weights: fv.AttentionMap, v: Tensor | None, wanted: Wanted) -> Found:
    g = weights.problem.geometry
    ((_, found),) = backend.passes(weights.problem, v, wanted, slice(0, g.queries))
    assert found.status == 0
    return found


def allowed_by(weights: fv.AttentionMap) -> Tensor:
    g = weights.problem.geometry
    axes = torch.meshgrid(*(torch.arange(n) for n in g.shape), indexing="ij")
    everything = torch.ones(g.shape, dtype=torch.bool)
    return everything if weights.mask is None else weights.mask.predicate(g)(*axes).expand(g.shape)


def check_terms(got: Tensor | None, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> None:
    """Every single number of the output is as exact as a plain computation's worst, by the size of what it sums.

    So a row of small values, or a column, is not excused by large ones elsewhere.
    """
    assert got is not None
    exact = oracle.weights(q, k, **options)
    truth, sizes = oracle.output(exact, v), oracle.output(exact, v.abs())
    read = v.repeat_interleave(q.shape[-3] // k.shape[-3], -3)

    def worst(output: Tensor) -> float:
        return float(torch.where(sizes > 0, (output.double() - truth).abs() / sizes, 0.0).max())

    allowed = max(worst((w.to(q.dtype) @ read).to(q.dtype)) for w in several(q, k, **options))
    scores = exact.clamp(min=2.0**-150).log().abs().max().item()  # less their row's log-sum-exp; each is rounded
    assert worst(got) <= 2 * allowed + torch.finfo(q.dtype).eps + scores * torch.finfo(torch.float32).eps


def both(q: Tensor, k: Tensor, v: Tensor, table: Tensor, **options: Any) -> tuple[int, int]:
    """Holds output alone, and all at once, to the oracle. How many panels each passed over."""
    weights = fv.AttentionMap(q, k, bias=Distances(table), **options)
    known: dict[str, Any] = {"allowed": allowed_by(weights), "bias": dense(table, q.shape[-2], k.shape[-2])}
    alone, all_of_it = compute(weights, v, OUTPUT), compute(weights, v, EVERYTHING)
    check_terms(alone.output, q, k, v, **known)
    check_terms(all_of_it.output, q, k, v, **known)
    check(q, k, v, all_of_it, **known)
    return alone.passed_over, all_of_it.passed_over


KINDS = [*((isa, torch.float32) for isa in ISAS), *((isa, dtype) for isa in ISAS[-1:] for dtype in FLOATS[1:])]


@pytest.mark.parametrize(("isa", "dtype"), KINDS, ids=str)
@pytest.mark.parametrize("name", biases())
def test_every_bias(name: str, isa: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    use(isa, monkeypatch)
    alone, all_of_it = both(*inputs(dtype), biases()[name])
    assert alone >= all_of_it
    if name == "flat":
        assert alone == 0
    else:
        assert all_of_it > 0


MASKS = {
    "causal": masks.causal(),
    "window": masks.window(150),
    "only keys that are far": ~masks.window(110),
    "only the first keys": masks.prefix(70),
    "only the first and the last": masks.prefix(3) | masks.where(lambda b, h, i, j: j > K - 3),
    "padding on the left": masks.padding([60], side="left"),
    "here and there": masks.where(lambda b, h, i, j: (i * 7 + j * 5 + h) % 11 == 0),
    "none for some rows": masks.where(lambda b, h, i, j: (i % 3 == 0) & (j < 200)),
    "no one": masks.where(lambda b, h, i, j: (i < 0) & (j < 0)),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("bias", ["falling", "growing", "walk"])
def test_every_mask(name: str, bias: str) -> None:
    both(*inputs(), biases()[bias], mask=MASKS[name])


@pytest.mark.parametrize("shape", ["wide", "narrow", "cap", "sinks"])
def test_caps_sinks_and_widths(isa: str, shape: str) -> None:
    q, k, v = inputs(width=130 if shape == "wide" else 1, depth=1 if shape == "narrow" else 33)
    table = biases()["falling"]
    known: dict[str, Any] = {"bias": dense(table)}
    options: dict[str, Any] = {}
    if shape == "cap":
        q, known["softcap"] = q * 30, 2.0  # the bound on scores is the cap
        options["score"] = scores.scaled_dot(softcap=2.0)
    if shape == "sinks":
        known["sinks"] = torch.linspace(-5, 20, H)
        options["normalizer"] = normalizers.softmax(known["sinks"])
    weights = fv.AttentionMap(q, k, bias=Distances(table), **options)
    alone, all_of_it = compute(weights, v, OUTPUT), compute(weights, v, EVERYTHING)
    assert alone.passed_over > all_of_it.passed_over > 0
    check_terms(alone.output, q, k, v, **known)
    check(q, k, v, all_of_it, **known)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("axis", "scale"), [(0, 1.0), (1, -1.0)])
def test_a_far_key_that_wins_against_its_bias(isa: str, axis: int, scale: float, dtype: torch.dtype) -> None:
    """Its score is all that the bound allows: 60, against -60 of the rest; the bias takes 100 of these 120."""
    q, k, v = (torch.zeros(1, 1, n, 2, dtype=dtype) for n in (Q, K, K))
    q[..., axis], k[..., axis], v = 60.0, -scale, torch.randn(1, 1, K, 3, dtype=dtype)
    k[..., 7, :] *= -1.0
    table = torch.where(torch.arange(Q + K - 1) - (K - 1) < -200, -100.0, 0.0)[None]
    weights = fv.AttentionMap(q, k, bias=Distances(table), score="dot", scale=scale)
    known: dict[str, Any] = {"bias": dense(table), "scale": scale}
    found = compute(weights, v, EVERYTHING)
    check(q, k, v, found, **known)
    check_terms(compute(weights, v, OUTPUT).output, q, k, v, **known)
    assert bool((found.top[1][..., 0] == 7).all())
    assert found.passed_over == 0


def test_a_cap_bounds_what_a_row_has_nearby(isa: str) -> None:
    """All scores are 60 before the cap and 2 after it; a row held to 60 would pass over all of its keys."""
    q, k, v = torch.full((1, 1, Q, 4), 15.0), torch.ones(1, 1, K, 4), torch.randn(1, 1, K, 3)
    table = biases()["falling"][2:3]
    weights = fv.AttentionMap(q, k, bias=Distances(table), score=scores.dot(softcap=2.0))
    found = compute(weights, v, OUTPUT)
    check_terms(found.output, q, k, v, bias=dense(table), scale=1.0, softcap=2.0)
    assert found.passed_over > 0


@pytest.mark.parametrize(("near_value", "far_value"), [(1.0, 1.0), (1.0, 1e3), (1.0, 1e-3), (1e-3, 1.0), (0.0, 1.0)])
def test_how_far_down_is_far_enough(isa: str, near_value: float, far_value: float) -> None:
    """One tile of rows. All scores are 1, as much as the bound says; the bias spares a query's own key alone."""
    rows = 6
    q, k = torch.ones(1, 1, rows, 1), torch.ones(1, 1, K, 1)
    v = torch.randint(0, 2, (1, 1, K, 5)) * 2.0 - 1.0
    v[..., 37:320:64, 2] *= far_value  # five panels; the other two hold the queries' own keys
    v[..., K - rows : K - 1, 3] *= near_value
    ratio = max(1.0, far_value) / near_value if near_value else math.inf
    enough = math.log(K) + 26 * math.log(2) + math.log(ratio)
    for wanted, limit in ((OUTPUT, min(104.0, enough)), (EVERYTHING, 104.0)):
        wanted = replace(wanted, pooled=())
        for down in (0.4 * limit, limit - 1, limit + 1):
            table = torch.where(torch.arange(rows + K - 1) == K - 1, 0.0, -down)[None]
            found = native.run(q, k, v, wanted, table=table[None])
            check_terms(found.output, q, k, v, bias=dense(table, rows))
            assert found.passed_over == (5 if down > limit else 0)


def test_keys_too_short_for_the_square_of_their_length(isa: str) -> None:
    """In float32 that square is 0; their scores, by long queries and a large scale, are not."""
    q, k, v = inputs()
    q, k, options = q * 1e18, k * 1e-24, {"scale": 1e7, "bias": dense(biases()["falling"])}
    found = native.run(q, k, v, OUTPUT, scale=1e7, table=biases()["falling"][None])
    check_terms(found.output, q, k, v, **options)


@pytest.mark.parametrize("which", ["queries", "one query", "keys", "one far key", "scale"])
def test_long_vectors(isa: str, which: str) -> None:
    q, k, v = inputs()
    if which == "queries":
        q = q * 1e4
    elif which == "one query":
        q[:, :, 64] *= 1e4
    elif which == "keys":
        k = k * 1e4
    elif which == "one far key":
        k[:, :, 3] = 500 * q[:, ::2, 100]
    table = biases()["falling"]
    weights = fv.AttentionMap(q, k, bias=Distances(table), scale=-0.7 if which == "scale" else None)
    known: dict[str, Any] = {"bias": dense(table), "scale": -0.7 if which == "scale" else None}
    found = compute(weights, v, EVERYTHING)
    check_terms(compute(weights, v, OUTPUT).output, q, k, v, **known)
    check(q, k, v, found, **known)
    assert (found.passed_over > 0) == (which in ("one query", "one far key", "scale"))


@pytest.mark.parametrize("where", ["far key", "near key", "query", "bias", "overflow"])
def test_nan_and_overflow_are_not_passed_over(isa: str, where: str) -> None:
    q, k, v = inputs()
    table, lost = biases()["falling"].clone(), torch.zeros(1, H, Q, dtype=torch.bool)
    if where == "far key":
        k[0, 2, 3, 4] = torch.nan
        lost[0, 4:] = True
    elif where == "near key":
        k[0, 2, 300] = torch.nan
        lost[0, 4:] = True
    elif where == "query":
        q[0, 3, 7, 2] = torch.nan
        lost[0, 3, 7] = True
    elif where == "bias":
        table[2, 5] = torch.nan  # which only the last queries meet
        lost[:, 2, Q - 6 :] = True
    else:
        k[0, 0, 3], q[0, 0, 9] = 1e25, 1e25
        lost[0, 0, 9] = True
    found = native.run(q, k, v, OUTPUT, scale=0.3, table=table[None])
    assert found.output is not None and found.status == native.NAN_ROWS
    assert torch.equal(found.output.isnan().any(-1), lost) and torch.equal(found.output.isnan().all(-1), lost)


VALUES = ["1e30 far away", "1e30 nearby", "0 nearby", "some are 0", "all are 0", "0 far away", "a column of small ones"]


@pytest.mark.parametrize("which", VALUES)
def test_values_of_any_size(isa: str, which: str) -> None:
    """Rows see keys of weights down to exp(-80), so that no set of instructions makes one 0 by itself."""
    q, k, v = oracle.inputs(queries=53, keys=449, depth=5, dtype=torch.float32)
    table = biases(53, 449)["falling"].clamp(min=-80) / 2 if which == "0 nearby" else biases(53, 449)["falling"]
    q = q / 10
    if which == "1e30 far away":
        v[..., :200, :] *= 1e30
    elif which == "1e30 nearby":
        v[..., 300:, :] *= 1e30
    elif which == "0 nearby":
        v[..., 300:, :] = 0.0
    elif which == "some are 0":
        v[..., ::3, 1] = 0.0
    elif which == "all are 0":
        v[:] = 0.0
    elif which == "0 far away":
        v[..., :300, :] = 0.0
    else:
        v[..., 300:, 2] *= 1e-20
    found = native.run(q, k, v, OUTPUT, scale=0.3, table=table[None])
    options: dict[str, Any] = {"bias": dense(table, 53, 449), "scale": 0.3}
    exact = oracle.output(oracle.weights(q, k, **options), v)
    if which == "all are 0":
        assert found.output is not None and bool((found.output == 0).all())
    else:
        check_terms(found.output, q, k, v, **options)
        oracle.as_good_as(found.output, plain(q, k, **options) @ v.repeat_interleave(2, 1), exact)


@pytest.mark.parametrize("mask", [None, masks.causal(), MASKS["here and there"]], ids=str)
def test_some_rows_at_a_time(mask: masks.Mask | None) -> None:
    q, k, v = inputs()
    table = biases()["falling"]
    weights = fv.AttentionMap(q, k, bias=Distances(table), mask=mask)
    pieces, passed = [], 0
    for rows in (slice(0, 7), slice(7, 64), slice(64, Q)):
        ((_, found),) = backend.passes(weights.problem, v, OUTPUT, rows)
        assert found.output is not None
        pieces.append(found.output)
        passed += found.passed_over
    assert passed > 0
    check_terms(torch.cat(pieces, 2), q, k, v, allowed=allowed_by(weights), bias=dense(table))


def test_a_bias_as_a_tensor_says_the_same() -> None:
    """It is never passed over. Sums of other panels at a time may be rounded otherwise."""
    q, k, v = inputs()
    table = biases()["falling"]
    ways = fv.AttentionMap(q, k, bias=Distances(table)), fv.AttentionMap(q, k, bias=dense(table))
    ours, theirs = (compute(weights, v, EVERYTHING) for weights in ways)
    assert ours.passed_over > 0 and theirs.passed_over == 0
    assert torch.equal(ours.top[1], theirs.top[1])
    for name in ("output", "lse", "entropy", "received"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-6)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "queries": draw(st.sampled_from([1, 5, 6, 49, 101])),
        "keys": draw(st.sampled_from([64, 131, 389])),
        "width": draw(st.sampled_from([2, 17, 64])),
        "bias": draw(st.sampled_from(sorted(set(biases(5, 7)) - {"cut off"}))),
        "steepness": draw(st.sampled_from([0.1, 1.0, 30.0])),
        "size": draw(st.sampled_from([0.1, 1.0, 5.0])),
        "mask": draw(st.sampled_from([None, *MASKS.values()])),
        "aligned": draw(st.booleans()),
        "far values": draw(st.sampled_from([1e-20, 1.0, 1e25])),
        "statistics": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(p=problems())
def test_any_problem(p: dict[str, Any]) -> None:
    torch.manual_seed(p["seed"])
    n, m = p["queries"], p["keys"]
    q, k, v = oracle.inputs(lead=(1,), queries=n, keys=m, width=p["width"], dtype=torch.float32)
    q = q * p["size"]
    if p["aligned"]:  # scores that reach their bounds: one direction, either way
        q[..., 1:] *= 1e-3
        k[..., 1:] *= 1e-3
    v[..., torch.rand(m) < 0.3, :] *= p["far values"]
    table = biases(n, m)[p["bias"]] * p["steepness"]
    weights = fv.AttentionMap(q, k, bias=Distances(table), mask=p["mask"])
    known: dict[str, Any] = {"allowed": allowed_by(weights), "bias": dense(table, n, m)}
    grids = tuple((min(rows, n), min(columns, m), how) for rows, columns, how in GRIDS)
    found = compute(weights, v, replace(EVERYTHING, pooled=grids) if p["statistics"] else OUTPUT)
    exact = oracle.weights(q, k, **known)
    small = (exact < 1e-37) & (exact > 0)  # which some sets of instructions make 0 by themselves
    if p["far values"] == 1.0 or not bool(small.any()):
        check_terms(found.output, q, k, v, **known)
    if p["statistics"] and p["far values"] == 1.0 and n > 6 and p["width"] > 2:  # sums of few are exact by luck
        check(q, k, v, found, **known)
