"""Nested tensors: what comes out is what each sequence gives alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import foveate as fv
import oracle
from oracle import D, G, H, V

LENGTHS, KEYS = [5, 0, 7, 1], [3, 2, 7, 11]


def nested(lengths: list[int], heads: int, width: int) -> tuple[list[Tensor], Tensor]:
    """Sequences (H, L, D), and the same as one nested tensor (B, H, j, D)."""
    parts = [torch.randn(heads, n, width, dtype=torch.float64, requires_grad=True) for n in lengths]
    joined = torch.nested.as_nested_tensor([p.transpose(0, 1) for p in parts], layout=torch.jagged)
    return parts, joined.transpose(1, 2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": fv.masks.causal() & fv.masks.window(2)},
        {"bias": fv.positions.alibi(H), "score": "dot", "scale": 0.3},
        {"backend": "blocks", "normalizer": fv.normalizers.softmax(sinks=torch.zeros(H, dtype=torch.float64))},
    ],
    ids=["plain", "mask", "bias", "sinks"],
)
def test_each_sequence_is_that_alone(options: dict[str, Any]) -> None:
    qs, q = nested(LENGTHS, H, D)
    ks, k = nested(KEYS, G, D)
    vs, v = nested(KEYS, G, V)
    output, weights = fv.attention(q, k, v, **options)
    assert output.is_nested and output.layout == torch.jagged and len(weights) == 4
    assert torch.equal(output.offsets(), q.offsets())
    alone = [fv.attention(*each, **options) for each in zip(qs, ks, vs, strict=True)]
    for found, one, (exact, theirs) in zip(output.unbind(), weights, alone, strict=True):
        oracle.close(found, exact)
        assert one.shape == theirs.shape
        oracle.close(one.dense(), theirs.dense())
    output.values().square().sum().backward()
    grads = [t.grad for t in (*qs, *ks, *vs)]
    for t in (*qs, *ks, *vs):
        t.grad = None
    torch.cat([exact.flatten() for exact, _ in alone]).square().sum().backward()
    for t, found in zip((*qs, *ks, *vs), grads, strict=True):
        torch.testing.assert_close(found, t.grad, rtol=1e-12, atol=1e-14)


def test_the_output_goes_on_as_its_query_did() -> None:
    _, q = nested(LENGTHS, H, D)
    output = fv.attention(q, q, q)[0]
    assert (output + q).shape == q.shape  # the same lengths, known to be the same
    flat = torch.nested.nested_tensor([torch.randn(n, D) for n in LENGTHS], layout=torch.jagged)
    output, weights = fv.attention(flat, flat, flat)
    assert (output + flat).shape == flat.shape
    assert [tuple(w.shape) for w in weights] == [(n, n) for n in LENGTHS]


def test_holes_are_not_read() -> None:
    table = torch.randn(3, 9, D, dtype=torch.float64)
    holed = torch.nested.narrow(table, 1, torch.tensor([0, 2, 4]), torch.tensor([3, 7, 1]), layout=torch.jagged)
    output = fv.attention(holed, holed, holed)[0]
    for found, part in zip(output.unbind(), (table[0, :3], table[1, 2:9], table[2, 4:5]), strict=True):
        oracle.close(found, fv.attention(part, part, part)[0])


def _jagged(*shape: int) -> Tensor:
    return torch.nested.nested_tensor([torch.zeros(shape), torch.zeros(shape)], layout=torch.jagged)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: (_jagged(5, 4), torch.zeros(2, 5, 4), _jagged(5, 4)), "layout=torch.jagged; key is not"),
        (lambda: (_jagged(5, 4), [[1.0]], _jagged(5, 4)), "layout=torch.jagged; key is not"),
        (lambda: (_jagged(5, 3, 4),) * 3, r"ragged in the axis before the last; got .*\.transpose\(1, 2\)"),
        (lambda: (_jagged(5),) * 3, r"a nested query must be \(B, H, j, D\) or \(B, j, D\)"),
        (lambda: (_jagged(5, 4), *[nested([5, 5, 5], 1, 4)[1]] * 2), "must hold as many sequences; got 2, 3, 3"),
    ],
)
def test_nested_tensors_that_cannot_be(make: Callable[[], tuple], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fv.attention(*make())


def test_what_fits_no_single_sequence_is_refused() -> None:
    _, q = nested(LENGTHS, H, D)
    with pytest.raises(ValueError, match="padding needs one length per sequence, 1; got 4"):
        fv.attention(q, q, q, mask=fv.masks.padding(LENGTHS))
