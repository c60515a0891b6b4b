"""The tests that ONNX ships for its attention operators, computed by ours and compared by ONNX's own rules."""

from __future__ import annotations

import pytest

import onnx_ops

COUNTS = {"Attention": 93, "FlexAttention": 11, "RotaryEmbedding": 8, "LinearAttention": 14}
# What foveate does not compute, and why. The table is exact: a listed case that would pass is a failure too.
LISTED = {
    "test_flexattention_prob_mod": "a function of the weights after normalising",
}
CASES = {name: case for op in COUNTS for name, case in onnx_ops.cases(op).items()}


PASSING = [name for name in CASES if name not in LISTED]


@pytest.mark.parametrize("name", PASSING)
def test_conforms(name: str) -> None:
    onnx_ops.run(CASES[name])


@pytest.mark.parametrize("backend", ["blocks", "reference"])
@pytest.mark.parametrize("name", [name for name in PASSING if CASES[name].op in onnx_ops.HAVE_BACKENDS])
def test_conforms_by_other_backends(name: str, backend: str) -> None:
    onnx_ops.run(CASES[name], backend)


@pytest.mark.parametrize("name", LISTED)
def test_what_is_listed_cannot_be_expressed(name: str) -> None:
    with pytest.raises(onnx_ops.NotExpressibleError, match=LISTED[name]):
        onnx_ops.run(CASES[name])


def test_the_table_is_exact() -> None:
    assert {op: len(onnx_ops.cases(op)) for op in COUNTS} == COUNTS
    assert set(LISTED) <= set(CASES)
    assert not [name for name in LISTED if CASES[name].op == "Attention"]
