"""AdditiveAttention and AttentionPooling, against their papers' formulas written out word by word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate as fv
import oracle
from foveate import masks
from foveate.nn import AdditiveAttention, AttentionPooling

B, Q, K, D, M, N = 2, 5, 7, 11, 13, 3
LENGTHS = [7, 4]


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(B, Q, D, dtype=torch.float64), torch.randn(B, K, M, dtype=torch.float64)


def by_hand(module: AdditiveAttention, query: Tensor, memory: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    s, score = torch.zeros(B, Q, K, dtype=torch.float64), module.score
    for b in range(B):
        for i in range(Q):
            for j in range(K):
                inner = score.query_weight @ query[b, i] + score.key_weight @ memory[b, j]
                s[b, i, j] = score.v @ torch.tanh(inner if score.bias is None else inner + score.bias)
    hidden = torch.arange(K) >= torch.tensor(lengths)[:, None, None]
    w = torch.softmax(s.masked_fill(hidden, -torch.inf), -1)
    return w @ memory, w


@pytest.mark.parametrize("bias", [False, True])
def test_additive_attention_equals_its_formula(bias: bool) -> None:
    module = AdditiveAttention(D, M, N, bias=bias).double()
    if bias:
        nn.init.normal_(module.score.bias)  # type: ignore[arg-type]
    query, memory = inputs()
    for given, lengths in ((None, [K, K]), (LENGTHS, LENGTHS), (torch.tensor(LENGTHS), LENGTHS)):
        context, weights = module(query, memory, given)
        wanted, w = by_hand(module, query, memory, lengths)
        oracle.close(context, wanted)
        oracle.close(weights.dense()[:, 0], w)
    few = torch.rand(B, 1, Q, K) < 0.7
    for mask in (few, masks.tensor(few)):
        shown = module(query, memory, LENGTHS, mask=mask)[1].dense()
        inside = torch.arange(K) < torch.tensor(LENGTHS)[:, None, None, None]
        assert torch.equal(shown > 0, few & inside)


def test_keys_made_once_serve_every_step() -> None:
    module = AdditiveAttention(D, M, N).double()
    query, memory = inputs()
    memory.requires_grad_()
    whole, weights = module(query, memory, LENGTHS)
    keys = module.keys(memory)
    steps = [module(query[:, i : i + 1], memory, LENGTHS, keys=keys) for i in range(Q)]
    together = torch.cat([context for context, _ in steps], 1)
    oracle.close(together, whole)
    oracle.close(torch.cat([w.dense() for _, w in steps], 2), weights.dense())
    leaves = [memory, *module.parameters()]
    for a, b in zip(*(torch.autograd.grad(t.square().sum(), leaves) for t in (together, whole)), strict=True):
        oracle.close(a, b)


def test_heads_with_weights_of_their_own_read_keys_made_before() -> None:
    q, k, v = oracle.inputs(heads=3, groups=3)
    score = fv.scores.Additive(11, 11, N, heads=3).double().form()
    whole, weights = fv.attention(q, k, v, score=score)
    assert score.key_weight is not None
    out, others = fv.attention(q, k @ score.key_weight.mT, v, score=replace(score, key_weight=None), backend="blocks")
    oracle.close(out, whole)
    oracle.close(others[1, 2, 3:, 2:5], weights[1, 2, 3:, 2:5])


def test_pooling_equals_its_formula() -> None:
    module = AttentionPooling(M, N).double()
    _, x = inputs()
    vector, weights = module(x, LENGTHS)
    for b, length in enumerate(LENGTHS):
        u = torch.tanh(x[b, :length] @ module.key.weight.T + module.key.bias)
        w = torch.softmax(u @ module.query, 0)
        oracle.close(vector[b], w @ x[b, :length])
        oracle.close(weights[b, 0, 0, :length], w)
        assert not weights[b, 0, 0, length:].any()
    assert AttentionPooling(M).query.shape == (M,)
    assert weights.shape == (B, 1, 1, K)


def test_gradients() -> None:
    additive, pooling = AdditiveAttention(3, 2, 5).double(), AttentionPooling(2, 3).double()
    query = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, m: additive(q, m, [3])[0], (query, memory))
    assert torch.autograd.gradcheck(lambda m: pooling(m, [3])[0], (memory,))
    for module, given in ((additive, (query, memory)), (pooling, (memory,))):
        parameters = list(module.parameters())
        found = torch.autograd.grad(module(*given)[0].square().sum(), parameters)
        assert all(g.abs().sum() > 0 for g in found)


def test_both_are_watched(tmp_path: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = AdditiveAttention(D, M, N)
            self.pool = AttentionPooling(M)

        def forward(self, query: Tensor, memory: Tensor) -> Tensor:
            return self.pool(self.read(query, memory, LENGTHS)[0])[0]

    model = Model().double()
    query, memory = inputs()
    with fv.watch(model, to=tmp_path / "run.fov"):
        out = model(query, memory)
    assert torch.equal(out, model(query, memory))
    seen = fv.load(tmp_path / "run.fov")
    context, w = by_hand(model.read, query, memory, LENGTHS)
    oracle.close(seen["read"].dense()[:, 0], w.detach())
    u = torch.tanh(context @ model.pool.key.weight.T + model.pool.key.bias) @ model.pool.query
    oracle.close(seen["pool"].dense()[:, 0, 0], torch.softmax(u, -1).detach())


def test_a_memory_without_any_word_reads_zeros() -> None:
    query, memory = inputs()
    context, weights = AdditiveAttention(D, M, N).double()(query, memory, [K, 0])
    assert not context[1].any()
    assert not weights[1].any()
    vector, _ = AttentionPooling(M).double()(memory, [0, K])
    assert not vector[0].any()


def test_errors() -> None:
    query, memory = inputs()
    module = AdditiveAttention(D, M, N).double()
    with pytest.raises(ValueError, match="padding needs one length per sequence, 2; got 3"):
        module(query, memory, [7, 4, 2])
    with pytest.raises(ValueError, match=r"query must be \(B, Q, D\) .*; got \(2, 11\) and .* state\[:, None\]"):
        module(query[:, 0], memory)
    with pytest.raises(ValueError, match=r"and memory \(B, K, M\); got .* and \(7, 13\)"):
        module(query, memory[0])
    with pytest.raises(
        ValueError, match=r"sequence must be \(B, K, M\); got \(7, 13\). One alone goes in as x\[None\]"
    ):
        AttentionPooling(M).double()(memory[0])
    with pytest.raises(ValueError, match="the score 'additive' was made with query_width 11; got width 13"):
        module(memory, memory)
    with pytest.raises(ValueError, match="the score 'additive' was made with key_width 3; got width 13"):
        module(query, memory, keys=memory)
