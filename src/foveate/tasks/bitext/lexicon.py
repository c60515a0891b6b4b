"""Read `lexicon/*.txt`: nouns, adjectives, verbs, conjugations and fixed phrases, each with its links.

The format of each file is explained in its first lines. A mistake raises ValueError with file, line and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from .morphology import Conjugation, English, adjective_forms, conjugate, english_plural, english_verb, plural
from .sentence import BIT, Token

__all__ = ["Adjective", "Block", "Lexicon", "Noun", "Verb", "load"]

SMALL_FRENCH = frozenset(["à", "de", "le", "la", "les", "se", "en"])
SMALL_ENGLISH = frozenset(
    ["a", "the", "to", "at", "of", "in", "on", "off", "up", "down", "away", "for", "about", "after", "with"]
)
LEXICAL = frozenset(("time past", "time present", "time future", "where", "often", "manner", "degree", "job"))
LINK = re.compile(r"(\d+)([-p])(\d+)")
VERB_KINDS = ("intransitive", "transitive", "ditransitive", "clause", "control", "modal", "copula")
FLAGS = frozenset(
    ["state", "instant", "unwilled", "manner", "to", "shift", "there", "of", "dative", "noclitic", "place"]
)


@dataclass(frozen=True, eq=False)
class Block:
    """English words and the French words that they are, with the English words that each French one is linked to."""

    english: tuple[str, ...]
    french: tuple[str, ...]
    sure: tuple[tuple[int, ...], ...]
    possible: tuple[tuple[int, ...], ...]
    labels: int = 0
    flags: frozenset[str] = frozenset()

    def tokens(self, base: int, labels: int = 0, french: tuple[str, ...] | None = None) -> list[Token]:
        """The French words, linked to English words from `base` on."""
        labels |= self.labels
        words = self.french if french is None else french
        if len(words) == 1 and len(self.english) == 1:
            return [(words[0], (base,), (), labels)]
        return [
            (word, tuple([base + i for i in sure]), tuple([base + i for i in possible]), labels)
            for word, sure, possible in zip(words, self.sure, self.possible, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Noun:
    """`classes` includes the noun's own name. `block.french` and `many` are its singular and plural."""

    name: str
    block: Block
    english_plural: tuple[str, ...]
    many: tuple[str, ...]
    feminine: bool
    classes: frozenset[str]
    proper: bool = False

    @property
    def person(self) -> bool:
        return "person" in self.classes


@dataclass(frozen=True, eq=False)
class Adjective:
    """`forms` by 2 * plural + feminine, each a tuple of words. `before` its noun; `passing`: true for a time."""

    name: str
    comparative: str
    block: Block
    forms: tuple[tuple[str, ...], ...]
    liaison: str  # the masculine singular before a vowel, where it is another: bel
    before: bool
    predicative: bool
    passing: bool
    rank: int
    nouns: frozenset[Noun]


@dataclass(frozen=True, eq=False)
class Verb:
    """`english.base` inflects, `after` follows it; `preposition` stands before the object, `particle` after a pronoun.

    `block` links the English words (verb, what follows, particle or preposition) and the French ones.
    """

    name: str
    kind: str
    english: English
    after: tuple[str, ...]
    particle: str
    preposition: str
    french: Conjugation
    reflexive: bool
    french_preposition: str
    block: Block
    subjects: frozenset[Noun]
    objects: frozenset[Noun]
    personal: bool
    takes_person: bool
    flags: frozenset[str]
    words: int  # how many English words it has, preposition and particle included


@dataclass(frozen=True, eq=False)
class Lexicon:
    nouns: tuple[Noun, ...]
    adjectives: tuple[Adjective, ...]
    verbs: tuple[Verb, ...]
    phrases: dict[str, tuple[Block, ...]]
    conjugations: dict[str, Conjugation]
    aspirated: frozenset[str]


@cache
def load() -> Lexicon:
    """The lexicon of the package, parsed once."""
    phrases: dict[str, tuple[Block, ...]] = {}
    for where, section, fields in _entries("phrases.txt"):
        phrases[section] = (*phrases.get(section, ()), _phrase(where, section, fields))
    aspirated = {"huit", "onze"}
    nouns = [*_nouns(aspirated), *_names(phrases)]
    adjectives = tuple(_adjectives(Nouns([noun for noun in nouns if not noun.proper]), aspirated))
    listed = {fields[0]: _row(where, fields) for where, _, fields in _entries("conjugations.txt")}
    conjugations = {infinitive: conjugate(infinitive, row) for infinitive, row in listed.items()}
    verbs = tuple(_verbs(Nouns(nouns), conjugations))
    return Lexicon(tuple(nouns), adjectives, verbs, phrases, conjugations, frozenset(aspirated))


