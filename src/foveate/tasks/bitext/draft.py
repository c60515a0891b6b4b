"""What a sentence is written with: the random choices, the English words so far, and what may be combined with what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar
from zlib import crc32

from .lexicon import Adjective, Block, Lexicon, Noun, load
from .sentence import BIT, Token

__all__ = ["HELD_OUT", "Agreement", "Draft", "View", "held_out", "is_held_out", "view"]

T = TypeVar("T")

# Phenomena that no training sentence has together in one clause.
HELD_OUT = (
    ("relative", "negation", "clitic"),  # the man who does not see it
    ("question", "clitic-pair"),  # does she give it to him ?
    ("near-future", "negation-other"),  # is never going to see
    ("complement", "reflexive"),  # says that she gets up
)
HELD_OUT_MASKS = tuple(sum(BIT[name] for name in names) for names in HELD_OUT)


class Agreement(NamedTuple):
    """What a verb, a participle or an adjective agrees with; `person` as in `morphology`."""

    person: int
    feminine: bool = False
    plural: bool = False

    @property
    def form(self) -> int:
        """Index into `Adjective.forms`."""
        return 2 * self.plural + self.feminine


def held_out(first: str, second: str) -> bool:
    """True for every twentieth pair of an adjective or verb and a noun: kept for testing."""
    return crc32(f"{first}/{second}".encode()) % 20 == 0


def is_held_out(labels: int) -> bool:
    """True if these phenomena together are kept for testing."""
    for mask in HELD_OUT_MASKS:  # noqa: SIM110 - asked for every clause, and any() takes four times as long
        if labels & mask == mask:
            return True
    return False


class View:
    """The lexicon as one split may use it: `everything`, or without the pairs that are held out."""

    def __init__(self, lexicon: Lexicon, everything: bool) -> None:
        def keep(name: str, noun: Noun) -> bool:
            return everything or not held_out(name, noun.name)

        self.lexicon, self.everything = lexicon, everything
        nouns = [noun for noun in lexicon.nouns if not noun.proper]
        self.common = tuple(nouns)
        self.names = tuple(noun for noun in lexicon.nouns if noun.proper)
        self.adjectives: dict[Noun, tuple[Adjective, ...]] = {
            noun: tuple(a for a in lexicon.adjectives if noun in a.nouns and keep(a.name, noun)) for noun in nouns
        }
        self.verbs = {
            kind: tuple(v for v in lexicon.verbs if v.kind == kind) for kind in {v.kind for v in lexicon.verbs}
        }
        self.subjects = {v: _sorted(n for n in v.subjects if not n.proper) for v in lexicon.verbs}
        self.objects = {v: _sorted(n for n in v.objects if not n.proper and keep(v.name, n)) for v in lexicon.verbs}
        acting = [v for kind in ("intransitive", "transitive") for v in self.verbs[kind]]
        self.acting = {noun: tuple(v for v in acting if noun in v.subjects) for noun in lexicon.nouns}
        self.undergoing = {
            noun: tuple(v for v in self.verbs["transitive"] if noun in v.objects and keep(v.name, noun))
            for noun in nouns
        }
        probes = [noun for noun in nouns if noun.name in ("man", "woman", "girl")]
        self.personal = tuple(
            a for a in lexicon.adjectives if a.nouns.issuperset(probes) and a.predicative and a.rank < 5
        )
        things = frozenset(noun for noun in nouns if "thing" in noun.classes)
        self.takes_thing = frozenset(v for v in lexicon.verbs if not things.isdisjoint(v.objects))
        self.owned = tuple(noun for noun in nouns if "owned" in noun.classes and "mass" not in noun.classes)
        self.movable = tuple(
            noun for noun in nouns if noun.classes & {"person", "animal", "small", "readable", "tool", "food"}
        )
        self.people = tuple(noun for noun in nouns if noun.person)
        self.places = [(block, self._having(block.flags)) for block in lexicon.phrases["place"]]
        self.company = [(block, self._having(block.flags)) for block in lexicon.phrases["company"]]
        self.wholes = tuple(noun for noun in nouns if noun.classes & {"building", "tower"})
        self.numbers = {block.english[0]: block.french[0] for block in lexicon.phrases["number"]}
        self.number_words = tuple(self.numbers)
        self.measures = {noun: tuple(b for b in lexicon.phrases["measure"] if noun.name in b.flags) for noun in nouns}

    def _having(self, classes: frozenset[str]) -> tuple[Noun, ...]:
        wanted = {name for name in classes if name[0] != "-"}
        unwanted = {name[1:] for name in classes if name[0] == "-"}
        return tuple(n for n in self.common if n.classes & wanted and not n.classes & unwanted)

    @cache  # noqa: B019 - views live as long as the program
    def fitting(self, section: str, longest: int) -> tuple[Block, ...]:
        """The phrases of a section with at most so many English words."""
        return tuple(b for b in self.lexicon.phrases[section] if len(b.english) <= longest)


def _sorted(nouns: object) -> tuple[Noun, ...]:
    return tuple(sorted(nouns, key=lambda noun: noun.name))  # type: ignore[call-overload]


@cache
def view(everything: bool) -> View:
    return View(load(), everything)


# Writes a relative clause: (draft, its noun, plural, room) -> French tokens, or none where nothing fits.
Relative = Callable[["Draft", Noun, bool, int], list[Token]]


class Draft:
    """A sentence being written. English words are said in order; French tokens point back to them."""

    def __init__(self, seen: View, random: Callable[[], float], relative: Relative) -> None:
        self.view, self.phrases, self.random, self.relative = seen, seen.lexicon.phrases, random, relative
        self.english: list[str] = []
        self.first = True  # no clause is complete yet
        self.things = 0  # nouns so far that "it" or "them" could be taken for
        self.subject: Agreement | None = None  # of the clause before
        self.object: tuple[Noun, Agreement] | None = None  # its direct object
        self.frame = "present"  # what time the sentence is about
        self.rich = False  # few clauses, with long noun phrases
        self.negated = False  # the clause being written is
        self.where = False  # the clause before may say where
        self.time = ""  # the phrases that could still say when

    def say(self, word: str) -> int:
        """Write an English word; returns its index."""
        self.english.append(word)
        return len(self.english) - 1

    def say_all(self, words: Sequence[str]) -> list[int]:
        start = len(self.english)
        self.english += words
        return list(range(start, len(self.english)))

    def place(self, block: Block, labels: int = 0) -> list[Token]:
        """Write a fixed phrase."""
        base = len(self.english)
        self.english += block.english
        return block.tokens(base, labels)

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.random() * len(items))]

    def allowed(self, labels: int) -> bool:
        """False where these phenomena together are held out, and this is not a test sentence."""
        return self.view.everything or not is_held_out(labels)
