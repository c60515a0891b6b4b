"""Links, their formats, symmetrising and the alignment error rate, against definitions written out here."""

from __future__ import annotations

import random
import re
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.tasks.alignment import (
    METHODS,
    Gold,
    Links,
    by_phenomenon,
    diagonal,
    eflomal_links,
    error_rate,
    format_gold,
    format_links,
    format_soft,
    merged,
    parse_gold,
    parse_links,
    parse_soft,
    read_gold,
    read_links,
    read_naacl,
    read_soft,
    soft,
    swap,
    symmetrize,
)
from foveate.tasks.alignment.eflomal import installed
from foveate.tasks.rows import Malformed

LINKS = st.frozensets(st.tuples(st.integers(0, 6), st.integers(0, 4)))
SENTENCES = st.lists(st.tuples(LINKS, LINKS, LINKS), min_size=1, max_size=4)


@given(LINKS, LINKS)
@settings(deadline=None)
def test_what_is_printed_reads_back(sure: Links, possible: Links) -> None:
    gold = Gold(sure, possible)
    assert gold.possible == sure | possible
    assert parse_links(format_links(sure)) == sure
    for mark in "p?":
        assert parse_gold(format_gold(gold, mark=mark)) == gold
    weights = {link: round(1 / (2 + sum(link)), 3) for link in sure}
    assert parse_soft(format_soft(weights)) == weights


def test_formats_are_those_of_other_tools() -> None:
    assert format_links([(10, 2), (2, 1), (2, 0), (2, 1)]) == "2-0 2-1 10-2"
    assert format_links([]) == ""
    assert format_soft({(1, 0): 0.5, (0, 0): 0.8349}) == "0-0:0.835 1-0:0.500"
    assert parse_soft("0-0:1e-3 2-1:.5") == {(0, 0): 0.001, (2, 1): 0.5}
    gold = parse_gold("0-0 1s1 1p2 2?2 3P3 4S4")
    assert gold.sure == {(0, 0), (1, 1), (4, 4)}
    assert gold.possible == gold.sure | {(1, 2), (2, 2), (3, 3)}
    assert parse_gold("1-1 2p1", first=1) == parse_gold("0-0 1p0")
    assert parse_links("3-1", first=1) == {(2, 0)}
    assert Gold.of([(0, 1)]) == Gold(frozenset({(0, 1)}), frozenset())
    assert swap([(0, 1), (2, 0)]) == {(1, 0), (0, 2)}


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_links, "0-0 1_1", r"expected source-target, as in 0-0; got '1_1'"),
        (parse_links, "0--1", r"got '0--1'"),
        (parse_links, "1p2", r"expected source-target, as in 0-0; got '1p2'"),
        (parse_soft, "0-0", r"expected source-target:weight, as in 0-0:0\.83; got '0-0'"),
        (parse_soft, "0-0:-1", r"a weight is a number from 0 up; got '0-0:-1'"),
        (parse_soft, "0-0:1.2.3", r"a weight is a number from 0 up; got '0-0:1\.2\.3'"),
        (parse_soft, "0-0:.1 1-0:.2 0-0:.3", r"each link may be there once; got '0-0:\.3' again"),
        (parse_gold, "0x1", r"as in 0-0 or 1p2; got '0x1'"),
        (lambda text: parse_gold(text, first=1), "1-1 0p1", r"words are counted from 1; got '0p1'"),
    ],
)
def test_malformed_links_are_named(parse: object, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)  # type: ignore[operator]


def test_files_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0-0 1-1\n\n0-1\n")
    assert read_links(path) == [{(0, 0), (1, 1)}, frozenset(), {(0, 1)}]
    assert read_gold(path) == [Gold.of(links) for links in read_links(path)]
    assert read_links(path) == [swap(links) for links in map(swap, read_links(path))]
    path.write_text("0-0:1\n0-0:0.5 2-2\n")
    with pytest.raises(Malformed, match=r"^a\.txt:2: expected source-target:weight.*'2-2'"):
        read_soft(path)
    path.write_bytes(b"0-0\n1-\xff\n")
    with pytest.raises(Malformed, match=r"^a\.txt:2: expected UTF-8 text"):
        read_links(path)


