"""What searches refuse, and what is nothing: no sentences, nothing that can follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from foveate.nn.search import Steps, beam, choose, greedy, sample
from search_oracle import (
    BEGIN,
    END,
    Fixed,
    Prefix,
    Table,
    random_numbers,
    table,
)


def call(search: Any, **changed: Any) -> Any:
    options: dict[str, Any] = {"rows": 2, "begin": BEGIN, "end": END, "limit_B": 3} | changed
    steps = options.pop("steps", None) or Table(random_numbers(5), list(range(2)), [9, 9], distinct=False)
    return search(steps, options.pop("rows"), **options)


class Untouched:
    def advance(self, tokens_N: Tensor) -> Tensor:
        raise AssertionError("nothing to read")

    def select(self, rows_N: Tensor) -> None:
        raise AssertionError("nothing to select")


@pytest.mark.parametrize("search", [greedy, beam, sample])
def test_no_sentences(search: Any) -> None:
    assert call(search, steps=Untouched(), rows=0) == []
    assert call(search, steps=Untouched(), rows=0, limit_B=[]) == []


@pytest.mark.parametrize("search", [greedy, beam, sample])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": -1}, "rows must be at least 0; got -1"),
        ({"begin": 2}, "begin and end must be different tokens; both are 2"),
        ({"begin": -1}, "begin: tokens must be at least 0; got -1"),
        ({"end": -2}, "end: tokens must be at least 0; got -2"),
        ({"forbid": [0, -3]}, "forbid: tokens must be at least 0; got -3"),
        ({"allowed": [-4]}, "allowed: tokens must be at least 0; got -4"),
        ({"forbid": [0, 2]}, "the end token, 2, must not be forbidden"),
        ({"forbid": [0, 5]}, "the logits are of 5 tokens, 0 to 4; token 5 was named"),
        ({"allowed": [6]}, "the logits are of 5 tokens, 0 to 4; token 6 was named"),
        ({"end": 7}, "the logits are of 5 tokens, 0 to 4; token 7 was named"),
        ({"limit_B": 0}, "limit_B must be at least 1: the end counts as a token; got 0"),
        ({"limit_B": [3, 0]}, "limit_B must be at least 1: the end counts as a token; got 0"),
        ({"limit_B": [3]}, r"limit_B must be one number, or one for each of the 2 sentences; got shape \(1,\)"),
        ({"limit_B": torch.tensor([3.0, 2.5])}, "limit_B must be whole numbers; got float64"),
        ({"length_penalty": math.nan}, "length_penalty must be finite; got nan"),
    ],
)
def test_what_every_search_refuses(search: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(search, **options)


@pytest.mark.parametrize(
    ("search", "options", "message"),
    [
        (beam, {"size": 0}, "size must be at least 1; got 0"),
        (beam, {"nbest": 0}, "nbest must be at least 1; got 0"),
        (beam, {"size": 2, "nbest": 3}, "nbest must be at most the size of the beam; got nbest 3, size 2"),
        (sample, {"nbest": 0}, "nbest must be at least 1; got 0"),
        (sample, {"top_k": 0}, "top_k must be at least 1; got 0"),
        (sample, {"top_p": 0.0}, "top_p must be above 0 and at most 1; got 0.0"),
        (sample, {"top_p": 1.1}, "top_p must be above 0 and at most 1; got 1.1"),
        (sample, {"top_p": math.nan}, "top_p must be above 0 and at most 1; got nan"),
        (sample, {"temperature": 0.0}, r"temperature must be above 0 and finite; got 0.0. For none, use greedy\(\)"),
        (sample, {"temperature": math.inf}, "temperature must be above 0 and finite; got inf"),
    ],
)
def test_what_one_search_refuses(search: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(search, **options)


@pytest.mark.parametrize("search", [greedy, beam, sample])
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_odd_logits_are_refused(search: Any, odd: float) -> None:
    def numbers(sentence: int, prefix: Prefix) -> list[float]:
        return [0.0, 0.0, -math.inf, odd if (sentence, len(prefix)) == (1, 2) else -math.inf, 0.0]

    for forbid in ((), [3]):
        with pytest.raises(ValueError, match=r"finite, or -inf; it gave NaN or \+inf for token 3 of sentence 1"):
            call(search, steps=Table(numbers, [0, 1], [9, 9]), forbid=forbid)
        assert call(search, steps=Table(numbers, [0, 1], [9, 9]), forbid=forbid, limit_B=2)


@pytest.mark.parametrize("search", [greedy, beam, sample])
def test_wrong_logits_are_refused(search: Any) -> None:
    for logits, got in (
        (torch.zeros(3, 5), r"\(2, 5\); got \(3, 5\) of torch.float32"),
        (torch.zeros(2, 1, 5), r"\(2, 5\); got \(2, 1, 5\) of torch.float32"),
        (torch.zeros(2, 0), r"\(2, V\); got \(2, 0\) of torch.float32"),
        (torch.tensor(1.0), r"\(2, V\); got \(\) of torch.float32"),
        (torch.zeros(2, 5, dtype=torch.int64), r"\(2, 5\); got \(2, 5\) of torch.int64"),
    ):
        with pytest.raises(ValueError, match=r"advance must give floating logits \(rows, tokens\) = " + got):
            call(search, steps=Fixed(logits))

    @dataclass
    class Growing(Fixed):
        def advance(self, tokens_N: Tensor) -> Tensor:
            self.logits = torch.cat([self.logits, self.logits[:, :1]], dim=1)
            return self.logits

    x = torch.tensor([[0.0, 0.0, -math.inf, 0.0]] * 2)
    with pytest.raises(ValueError, match=r"\(rows, tokens\) = \(\d+, 5\); got \(\d+, 6\) of torch.float32"):
        call(search, steps=Growing(x))


@pytest.mark.parametrize("search", [greedy, beam, sample])
def test_what_nothing_can_follow_is_dropped(search: Any) -> None:
    """For the decoder, or as what could follow is forbidden."""

    def numbers(sentence: int, prefix: Prefix) -> list[float]:
        return [-math.inf] * 4 if (sentence, prefix) == (0, (3,)) else [-math.inf, -math.inf, -math.inf, 0.0]

    for options in ({}, {"top_k": 2}, {"top_p": 0.5}) if search is sample else ({},):
        assert [len(h) for h in call(search, steps=table(numbers, [3, 3]), **options)] == [0, 1]
        assert call(search, steps=table(numbers, [3, 3]), forbid=[3], **options) == [[], []]
        assert call(search, steps=table(numbers, [3, 3]), allowed=[0], **options) == [[], []]


def test_only_the_end_is_allowed() -> None:
    for search in (greedy, beam, sample):
        assert [[h.tokens for h in s] for s in call(search, allowed=[])] == [[()], [()]]


def test_the_protocol_can_be_asked_for() -> None:
    assert isinstance(Untouched(), Steps)
    assert not isinstance(choose, Steps)
