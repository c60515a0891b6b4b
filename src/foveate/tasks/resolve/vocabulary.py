"""Words and their numbers.

Known words have a number of their own. An inflected form of a known word borrows that word's number, and any other
word falls into one of a few shared buckets by its ending and a hash, so every word of every sentence has an embedding.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from zlib import crc32

from .grammar import pairs, words_of
from .lexicon import Lexicon, Saying

__all__ = ["Vocabulary"]

ENDINGS = ("ing", "ed", "ly", "ness", "er", "s", "")
SPELLINGS = {
    "mum": "mom", "grey": "gray", "tyre": "tire", "tyres": "tires", "pyjamas": "pajamas", "aeroplane": "airplane",
    "telly": "television", "granny": "grandma", "doggy": "dog", "kitty": "kitten",
    "automobile": "car", "plough": "plow",
    "cosy": "cozy",
}  # fmt: skip
ENDINGS_OFF = {
    "ies": ("y",), "es": ("", "e"), "s": ("",), "ied": ("y",), "ed": ("", "e"), "ing": ("", "e", "ed"), "ier": ("y",),
    "er": ("", "e"), "iest": ("y",), "est": ("", "e"), "ily": ("y",), "ly": ("",), "y": ("",),
}  # fmt: skip
BUCKETS = 8
RARE = 12
MORE = """it its they their them he she him her his hers i we you n't 's . , ; ? ! is are was were am be been
a an the some this that these those because since as so and but although until when after while though
once soon if whenever still never always already suddenly finally tried decided began"""
SPECIAL = ("<pad>", "<mask>")
SURFACE = re.compile(r"n[’']t|[^\W\d_]+?(?=n[’']t)|[^\W\d_]+(?:-[^\W\d_]+)*|[’'][^\W\d_]+|\d+|[^\w\s]", re.IGNORECASE)


@dataclass(frozen=True)
class Vocabulary:
    """`words` in the order of their numbers, after the special ones and the buckets."""

    words: tuple[str, ...]
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    PAD = 0
    MASK = 1
    FIRST_BUCKET = len(SPECIAL)
    FIRST_WORD = len(SPECIAL) + len(ENDINGS) * BUCKETS

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {word: i + self.FIRST_WORD for i, word in enumerate(self.words)})

    def __len__(self) -> int:
        return self.FIRST_WORD + len(self.words)

    def bucket(self, word: str) -> int:
        """The number shared by unknown words that end and hash alike."""
        ending = next(i for i, ending in enumerate(ENDINGS) if word.endswith(ending))
        return self.FIRST_BUCKET + ending * BUCKETS + crc32(word.encode()) % BUCKETS

    def number(self, word: str) -> int:
        """The number of one lower-case word."""
        if word in self.index:
            return self.index[word]
        return next((self.index[stem] for stem in stems(word) if stem in self.index), self.bucket(word))

    def numbers(self, words: Iterable[str]) -> list[int]:
        """The numbers of lower-case words."""
        return [self.number(word) for word in words]

    def tokenize(self, text: str) -> tuple[list[str], list[int]]:
        """Split as the text is written, and number: "It's" -> (["It", "'s"], [.., ..])."""
        shown = SURFACE.findall(text)
        plain = [word.lower().replace("’", "'") for word in shown]
        for i, word in enumerate(plain[:-1]):
            if plain[i + 1] == "n't":
                plain[i] = {"ca": "can", "wo": "will", "sha": "shall"}.get(word, word)
        return shown, self.numbers(plain)


def stems(word: str) -> Iterable[str]:
    """Words of which `word` may be an inflected form, likeliest first."""
    if word in SPELLINGS:
        yield SPELLINGS[word]
    if "our" in word:
        yield word.replace("our", "or")
    if "mould" in word:
        yield word.replace("mould", "mold")
    if "-" in word:
        yield word.replace("-", "")
        yield word.split("-")[-1]
    for ending, others in ENDINGS_OFF.items():
        if word.endswith(ending) and len(word) > len(ending) + 2:
            stem = word[: -len(ending)]
            for other in others:
                yield stem + other
            if len(stem) > 2 and stem[-1] == stem[-2]:
                yield stem[:-1]
    if not word.endswith("s"):
        yield word + "s"


def build(lexicon: Lexicon, sentences: Iterable[Sequence[str]], size: int) -> Vocabulary:
    """Every word of the lexicon, then the most frequent words of `sentences`, up to `size` numbers.

    A rare word gets no number: as one of the unknown it is understood by what the other words leave over, which
    works better than an embedding that was hardly ever trained. The nouns held out from training are no exception.
    """
    hidden = {form for noun in lexicon.held_out[1] for form in (noun, lexicon.english.plural_of(noun))}
    words = dict.fromkeys(word for word in lexicon_words(lexicon) if word not in hidden)
    counts = Counter(word for sentence in sentences for word in sentence)
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(words) + Vocabulary.FIRST_WORD >= size or count < RARE:
            break
        words[word] = None
    return Vocabulary(tuple(words))


def lexicon_words(lexicon: Lexicon) -> Iterable[str]:
    """All words that the grammar can write, and a few more."""
    english = lexicon.english

    def phrase(saying: Saying) -> Iterable[str]:
        yield from words_of(saying.text)
        verb = saying.text.split()[0]
        if saying.kind in ("vp", "obj"):
            base = english.base_of(verb)
            yield from (base, english.third_person(base), english.progressive(base))

    yield from MORE.split()
    for noun in lexicon.features:
        yield from noun.split("_")
        yield english.plural_of(noun).split("_")[-1]
    for frame in lexicon.frames:
        yield from (word for word in words_of(frame.text) if word not in ("b", "x", "p", "q"))
        for verb in frame.text.split()[1:2]:
            base = english.base_of(verb)
            yield from (base, english.third_person(base), english.progressive(base))
        for saying in (*frame.a_says, *frame.b_says):
            yield from phrase(saying)
    for predicate in lexicon.predicates:
        for saying in predicate.sayings:
            yield from phrase(saying)
    for item in lexicon.lists["copula"]:
        base = english.base_of(item.split()[0])
        yield from (base, english.third_person(base))
    for items in lexicon.lists.values():
        for item in items:
            yield from words_of(item)
    for pair in islice(pairs(lexicon, Random(0)), 4000):
        yield from (word for example in pair for word in example.words)
