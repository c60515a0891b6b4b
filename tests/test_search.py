"""Searches against plain oracles: all outputs enumerated, a beam kept in lists, the exact distribution of draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foveate.nn.search import Hypothesis, beam, choose, greedy, length_norm, sample
from search_oracle import (
    BEGIN,
    END,
    Fixed,
    Numbers,
    Prefix,
    distribution,
    exhaustive,
    hypothesis,
    log_probabilities,
    plain_beam,
    random_numbers,
    ranked,
    same,
    table,
)

# beam search


@pytest.mark.parametrize("penalty", [-1.5, 0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("nbest", [1, 7])
def test_a_beam_that_keeps_all_finds_the_best_of_all(penalty: float, nbest: int) -> None:
    limits, numbers = [4, 2, 3, 1], random_numbers(4)
    found = beam(
        table(numbers, limits),
        4,
        begin=BEGIN,
        end=END,
        limit_B=limits,
        size=4**4,
        nbest=nbest,
        length_penalty=penalty,
    )
    same(found, [exhaustive(numbers, i, limit, nbest, penalty, set()) for i, limit in enumerate(limits)])


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_beams_equal_a_plain_one_without_early_stop(data: Any) -> None:
    """For all sizes, limits, penalties, ties and impossible tokens; the batch, and each sentence alone."""
    vocabulary = data.draw(st.integers(3, 7), label="vocabulary")
    limits = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4), label="limits")
    size = data.draw(st.integers(1, 6), label="size")
    nbest = data.draw(st.integers(1, size), label="nbest")
    penalty = data.draw(st.sampled_from([-2.0, 0.0, 0.5, 1.0, 2.0, 6.0]), label="penalty")
    forbid = data.draw(st.sets(st.sampled_from([i for i in range(vocabulary) if i != END])), label="forbid")
    numbers = random_numbers(
        vocabulary,
        data.draw(st.integers(0, 10**6), label="seed"),
        holes=data.draw(st.sampled_from([0.0, 0.3, 0.8]), label="holes"),
    )
    options: dict[str, Any] = {"begin": BEGIN, "end": END, "size": size, "nbest": nbest}
    options |= {"length_penalty": penalty, "forbid": sorted(forbid)}
    wanted = [plain_beam(numbers, i, limit, size, nbest, penalty, forbid) for i, limit in enumerate(limits)]
    same(beam(table(numbers, limits), len(limits), limit_B=limits, **options), wanted)
    for i, limit in enumerate(limits):
        same(beam(table(numbers, limits, alone=i), 1, limit_B=limit, **options), wanted[i : i + 1])


@pytest.mark.parametrize("vocabulary", [3, 64, 65, 200])
@pytest.mark.parametrize("size", [1, 3, 70])
def test_equal_numbers_are_taken_in_order(vocabulary: int, size: int) -> None:
    """All outputs of a length are equally probable: the first in the order of parents, then of tokens, are kept."""
    numbers: Numbers = lambda sentence, prefix: [0.0] * vocabulary  # noqa: E731
    found = beam(
        table(numbers, [3, 3]),
        2,
        begin=BEGIN,
        end=END,
        limit_B=3,
        size=size,
        nbest=size,
        forbid=[1],
        length_penalty=0.0,
    )
    wanted = plain_beam(numbers, 0, 3, size, size, 0.0, {1})
    same(found, [wanted, wanted])
    if size == 3 and vocabulary > 3:
        assert [(h.tokens, h.finished) for h in found[1]] == [((), True), ((0,), True), ((0, 0), True)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("vocabulary", "levels"), [(63, 5), (129, 5), (129, 40), (700, 60)])
def test_large_vocabularies_with_ties(
    vocabulary: int, levels: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks, the last of them short, some rows at a time; few levels of logits, so that many are equal."""
    monkeypatch.setattr(choose, "CELLS", 3 * vocabulary)
    numbers, limits = random_numbers(vocabulary, levels=levels), [2, 3]
    banned = {0, BEGIN, 5, vocabulary - 2}
    for size, nbest in ((1, 1), (5, 3), (66, 66))[: 3 if vocabulary < 200 else 2]:
        steps = table(numbers, limits, dtype=dtype)
        found = beam(
            steps,
            2,
            begin=BEGIN,
            end=END,
            limit_B=limits,
            size=size,
            nbest=nbest,
            forbid=sorted(banned),
            length_penalty=0.0,
        )
        wanted = [plain_beam(numbers, i, limit, size, nbest, 0.0, banned) for i, limit in enumerate(limits)]
        same(found, wanted, rel=1e-12 if dtype == torch.float64 else 1e-6)
        allowed = [i for i in range(vocabulary) if i not in banned]
        again = beam(
            table(numbers, limits, dtype=dtype),
            2,
            begin=BEGIN,
            end=END,
            limit_B=torch.tensor(limits),
            size=size,
            nbest=nbest,
            allowed=allowed,
            length_penalty=0.0,
        )
        assert again == found


