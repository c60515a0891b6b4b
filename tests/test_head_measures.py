"""Measures of heads against plain loops over the dense weights, by every path, and from part of the rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import foveate as fv
from foveate.heads.sampling import spread_out
from foveate.views import measures, rowpass
from foveate.views.measures import MEASURES, HeadSurvey
from foveate.views.rowpass import Part, pass_over

N, H, G, D = 37, 6, 3, 5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + len(shape)))


def attended(queries: int = N, keys: int = N, batch: int = 1, **parts: Any) -> fv.AttentionMap:
    return fv.AttentionMap(2 * drawn(batch, H, queries, D), drawn(batch, G, keys, D, seed=1), **parts)


def tokens_of(count: int) -> list[str]:
    return [f"t{int(n)}" for n in torch.randint(0, 9, (count,), generator=torch.Generator().manual_seed(5))]


def plain(w: Tensor, seen: Tensor, tokens: list[str] | None, place: int | None, rows: list[int]) -> dict[str, float]:
    """The definitions, row by row and key by key, for one head: w, seen (Q, K); row i is key i + place."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    kept = []
    for i in rows:
        row, count = w[i].tolist(), int(seen[i].sum())
        if not count or math.isnan(row[0]):
            continue
        kept.append(i)
        entropy = -sum(x * math.log(x) for x in row if x > 0)
        found["entropy"].append(entropy)
        found["first"].append(row[0])
        if count > 1:
            found["spread"].append(entropy / math.log(count))
        if place is None:
            continue
        own = i + place
        found["distance"].append(sum(x * abs(own - j) for j, x in enumerate(row)) / sum(row))
        if own > 0:
            found["previous"].append(row[own - 1])
        if tokens is None:
            continue
        same = [j for j in range(own) if tokens[j] == tokens[own]]
        after = [j + 1 for j in same if j + 1 < own]
        if same:
            found["duplicate"].append(sum(row[j] for j in same))
        if after:
            found["induction"].append(sum(row[j] for j in after))
    received = sorted((sum(float(w[i, j]) for i in kept) for j in range(w.shape[1])), reverse=True)
    means = {name: sum(x) / len(x) if x else math.nan for name, x in found.items()}
    return means | {"sink": sum(received[:4]) / len(kept) if kept else math.nan}


def check(m: fv.AttentionMap, part: Part, tokens: list[str] | None, steps: int | None = None) -> HeadSurvey:
    one = HeadSurvey(lambda: m.problem, H, part, tokens, size=8)
    for _ in range(len(one.steps) if steps is None else steps):
        one.step()
    found = one.result()
    rows = torch.cat(one.steps[: one.taken]).tolist()
    dense = m.dense().double()[part.batch][:, part.rows, part.columns]
    visible = torch.ones(1, 1, *m.shape[-2:], dtype=torch.bool)
    for head in range(H):
        at = slice(part.batch, part.batch + 1), slice(head, head + 1), *(slice(0, n) for n in m.shape[-2:])
        seen = m.problem.allowed(*at)
        seen = (visible if seen is None else seen).expand_as(visible)[0, 0, part.rows, part.columns]
        place = None if part.place is None else part.place + part.rows.start
        wanted = plain(dense[head], seen, tokens, place, rows)
        for name, value in zip(found.names, found.values[head].tolist(), strict=True):
            assert value == pytest.approx(wanted[name], rel=2e-5, abs=2e-6, nan_ok=True), name
    assert (found.measured, found.rows) == (len(rows), dense.shape[1])
    return one


KINDS: dict[str, dict[str, Any]] = {
    "causal": {"mask": fv.masks.causal()},
    "window": {"mask": fv.masks.causal() & fv.masks.window(6)},
    "encoder": {},
    "sinks": {"mask": fv.masks.causal(), "normalizer": fv.normalizers.softmax(torch.randn(H))},
    "sparse": {"mask": fv.masks.causal(), "normalizer": "sparsemax"},
    "bias": {"mask": fv.masks.causal(), "bias": drawn(H, N, N)},
    "holes": {"mask": fv.masks.tensor(drawn(N, N) > 0.5)},
}


