"""A few queries of many heads, which the compiled core reads without packing, against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import foveate as fv
from foveate import masks, native
from foveate.operator import choose
from native_oracle import ISAS, use

pytestmark = pytest.mark.skipif(not fv.config().native, reason=f"no compiled core: {fv.config().reason}")

B, H, G = 3, 6, 2


@pytest.fixture(params=ISAS, autouse=True)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each set of instructions that this machine runs."""
    return use(request.param, monkeypatch)


def inputs(queries: int, keys: int, width: int, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(keys)
    sizes = (B, H, queries, width), (B, G, keys, width), (B, G, keys, depth)
    q, k, v = (torch.randn(*size, generator=draw) for size in sizes)
    return q.transpose(1, 2).contiguous().transpose(1, 2), k, v


def expected(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None, sinks: Tensor | None = None, cap: float | None = None
) -> Tensor:
    k, v = (t.double().repeat_interleave(H // G, 1) for t in (k, v))
    s = q.double() @ k.mT * 0.7
    s = s if cap is None else cap * torch.tanh(s / cap)
    s = s if seen is None else s.masked_fill(~seen, -torch.inf)
    rest = torch.full((H,), -torch.inf) if sinks is None else sinks
    lse = torch.cat([s, rest.double().reshape(H, 1, 1).expand(B, H, s.shape[2], 1)], -1).logsumexp(-1, keepdim=True)
    return (s - lse).exp().nan_to_num(0.0) @ v


@pytest.mark.parametrize("queries", [1, 3, 4])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 16, 32), (37, 33, 5), (300, 128, 70)], ids=str)
def test_output_is_that_of_float64(queries: int, sizes: tuple[int, int, int]) -> None:
    q, k, v = inputs(queries, *sizes)
    found = native.run(q, k, v, scale=0.7)
    assert found.status == 0
    torch.testing.assert_close(found.output, expected(q, k, v).float(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_intervals_sinks_and_cap(threads: int) -> None:
    q, k, v = inputs(2, 5000, 24, 40)
    lo = torch.tensor([0, 17, 4000], dtype=torch.int32).reshape(B, 1, 1).expand(B, H, 2)
    hi = torch.tensor([[5000, 1], [18, 5000], [4000, 4003]], dtype=torch.int32).reshape(B, 1, 2).expand(B, H, 2)
    sinks, place = torch.linspace(-3, 3, H), torch.arange(5000)
    found = native.run(q, k, v, scale=0.7, softcap=2.5, sinks=sinks, spans=(lo, hi), threads=threads)
    seen = (place >= lo[..., None]) & (place < hi[..., None])
    torch.testing.assert_close(found.output, expected(q, k, v, seen, sinks, 2.5).float(), rtol=2e-5, atol=2e-6)
    assert found.output is not None
    assert not found.output[2, :, 0].any()  # which sees no key


def test_large_scores_do_not_overflow() -> None:
    q, k, v = inputs(1, 20, 16, 16)
    found = native.run(100 * q, 100 * k, v, scale=0.7)
    torch.testing.assert_close(found.output, expected(100 * q, 100 * k, v).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
def test_odd_numbers_are_left_to_the_blocks(which: int, odd: float) -> None:
    given = inputs(1, 40, 64, 16)
    given[which][1, 0, 0, 3] = odd
    found = native.run(*given, scale=0.7)
    assert found.status == native.ODD_VALUES
    by_rule = fv.attention(*given, scale=0.7, backend="blocks")[0]
    torch.testing.assert_close(fv.attention(*given, scale=0.7, backend="native")[0], by_rule, equal_nan=True)


def test_a_hidden_value_is_not_read() -> None:
    q, k, v = inputs(1, 40, 64, 16)
    clean = fv.attention(q, k, v, mask=masks.padding([39, 39, 39]), backend="native")[0]
    k[:, :, 39], v[:, :, 39] = torch.inf, torch.nan
    torch.testing.assert_close(fv.attention(q, k, v, mask=masks.padding([39, 39, 39]), backend="native")[0], clean)


@pytest.mark.parametrize(
    ("batch", "keys", "dtype", "wanted"),
    [(250, 15, torch.float32, True), (1, 15, torch.float32, False), (250, 15, torch.bfloat16, False)],
)
def test_a_decoder_of_many_rows_is_left_to_the_core(
    one_thread: None, batch: int, keys: int, dtype: torch.dtype, wanted: bool
) -> None:
    q, k = torch.randn(batch, 4, 1, 32, dtype=dtype), torch.randn(batch, 4, keys, 32, dtype=dtype)
    chosen = choose(fv.AttentionMap(q, k).problem, k).backend
    assert (chosen == "native") == (wanted and native.find().isa != "portable")
