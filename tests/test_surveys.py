"""Heads of long calls: measured in the background, every call a little first; errors are told to whoever asks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import foveate as fv
from foveate.recording.strict import RecordingError
from foveate.views import measures, source, surveys
from foveate.views.background import Worker
from foveate.views.measures import MEASURES
from foveate.views.source import Source
from foveate.views.surveys import Surveys
from foveate.views.words import from_words

pytestmark = pytest.mark.usefixtures("one_thread")

N, H = 60, 3


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is a long one."""
    monkeypatch.setattr(source, "LONG", 0)
    monkeypatch.setattr(measures, "spread_out", lambda rows, plain=measures.spread_out: plain(rows, 8))


def source_of(layers: int = 2) -> Source:
    draw = torch.Generator().manual_seed(3)
    maps = {}
    for layer in range(layers):
        q, k = torch.randn(2, 1, H, N, 4, generator=draw)
        maps[f"layers.{layer}"] = fv.AttentionMap(q, k, mask=fv.masks.causal())
    return Source(maps, from_words([f"w{i % 7}" for i in range(N)]))


def rested(one: Source) -> None:
    """Wait until nothing goes on in the background."""
    while (thread := one._worker.thread) is not None:
        thread.join(60)


def test_a_short_call_is_measured_at_once() -> None:
    one = source_of()
    found = one.heads(0, 0)
    assert found.names == MEASURES
    assert (found.measured, found.rows) == (N, N)
    assert not torch.isnan(found.values).any()
    small = one.thumbnails(0, 0)
    assert (small.measured, small.rows) == (N, N)
    assert small.entropy == pytest.approx(found.values[:, 0].tolist(), rel=1e-5)
    assert one.heads(0, 0) is found


def test_a_long_call_is_measured_more_and_more(long: None) -> None:
    one = source_of()
    whole = one._survey(1, 0)
    while not whole.done:
        whole.step()
    first = one.heads(1, 0)
    assert (first.measured, first.rows) == (0, N)
    assert torch.isnan(first.values).all()
    assert one.thumbnails(1, 0).pixels.shape[0] == H
    rested(one)
    found = one.heads(1, 0)
    assert found.measured == N
    torch.testing.assert_close(found.values, whole.result().values)
    small = one.thumbnails(1, 0)
    assert small.measured == N
    assert max(small.peak) == pytest.approx(float(found.picture.max()), rel=1e-5)
    one.close()


def test_every_call_a_little_first_and_then_only_what_is_looked_at(long: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = source_of(3)
    order: list[int] = []
    held = Surveys(lambda call, sequence: order.append(call) or one._survey(call, sequence), Worker())  # type: ignore[func-returns-value]
    monkeypatch.setattr(held._worker, "wake", lambda: None)
    monkeypatch.setattr(surveys, "LOOKED", 0.0)
    for call in (2, 0, 1):
        assert held.get(call, 0) is None
    while (step := held._next()) is not None:
        step.step()
    assert order == [2, 0, 1]
    assert {call: held.get(call, 0).measured for call in order} == {2: 7, 0: 7, 1: 7}  # type: ignore[union-attr]
    monkeypatch.setattr(surveys, "LOOKED", 1e9)
    while (step := held._next()) is not None:
        step.step()
    assert {held.get(call, 0).measured for call in order} == {N}  # type: ignore[union-attr]


def test_what_goes_wrong_is_told_and_the_rest_goes_on(long: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = source_of()

    class Half(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if index == 0:
                raise RecordingError("calls/00000.safetensors: the file is missing")
            return super().__getitem__(index)

    monkeypatch.setattr(one, "maps", Half(one.maps))
    for call in (0, 1):
        one.heads(call, 0)
    rested(one)
    for ask in (one.heads, one.thumbnails):
        with pytest.raises(RecordingError, match="the file is missing"):
            ask(0, 0)
    assert one.heads(1, 0).measured == N
    one.close()


def test_nothing_to_measure() -> None:
    m = fv.AttentionMap(torch.randn(1, H, 2, 4), torch.randn(1, H, 0, 4))
    found = Source({"cross_attn": m}, [[]], [["a", "b"]]).heads(0, 0)
    assert found.values.shape == (H, len(MEASURES))
    assert torch.isnan(found.values).all()


@pytest.mark.parametrize(("call", "sequence", "told"), [(2, 0, "call 2 does not exist"), (0, 1, "sequence 1 does not")])
def test_calls_that_there_are_not(call: int, sequence: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        source_of().heads(call, sequence)
