"""Masks against definitions written entry by entry, and what they say about blocks against what they do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mask_kinds
import oracle
from foveate import AttentionMap, attention, masks
from foveate.masks import Coverage, Mask
from foveate.masks.spans import spans
from foveate.shapes import Geometry, Layout

Allowed = Callable[[int, int, int, int], bool]


@st.composite
def cases(draw, depth: int = 2) -> tuple[Geometry, Mask, Allowed]:
    """A geometry, a mask that fits it, and the same mask as a plain function of four ints."""
    b, h = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    g = Geometry(b, h, draw(st.integers(1, 9)), draw(st.integers(1, 11)))
    mask, allowed = draw(_masks(g, depth))
    return g, mask.settle(Layout((b,), 2), g), allowed


@st.composite
def _masks(draw, g: Geometry, depth: int) -> tuple[Mask, Allowed]:
    kind = draw(
        st.sampled_from([_band, _padding, _documents, _prefix, _where, _tensor, _everything, *mask_kinds.KINDS])
    )
    if depth and draw(st.booleans()):
        (a, in_a), (c, in_c) = draw(_masks(g, depth - 1)), draw(_masks(g, depth - 1))
        return draw(
            st.sampled_from(
                [
                    (a & c, lambda *at: in_a(*at) and in_c(*at)),
                    (a | c, lambda *at: in_a(*at) or in_c(*at)),
                    (~a, lambda *at: not in_a(*at)),
                ]
            )
        )
    return kind(draw, g)


def _band(draw, g: Geometry) -> tuple[Mask, Allowed]:
    what = draw(st.sampled_from(["causal", "start", "window"]))
    place = g.keys - g.queries
    if what == "causal":
        return masks.causal(), lambda b, h, q, k: k <= q + place
    if what == "start":
        return masks.causal(align="start"), lambda b, h, q, k: k <= q
    left, right = draw(st.integers(0, 5)), draw(st.none() | st.integers(0, 5))
    after = left if right is None else right
    return masks.window(left, right), lambda b, h, q, k: q + place - left <= k <= q + place + after


def _padding(draw, g: Geometry) -> tuple[Mask, Allowed]:
    lengths = draw(st.lists(st.integers(0, g.keys), min_size=g.batch, max_size=g.batch))
    if draw(st.booleans()):
        return masks.padding(lengths), lambda b, h, q, k: k < lengths[b]
    return masks.padding(lengths, side="left"), lambda b, h, q, k: k >= g.keys - lengths[b]


def _documents(draw, g: Geometry) -> tuple[Mask, Allowed]:
    place = g.keys - g.queries
    row = st.lists(st.integers(0, 3), min_size=g.keys, max_size=g.keys)
    row = row.map(sorted) if draw(st.booleans()) else row
    if draw(st.booleans()):
        ids = draw(row)
        return masks.documents(ids), lambda b, h, q, k: q + place >= 0 and ids[q + place] == ids[k]
    many = draw(st.lists(row, min_size=g.batch, max_size=g.batch))
    return masks.documents(torch.tensor(many)), lambda b, h, q, k: q + place >= 0 and many[b][q + place] == many[b][k]


def _prefix(draw, g: Geometry) -> tuple[Mask, Allowed]:
    length = draw(st.integers(0, g.keys + 2))
    return masks.prefix(length), lambda b, h, q, k: k < length


def _where(draw, g: Geometry) -> tuple[Mask, Allowed]:
    n = draw(st.integers(1, 4))
    return masks.where(lambda b, h, q, k: (b + h + q * k) % n == 0), lambda b, h, q, k: (b + h + q * k) % n == 0


def _tensor(draw, g: Geometry) -> tuple[Mask, Allowed]:
    shape = [n if draw(st.booleans()) else 1 for n in g.shape]
    dense = torch.rand(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) < 0.5
    full = dense.expand(g.shape).tolist()
    return masks.tensor(dense), lambda b, h, q, k: full[b][h][q][k]


def _everything(draw, g: Geometry) -> tuple[Mask, Allowed]:
    return masks.everything(), lambda b, h, q, k: True


def brute(g: Geometry, allowed: Allowed) -> torch.Tensor:
    b, h, q, k = (range(n) for n in g.shape)
    return torch.tensor([[[[bool(allowed(i, j, m, n)) for n in k] for m in q] for j in h] for i in b]).reshape(g.shape)


def _span(draw, n: int) -> tuple[int, int]:
    start = draw(st.integers(0, n - 1))
    return start, draw(st.integers(start + 1, n))


@settings(max_examples=150, deadline=None)
@given(cases(), st.data())
def test_every_way_to_ask_gives_the_definition(case, data) -> None:
    g, mask, allowed = case
    exact = brute(g, allowed)
    grid = torch.meshgrid(*(torch.arange(n) for n in g.shape), indexing="ij")
    assert torch.equal(mask.predicate(g)(*grid).expand(g.shape), exact)
    flat = torch.cartesian_prod(*(torch.arange(n) for n in g.shape)).T
    assert torch.equal(mask.predicate(g)(*flat).expand(flat.shape[1]), exact.flatten())
    (b0, b1), (h0, h1), (r0, r1), (c0, c1) = (_span(data.draw, n) for n in g.shape)
    cpu = torch.device("cpu")
    part = mask.block(g, (slice(b0, b1), slice(h0, h1), slice(r0, r1), slice(c0, c1)), cpu)
    assert torch.equal(part.expand(b1 - b0, h1 - h0, r1 - r0, c1 - c0), exact[b0:b1, h0:h1, r0:r1, c0:c1])
    rows, columns = torch.arange(g.queries - 1, r0 - 1, -1), torch.tensor([c0, g.keys - 1, c0])
    part = mask.block(g, (slice(b0, b1), slice(h0, h1), rows, columns), cpu)
    wanted = exact[b0:b1, h0:h1][:, :, rows][..., columns]
    assert torch.equal(part.expand_as(wanted), wanted)


@settings(max_examples=300, deadline=None)
@given(cases(), st.data())
def test_coverage_never_lies(case, data) -> None:
    g, mask, allowed = case
    rows, columns = _span(data.draw, g.queries), _span(data.draw, g.keys)
    block = brute(g, allowed)[:, :, slice(*rows), slice(*columns)]
    said = mask.coverage(g, rows, columns)
    assert said is not Coverage.NONE or not block.any()
    assert said is not Coverage.ALL or block.all()


@settings(max_examples=150, deadline=None)
@given(cases(), st.data(), st.integers(1, 4))
def test_live_keys_hold_all_that_may_be_seen(case, data, step) -> None:
    g, mask, allowed = case
    problem = AttentionMap(
        torch.zeros(g.batch, g.heads, g.queries, 1), torch.zeros(g.batch, g.heads, g.keys, 1)
    ).problem
    rows = _span(data.draw, g.queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foveate.operator.problem.MASK_STEP", step)
        problem = type(problem)(problem.q_BHQD, problem.k_BGKD, problem.score, problem.normalizer, mask)
        spans = problem.live(slice(*rows))
        total = sum(s.stop - s.start for s in spans)
        assert problem.lives_in_more(slice(*rows), total - 1) == (total > 0)
        assert not problem.lives_in_more(slice(*rows), total)
    seen = brute(g, allowed)[:, :, slice(*rows)]
    edges = [0, *(end for s in spans for end in (s.start, s.stop)), g.keys]
    assert edges == sorted(edges) and all(a.stop < b.start for a, b in pairwise(spans))
    for dead in zip(edges[::2], edges[1::2], strict=True):
        assert not seen[..., slice(*dead)].any()


@pytest.mark.parametrize(
    ("mask", "queries", "keys", "rows", "live"),
    [
        (masks.causal(), 1000, 1000, slice(0, 100), slice(0, 256)),
        (masks.causal(), 1000, 5000, slice(0, 100), slice(0, 4352)),
        (masks.causal("start"), 1000, 5000, slice(0, 100), slice(0, 256)),
        (masks.window(10), 5000, 5000, slice(2000, 2100), slice(1792, 2304)),
        (masks.causal() & masks.window(300), 5000, 5000, slice(4000, 4001), slice(3584, 4096)),
        (masks.padding([700]), 10, 5000, slice(0, 10), slice(0, 768)),
        (masks.padding([700], side="left"), 10, 5000, slice(0, 10), slice(4096, 5000)),
        (masks.documents([0] * 600 + [1] * 600 + [2] * 600), 1800, 1800, slice(700, 800), slice(512, 1280)),
        (~masks.prefix(3000), 10, 5000, slice(0, 10), slice(2816, 5000)),
        (masks.prefix(0), 10, 5000, slice(0, 10), slice(0, 0)),
        (masks.window(5) & ~masks.window(5), 10, 300, slice(0, 10), slice(256, 300)),
    ],
    ids=str,
)
def test_live_keys_are_few(mask: Mask, queries: int, keys: int, rows: slice, live: slice) -> None:
    """Within MASK_STEP, 256, of the truth: this is what makes windows and padding cheap."""
    problem = AttentionMap(torch.zeros(1, queries, 1), torch.zeros(1, keys, 1), mask=mask).problem
    found = problem.live(rows) or [slice(live.stop, live.stop)]
    assert live.start - 256 <= found[0].start and found[-1].stop <= live.stop + 256
    assert found[-1].stop - found[0].start <= live.stop - live.start + 256


def test_a_mask_of_any_make_hides_what_it_should() -> None:
    q, k, _ = oracle.inputs((2,), heads=2, groups=2, queries=4, keys=6)
    at = [torch.tensor(i) for i in (1, 1, 3, 5)]
    for mask in (masks.causal(), masks.padding([2, 3]), masks.documents([0, 0, 0, 1, 1, 1]), masks.prefix(2)):
        seen = oracle.table(mask, (2,), 2, 4, 6)
        weights = AttentionMap(q, k, mask=mask)
        assert torch.equal(weights.dense() > 0, seen)
        assert torch.equal(AttentionMap(q, k, mask=~mask).dense() > 0, ~seen)
        assert bool(weights[tuple(int(i) for i in at)] > 0) == bool(seen[1, 1, 3, 5])


def test_text_of_masks() -> None:
    shown = {
        str(masks.causal()): "causal",
        str(masks.causal("start")): "causal(align='start')",
        str(masks.causal() & masks.window(3)): "causal & window(3, 3)",
        str((masks.causal() | masks.prefix(2)) & ~masks.padding([1])): "(causal | prefix(2)) & ~padding",
        str(masks.padding([1], side="left")): "padding(side='left')",
        str(masks.documents([1])): "documents",
        str(masks.everything()): "everything",
        str(masks.tensor(torch.ones(2, 3) > 0)): "tensor(2, 3)",
        str(masks.where(max)): "where(max)",  # type: ignore[arg-type]
    }
    assert all(a == b for a, b in shown.items()), shown


def test_predicates_of_ones_own() -> None:
    q, k, _ = oracle.inputs()
    assert (AttentionMap(q, k, mask=masks.where(lambda b, h, q, k: True)).dense() > 0).all()
    assert (AttentionMap(q, k, mask=masks.where(lambda b, h, q, k: torch.tensor(False))).dense() == 0).all()
    with pytest.raises(TypeError, match="a predicate must give booleans, True = may attend"):
        AttentionMap(q, k, mask=masks.where(lambda b, h, q, k: q - k)).dense()
    with pytest.raises(TypeError, match=r"where takes a function of \(batch, head, query, key\); got int"):
        masks.where(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: masks.causal("middle"), "align must be 'end' or 'start'; got 'middle'"),  # type: ignore[arg-type]
        (lambda: masks.window(-1), "window distances must be 0 or more"),
        (lambda: masks.window(1, -1), "window distances must be 0 or more"),
        (lambda: masks.window(1.5), "a window distance must be a whole number; got 1.5"),  # type: ignore[arg-type]
        (lambda: masks.window(1, "2"), "a window distance must be a whole number; got str"),  # type: ignore[arg-type]
        (lambda: masks.prefix(2.0), "a prefix length must be a whole number; got 2.0"),  # type: ignore[arg-type]
        (lambda: masks.prefix(-1), "a prefix length must be 0 or more"),
        (lambda: masks.padding([1.5]), "padding lengths must be whole numbers; got torch.float32"),  # type: ignore[list-item]
        (lambda: masks.padding([True]), "padding lengths must be whole numbers; got torch.bool"),
        (lambda: masks.padding([1], "up"), "side must be 'right' or 'left'; got 'up'"),  # type: ignore[arg-type]
        (lambda: masks.documents([0.5]), "document ids must be whole numbers"),  # type: ignore[list-item]
    ],
)
def test_masks_that_cannot_be(make: Callable, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (masks.causal, r"fv.masks.causal makes a mask when it is called: write fv.masks.causal\(...\)"),
        (masks.bigbird, "fv.masks.bigbird makes a mask when it is called"),
        (oracle.table, "a mask is one of fv.masks or booleans; got the function table: wrap it, fv.masks.where"),
    ],
)
def test_a_function_is_no_mask(given: Any, text: str) -> None:
    q, k, v = oracle.inputs()
    for use in (
        lambda: attention(q, k, v, mask=given),
        lambda: AttentionMap(q, k, mask=given),
        lambda: masks.window(2) & given,
        lambda: given | masks.window(2),
    ):
        with pytest.raises(TypeError, match=text):
            use()


def test_whole_numbers_of_any_make() -> None:
    assert str(masks.window(np.int64(3), torch.tensor(2))) == str(masks.window(3, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (masks.padding([1, 2, 3]), "padding needs one length per sequence, 2; got 3"),
        (masks.padding([1, 8]), "padding lengths must lie between 0 and the number of keys, 7"),
        (masks.padding([-1, 2]), "padding lengths must lie between 0"),
        (masks.documents([0, 1]), r"document ids must have shape \(7,\) or \(2, 7\); got \(2,\)"),
        (masks.causal() & (masks.window(2) | ~masks.padding([1])), "padding needs one length per sequence, 2; got 1"),
    ],
    ids=str,
)
def test_masks_that_do_not_fit(mask: Mask, text: str) -> None:
    q, k, _ = oracle.inputs()
    with pytest.raises(ValueError, match=text):
        AttentionMap(q, k, mask=mask)


def test_masks_of_several_leading_axes() -> None:
    q, k, _ = oracle.inputs((2, 3))
    lengths = torch.tensor([[1, 2, 3], [4, 5, 6]])
    seen = torch.arange(7) < lengths[..., None]
    weights = AttentionMap(q, k, mask=masks.padding(lengths))
    oracle.close(weights.dense(), oracle.weights(q, k, allowed=seen[:, :, None, None]))
    ids = torch.randint(0, 2, (2, 3, 7))
    seen = ids[..., -5:, None] == ids[..., None, :]
    oracle.close(AttentionMap(q, k, mask=masks.documents(ids)).dense(), oracle.weights(q, k, allowed=seen[:, :, None]))


def test_one_mask_asked_for_many_sizes_answers_each() -> None:
    """What was found for the last geometry is kept; a decoder asks with one key more at each token."""
    causal = masks.causal()
    for queries, keys in ((1, 3), (1, 4), (2, 4), (1, 3)):
        g = Geometry(1, 1, queries, keys)
        first, last = spans(causal, g) or pytest.fail("a band shows one interval a row")
        assert first.unique().tolist() == [0]
        assert last.flatten().tolist() == [keys - queries + i + 1 for i in range(queries)]
