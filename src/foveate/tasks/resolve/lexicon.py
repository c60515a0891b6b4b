"""Read `lexicon/*.txt`: nouns and what is true of them, predicates and what they are said of, sentence frames.

The format of each file is explained in its first lines. A mistake raises ValueError with file, line and remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

from .english import English

__all__ = ["Frame", "Lexicon", "Predicate", "Saying", "load"]

KINDS = ("adj", "vp", "own", "obj")
CONNECTIVES = ("until", "because")


@dataclass(frozen=True)
class Saying:
    """Said of a noun: an adjective ("adj"), a past-tense verb phrase ("vp"), "its ..." ("own"), "... it" ("obj")."""

    kind: str
    text: str


@dataclass(frozen=True)
class Predicate:
    """Sayings that hold of the same nouns: `true_of` and `false_of` are disjoint; of other nouns nothing is known."""

    sayings: tuple[Saying, ...]
    true_of: frozenset[str]
    false_of: frozenset[str]


@dataclass(frozen=True)
class Frame:
    """A main clause with the slots A, B and perhaps X, who may fill them, and what then speaks of A or of B.

    A clause about two people has the slots P and Q; `a` and `b` belong to them.
    """

    text: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    a_says: tuple[Saying, ...] = ()
    b_says: tuple[Saying, ...] = ()
    connective: str = ""
    people: bool = False


@dataclass(frozen=True)
class Lexicon:
    """Everything the grammar draws from. `features[noun]` contains the noun itself."""

    english: English
    features: dict[str, frozenset[str]]
    predicates: tuple[Predicate, ...]
    frames: tuple[Frame, ...]
    lists: dict[str, tuple[str, ...]]
    held_out: tuple[tuple[str, ...], tuple[str, ...]]
    true_of: dict[str, frozenset[int]] = field(repr=False)
    false_of: dict[str, frozenset[int]] = field(repr=False)

    def between(self, a: str, b: str) -> list[int]:
        """Indices of the predicates that can be said of noun `a` and cannot be said of noun `b`."""
        return sorted(self.true_of[a] & self.false_of[b])


@cache
def load() -> Lexicon:
    """The lexicon of the package, parsed once."""
    english = _english()
    features = _features()
    known = frozenset().union(*features.values())
    predicates = tuple(_predicates(features, known))
    frames = (*_frames("frames.txt", features, known), *_frames("people.txt", features, known))
    true_of = {n: frozenset(i for i, p in enumerate(predicates) if n in p.true_of) for n in features}
    false_of = {n: frozenset(i for i, p in enumerate(predicates) if n in p.false_of) for n in features}
    lists = {key: tuple(_items(text)) for _, key, text in _lines("fillers.txt")}
    return Lexicon(english, features, predicates, frames, lists, _held_out(features, frames), true_of, false_of)


def _held_out(
    features: dict[str, frozenset[str]], frames: tuple[Frame, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Frames and nouns that training must not see."""
    lists = {key: (where, text) for where, key, text in _lines("heldout.txt")}
    found = tuple(_items(lists["frames"][1])), tuple(lists["nouns"][1].split())
    for name, known, where in (*((f, {x.text for x in frames}, lists["frames"][0]) for f in found[0]),
                               *((n, features, lists["nouns"][0]) for n in found[1])):  # fmt: skip
        if name not in known:
            raise ValueError(f"{where}: '{name}' is held out but not in the lexicon")
    return found