def test_naacl_files(tmp_path: Path) -> None:
    path = tmp_path / "gold.naacl"
    path.write_text("0001 1 1 S\n0001 2 3 P 0.7\n\n0003 2 1\n0003 0 2 S\n0003 1 2 p\n")
    sure_3 = frozenset({(1, 0)})
    first = Gold(frozenset({(0, 0)}), frozenset({(1, 2)}))
    assert read_naacl(path) == [first, Gold.of([]), Gold(sure_3, frozenset({(0, 1)}))]
    assert len(read_naacl(path, count=5)) == 5
    for line in ("0 1 1 S", "1 1", "1 1 1 Q", "1 a 1 S", "1 1 1 S 0.5 x"):
        path.write_text("1 1 1 S\n" + line + "\n")
        with pytest.raises(Malformed, match=rf"^gold\.naacl:2: expected sentence source target .*; got '{line}'"):
            read_naacl(path)


def moses(e2f: Links, f2e: Links, method: str) -> set[tuple[int, int]]:
    """The pseudo-code of Moses' manual (training step 3) on (e, f) = (target, source) pairs; `symal` adds e2f first."""
    neighboring = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
    alignment = set(e2f & f2e)

    def aligned_e(e: int) -> bool:
        return any(point[0] == e for point in alignment)

    def aligned_f(f: int) -> bool:
        return any(point[1] == f for point in alignment)

    def final(a: Links) -> None:
        for e_new, f_new in product(range(9), range(9)):
            if method.endswith("and"):
                free = not aligned_e(e_new) and not aligned_f(f_new)
            else:
                free = not aligned_e(e_new) or not aligned_f(f_new)
            if free and (e_new, f_new) in a:
                alignment.add((e_new, f_new))

    before = -1
    while before != len(alignment):
        before = len(alignment)
        for e, f in product(range(9), range(9)):
            if (e, f) in alignment:
                for e_step, f_step in neighboring:
                    e_new, f_new = e + e_step, f + f_step
                    if (not aligned_e(e_new) or not aligned_f(f_new)) and (e_new, f_new) in e2f | f2e:
                        alignment.add((e_new, f_new))
    if "final" in method:
        final(e2f)
        final(f2e)
    return alignment


