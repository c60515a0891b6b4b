"""Statistics of weights against the same taken from all weights in float64; blocks, strips and parts change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import foveate as fv
import oracle
from foveate import AttentionMap, masks
from foveate.stats import Entropy, LogSumExp, Pooled, Received, TopK
from oracle import B, G, H, K, Q

MASKS = {
    "none": lambda: None,
    "causal": masks.causal,
    "start": lambda: masks.causal("start"),
    "window": lambda: masks.window(1),
    "padding": lambda: masks.padding([2, 6]),
    "left": lambda: masks.padding([2, 6], side="left"),
    "documents": lambda: masks.documents([0, 0, 1, 1, 1, 2, 2]),
    "holes": lambda: masks.where(lambda b, h, q, k: ((k + q) % 3 == 0) & (q != 2)),
}


@pytest.fixture(params=["one block", "some heads", "many strips", "many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """However the work is cut, the results are the same."""
    if request.param == "some heads":  # two groups at a time out of three
        monkeypatch.setattr("foveate.operator.problem.GOOD_NUMBERS", 2 * (H // G) * Q * K)
    elif request.param != "one block":
        monkeypatch.setattr("foveate.operator.problem.MOST_ROWS", 2)
        monkeypatch.setattr("foveate.operator.problem.FEWEST_ROWS", 1)
        monkeypatch.setattr("foveate.operator.problem.MASK_STEP", 2)
    if request.param == "many blocks":
        monkeypatch.setattr("foveate.operator.problem.BLOCK_NUMBERS", 4)
        monkeypatch.setattr("foveate.operator.problem.GOOD_NUMBERS", 4)
    return request.param


def entropy(w: Tensor) -> Tensor:
    return -torch.where(w > 0, w * torch.where(w > 0, w, 1.0).log(), 0.0).sum(-1)


def pooled(w: Tensor, rows: int, columns: int, how: str) -> Tensor:
    """Entry by entry: row i falls into i * rows // Q."""
    queries, keys = w.shape[-2:]
    rows, columns = min(rows, queries), min(columns, keys)
    found = torch.zeros(*w.shape[:-2], rows, columns, dtype=w.dtype)
    for r in range(rows):
        for c in range(columns):
            mine = [i for i in range(queries) if i * rows // queries == r]
            yours = [j for j in range(keys) if j * columns // keys == c]
            cell = w[..., mine, :][..., yours]
            found[..., r, c] = cell.amax((-2, -1)) if how == "max" else cell.mean((-2, -1))
    return found


@pytest.mark.parametrize("name", MASKS)
def test_every_reducer_against_all_weights(blocks: str, name: str) -> None:
    q, k, _ = oracle.inputs()
    mask = MASKS[name]()
    allowed = None if mask is None else oracle.table(mask)
    w = oracle.weights(q, k, allowed=allowed)
    weights = AttentionMap(q, k, mask=mask)
    lse, ent, top, got, mean, biggest = weights.reduce(
        LogSumExp(), Entropy(), TopK(3), Received(), Pooled(3, 4, "mean"), Pooled(3, 4)
    )
    heads = [h // (H // G) for h in range(H)]
    s = q * q.shape[-1] ** -0.5 @ k[:, heads].mT
    s = s if allowed is None else s.masked_fill(~allowed, -torch.inf)
    oracle.close(lse, s.logsumexp(-1))
    oracle.close(ent, entropy(w))
    oracle.close(got, w.sum(-2))
    oracle.close(mean, pooled(w, 3, 4, "mean"))
    oracle.close(biggest, pooled(w, 3, 4, "max"))
    oracle.close(top.values, w.topk(3).values)
    seen = top.values > 0
    assert (top.indices[~seen] == -1).all() and (top.indices[seen] >= 0).all()
    oracle.close(w.gather(-1, top.indices.clamp(min=0))[seen], top.values[seen])


def test_statistics_do_not_depend_on_company(blocks: str) -> None:
    weights = AttentionMap(*oracle.inputs()[:2], mask=masks.causal())
    reducers = [LogSumExp(), Entropy(), TopK(2), Received(), Pooled(2, 2), Pooled(2, 3, "mean")]
    together = weights.reduce(*reducers)
    for one, reducer in zip(together, reducers, strict=True):
        for a, b in zip(_tensors(weights.reduce(reducer)), _tensors(one), strict=True):
            assert torch.equal(a, b)


def _tensors(result: Any) -> list[Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_as_exact_as_the_plain_computation(dtype: torch.dtype) -> None:
    """Half precision inputs are compared with float32 sums over them: that is what is promised."""
    q, k, _ = oracle.inputs(queries=53, keys=301, width=32, dtype=dtype)
    exact = oracle.weights(q, k, allowed=torch.ones(53, 301, dtype=torch.bool).tril(248))
    heads = [h // (H // G) for h in range(H)]
    s = q.float() * 32**-0.5 @ k.float()[:, heads].mT
    plain = torch.softmax(s.masked_fill(~torch.ones(53, 301, dtype=torch.bool).tril(248), -torch.inf), -1)
    weights = AttentionMap(q, k, mask=masks.causal())
    ent, got, top, mean = weights.reduce(Entropy(), Received(), TopK(5), Pooled(7, 7, "mean"))
    assert {t.dtype for t in (ent, got, top.values, mean)} == {torch.float32}
    oracle.as_good_as(ent, entropy(plain), entropy(exact))
    oracle.as_good_as(got, plain.sum(-2), exact.sum(-2))
    oracle.as_good_as(top.values, plain.topk(5).values, exact.topk(5).values)
    oracle.as_good_as(mean, pooled(plain, 7, 7, "mean"), pooled(exact, 7, 7, "mean"))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(1, 13),
    st.integers(1, 13),
    st.sampled_from(["max", "mean"]),
    st.integers(1, 30),
)
def test_uneven_bins(queries: int, keys: int, rows: int, columns: int, how: Any, block: int) -> None:
    torch.manual_seed(0)
    q, k, _ = oracle.inputs((), heads=2, groups=1, queries=queries, keys=keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foveate.operator.problem.BLOCK_NUMBERS", block)
        patch.setattr("foveate.operator.problem.GOOD_NUMBERS", block)
        patch.setattr("foveate.operator.problem.FEWEST_ROWS", 1)
        patch.setattr("foveate.operator.problem.MASK_STEP", 1)
        found = AttentionMap(q, k).reduce(Pooled(rows, columns, how))
    assert found.shape == (2, min(rows, queries), min(columns, keys))
    oracle.close(found, pooled(oracle.weights(q, k), rows, columns, how))


# rows that are not ordinary


def test_rows_of_nan_are_nan_in_every_statistic(blocks: str) -> None:
    """A NaN row is NaN in all its weights, also where it may not look; the others are as they were."""
    q, k, _ = oracle.inputs()
    mask = masks.window(1)
    clean = oracle.weights(q, k, allowed=oracle.table(mask))
    q[1, 2, 3] = torch.nan
    weights = AttentionMap(q, k, mask=mask)
    lse, ent, top, got, mean, biggest = weights.reduce(
        LogSumExp(), Entropy(), TopK(2), Received(), Pooled(5, 3, "mean"), Pooled(2, 2)
    )
    row = torch.zeros(B, H, Q, dtype=torch.bool)
    row[1, 2, 3] = True
    assert torch.equal(torch.isnan(weights.dense()), row[..., None].expand(B, H, Q, K))
    assert torch.equal(torch.isnan(lse), row) and torch.equal(torch.isnan(ent), row)
    assert torch.equal(torch.isnan(top.values), row[..., None].expand(B, H, Q, 2))
    assert torch.isnan(got[1, 2]).all() and torch.isfinite(got[1, 3]).all() and torch.isfinite(got[0]).all()
    assert torch.equal(torch.isnan(mean), row[..., None].expand(B, H, Q, 3))
    assert torch.isnan(biggest[1, 2, 1]).all() and torch.isfinite(biggest[1, 2, 0]).all()
    oracle.close(ent[~row], entropy(clean)[~row])
    assert torch.equal(weights.nan_rows(), row)


def test_rows_that_see_nothing(blocks: str) -> None:
    q, k, _ = oracle.inputs()
    weights = AttentionMap(q, k, mask=masks.prefix(0))
    lse, ent, top, got, mean = weights.reduce(LogSumExp(), Entropy(), TopK(2), Received(), Pooled(2, 2, "mean"))
    assert (lse == -torch.inf).all() and (top.indices == -1).all()
    assert all((t == 0).all() for t in (ent, top.values, got, mean))


def test_one_key_has_no_entropy_and_underflow_has_no_index() -> None:
    q, k, _ = oracle.inputs(keys=1)
    assert (AttentionMap(q, k).reduce(Entropy()) == 0).all()
    k = torch.tensor([[[1000.0], [0.0], [-1000.0]]])
    top = AttentionMap(torch.ones(1, 1, 1), k, score="dot").reduce(TopK(3))
    assert top.values.tolist() == [[[1, 0, 0]]] and top.indices.tolist() == [[[0, -1, -1]]]


def test_sinks_take_their_share(blocks: str) -> None:
    q, k, _ = oracle.inputs()
    sinks = torch.randn(H, dtype=torch.float64)
    w = oracle.weights(q, k, sinks=sinks)
    weights = AttentionMap(q, k, normalizer=fv.normalizers.softmax(sinks))
    ent, got = weights.reduce(Entropy(), Received())
    oracle.close(ent, entropy(w))
    oracle.close(got, w.sum(-2))


# top k


@pytest.mark.parametrize("k", [1, 2, 8, 20])
@pytest.mark.parametrize("keys", [64, 257, 1500, 4096])
def test_the_largest_by_chunks(k: int, keys: int) -> None:
    q, key, _ = oracle.inputs((), heads=2, groups=1, queries=7, keys=keys, dtype=torch.float32)
    weights = AttentionMap(q, key)
    top, dense = weights.reduce(TopK(k)), weights.dense()
    torch.testing.assert_close(top.values, dense.topk(k).values)
    torch.testing.assert_close(dense.gather(-1, top.indices), top.values)
    assert all(len(set(row)) == k for row in top.indices.reshape(-1, k).tolist())


@pytest.mark.parametrize("keys", [17, 2000])
def test_ties_are_distinct_keys(blocks: str, keys: int) -> None:
    """Among equal weights any key may be named, but each once, and never one that may not be seen."""
    q = torch.zeros(2, 5, 3)
    weights = AttentionMap(q, torch.randn(2, keys, 3), mask=masks.causal())
    top = weights.reduce(TopK(4))
    assert all(len(set(row)) == 4 for row in top.indices.reshape(-1, 4).tolist())
    last = torch.arange(keys - 5, keys)[None, :, None]
    assert ((top.indices >= 0) & (top.indices <= last)).all()
    torch.testing.assert_close(top.values, (1 / (last + 1.0)).expand(2, 5, 4))


def test_k_may_be_all_keys(blocks: str) -> None:
    q, k, _ = oracle.inputs()
    top = AttentionMap(q, k).reduce(TopK(K))
    oracle.close(top.values, oracle.weights(q, k).sort(descending=True).values)
    assert torch.equal(top.indices.sort().values, torch.arange(K).expand(B, H, Q, K))


# parts


@pytest.mark.parametrize("name", MASKS)
def test_merged_parts_equal_the_whole(blocks: str, name: str) -> None:
    weights = AttentionMap(*oracle.inputs()[:2], mask=MASKS[name]())
    reducers = [LogSumExp(), Entropy(), TopK(3), Received(), Pooled(2, 3), Pooled(2, 3, "mean")]
    whole = weights.reduce(*reducers)
    parts = [weights.partial(*reducers, rows=rows) for rows in (slice(4, 5), slice(0, 1), slice(1, -1), slice(3, 3))]
    merged = parts[0].merge(parts[2]).merge(parts[3]).merge(parts[1]).result()
    for a, b in zip(merged, whole, strict=True):
        for x, y in zip(_tensors(a), _tensors(b), strict=True):
            if x.dtype == torch.int64:
                assert torch.equal(x, y)
            else:
                oracle.close(x, y)


def test_parts_that_do_not_belong_together() -> None:
    q, k, _ = oracle.inputs()
    a = AttentionMap(q, k).partial(Entropy())
    for other in (AttentionMap(q[:, :, 1:], k).partial(Entropy()), AttentionMap(q, k).partial(TopK(2))):
        with pytest.raises(ValueError, match="only parts of one map with the same reducers can be merged"):
            a.merge(other)
    with pytest.raises(ValueError, match="rows must be a slice without a step"):
        AttentionMap(q, k).partial(Entropy(), rows=slice(0, 4, 2))


def test_progress_grows_to_one(blocks: str) -> None:
    told: list[float] = []
    weights = AttentionMap(*oracle.inputs()[:2], mask=masks.causal())
    weights.reduce(Entropy(), progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and told[0] > 0
    told.clear()
    weights.partial(Entropy(), rows=slice(1, 3), progress=told.append)
    assert told[-1] == 1.0


def test_progress_may_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.operator.problem.GOOD_NUMBERS", 1)

    class EnoughError(Exception):
        pass

    def stop(share: float) -> None:
        raise EnoughError(share)

    with pytest.raises(EnoughError, match=r"0\."):
        AttentionMap(*oracle.inputs()[:2]).reduce(Entropy(), progress=stop)


# reducers of one's own


@dataclass(frozen=True)
class SumOfSquares:
    per_query = True

    def start(self, g: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.zeros(g.batch, g.heads, g.queries, dtype=dtype, device=device)

    def update(self, state: Tensor, block: Any) -> Tensor:
        state[block.batch, block.heads, block.rows] += block.weights.square().sum(-1)
        return state

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def result(self, state: Tensor) -> Tensor:
        return state


@dataclass(frozen=True)
class HowManyBlocks:
    def start(self, g: Any, dtype: torch.dtype, device: torch.device) -> int:
        return 0

    def update(self, state: int, block: Any) -> int:
        assert block.weights.shape == block.log_weights.shape == block.scores.shape
        oracle.close(block.log_weights.exp(), block.weights)
        return state + 1

    def merge(self, a: int, b: int) -> int:
        return a + b

    def result(self, state: int) -> dict[str, int]:
        return {"blocks": state}


def test_reducers_of_ones_own(blocks: str) -> None:
    q, k, _ = oracle.inputs((2, 3))
    weights = AttentionMap(q, k, mask=masks.causal())
    squares, count = weights.reduce(SumOfSquares(), HowManyBlocks())
    allowed = torch.ones(Q, K, dtype=torch.bool).tril(K - Q)
    oracle.close(squares, oracle.weights(q, k, allowed=allowed).square().sum(-1))
    assert squares.shape == (2, 3, H, Q)
    at_least = {"one block": 1, "some heads": 6 * 2, "many strips": 6 * G * 3, "many blocks": 6 * G * 3 * 2}
    assert count["blocks"] >= at_least[blocks]
    one = AttentionMap(q[0, 0, 0, 0].numpy(), k[0, 0, 0].numpy()).reduce(SumOfSquares())
    assert isinstance(one, np.ndarray) and one.shape == ()


@pytest.mark.parametrize(
    ("reducers", "kind", "text"),
    [
        ((), ValueError, r"give at least one reducer, such as fv.stats.Entropy\(\)"),
        ((Entropy,), TypeError, r"takes reducers, not their classes; write Entropy\(...\)"),
        (("entropy",), TypeError, "a reducer has start, update, merge and result; str does not"),
        ((TopK(0),), ValueError, "TopK takes k from 1 to the number of keys, 7; got 0"),
        ((TopK(8),), ValueError, "TopK takes k from 1 to the number of keys, 7; got 8"),
        ((lambda: TopK(1.5),), ValueError, "the k of TopK must be a whole number; got 1.5"),  # type: ignore[arg-type]
        ((lambda: Pooled(2.5, 3),), ValueError, "a side of Pooled's grid must be a whole number; got 2.5"),  # type: ignore[arg-type]
        ((Pooled(0, 3),), ValueError, "a grid of at least 1 x 1; got 0 x 3"),
        ((lambda: Pooled(2, 3, "sum"),), ValueError, "takes how='max' or 'mean'; got 'sum'"),  # type: ignore[arg-type]
    ],
)
def test_reducers_that_cannot_be(reducers: tuple, kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        AttentionMap(*oracle.inputs()[:2]).reduce(*(r() if type(r) is type(lambda: 0) else r for r in reducers))


def test_statistics_of_tensors_that_learn_hold_no_graph() -> None:
    q, k, _ = (t.requires_grad_() for t in oracle.inputs())
    weights = AttentionMap(q, k)
    found = weights.reduce(LogSumExp(), Entropy(), TopK(2), Received(), Pooled(2, 2))
    assert not any(t.requires_grad for one in found for t in _tensors(one))
    oracle.close(found[1], AttentionMap(q.detach(), k.detach()).reduce(Entropy()))
