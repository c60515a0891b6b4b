"""`fv.lookup` against attention over the whole memory, in float64, and its ranking against a plain stable sort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import foveate as fv
import oracle
from foveate.retrieval.ranking import CHUNK, best

Q, N, D, V, TOP = 5, 97, 11, 13, 7


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(*shape, dtype=dtype) for shape in ((Q, D), (N, D), (N, V)))  # type: ignore[return-value]


def compared(q: Tensor, keys: Tensor, score: str) -> Tensor:
    """Scores (Q, N) by their definitions."""
    if score == "cosine":
        return torch.nn.functional.cosine_similarity(q[:, None], keys[None], dim=-1)
    if score == "l2":
        return -(q[:, None] - keys[None]).square().sum(-1) * D**-0.5
    return torch.einsum("qd,nd->qn", q, keys) * (1 if score == "dot" else D**-0.5)


def read(s: Tensor, k: int, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, weights and rows of the k best, by a stable sort."""
    found, places = s.sort(dim=-1, descending=True, stable=True)
    w = torch.softmax(found[:, :k], -1)
    return torch.einsum("qk,qkv->qv", w, values[places[:, :k]]), w, places[:, :k]


# exact


@pytest.mark.parametrize("block", [None, 1, 10, 96, 97])
@pytest.mark.parametrize("score", ["dot", "scaled_dot", "cosine", "l2"])
def test_the_best_keys(score: str, block: int | None) -> None:
    q, keys, values = inputs()
    s = compared(q, keys, score)
    output, weights, places = read(s, TOP, values)
    got = fv.lookup(q, keys, k=TOP, values=values, score=score, block=block)
    oracle.close(got.output, output)
    oracle.close(got.weights, weights)
    assert torch.equal(got.indices, places)
    oracle.close(got.scores, s.gather(1, places))
    oracle.close(got.logsumexp, torch.logsumexp(s, -1))
    oracle.close(got.covered, torch.softmax(s, -1).gather(1, places).sum(-1))


@pytest.mark.parametrize("block", [None, 10])
def test_all_keys_are_attention(block: int | None) -> None:
    q, keys, values = inputs()
    exact, weights = fv.attention(q, keys, values)
    got = fv.lookup(q, keys, k=None, values=values, block=block)
    oracle.close(got.output, exact)
    oracle.close(got.logsumexp, weights.logsumexp())
    assert got.weights is None and got.indices is None and (got.covered == 1).all()
    more = fv.lookup(q, keys, k=200, values=values, block=block)  # as many as there are
    oracle.close(more.output, exact)
    oracle.close(more.covered, torch.ones(Q, dtype=torch.float64))
    assert more.indices.shape == (Q, N)


def test_the_keys_are_the_values_unless_others_are_given() -> None:
    q, keys, _ = inputs()
    oracle.close(fv.lookup(q, keys, k=3).output, fv.lookup(q, keys, k=3, values=keys).output)
    oracle.close(fv.lookup(q, keys, k=None).output, fv.attention(q, keys, keys)[0])


def test_a_score_of_ones_own() -> None:
    q, keys, values = inputs()
    got = fv.lookup(
        q, keys, k=3, values=values, score=lambda a, b: -(a[..., :, None, :] - b[..., None, :, :]).abs().sum(-1)
    )
    s = -(q[:, None] - keys[None]).abs().sum(-1)
    oracle.close(got.output, read(s, 3, values)[0])


@pytest.mark.parametrize("kind", ["tensor", "array", "memmap", "blocks", "generator"])
def test_kinds_of_memory(kind: str, tmp_path: Path) -> None:
    q, keys, values = inputs(torch.float32)
    plain = fv.lookup(q, keys, k=TOP, values=values, block=20)

    def given(t: Tensor, name: str, sizes: list[int]) -> Any:
        if kind == "memmap":
            t.numpy().tofile(tmp_path / name)
            return np.memmap(tmp_path / name, dtype=np.float32, mode="r", shape=tuple(t.shape))
        parts = t.split(sizes)
        shown = {"tensor": t, "array": t.numpy(), "blocks": list(parts), "generator": (p.numpy() for p in parts)}
        return shown[kind]

    memory, others = given(keys, "keys", [40, 0, 57]), given(values, "values", [1, 60, 36])
    got = fv.lookup(q, memory, k=TOP, values=others, block=20)
    assert torch.equal(got.indices, plain.indices)
    torch.testing.assert_close(got.output, plain.output)
    torch.testing.assert_close(got.covered, plain.covered)
    if kind != "generator":
        everything = fv.lookup(q, memory, k=None, values=others, block=20)
        torch.testing.assert_close(everything.output, fv.attention(q, keys, values)[0])