def directions(seed: int) -> tuple[Links, Links]:
    """Two alignments about the diagonal: one link at most per target word, and per source word."""
    draw = random.Random(seed)
    sources, targets = draw.randint(1, 8), draw.randint(1, 8)

    def near(i: int, own: int, other: int) -> int:
        return min(max(i * other // own + draw.choice((0, 0, 1, -1, 2, -3)), 0), other - 1)

    forward = {(near(t, targets, sources), t) for t in range(targets) if draw.random() < 0.8}
    backward = {(s, near(s, sources, targets)) for s in range(sources) if draw.random() < 0.8}
    return frozenset(forward), frozenset(backward)


@pytest.mark.parametrize("method", [method for method in METHODS if "grow" in method])
def test_growing_is_what_moses_defines(method: str) -> None:
    grown = 0
    for seed in range(300):
        forward, backward = directions(seed)
        found = symmetrize(forward, backward, method)
        assert swap(found) == moses(swap(forward), swap(backward), method)
        grown += len(found) - len(forward & backward)
    assert grown > 300


@given(LINKS, LINKS)
@settings(deadline=None)
def test_symmetrising_lies_between_intersection_and_union(forward: Links, backward: Links) -> None:
    assert symmetrize(forward, backward, "intersection") == forward & backward
    assert symmetrize(forward, backward, "union") == forward | backward
    grown = symmetrize(forward, backward, "grow-diag")
    assert forward & backward <= grown
    for method in ("grow-diag-final", "grow-diag-final-and"):
        final = symmetrize(forward, backward, method)
        assert grown <= final <= forward | backward
        assert swap(final) == moses(swap(forward), swap(backward), method)
        assert symmetrize(final, final, method) == final


def test_one_attention_is_merged_from_both_its_ends() -> None:
    weights = torch.rand(7, 5)
    by_target = frozenset((int(row.argmax()), j) for j, row in enumerate(weights))
    by_source = frozenset((i, int(column.argmax())) for i, column in enumerate(weights.T))
    for method in METHODS:
        assert merged(weights, method) == symmetrize(by_target, by_source, method)
    assert merged(weights) == symmetrize(by_target, by_source)
    high = merged(weights, "union", threshold=0.9)
    assert high == {link for link in by_target | by_source if weights[link[1], link[0]] >= 0.9}


def test_final_and_wants_two_new_words() -> None:
    forward, backward = parse_links("0-0 3-2 3-4"), parse_links("0-0 5-2")
    assert format_links(symmetrize(forward, backward, "grow-diag")) == "0-0"
    assert format_links(symmetrize(forward, backward, "grow-diag-final")) == "0-0 3-2 3-4 5-2"
    assert format_links(symmetrize(forward, backward)) == "0-0 3-2"
    with pytest.raises(ValueError, match=r"unknown method 'grow'; expected one of union, intersection, grow-diag, "):
        symmetrize(forward, backward, "grow")


@given(SENTENCES)
@settings(deadline=None)
def test_error_rates_are_och_and_neys(sentences: list[tuple[Links, Links, Links]]) -> None:
    found = [links for links, _, _ in sentences]
    gold = [Gold(sure, possible) for _, sure, possible in sentences]
    a = {(n, link) for n, links in enumerate(found) for link in links}
    s = {(n, link) for n, answer in enumerate(gold) for link in answer.sure}
    p = s | {(n, link) for n, (_, _, possible) in enumerate(sentences) for link in possible}
    rate = error_rate(found, gold)
    if a or s:
        assert rate.aer == pytest.approx(float(1 - Fraction(len(a & s) + len(a & p), len(a) + len(s))), abs=1e-12)
    if a:
        assert rate.precision == pytest.approx(len(a & p) / len(a))
    if s:
        assert rate.recall == pytest.approx(len(a & s) / len(s))
    assert rate == error_rate(found[:1], gold[:1]) + error_rate(found[1:], gold[1:])
    assert error_rate([answer.sure for answer in gold], gold).aer == 0
    assert error_rate([answer.possible for answer in gold], gold).aer == 0


def test_a_corpus_is_summed_and_not_averaged() -> None:
    found = [parse_links("0-0"), parse_links("0-1 1-1 2-1 3-1")]
    gold = [parse_links("0-0"), parse_links("0-0 1-1 2-2 3-3")]
    assert [error_rate([a], [b]).aer for a, b in zip(found, gold, strict=True)] == [0, 0.75]
    rate = error_rate(found, gold)
    assert rate.aer == pytest.approx(0.6)
    assert str(rate) == "AER 0.600   precision 0.400   recall 0.400   5 links"


@given(LINKS, LINKS)
@settings(deadline=None)
def test_against_another_aligner_it_is_one_minus_f1(one: Links, other: Links) -> None:
    rate = error_rate([one], [other])
    assert rate.aer == pytest.approx(error_rate([other], [one]).aer)
    if one and other and one & other:
        f1 = 2 * rate.precision * rate.recall / (rate.precision + rate.recall)
        assert rate.aer == pytest.approx(1 - f1)


def test_nothing_to_find_and_nothing_found() -> None:
    nothing = error_rate([frozenset()], [frozenset()])
    assert (nothing.aer, nothing.precision, nothing.recall) == (0, 1, 1)
    missed = error_rate([frozenset()], [parse_links("0-0")])
    assert (missed.aer, missed.precision, missed.recall) == (1, 1, 0)
    with pytest.raises(ValueError, match=r"gold must have one entry per sentence pair, 1; got 0"):
        error_rate([frozenset()], [])
    with pytest.raises(ValueError, match=r"phenomena must have one entry per sentence pair, 1; got 2"):
        by_phenomenon([frozenset()], [frozenset()], [{}, {}])


def test_phenomena_are_charged_for_their_own_words() -> None:
    gold = parse_gold("0-0 1-1 1p2 2-3 3-4")
    phenomena = {"negation": parse_links("1-1 1-2"), "noun": parse_links("2-3 3-4")}
    clean = by_phenomenon([parse_links("0-0 1-1 2-3 3-4")], [gold], [phenomena])
    assert {name: rate.aer for name, rate in clean.items()} == {"negation": 0, "noun": 0}
    assert (clean["negation"].links, clean["negation"].sure, clean["noun"].links) == (1, 1, 2)
    wrong = by_phenomenon([parse_links("0-0 1-1 1-4 2-3")], [gold], [phenomena])
    assert wrong["negation"].aer == 0  # 1-4 is what noun 4 was linked to
    assert wrong["noun"].aer == pytest.approx(1 - 2 / 4)
    elsewhere = by_phenomenon([parse_links("0-5 1-1 2-3 3-4")], [gold], [phenomena])
    assert elsewhere == clean
    shared = {"article": parse_links("0-0"), "noun": parse_links("1-0")}
    rates = by_phenomenon([parse_links("0-0 1-0")], [parse_gold("0-0 1-0")], [shared])
    assert {name: (rate.links, rate.aer) for name, rate in rates.items()} == {"article": (1, 0), "noun": (1, 0)}


@given(SENTENCES)
@settings(deadline=None)
def test_all_gold_links_as_one_phenomenon_are_the_whole(sentences: list[tuple[Links, Links, Links]]) -> None:
    gold = [Gold(sure, possible) for _, sure, possible in sentences]
    found = [
        frozenset(a for a in links if any(a[1] == p[1] for p in answer.possible))
        for (links, _, _), answer in zip(sentences, gold, strict=True)
    ]
    named = [{"all": answer.possible, "again": answer.possible} for answer in gold]
    rates = by_phenomenon(found, gold, named)
    assert rates["all"] == rates["again"] == error_rate(found, gold)


@pytest.mark.parametrize(("sources", "targets"), list(product((1, 2, 3, 7, 10), (1, 2, 5, 7, 11))))
def test_the_diagonal_is_the_same_relative_place(sources: int, targets: int) -> None:
    links = diagonal(sources, targets)
    assert sorted(target for _, target in links) == list(range(targets))
    for source, target in links:
        middle = Fraction(2 * target + 1, 2 * targets)
        assert Fraction(source, sources) <= middle < Fraction(source + 1, sources)
    if sources == targets:
        assert all(source == target for source, target in links)


def test_the_diagonal_of_an_empty_side_is_empty() -> None:
    assert diagonal(0, 3) == diagonal(3, 0) == frozenset()


def test_eflomal_finds_a_dictionary() -> None:
    if not installed():
        pytest.skip("needs eflomal: pip install eflomal")
    draw = random.Random(0)
    pairs, truth = [], []
    for _ in range(400):
        words = draw.sample(range(30), draw.randint(3, 6))
        target, links = [], set()
        for source, word in reversed(list(enumerate(words))):
            for part in ("a", "b") if word % 5 == 0 else ("a",):
                links.add((source, len(target)))
                target.append(f"{part} {word}" if draw.random() < 0.5 else f"{part.upper()} {word}")
        pairs.append(([f"s {word}" for word in words], target))
        truth.append(frozenset(links))
    pairs[7], truth[7] = ([], ["a 1"]), frozenset()
    forward, backward = eflomal_links(pairs)
    assert all(len({target for _, target in links}) == len(links) for links in forward)
    assert all(len({source for source, _ in links}) == len(links) for links in backward)
    assert error_rate(forward, truth).aer < 0.15
    assert error_rate(backward, truth).precision > 0.8
    assert error_rate(backward, truth).recall < error_rate(forward, truth).recall
    assert forward[7] == backward[7] == frozenset()
    assert eflomal_links([]) == ([], [])


def test_eflomal_sees_words_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Aligner:
        lines: ClassVar[list[list[str]]] = []

        def align(self, *sides: list[str], **paths: str) -> None:
            self.lines.extend(sides)
            for path in paths.values():
                Path(path).write_text("0-0\n" * (len(sides[0]) - (len(self.lines) > 2)))

    monkeypatch.setitem(sys.modules, "eflomal", SimpleNamespace(Aligner=Aligner))
    pairs = [(["A b", "c"], ["d"]), (["a B"], ["c", "\u00a0", "d"])]
    assert eflomal_links(pairs) == ([{(0, 0)}, {(0, 0)}],) * 2
    (one, two), (three, four) = ([line.split() for line in side] for side in Aligner.lines)
    assert [len(line) for line in (one, two, three, four)] == [2, 1, 1, 3]
    assert one[0] == two[0]
    assert one[1] == four[0]
    assert three[0] == four[2]
    assert len({*one, *four}) == 4
    with pytest.raises(RuntimeError, match=r"eflomal aligned 1 and 1 of 2 sentence pairs"):
        eflomal_links(pairs)


def test_eflomal_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eflomal", None)
    assert not installed()
    with pytest.raises(ModuleNotFoundError, match=r"eflomal is needed to compare with it: pip install eflomal"):
        eflomal_links([(["a"], ["b"])])


def test_the_page_runs() -> None:
    page = Path(__file__).parent.parent / "docs" / "align.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/align.md", "exec"), scope)
    promised = re.findall(r"^alignment\.format_soft\(.*?\)  # (.*)$", blocks[0], re.MULTILINE)
    assert promised == [format_soft(soft(scope["words"], least=0.5))]  # type: ignore[arg-type]
