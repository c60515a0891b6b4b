"""Pictures of parts of a map, by the compiled core and by blocks, against the dense weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import foveate as fv
from foveate.normalizers import lead
from foveate.operator import tiles
from foveate.operator.tiles import Grid, survey, tile

B, H, G, Q, K, D = 2, 4, 2, 70, 90, 8
GRIDS = [
    (0, 0, 1, 1, 70, 90),
    (0, 0, 7, 9, 10, 10),
    (3, 11, 4, 4, 8, 16),
    (64, 80, 8, 8, 4, 4),
    (0, 0, 200, 200, 1, 1),
    (10, 20, 3, 1, 5, 30),
    (70, 3, 2, 2, 2, 2),
    (69, 89, 1, 1, 1, 1),
]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


PARTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"mask": fv.masks.causal()},
    "window of texts": {"mask": fv.masks.window(9) & fv.masks.padding(torch.tensor([50, 90]))},
    "documents": {"mask": fv.masks.documents(torch.arange(K) // 40)},
    "table": {"mask": drawn(B, H, Q, K) > -1},
    "ALiBi": {"mask": fv.masks.causal(), "bias": fv.positions.alibi(H)},
    "bias": {"bias": drawn(H, Q, K)},
    "bias of keys": {"bias": drawn(B, 1, 1, K)},
    "sinks": {"normalizer": fv.normalizers.softmax(drawn(H))},
    "soft cap": {"score": fv.scores.dot(softcap=2.0), "mask": fv.masks.causal()},
    "sparsemax": {"normalizer": fv.normalizers.sparsemax()},
    "cosine": {"score": fv.scores.cosine(0.1)},
}
BY_CORE = {"plain", "causal", "window of texts", "documents", "ALiBi", "bias", "bias of keys", "sinks", "soft cap"}


def expected(weights: Tensor, grid: Grid) -> Tensor:
    out = torch.zeros(grid.height, grid.width)
    for i in range(grid.height):
        for j in range(grid.width):
            r, c = grid.top + i * grid.down, grid.left + j * grid.across
            cell = weights[r : r + grid.down, c : c + grid.across]
            if cell.numel():
                out[i, j] = cell.max() if grid.how == "max" else cell.double().mean()
    return out


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize(
    ("parts", "dtype"),
    [(name, torch.float32) for name in PARTS] + [(name, torch.bfloat16) for name in ("plain", "causal", "sparsemax")],
)
def test_cells_pool_the_weights(parts: str, how: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    given = PARTS[parts]
    m = fv.AttentionMap(drawn(B, H, Q, D).to(dtype), drawn(B, G, K, D).to(dtype), dtype=torch.float32, **given)
    dense, statistic = m.dense(), m.statistic()
    asked: list[int] = []
    by_core = tiles._by_core

    def counted(*args: Any) -> Tensor | None:
        found = by_core(*args)
        asked.append(found is not None)
        return found

    monkeypatch.setattr(tiles, "_by_core", counted)
    for batch, head in ((0, 0), (1, 3)):
        for place in GRIDS:
            grid = Grid(*place, how=how)
            wanted = expected(dense[batch, head], grid)
            found = tile(m.problem, statistic[batch, head], batch, head, grid)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
            with monkeypatch.context() as patch:
                patch.setattr(tiles, "_by_core", lambda *given: None)
                patch.setattr(tiles, "ENTRIES", 900)
                torch.testing.assert_close(
                    tile(m.problem, statistic[batch, head], batch, head, grid), wanted, rtol=1e-5, atol=1e-6
                )
    if fv.config().native:
        assert all(asked) == (parts in BY_CORE)


def test_rows_that_are_lost_show_nothing() -> None:
    q = drawn(1, 1, Q, D)
    q[0, 0, 5] = torch.nan
    m = fv.AttentionMap(q, drawn(1, 1, K, D))
    found = tile(m.problem, m.statistic()[0, 0], 0, 0, Grid(4, 0, 1, 10, 3, 9))
    assert not found[1].any()
    torch.testing.assert_close(found[::2], expected(m.dense()[0, 0], Grid(4, 0, 1, 10, 3, 9))[::2])
    assert torch.isnan(lead(m.statistic())[0, 0, 5])


@pytest.mark.parametrize("place", [(0, 0, 0, 1, 1, 1), (0, 0, 1, 1, 1, 0), (71, 0, 1, 1, 1, 1), (0, -1, 1, 1, 1, 1)])
def test_grids_that_are_none(place: Any) -> None:
    m = fv.AttentionMap(drawn(1, 1, Q, D), drawn(1, 1, K, D))
    with pytest.raises(ValueError, match=r"a grid (has cells of at least one row and column|begins inside the map)"):
        tile(m.problem, m.statistic()[0, 0], 0, 0, Grid(*place))


@pytest.mark.parametrize("place", [(0, 0, 16, 16, 5, 6), (32, 0, 4, 8, 3, 12), (64, 0, 8, 100, 1, 1)])
@pytest.mark.parametrize("parts", PARTS, ids=list(PARTS))
def test_a_survey_is_the_statistic_and_both_pictures(parts: str, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    m = fv.AttentionMap(drawn(B, H, Q, D), drawn(B, G, K, D), **PARTS[parts])
    dense, statistic, grid = m.dense(), m.statistic(), Grid(*place)
    rows = grid.rows(Q)
    for core in (True, False):
        if not core:
            monkeypatch.setattr(tiles, "_asked", lambda *given: None)
        found, best, sums = survey(m.problem, 1, 2, grid)
        torch.testing.assert_close(found, statistic[1, 2, rows].double(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(best, expected(dense[1, 2], grid), rtol=1e-5, atol=1e-6)
        total = torch.zeros(grid.height, grid.width)
        for i in range(grid.height):
            for j in range(grid.width):
                r, c = grid.top + i * grid.down, j * grid.across
                total[i, j] = dense[1, 2, r : r + grid.down, c : c + grid.across].double().sum()
        torch.testing.assert_close(sums, total, rtol=1e-5, atol=1e-6)
