"""The verb and what belongs to it: auxiliaries, negation, clitics, adverbs, objects, on both sides.

`Plan` says what is to be written; `Predicate(draft, plan).write(subject)` says the English words in their order (the
auxiliary before the subject in a question) and returns the French tokens of subject and predicate in theirs:

    ne  clitics  finite verb  pas  often  well  participle | (de) clitics infinitive  slowly  besoin  object  recipient
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .draft import Agreement, Draft
from .lexicon import Block, Noun, Verb
from .morphology import participle
from .sentence import BIT, Token, labelled

__all__ = ["Plan", "Predicate", "Pronoun", "Write"]

Write = Callable[[], list[Token]]  # says English words, returns French tokens

BE = ("am", "is", "are", "are", "are")
WAS = ("was", "was", "were", "were", "were")
REFLEXIVE = ("me", "se", "nous", "vous", "se")
NEGATIONS = {"not": ("not",), "never": ("never",), "no longer": ("no", "longer"), "only": ("only",)}
SECOND = {"not": "pas", "never": "jamais", "no longer": "plus"}
NEGATION, OTHER, INSIDE = BIT["negation"], BIT["negation-other"], BIT["clitic-in-negation"]
CLITIC, PAIR = BIT["clitic"], BIT["clitic-pair"]
PAST, NEAR, INFINITIVE = BIT["compound-past"], BIT["near-future"], BIT["infinitive"]
AGREES, ADVERB, SHIFT = BIT["participle-agreement"], BIT["adverb"], BIT["dative-shift"]


class Pronoun(NamedTuple):
    """An object that French puts before the verb. `rank` orders clitics; `agreement`: of a direct object."""

    english: str
    french: str
    rank: int
    agreement: Agreement | None = None
    labels: int = 0


@dataclass(slots=True, eq=False)
class Plan:
    """A clause, all but how its subject is written.

    `negation`: not, never, "no longer", only, nothing, nobody, no (an object), or "subject" (nobody, no cat).
    """

    verb: Verb
    subject: Agreement
    tense: str = "present"  # present, progressive, past, was, perfect, will, going
    control: Verb | None = None  # wants to
    modal: Verb | None = None  # can
    negation: str = ""
    often: Block | None = None
    manner: Block | None = None
    asks: bool = False  # the auxiliary stands before the subject
    pronoun: Pronoun | None = None
    object: Write | None = None
    recipient: Write | None = None
    recipient_pronoun: Pronoun | None = None
    shift: bool = False  # gives her the book
    preceding: Agreement | None = None  # a direct object that stands further left: the house that he sold
    direct: tuple[Noun, Agreement] | None = None  # the object, if later pronouns may stand for it
    passing: bool = True  # it makes sense to say when
    context: int = 0  # labels of what the clause is part of
    labels: int = 0  # of the verb and its object

    @property
    def head(self) -> Verb:
        """The verb that has the tense."""
        return self.control or self.verb

    @property
    def simple(self) -> bool:
        """True if English needs do, does or did to negate and ask."""
        return self.tense in ("present", "past") and self.modal is None and self.head.english.base != "be"

    def shows(self) -> int:
        """Labels of the phenomena that are together in this clause."""
        pronouns = (self.pronoun is not None) + (self.recipient_pronoun is not None)
        kinds = NEGATION if self.negation == "not" else OTHER if self.negation else 0
        kinds |= (CLITIC if pronouns else 0) | (PAIR if pronouns > 1 else 0) | (NEAR if self.tense == "going" else 0)
        return self.context | kinds | (BIT["reflexive"] if self.verb.reflexive else 0)


class Predicate:
    """Writes a plan. After `write`, `inverted` is the index of the word said before the subject, or -1."""

    def __init__(self, d: Draft, plan: Plan) -> None:
        self.d, self.plan = d, plan
        self.auxiliary = -1
        self.inverted = -1
        self.negators: list[int] = []
        self.often: list[Token] = []
        self.manner: list[Token] = []
        self.going: tuple[int, ...] = ()  # "going", "to"
        self.to = -1  # of "wants to"
        self.head: list[int] = []  # words of the verb that has the tense
        self.words: list[int] = []  # words of the verb itself, its particle or preposition last
        self.preposition = -1
        self.clitics: list[tuple[int, Token]] = []
        self.direct: list[Token] = []
        self.recipient: list[Token] = []

    def write(self, subject: Write) -> tuple[list[Token], list[Token]]:
        """French tokens of the subject and of the rest."""
        said = self.say_verb(subject)
        self.say_objects()
        if self.plan.manner is not None:
            self.manner = self.d.place(self.plan.manner, ADVERB)
        return said, self.french(said)

    # English

    def say_verb(self, subject: Write) -> list[Token]:
        d, plan = self.d, self.plan
        auxiliary, main = self.english_forms()
        if plan.asks:
            self.auxiliary = self.inverted = d.say(auxiliary)
        said = subject()
        if auxiliary and not plan.asks:
            self.auxiliary = d.say(auxiliary)
        self.negators = d.say_all(NEGATIONS.get(plan.negation, ()))
        if plan.often is not None:
            self.often = d.place(plan.often, ADVERB)
        if plan.tense == "going":
            self.going = tuple(d.say_all(("going", "to")))
        first = d.say(main) if main else self.auxiliary
        if not main:
            self.auxiliary = -1
        self.head = [self.auxiliary] if plan.modal else [first, *d.say_all(plan.head.after)]
        self.words = self.head
        if plan.modal is not None:
            self.auxiliary = -1
            self.words = [first, *d.say_all(plan.verb.after)]
        elif plan.control is not None:
            self.to = d.say("to")
            self.words = d.say_all((plan.verb.english.base, *plan.verb.after))
        return said

    def english_forms(self) -> tuple[str, str]:
        """The auxiliary, or "", and the main verb, or "" where the auxiliary is the main verb."""
        plan, english, person = self.plan, self.plan.head.english, self.plan.subject.person
        tense, third = plan.tense, person == 1
        if plan.modal is not None:
            return "could" if tense == "past" else plan.modal.name, english.base
        if tense == "progressive" or tense == "was":
            return (BE if tense == "progressive" else WAS)[person], english.ing
        if tense == "perfect":
            return "has" if third else "have", english.participle
        if tense == "will" or tense == "going":
            return "will" if tense == "will" else BE[person], english.base
        if english.base == "be":
            return (BE if tense == "present" else WAS)[person], ""
        if plan.asks or plan.negation == "not":
            return "did" if tense == "past" else "does" if third else "do", english.base
        return "", english.past if tense == "past" else english.third if third else english.base

    def say_objects(self) -> None:
        d, plan, verb = self.d, self.plan, self.plan.verb
        if verb.particle and plan.pronoun is None:
            self.words = [*self.words, d.say(verb.particle)]
        elif verb.preposition and not (plan.pronoun is not None and plan.pronoun.french == "y"):
            self.preposition = d.say(verb.preposition)
            self.words = [*self.words, self.preposition]
        if plan.shift:
            self.say_recipient(())
        if plan.pronoun is not None:
            also = (self.preposition,) if verb.french_preposition and self.preposition >= 0 else ()
            self.say_pronoun(plan.pronoun, also)
        elif plan.object is not None:
            self.direct = plan.object()
        if verb.particle and plan.pronoun is not None:
            self.words = [*self.words, d.say(verb.particle)]
        if not plan.shift and (plan.recipient is not None or plan.recipient_pronoun is not None):
            self.say_recipient((d.say("to"),))

    def say_pronoun(self, pronoun: Pronoun, also: tuple[int, ...]) -> None:
        at = self.d.say(pronoun.english)
        self.clitics.append((pronoun.rank, (pronoun.french, (at,), also, CLITIC | pronoun.labels)))

    def say_recipient(self, to: tuple[int, ...]) -> None:
        plan = self.plan
        if plan.recipient_pronoun is not None:
            self.say_pronoun(plan.recipient_pronoun, to)
            return
        assert plan.recipient is not None
        tokens = plan.recipient()
        anchor = (tokens[0][2] or tokens[0][1])[0]  # the noun that a determiner agrees with; a numeral, a name
        preposition: Token = ("à", to, () if to else (self.words[0], anchor), 0)
        self.recipient = [preposition, *tokens]
        if plan.shift:
            self.recipient = labelled(self.recipient, SHIFT)

    # French

    def french(self, subject: list[Token]) -> list[Token]:
        plan, verb = self.plan, self.plan.verb
        clitics = self.ordered_clitics()
        finite, after = self.finite()
        infinitive = plan.control is not None or plan.modal is not None or plan.tense == "going"
        early = plan.manner is not None and "early" in plan.manner.flags
        last = len(self.manner) > 1  # avec soin
        inside = INSIDE if clitics and not infinitive and plan.negation else 0
        ne, second = self.negation(subject, inside)
        if inside:
            clitics = labelled(clitics, inside)
        out = [*ne, *(() if infinitive else clitics), finite, *second, *self.often]
        if infinitive:
            out += after
            if plan.control is not None and plan.control.french_preposition:
                out.append((plan.control.french_preposition, (), (self.to,), INFINITIVE))
            out += self.manner if early else ()
            out += clitics
            out += self.infinitive()
        else:
            out += self.manner if early else ()
            out += after
            out += self.lexical(verb.block.french[0])[1:]
        out += () if early or last else self.manner
        if plan.negation == "only":
            out.append(("que", tuple(self.negators), (), OTHER))
        if verb.french_preposition and self.direct:
            out.append(self.french_preposition())
        return out + self.direct + self.recipient + (self.manner if last else [])

    def ordered_clitics(self) -> list[Token]:
        plan = self.plan
        clitics = [token for _, token in sorted(self.clitics)]
        if len(clitics) > 1:
            clitics = labelled(clitics, PAIR)
        if plan.verb.reflexive:
            clitics.insert(0, (REFLEXIVE[plan.subject.person], (), tuple(self.words), BIT["reflexive"] | CLITIC))
        return clitics

    def negation(self, subject: list[Token], inside: int) -> tuple[list[Token], list[Token]]:
        """ne, and pas, jamais, plus or rien where they stand after the verb."""
        plan = self.plan
        kind = plan.negation
        if not kind:
            return [], []
        labels = (NEGATION if kind == "not" else OTHER) | inside
        auxiliary = (self.auxiliary,) if kind == "not" and self.auxiliary >= 0 and plan.simple else ()
        if kind == "subject":
            return [("ne", (), subject[0][1], labels)], []
        if kind in SECOND:
            negators = tuple(self.negators)
            return [("ne", (), negators + auxiliary, labels)], [(SECOND[kind], negators, auxiliary, labels)]
        if kind == "only":
            return [("ne", (), tuple(self.negators), labels)], []
        ne: list[Token] = [("ne", (), self.direct[0][1], labels)]
        if kind == "nothing" and not plan.verb.french_preposition:
            second, self.direct = self.direct, []
            return ne, second
        return ne, []

    def finite(self) -> tuple[Token, list[Token]]:
        """The verb form that agrees with the subject, and what follows pas: a participle, or besoin of avoir besoin."""
        plan, head, person = self.plan, self.plan.head, self.plan.subject.person
        auxiliary = (self.auxiliary,) if self.auxiliary >= 0 else ()
        if plan.tense == "going":
            return (self.french_of("aller")[person], self.going[:1], (*auxiliary, self.going[1]), NEAR), []
        if plan.modal is not None:
            french = plan.modal.french
            form = (french.imperfect if plan.tense == "past" else french.present)[person]
            return (form, (self.head[0],), (), INFINITIVE), []
        block = head.block
        labels = INFINITIVE if plan.control is not None else plan.labels
        state = "state" in head.flags
        if plan.tense == "perfect" or (plan.tense == "past" and not state):
            return self.compound(auxiliary)
        french = head.french
        forms = (
            french.imperfect
            if plan.tense in ("past", "was")
            else french.future
            if plan.tense == "will"
            else french.present
        )
        words = self.head if plan.control is not None else self.words
        first, *rest = joined(block, words, forms[person], labels)
        word, sure, possible, labels = first
        return (word, sure, possible + auxiliary, labels), rest if plan.control is not None else []

    def compound(self, auxiliary: tuple[int, ...]) -> tuple[Token, list[Token]]:
        """avoir or être, and the participle with what it agrees with."""
        plan, head = self.plan, self.plan.head
        etre = head.french.etre or (head.reflexive and plan.control is None)
        form = self.french_of("être" if etre else "avoir")[plan.subject.person]
        agrees: Agreement | None = plan.subject if etre else None
        if not etre and plan.control is None:
            agrees = plan.pronoun.agreement if plan.pronoun is not None else plan.preceding
        labels = PAST | (INFINITIVE if plan.control is not None else plan.labels)
        past = head.french.participle
        if agrees is not None and (agrees.feminine or agrees.plural):
            past = participle(past, agrees.feminine, agrees.plural)
            labels |= AGREES
        words = self.head if plan.control is not None else self.words
        tokens = joined(head.block, words, past, labels)
        return (form, (), (*auxiliary, words[0]), PAST), tokens if plan.control is not None else tokens[:1]

    def infinitive(self) -> list[Token]:
        plan = self.plan
        to = self.going[1:] if plan.tense == "going" else (self.to,) if self.to >= 0 else ()
        first, *rest = self.lexical(plan.verb.french.infinitive)
        word, sure, possible, labels = first
        labels |= NEAR if plan.tense == "going" else INFINITIVE
        return [(word, sure, possible + to, labels), *rest]

    def lexical(self, form: str) -> list[Token]:
        return joined(self.plan.verb.block, self.words, form, self.plan.labels)

    def french_preposition(self) -> Token:
        """The French preposition before the object. "de" is only a possible link, as it is everywhere."""
        word = self.plan.verb.french_preposition
        if self.preposition < 0:
            return (word, (), (self.words[0],), 0)
        at = (self.preposition,)
        return (word, (), at, 0) if word == "de" else (word, at, (), BIT["preposition"])

    def french_of(self, infinitive: str) -> tuple[str, ...]:
        """The present of avoir, être or aller."""
        return self.d.view.lexicon.conjugations[infinitive].present


def joined(block: Block, words: list[int], first: str, labels: int) -> list[Token]:
    """The French words of a verb, the first as `first`, linked to its English words wherever these stand."""
    labels |= block.labels
    if len(block.french) == 1 and len(words) == 1:
        return [(first, (words[0],), (), labels)]
    return [
        (
            first if place == 0 else word,
            tuple([words[i] for i in sure if i < len(words)]),
            tuple([words[i] for i in possible if i < len(words)]),
            labels,
        )
        for place, (word, sure, possible) in enumerate(zip(block.french, block.sure, block.possible, strict=True))
    ]
