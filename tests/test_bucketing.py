"""Batches by length: every pair once, within the limit, padded right, the same again after a restart."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.tasks.bucketing import Batch, Bitext, Epoch, batches, in_length_order, padding_share

lists = st.lists(st.integers(4, 2**31 - 1), max_size=9)
pairs = st.lists(st.tuples(lists, lists), max_size=30)


def bitext(some: list[tuple[list[int], list[int]]]) -> Bitext:
    return Bitext([source for source, _ in some], [target for _, target in some])


def sentences(count: int, seed: int = 0) -> Bitext:
    """Pairs whose two lengths go together, as in language."""
    chance = random.Random(seed)
    lengths = [(n, max(1, round(n * chance.uniform(0.7, 1.4)))) for n in (chance.randint(1, 40) for _ in range(count))]
    return Bitext([[5] * n for n, _ in lengths], [[6] * m for _, m in lengths])


def same(a: Batch, b: Batch) -> bool:
    tensors = (name for name in Batch.__annotations__ if name != "tokens")
    return a.tokens == b.tokens and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


def order(epoch: Epoch) -> list[list[int]]:
    return [batch.index_B.tolist() for batch in epoch]


@given(pairs, st.integers(1, 60), st.integers(0, 99))
@settings(deadline=None)
def test_an_epoch_holds_every_pair_once_within_the_limit(some: list[Any], tokens: int, seed: int) -> None:
    done = batches(bitext(some), tokens=tokens, seed=seed)
    assert sorted(i for rows in order(done) for i in rows) == list(range(len(some)))
    for batch in done:
        rows = len(batch.index_B)
        assert rows == 1 or rows * max(batch.source_BS.shape[1], batch.target_in_BT.shape[1]) <= tokens


@given(pairs, st.integers(1, 60))
@settings(deadline=None)
def test_what_a_batch_holds(some: list[Any], tokens: int) -> None:
    for batch in batches(bitext(some), tokens=tokens):
        sources, targets = zip(*(some[i] for i in batch.index_B.tolist()), strict=True)
        wide, high = max(map(len, sources)) + 1, max(map(len, targets)) + 1

        def rows(lists: Any, width: int) -> list[list[int]]:
            return [[*one, *[0] * (width - len(one))] for one in lists]

        assert batch.source_BS.tolist() == rows(([*s, 2] for s in sources), wide)
        assert batch.target_in_BT.tolist() == rows(([1, *t] for t in targets), high)
        assert batch.target_out_BT.tolist() == rows(([*t, 2] for t in targets), high)
        assert batch.source_lengths_B.tolist() == [len(s) + 1 for s in sources]
        assert batch.target_lengths_B.tolist() == [len(t) + 1 for t in targets]
        assert batch.tokens == sum(len(t) + 1 for t in targets)
        for name in Batch.__annotations__:
            assert name == "tokens" or getattr(batch, name).dtype == torch.int64


@given(pairs, st.integers(1, 5), st.integers(1, 60))
@settings(deadline=None)
def test_the_shares_of_all_processes_are_the_batch(some: list[Any], world: int, tokens: int) -> None:
    text = bitext(some)
    whole = batches(text, tokens=tokens, seed=3, epoch=1)
    shares = [batches(text, tokens=tokens, seed=3, epoch=1, rank=rank, world=world) for rank in range(world)]
    assert {len(share) for share in shares} == {len(whole)}
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        for rank, part in enumerate(parts):
            assert part.index_B.tolist() == batch.index_B[rank::world].tolist()
            assert part.tokens == batch.tokens
            width = part.source_BS.shape[1]
            assert torch.equal(part.source_BS, batch.source_BS[rank::world, :width])
            assert len(part.index_B) == 0 or int(part.source_lengths_B.max()) == width
        assert sum(int(part.target_lengths_B.sum()) for part in parts) == batch.tokens


def test_a_process_without_rows_gets_tensors_of_none() -> None:
    (batch,) = batches(Bitext([[5, 6]], [[7]]), rank=2, world=3)
    assert batch.source_BS.shape == batch.target_in_BT.shape == batch.target_out_BT.shape == (0, 1)
    assert batch.source_lengths_B.shape == batch.target_lengths_B.shape == batch.index_B.shape == (0,)
    assert batch.tokens == 2


def test_an_epoch_follows_from_seed_and_number_alone() -> None:
    text = sentences(500)
    first = batches(text, tokens=300, seed=5, epoch=2)
    torch.manual_seed(9)
    random.seed(9)
    again = batches(text, tokens=300, seed=5, epoch=2)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert same(again[len(again) - 1], first[-1])
    others = [batches(text, tokens=300, seed=seed, epoch=epoch) for seed, epoch in ((5, 3), (6, 2), (2, 5))]
    assert len({str(order(one)) for one in (first, *others)}) == 4


def test_batches_come_in_no_order_of_length_and_change_their_members() -> None:
    text = sentences(4000)
    epochs = [batches(text, tokens=400, epoch=epoch) for epoch in range(2)]
    longest = [max(batch.source_BS.shape[1], batch.target_in_BT.shape[1]) for batch in epochs[0]]
    rises, falls = sum(a < b for a, b in pairwise(longest)), sum(a > b for a, b in pairwise(longest))
    assert min(rises, falls) > 0.3 * len(longest)
    together = [{frozenset(rows) for rows in order(epoch)} for epoch in epochs]
    assert len(together[0] & together[1]) < 0.2 * len(epochs[0])


def test_little_is_padding() -> None:
    text = sentences(4000)
    done = list(batches(text, tokens=1000))
    cells = sum(b.source_BS.numel() + b.target_in_BT.numel() for b in done)
    real = sum(int((b.source_BS != 0).sum() + (b.target_in_BT != 0).sum()) for b in done)
    assert padding_share(done) == pytest.approx(1 - real / cells)
    assert 0 < padding_share(done) < 0.06
    assert padding_share([]) == 0


def test_a_pair_longer_than_the_limit_is_a_batch_of_its_own() -> None:
    text = Bitext([[5], [5] * 50, [5]], [[6], [6], [6] * 2])
    assert sorted(map(sorted, order(batches(text, tokens=10)))) == [[0, 2], [1]]
    assert len(batches(text, tokens=1)) == 3
    assert len(batches(Bitext([], []))) == 0


@given(st.lists(lists, max_size=30), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_sources_in_order_of_length(sources: list[list[int]], tokens: int) -> None:
    done = list(in_length_order(sources, tokens))
    indices = [i for batch in done for i in batch.index_B.tolist()]
    assert indices == sorted(range(len(sources)), key=lambda i: len(sources[i]))
    for batch, following in pairwise(done):  # a batch is as large as it may be
        assert (len(batch.index_B) + 1) * int(following.source_lengths_B[0]) > tokens
    for batch in done:
        assert len(batch.index_B) == 1 or batch.source_BS.numel() <= tokens
        for row, length, i in zip(batch.source_BS, batch.source_lengths_B, batch.index_B, strict=True):
            assert row[:length].tolist() == [*sources[i], 2]
            assert not row[length:].any()


def test_pairs_are_kept_compactly() -> None:
    text = sentences(3000)
    numbers = sum(int(one.lengths.sum()) for one in (text.sources, text.targets))
    kept = sum(one.flat.nbytes + one.starts.nbytes + one.lengths.nbytes for one in (text.sources, text.targets))
    assert kept <= 4 * numbers + 2 * 16 * (len(text) + 1)


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="each source needs one target; got 1,000 sources and 2 targets"):
        Bitext([[5]] * 1000, [[6]] * 2)
    text = Bitext([[5]], [[6]])
    for rank, world in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=rf"rank must be from 0 to world - 1 = {world - 1}; got {rank}"):
            batches(text, rank=rank, world=world)
    with pytest.raises(ValueError, match="seed and epoch must not be negative; got -1 and 0"):
        batches(text, seed=-1)
    with pytest.raises(ValueError, match="tokens must be at least 1; got 0"):
        batches(text, tokens=0)
    with pytest.raises(ValueError, match="tokens must be at least 1; got 0"):
        next(in_length_order([[5]], 0))
