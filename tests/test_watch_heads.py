"""Chosen layers and heads: the same weights as those of a recording of all, and what a file says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
from foveate.masks.layouts import BlockSparse
from foveate.recording import RecordingError
from foveate.watch import CaptureError

B, H, Q, D = 2, 6, 8, 4


class Model(nn.Module):
    """One call of our operator with `groups` key heads and these parts."""

    def __init__(self, groups: int = H, **parts: Any) -> None:
        super().__init__()
        self.groups, self.parts = groups, parts

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = fv.attention(x, x[:, : self.groups] + 1, x[:, : self.groups], **self.parts)[0]
        return out


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def by_head(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return (k + h) % 3 != 0


PARTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"mask": fv.masks.causal() & fv.masks.padding(torch.tensor([5, 8]))},
    "table of each head": {"mask": drawn(H, Q, Q) > -1},
    "table of all heads": {"mask": drawn(B, 1, Q, Q) > -1},
    "table without heads": {"mask": drawn(Q, Q) > -1},
    "layout of each head": {"mask": ~BlockSparse(drawn(H, 4, 4) > 1, 2) | fv.masks.window(1)},
    "predicate": {"mask": fv.masks.where(by_head)},
    "bias of each head": {"bias": drawn(H, Q, Q)},
    "bias of all heads": {"bias": drawn(Q, Q)},
    "by distance": {"bias": fv.positions.alibi(H) + drawn(H, 1, Q)},
    "sinks": {"normalizer": fv.normalizers.softmax(drawn(H))},
    "warm": {"normalizer": fv.normalizers.softmax(drawn(H), temperature=2.0)},
    "sigmoid": {"normalizer": fv.normalizers.sigmoid(drawn(H))},
    "cosine of each head": {"score": fv.scores.cosine(drawn(H).exp())},
    "general of each head": {"score": fv.scores.General(D, D, heads=H).double()},
    "additive of each head": {"score": fv.scores.Additive(D, D, 3, heads=H).double()},
    "additive of all heads": {"score": fv.scores.Additive(D, D, 3).double()},
}


def seen_of(model: nn.Module, **options: Any) -> Any:
    with torch.no_grad(), fv.watch(model, **options) as seen:
        model(drawn(B, H, Q, D))
    return seen


@pytest.mark.parametrize("groups", [2, 6])
@pytest.mark.parametrize("heads", [(0,), (5,), (1, 2, 4), (0, 1, 2, 3, 4, 5)])
@pytest.mark.parametrize("parts", PARTS, ids=list(PARTS))
def test_chosen_heads_are_those_of_the_whole(parts: str, heads: tuple[int, ...], groups: int, tmp_path: Path) -> None:
    model = Model(groups, **PARTS[parts])
    whole, some = seen_of(model), seen_of(model, heads=heads, keep="qkv", to=tmp_path / "run.fov")
    assert some.info("Model").numbers == heads
    assert some.heads == (len(heads),)
    wanted = whole["Model"].dense()[:, list(heads)]
    for one in (some, fv.load(tmp_path / "run.fov")):
        torch.testing.assert_close(one["Model"].dense(), wanted)
        readers = {h // (H // groups) for h in heads}
        assert len(readers) <= one["Model"].key.shape[1] <= len(heads)
        torch.testing.assert_close(one["Model"].value[:, 0], drawn(B, H, Q, D)[:, heads[0] // (H // groups)])


def test_keys_that_no_chosen_head_reads_are_not_kept() -> None:
    model = Model(3)
    for heads, kept in (((0, 1), 1), ((0, 2, 4), 3), ((0, 1, 2, 3), 2), ((0, 1, 2), 3)):
        assert seen_of(model, heads=heads)["Model"].key.shape[1] == kept


def test_layers_by_number() -> None:
    model = nn.Sequential(*(Model() for _ in range(3)))
    assert seen_of(model, layers=1).layers == ("1",)
    assert seen_of(model, layers=[0, "2"], heads=3).layers == ("0", "2")


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(CaptureError, match=r"Not captured: Model: head 6 was asked for; it has heads 0 to 5"):
        seen_of(Model(), heads=[1, 6])
    for heads in ([], [-1], -2):
        with pytest.raises(ValueError, match=r"heads must be numbers from 0; got"):
            fv.watch(Model(), heads=heads)
    with pytest.raises(ValueError, match=r"a number of heads must be a whole number; got 1\.5"):
        fv.watch(Model(), heads=[1.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"layers must be numbers from 0; got \[-3\]"):
        fv.watch(Model(), layers=["a", -3])


@pytest.mark.parametrize("numbers", ["[1]", "[2, 1]", "[1, 1]", "[-1, 2]", '["1", 2]', "[true, 2]", "7"])
def test_numbers_of_heads_that_a_file_may_not_have(
    numbers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    from foveate.recording.strict import seal

    seen_of(Model(), heads=(1, 2), to=tmp_path / "run.fov")
    index = tmp_path / "run.fov" / "index.jsonl"
    content = json.loads(index.read_text())["content"]
    assert content["numbers"] == [1, 2]
    index.write_text(seal({**content, "numbers": json.loads(numbers)}) + "\n")
    with pytest.raises(RecordingError, match="'numbers' must be"):
        fv.load(tmp_path / "run.fov")