def _lines(name: str) -> Iterator[tuple[str, str, str]]:
    """(where, left of the colon, right of it) for each entry; lines that begin with a tab continue the last one."""
    text = resources.files(__package__).joinpath("lexicon", name).read_text(encoding="utf-8")
    entry, where = "", ""
    for number, line in enumerate([*text.splitlines(), "end :"], 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("\t"):
            entry += " " + line.strip()
            continue
        if entry:
            yield where, *_split(entry, where)
        entry, where = line.strip(), f"{name}, line {number}"


def _split(entry: str, where: str) -> tuple[str, str]:
    left, colon, right = entry.partition(":")
    if not colon or not left.strip() or not right.strip():
        raise ValueError(f"{where}: expected 'something : something'; got no text on one side of the colon")
    return left.strip(), right.strip()


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _english() -> English:
    plural: dict[str, str] = {}
    base: dict[str, str] = {}
    words: dict[str, frozenset[str]] = {}
    for where, kind, text in _lines("irregular.txt"):
        if kind == "plural":
            plural |= {pair.split()[0]: pair.split()[1] for pair in _items(text)}
        elif kind == "past":
            base |= {item.split()[0]: item.split()[-1] for item in _items(text)}
        elif kind in ("mass", "pluralonly"):
            words[kind] = frozenset(text.split())
        else:
            raise ValueError(f"{where}: unknown kind '{kind}'; expected plural, past, mass or pluralonly")
    return English(plural, base, words["mass"], words["pluralonly"])


def _features() -> dict[str, frozenset[str]]:
    features: dict[str, set[str]] = {}
    for _, left, right in _lines("nouns.txt"):
        for noun in right.split():
            features.setdefault(noun, {noun}).update(left.split())
    for found in features.values():
        found.add("living" if found & {"animal", "person"} else "thing")
    return {noun: frozenset(found) for noun, found in features.items()}


def _select(features: dict[str, frozenset[str]], wanted: list[str]) -> frozenset[str]:
    return frozenset(noun for noun, found in features.items() if not found.isdisjoint(wanted))


def _check(where: str, names: list[str], known: frozenset[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: '{name}' is neither a feature nor a noun; add it to nouns.txt")


def _predicates(features: dict[str, frozenset[str]], known: frozenset[str]) -> Iterator[Predicate]:
    for where, left, right in _lines("predicates.txt"):
        kind, *names = left.replace("!", " ! ").split()
        if kind not in KINDS:
            raise ValueError(f"{where}: unknown kind '{kind}'; expected adj, vp, own or obj")
        maybe = [name[1:] for name in names if name.startswith("~")]
        names = [name for name in names if not name.startswith("~")]
        cut = names.index("!") if "!" in names else len(names)
        true, denied = names[:cut], names[cut + 1 :]
        _check(where, [*maybe, *true, *denied], known)
        true_of = _select(features, true)
        missing = next((text for text in _items(right) if kind == "obj" and "it" not in text.split()[1:]), None)
        if missing is not None:
            raise ValueError(f"{where}: '{missing}' says nothing of 'it'")
        others = _select(features, denied) if denied else frozenset(features)
        false_of = others - true_of - _select(features, maybe)
        yield Predicate(tuple(Saying(kind, text) for text in _items(right)), true_of, false_of)


def _frames(name: str, features: dict[str, frozenset[str]], known: frozenset[str]) -> Iterator[Frame]:
    text = resources.files(__package__).joinpath("lexicon", name).read_text(encoding="utf-8")
    frame: Frame | None = None
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}, line {number}"
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith("\t"):
            if frame is not None:
                yield frame
            frame = _frame(where, line, features, known)
            continue
        key, colon, says = line.strip().partition(":")
        kind = {"is": "adj", "did": "vp"}.get(key[2:])
        side = {"a": "a_says", "p": "a_says", "b": "b_says", "q": "b_says"}.get(key[0])
        if frame is None or not colon or kind is None or side is None:
            raise ValueError(f"{where}: expected 'a is:', 'a did:', 'b is:' or 'b did:' (or p, q) below a frame")
        sayings = tuple(Saying(kind, item) for item in _items(says))
        frame = replace(frame, **{side: getattr(frame, side) + sayings})
    if frame is not None:
        yield frame


def _frame(where: str, line: str, features: dict[str, frozenset[str]], known: frozenset[str]) -> Frame:
    parts = [part.strip() for part in line.split("|")]
    words = parts[0].split()
    people = {"P", "Q"} <= set(words)
    if len(parts) != 3 or not (people or {"A", "B"} <= set(words)):
        raise ValueError(f"{where}: expected 'FRAME with A and B (or P and Q) | features of A | features of B'")
    connective = words.pop() if words[-1] in CONNECTIVES else ""
    connective = "" if connective == "because" else connective
    persons = frozenset(noun for noun, found in features.items() if "person" in found)
    slots = []
    for part in parts[1:]:
        wanted = [name for name in part.split() if not name.startswith("-")]
        unwanted = [name[1:] for name in part.split() if name.startswith("-")]
        wanted = ["person" if name == "anyone" else name for name in wanted]
        _check(where, [*wanted, *unwanted], known)
        chosen = _select(features, wanted) - _select(features, unwanted)
        slots.append(tuple(sorted(chosen & persons if people else chosen - persons)))
    if "anyone" in line:
        slots = [(*slot, "anyone") if "anyone" in part else slot for slot, part in zip(slots, parts[1:], strict=True)]
    return Frame(" ".join(words), slots[0], slots[1], connective=connective, people=people)
