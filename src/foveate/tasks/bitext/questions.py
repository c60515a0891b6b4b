"""Questions: est-ce que after whatever is asked for, and then the words of a statement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .arguments import LATE, Subject, decorate, give_recipient, subject_for, write
from .clauses import finish, remember, tail, verbal
from .copulas import copula
from .determiners import Role
from .draft import Agreement, Draft, held_out
from .nounphrases import agreement, may_be_plural, needed, noun_phrase
from .sentence import BIT, Token
from .verbs import Plan, Write

__all__ = ["question"]

KINDS = ("yes",) * 6 + ("adverb",) * 3 + ("thing", "thing", "person", "who", "who", "which", "many")
VERBS = ("intransitive",) * 3 + ("transitive",) * 6 + ("ditransitive",) * 3
QUESTION, HELD = BIT["question"], BIT["held-out"]


def question(d: Draft, room: int) -> list[Token]:
    """A question in at most `room` words, at least three; without its question mark."""
    while True:
        start = len(d.english)
        asked = ASKED[d.pick(KINDS)](d, room)
        if asked is not None:
            tokens, plan = asked
            return tokens + tail(d, plan, room - len(d.english) + start)


def asked(d: Draft, plan: Plan, subject: Subject, about: Write | None = None) -> tuple[list[Token], Plan]:
    """Write it: what is asked for, est-ce que, and the clause."""
    first = about() if about is not None else []
    said, rest, predicate = write(d, plan, subject)
    remember(d, plan, subject)
    auxiliary = (predicate.inverted,)
    return [*first, ("est-ce", (), auxiliary, QUESTION), ("que", (), auxiliary, QUESTION), *said, *rest], plan


def whether(d: Draft, room: int, about: Write | None = None) -> tuple[list[Token], Plan] | None:
    """Does he see the cat ?  Is she tired ?"""
    if about is None and d.chance(0.2):
        subject = subject_for(d, d.view.verbs["copula"][0], 1 + int(d.random() * max(0, room - 3)))
        if subject is None or (subject.noun is None and not subject.word):
            return None
        plan = copula(d, subject, room - subject.room, d.frame, QUESTION, asks=True)
        return asked(d, plan, subject, about) if plan is not None else None
    planned = verbal(d, d.pick(VERBS), room, QUESTION, d.frame, asks=True)
    return asked(d, *planned, about) if planned is not None else None


def adverb(d: Draft, room: int) -> tuple[list[Token], Plan] | None:
    """Where does he sleep ?"""
    if room < 4:
        return None
    block = d.pick(d.phrases["question"])
    found = whether(d, room - 1, partial(d.place, block, QUESTION))
    d.time = "" if block.english[0] == "when" else d.time
    return found


def who(d: Draft, room: int) -> tuple[list[Token], Plan] | None:
    """Who sees the cat ? -> qui voit le chat ?"""
    subject = Subject(Agreement(1), lambda: [("qui", (d.say("who"),), (), QUESTION)], word="who")
    planned = verbal(d, d.pick(VERBS), room, QUESTION, d.frame, subject=subject)
    return (finish(d, *planned), planned[0]) if planned is not None else None


def object_asked(d: Draft, room: int, about: int, person: bool) -> tuple[Plan, Subject] | None:
    """A plan whose direct object, said in `about` words, is asked for."""
    verb = d.pick(d.view.verbs["transitive" if person or d.chance(0.7) else "ditransitive"])
    spare = room - about - 2 - verb.words
    if verb.french_preposition or spare < (d.frame in LATE):
        return None
    if not (verb.takes_person if person else verb in d.view.takes_thing):
        return None
    subject = subject_for(d, verb, 1 + (spare - (d.frame in LATE)) // 2, relative=False)
    if subject is None:
        return None
    plan = Plan(verb, subject.agreement, context=QUESTION, asks=True)
    spare = decorate(d, plan, spare - subject.room + 1, d.frame, personal=verb.personal)
    if "to" in verb.flags and spare >= 2 and d.chance(0.6):
        give_recipient(d, plan, spare)
        plan.shift = False
    return (plan, subject) if d.allowed(plan.shows()) else None


def what(d: Draft, room: int, person: bool = False) -> tuple[list[Token], Plan] | None:
    """What does he see ? -> qu'est-ce qu'il voit ?  Who does he see ? -> qui est-ce qu'il voit ?"""
    planned = object_asked(d, room, 1, person)
    if planned is None:
        return None
    words = ("who", "qui") if person else ("what", "que")
    return asked(d, *planned, lambda: [(words[1], (d.say(words[0]),), (), QUESTION)])


def which(d: Draft, room: int, many: bool = False) -> tuple[list[Token], Plan] | None:
    """Which house did he sell ? -> quelle maison est-ce qu'il a vendue ?  How many houses did he sell ?"""
    planned = object_asked(d, room, 3, False)
    if planned is None:
        return None
    plan, subject = planned
    noun = d.pick(d.view.objects[plan.verb])
    if not may_be_plural(noun) or needed(noun) > 3 - many:
        return None
    plural = many or d.chance(0.3)
    plan.preceding = agreement(noun, plural)
    plan.direct = (noun, plan.preceding)
    plan.labels |= HELD if held_out(plan.verb.name, noun.name) else 0
    if not many:
        return asked(d, plan, subject, partial(noun_phrase, d, noun, plural, needed(noun), Role(only="which")))

    def how_many() -> list[Token]:
        how = tuple(d.say_all(("how", "many")))
        tokens = noun.block.tokens(len(d.english), 0, noun.many)
        d.english += noun.english_plural
        d.things += 1
        return [("combien", how, (), QUESTION), ("de", (), (how[1], tokens[0][1][0]), QUESTION), *tokens]

    return asked(d, plan, subject, how_many)


ASKED: dict[str, Callable[[Draft, int], tuple[list[Token], Plan] | None]] = {
    "yes": whether,
    "adverb": adverb,
    "who": who,
    "thing": what,
    "person": partial(what, person=True),
    "which": which,
    "many": partial(which, many=True),
}
