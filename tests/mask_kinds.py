"""Sparse masks drawn at random for a geometry, each with the same rule as a plain function of four ints.

The rules are written from the papers, on their own: none asks the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st

from foveate import masks
from foveate.masks import Mask
from foveate.shapes import Geometry

Allowed = Callable[[int, int, int, int], bool]


def dilated(draw: Any, g: Geometry) -> tuple[Mask, Allowed]:
    place = g.keys - g.queries
    left, right, step = draw(st.integers(0, 3)), draw(st.none() | st.integers(0, 3)), draw(st.integers(1, 4))
    gaps = {n * step for n in range(-left, (left if right is None else right) + 1)}
    return masks.dilated(left, right, dilation=step), lambda b, h, q, k: k - q - place in gaps


def strided(draw: Any, g: Geometry) -> tuple[Mask, Allowed]:
    """Child et al. 2019, section 4.3: A1 = {t, ..., i}, t = max(0, i - l); A2 = {j : (i - j) mod l = 0}."""
    place, n = g.keys - g.queries, draw(st.integers(1, 5))

    def allowed(b: int, h: int, q: int, k: int) -> bool:
        i = q + place
        return k in range(max(0, i - n), i + 1) or (k <= i and (i - k) % n == 0)

    return masks.strided(n), allowed


def fixed(draw: Any, g: Geometry) -> tuple[Mask, Allowed]:
    """The same: A1 = {j : floor(j / l) = floor(i / l)}; A2 = {j : j mod l in {t, ..., l - 1}}, t = l - c."""
    place, n = g.keys - g.queries, draw(st.integers(1, 5))
    c = draw(st.integers(0, n))

    def allowed(b: int, h: int, q: int, k: int) -> bool:
        i = q + place
        return k <= i and (k // n == i // n or k % n in range(n - c, n))

    return masks.fixed(n, c), allowed


def global_tokens(draw: Any, g: Geometry) -> tuple[Mask, Allowed]:
    place = g.keys - g.queries
    if draw(st.booleans()):
        which = set(draw(st.lists(st.integers(0, g.keys - 1), max_size=3)))
        return masks.global_tokens(list(which)), lambda b, h, q, k: q + place in which or k in which
    rows = draw(st.lists(st.lists(st.booleans(), min_size=g.keys, max_size=g.keys), min_size=g.batch, max_size=g.batch))

    def allowed(b: int, h: int, q: int, k: int) -> bool:
        return rows[b][k] or (q + place >= 0 and rows[b][q + place])

    return masks.global_tokens(torch.tensor(rows)), allowed


def block_sparse(draw: Any, g: Geometry) -> tuple[Mask, Allowed]:
    n, align = draw(st.integers(1, 4)), draw(st.sampled_from(["start", "end"]))
    heads = draw(st.sampled_from([None, 1, g.heads]))
    rows = -(-(g.queries if align == "start" else g.keys) // n)
    shape = (*(() if heads is None else (heads,)), rows, -(-g.keys // n))
    table = torch.rand(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) < 0.5
    full = table.expand(g.heads, *shape[-2:]).tolist()
    first = 0 if align == "start" else g.keys - g.queries

    def allowed(b: int, h: int, q: int, k: int) -> bool:
        return q + first >= 0 and full[h][(q + first) // n][k // n]

    return masks.block_sparse(table, n, align=align), allowed


def neighbourhood(draw: Any, g: Geometry) -> tuple[Mask, Allowed]:
    """By the definition: the `kernel` nearest places on the same dilated grid, moved inwards at a border."""
    if g.queries > g.keys:
        return dilated(draw, g)
    leading = draw(st.integers(0, g.keys - 1))
    tokens = g.keys - leading
    height = draw(st.sampled_from([n for n in range(1, tokens + 1) if tokens % n == 0]))
    grid = (height, tokens // height) if draw(st.booleans()) else (tokens,)
    dilation = tuple(draw(st.integers(1, min(n, 3))) for n in grid)
    kernel = tuple(draw(st.sampled_from(range(1, n // d + 1, 2))) for n, d in zip(grid, dilation, strict=True))
    place = g.keys - g.queries

    def near(i: int, j: int, n: int, size: int, step: int) -> bool:
        peers = [p for p in range(n) if p % step == i % step]
        middle = min(max(peers.index(i), size // 2), len(peers) - 1 - size // 2)
        return j in peers[middle - size // 2 : middle + size // 2 + 1]

    def allowed(b: int, h: int, q: int, k: int) -> bool:
        i, j = q + place - leading, k - leading
        if i < 0 or j < 0:
            return True
        width = grid[-1]
        at = [(i // width, j // width), (i % width, j % width)][-len(grid) :]
        axes = zip(at, grid, kernel, dilation, strict=True)
        return all(near(a, b, *rest) for (a, b), *rest in axes)

    return masks.neighbourhood(grid, kernel, dilation=dilation, leading=leading), allowed


def packed(draw: Any, g: Geometry) -> tuple[Mask, Allowed]:
    n = draw(st.integers(1, 4))
    query_ends, key_ends = (
        [*sorted(draw(st.lists(st.integers(0, total), min_size=n - 1, max_size=n - 1))), total]
        for total in (g.queries, g.keys)
    )
    causal, window = draw(st.booleans()), draw(st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3)))

    def allowed(b: int, h: int, q: int, k: int) -> bool:
        for s in range(n):
            starts = [0 if s == 0 else ends[s - 1] for ends in (query_ends, key_ends)]
            if starts[0] <= q < query_ends[s]:
                if not starts[1] <= k < key_ends[s]:
                    return False
                gap = (k - key_ends[s]) - (q - query_ends[s])
                if causal and gap > 0:
                    return False
                return window is None or -window[0] <= gap <= window[1]
        raise AssertionError

    lengths = [torch.tensor([0, *ends]).diff() for ends in (query_ends, key_ends)]
    return masks.packed(*lengths, causal=causal, window=window), allowed


def shifted(draw: Any, g: Geometry) -> tuple[Mask, Allowed]:
    offsets = draw(st.lists(st.integers(-3, g.keys), min_size=g.batch, max_size=g.batch))
    if draw(st.booleans()):
        return masks.causal(offset=offsets), lambda b, h, q, k: k <= q + offsets[b]
    left, right, one = draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.booleans())
    offset: Any = offsets[0] if one else torch.tensor(offsets)

    def allowed(b: int, h: int, q: int, k: int) -> bool:
        return -left <= k - q - offsets[0 if one else b] <= right

    return masks.window(left, right, offset=offset), allowed


KINDS = [dilated, strided, fixed, global_tokens, block_sparse, neighbourhood, packed, shifted]
