"""`torch.compile` takes attention into one graph, and the graph gives what the plain call gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import foveate as fv
import oracle
from foveate import masks
from foveate.biases import Distances
from oracle import K, Q

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"mask": masks.causal()},
    "window": {"mask": masks.causal() & masks.window(2)},
    "bias": {"bias": torch.linspace(-1, 1, Q * K).reshape(Q, K)},
    "distances": {"bias": Distances(torch.linspace(-1, 1, Q + K - 1)[None])},
    "blocks": {"backend": "blocks", "mask": masks.causal()},
    "softcap": {"score": fv.scores.scaled_dot(softcap=2.0)},
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(options: dict[str, Any]) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = fv.attention(q, k, v, **options)[0]
        return out * 2

    return plain, torch.compile(plain, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize("name", CASES)
def test_one_graph_gives_the_same_output_and_gradients(name: str) -> None:
    plain, graph = compiled(CASES[name])
    inputs = [t.float() for t in oracle.inputs((2,))]
    with torch.no_grad():
        assert torch.allclose(graph(*inputs), plain(*inputs), rtol=0, atol=1e-6)
    found = []
    for run in (plain, graph):
        leaves = [t.clone().requires_grad_() for t in inputs]
        run(*leaves).square().sum().backward()
        found.append([t.grad for t in leaves])
    for a, b in zip(*found, strict=True):
        assert a is not None and b is not None and torch.allclose(a, b, rtol=0, atol=1e-4)


def test_a_mask_whose_numbers_decide_what_runs_breaks_the_graph_and_not_the_result() -> None:
    mask = masks.padding([3, 5])
    q, k, v = (t.float() for t in oracle.inputs((2,)))
    graph = torch.compile(lambda *inputs: fv.attention(*inputs, mask=mask)[0], backend="aot_eager")
    assert torch.allclose(graph(q, k, v), fv.attention(q, k, v, mask=mask)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "causal", "blocks"])
def test_a_graph_never_hides_nan(name: str) -> None:
    _, graph = compiled(CASES[name])
    q, k, v = (t.float() for t in oracle.inputs((2,)))
    q[1, 0, 2, 0] = torch.nan
    assert bool(torch.isnan(graph(q, k, v)[1, 0, 2]).all())
