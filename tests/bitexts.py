"""What the tests of the English-French grammar share: sentences drawn, and the nouns found in them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from foveate.tasks.bitext import Sentence, generate
from foveate.tasks.bitext.lexicon import Noun, load

LEXICON = load()
SEEDS = st.integers(0, 10**6)
SPLITS = st.sampled_from(("train", "valid", "test"))
some = settings(max_examples=20, deadline=None)


def few(seed: int, split: str, count: int = 12) -> list[Sentence]:
    return list(generate(seed, count, lengths=(3, 40), split=split))


NOUNS = {words: (noun, many) for noun in LEXICON.nouns if not noun.proper
         for words, many in ((noun.block.english, False), (noun.english_plural, True))}  # fmt: skip
ADJECTIVES = {adjective.name: adjective for adjective in LEXICON.adjectives}


def nouns_of(s: Sentence) -> list[tuple[int, Noun, bool]]:
    """(index of the first English word, noun, plural) of every common noun; "washing machine" before "machine"."""
    found, place = [], 0
    while place < len(s.source):
        for size in (2, 1):
            entry = NOUNS.get(s.source[place : place + size])
            if entry is not None:
                found.append((place, *entry))
                place += size - 1
                break
        place += 1
    return found