@pytest.mark.parametrize("core", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_measures_are_their_definitions(kind: str, core: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not core:
        monkeypatch.setattr(rowpass, "_by_core", lambda *_: None)
        monkeypatch.setattr(rowpass, "ENTRIES", 5 * H * N)
        monkeypatch.setattr(measures, "ENTRIES", 2 * H)
    check(attended(**KINDS[kind]), Part(0, slice(0, N), slice(0, N), 0), tokens_of(N))


def test_the_compiled_core_is_used_where_it_can_be() -> None:
    if fv.native.find().library is None:  # type: ignore[attr-defined]
        pytest.skip("no compiled core here")
    part = Part(0, slice(0, N), slice(0, N), 0)
    used = {kind: rowpass._by_core(attended(**KINDS[kind]).problem, part, torch.arange(N), 4) for kind in KINDS}
    assert [kind for kind, found in used.items() if found is not None] == ["causal", "window", "sinks"]


def test_positions_beyond_what_one_float_holds() -> None:
    """Mean distances at the end of a long text are those of float64."""
    n = 70_000
    q, k = drawn(1, 1, 2, 4), drawn(1, 1, n, 4)
    m = fv.AttentionMap(q, k, mask=fv.masks.causal() & fv.masks.window(3))
    part = Part(0, slice(0, 2), slice(0, n), n - 2)
    found = pass_over(m.problem, part, torch.arange(2), 8)
    assert found.distance is not None
    for i in range(2):
        own = n - 2 + i
        window = m.dense()[0, 0, i, own - 3 : own + 1].tolist()
        wanted = sum(w * behind for w, behind in zip(window, (3, 2, 1, 0), strict=True))
        assert float(found.distance[0, i]) == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_one_sequence_of_a_padded_batch(kind: str) -> None:
    """Left padding: the sequence's own tokens begin at row and key 7."""
    padding = fv.masks.padding(torch.tensor([N, N - 7]), side="left")
    m = attended(batch=2, mask=padding & fv.masks.causal() if kind == "causal" else padding)
    check(m, Part(1, slice(7, N), slice(7, N), -7), tokens_of(N - 7))


def test_cross_attention_has_no_distance() -> None:
    m = attended(queries=11)
    check(m, Part(0, slice(0, 11), slice(0, N), None), None)


def test_a_step_of_a_generation() -> None:
    m = attended(queries=2, mask=fv.masks.causal())
    check(m, Part(0, slice(0, 2), slice(0, N), N - 2), tokens_of(N))


def test_rows_that_see_nothing_or_are_nan_are_left_out() -> None:
    m = attended(mask=fv.masks.causal() & fv.masks.tensor((torch.arange(N) % 3 > 0)[:, None].expand(N, N)))
    q = m.query.clone()
    q[0, 2, 4] = torch.nan
    m = fv.AttentionMap(q, m.key, mask=m.mask)
    check(m, Part(0, slice(0, N), slice(0, N), 0), tokens_of(N))


def test_a_sample_is_exact_for_its_rows_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "spread_out", lambda rows: spread_out(rows, 8))
    one = check(attended(mask=fv.masks.causal()), Part(0, slice(0, N), slice(0, N), 0), tokens_of(N), steps=2)
    assert one.measured == 15
    assert not one.done
    assert one.result().picture.amax(-1).amin() > 0  # lines without a measured row look like their neighbours


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 1000, 32768])
def test_steps_spread_evenly_and_cover_all(rows: int) -> None:
    steps = spread_out(rows)
    assert sorted(torch.cat([torch.zeros(0, dtype=torch.int64), *steps]).tolist()) == list(range(rows))
    assert all(len(step) <= 256 for step in steps)
    if rows == 32768:
        assert steps[0][:3].tolist() == [64, 192, 320]
        both = torch.cat(steps[:2]).sort().values
        assert both.diff().unique().tolist() == [64]


def test_thumbnails_hold_the_largest_weight_of_each_cell() -> None:
    m = attended(mask=fv.masks.causal())
    one = check(m, Part(0, slice(0, N), slice(0, N), 0), None)
    wanted = torch.zeros(H, 8, 8)
    for i in range(N):
        for j in range(N):
            cell = wanted[:, i * 8 // N, j * 8 // N]
            torch.maximum(cell, m.dense()[0, :, i, j], out=cell)
    torch.testing.assert_close(one.result().picture, wanted.double(), rtol=1e-5, atol=1e-7)
