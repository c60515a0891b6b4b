"""Relative clauses, about the noun right before them: who sleeps, that he sold, whose cat is old, where she works."""

from __future__ import annotations

from functools import partial

from . import determiners
from .arguments import LATE, Subject, decorate, give_objects, person_pronoun, subject_for, write
from .copulas import copula
from .draft import Draft, held_out
from .lexicon import Noun
from .nounphrases import agreement, may_be_plural, needed, noun_phrase
from .sentence import BIT, Token
from .verbs import Plan, Write

__all__ = ["relative_clause"]

RELATIVE, HELD = BIT["relative"], BIT["held-out"]
PLACES = frozenset(("building", "room", "place"))
KINDS = ("subject",) * 5 + ("object",) * 4 + ("copula", "whose", "where")


def relative_clause(d: Draft, noun: Noun, plural: bool, room: int) -> list[Token]:
    """French tokens of a relative clause about `noun`, or none where none of those drawn fits."""
    for _ in range(4):
        tokens = WRITERS[d.pick(KINDS)](d, noun, plural, room)
        if tokens:
            return tokens
    return []


def pronoun(d: Draft, noun: Noun) -> Write:
    """who or that -> qui"""

    def said() -> list[Token]:
        return [("qui", (d.say("who" if noun.person else "that"),), (), RELATIVE)]

    return said


def of_subject(d: Draft, noun: Noun, plural: bool, room: int) -> list[Token]:
    verb = d.pick(d.view.acting[noun]) if d.view.acting[noun] else None
    least = 0 if verb is None or verb.kind == "intransitive" else 1 if verb.takes_person else 2
    if verb is None or 1 + verb.words + least + (d.frame in LATE) > room:
        return []
    form = agreement(noun, plural)
    plan = Plan(verb, form, context=RELATIVE)
    spare = decorate(d, plan, room - 1 - verb.words - least, d.frame, personal=noun.person)
    if verb.kind == "transitive" and not give_objects(d, plan, spare + least, reference=False):
        return []
    if not d.allowed(plan.shows()):
        return []
    said, rest, _ = write(d, plan, Subject(form, pronoun(d, noun)))
    return said + rest


def of_object(d: Draft, noun: Noun, plural: bool, room: int) -> list[Token]:
    """that he sold -> qu' il a vendue; that he talks about -> dont il parle"""
    verbs = d.view.undergoing[noun]
    verb = d.pick(verbs) if verbs else None
    spare = -1 if verb is None else room - 2 - verb.words
    if verb is None or verb.french_preposition not in ("", "de") or spare < (d.frame in LATE):
        return []
    subject = subject_for(d, verb, 1 + spare // 2, anaphora=False, relative=False)
    if subject is None or subject.noun is noun:
        return []
    bare = bool(subject.word) and d.chance(0.2)
    plan = Plan(verb, subject.agreement, context=RELATIVE)
    plan.preceding = agreement(noun, plural) if not verb.french_preposition else None
    plan.labels = HELD if held_out(verb.name, noun.name) else 0
    decorate(d, plan, spare - spare // 2, d.frame, personal=verb.personal)
    if not d.allowed(plan.shows()):
        return []
    sure = () if bare else (d.say("that"),)
    said, rest, predicate = write(d, plan, subject)
    possible: tuple[int, ...] = (predicate.words[0],) if bare else ()
    if predicate.preposition >= 0 and verb.french_preposition:
        possible += (predicate.preposition,)
    return [("dont" if verb.french_preposition else "que", sure, possible, RELATIVE), *said, *rest]


def of_copula(d: Draft, noun: Noun, plural: bool, room: int) -> list[Token]:
    if room < 3:
        return []
    subject = Subject(agreement(noun, plural), pronoun(d, noun), noun=noun)
    plan = copula(d, subject, room - 1, d.frame, RELATIVE)
    if plan is None:
        return []
    said, rest, _ = write(d, plan, subject)
    return said + rest


def whose(d: Draft, noun: Noun, plural: bool, room: int) -> list[Token]:
    """whose cat is old -> dont le chat est vieux"""
    owned = d.pick(d.view.owned)
    if not noun.person or owned is noun or needed(owned) + 2 > room:
        return []
    many = may_be_plural(owned) and d.chance(0.3)
    form = agreement(owned, many)

    def said() -> list[Token]:
        at = d.say("whose")
        tokens = owned.block.tokens(len(d.english), 0, owned.many if many else None)
        d.english += owned.english_plural if many else owned.block.english
        d.things += 1
        return [("dont", (at,), (), RELATIVE), determiners.the(form, (at, tokens[0][1][0]), (), RELATIVE), *tokens]

    plan = copula(d, Subject(form, said, noun=owned), room - needed(owned), d.frame, RELATIVE)
    if plan is None:
        return []
    subject, rest, _ = write(d, plan, Subject(form, said, noun=owned))
    return subject + rest


def where(d: Draft, noun: Noun, plural: bool, room: int) -> list[Token]:
    """where she works -> où elle travaille"""
    verb = d.pick(d.view.verbs["intransitive"])
    if not noun.classes & PLACES or not verb.personal or "place" not in verb.flags:
        return []
    if 2 + verb.words + (d.frame in LATE) > room:
        return []
    subject = person_pronoun(d, False)
    if d.chance(0.3):
        name = d.pick(d.view.names)
        subject = Subject(agreement(name), partial(noun_phrase, d, name, False, 1), noun=name)
    plan = Plan(verb, subject.agreement, context=RELATIVE)
    decorate(d, plan, room - 2 - verb.words, d.frame, personal=True)
    if not d.allowed(plan.shows()):
        return []
    at = d.say("where")
    said, rest, _ = write(d, plan, subject)
    return [("où", (at,), (), RELATIVE), *said, *rest]


WRITERS = {"subject": of_subject, "object": of_object, "copula": of_copula, "whose": whose, "where": where}
