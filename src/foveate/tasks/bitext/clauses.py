"""Whole clauses: around a verb, around "is", "there is", the weather; each in at most `room` English words."""

from __future__ import annotations

from collections.abc import Callable

from .arguments import LATE, Subject, decorate, give_objects, negative_subject, person_pronoun, subject_for, write
from .copulas import attached, copula, prepositional
from .determiners import INDEFINITE, Role
from .draft import Draft
from .nounphrases import may_be_plural, needed, noun_phrase
from .sentence import BIT, Token
from .verbs import Plan, Write

__all__ = ["clause", "finish", "remember", "tail", "verbal"]

# What a clause may be, each as often as it is named.
VERBAL = ("intransitive",) * 10 + ("transitive",) * 22 + ("ditransitive",) * 8 + ("clause",) * 6
KINDS = (*VERBAL, *("copula",) * 9, "there", "there", "weather")
LEAST = {"intransitive": 0, "transitive": 1, "ditransitive": 3, "clause": 4}
COMPLEMENT, IMPERSONAL, ADVERB = BIT["complement"], BIT["impersonal"], BIT["adverb"]
SAID = {"reported": "past", "plain": "present"}  # the section of phrases for a frame
TIMES = {"past": "past", "was": "past", "will": "future", "going": "future", "perfect": ""}


def clause(d: Draft, room: int, context: int = 0, frame: str = "") -> list[Token]:
    """A clause in at most `room` words, at least two; it becomes what later pronouns look back to."""
    for _ in range(20):
        tokens = CLAUSES[d.pick(KINDS)](d, room, context, frame or d.frame)
        if tokens:
            d.first = False
            return tokens
    subject = person_pronoun(d, True)
    plan = Plan(d.view.verbs["intransitive"][0], subject.agreement, context=context)
    decorate(d, plan, room - 2, frame or d.frame, personal=False)
    return finish(d, plan, subject)


def finish(d: Draft, plan: Plan, subject: Subject) -> list[Token]:
    """Write a planned clause."""
    said, rest, _ = write(d, plan, subject)
    remember(d, plan, subject)
    return said + rest


def remember(d: Draft, plan: Plan, subject: Subject) -> None:
    """Keep what pronouns of the next clause can stand for. After "he says that ..." it is what was said."""
    d.first = False
    if plan.verb.kind == "clause":
        return
    person = subject.word not in ("", "it") or subject.noun is None or subject.noun.person
    d.subject = subject.agreement if person else None
    d.object = plan.direct
    if plan.verb.kind in ("intransitive", "copula"):
        thing = subject.noun is not None and not subject.noun.person and not subject.negative
        d.object = (subject.noun, subject.agreement) if thing and subject.noun is not None else None
    d.where = "place" in plan.verb.flags and plan.often is None and plan.negation in ("", "not")
    d.time = time_of(plan)


def time_of(plan: Plan) -> str:
    """The section of phrases for when it happens."""
    kind = TIMES.get(plan.tense, "present")
    once = plan.passing and plan.often is None and plan.negation not in ("never", "no longer")
    return f"time {kind}" if kind and once else ""


def verbal(
    d: Draft, kind: str, room: int, context: int, frame: str, *, asks: bool = False, subject: Subject | None = None
) -> tuple[Plan, Subject] | None:
    """Plan a clause around a verb of one kind; None where the verb and the subject that were drawn do not fit."""
    verb = d.pick(d.view.verbs[kind])
    least = 2 if kind == "transitive" and not verb.takes_person else LEAST[kind]
    spare = room - 1 - verb.words - least - asks
    unfit = frame == "reported" and "instant" in verb.flags
    if unfit or spare < (frame in LATE) or (subject is not None and not verb.personal):
        return None
    if subject is None:
        given = 1 + int((spare - (frame in LATE)) * (0.3 + 0.5 * d.random() if d.rich else 0.6 * d.random()))
        negative = verb.personal and not asks and kind != "clause" and d.chance(0.03)
        subject = negative_subject(d, verb, given) if negative else subject_for(d, verb, given)
        if subject is None:
            return None
    spare -= subject.room - 1
    plan = Plan(verb, subject.agreement, context=context, asks=asks)
    plan.negation = "subject" if subject.negative else ""
    spare = decorate(d, plan, spare, frame, personal=verb.personal and not subject.negative)
    if kind == "clause":
        plan.object = complement(d, len(d.english) + room, frame)
    elif least:
        objects = least + int(spare * (0.4 + 0.6 * d.random()))
        if not give_objects(d, plan, objects, bare=subject.bare):
            return None
    return (plan, subject) if d.allowed(plan.shows()) else None