def test_shapes_and_arrays() -> None:
    q, keys, values = inputs()
    flat = fv.lookup(q, keys, k=3, values=values)
    got = fv.lookup(q.reshape(1, Q, 1, D), keys, k=3, values=values)
    assert got.output.shape == (1, Q, 1, V) and got.weights.shape == (1, Q, 1, 3) and got.covered.shape == (1, Q, 1)
    oracle.close(got.output.reshape(Q, V), flat.output)
    one = fv.lookup(q[2].numpy(), keys.numpy(), k=3, values=values.numpy())
    assert isinstance(one.output, np.ndarray) and one.output.shape == (V,) and one.logsumexp.shape == ()
    np.testing.assert_allclose(one.output, flat.output[2], rtol=1e-11)
    lists = fv.lookup([1, 0.5], [[1, 0.5], [0.1, 0.9], [-1, -0.5]], k=1, values=[[10, 20], [30, 40], [50, 60]])
    assert lists.output.tolist() == [10, 20] and lists.indices.tolist() == [0]


def test_half_precision_memory_is_compared_in_single() -> None:
    q, keys, values = inputs(torch.float32)
    got = fv.lookup(q, keys.half(), k=TOP, values=values.bfloat16())
    want = fv.lookup(q, keys.half().float(), k=TOP, values=values.bfloat16().float())
    assert torch.equal(got.indices, want.indices) and got.output.dtype == torch.float32
    torch.testing.assert_close(got.output, want.output)
    assert fv.lookup(q.half(), keys, k=TOP).output.dtype == torch.float16


def test_many_queries_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    q, keys, values = inputs()
    whole = fv.lookup(q, keys, k=TOP, values=values)
    monkeypatch.setattr("foveate.retrieval.soft.ROWS", 2)
    got = fv.lookup(q, keys, k=TOP, values=values, block=30)
    assert torch.equal(got.indices, whole.indices)
    oracle.close(got.output, whole.output)
    oracle.close(fv.lookup(q, keys, k=None, values=values).output, fv.attention(q, keys, values)[0])


def test_nan_and_nothing() -> None:
    q, keys, values = inputs()
    q[1] = torch.nan
    got = fv.lookup(q, keys, k=3, values=values)
    assert torch.isnan(got.output).any(-1).tolist() == [False, True, False, False, False]
    empty = fv.lookup(q, keys[:0], k=3, values=values[:0])
    assert (empty.output == 0).all() and empty.indices.shape == (Q, 0) and (empty.logsumexp == -torch.inf).all()
    assert fv.lookup(q[:0], keys, k=3).output.shape == (0, D)
    huge = fv.lookup(1e4 * keys[:2], 1e4 * keys, k=2, score="dot")
    assert torch.isfinite(huge.output).all() and (huge.covered == 1).all()


# ties


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ranking_is_a_stable_sort(data) -> None:
    draw = data.draw
    columns, k = draw(st.integers(1, 9 * CHUNK)), draw(st.integers(1, 5))
    different = draw(st.sampled_from([1, 2, 5, 300, 10_000]))
    torch.manual_seed(draw(st.integers(0, 999)))
    s = torch.randint(0, different, (3, columns)).double()
    if draw(st.booleans()):
        s[1, ::3] = -torch.inf
    values, places = best(s, k)
    exact = s.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(places, exact.indices[:, :k]) and torch.equal(values, exact.values[:, :k])


def test_a_tie_across_chunks_goes_to_the_first() -> None:
    """The chunk of the largest number holds one more that ties with one further left."""
    s = torch.zeros(1, 9 * CHUNK)
    s[0, [5, 3 * CHUNK, 3 * CHUNK + 1]] = torch.tensor([1.0, 2.0, 1.0])
    assert best(s, 2)[1].tolist() == [[3 * CHUNK, 5]]


def test_ties_over_an_index_go_to_the_first() -> None:
    keys = torch.eye(4).repeat(2, 1)
    got = fv.lookup(keys[2], keys, k=3, index=lambda q, k: np.array([[6, 1, 2]]))
    assert got.indices.tolist() == [2, 6, 1]