def _entries(name: str) -> Iterator[tuple[str, str, list[str]]]:
    """(where, section, fields) of each line."""
    text = resources.files(__package__).joinpath("lexicon", name).read_text(encoding="utf-8")
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[] ")
            continue
        yield f"{name}, line {number}", section, [field.strip() for field in line.split("|")]


def _row(where: str, fields: list[str]) -> tuple[str, ...]:
    row = (*(form.strip() for form in fields[1].split(",")), *fields[2:])
    if len(row) not in (7, 8):
        raise ValueError(f"{where}: expected 'infinitive | five present forms | participle | future [| être]'")
    return row


def block(
    where: str, english: Iterable[str], french: Iterable[str], links: str = "", flags: str = "", lexical: bool = True
) -> Block:
    """Without `links`, each content word is sure with each on the other side, and small words are possible.

    `lexical`: a word of the lexicon, not one of grammar, so that it is labelled if the two sides differ in number.
    """
    sources, targets = tuple(english), tuple(french)
    pairs = {(int(i), int(j)): kind for i, kind, j in LINK.findall(links)}
    if not links:
        small = [word in SMALL_ENGLISH and len(sources) > 1 for word in sources]
        for j, word in enumerate(targets):
            light = word in SMALL_FRENCH and len(targets) > 1
            pairs |= {(i, j): "p" if light or small[i] else "-" for i in range(len(sources))}
    if any(i >= len(sources) or j >= len(targets) for i, j in pairs):
        raise ValueError(
            f"{where}: a link of '{links}' points beyond {len(sources)} English and {len(targets)} French words"
        )
    for j, word in enumerate(targets):
        if not any(target == j for _, target in pairs):
            raise ValueError(f"{where}: '{word}' has no link; give it one")
    sides = tuple(
        tuple(tuple(i for i, t in pairs if t == j and pairs[i, t] == kind) for j in range(len(targets)))
        for kind in "-p"
    )
    labels = _labels(len(sources), len(targets)) if lexical else 0
    return Block(sources, targets, sides[0], sides[1], labels, frozenset(flags.split()))


def _labels(english: int, french: int) -> int:
    return BIT["one-to-many"] if english < french else BIT["many-to-one"] if english > french else 0


def _phrase(where: str, section: str, fields: list[str]) -> Block:
    english, french, links, flags = [*fields, *[""] * (4 - len(fields))]
    return block(where, english.split(), (french or english).split(), links, flags, lexical=section in LEXICAL)


