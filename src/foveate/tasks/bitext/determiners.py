"""Determiners: which of them a noun may have, and their words on both sides.

A determiner is named by its kind: the, a, some, any, own (my, her), this, number, several, many, few, "a few", each,
another, "all the", no, which, or the English words of a measure ("a glass of"). A French form that agrees with the noun
has the noun as a possible link: without looking at it nobody knows whether "the" is le or la.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .draft import Agreement, Draft
from .lexicon import Adjective, Noun
from .sentence import BIT, Token

__all__ = ["DEFINITE", "INDEFINITE", "Role", "choose", "in_english", "in_french", "the"]

POSSESSIVES = {
    "my": ("mon", "ma", "mes"), "your": ("votre", "votre", "vos"), "his": ("son", "sa", "ses"),
    "her": ("son", "sa", "ses"), "our": ("notre", "notre", "nos"), "their": ("leur", "leur", "leurs"),
}  # fmt: skip
OWNERS = tuple(POSSESSIVES)
DEMONSTRATIVES = ("ce", "cette", "ces")
THE = ("le", "la", "les")
FEW = {"many": "beaucoup", "few": "peu"}
INVARIABLE = {"several": "plusieurs", "each": "chaque"}
# How a noun may be introduced; a kind comes as often as it is named.
SINGULAR = ("the",) * 9 + ("a",) * 5 + ("own",) * 3 + ("this",) * 2 + ("each", "another")
PLURAL = ("the",) * 8 + ("some", "own", "number") * 3 + ("this",) * 2 + ("several", "many", "few", "a few", "all the")
MASS = ("the",) * 4 + ("some",) * 4 + ("own", "this")
DEFINITE = ("the",) * 6 + ("own",) * 2 + ("this",)  # of a possessor
INDEFINITE = ("a", "a", "number", "number", "some", "several", "another")  # after "there is"
NEGATED = ("the",) * 5 + ("own",) * 3 + ("this",) * 2 + ("any",) * 6
AFTER_DE = frozenset(("some", "many", "few"))  # what French has no plain phrase for after de
ONE, MANY = frozenset(("a", "each", "another")), frozenset(("number", "several", "many", "few", "a few", "all the"))
PUBLIC = frozenset(("animal", "sky", "land", "stream", "vehicle", "venue", "place"))  # not "my", unless owned
VAGUE = frozenset(("each", "another", "several", "many", "few", "a few", "all the"))  # odd in a negated clause
AN_BEFORE, A_BEFORE = frozenset(("honest", "heiress")), frozenset(("uniform", "useful", "useless"))
INSERTED = BIT["inserted-article"]


class Role(NamedTuple):
    """Where a noun phrase stands."""

    introduced: Sequence[str] = ()  # kinds of determiner for a noun that can be counted
    only: str = ""  # this kind and no other
    after_de: bool = False
    negated: bool = False  # the direct object of a negated verb: a and some become de
    measured: bool = False  # may be "a glass of" something
    relative: bool = True  # may have a relative clause
    depth: int = 0


def choose(d: Draft, noun: Noun, plural: bool, room: int, role: Role) -> str:
    """A kind that fits; `room` is how many words beyond one it may have."""
    if role.only or "unique" in noun.classes:
        return role.only or "the"
    if "single" in noun.classes:
        return d.pick(("the", "own", "own"))
    kinds: Sequence[str] = role.introduced or (PLURAL if plural else SINGULAR)
    mass = "mass" in noun.classes
    if role.negated:
        kinds = NEGATED
    elif mass:
        kinds = MASS
        measures = d.view.measures[noun]
        if measures and room >= 2 and role.measured and d.chance(0.25):
            return " ".join(d.pick(measures).english)
    while True:
        kind = d.pick(kinds)
        unfit = kind in (ONE if plural else MANY) or (kind == "some" and not plural and not mass)
        unfit |= (role.after_de and kind in AFTER_DE) or (d.negated and kind in VAGUE)
        unfit |= kind == "own" and bool(noun.classes & PUBLIC) and "owned" not in noun.classes
        if not unfit and kind.count(" ") <= room:
            return kind


def in_english(d: Draft, kind: str, noun: Noun, plural: bool, adjectives: Sequence[Adjective]) -> tuple[str, ...]:
    """The English words of a determiner."""
    if kind == "own":
        return (d.pick(OWNERS),)
    if kind == "this":
        return (d.pick(("these", "those") if plural else ("this", "that")),)
    if kind == "number":
        return (d.pick(d.view.number_words),)
    if kind == "a" or (kind == "any" and not plural and "mass" not in noun.classes):
        word = adjectives[0].name if adjectives else noun.block.english[0]
        return ("an" if word in AN_BEFORE or (word[0] in "aeiou" and word not in A_BEFORE) else "a",)
    return tuple(kind.split())


def the(form: Agreement, possible: tuple[int, ...], sure: tuple[int, ...] = (), labels: int = 0) -> Token:
    return (THE[2 if form.plural else form.feminine], sure, possible, labels)


def in_french(d: Draft, kind: str, at: tuple[int, ...], anchor: int, form: Agreement, adjective: bool) -> list[Token]:
    """French tokens for the English words at `at`. `anchor`: the noun; `adjective`: one comes next (some -> de)."""
    gender = 2 if form.plural else int(form.feminine)
    if kind == "the":
        return [the(form, (anchor,), at)]
    if kind == "own":
        return [(POSSESSIVES[d.english[at[0]]][gender], at, (anchor,), BIT["possessive-determiner"])]
    if kind == "this":
        return [(DEMONSTRATIVES[gender], at, (anchor,), BIT["demonstrative"])]
    if kind == "number":
        return [(d.view.numbers[d.english[at[0]]], at, (), BIT["number"])]
    if kind == "a":
        return [("une" if form.feminine else "un", at, (anchor,), 0)]
    if kind == "any":
        return [("de", (), (*at, anchor), INSERTED)]
    if kind == "some" and form.plural:
        return [("de" if adjective else "des", at, (anchor,), INSERTED)]
    if kind == "some":
        return [("de", at, (), INSERTED), (THE[gender], (), (*at, anchor), INSERTED)]
    return quantify(d, kind, at, anchor, form)


def quantify(d: Draft, kind: str, at: tuple[int, ...], anchor: int, form: Agreement) -> list[Token]:
    one, e = at[:1], "e" if form.feminine else ""
    if kind in FEW:
        return [(FEW[kind], one, (), 0), ("de", (), (*one, anchor), INSERTED)]
    if kind in INVARIABLE:
        return [(INVARIABLE[kind], one, (), 0)]
    if kind == "all the":
        return [("toutes" if form.feminine else "tous", one, (anchor,), 0), the(form, (anchor,), at[1:])]
    if kind == "another":
        return [("un" + e, (), (*one, anchor), 0), ("autre", one, (), 0)]
    if kind == "no":
        return [("aucun" + e, one, (anchor,), BIT["negation-other"])]
    if kind == "which":
        return [("quel" + ("l" if e else "") + e + ("s" if form.plural else ""), one, (anchor,), BIT["question"])]
    if kind == "a few":
        return [("quelques", at[1:], one, 0)]
    measure = next(b for b in d.phrases["measure"] if " ".join(b.english) == kind)
    return measure.tokens(at[0], BIT["of-chain"])
