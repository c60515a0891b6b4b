"""Sentences in which one word decides what a pronoun stands for.

`pairs(lexicon, rng)` yields flip pairs: the same main clause and the same two nouns, once with something that can be
said of the first noun alone, once with something that can be said of the second alone. Both members are always
emitted, so neither position nor noun predicts the answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from zlib import crc32

from .lexicon import Frame, Lexicon, Saying

__all__ = ["Example", "Split", "pairs", "words_of"]

NEGATABLE = ("was", "did", "could", "would", "is", "does", "were", "had", "will", "do", "are", "can")
MANY = ("i", "we", "you", "they", "kids", "children", "boys", "parents", "girls", "men", "students")
CAUSAL = ("because", "because", "because", "because", "because", "since", "as")
# Links before a remark; "|" separates them, "^" marks one that opens the sentence.
LINKS = """because|because|because|since|as|so|and|but|although|even though|until|when|after|while|though|and then
|so that day|.|.|.|,|;|, and|, but|, so|, because|^after|^when|^once|^as soon as|^before|^although|^if|so that
|until|before|whenever"""
OBJECT_LINKS = """, so|, so|so|and|and then|, and then|, and|, but|before|when|.|. then|after|^after|^when|^before
|^as soon as|until|because|;"""
# How much more often everyday nouns, clauses and sayings are drawn: powers of how often their words are met.
NOUN_POWER, FRAME_POWER, SAYING_POWER, COMMON = 0.35, 0.5, 0.4, 400
RELATIONAL = 0.7  # share of remarks that the frame suggests, where it suggests any
FRONT = ("because", "since", "as", "when", "although", "while", "after")


@dataclass(frozen=True)
class Example:
    """A tokenised sentence: `words[pronoun]` stands for `words[antecedent]`, not for `words[distractor]`."""

    words: tuple[str, ...]
    pronoun: int
    antecedent: int
    distractor: int
    frame: str


@dataclass(frozen=True)
class Split:
    """What training never sees: some frames, some nouns, and every twentieth combination of noun and predicate."""

    frames: frozenset[str]
    nouns: frozenset[str]

    def combination(self, noun: str, saying: Saying) -> bool:
        """True if this noun with this saying is kept for testing."""
        return crc32(f"{noun}/{saying.text}".encode()) % 20 == 0


@dataclass(frozen=True)
class Drawing:
    """The choices shared by both members of a pair."""

    frame: Frame
    a: str
    b: str
    plural: bool
    present: bool
    link: str


def words_of(text: str) -> list[str]:
    """Lower-case words and punctuation, with clitics apart: "It's" -> it 's, "didn't" -> did n't."""
    text = text.lower().replace("’", "'").replace("can't", "can n't").replace("won't", "will n't")
    return re.findall(r"n't|[^\W\d_]+?(?=n't)|[^\W\d_]+(?:-[^\W\d_]+)*|'[a-z]+|\d+|[^\w\s]", text)