def _forms(text: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    one, _, many = text.partition("/")
    return tuple(one.split()), tuple(many.split()) or None


def _nouns(aspirated: set[str]) -> Iterator[Noun]:
    for where, section, fields in _entries("nouns.txt"):
        if len(fields) not in (3, 4) or fields[2][:1] not in ("m", "f"):
            raise ValueError(f"{where}: expected 'English | French | m or f [h] [| links]'")
        english, english_many = _forms(fields[0])
        french, many = _forms(fields[1])
        if many is None:
            many = (plural(french[0]), *french[1:])
        if fields[2].endswith("h"):
            aspirated |= {french[0], many[0]}
        name = "_".join(english)
        kind = set() if {"person", "animal"} & set(section.split()) else {"thing"}
        classes = frozenset({name, *section.split(), *kind})
        joined = block(where, english, french, fields[3] if len(fields) > 3 else "")
        english_many = english_many or (*english[:-1], english_plural(english[-1]))
        yield Noun(name, joined, english_many, many, fields[2][0] == "f", classes)


def _names(phrases: dict[str, tuple[Block, ...]]) -> Iterator[Noun]:
    for section in ("female", "male"):
        for name in phrases[section]:
            word = name.english[0]
            yield Noun(word, name, (), (), section == "female", frozenset(("person", "name", word)), proper=True)


class Nouns:
    """The nouns, to select from by class."""

    def __init__(self, nouns: list[Noun]) -> None:
        self.nouns = nouns
        self.known = frozenset[str]().union(*(noun.classes for noun in nouns))

    def select(self, where: str, wanted: str) -> frozenset[Noun]:
        """Those that have one of the wanted classes and none of those with a "-"."""
        words = wanted.split()
        for word in words:
            if word.removeprefix("-") not in self.known:
                raise ValueError(f"{where}: '{word}' is neither a class nor a noun of nouns.txt")
        good = {word for word in words if word[0] != "-"}
        bad = {word[1:] for word in words if word[0] == "-"}
        return frozenset(noun for noun in self.nouns if noun.classes & good and not noun.classes & bad)


def _adjectives(nouns: Nouns, aspirated: set[str]) -> Iterator[Adjective]:
    for where, _, fields in _entries("adjectives.txt"):
        if len(fields) != 5:
            raise ValueError(f"{where}: expected 'English | French | place | rank | what it is said of'")
        name, _, comparative = fields[0].partition("/")
        listed = tuple(form.strip() for form in fields[1].split(","))
        place = fields[2].split()
        if len(listed) == 1:
            forms = [tuple(listed[0].split())] * 4
        else:
            forms = [(form,) for form in adjective_forms(listed)]
        if "h" in place:
            aspirated |= {form[0] for form in forms}
        joined = block(where, [name], forms[0])
        yield Adjective(
            name=name,
            comparative=comparative,
            block=joined,
            forms=tuple(forms),
            liaison=listed[3] if len(listed) > 3 else "",
            before="before" in place,
            predicative="!" not in place,
            passing="passing" in place,
            rank=int(fields[3]),
            nouns=nouns.select(where, fields[4]),
        )


def _verbs(nouns: Nouns, conjugations: dict[str, Conjugation]) -> Iterator[Verb]:
    irregular: dict[str, tuple[str, ...]] = {}
    double: set[str] = set()
    for _, _, (row,) in _entries("irregular.txt"):
        base, *forms = row.split()
        if base == "double":
            double |= set(forms)
        else:
            irregular[base] = tuple(forms)
    for where, section, fields in _entries("verbs.txt"):
        fields = [*fields, *[""] * (6 - len(fields))]
        if section not in VERB_KINDS or set(fields[4].split()) - FLAGS:
            raise ValueError(f"{where}: unknown section or flag; expected flags among {', '.join(sorted(FLAGS))}")
        base = fields[0].split()[0]
        english = english_verb(base, irregular.get(base), base in double)
        yield _verb(where, section, fields, english, nouns, conjugations)


def _verb(
    where: str, kind: str, fields: list[str], english: English, nouns: Nouns, conjugations: dict[str, Conjugation]
) -> Verb:
    words = fields[0].split()
    particle = next((word[1:] for word in words if word[0] == "~"), "")
    preposition = next((word[1:] for word in words if word[0] == "+"), "")
    french = fields[1].split()
    reflexive = french[0] == "se"
    french = french[1:] if reflexive else french
    french_preposition = french.pop()[1:] if french[-1][0] == "+" else ""
    if kind == "control" and french[-1] in ("de", "à"):
        french_preposition = french.pop()
    if french[0] not in conjugations:
        conjugations[french[0]] = conjugate(french[0])
    joined = block(where, [word.lstrip("+~") for word in words], french, fields[5])
    if french_preposition and kind != "control":
        joined = _apart(joined, preposition)
    return Verb(
        name=" ".join(words),
        kind=kind,
        english=english,
        after=tuple(word for word in words[1:] if word[0] not in "+~"),
        particle=particle,
        preposition=preposition,
        french=conjugations[french[0]],
        reflexive=reflexive,
        french_preposition=french_preposition,
        block=joined,
        subjects=nouns.select(where, fields[2]),
        objects=nouns.select(where, fields[3]),
        personal="person" in fields[2].split(),
        takes_person="person" in fields[3].split(),
        flags=frozenset(fields[4].split()),
        words=len(words),
    )


def _apart(joined: Block, preposition: str) -> Block:
    """The same block, now that the French preposition stands apart: the English one, if any, is its alone."""
    last = len(joined.english) - 1 if preposition else -1
    sides = [tuple(tuple(i for i in row if i != last) for row in side) for side in (joined.sure, joined.possible)]
    labels = _labels(len(joined.english) - bool(preposition), len(joined.french))
    return Block(joined.english, joined.french, sides[0], sides[1], labels, joined.flags)