def test_a_beam_of_one_is_greedy() -> None:
    limits, numbers = [6, 3, 1, 9, 9], random_numbers(5, seed=3, holes=0.1)
    found = greedy(table(numbers, limits), 5, begin=BEGIN, end=END, limit_B=limits, length_penalty=0.7)
    wanted = []
    for i, limit in enumerate(limits):
        tokens, scores = [], []
        while END not in tokens and len(tokens) < limit:
            logps = log_probabilities(numbers(i, tuple(tokens)))
            tokens.append(max(range(5), key=logps.__getitem__))
            scores.append(max(logps))
        wanted.append([hypothesis(tuple(tokens), scores, 0.7)])
    same(found, wanted)
    assert {s[0].finished for s in found} == {True, False}
    assert beam(table(numbers, limits), 5, begin=BEGIN, end=END, limit_B=limits, size=1, length_penalty=0.7) == found


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0])
def test_a_sentence_that_cannot_get_better_stops(penalty: float) -> None:
    """The end has probability 0.98 at once: no other hypothesis can catch up in 10 tokens, whatever follows."""
    steps = table(lambda sentence, prefix: [0.0, -math.inf, 4.6, 0.0], [10])
    ((best,),) = beam(steps, 1, begin=BEGIN, end=END, limit_B=10, length_penalty=penalty)
    assert (best.tokens, steps.widths) == ((), [1])


def test_a_sentence_remembers_its_best() -> None:
    """A worse hypothesis that ends second does not keep it going: all that follow are worse than the first."""

    def numbers(sentence: int, prefix: Prefix) -> list[float]:
        chances = ([0.5, 0.0, 0.5], [0.99, 0.0, 0.01], [1.0, 0.0, 0.0])[min(len(prefix), 2)]
        rest = [0.0] * 50 if len(prefix) < 2 else [1.0] * 50
        return [math.log(p) if p else -math.inf for p in chances + rest]

    steps = table(numbers, [10])
    ((best,),) = beam(steps, 1, begin=BEGIN, end=END, limit_B=10, size=2)
    assert (best.tokens, steps.widths) == ((), [1, 1, 1])


@pytest.mark.parametrize(
    ("chance", "length", "limit", "penalty", "longer"),
    [
        (0.5, 5, 6, 1.0, True),  # of equal totals
        (0.5, 5, 6, 0.0, False),
        (0.5, 5, 6, -1.0, False),
        (0.5, 5, 5, 1.0, False),  # it does not end in time
        (0.6, 59, 60, 1.0, True),  # only a norm much larger than the next makes up for it
        (0.6, 59, 60, 0.0, False),
        (0.4, 1, 60, -1.0, True),  # only a norm much smaller than the last
        (0.4, 59, 60, -1.0, False),
    ],
)
def test_a_longer_hypothesis_may_still_win(
    chance: float, length: int, limit: int, penalty: float, longer: bool
) -> None:
    """The end has this chance at once; else it surely comes after so many tokens. Another sentence has a limit of 1."""

    def numbers(sentence: int, prefix: Prefix) -> list[float]:
        if not prefix:
            return [math.log(1 - chance), -math.inf, math.log(chance)]
        return [-math.inf, -math.inf, 0.0] if len(prefix) == length else [0.0, -math.inf, -math.inf]

    steps = table(numbers, [1, limit])
    _, (best,) = beam(steps, 2, begin=BEGIN, end=END, limit_B=[1, limit], size=2, length_penalty=penalty)
    assert (len(best.tokens), best.finished) == (length if longer else 0, True)
    assert best.total == pytest.approx(math.log(1 - chance if longer else chance))