class Writer:
    """Draws and writes sentences from a lexicon with one random generator."""

    def __init__(
        self, lexicon: Lexicon, rng: random.Random, split: Split | None, *,
        held_out: str = "", counts: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.lexicon, self.rng, self.split = lexicon, rng, split
        self.held_out = held_out
        self.links, self.object_links = (text.replace("\n", "").split("|") for text in (LINKS, OBJECT_LINKS))
        in_frames = "frames" in held_out
        chosen = [f for f in lexicon.frames if split is None or (f.text in split.frames) == in_frames]
        self.frames = [f for f in chosen if not f.people]
        self.people_frames = [f for f in chosen if f.people]
        self.counts = counts or {}
        self.weights = [_everyday(f.text.lower().split(), self.counts, FRAME_POWER) for f in self.frames]
        nouns = set(lexicon.features)
        self.new = split.nouns if split is not None and "nouns" in held_out else frozenset()
        if split is not None and not self.new:
            nouns -= split.nouns
        single = nouns - lexicon.english.plural_only
        many = nouns - lexicon.english.mass
        self.slots = {
            (id(f), plural): tuple([n for n in side if n in allowed] for side in (f.a, f.b))
            for f in self.frames
            for plural, allowed in ((False, single), (True, many))
        }
        self.saying_weight = cache(lambda text: _everyday(words_of(text), self.counts, SAYING_POWER))
        self.everyday = {noun: self.familiarity(noun) for noun in nouns}

    def draw(self) -> Drawing:
        """A frame and two nouns that at least one predicate tells apart each way."""
        rng = self.rng
        while True:
            frame = rng.choices(self.frames, self.weights)[0]
            plural = rng.random() < 0.1
            firsts, seconds = self.slots[id(frame), plural]
            if not firsts or not seconds:
                continue
            a, b = self.noun(firsts), self.noun(seconds)
            if a == b or a.split("_")[-1] == b.split("_")[-1]:
                continue
            if self.new and (a in self.new) == (b in self.new):
                continue
            return Drawing(frame, a, b, plural, rng.random() < 0.2, self.link(frame))

    def familiarity(self, noun: str) -> float:
        """How often a noun is drawn, against others."""
        many = self.lexicon.english.plural_of(noun)
        met = sum(self.counts.get(form.split("_")[-1], 0) for form in {noun, many})
        return float((1 + met) ** NOUN_POWER)

    def noun(self, nouns: Sequence[str]) -> str:
        """One of these nouns, an everyday one more often than a rare one."""
        return self.rng.choices(nouns, [self.everyday[noun] for noun in nouns])[0]

    def saying(self, sayings: Sequence[Saying]) -> Saying:
        """One of these sayings, one of everyday words more often than one with a rare word."""
        return self.rng.choices(sayings, [self.saying_weight(s.text) for s in sayings])[0]

    def link(self, frame: Frame) -> str:
        if frame.connective:
            return frame.connective
        return self.rng.choice(self.links)

    def sayings(self, drawn: Drawing) -> tuple[Saying, Saying, str] | None:
        """One saying true of a alone, one true of b alone, of the same kind if possible; and the link."""
        frame, rng = drawn.frame, self.rng
        relational = bool(frame.a_says or frame.b_says) and (bool(frame.connective) or rng.random() < RELATIONAL)
        if relational:
            firsts = self.allowed(drawn.a, frame.a_says)
            seconds = self.allowed(drawn.b, frame.b_says)
            link = frame.connective or rng.choice(CAUSAL)
        else:
            firsts, seconds, link = [], [], drawn.link
        kind = "obj" if not relational and rng.random() < 0.2 else ""
        firsts = firsts or self.generic(drawn.a, drawn.b, kind)
        seconds = seconds or self.generic(drawn.b, drawn.a, kind)
        if not firsts or not seconds:
            return None
        first = self.saying(firsts)
        second = self.saying([s for s in seconds if s.kind == first.kind] or seconds)
        return first, second, link

    def generic(self, noun: str, other: str, kind: str) -> list[Saying]:
        """Sayings of a few predicates that hold of `noun` and not of `other`, of a kind where that is wanted."""
        found = self.lexicon.between(noun, other)
        if not found:
            return []
        if kind == "obj":
            found = [i for i in found if self.lexicon.predicates[i].sayings[0].kind == kind] or found
        weights = [len(self.lexicon.predicates[i].sayings) ** 0.6 for i in found]
        chosen = self.rng.choices(found, weights, k=3)
        return self.allowed(noun, [s for i in chosen for s in self.lexicon.predicates[i].sayings])

    def allowed(self, noun: str, sayings: list[Saying] | tuple[Saying, ...]) -> list[Saying]:
        """The sayings of this noun that belong to this side of the split."""
        if self.split is None or "nouns" in self.held_out:
            return list(sayings)
        wanted = "combinations" in self.held_out
        return [s for s in sayings if self.split.combination(noun, s) == wanted]

    # -- writing

    def noun_phrase(self, noun: str, plural: bool) -> list[str]:
        """Determiner, perhaps an adjective, noun; the noun is the last word."""
        rng, english, lists = self.rng, self.lexicon.english, self.lexicon.lists
        words = (english.plural_of(noun) if plural else noun).split("_")
        if rng.random() < 0.03 and noun not in english.mass:
            words = [rng.choice(lists["modifier"]), *words]
        if rng.random() < 0.18:
            words = [*rng.choice(lists["adjective"]).split(), *words]
        draw = rng.random()
        if draw < 0.68:
            head = ["the"]
        elif draw < 0.80:
            if noun in english.mass or plural:
                head = ["some"]
            else:
                head = ["an" if words[0][0] in "aeiou" else "a"]
        elif draw < 0.95:
            head = rng.choice(lists["owner"]).split()
        elif draw < 0.98:
            head = ["these" if plural else "this"] if rng.random() < 0.5 else ["those" if plural else "that"]
        else:
            head = ["the"] if not plural else []
        return head + words

    def person(self) -> list[str]:
        lists, rng = self.lexicon.lists, self.rng
        key = rng.choice(("any person", "male name", "female name", "male person", "female person"))
        return rng.choice(lists[key]).split()

    def clause(self, drawn: Drawing, slots: dict[str, list[str]]) -> tuple[list[str], dict[str, int]]:
        """The main clause, and where its slots end."""
        words: list[str] = []
        ends: dict[str, int] = {}
        parts = drawn.frame.text.split()
        subject = next(i for i, part in enumerate(parts) if part in slots)
        if "there" in parts or "There" in parts:
            verb = "were" if drawn.plural else "is" if drawn.present else "was"
            parts = [verb if part == "was" else part for part in parts]
        else:
            if parts[subject + 1] in slots:
                subject += 1
            parts = [*parts[: subject + 1], *self.verb(drawn, parts[subject], parts[subject + 1 :], slots)]
        for part in parts:
            words += slots.get(part, [part.lower()])
            ends[part] = len(words) - 1
            if part in ("A", "B") and self.rng.random() < 0.03:
                words += self.rng.choice(self.lexicon.lists["attachment"]).split()
        return words, ends

    def verb(self, drawn: Drawing, subject: str, rest: list[str], slots: dict[str, list[str]]) -> list[str]:
        """The verb of the main clause in some tense, and what follows it."""
        rng, english = self.rng, self.lexicon.english
        verb, *after = rest
        base = english.base_of(verb)
        many = (drawn.plural and subject in "AB") or slots[subject][-1] in MANY
        be_now = "am" if slots[subject][-1] == "i" else "are" if many else "is"
        be_past = "were" if many and slots[subject][-1] != "i" else "was"
        if base in ("do", "can", "will", "be"):
            if drawn.present:
                now = {"do": "do" if many else "does", "can": "can", "will": "will", "be": be_now}
                verb = now[base]
            elif base == "be":
                verb = be_past
            return [verb, *after]
        style = rng.random()
        if drawn.present:
            if style < 0.25:
                return [be_now, english.progressive(base), *after]
            return [base if many else english.third_person(base), *after]
        if style < 0.14:
            return [be_past, english.progressive(base), *after]
        if style < 0.24:
            helper = rng.choice(("tried to", "wanted to", "had to", "could", "would", "began to", "decided to"))
            return [*helper.split(), base, *after]
        if style < 0.27 and verb.endswith("ed"):
            return ["had", verb, *after]
        return [verb, *after]

    def remark(self, saying: Saying, plural: bool, present: bool, link: str) -> list[str]:
        """What is said of the pronoun, which is the first word."""
        rng, english, lists = self.rng, self.lexicon.english, self.lexicon.lists
        if saying.kind == "own":
            return ["their" if plural else "its", *saying.text.split()]
        phrase = self.copula(saying.text, present) if saying.kind == "adj" else saying.text
        verb = phrase.split()[0]
        if link == "so that":
            would = rng.choice(("would", "would", "would not", "could", "will"))
            phrase = f"{would} {english.base_of(verb)} {phrase.partition(' ')[2]}"
        elif present and english.base_of(verb) != verb:
            phrase = english.present(phrase, plural)
        elif plural:
            phrase = english.plural_past(phrase)
        elif verb == "was" and saying.kind == "vp" and rng.random() < 0.05:
            phrase = re.sub(r"^was\b", rng.choice(("had been", "might be", "must be")), phrase)
        elif rng.random() < 0.03:
            phrase = f"{rng.choice(('still', 'never', 'always', 'already', 'suddenly', 'finally'))} {phrase}"
        if plural:
            phrase = re.sub(r"\bits\b", "their", phrase)
        words = ["they" if plural else "it", *words_of(phrase)]
        if words[2:3] == ["not"] and words[1] in NEGATABLE and rng.random() < 0.4:
            words[2] = "n't"
        if rng.random() < 0.07:
            words += rng.choice(lists["ending"]).split()
        return words

    def deed(self, saying: Saying, plural: bool, present: bool, x: list[str] | None) -> tuple[list[str], int]:
        """What somebody does to the pronoun, and the place of the pronoun in it."""
        rng, english, lists = self.rng, self.lexicon.english, self.lexicon.lists
        who = self.again(x) if x and rng.random() < 0.7 else self.person()
        verb, _, rest = saying.text.partition(" ")
        base = english.base_of(verb)
        many = who[-1] in MANY
        draw = rng.random()
        if draw < 0.25 and base not in ("can", "be", "have", "do"):
            helper = rng.choice(
                ("wanted to", "had to", "could", "could not", "tried to", "decided to", "began to", "would", "did not")
            )
            verb = f"{helper} {base}"
        elif present and base not in ("can", "be", "have", "do"):
            verb = base if many else english.third_person(base)
        words = [*who, *verb.split(), *words_of(rest)]
        at = words.index("it", len(who))
        if plural:
            words[at] = "them"
        if rng.random() < 0.07:
            words += rng.choice(lists["ending"]).split()
        return words, at

    def again(self, x: list[str]) -> list[str]:
        """How a person is mentioned the second time; sometimes not at all."""
        rng, lists, name = self.rng, self.lexicon.lists, " ".join(x)
        if x[-1] in ("i", "we", "you", "they"):
            return x
        if rng.random() < 0.15:
            return ["then"]
        for gender, pronoun in (("male", "he"), ("female", "she")):
            if name in lists[f"{gender} name"] or name in lists[f"{gender} person"]:
                return [pronoun]
        return ["they"] if x[-1] in MANY else [rng.choice(("he", "she"))]

    def copula(self, adjective: str, present: bool) -> str:
        rng, lists = self.rng, self.lexicon.lists
        if present:
            return f"{'was' if rng.random() < 0.8 else rng.choice(('looked', 'seemed', 'felt', 'got'))} {adjective}"
        link = "was" if rng.random() < 0.78 else rng.choice(lists["copula"])
        plain = not adjective.startswith(("too", "not", "very", "a ", "in ", "on ", "out ", "so ", "made", "for "))
        if link == "was not" and not plain:
            link = "was"
        if plain and rng.random() < 0.25:
            adjective = f"{rng.choice(lists['intensifier'])} {adjective}"
        return f"{link} {adjective}"

    def write(
        self, drawn: Drawing, slots: dict[str, list[str]], said: tuple[Saying, str, str], state: object
    ) -> Example:
        """One sentence: `said` is what is said, of A or of B, and after which link.

        `state` replays the same choices in the main clause for both members of a pair.
        """
        saying, answer, link = said
        keep = self.rng.getstate()
        self.rng.setstate(state)  # type: ignore[arg-type]
        lists, rng = self.lexicon.lists, self.rng
        clause, ends = self.clause(drawn, slots)
        opening = (
            rng.choice(lists["opening"]).split() + ([","] if rng.random() < 0.7 else []) if rng.random() < 0.1 else []
        )
        closing = rng.choice(lists["closing"]).split() if rng.random() < 0.08 else []
        tail = [",", *rng.choice(lists["tail"]).split()] if rng.random() < 0.03 else []
        front = link in FRONT and rng.random() < 0.06 and saying.kind != "obj"
        present = drawn.present or rng.random() < 0.06
        self.rng.setstate(keep)
        if saying.kind == "obj":
            remark, at = self.deed(saying, drawn.plural, present, slots.get("X"))
        else:
            remark, at = self.remark(saying, drawn.plural, present, link), 0
        if front:
            head, main, middle = [link, *remark, ","], clause, []
        elif link.startswith("^"):
            head, main, middle = link[1:].split(), clause, [*closing, ","]
            closing = []
        else:
            head, main, middle = opening, clause, [*closing, *link.split()]
            closing = []
        before = [*head, *main, *middle]
        pronoun = 1 if front else len(before) + at
        words = [*before, *closing, *([] if front else remark), *tail, "."]
        other = "B" if answer == "A" else "A"
        return Example(tuple(words), pronoun, ends[answer] + len(head), ends[other] + len(head), drawn.frame.text)

    def pair(self) -> tuple[Example, Example] | None:
        drawn = self.draw()
        said = self.sayings(drawn)
        if said is None:
            return None
        first, second, link = said
        slots = {"A": self.noun_phrase(drawn.a, drawn.plural), "B": self.noun_phrase(drawn.b, drawn.plural)}
        if "X" in drawn.frame.text.split():
            slots["X"] = self.person()
        object_link = self.rng.choice(self.object_links)
        links = [
            object_link if saying.kind == "obj" and not drawn.frame.connective else link for saying in (first, second)
        ]
        state = self.rng.getstate()
        self.rng.random()
        return (
            self.write(drawn, slots, (first, "A", links[0]), state),
            self.write(drawn, slots, (second, "B", links[1]), state),
        )


def _everyday(words: Sequence[str], counts: Mapping[str, int], power: float) -> float:
    """How often a phrase is drawn, against others: by its rarest word, as far as rarity matters."""
    rarest = min((counts.get(word, 0) for word in words if len(word) > 1), default=COMMON)
    return float((1 + min(rarest, COMMON)) ** power)


def pairs(
    lexicon: Lexicon, rng: random.Random, split: Split | None = None, *,
    held_out: str = "", people: float = 0.14, counts: Mapping[str, int] | None = None,
) -> Iterator[tuple[Example, Example]]:  # fmt: skip
    """Flip pairs without end.

    With a `split`, training sentences (`held_out=""`), or test sentences that differ from them in "frames", "nouns",
    "combinations" or several of these ("frames nouns"); with "nouns", one of the two nouns is new. `people` is the
    share of pairs about he, she and they. With `counts` of words in real text, everyday nouns and clauses are drawn
    more often than rare ones; without, all alike.
    """
    from .people import people_pair

    writer = Writer(lexicon, rng, split, held_out=held_out, counts=counts)
    while True:
        drawn = people_pair(writer) if not held_out and rng.random() < people else writer.pair()
        if drawn is not None:
            yield drawn
