"""A head as a map of the world: every tile of every zoom, done and half done, against the dense weights."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import foveate as fv
from foveate.heads.sampling import scattered
from foveate.views import overview
from foveate.views.axes import Axis
from foveate.views.background import Worker
from foveate.views.overview import Overview, Overviews
from foveate.views.pooling import to_log_bytes
from foveate.views.source import Source
from foveate.views.words import from_pieces

N = 1000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "CELLS", 64)
    monkeypatch.setattr(overview, "TILE", 32)
    monkeypatch.setattr(overview, "STRIP", 64 * N)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def attended(queries: int = N, keys: int = N, batch: int = 1, **parts: Any) -> fv.AttentionMap:
    parts = {"mask": fv.masks.causal()} | parts
    return fv.AttentionMap(3 * drawn(batch, 4, queries, 8), drawn(batch, 2, keys, 8), **parts)


def source_of(m: fv.AttentionMap, lengths: list[int] | None = None) -> Source:
    return Source({"attention": m}, [from_pieces([f"t{i}" for i in range(n)]) for n in lengths or [m.shape[-1]]])


def overview_of(m: fv.AttentionMap, head: int = 2, sequence: int = 0, lengths: list[int] | None = None) -> Overview:
    return source_of(m, lengths)._overview(0, sequence, head)


def expected(weights: Tensor, zoom: int, row: int, column: int, how: str) -> np.ndarray:
    side, step = overview.TILE << zoom, 1 << zoom
    part = weights[row * side : (row + 1) * side, column * side : (column + 1) * side]
    beyond = -part.shape[1] % step, -part.shape[0] % step
    padded = torch.nn.functional.pad(part.double(), (0, beyond[0], 0, beyond[1]), value=torch.nan)
    cells = padded.unflatten(1, (-1, step)).unflatten(0, (-1, step)).transpose(1, 2).flatten(2)
    pooled = cells.nan_to_num(-1.0).amax(-1) if how == "max" else cells.nanmean(-1)
    return to_log_bytes(pooled.float().numpy())


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("shape", [(N, N), (700, N), (N, 37), (20, 25), (1, 1)])
def test_every_tile_of_every_zoom(shape: tuple[int, int], how: Any) -> None:
    m = attended(*shape, mask=fv.masks.causal() if shape[0] <= shape[1] else None)
    rows, columns = (Axis(from_pieces(["t"] * n), 0, n, "query") for n in shape)
    one, weights = Overview(m, 0, 2, rows, columns), m.dense()[0, 2]
    assert one.refined == 0
    while one.step():
        pass
    assert one.refined == 1
    for zoom in range(one.last_zoom + 1):
        side = overview.TILE << zoom
        for row, column in itertools.product(*(range(-(-n // side)) for n in shape)):
            found = one.tile(zoom, row, column, how)
            wanted = expected(weights, zoom, row, column, how)
            assert found.exact
            assert found.pixels.shape == wanted.shape
            assert np.abs(found.pixels.astype(int) - wanted).max() <= 1  # a rounding
    assert -(-max(shape) // (overview.TILE << one.last_zoom)) == 1


def test_a_map_that_is_half_done_looks_like_its_nearest_rows_and_says_so() -> None:
    m = attended()
    one = overview_of(m)
    first = one.tile(one.last_zoom, 0, 0, "max")  # one step is made before it answers
    assert 0 < one.refined < 0.1
    assert first.pixels.any(1).all()
    for _ in range(len(one._strips) // 2 - 1):
        assert one.step()
    found = one.tile(one.last_zoom, 0, 0, "max")
    assert 0.4 < one.refined < 0.6
    assert (found.exact, found.refined) == (False, one.refined)
    assert found.pixels.any(1).all()  # every row shows something
    while one.step():
        pass
    assert np.abs(found.pixels.astype(int) - one.tile(one.last_zoom, 0, 0, "max").pixels).mean() < 60


def test_a_part_is_exact_before_the_whole_is() -> None:
    m = attended()
    one = overview_of(m)
    found = one.tile(0, 20, 3, "max")
    assert found.exact
    assert 0 < one.refined < 0.1
    assert np.array_equal(found.pixels, expected(m.dense()[0, 2], 0, 20, 3, "max"))
    assert not one.tile(3, 0, 0, "max").exact  # too much to be computed at once
    assert one.tile(3, 0, 0, "max").pixels.any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_not_drawn(side: str) -> None:
    lengths = [300, 200]
    mask = fv.masks.padding(torch.tensor(lengths), side=side)
    m = attended(300, 300, batch=2, mask=fv.masks.causal() & mask)
    source = source_of(m, lengths)
    if side == "left":
        source._starts = {name: [0, 100] for name in ("source", "target")}
    one = source._overview(0, 1, 1)
    assert (one.rows, one.columns) == (200, 200)
    first = 100 if side == "left" else 0
    weights = m.dense()[1, 1, first : first + 200, first : first + 200]
    while one.step():
        pass
    for zoom, how in itertools.product(range(one.last_zoom + 1), ("max", "mean")):
        found, wanted = one.tile(zoom, 0, 0, how), expected(weights, zoom, 0, 0, how)
        assert np.abs(found.pixels.astype(int) - wanted).max() <= 1


def test_what_is_asked_for_is_refined_in_the_background_and_the_rest_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "KEPT", 2)
    made: list[int] = []
    m = attended()

    def make(call: int, sequence: int, head: int) -> Overview:
        made.append(head)
        return overview_of(m, head)

    worker = Worker()
    kept = Overviews(make, worker)
    for head in (0, 1, 2, 2, 1):
        kept.get(0, 0, head)
    assert made == [0, 1, 2]
    thread = worker.thread
    if thread is not None:
        thread.join(60)
    assert [one.refined for one in kept._held.values()] == [1, 1]
    kept.get(0, 0, 0)
    assert made == [0, 1, 2, 0]
    worker.close()
    assert kept.get(0, 0, 3).refined < 1  # closed: nothing goes on


@pytest.mark.parametrize("level", ["token", "word"])
@pytest.mark.parametrize("direction", ["reads", "read_by"])
def test_a_row_of_one_head_is_that_of_all_heads(direction: Any, level: Any) -> None:
    lengths = [90, 60]
    mask = fv.masks.causal() & fv.masks.padding(torch.tensor(lengths), side="left")
    pieces = [from_pieces([f"{'▁' if i % 3 else ''}t{i}" for i in range(n)]) for n in lengths]
    source = Source({"attention": attended(90, 90, batch=2, mask=mask)}, pieces)
    source._starts = {name: [0, 30] for name in ("source", "target")}
    for head, index in itertools.product(range(4), (0, 7, 19)):
        alone = source.row(0, 1, index, direction, level, head)
        torch.testing.assert_close(alone, source.row(0, 1, index, direction, level)[head : head + 1])
        indices, weights, rest = source.topk(0, 1, index, direction, level, 5, head)
        torch.testing.assert_close(alone.gather(-1, indices), weights)
        torch.testing.assert_close(weights.sum() + rest.sum(), alone.sum())
        assert source.refined(0, 1, head) == 1
    source.close()


def test_what_a_key_receives_is_known_for_the_rows_that_are_done() -> None:
    m = attended()
    source = source_of(m)
    source.close()  # nothing goes on in the background
    known = source.refined(0, 0, 2)
    assert 0 < known < 0.1
    found = source.row(0, 0, 5, "read_by", "token", 2)[0]
    done = ~found.isnan()
    assert done.float().mean().item() == pytest.approx(known, abs=0.01)
    torch.testing.assert_close(found[done], m.dense()[0, 2, :, 5][done])
    indices, weights, rest = source.topk(0, 0, 5, "read_by", "token", 200, 2)
    count = int(done.sum())
    assert done[indices[0, :count]].all()
    assert weights[0, count:].isnan().all()
    torch.testing.assert_close(rest.sum() + weights.nansum(), found.nansum())
    with pytest.raises(ValueError, match="head 4 does not exist; this call has heads 0 to 3"):
        source.row(0, 0, 5, "reads", "token", 4)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"zoom": 6}, "zoom must be from 0 to 5; got 6"),
        ({"zoom": -1}, "zoom must be from 0 to 5; got -1"),
        ({"row": 32}, "at zoom 0 there are rows of tiles 0 to 31; got 32"),
        ({"column": -1}, "at zoom 0 there are columns of tiles 0 to 31; got -1"),
        ({"zoom": 5, "column": 1}, "at zoom 5 there are columns of tiles 0 to 0; got 1"),
        ({"head": 4}, "head 4 does not exist; this call has heads 0 to 3"),
        ({"sequence": 1}, "sequence 1 does not exist"),
        ({"how": "sum"}, "how must be one of 'max', 'mean'"),
        ({"row": 1.0}, "row must be a whole number; got float"),
    ],
)
def test_tiles_that_there_are_not(asked: dict[str, Any], told: str) -> None:
    source = source_of(attended())
    given = {"call": 0, "sequence": 0, "head": 0, "zoom": 0, "row": 0, "column": 0} | asked
    with pytest.raises(ValueError, match=told):
        source.map(**given)
    source.close()


def test_strips_come_from_everywhere() -> None:
    for count in (1, 2, 7, 8, 31):
        assert sorted(scattered(count)) == list(range(count))
    assert scattered(8)[:4] == [0, 4, 2, 6]


def test_bytes_by_ratios() -> None:
    weights = np.array([[0.0, 1.0, 0.1, 1e-3, 1e-6, 1e-9, np.nan, 2.0]], dtype=np.float32)
    assert to_log_bytes(weights).tolist() == [[0, 255, 213, 128, 1, 1, 0, 255]]