def complement(d: Draft, end: int, frame: str) -> Write:
    """that he sleeps -> qu' il dort"""

    def said() -> list[Token]:
        that: Token = ("que", (d.say("that"),), (), COMPLEMENT)
        inner = "reported" if frame in ("past", "reported") else "present"
        return [that, *clause(d, end - len(d.english), COMPLEMENT, inner)]

    return said


def plain(kind: str) -> Callable[[Draft, int, int, str], list[Token]]:
    """A clause of this kind, with perhaps a place and a time."""

    def writer(d: Draft, room: int, context: int, frame: str) -> list[Token]:
        if kind == "clause" and context:  # no "he says that she says that"
            return []
        start = len(d.english)
        planned = verbal(d, kind, room, context, frame)
        if planned is None:
            return []
        tokens = finish(d, *planned)
        return tokens + tail(d, planned[0], room - len(d.english) + start)

    return writer


def tail(d: Draft, plan: Plan, left: int) -> list[Token]:
    """behind the house, with the children; in the morning"""
    tokens: list[Token] = []
    if left >= 2 and "place" in plan.verb.flags and plan.control is None and d.chance(0.45):
        added = prepositional(d, "place" if d.chance(0.75) else "company", left)
        if added is not None:
            start = len(d.english)
            tokens = added()
            left -= len(d.english) - start
    if left > 0 and d.time and d.chance(0.2):
        tokens += d.place(d.pick(d.view.fitting(d.time, left)), ADVERB) if d.view.fitting(d.time, left) else []
        d.time = ""
    return tokens


def being(d: Draft, room: int, context: int, frame: str) -> list[Token]:
    """The house is old."""
    subject = anything(d, room - 2)
    if subject is None:
        return []
    plan = copula(d, subject, room - subject.room, frame, context)
    return finish(d, plan, subject) if plan is not None else []


def anything(d: Draft, room: int) -> Subject | None:
    """A subject of which something may be said."""
    be = d.view.verbs["copula"][0]
    subject = subject_for(d, be, 1 + int(d.random() * max(0, room - 1)))
    return subject if subject is None or subject.noun is not None or subject.word else None


def there_is(d: Draft, room: int, context: int, frame: str) -> list[Token]:
    """There is a cat in the garden."""
    block, nouns = d.pick(d.view.places)
    what, place = d.pick(d.view.movable), d.pick(nouns)
    many = may_be_plural(what) and d.chance(0.5)
    frame = SAID.get(frame, frame)
    opening = d.phrases[f"there {frame} many" if many else f"there {frame}"][0]
    left = room - len(opening.english) - len(block.english) - needed(what) - needed(place)
    if left < 0:
        return []
    tokens = d.place(opening, IMPERSONAL)
    given = int(left * d.random())
    tokens += noun_phrase(d, what, many, needed(what) + given, Role(INDEFINITE, relative=False))
    tokens += attached(d, block, place, needed(place) + left - given)
    forget(d, frame)
    return tokens


def forget(d: Draft, frame: str) -> None:
    """After a clause that pronouns of the next one cannot stand for anything in."""
    d.subject = d.object = None
    d.where, d.time = False, f"time {frame}"


def weather(d: Draft, room: int, context: int, frame: str) -> list[Token]:
    """It is raining."""
    frame = SAID.get(frame, frame)
    fitting = d.view.fitting(f"weather {frame}", room)
    if not fitting:
        return []
    forget(d, frame)
    return d.place(d.pick(fitting), IMPERSONAL)


CLAUSES = {kind: plain(kind) for kind in LEAST} | {"copula": being, "there": there_is, "weather": weather}
