"""is tired, seems tired, is bigger than the dog, is a doctor, is in the garden."""

from __future__ import annotations

from functools import partial

from .arguments import LATE, Subject, decorate
from .determiners import Role
from .draft import Draft, held_out
from .lexicon import Adjective, Block, Noun
from .nounphrases import needed, noun_phrase
from .sentence import BIT, Token
from .verbs import Plan, Write

__all__ = ["adjective_for", "copula", "prepositional"]

HELD, ADVERB, COMPARISON = BIT["held-out"], BIT["adverb"], BIT["comparison"]
PREPOSITION = BIT["preposition"]
# English and French around an adjective that has no comparative of its own.
COMPARED = {"more": "plus", "less": "moins", "as": "aussi"}
MOVABLE = frozenset(["person", "pet", "small", "readable", "tool", "food", "clothes"])


def adjective_for(d: Draft, noun: Noun | None) -> Adjective | None:
    """An adjective that can be said of the noun, or of anybody, after "is"."""
    known = d.view.personal if noun is None or noun.proper else d.view.adjectives[noun]
    adjective = d.pick(known) if known else None
    return adjective if adjective is not None and adjective.predicative else None


def copula(d: Draft, subject: Subject, room: int, frame: str, context: int = 0, asks: bool = False) -> Plan | None:
    """Plan "is" with what follows, in at most `room` words, subject apart; None where nothing fits."""
    be, seem = d.view.verbs["copula"]
    kind = d.pick(("adjective",) * 6 + ("compare", "compare", "job", "place", "place"))
    plan = Plan(be, subject.agreement, context=context, asks=asks, passing=kind == "place")
    least = {"adjective": 1, "compare": 4, "job": 2, "place": 3}[kind]
    spare = room - 1 - least
    if spare < (frame in LATE):
        return None
    spare = decorate(d, plan, spare, frame, personal=False)
    if not d.allowed(plan.shows()):
        return None
    if kind == "job":
        plan.object = job(d, subject)
    elif kind == "place":
        movable = subject.noun is None or bool(subject.noun.classes & MOVABLE)
        plan.object = prepositional(d, "place", least + spare) if movable else None
    else:
        adjective = adjective_for(d, subject.noun)
        if adjective is None:
            return None
        if kind == "compare":
            plan.object = compared(d, plan, subject, adjective, least + spare)
        else:
            plan.object = described(d, subject, adjective, spare, bool(plan.negation or plan.often))
            plan.passing = adjective.passing
            seems = adjective.rank == 4 and d.chance(0.12) and not plan.negation and not asks
            plan.verb = seem if seems and plan.tense in ("present", "past", "will") else be
    return plan if plan.object is not None else None


def said_of(adjective: Adjective, subject: Subject, at: int, labels: int) -> list[Token]:
    noun = subject.noun
    if noun is not None and not noun.proper and held_out(adjective.name, noun.name):
        labels |= HELD
    return adjective.block.tokens(at, labels, adjective.forms[subject.agreement.form])


def described(d: Draft, subject: Subject, adjective: Adjective, spare: int, plain: bool) -> Write:
    """tired, very tired. `plain`: after "not" or "often" it is not "quite"."""
    degree = d.pick(d.view.fitting("degree", spare)) if spare > 0 and adjective.rank < 5 and d.chance(0.3) else None
    if degree is not None and plain and "negatable" not in degree.flags:
        degree = None

    def write() -> list[Token]:
        before = d.place(degree, ADVERB) if degree is not None else []
        return before + said_of(adjective, subject, d.say(adjective.name), 0)

    return write


def compared(d: Draft, plan: Plan, subject: Subject, adjective: Adjective, room: int) -> Write | None:
    """bigger than the dog, more beautiful than, less old than, as old as -> plus grand que le chien ..."""
    if not adjective.comparative or room < 4:
        return None
    one = adjective.comparative != "more"
    kind = d.pick(("more", "more", "less") if plan.often else ("more", "more", "less", "as"))  # not "also as big as"
    noun = other(d, subject, adjective)
    room -= 2 if kind == "more" and one else 3
    if noun is None or needed(noun) > room:
        return None
    role = Role(("the", "the", "own", "this"), relative=False, depth=1)

    def write() -> list[Token]:
        if kind == "more" and one:
            at = d.say(adjective.comparative)
            degree: Token = ("plus", (), (at,), COMPARISON)
        else:
            degree = (COMPARED[kind], (d.say(kind),), (), COMPARISON)
            at = d.say(adjective.name)
        tokens = [degree, *said_of(adjective, subject, at, COMPARISON)]
        than: Token = ("que", (d.say("as" if kind == "as" else "than"),), (), COMPARISON)
        return [*tokens, than, *noun_phrase(d, noun, False, room, role)]

    return write


def other(d: Draft, subject: Subject, adjective: Adjective) -> Noun | None:
    """Something to compare with: of the same kind, and not the subject itself."""
    if subject.noun is None or subject.noun.person:
        noun = d.pick(d.view.names) if d.chance(0.4) else d.pick(d.view.people)
    else:
        noun = d.pick(d.view.common)
        if not noun.classes & subject.noun.classes - {"thing", "owned", "mass"} or noun not in adjective.nouns:
            return None
    return None if noun is subject.noun else noun


def job(d: Draft, subject: Subject) -> Write | None:
    """is a doctor -> est médecin"""
    person = subject.word in ("he", "she", "i") or (subject.noun is not None and subject.noun.proper)
    if not person:
        return None
    block = d.pick(d.phrases["job"])
    word = block.english[0]

    def write() -> list[Token]:
        article = d.say("an" if word[0] in "aeiou" else "a")
        return [(block.french[0], (d.say(word),), (article,), 0)]

    return write


def prepositional(d: Draft, section: str, room: int) -> Write | None:
    """behind the house -> derrière la maison, in at most `room` words"""
    block, nouns = d.pick(d.view.places if section == "place" else d.view.company)
    noun = d.pick(d.view.names) if section == "company" and d.chance(0.4) else d.pick(nouns)
    room -= len(block.english)
    if needed(noun) > room:
        return None
    return partial(attached, d, block, noun, room)


def attached(d: Draft, block: Block, noun: Noun, room: int) -> list[Token]:
    tokens = d.place(block, PREPOSITION)
    role = Role(("the",) * 5 + ("own", "own", "a", "this"), after_de=block.french[-1] == "de", depth=1)
    return tokens + noun_phrase(d, noun, False, room, role)
