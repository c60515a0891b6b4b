"""Sparse masks: relations between them, what they cost, what is refused; their rules are tested in test_masks.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import foveate as fv
import mask_kinds
import oracle
from foveate import AttentionMap, masks
from foveate.masks import Coverage, Mask
from foveate.operator import strips
from foveate.shapes import Geometry, Layout
from oracle import H


def dense(mask: Mask, batch: int, queries: int, keys: int, heads: int = 1) -> Tensor:
    """All booleans at once, (B, H, Q, K)."""
    g = Geometry(batch, heads, queries, keys)
    grid = torch.meshgrid(*(torch.arange(n) for n in g.shape), indexing="ij")
    return mask.settle(Layout((batch,), 2), g).predicate(g)(*grid).expand(g.shape)


@settings(max_examples=200, deadline=None)
@given(st.data())
@pytest.mark.parametrize("kind", mask_kinds.KINDS)
def test_coverage_never_lies_and_is_exact_where_it_can_be(kind: Any, data: Any) -> None:
    exactly = kind in (mask_kinds.dilated, mask_kinds.strided, mask_kinds.block_sparse)
    batch = 1 if exactly else data.draw(st.integers(1, 2))
    g = Geometry(batch, 1, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 12)))
    mask = kind(data.draw, g)[0].settle(Layout((1,), 2), g)
    r0, c0 = data.draw(st.integers(0, g.queries - 1)), data.draw(st.integers(0, g.keys - 1))
    r1, c1 = data.draw(st.integers(r0 + 1, g.queries)), data.draw(st.integers(c0 + 1, g.keys))
    block = dense(mask, batch, g.queries, g.keys)[:, 0, r0:r1, c0:c1]
    exact = Coverage.ALL if block.all() else Coverage.SOME if block.any() else Coverage.NONE
    said = mask.coverage(g, (r0, r1), (c0, c1))
    assert said is exact or (said is Coverage.SOME and not exactly)


def test_one_mask_is_another() -> None:
    n = 23
    same = [
        (masks.dilated(3, 2, dilation=1), masks.window(3, 2)),
        (masks.longformer(3), masks.window(3)),
        (masks.longformer(2, dilation=3), masks.dilated(2, dilation=3)),
        (masks.longformer(2, [0, 7], dilation=3), masks.dilated(2, dilation=3) | masks.global_tokens([7, 0])),
        (masks.strided(1), masks.causal()),
        (masks.fixed(1), masks.causal()),
        (masks.fixed(n, summary=0), masks.causal()),
        (masks.strided(5), masks.causal() & (masks.window(5) | masks.dilated(n, dilation=5))),
        (masks.fixed(5, summary=0), masks.causal() & masks.documents(lengths=[5, 5, 5, 5, 3])),
        (masks.block_sparse(torch.ones(3, 3) > 0, 10), masks.everything()),
        (masks.block_sparse(torch.eye(5) > 0, 5), masks.documents(lengths=[5, 5, 5, 5, 3])),
        (masks.bigbird(4, window=6, random=0, globals=0), masks.everything()),
        (masks.neighbourhood((n,), n), masks.everything()),
        (masks.packed([9, 14]), masks.documents(lengths=[9, 14])),
        (masks.packed([9, 14], causal=True, window=4), masks.documents(lengths=[9, 14]) & masks.window(4, 0)),
        (masks.causal(offset=0), masks.causal("start")),
        (masks.documents([3] * 9 + [1] * 14), masks.documents(lengths=torch.tensor([9, 14]))),
    ]
    for a, b in same:
        assert torch.equal(dense(a, 1, n, n), dense(b, 1, n, n)), f"{a} is not {b}"
    assert torch.equal(dense(masks.causal(offset=16), 1, 7, n), dense(masks.causal(), 1, 7, n))
    assert torch.equal(dense(masks.window(4, 1, offset=[16]), 1, 7, n), dense(masks.window(4, 1), 1, 7, n))


def natten_start(index: int, length: int, kernel: int, dilation: int) -> int:
    """`get_window_start` of NATTEN 0.14 (csrc, natten_cpu_commons.h), line by line."""
    radius = kernel // 2
    if dilation <= 1:
        return max(index - radius, 0) + (index + radius >= length) * (length - index - radius - 1)
    ni = index - radius * dilation
    if ni < 0:
        return index % dilation
    if index + radius * dilation >= length:
        imodd = index % dilation
        a = length // dilation * dilation
        b = length - a
        if imodd < b:
            return length - b + imodd - 2 * radius * dilation
        return a + imodd - kernel * dilation
    return ni


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_neighbourhood_moves_inwards_as_natten_does(kernel: int, dilation: int) -> None:
    n = 17
    found = dense(masks.neighbourhood((n,), kernel, dilation=dilation), 1, n, n)[0, 0]
    for i in range(n):
        start = natten_start(i, n, kernel, dilation)
        assert found[i].nonzero().flatten().tolist() == [start + dilation * t for t in range(kernel)]
    plane = dense(masks.neighbourhood((n, 15), kernel, dilation=dilation, leading=2), 1, 257, 257)[0, 0]
    assert plane[2:, 2:].sum(-1).eq(kernel**2).all() and plane[:2].all() and plane[:, :2].all()


def test_bigbird_is_its_recipe() -> None:
    mask = masks.bigbird(5, window=1, globals=2, random=3, seed=7)
    found = dense(mask, 2, 61, 61, heads=2)
    assert torch.equal(found, found[:1, :1].expand_as(found))
    blocks = found[0, 0, ::5, ::5]  # 13 x 13
    assert torch.equal(found[0, 0], blocks.repeat_interleave(5, 0).repeat_interleave(5, 1)[:61, :61])
    place = torch.arange(13)
    known = ((place[:, None] - place).abs() <= 1) | (place < 2) | (place[:, None] < 2)
    assert (blocks | ~known).all()
    assert (blocks & ~known).sum(1)[2:].tolist() == [3] * 11
    assert not torch.equal(found, dense(masks.bigbird(5, globals=2, seed=8), 2, 61, 61, heads=2))
    assert torch.equal(found[..., 40:, :], dense(mask, 2, 21, 61, heads=2)), "a cached query sees what it did"


LONG = 1024


@pytest.mark.parametrize(
    "mask",
    [
        masks.longformer(50, [0, 1, 900]),
        masks.bigbird(32, random=2),
        masks.block_sparse(torch.eye(16, dtype=torch.bool).roll(5, 1), 64),
        masks.packed([150, 350, 500, 24], causal=True),
        masks.documents(lengths=[150, 350, 500, 24]),
        masks.neighbourhood((32, 32), 7),
        masks.prefix(40) | masks.window(50, 0),
        masks.dilated(20, dilation=9),
        masks.fixed(256, summary=2) & ~masks.window(5),
        masks.window(80, 0, offset=0),
    ],
    ids=str,
)
def test_dead_blocks_are_skipped(mask: Mask, monkeypatch: pytest.MonkeyPatch) -> None:
    """No 128 keys that are hidden from all rows of a strip are computed for it."""
    for name, small in {"MASK_STEP": 128, "GOOD_NUMBERS": 1 << 15}.items():
        monkeypatch.setattr(f"foveate.operator.problem.{name}", small)
    q, v = torch.randn(1, 1, LONG, 4), torch.randn(1, 1, LONG, 4)
    problem = AttentionMap(q, q, mask=mask).problem
    allowed = dense(mask, 1, LONG, LONG)[0, 0]
    asked: dict[int, set[tuple[int, int]]] = {}  # by the first row of a strip: columns
    plain = type(problem).scores

    def scores(self: Any, batch: Any, heads: Any, rows: Any, columns: Any) -> Tensor:
        asked.setdefault(rows.start, set()).add((columns.start, columns.stop))
        return plain(self, batch, heads, rows, columns)

    monkeypatch.setattr(type(problem), "scores", scores)
    output, _ = fv.attention(q, q, v, mask=mask, backend="blocks")
    spread = 0
    for strip in strips(problem):
        seen = allowed[strip.rows].any(0)
        columns = torch.zeros(LONG, dtype=torch.bool)
        for start, stop in asked[strip.rows.start]:
            columns[start:stop] = True
        assert (columns | ~seen).all(), "a live key was skipped"
        for piece, live in zip(columns.split(128), seen.split(128), strict=True):
            assert live.any() or not piece.any(), "a dead block was computed"
        spread += int(columns.sum()) * (strip.rows.stop - strip.rows.start)
    assert spread < 0.75 * LONG**2
    oracle.as_good_as(output, _plain(q, v, allowed), _plain(q.double(), v.double(), allowed))


def _plain(q: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    s = (q @ q.mT / q.shape[-1] ** 0.5).masked_fill(~allowed, -torch.inf)
    return torch.softmax(s, -1).nan_to_num(0.0) @ v


def test_packed_sequences_are_those_alone() -> None:
    q_lengths, k_lengths = [3, 0, 5, 2], [4, 2, 5, 7]
    q, k, v = oracle.inputs((), queries=sum(q_lengths), keys=sum(k_lengths))
    cumulative = torch.tensor([0, 4, 6, 11, 18], dtype=torch.int32)
    for options in ({}, {"causal": True}, {"window": (2, 1)}):
        mask = masks.packed(q_lengths, cumulative.diff(), **options)
        output, weights = fv.attention(q, k, v, mask=mask)
        one = {"causal": masks.causal(), "window": masks.window(2, 1)}.get(next(iter(options), ""))
        ends = [torch.tensor([0, *n]).cumsum(0).tolist() for n in (q_lengths, k_lengths)]
        for (q0, q1), (k0, k1) in zip(*map(pairwise, ends), strict=True):
            alone, theirs = fv.attention(q[:, q0:q1], k[:, k0:k1], v[:, k0:k1], mask=one)
            oracle.close(output[:, q0:q1], alone)
            oracle.close(weights[:, q0:q1, k0:k1], theirs.dense())


def test_caches_filled_unequally() -> None:
    """Each sequence with its own number of cached keys, in one table of 13 places."""
    filled, new = [3, 11, 0], 2
    q, k, v = oracle.inputs((3,), queries=new, keys=13)
    output, weights = fv.attention(q, k, v, mask=masks.causal(offset=filled))
    for b, past in enumerate(filled):
        alone, theirs = fv.attention(q[b], k[b, :, : past + new], v[b, :, : past + new], mask=masks.causal())
        oracle.close(output[b], alone)
        oracle.close(weights[b, :, :, : past + new], theirs.dense())
        assert (weights[b, :, :, past + new :] == 0).all()


ALL_KINDS: list[tuple[Mask, str]] = [
    (masks.dilated(3, 1, dilation=2), "dilated(3, 1, dilation=2)"),
    (masks.strided(3), "strided(3)"),
    (masks.fixed(3), "fixed(3, summary=1)"),
    (masks.global_tokens([1]), "global_tokens"),
    (masks.longformer(2, torch.tensor([1])), "window(2, 2) | global_tokens"),
    (masks.block_sparse(torch.eye(3) > 0, 4), "block_sparse"),
    (masks.bigbird(2), "bigbird"),
    (masks.neighbourhood((2, 5), (1, 3), leading=1), "neighbourhood(2 x 5, 1 x 3)"),
    (masks.packed([4, 7]), "packed"),
    (masks.packed([4, 7], causal=True), "packed(causal)"),
    (masks.packed([4, 7], window=2), "packed(window(2, 2))"),
    (masks.causal(offset=0), "causal(offset=0)"),
    (masks.window(3, 2, offset=[0, 1]), "window(3, 2, offset)"),
    (masks.causal(offset=[0, 1]), "causal(offset)"),
]


class Masked(nn.Module):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = fv.attention(x, x, x, mask=self.mask)[0]
        return out


@pytest.mark.parametrize(("mask", "text"), ALL_KINDS, ids=[text for _, text in ALL_KINDS])
def test_recordings_keep_the_rule(mask: Mask, text: str, tmp_path: Path) -> None:
    assert str(mask) == text
    model, x = Masked(mask), torch.randn(2, H, 11, 4)
    with fv.watch(model) as seen:
        model(x)
    seen.save(tmp_path / "run.fov")
    again = fv.load(tmp_path / "run.fov")["Masked"]
    assert str(again.mask) == text
    assert torch.equal(again.dense(), seen["Masked"].dense())
    assert torch.equal(again.dense() > 0, dense(mask, 2, 11, 11, heads=H))


def test_which_masks_are_causal() -> None:
    yes = [
        masks.causal(),
        masks.causal("start"),
        masks.window(3, 0),
        masks.causal(offset=2),
        masks.dilated(3, 0, dilation=2),
        masks.strided(3),
        masks.fixed(3),
        masks.packed([4, 7], causal=True),
        masks.causal() & masks.padding([3]),
        masks.padding([3]) & masks.causal(),
        masks.causal() | masks.strided(2),
    ]
    no = [
        masks.everything(),
        masks.window(3),
        ~masks.causal(),
        masks.causal() | masks.prefix(3),
        masks.packed([4, 7]),
        masks.packed([4, 7], [5, 7], causal=True),  # the positions of one sequence are not those of the whole
        masks.neighbourhood((3, 3), 3),
        masks.tensor(torch.ones(5, 5).tril() > 0),
    ]
    assert [m.is_causal for m in yes] == [True] * len(yes)
    assert [m.is_causal for m in no] == [False] * len(no)
    x = torch.randn(1, 2, 11, 4)
    for mask, kind in ((masks.strided(3), "decoder"), (masks.longformer(3, [0]), "encoder"), (~yes[0], "encoder")):
        model = Masked(mask)
        with fv.watch(model) as seen:
            model(x)
        assert seen._calls["Masked"][0].info.kind == kind


X = torch.zeros(2, 3, 12, 4)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: masks.dilated(-1, dilation=2), "window distances must be 0 or more"),
        (lambda: masks.dilated(1, dilation=0), "dilation must be at least 1; got 0"),
        (lambda: masks.strided(0), "a stride must be at least 1; got 0"),
        (lambda: masks.fixed(0), "a stride must be at least 1; got 0"),
        (lambda: masks.fixed(3, 4), "summary must lie between 0 and the stride, 3; got 4"),
        (lambda: masks.global_tokens([0.5]), r"global tokens are indices \(n,\) or booleans; got torch.float32"),
        (lambda: masks.global_tokens([[1]]), r"got torch.int64 of shape \(1, 1\)"),
        (lambda: masks.longformer(-1), "window distances must be 0 or more"),
        (lambda: masks.block_sparse([[1]], 3), r"a layout holds booleans .*; got torch.int64 of shape \(1, 1, 1\)"),
        (lambda: masks.block_sparse([True], 3), r"got torch.bool of shape \(1,\)"),
        (lambda: masks.block_sparse([[True]], 0), "block_size must be at least 1; got 0"),
        (lambda: masks.block_sparse([[True]], 1, align="up"), "align must be 'end' or 'start'; got 'up'"),  # type: ignore[arg-type]
        (lambda: masks.bigbird(0), "block_size must be at least 1; got 0"),
        (lambda: masks.bigbird(2, random=-1), "window, global and random blocks must be 0 or more"),
        (lambda: masks.neighbourhood((4, 4), 2), "a kernel must be odd, so that it has a middle; got 2"),
        (lambda: masks.neighbourhood((4, 9), 5), "must not exceed the grid; got 5 x 1 on an axis of 4"),
        (lambda: masks.neighbourhood((9,), 3, dilation=4), "must not exceed the grid; got 3 x 4 on an axis of 9"),
        (lambda: masks.neighbourhood((4, 0), 1), "must be whole numbers of at least 1"),
        (lambda: masks.neighbourhood((4,), 1, leading=-1), "leading at least 0"),
        (lambda: masks.neighbourhood((4, 4), (1,)), "grid, kernel and dilation need as many axes"),
        (lambda: masks.documents(), "documents takes either ids or lengths"),
        (lambda: masks.documents([1], lengths=[1]), "documents takes either ids or lengths"),
        (lambda: masks.documents(lengths=[-1]), "document lengths must be 0 or more; got -1"),
        (lambda: masks.packed([1.5]), "query lengths must be whole numbers; got torch.float32"),  # type: ignore[list-item]
        (lambda: masks.packed([1], [-2]), "key lengths must be 0 or more; got -2"),
        (lambda: masks.packed([1, 2], [3]), r"as many query lengths as key lengths; got \(2,\) and \(1,\)"),
        (lambda: masks.packed([1], window=-1), "window distances must be 0 or more"),
        (lambda: masks.dilated(1.5, dilation=2), "a number of keys must be a whole number; got 1.5"),  # type: ignore[arg-type]
        (lambda: masks.dilated(1, dilation=2.5), "a dilation must be a whole number; got 2.5"),  # type: ignore[arg-type]
        (lambda: masks.strided(2.5), "a stride must be a whole number; got 2.5"),  # type: ignore[arg-type]
        (lambda: masks.fixed(3, 0.5), "a summary must be a whole number; got 0.5"),  # type: ignore[arg-type]
        (lambda: masks.longformer(2.5), "a window distance must be a whole number; got 2.5"),  # type: ignore[arg-type]
        (lambda: masks.block_sparse([[True]], 1.5), "block_size must be a whole number; got 1.5"),  # type: ignore[arg-type]
        (lambda: masks.bigbird(2, window=0.5), "a number of blocks must be a whole number; got 0.5"),  # type: ignore[arg-type]
        (lambda: masks.neighbourhood((4, 4), 2.5), "a kernel must be a whole number; got 2.5"),  # type: ignore[arg-type]
        (lambda: masks.neighbourhood((4, 4.5), 3), "an axis of a grid must be a whole number; got 4.5"),  # type: ignore[list-item]
        (lambda: masks.packed([3], window=1.5), "a window distance must be a whole number; got 1.5"),  # type: ignore[arg-type]
        (lambda: masks.causal(offset=[0.5]), "offsets must be whole numbers; got torch.float32"),  # type: ignore[list-item]
        (lambda: masks.causal("start", offset=1), "so align='start' has nothing to say"),
    ],
)
def test_patterns_that_cannot_be(make: Callable, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (masks.global_tokens([0, 12]), r"global tokens must lie between 0 and 11; got \[0, 12\]"),
        (masks.global_tokens([-1]), "global tokens must lie between 0 and 11"),
        (masks.global_tokens([True]), r"must have shape \(12,\) or \(2, 12\); got \(1,\)"),
        (masks.block_sparse([[True]], 5), r"\(3 or 1, 3, 3\); got \(1, 1, 1\)"),
        (masks.block_sparse([[[True]]] * 2, 12), r"\(3 or 1, 1, 1\); got \(2, 1, 1\)"),
        (masks.neighbourhood((3, 3), 3), r"on \(3, 3\) with 0 leading tokens needs 9 keys .*; got 12 and 12"),
        (masks.packed([5, 6]), "must add up to the numbers of queries and keys, 12 and 12; got 11 and 11"),
        (masks.packed([5, 7], [5, 8]), "12 and 12; got 12 and 13"),
        (masks.causal(offset=[1, 2, 3]), "one offset, or one per sequence, 2; got 3"),
    ],
    ids=str,
)
def test_patterns_that_do_not_fit(mask: Mask, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        AttentionMap(X, X, mask=mask)
