"""Descriptions: everything comes back as it was, through JSON; what is hostile is refused with a plain error."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

import oracle
from foveate import AttentionMap, masks, normalizers, scores
from foveate.describe import describable, describe, restore

MASKS = [
    masks.everything(),
    masks.causal(),
    masks.causal("start"),
    masks.window(2, 1),
    masks.padding([3, 7]),
    masks.padding([3, 7], side="left"),
    masks.documents([0, 0, 1, 1, 1, 2, 2]),
    masks.documents(torch.tensor([[0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2, 2]])),
    masks.prefix(3),
    masks.tensor(torch.arange(7) % 2 == 0),
    (masks.causal() | masks.prefix(2)) & ~(masks.window(1) & masks.padding([5, 6])),
]


def through_json(thing: Any) -> Any:
    description, tensors = describe(thing)
    assert all(isinstance(t, Tensor) for t in tensors.values())
    return restore(json.loads(json.dumps(description, allow_nan=False)), tensors)


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_masks_come_back(mask: masks.Mask) -> None:
    again = through_json(mask)
    assert str(again) == str(mask) and type(again) is type(mask)
    assert torch.equal(oracle.table(again), oracle.table(mask))


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_settled_masks_come_back_and_settle_again(mask: masks.Mask) -> None:
    q, k, _ = oracle.inputs()
    settled = AttentionMap(q, k, mask=mask).mask
    again = AttentionMap(q, k, mask=through_json(settled))
    assert torch.equal(again.dense(), AttentionMap(q, k, mask=mask).dense())


@pytest.mark.parametrize(
    "score",
    [
        scores.dot(),
        scores.scaled_dot(),
        scores.dot(softcap=50.0),
        scores.Dot(0.125, 3.0),
        scores.Dot(2),
        scores.Dot(-1.5),
    ],
)
def test_scores_come_back(score: scores.Dot) -> None:
    assert through_json(score) == score


def test_numbers_that_json_lacks_come_back() -> None:
    assert through_json(scores.Dot(float("inf"))).scale == float("inf")
    assert through_json(scores.Dot(float("nan"))).scale != through_json(scores.Dot(float("nan"))).scale


def test_normalizers_come_back() -> None:
    assert through_json(normalizers.softmax()).sinks is None
    sinks = torch.randn(6)
    assert torch.equal(through_json(normalizers.softmax(sinks)).sinks, sinks)


def test_what_has_no_description() -> None:
    with pytest.raises(TypeError, match="Where has no description and cannot be stored"):
        describe(masks.causal() & masks.where(lambda b, h, q, k: q >= k))
    with pytest.raises(TypeError, match="function has no description"):
        describe(scores.dot)
    with pytest.raises(TypeError, match="only describable objects have a description; got int"):
        describe(3)
    deep = masks.causal()
    for _ in range(40):
        deep = deep & masks.prefix(3)
    with pytest.raises(ValueError, match="nested 32 levels deep at most"):
        describe(deep)


def test_two_classes_cannot_share_a_name() -> None:
    with pytest.raises(TypeError, match="describable takes a dataclass; got Plain"):
        describable(type("Plain", (), {}))
    with pytest.raises(TypeError, match="two describable classes are named Band"):
        describable(masks.positional.Band)
    subclass = type("Sub", (masks.positional.Prefix,), {})(3)
    with pytest.raises(TypeError, match="Sub has no description"):
        describe(subclass)


def _nested(depth: int) -> dict:
    found: dict = {"kind": "Everything"}
    for _ in range(depth):
        found = {"kind": "Not", "inner": found}
    return found


BAND = {"kind": "Band", "left": None, "right": 0, "align": "end"}
HOSTILE = [
    (None, "a description is a JSON object with a kind; got NoneType"),
    (3, "with a kind; got int"),
    ([], "with a kind; got list"),
    ({"tensor": "t0"}, "unknown kind None"),
    ({}, "unknown kind None in a description; known: And, .*Band, "),
    ({"kind": "Where", "function": "print"}, "unknown kind 'Where'"),
    ({"kind": "__import__"}, "unknown kind '__import__'"),
    ({"kind": ["Band"]}, "unknown kind"),
    ({"kind": {"kind": "Band"}}, "unknown kind"),
    ({"kind": "Band"}, r"a Band has the fields \['align', 'left', 'right'\]; got \[\]"),
    ({**BAND, "extra": 1}, "a Band has the fields .*; got .*extra"),
    ({**BAND, "__class__": 1}, "a Band has the fields"),
    ({**BAND, "left": "2"}, "the field left of a Band has the wrong type, str"),
    ({**BAND, "left": 1.5}, "the field left of a Band has the wrong type, float"),
    ({**BAND, "left": True}, "the field left of a Band has the wrong type, bool"),
    ({**BAND, "right": []}, "the field right of a Band has the wrong type, tuple"),
    ({**BAND, "align": "middle"}, "a Band in a description cannot be: align must be"),
    ({"kind": "And", "left": BAND, "right": 3}, "the field right of a And has the wrong type, int"),
    (
        {"kind": "Not", "inner": {"kind": "Dot", "scale": 1.0, "softcap": None}},
        "the field inner of a Not has the wrong",
    ),
    ({"kind": "Dot", "scale": 1.0, "softcap": -3}, "a Dot in a description cannot be: softcap must be greater than 0"),
    ({"kind": "Dot", "scale": {"float": "1e5"}, "softcap": None}, "must be 'nan', 'inf' or '-inf'"),
    ({"kind": "Dot", "scale": {"float": []}, "softcap": None}, "must be 'nan', 'inf' or '-inf'"),
    ({"kind": "Padding", "lengths": {"tensor": "t9"}, "side": "right"}, "names a tensor 't9' that is not there"),
    ({"kind": "Padding", "lengths": {"tensor": ["t0"]}, "side": "right"}, "names a tensor .* that is not there"),
    ({"kind": "Padding", "lengths": {"tensor": "t0"}, "side": "right"}, "padding lengths must be whole numbers"),
    ({"kind": "Padding", "lengths": [1, 2], "side": "right"}, "the field lengths of a Padding has the wrong type"),
    ({"kind": "Dense", "table": {"tensor": "t0"}}, "a Dense in a description cannot be: a mask holds booleans"),
    ({"kind": "Documents", "ids": {"tensor": "t0"}}, "document ids must be whole numbers"),
    ({"kind": "Prefix", "length": -1}, "a prefix length must be 0 or more"),
    ({"kind": "Softmax", "sinks": 3.0}, "the field sinks of a Softmax has the wrong type, float"),
    (_nested(32), "nested 32 levels deep"),
    (_nested(900), "nested 32 levels deep"),
    ({"kind": "Prefix", "length": [[[[3]]]]}, "the field length of a Prefix has the wrong type"),
]


@pytest.mark.parametrize(("description", "text"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_descriptions(description: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        restore(description, {"t0": torch.zeros(2)})


def test_the_deepest_description_comes_back() -> None:
    assert str(restore(_nested(31), {})) == "~" * 31 + "everything"
