"""The tests that ONNX ships for its attention operators, computed by ours and compared by ONNX's own rules."""

from __future__ import annotations

import pytest

import onnx_ops

COUNTS = {"Attention": 93, "FlexAttention": 11, "RotaryEmbedding": 8, "LinearAttention": 14}
# What foveate does not compute, and why. The tables are exact: a listed case that would pass is a failure too.
LISTED = {
    "test_flexattention_prob_mod": "a function of the weights after normalising",
}
WAITING = {
    "LinearAttention": "linear attention",
}
CASES = {name: case for op in COUNTS for name, case in onnx_ops.cases(op).items()}


def reason(name: str) -> str | None:
    """Why a case is not expected to pass; None if it is."""
    return LISTED.get(name) or WAITING.get(CASES[name].op)


@pytest.mark.parametrize("name", [name for name in CASES if reason(name) is None])
def test_conforms(name: str) -> None:
    onnx_ops.run(CASES[name])


@pytest.mark.parametrize("name", [name for name in CASES if reason(name) is not None])
def test_what_is_listed_cannot_be_expressed(name: str) -> None:
    with pytest.raises(onnx_ops.NotExpressibleError, match=reason(name)):
        onnx_ops.run(CASES[name])


def test_the_tables_are_exact() -> None:
    assert {op: len(onnx_ops.cases(op)) for op in COUNTS} == COUNTS
    assert set(LISTED) <= set(CASES)
    assert set(WAITING) <= set(COUNTS)
    assert not [name for name in LISTED if CASES[name].op == "Attention"]