def test_sentences_leave_the_batch_when_they_end() -> None:
    """Sentence i ends after 2 i + 1 tokens, or at its limit of 8, or, the last, nothing can follow its third token."""

    def numbers(sentence: int, prefix: Prefix) -> list[float]:
        if sentence == 5 and len(prefix) == 3:
            return [-math.inf] * 4
        return (
            [-math.inf, -math.inf, 0.0, -math.inf] if len(prefix) == 2 * sentence else [0.0, -math.inf, -math.inf, 1.0]
        )

    for search, width in ((greedy, 1), (beam, 5), (sample, 1)):
        steps = table(numbers, [8] * 6)
        found = search(steps, 6, begin=BEGIN, end=END, limit_B=8)
        assert [len(h) for h in found] == [1, 1, 1, 1, 1, 0]
        assert [(len(h.tokens), h.finished) for (h,) in found[:5]] == [*((2 * i, True) for i in range(4)), (8, False)]
        sentences = [6, 5, 5, 4, 3, 2, 2, 1]
        grown = [min(2**t, width) for t in range(8)]
        assert steps.widths == [n * g for n, g in zip(sentences, grown, strict=True)]


def test_what_a_hypothesis_holds() -> None:
    limits, numbers = [4, 5], random_numbers(6, seed=8)
    found = beam(table(numbers, limits), 2, begin=BEGIN, end=END, limit_B=limits, size=9, nbest=9, length_penalty=0.8)
    for sentence, hypotheses in enumerate(found):
        assert hypotheses == ranked(hypotheses, 9) and len(hypotheses) == 9
        assert {h.finished for h in hypotheses} == {True, False}
        for h in hypotheses:
            tokens = (*h.tokens, END) if h.finished else h.tokens
            assert len(h.token_scores) == len(tokens) <= limits[sentence]
            wanted = [log_probabilities(numbers(sentence, tokens[:i]))[token] for i, token in enumerate(tokens)]
            assert h.token_scores == pytest.approx(wanted, rel=1e-12)
            assert h.total == pytest.approx(math.fsum(h.token_scores), rel=1e-14)
            assert h.score == pytest.approx(h.total / length_norm(float(len(tokens)), 0.8), rel=1e-14)
    assert length_norm(1.0, 0.6) == 1.0
    assert length_norm(7.0, 0.5) == pytest.approx(math.sqrt(2.0))


@pytest.mark.parametrize("vocabulary", [8000, 8003])
def test_log_probabilities_are_as_good_as_those_of_torch(vocabulary: int) -> None:
    """The most probable tokens are forbidden, the next ones are the last three."""
    x = torch.randn(31, vocabulary) * 4 + 30
    forbid = list(range(3, vocabulary - 3, 900))
    x[:, forbid] += 15
    x[:, -3:] += 10
    found = beam(Fixed(x), 31, begin=BEGIN, end=END, limit_B=1, size=7, nbest=7, forbid=forbid)
    wanted = torch.log_softmax(x.double(), dim=1).index_fill(1, torch.tensor(forbid), -math.inf)
    error = 0.0
    for row, hypotheses in zip(wanted, found, strict=True):
        assert [h.tokens or (END,) for h in ranked(hypotheses, 7)] == [(int(i),) for i in row.topk(7).indices]
        error = max(error, *(abs(h.total - float(row[(h.tokens or (END,))[0]])) for h in hypotheses))
    plain = torch.log_softmax(x, dim=1).double()
    assert error <= 2 * float((plain - wanted)[wanted > -math.inf].abs().max())


@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.T.contiguous().T, lambda x: x[:1].expand(3, -1)])
def test_logits_are_not_written_to(layout: Callable[[Tensor], Tensor]) -> None:
    x = layout(torch.randn(3, 200, dtype=torch.float64).requires_grad_())
    before = x.detach().clone()
    options: dict[str, Any] = {"begin": BEGIN, "end": END, "limit_B": 1, "forbid": [0, BEGIN, 77]}
    for search in (greedy, beam, sample):
        search(Fixed(x), 3, **options)
        sample(Fixed(x), 3, top_k=4, top_p=0.7, **options)
        assert torch.equal(x, before)
    (best,), *_ = greedy(Fixed(x), 3, **options)
    row = before[0].clone()
    row[[0, BEGIN, 77]] = -math.inf
    assert (best.tokens or (END,)) == (int(row.argmax()),)


