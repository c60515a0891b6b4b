"""From attention to links: what must not change the result, and a plain definition; choosing what to read."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from foveate.tasks.alignment import (
    Links,
    Reading,
    candidates,
    choose,
    choose_alone,
    error_rate,
    hard,
    parse_links,
    same_words,
    soft,
    swap,
    without_closing,
    word_weights,
)

SOURCE = (0, 0, 1, 2, 2, 2, 3)  # 7 tokens of 4 words, and the end symbol
TARGET = (0, 1, 1, 2, 3, 3, 3, 4, 4, 5, 6)  # 11 tokens of 7 words


def attention(*leading: int, rows: int = len(TARGET) + 1, columns: int = len(SOURCE) + 1) -> Tensor:
    return torch.randn(*leading, rows, columns, dtype=torch.float64).mul(2).softmax(-1)


def plain(weights: Tensor, source: tuple[int, ...], target: tuple[int, ...], first: int, most_end: float) -> Tensor:
    """The definition, number by number; `source` has a number for every column."""
    result = torch.zeros(max(target) + 1, max(source) + 1, dtype=torch.float64)
    for word in range(len(result)):
        rows = []
        for token in (t for t in range(len(target)) if target[t] == word):
            row = weights[token + first].tolist()
            end = sum(w for w, number in zip(row, source, strict=True) if number < 0)
            if end <= most_end * sum(row) and sum(row) > end:
                rows.append([w / (sum(row) - end) for w in row])
        for row in rows:
            for column, number in enumerate(source):
                if number >= 0:
                    result[word, number] += row[column] / len(rows)
    return result


@pytest.mark.parametrize("shift", ["output", "input"])
@pytest.mark.parametrize("most_end", [0.99, 0.3])
def test_word_weights_are_the_definition(shift: str, most_end: float) -> None:
    weights = attention()
    found = word_weights(weights, SOURCE, TARGET, shift=shift, most_end=most_end)
    wanted = plain(weights, (*SOURCE, -1), TARGET, shift == "input", most_end)
    torch.testing.assert_close(found, wanted)
    tagged = (-1, *SOURCE[:-1], -1)  # a language tag before, an end symbol behind
    found = word_weights(weights, tagged, TARGET, shift=shift, most_end=most_end)
    torch.testing.assert_close(found, plain(weights, tagged, TARGET, shift == "input", most_end))
    assert (found.sum(-1) > 0).any()
    if most_end < 0.5:
        assert (word_weights(weights, SOURCE, TARGET, most_end=0.03).sum(-1) == 0).any()


def test_rows_sum_to_one_whatever_stands_before_them() -> None:
    weights = attention(2, 3)
    found = word_weights(weights, SOURCE, TARGET)
    assert found.shape == (2, 3, 7, 4)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, 7, dtype=torch.float64))
    torch.testing.assert_close(found[1, 2], word_weights(weights[1, 2], SOURCE, TARGET))


def test_the_share_of_the_end_symbol_does_not_matter_below_the_limit() -> None:
    weights = attention()
    more = weights * 0.1
    more[:, -1] += 0.9
    torch.testing.assert_close(word_weights(more, SOURCE, TARGET), word_weights(weights, SOURCE, TARGET))


def test_a_row_that_reads_the_end_only_says_nothing() -> None:
    weights = attention()
    before = word_weights(weights, SOURCE, TARGET)
    weights[0], weights[2], weights[3] = 0, 0, 0
    weights[0, -1] = 1  # the only token of word 0
    weights[2, -1], weights[2, 0] = 0.995, 0.005  # the second token of word 1
    after = word_weights(weights, SOURCE, TARGET)
    assert after[0].tolist() == after[2].tolist() == [0, 0, 0, 0]  # a row of zeros is not read either
    torch.testing.assert_close(after[1], word_weights(weights[1:2], SOURCE, [0])[0])
    torch.testing.assert_close(after[3:], before[3:])
    assert {target for _, target in hard(after)} == {1, 3, 4, 5, 6}
    assert word_weights(weights, SOURCE, TARGET, most_end=0.996)[1, 0] > after[1, 0]


def test_cutting_a_word_into_more_tokens_changes_nothing() -> None:
    weights = attention()
    found = word_weights(weights, SOURCE, TARGET)
    column = torch.cat([weights[:, :2], 0.3 * weights[:, 2:3], 0.7 * weights[:, 2:3], weights[:, 3:]], 1)
    torch.testing.assert_close(word_weights(column, (0, 0, 1, 1, 2, 2, 2, 3), TARGET), found)
    row = torch.cat([weights[:1], weights[:1], weights[1:]])
    torch.testing.assert_close(word_weights(row, SOURCE, (0, *TARGET)), found)


def test_shift_reads_the_row_that_was_given_the_word() -> None:
    weights = attention()
    later = word_weights(weights.roll(-1, 0), SOURCE, TARGET)
    torch.testing.assert_close(word_weights(weights, SOURCE, TARGET, shift="input"), later)
    ended = word_weights(weights, SOURCE, (*TARGET, -1), shift="input")
    torch.testing.assert_close(ended, later)
    torch.testing.assert_close(word_weights(weights[:-1], SOURCE, TARGET), word_weights(weights, SOURCE, TARGET))
    with pytest.raises(ValueError, match=r"shift='input' reads the row after the last word's, 11; the weights have 11"):
        word_weights(weights[:-1], SOURCE, TARGET, shift="input")


def test_low_precision_is_added_up_in_float32() -> None:
    weights = attention().to(torch.bfloat16)
    found = word_weights(weights, SOURCE, TARGET)
    assert found.dtype == torch.float32
    exact = word_weights(weights.double(), SOURCE, TARGET)
    assert (found - exact).abs().max() < 8 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"source_words": (0, 1)},
            r"source_words must have one number per column of the weights, 8, or one fewer; got 2",
        ),
        (
            {"target_words": (0,) * 13},
            r"target_words must have one number per row of the weights, 12, or one fewer; got 13",
        ),
        ({"source_words": (-2, *SOURCE[1:])}, r"source_words must be numbers from 0, or -1 .*; got -2"),
        ({"shift": "inputs"}, r"unknown shift 'inputs'; expected one of output, input"),
        ({"weights": attention() - 0.5}, r"attention weights must be finite and at least 0"),
        ({"weights": attention().mul(float("nan"))}, r"attention weights must be finite and at least 0"),
        ({"weights": attention().div(0)}, r"attention weights must be finite and at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, message: str) -> None:
    arguments = {"weights": attention(), "source_words": SOURCE, "target_words": TARGET} | options
    with pytest.raises(ValueError, match=message):
        word_weights(**arguments)


SPOKEN = ("do", "you", "see", "it", "?", "»")
WRITTEN = ("tu", "vois", "-", "la", "?")


def test_words_are_not_read_from_what_closes_the_source() -> None:
    weights = torch.rand(2, 3, len(WRITTEN), len(SPOKEN), dtype=torch.float64).softmax(-1)
    found = without_closing(weights, SPOKEN, WRITTEN)
    assert found.shape == weights.shape
    for row, word in enumerate(WRITTEN):
        if word in "-?":
            assert torch.equal(found[..., row, :], weights[..., row, :])
        else:
            assert bool((found[..., row, 4:] == 0).all())
            rest = weights[..., row, :4]
            torch.testing.assert_close(found[..., row, :4], rest / rest.sum(-1, keepdim=True))
    assert torch.equal(without_closing(weights[..., :4], SPOKEN[:4], WRITTEN), weights[..., :4])
    inside = ("no", ",", "you", "do", "not", "see")
    assert torch.equal(without_closing(weights, inside, WRITTEN), weights)
    for said in ("%", "€", "😀", "++", "&", "c."):
        assert torch.equal(without_closing(weights, (*inside[:-1], said), WRITTEN), weights)
        assert bool((without_closing(weights, (*inside[:-2], said, "."), WRITTEN)[..., 0, 4] > 0).all())
    assert without_closing(weights[..., :0, :], SPOKEN, ()).shape == (2, 3, 0, len(SPOKEN))
    only = ("?", "!", "…", ".", "»", "-")
    assert torch.equal(without_closing(weights, only, WRITTEN), weights)


def test_a_word_that_reads_closing_punctuation_only_is_not_aligned() -> None:
    weights = torch.tensor([[0.012, 0.0, 0.988], [0.006, 0.002, 0.992], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    found = without_closing(weights, ("a", "b", "."), ("x", "y", "z", "w"))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]))
    more = without_closing(weights, ("a", "b", "."), ("x", "y", "z", "w"), most_end=0.995)
    torch.testing.assert_close(more[1], torch.tensor([0.75, 0.25, 0]))
    with pytest.raises(ValueError, match=r"a row for each of the 1 target words and a column for each of the 2 source"):
        without_closing(weights, ("a", "b"), ("x",))


def test_hard_links_by_their_definition() -> None:
    weights = attention(rows=7, columns=5)
    rows, columns = [row.tolist() for row in weights], [column.tolist() for column in weights.T]
    by_target = {(row.index(max(row)), t) for t, row in enumerate(rows)}
    by_source = {(s, column.index(max(column))) for s, column in enumerate(columns)}
    assert hard(weights) == by_target
    assert hard(weights, "source") == by_source == swap(hard(weights.T))
    assert hard(weights, "both") == by_target & by_source
    assert hard(weights, "either") == by_target | by_source
    assert hard(weights, "all", threshold=0.2) == {(s, t) for t in range(7) for s in range(5) if rows[t][s] >= 0.2}
    middle = sorted(map(max, rows))[3]
    high = hard(weights, threshold=middle)
    assert high == {(s, t) for s, t in by_target if rows[t][s] >= middle}
    assert len(high) == 4
    assert soft(weights, least=0.1) == {(s, t): rows[t][s] for t in range(7) for s in range(5) if rows[t][s] >= 0.1}


def test_hard_links_at_the_edges() -> None:
    assert hard(torch.tensor([[0.5, 0.5], [0.0, 0.0]])) == {(0, 0)}
    assert hard(torch.zeros(0, 3)) == hard(torch.zeros(3, 0)) == frozenset()
    with pytest.raises(ValueError, match=r"unknown how 'word'; expected one of target, source, both, either, all"):
        hard(torch.ones(1, 1), "word")
    with pytest.raises(ValueError, match=r"how='all' links every cell from the threshold up, .* got 0"):
        hard(torch.ones(1, 1), "all")


MAPS = {"decoder.0": attention(3), "decoder.1": attention(2)}


def test_a_reading_goes_through_json() -> None:
    for reading in (Reading(("decoder.0",), 2, "input"), Reading(("decoder.0", "decoder.1"))):
        assert Reading.from_json(json.loads(json.dumps(reading.as_json()))) == reading
    assert Reading("decoder.0") == Reading(("decoder.0",), "mean", "output")  # type: ignore[arg-type]
    assert str(Reading(("a", "b"), 2)) == "a + b, head 2, output"
    good = Reading(("a",)).as_json()
    for change, message in [
        ({"head": -1}, r"head must be 'mean' or a number from 0; got -1"),
        ({"head": True}, r"head must be 'mean' or a number from 0; got True"),
        ({"shift": "both"}, r"unknown shift 'both'; expected one of output, input"),
        ({"modules": []}, r"modules must name at least one attention module"),
        ({"modules": "a"}, r"a reading has the keys head, modules \(a list\), shift"),
        ({"layer": 1}, r"a reading has the keys head, modules \(a list\), shift; got .*layer"),
    ]:
        with pytest.raises(ValueError, match=message):
            Reading.from_json(good | change)


def test_a_reading_takes_its_head_or_a_mean() -> None:
    assert Reading(("decoder.0",), 2).weights(MAPS).equal(MAPS["decoder.0"][2])
    both = Reading(("decoder.0", "decoder.1")).weights(MAPS)
    torch.testing.assert_close(both, (MAPS["decoder.0"].mean(0) + MAPS["decoder.1"].mean(0)) / 2)
    with pytest.raises(ValueError, match=r"no attention of 'decoder\.2'; there is decoder\.0, decoder\.1"):
        Reading(("decoder.2",)).weights(MAPS)
    with pytest.raises(ValueError, match=r"decoder\.1 has 2 heads, counted from 0; got head 2"):
        Reading(("decoder.1",), 2).weights(MAPS)


def test_candidates_are_all_readings() -> None:
    found = candidates(MAPS, SOURCE, TARGET)
    assert len(found) == 2 * (3 + 1 + 2 + 1)
    for reading, weights in found.items():
        torch.testing.assert_close(weights, reading.word_weights(MAPS, SOURCE, TARGET))
    means = candidates(MAPS, SOURCE, TARGET, heads=False, shifts=["input"])
    assert list(means) == [Reading((name,), shift="input") for name in MAPS]
    alone = candidates({"decoder": attention(1)}, SOURCE, TARGET)
    assert list(alone) == [Reading(("decoder",), shift=shift) for shift in ("output", "input")]


def noisy(links: Links, targets: int, sources: int, noise: float) -> Tensor:
    """Word weights that say `links`, drowned in noise."""
    weights = torch.rand(targets, sources) * noise
    for source, target in links:
        weights[target, source] += 1
    return weights / weights.sum(-1, keepdim=True)


def corpus(count: int) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor], Links]]:
    for i in range(count):
        sources, targets = 4 + i % 3, 5 + i % 5
        links = frozenset((target * 3 % sources, target) for target in range(targets))
        backward = frozenset((source, min(t for s, t in links if s == source)) for source in {s for s, _ in links})
        forth = {name: noisy(links, targets, sources, noise) for name, noise in (("bad", 9), ("good", 1), ("so", 3))}
        back = {name: noisy(swap(backward), sources, targets, noise) for name, noise in (("x", 5), ("y", 0.5))}
        yield forth, back, links


def test_the_readings_that_agree_most_are_chosen() -> None:
    sentences = [(forth, back) for forth, back, _ in corpus(60)]
    best = choose(sentences)
    assert (best.forward, best.backward) == ("good", "y")
    assert best.agreement == max(best.table.values()) == best.table["good", "y"]
    assert len(best.table) == 6
    for (forward, backward), agreement in best.table.items():
        one = [hard(forth[forward]) for forth, _ in sentences]
        other = [swap(hard(back[backward])) for _, back in sentences]
        assert agreement == pytest.approx(1 - error_rate(one, other).aer)
    mutual = choose(sentences, how="both").table["so", "x"]
    one, other = ([hard(pair[i][name], "both") for pair in sentences] for i, name in ((0, "so"), (1, "x")))
    assert mutual == pytest.approx(1 - error_rate(one, list(map(swap, other))).aer)


def test_sentences_are_not_kept() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def watched() -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        for forth, back, _ in corpus(20):
            assert sum(tensor() is not None for tensor in alive) <= 2 * len(forth)
            alive.extend(map(weakref.ref, forth.values()))
            yield forth, back

    choose(watched())
    alive.clear()
    choose_alone(forth for forth, _ in watched())
    assert len(alive) == 60


def test_one_model_is_chosen_by_agreement_with_itself() -> None:
    sentences = [forth for forth, _, _ in corpus(60)]
    alone = choose_alone(sentences)
    assert alone.reading == "good"
    for name, agreement in alone.table.items():
        one, other = ([hard(weights[name], how) for weights in sentences] for how in ("target", "source"))
        assert agreement == pytest.approx(1 - error_rate(one, other).aer)


def test_anchors_tell_an_offset_from_the_truth() -> None:
    tokens = (0, 1, 2, 3, 4)
    sentences, anchors = [], []
    for i in range(30):
        rows = torch.eye(6)[[(3 * t + i) % 5 for t in range(5)] + [5]]  # row t + 1 speaks of word t; row 0 of the end
        rows = (0.8 * rows + 0.2 * torch.rand(6, 6)).roll(1, 0)
        sentences.append(candidates({"decoder": rows[None]}, tokens, tokens))
        anchors.append(frozenset({((3 * (i % 5) + i) % 5, i % 5)}))
    alone = choose_alone(sentences, anchors)
    assert alone.reading == Reading(("decoder",), shift="input")
    assert alone.agreement == pytest.approx(choose_alone(sentences).table[alone.reading])  # every anchor was hit
    assert alone.table[Reading(("decoder",))] < 0.2 * alone.agreement
    assert choose_alone(sentences).table[Reading(("decoder",))] > 0.5 * alone.agreement
    empty = choose_alone(sentences, [frozenset()] * 30)
    assert empty.table == choose_alone(sentences).table


def test_same_words_are_those_that_occur_once() -> None:
    source = ["In", "1989", ",", "Ann", "saw", "3", ",", "or", "4", "."]
    target = ["En", "1989", ",", "ANN", "en", "a", "vu", "3", "ou", "4", "."]
    assert same_words(source, target) == parse_links("1-1 3-3 5-7 8-9 9-10")


def test_sentences_that_do_not_fit_are_refused() -> None:
    forth, back, _ = next(corpus(1))
    with pytest.raises(ValueError, match=r"there is no sentence pair to choose by"):
        choose([])
    with pytest.raises(ValueError, match=r"must have the same candidates, at least one; 0 at first"):
        choose([({}, back)])
    with pytest.raises(ValueError, match=r"at least one; 3 at first, 2 of them and 1 others now"):
        choose_alone([forth, {"good": forth["good"], "so": forth["so"], "other": forth["bad"]}])
    with pytest.raises(ValueError, match=r"exchanged; got \(target, source\) words \(5, 4\) forward and \(5, 4\) back"):
        choose([(forth, forth)])
    with pytest.raises(ValueError, match=r"anchors must hold one set of links per sentence pair; there are fewer"):
        choose_alone([forth], [])
    with pytest.raises(ValueError, match=r"anchors must hold one set of links per sentence pair; there are more"):
        choose_alone([forth], [frozenset()] * 2)
