"""Biases that follow from a rule: the same numbers as their tensor, in every block, without the tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
import oracle
from foveate.biases import Bias, Distances, Given
from oracle import H, K, Q


def table(heads: int = H, queries: int = Q, keys: int = K) -> Tensor:
    return torch.randn(heads, queries + keys - 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def spread_out(t: Tensor, queries: int = Q, keys: int = K) -> Tensor:
    """The dense (heads, queries, keys) tensor, entry by entry."""
    return torch.stack([torch.stack([t[:, j - i + queries - 1] for j in range(keys)], -1) for i in range(queries)], -2)


@pytest.mark.parametrize("backend", ["reference", "blocks", "sdpa", "auto"])
@pytest.mark.parametrize("heads", [1, H])
def test_a_bias_by_distance_equals_its_tensor(backend: str, heads: int) -> None:
    q, k, v = oracle.inputs((2,))
    t = table(heads)
    expected, theirs = fv.attention(q, k, v, bias=spread_out(t), backend="reference")
    found, mine = fv.attention(q, k, v, bias=Distances(t), backend=backend)
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    assert torch.allclose(mine.dense(), theirs.dense(), rtol=0, atol=1e-14)
    assert torch.allclose(mine[1, H - 1, 2, 3:5], theirs[1, H - 1, 2, 3:5], rtol=0, atol=1e-14)
    points = torch.tensor([0, 1, 1]), torch.tensor([0, H - 1, 1]), torch.tensor([Q - 1, 0, 2]), torch.tensor([0, 1, 4])
    assert torch.allclose(mine[points], theirs[points], rtol=0, atol=1e-14)
    assert torch.allclose(mine.reduce(fv.stats.Entropy()), theirs.reduce(fv.stats.Entropy()), rtol=0, atol=1e-13)
    assert mine.explain(1, 1, 2, 3)["bias"] == pytest.approx(float(spread_out(t)[min(1, heads - 1), 2, 3]))


def test_biases_add_up_and_one_can_hide_keys() -> None:
    q, k, v = oracle.inputs((2,))
    t, hides = table(), torch.zeros(Q, K, dtype=torch.float64)
    hides[1, 2:] = -torch.inf
    expected = fv.attention(q, k, v, bias=spread_out(t) + hides, backend="reference")[1]
    for both in (Distances(t) + hides, hides + Distances(t), Distances(t) + Given(hides)):
        assert isinstance(both, Bias)
        mine = fv.attention(q, k, v, bias=both)[1]
        assert torch.allclose(mine.dense(), expected.dense(), rtol=0, atol=1e-14)
        assert float(mine[0, 0, 1, 2]) == 0 == float(mine[0, 0, torch.tensor([1]), torch.tensor([2])])
    twice = (Distances(t) + Distances(t)).by_distance()
    assert twice is not None and torch.equal(twice, 2 * t)
    assert (Distances(t) + Given(hides)).by_distance() is None


@pytest.mark.parametrize("backend", ["blocks", "sdpa"])
def test_gradients_reach_the_table(backend: str) -> None:
    q, k, v = oracle.inputs((1,))
    one, two = table().requires_grad_(), table().requires_grad_()
    fv.attention(q, k, v, bias=Distances(one), backend=backend)[0].square().sum().backward()
    fv.attention(q, k, v, bias=spread_out(two), backend="reference")[0].square().sum().backward()
    assert one.grad is not None and two.grad is not None
    assert torch.allclose(one.grad, two.grad, rtol=0, atol=1e-13)


def test_a_table_of_the_wrong_size_is_refused() -> None:
    q, k, v = oracle.inputs((2,))
    with pytest.raises(ValueError, match=rf"\(heads, queries \+ keys - 1\) = \({H}, {Q + K - 1}\); got"):
        fv.attention(q, k, v, bias=Distances(table()[:, 1:]))
    with pytest.raises(ValueError, match="a bias may not hold"):
        fv.attention(q, k, v, bias=Distances(table()) + torch.full((Q, K), torch.inf, dtype=torch.float64))


class Relative(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = fv.attention(q, k, v, bias=Distances(table()) + torch.ones(K, dtype=torch.float64))[0]
        return out


def test_a_recording_keeps_the_rule_and_not_the_tensor(tmp_path: Path) -> None:
    q, k, v = oracle.inputs((2,))
    model = Relative()
    with fv.watch(model, dtype=torch.float64) as seen:
        model(q, k, v)
    seen.save(tmp_path / "run.fov")
    again = fv.load(tmp_path / "run.fov")["Relative"]
    assert str(again.problem.bias) == "by distance + (1, 1, 1, 7)"
    assert torch.equal(again.dense(), seen["Relative"].dense())
    assert again.to(torch.float32).dense().dtype == torch.float32