def test_totals_never_rise_above_nothing() -> None:
    """A certain token costs nothing, and float32 must not round that to a gain, nor huge logits to NaN."""
    for big in (0.0, 88.8, 1e9, 3e38):
        for vocabulary, token in ((9, 4), (70, 69)):
            x = torch.full((1, vocabulary), -big - 40.0)
            x[0, token] = big
            ((best,),) = beam(Fixed(x), 1, begin=BEGIN, end=END, limit_B=1, size=1)
            assert best.tokens == (token,)
            assert -1e-14 < best.total <= 0.0


# sampling


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "banned"),
    [
        (1.0, None, None, set()),
        (0.5, None, None, {0}),
        (2.0, 3, None, set()),
        (1.0, None, 0.8, {BEGIN}),
        (1.5, 4, 0.7, {BEGIN, 3}),
        (1.0, 99, 1.0, {0}),
    ],
)
def test_draws_have_the_exact_distribution(
    temperature: float, top_k: int | None, top_p: float | None, banned: set[int]
) -> None:
    """Each count lies within Bernstein's bound, which all of them together leave once in a million seeds."""
    limits, numbers, draws = [3, 2], random_numbers(6, seed=5), 4000
    found = sample(
        table(numbers, limits, distinct=False),
        2,
        begin=BEGIN,
        end=END,
        limit_B=limits,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        forbid=sorted(banned),
        generator=torch.Generator().manual_seed(7),
        nbest=draws,
        length_penalty=0.5,
    )
    for sentence, hypotheses in enumerate(found):
        exact = distribution(numbers, sentence, limits[sentence], temperature, top_k, top_p, banned)
        counts = Counter((*h.tokens, END) if h.finished else h.tokens for h in hypotheses)
        assert sum(counts.values()) == draws
        assert set(counts) <= {tokens for tokens, p in exact.items() if p}
        room = math.log(2 * len(exact) * len(found) / 1e-6)
        for tokens, p in exact.items():
            assert abs(counts[tokens] / draws - p) <= math.sqrt(2 * p * (1 - p) * room / draws) + room / (3 * draws)
        assert hypotheses == ranked(hypotheses, draws)
        for h in hypotheses[::100]:  # scores are those of the decoder's own distribution
            tokens = (*h.tokens, END) if h.finished else h.tokens
            scores = [log_probabilities(numbers(sentence, tokens[:i]))[token] for i, token in enumerate(tokens)]
            same([[h]], [[hypothesis(tokens, scores, 0.5)]])


def test_draws_follow_the_generator() -> None:
    numbers = random_numbers(50, seed=4)

    def draw(**options: Any) -> list[list[Hypothesis]]:
        return sample(table(numbers, [9, 9], distinct=False), 2, begin=BEGIN, end=END, limit_B=9, nbest=3, **options)

    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    state = torch.get_rng_state()
    first, again, other = (draw(generator=seed) for seed in seeds)
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)
    default = [draw(), draw()]
    assert default[0] != default[1]
    torch.set_rng_state(state)
    assert [draw(), draw()] == default
    assert first[0] != first[1]


@pytest.mark.parametrize("top_p", [None, 0.999])
@pytest.mark.parametrize(("uniform", "token"), [(0.0, 3), (1.0 - 2.0**-53, 5)])
def test_extreme_random_numbers_never_meet_the_impossible(
    monkeypatch: pytest.MonkeyPatch, uniform: float, token: int, top_p: float | None
) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.full(shape, uniform, dtype=torch.float64))
    x = torch.tensor([[-math.inf, 0.0, -math.inf, 0.3, 0.2, 0.1, -math.inf]])
    for temperature in (1e-300, 1.0, 1e300):
        found = sample(
            Fixed(x), 1, begin=BEGIN, end=END, limit_B=1, forbid=[BEGIN], temperature=temperature, top_p=top_p
        )
        assert found[0][0].tokens == (3 if temperature < 1 else token,)


def test_the_lower_of_equal_tokens_are_drawn() -> None:
    for options in ({"top_k": 3}, {"top_p": 3 / 200 - 1e-9}):
        found = sample(Fixed(torch.zeros(1, 200)), 1, begin=BEGIN, end=END, limit_B=1, nbest=99, forbid=[0], **options)
        assert {h.tokens for h in found[0]} == ({(1,), (), (3,)})
