"""Noun phrases: a determiner, adjectives on either side, a possessor, a relative clause.

The English words are said in English order; the French tokens come back in French order. `room` is how many English
words a phrase may have, at least `needed(noun)`.
"""

from __future__ import annotations

from . import determiners
from .determiners import Role
from .draft import Agreement, Draft, held_out
from .lexicon import Adjective, Noun
from .sentence import BIT, Token, begins_with_vowel, labelled

__all__ = ["agreement", "may_be_plural", "needed", "noun_phrase"]

PORTRAITS = frozenset(["painting", "picture", "photo", "drawing", "portrait", "statue"])
BEFORE, AFTER, HELD = BIT["adjective-before"], BIT["adjective-after"], BIT["held-out"]
OF, GENITIVE = BIT["of-chain"], BIT["possessive"]
PLAIN = Role()


def needed(noun: Noun) -> int:
    """The fewest English words that a phrase with this noun takes."""
    return 1 if noun.proper else 1 + len(noun.block.english)


def agreement(noun: Noun, plural: bool = False) -> Agreement:
    return Agreement(4 if plural else 1, noun.feminine, plural)


def may_be_plural(noun: Noun) -> bool:
    return not noun.proper and not noun.classes & {"mass", "unique", "single"}


def noun_phrase(d: Draft, noun: Noun, plural: bool, room: int, role: Role = PLAIN) -> list[Token]:
    """Write `noun` with whatever else there is room for."""
    if noun.proper:
        return noun.block.tokens(d.say(noun.name))
    d.things += not noun.person or plural
    room -= needed(noun)
    if (
        not role.only
        and not role.negated
        and room > 0
        and role.depth < 2
        and role.introduced is not determiners.INDEFINITE
        and "owned" in noun.classes
        and d.chance(0.3 if d.rich else 0.12)
    ):
        return possessed(d, noun, plural, room, role)
    kind = determiners.choose(d, noun, plural, room, role)
    room -= kind.count(" ")
    adjectives = choose_adjectives(d, noun, room)
    said = tuple(d.say_all(determiners.in_english(d, kind, noun, plural, adjectives)))
    before, head, after = described(d, noun, plural, adjectives)
    determiner = determiners.in_french(d, kind, said, head[0][1][0], agreement(noun, plural), bool(before))
    tokens = determiner + before + head + after
    if role.negated or role.depth > 1 or kind == "no" or kind.count(" ") > 1:
        return tokens
    room -= len(adjectives)
    if kind == "the" and room >= 3 and d.chance(0.7 if d.rich else 0.35):
        of = of_phrase(d, noun, room, role)
        if of:
            return labelled(tokens, OF) + of
    return tokens + relative_clause(d, noun, plural, room, role)


def described(
    d: Draft, noun: Noun, plural: bool, adjectives: list[Adjective]
) -> tuple[list[Token], list[Token], list[Token]]:
    """Write adjectives and noun. In French, adjectives before it keep their order, those after it are mirrored."""
    before: list[Token] = []
    after: list[Token] = []
    form = agreement(noun, plural).form
    pairs = 0
    liaisons: list[tuple[int, str]] = []
    for adjective in adjectives:
        held = HELD if held_out(adjective.name, noun.name) else 0
        pairs |= held
        labels = held | (BEFORE if adjective.before else AFTER)
        tokens = adjective.block.tokens(d.say(adjective.name), labels, adjective.forms[form])
        if adjective.liaison and form == 0:
            liaisons.append((len(before), adjective.liaison))
        if adjective.before:
            before += tokens
        else:
            after[:0] = tokens
    base = len(d.english)
    d.english += noun.english_plural if plural else noun.block.english
    head = noun.block.tokens(base, pairs, noun.many if plural else None)
    for place, liaison in liaisons:
        following = (before[place + 1 :] or head)[0][0]
        if begins_with_vowel(following, d.view.lexicon.aspirated):
            before[place] = (liaison, *before[place][1:3], before[place][3] | BIT["elision"])
    return before, head, after


def choose_adjectives(d: Draft, noun: Noun, room: int) -> list[Adjective]:
    """None, one or two, in English order."""
    known = d.view.adjectives[noun]
    if room < 1 or not known or not d.chance(0.36):
        return []
    one = d.pick(known)
    if room < 2 or not d.chance(0.3):
        return [one]
    two = d.pick(known)
    return [one] if one.rank == two.rank else sorted((one, two), key=lambda a: a.rank)


def possessed(d: Draft, noun: Noun, plural: bool, room: int, role: Role) -> list[Token]:
    """The neighbour 's old cat -> le vieux chat du voisin."""
    person = d.pick(d.view.names if room < 2 or d.chance(0.35) else d.view.people)
    if person is noun or needed(person) > room:
        person = d.pick(d.view.names)
    owners = may_be_plural(person) and d.chance(0.15)
    given = needed(person)
    given += 2 if room >= given + 2 and role.depth == 0 and d.chance(0.35) else 0
    inner = Role(determiners.DEFINITE, after_de=True, relative=False, depth=role.depth + 1)
    start = len(d.english)
    owner = noun_phrase(d, person, owners, given, inner)
    mark = d.say("'" if owners and d.english[-1].endswith("s") else "'s")
    room -= mark - start
    adjectives = choose_adjectives(d, noun, room)
    before, head, after = described(d, noun, plural, adjectives)
    first = determiners.the(agreement(noun, plural), (head[0][1][0], mark))
    tokens = labelled([first, *before, *head, *after, ("de", (), (mark,), 0), *owner], GENITIVE)
    return tokens + relative_clause(d, noun, plural, room - len(adjectives), role)


def of_phrase(d: Draft, noun: Noun, room: int, role: Role) -> list[Token]:
    """Say "of the house", "of the queen"; nothing where it would make no sense."""
    if "part" in noun.classes:
        wholes = d.view.wholes
    elif noun.classes & PORTRAITS or "owned" in noun.classes:
        wholes = d.view.people
    else:
        return []
    whole = d.pick(wholes)
    if whole is noun or needed(whole) > room - 1:
        return []
    of = d.say("of")
    inner = Role(determiners.DEFINITE, after_de=True, relative=role.relative, depth=role.depth + 1)
    tokens = noun_phrase(d, whole, d.chance(0.2), room - 1, inner)
    return [("de", (), (of,), OF), *tokens]


def relative_clause(d: Draft, noun: Noun, plural: bool, room: int, role: Role) -> list[Token]:
    if room < 2 or not role.relative or not d.chance(0.8 if d.rich else 0.3):
        return []
    return d.relative(d, noun, plural, min(room, 12))
