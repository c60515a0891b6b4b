"""Feed-forward layers over a long text, piece by piece: the same numbers, and no more than a piece at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import foveate as fv
from foveate.apps.pieces import in_pieces
from hf_models import FAMILIES, make_inputs

pytestmark = pytest.mark.usefixtures("one_thread")


class Block(nn.Module):
    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x)
        return out


class Neighbours(nn.Module):
    """Each position reads the one before."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.roll(1, dims=1)


class Heights(nn.Module):
    """Positions by themselves; says how many came."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(6, 4), []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.shape[1])
        out: Tensor = self.linear(x).relu()
        return out


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt-oss"])
def test_a_recording_in_pieces_is_that_of_the_whole(family: str, tmp_path: Path) -> None:
    made = FAMILIES[family]
    model, inputs = made.build(made.implementations[-1]), make_inputs("text")
    with torch.no_grad(), fv.watch(model) as whole:
        expected = model(**inputs).logits
    heights: list[int] = []
    for path, module in model.named_modules():
        if ".mlp." in path and isinstance(module, nn.Linear | Conv1D):
            module.register_forward_pre_hook(lambda _, given: heights.append(given[0].shape[1]))
    with torch.no_grad(), in_pieces(model, 3), fv.watch(model, to=tmp_path / "run.fov") as seen:
        found = model(**inputs).logits
    assert family == "gpt-oss" or max(heights) == 3
    torch.testing.assert_close(found, expected)
    for name in whole:
        torch.testing.assert_close(seen[name].dense(), whole[name].dense())
    assert not any("forward" in vars(module) for module in model.modules())


def test_no_more_than_a_piece_comes_at_a_time() -> None:
    mlp, x = Heights(), torch.randn(2, 103, 6)
    expected = mlp(x)
    mlp.seen.clear()
    with torch.no_grad(), in_pieces(Block(mlp), 20):
        torch.testing.assert_close(mlp(x), expected)
    assert max(mlp.seen) == 20 and sum(mlp.seen) < 103 + 20


@pytest.mark.parametrize("length", [21, 27, 40])
def test_the_last_piece_may_be_short(length: int) -> None:
    mlp, x = Heights(), torch.randn(1, length, 6)
    expected = mlp(x)
    with torch.no_grad(), in_pieces(Block(mlp), 20):
        torch.testing.assert_close(mlp(x), expected)


def test_where_positions_read_each_other_nothing_changes() -> None:
    block, x = Block(Neighbours()), torch.randn(1, 50, 6)
    with torch.no_grad(), in_pieces(block, 20):
        assert torch.equal(block(x), x + x.roll(1, dims=1))


def test_gradients_go_through_the_whole_layer() -> None:
    mlp, x = Heights(), torch.randn(1, 50, 6)
    with in_pieces(Block(mlp), 20):
        mlp(x).sum().backward()
    assert mlp.seen == [50] and mlp.linear.weight.grad is not None


def test_an_error_inside_leaves_the_model_as_it_was() -> None:
    block = Block(Heights())
    with pytest.raises(RuntimeError), torch.no_grad(), in_pieces(block, 20):
        block(torch.randn(1, 50, 5))
    assert "forward" not in vars(block.mlp)
