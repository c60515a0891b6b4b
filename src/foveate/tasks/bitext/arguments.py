"""Who does what to whom: subjects, objects, tense and negation of a clause, planned within a number of English words.

Pronouns are drawn so that the English text alone decides their French form. "It" and "them" stand for the direct object
of the clause before, or for the subject of one that can have none; in a first clause without nouns they are le and les.
"They" stands for the subject of the clause before. "You" is vous, plural, and whoever says I or we is a man.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from .determiners import Role
from .draft import Agreement, Draft, held_out, is_held_out
from .lexicon import Noun, Verb
from .nounphrases import agreement, may_be_plural, needed, noun_phrase
from .sentence import BIT, Token, labelled
from .verbs import Plan, Predicate, Pronoun, Write

__all__ = [
    "LATE",
    "Subject",
    "decorate",
    "give_objects",
    "negative_subject",
    "noun_subject",
    "person_pronoun",
    "subject_for",
    "write",
]

# Tenses of a clause, each as often as it is named, by what the sentence is about.
FRAMES = {
    "present": ("present",) * 13 + ("progressive",) * 3 + ("going",) * 2 + ("perfect",) * 2,
    "past": ("past",) * 12 + ("was",) * 3,
    "future": ("will",) * 5 + ("going",) * 3,
    "plain": ("present",) * 13 + ("progressive",) * 3,  # if ...
    "reported": ("was",),  # said that ..., while ...
}
LATE = frozenset(("future", "reported"))  # frames whose tenses all take a word more
COST = {"present": 0, "past": 0, "progressive": 1, "was": 1, "perfect": 1, "will": 1, "going": 3}
NEGATIONS = ("not",) * 7 + ("never",) * 2 + ("no longer",)
HELD, OTHER = BIT["held-out"], BIT["negation-other"]
ANAPHORA = BIT["pronoun-agreement"]

SUBJECTS = {
    "i": ("je", Agreement(0)), "you": ("vous", Agreement(3, plural=True)), "he": ("il", Agreement(1)),
    "she": ("elle", Agreement(1, feminine=True)), "we": ("nous", Agreement(2, plural=True)),
}  # fmt: skip
SPEAKERS = ("i", "you", "he", "she", "we", "he", "she")
ME = {"me": ("me", Agreement(0)), "you": ("vous", Agreement(3, plural=True)), "us": ("nous", Agreement(2, plural=True))}
HIM = {"him": ("le", Agreement(1)), "her": ("la", Agreement(1, feminine=True))}
TO_HIM = {"him": "lui", "her": "lui", "them": "leur"}


PLAIN = Role()


class Subject(NamedTuple):
    """What agrees with a subject, how it is written, in how many words at most, its noun and its pronoun, if any."""

    agreement: Agreement
    write: Write
    room: int = 1
    noun: Noun | None = None  # of "it": what it stands for
    word: str = ""
    negative: bool = False

    @property
    def bare(self) -> bool:
        """True if no common noun is said, so that "it" cannot be taken for one."""
        return bool(self.word) or (self.noun is not None and self.noun.proper)


def pronoun_subject(
    d: Draft, word: str, french: str, form: Agreement, labels: int = 0, noun: Noun | None = None
) -> Subject:
    return Subject(form, lambda: [(french, (d.say(word),), (), labels)], noun=noun, word=word)


def noun_subject(d: Draft, noun: Noun, plural: bool, room: int, role: Role = PLAIN) -> Subject:
    room = 1 if noun.proper else room
    return Subject(agreement(noun, plural), partial(noun_phrase, d, noun, plural, room, role), room, noun)


def subject_for(d: Draft, verb: Verb, room: int, *, anaphora: bool = True, relative: bool = True) -> Subject | None:
    """A subject that the verb can have, in at most `room` words; None where none fits."""
    if verb.personal and (room < 2 or d.chance(0.4)):
        if d.chance(0.25):
            return noun_subject(d, d.pick(d.view.names), False, 1)
        return person_pronoun(d, anaphora)
    nouns = d.view.subjects[verb]
    if anaphora and d.object is not None and d.object[0] in nouns and d.chance(0.4):
        noun, form = d.object
        if not noun.person and not form.plural:
            return pronoun_subject(d, "it", "elle" if form.feminine else "il", form, ANAPHORA, noun)
    noun = d.pick(nouns)
    if needed(noun) > room:
        return person_pronoun(d, anaphora) if verb.personal else None
    if verb.personal and room >= 5 and d.chance(0.08):
        return pair_of(d, verb, room)
    return noun_subject(d, noun, may_be_plural(noun) and d.chance(0.3), room, Role(relative=relative))


def negative_subject(d: Draft, verb: Verb, room: int) -> Subject:
    """nobody -> personne ne ..., no cat -> aucun chat ne ..."""
    noun = d.pick(d.view.subjects[verb])
    if needed(noun) > room or not may_be_plural(noun) or d.chance(0.5):
        return Subject(
            Agreement(1), lambda: [("personne", (d.say("nobody"),), (), OTHER)], word="nobody", negative=True
        )
    return noun_subject(d, noun, False, room, Role(only="no", relative=False))._replace(negative=True)


def person_pronoun(d: Draft, anaphora: bool) -> Subject:
    """I, you, he, she, we; "they" where it is clear who that is."""
    before = d.subject
    if anaphora and d.first and d.chance(0.12):
        return pronoun_subject(d, "they", "ils", Agreement(4, plural=True))
    if anaphora and not d.first and before is not None and before.person == 4 and d.chance(0.6):
        return pronoun_subject(d, "they", "elles" if before.feminine else "ils", before, ANAPHORA)
    word = d.pick(SPEAKERS)
    return pronoun_subject(d, word, *SUBJECTS[word])


def pair_of(d: Draft, verb: Verb, room: int) -> Subject | None:
    """The man and the woman: plural, and masculine if either is."""
    people = [noun for noun in d.view.subjects[verb] if noun.person]
    first, second = d.pick(people), d.pick(people)
    size = needed(first) + needed(second) + 1
    if first is second or size > room:
        return None
    role = Role(("the", "own", "the"), relative=False, depth=2)

    def write() -> list[Token]:
        one = noun_phrase(d, first, False, needed(first), role)
        join = d.place(d.phrases["coordinate"][0], BIT["coordination"])
        return one + join + noun_phrase(d, second, False, needed(second), role)

    return Subject(Agreement(4, first.feminine and second.feminine, True), write, size)


def decorate(d: Draft, plan: Plan, spare: int, frame: str, *, personal: bool) -> int:
    """Tense, wants to, can, negation and an adverb, for at most `spare` more words; returns how many are left."""
    verb = plan.verb
    state = "state" in verb.flags
    plan.tense = d.pick(FRAMES[frame])
    lasting = not state and verb.kind != "clause" and "instant" not in verb.flags
    if (plan.tense in ("progressive", "was") and not lasting) or (state and plan.tense == "perfect"):
        plan.tense = "past" if plan.tense == "was" else "present"
    if COST[plan.tense] > spare:
        plan.tense = {"future": "will", "reported": "was", "plain": "present"}.get(frame, frame)
    ambiguous = plan.tense == "past" and verb.english.past == verb.english.base and plan.subject.person != 1
    if ambiguous:
        plan.tense = "perfect"
    spare -= COST[plan.tense]
    if personal and verb.kind != "copula" and not ambiguous and frame != "reported":
        spare = helping(d, plan, spare)
    if d.chance(0.45 if plan.context else 0.2) and not plan.negation and verb.kind != "clause":
        spare = negate(d, plan, spare)
    if plan.tense in ("present", "past", "perfect", "will") and spare > 0 and d.chance(0.12):
        often = d.pick(d.phrases["often"])
        if not plan.negation or (plan.negation == "not" and "negatable" in often.flags):
            plan.often = often
            spare -= 1
    if "manner" in verb.flags and plan.control is None and not plan.negation and spare > 0 and d.chance(0.3):
        plan.manner = d.pick(d.view.fitting("manner", spare))
        spare -= len(plan.manner.english)
    return spare


def helping(d: Draft, plan: Plan, spare: int) -> int:
    """wants to, or can."""
    if spare >= 2 and plan.tense in ("present", "past", "will") and d.chance(0.14):
        control = d.pick(d.view.verbs["control"])
        if control.words < spare and not plan.verb.flags & {"state", "unwilled"}:
            plan.control = control
            return spare - control.words - 1
    if spare >= 1 and plan.tense in ("present", "past") and d.chance(0.08):
        plan.modal = d.view.verbs["modal"][0] if plan.tense == "past" else d.pick(d.view.verbs["modal"])
        return spare - 1
    return spare


def negate(d: Draft, plan: Plan, spare: int) -> int:
    kind = "not" if plan.tense in ("progressive", "was") else d.pick(NEGATIONS)
    cost = {"not": 2 if plan.simple and not plan.asks else 1, "never": 1}.get(kind, 2)
    if cost > spare:
        return spare
    plan.negation = kind
    return spare - cost


def give_objects(d: Draft, plan: Plan, room: int, *, reference: bool = True, bare: bool = True) -> bool:
    """Plan the object of a transitive verb, and the recipient; False if nothing fits.

    `reference`: "it" may look back to the clause before; `bare`: in a first clause, it may be le.
    """
    verb = plan.verb
    if "to" in verb.flags and room >= 3 and (verb.kind == "ditransitive" or d.chance(0.3)):
        room = give_recipient(d, plan, room)
    return give_object(d, plan, room, reference, bare) and d.allowed(plan.shows())


def give_object(d: Draft, plan: Plan, room: int, reference: bool, bare: bool) -> bool:
    often = 0.28 if not plan.context else 0.9 if plan.negation and d.view.everything else 0.45
    clear = room > plan.shift and (room < 2 or d.chance(often))
    plan.pronoun = object_pronoun(d, plan, reference, bare) if clear else None
    if plan.pronoun is not None:
        plan.shift = False  # not: gives her it
        return True
    if not (plan.negation or plan.asks or plan.control or plan.often) and d.chance(0.09):
        return no_object(d, plan, room)
    if plan.verb.takes_person and (room < 2 or d.chance(0.12)):
        plan.object = partial(noun_phrase, d, d.pick(d.view.names), False, 1)
        return True
    return object_noun(d, plan, room)


def object_noun(d: Draft, plan: Plan, room: int) -> bool:
    verb = plan.verb
    nouns = d.view.objects[verb]
    noun = d.pick(nouns)
    if needed(noun) > room:
        return False
    plural = may_be_plural(noun) and d.chance(0.3)
    plan.labels |= HELD if held_out(verb.name, noun.name) else 0
    direct = not verb.french_preposition
    negated = direct and plan.negation in ("not", "never", "no longer")
    measured = direct and not negated and bool(d.view.measures[noun]) and d.chance(0.3)
    role = Role(after_de=verb.french_preposition == "de", negated=negated, measured=measured, relative=not plan.shift)
    plan.object = partial(noun_phrase, d, noun, plural, room, role)
    plan.direct = (noun, agreement(noun, plural)) if direct and not measured else None
    return True


def give_recipient(d: Draft, plan: Plan, room: int) -> int:
    """Plan to whom something is given; returns the room left for what is given."""
    plan.shift = "shift" in plan.verb.flags and d.chance(0.45)
    cost = 0 if plan.shift else 1
    if room < cost + 3 or d.chance(0.45):
        word = d.pick(("him", "her", "them", "him", "her", "me", "you", "us"))
        if reflexive(plan.subject, word):
            word = "her"
        french, rank = (TO_HIM[word], 2) if word in TO_HIM else (ME[word][0], 0)
        plan.recipient_pronoun = Pronoun(word, french, rank)
        return room - cost - 1
    person = d.pick(d.view.people) if d.chance(0.7) and room >= cost + 5 else d.pick(d.view.names)
    given = needed(person)
    plural = may_be_plural(person) and d.chance(0.25)
    role = Role(("the", "own", "the", "a", "this", "number"), relative=False, depth=1)
    given += 1 if room > cost + given + 3 and d.chance(0.3) else 0
    plan.recipient = partial(noun_phrase, d, person, plural, given, role)
    return room - cost - given


def reflexive(subject: Agreement, word: str) -> bool:
    """True for I ... me, we ... me and the like."""
    person = {"me": (0, 2), "us": (0, 2), "you": (3,)}.get(word, ())
    return subject.person in person


def object_pronoun(d: Draft, plan: Plan, reference: bool, bare: bool) -> Pronoun | None:
    """A pronoun for the object, or None where there is none that would be clear, or right."""
    verb = plan.verb
    if "there" in verb.flags and not plan.asks:  # not: where does she go there ?
        return Pronoun("there", "y", 3)
    if verb.flags & {"noclitic", "there"}:
        return None
    dative, of = "dative" in verb.flags, "of" in verb.flags
    if verb.french_preposition and not (dative or of):
        return None
    if verb.takes_person and not of and plan.recipient_pronoun is None and d.chance(0.6):
        word = d.pick(("him", "her", "him", "her", "me", "you", "us"))
        if reflexive(plan.subject, word):
            word = "him"
        if dative:
            return Pronoun(word, TO_HIM.get(word) or ME[word][0], 2 if word in TO_HIM else 0)
        french, form = HIM.get(word) or ME[word]
        return Pronoun(word, french, 1 if word in HIM else 0, form)
    return None if dative else it_or_them(d, verb, reference, bare, of)


def it_or_them(d: Draft, verb: Verb, reference: bool, bare: bool, of: bool) -> Pronoun | None:
    """The thing spoken of: the object of the clause before, or in a first clause without nouns something masculine."""
    if d.first:
        if d.things or not bare or verb not in d.view.takes_thing:
            return None
        form, labels = Agreement(1), 0
        if d.chance(0.25):
            form = Agreement(4, plural=True)
    elif reference and d.object is not None and d.object[0] in verb.objects and not d.object[0].person:
        noun, form = d.object
        held = held_out(verb.name, noun.name)
        if held and not d.view.everything:
            return None
        labels = ANAPHORA | HELD if held else ANAPHORA
    else:
        return None
    word = "them" if form.plural else "it"
    if of:
        return Pronoun(word, "en", 4)
    return Pronoun(word, "les" if form.plural else "la" if form.feminine else "le", 1, form, labels)


def no_object(d: Draft, plan: Plan, room: int) -> bool:
    """Nothing, nobody, no cat, only the cat; False where the one drawn does not fit."""
    verb = plan.verb
    nouns = d.view.objects[verb]
    plan.negation = d.pick(("nothing", "nobody", "no", "only"))
    if plan.negation == "nothing":
        plan.object = lambda: [("rien", (d.say("nothing"),), (), OTHER)]
        return "there" not in verb.flags and verb in d.view.takes_thing
    if plan.negation == "nobody":
        plan.object = lambda: [("personne", (d.say("nobody"),), (), OTHER)]
        return verb.takes_person
    if plan.negation == "only":
        return room >= 4 and object_noun(d, plan, room - 1)
    noun = d.pick(nouns)
    plan.labels |= HELD if held_out(verb.name, noun.name) else 0
    plan.object = partial(noun_phrase, d, noun, False, room, Role(only="no"))
    return needed(noun) <= room and not noun.classes & {"mass", "unique"}


def write(d: Draft, plan: Plan, subject: Subject) -> tuple[list[Token], list[Token], Predicate]:
    """Write a planned clause: French tokens of subject and predicate, labelled if what it shows is held out."""
    predicate = Predicate(d, plan)
    outer, d.negated = d.negated, bool(plan.negation)
    said, rest = predicate.write(subject.write)
    d.negated = outer
    if is_held_out(plan.shows()):
        rest = labelled(rest, HELD)
    return said, rest, predicate
