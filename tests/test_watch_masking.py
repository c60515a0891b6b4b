"""Mask tensors become descriptions, and a description is always exactly its tensor."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foveate import AttentionMap, masks
from foveate.masks import Mask
from foveate.watch.masking import Masking, band, forget, read_mask

Shape = tuple[int, int, int, int]


def table_of(mask: Mask | None, shape: Shape) -> Tensor:
    """The booleans of a mask, (B, H, Q, K)."""
    b, h, q, k = shape
    weights = AttentionMap(torch.zeros(b, h, q, 1), torch.zeros(b, h, k, 1), mask=mask)
    return weights.dense() > 0


def band_table(queries: int, keys: int, left: int, right: int, offset: int) -> Tensor:
    gap = torch.arange(keys)[None, :] - (torch.arange(queries)[:, None] + offset)
    return (gap >= -left) & (gap <= right)


@st.composite
def structured(draw: st.DrawFn) -> tuple[Tensor, Shape]:
    """What models pass: a band, cut by padding on either side, perhaps broadcast, perhaps with a flaw."""
    batch, queries = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    keys = draw(st.one_of(st.just(queries), st.integers(1, 11)))
    left, right = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    offset = draw(st.sampled_from([keys - queries, 0]))
    table = band_table(queries, keys, left, right, offset).expand(draw(st.sampled_from([1, batch])), 1, queries, keys)
    if draw(st.booleans()):
        lengths = torch.tensor(draw(st.lists(st.integers(0, keys), min_size=batch, max_size=batch)))
        places = torch.arange(keys)
        real = places < lengths[:, None] if draw(st.booleans()) else places >= keys - lengths[:, None]
        table = table & real[:, None, None, :]
    if draw(st.booleans()):
        table = table.clone()
        table[0, 0, draw(st.integers(0, queries - 1)), draw(st.integers(0, keys - 1))] ^= True
    return table, (batch, 2, queries, keys)


@settings(deadline=None, max_examples=300)
@given(structured())
def test_a_description_is_exactly_its_tensor(case: tuple[Tensor, Shape]) -> None:
    table, shape = case
    forget()
    found = read_mask(table, shape)
    assert found.bias is None
    assert torch.equal(table_of(found.mask, shape), table.expand(shape))


@settings(deadline=None, max_examples=100)
@given(structured(), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), st.booleans())
def test_a_float_mask_of_zeros_and_minima_is_boolean(
    case: tuple[Tensor, Shape], dtype: torch.dtype, infinite: bool
) -> None:
    table, shape = case
    forget()
    low = -torch.inf if infinite else torch.finfo(dtype).min
    found = read_mask(torch.zeros(table.shape, dtype=dtype).masked_fill(~table, low), shape)
    assert found.bias is None
    assert torch.equal(table_of(found.mask, shape), table.expand(shape))


@pytest.mark.parametrize(
    ("table", "shape", "text"),
    [
        (band_table(7, 7, 9, 0, 0), (2, 3, 7, 7), "causal"),
        (band_table(3, 7, 9, 0, 4), (2, 3, 3, 7), "causal"),
        (band_table(3, 7, 9, 0, 0), (2, 3, 3, 7), "causal(align='start')"),
        (band_table(7, 7, 2, 0, 0), (2, 3, 7, 7), "causal & window(2, 0)"),
        (band_table(7, 7, 2, 2, 0), (2, 3, 7, 7), "window(2, 2)"),
        (torch.ones(7, 7, dtype=torch.bool), (2, 3, 7, 7), "None"),
        (band_table(1, 7, 3, 0, 6), (2, 3, 1, 7), "padding(side='left')"),
        (torch.eye(7, dtype=torch.bool).roll(1), (2, 3, 7, 7), "tensor(1, 1, 7, 7)"),
    ],
)
def test_the_usual_masks_are_recognised(table: Tensor, shape: Shape, text: str) -> None:
    forget()
    assert str(read_mask(table, shape).mask) == text


def test_padding_on_either_side_beside_a_causal_band() -> None:
    forget()
    causal, places = band_table(7, 7, 9, 0, 0), torch.arange(7)
    for side, real in (("", places < torch.tensor([[7], [4]])), ("side='left'", places >= torch.tensor([[0], [3]]))):
        found = read_mask((causal & real[:, None, :])[:, None], (2, 3, 7, 7))
        assert str(found.mask) == f"causal & padding{f'({side})' if side else ''}"
        assert found.causal


def test_real_biases_are_kept_as_they_are_and_copied() -> None:
    forget()
    bias = torch.randn(1, 3, 7, 7)
    found = read_mask(bias, (2, 3, 7, 7))
    assert found.mask is None
    assert found.bias is not None
    kept = found.bias.clone()
    bias += 1
    assert torch.equal(found.bias, kept)


def test_the_same_tensor_is_read_once_and_a_changed_one_again() -> None:
    forget()
    table = band_table(7, 7, 9, 0, 0)
    first = read_mask(table, (1, 1, 7, 7))
    assert read_mask(table, (1, 1, 7, 7)) is first
    table[0, 3] = True
    assert str(read_mask(table, (1, 1, 7, 7)).mask) == "tensor(1, 1, 7, 7)"


def test_a_mask_made_for_a_longer_cache_is_cut() -> None:
    forget()
    assert str(read_mask(band_table(5, 9, 9, 0, 0), (1, 1, 5, 5)).mask) == "causal"


def test_bands_that_hide_nothing_are_none() -> None:
    assert band((1, 1, 1, 9)) is None
    assert str(band((1, 1, 4, 9), "start")) == "causal(align='start')"
    assert str(band((1, 1, 9, 9), "start", left=3)) == "causal & window(3, 0)"
    assert read_mask(None, (1, 1, 2, 2)) == Masking()


def test_this_comparison_can_fail() -> None:
    assert not torch.equal(table_of(masks.causal(), (1, 1, 5, 5)), band_table(5, 5, 1, 0, 0)[None, None])