@pytest.mark.parametrize("block", [None, 7, 50])
def test_of_equal_keys_the_first_are_taken(block: int | None) -> None:
    q = torch.randn(3, D)
    keys = torch.randn(4, D).repeat(20, 1)
    got = fv.lookup(q, keys, k=5, block=block)
    winner = (q @ keys[:4].mT).argmax(-1)
    assert torch.equal(got.indices, winner[:, None] + 4 * torch.arange(5))
    again = fv.lookup(q, keys, k=5, block=block)
    assert torch.equal(again.output, got.output) and torch.equal(again.indices, got.indices)


# gradients


def test_gradients_reach_queries_keys_and_values() -> None:
    q, keys, values = (t[:9, :4] for t in inputs())
    places = fv.lookup(q, keys, k=3).indices

    def call(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        found = fv.lookup(q, keys, k=3, values=values)
        assert torch.equal(found.indices, places)
        return found.output

    leaves = [t.requires_grad_() for t in (q, keys, values)]
    assert torch.autograd.gradcheck(call, leaves)
    unread = torch.ones(9, dtype=torch.bool)
    unread[places.flatten()] = False
    assert (torch.autograd.grad(call(*leaves).sum(), keys)[0][unread] == 0).all()
    for options in ({"k": None}, {"k": 3, "values": list(values.split(5))}):
        with pytest.raises(ValueError, match="gradients need a k and a memory whose rows are at hand"):
            fv.lookup(q, keys, **options)
    with torch.no_grad():
        fv.lookup(q, keys, k=None)


# over an index


class Approximate:
    """An index that misses every third of the best keys and finds none at the end, as FAISS does: -1."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        assert queries.dtype == np.float32 and queries.flags.c_contiguous
        order = (torch.from_numpy(queries).double() @ self.keys.mT).sort(dim=-1, descending=True, stable=True).indices
        rows = order[:, torch.arange(N) % 3 != 2][:, :k].clone()
        rows[:, -1] = -1
        return np.zeros(rows.shape), rows.numpy()


def test_over_an_index() -> None:
    q, keys, values = inputs(torch.float32)
    q, keys, values = q.double(), keys.double(), values.double()
    got = fv.lookup(q, keys, k=TOP, values=values, index=Approximate(keys))
    s = compared(q, keys, "scaled_dot")
    order = s.sort(dim=-1, descending=True, stable=True).indices
    places = order[:, [0, 1, 3, 4, 6, 7]]
    assert torch.equal(got.indices[:, :-1], places) and (got.indices[:, -1] == -1).all()
    weights = torch.softmax(s.gather(1, places), -1)
    oracle.close(got.output, torch.einsum("qk,qkv->qv", weights, values[places]))
    assert (got.weights[:, -1] == 0).all() and got.logsumexp is None and got.covered is None
    report = got.report()
    exact = fv.lookup(q, keys, k=TOP, values=values)
    gap = (got.output - exact.output).norm(dim=-1) / exact.output.norm(dim=-1)
    assert report.sample == Q and report.recall == pytest.approx(5 / 7)
    assert report.error == pytest.approx(float(gap.mean())) and report.worst_error == pytest.approx(float(gap.max()))
    assert report.covered == pytest.approx(float(torch.softmax(s, -1).gather(1, places).sum(-1).mean()))
    assert got.report(sample=2).sample == 2
    clean = exact.report()
    assert clean.recall == 1 and clean.error == 0
    as_function = fv.lookup(q, keys, k=TOP, values=values, index=lambda x, k: Approximate(keys).search(x, k)[1])
    assert torch.equal(as_function.output, got.output)


def test_an_index_that_finds_nothing() -> None:
    q, keys, values = inputs()
    got = fv.lookup(q, keys, k=2, values=values, index=lambda x, k: np.full((len(x), k), -1))
    assert (got.output == 0).all() and (got.weights == 0).all()


def test_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    q, keys, values = inputs(torch.float32)
    index = faiss.IndexFlatIP(D)
    index.add(keys.numpy())
    got = fv.lookup(q, keys, k=TOP, values=values, index=index)
    exact = fv.lookup(q, keys, k=TOP, values=values)
    assert torch.equal(got.indices, exact.indices)
    torch.testing.assert_close(got.output, exact.output)
    assert got.report().recall == 1


def test_hnswlib() -> None:
    hnswlib = pytest.importorskip("hnswlib")
    q, keys, values = inputs(torch.float32)
    index = hnswlib.Index(space="l2", dim=D)
    index.init_index(max_elements=N, M=16, ef_construction=200, random_seed=1)
    index.add_items(keys.numpy(), np.arange(N))
    index.set_ef(N)
    got = fv.lookup(q, keys, k=TOP, values=values, score="l2", index=index)
    assert torch.equal(got.indices, fv.lookup(q, keys, k=TOP, values=values, score="l2").indices)
    assert got.report().recall == 1 and got.report().error < 1e-5


# what it says and refuses


def test_progress() -> None:
    q, keys, _ = inputs()
    seen: list[float] = []
    fv.lookup(q, keys, k=3, block=30, progress=seen.append)
    assert seen == pytest.approx([30 / N, 60 / N, 90 / N, 1])


def test_text() -> None:
    q, keys, _ = inputs()
    assert "_call" not in repr(fv.lookup(q, keys, k=3))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"k": 0}, "k must be at least 1; got 0"),
        ({"block": -1}, "block must be at least 1; got -1"),
        ({"score": "nearest"}, "unknown score 'nearest'"),
        ({"memory": torch.zeros(3)}, r"memory must have two axes, \(N, D\); got shape \(3,\)"),
        ({"memory": 3.0}, "memory must be a tensor, an array or an iterable of blocks"),
        ({"memory": torch.zeros(3, 4)}, rf"must have the same width D; got \({Q}, {D}\) and \(3, 4\)"),
        ({"memory": iter([torch.zeros(3)])}, r"each block of the memory must be \(n, D\); got shape \(3,\)"),
        ({"values": torch.zeros(3, 4)}, f"equally many rows; got {N} and 3"),
        ({"values": iter([torch.zeros(3, 4)])}, "there are fewer values than keys"),
        ({"values": iter([torch.zeros(N, 4), torch.zeros(1, 4)])}, f"there are more values than the {N} keys"),
        ({"query": torch.tensor(1.0)}, r"query must have at least one axis, \(D,\)"),
        ({"index": object()}, "an index has search or knn_query, or is a function"),
        ({"index": lambda q, k: np.zeros((1, k))}, r"an index gives rows \(queries, k\) = \(5, 3\); got \(1, 3\)"),
        ({"index": lambda q, k: q, "k": None}, "an index goes with a k, and with a memory"),
        ({"index": lambda q, k: np.zeros((Q, k)), "memory": torch.zeros(3, 4)}, "must have the same width D"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], text: str) -> None:
    q, keys, _ = inputs()
    with pytest.raises((ValueError, TypeError), match=text):
        fv.lookup(**{"query": q, "memory": keys, "k": 3, **options})


def test_a_report_needs_something_to_compare() -> None:
    q, keys, _ = inputs()
    with pytest.raises(ValueError, match="all keys were read; there is nothing to compare with"):
        fv.lookup(q, keys, k=None).report()


def test_only_a_block_is_held() -> None:
    """A memory that makes its blocks as they are asked for, 64 times what is held at a time."""
    alive, most = 0, 0

    class Rows(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1 if self.base is None else 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal alive, most
        for i in range(64):
            rows = np.full((50, D), float(i)).view(Rows).copy()
            alive += 1
            most = max(most, alive)
            yield rows

    got = fv.lookup(torch.ones(D).double(), blocks(), k=2)
    assert got.indices.tolist() == [3150, 3151] and most <= 3


def test_a_key_that_an_index_finds_twice_counts_once() -> None:
    q, keys = torch.randn(3, 4), torch.randn(9, 4)
    got = fv.lookup(q, keys, k=4, index=lambda x, k: np.array([[5, 2, 5, 2]] * len(x)))
    once = fv.lookup(q, keys, k=2, index=lambda x, k: np.array([[5, 2]] * len(x)))
    assert torch.equal(got.output, once.output) and torch.equal(got.indices[:, :2], once.indices)
    assert bool((got.indices[:, 2:] == -1).all()) and bool((got.weights[:, 2:] == 0).all())


@pytest.mark.parametrize("row", [9, -2, 3.5])
def test_rows_that_an_index_cannot_mean(row: float) -> None:
    with pytest.raises(ValueError, match="whole row numbers from 0 to 8, and -1 for none"):
        fv.lookup(torch.randn(2, 4), torch.randn(9, 4), k=1, index=lambda x, k: np.full((len(x), 1), row))
