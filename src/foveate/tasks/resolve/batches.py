"""Training batches: sentences of one length each, so that nothing is padded and nothing masked.

Half of a pool comes from the grammar (a pronoun to resolve), half from Tatoeba (words to guess).
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from .grammar import Example, Split, pairs, words_of
from .lexicon import Lexicon
from .vocabulary import Vocabulary

__all__ = ["Batch", "batches", "read_english", "word_counts"]

LONGEST = 28
UNKNOWN_WORD = 0.015
UNKNOWN_NOUN = 0.12


@dataclass(frozen=True)
class Batch:
    """`ids_BL` holds first the sentences to resolve, R of them; `places_N2` and `words_N` are the masked words."""

    ids_BL: Tensor
    pronoun_R: Tensor
    antecedent_R: Tensor
    places_N2: Tensor
    words_N: Tensor


def read_english(path: Path) -> list[list[str]]:
    """The distinct English sentences of a Tatoeba file (English, tab, French), as words."""
    if not path.is_file():
        raise ValueError(
            f"no {path.name} in {path.parent.name}; set FOVEATE_DATA to the folder that holds tatoeba-en-fr"
        )
    lines = dict.fromkeys(line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines())
    return [words_of(line) for line in lines]


def word_counts(english: list[list[str]]) -> Counter[str]:
    """How often each word occurs."""
    return Counter(word for words in english for word in words)


def batches(
    lexicon: Lexicon, vocabulary: Vocabulary, english: list[list[str]], split: Split, rng: random.Random,
    *, size: int, pool: int = 8192, share: float = 0.75,
) -> Iterator[Batch]:  # fmt: skip
    """Batches without end; `share` of the sentences come from the grammar."""
    drawn = pairs(lexicon, rng, split, counts=word_counts(english))
    real = [vocabulary.numbers(words) for words in english if 3 <= len(words) <= LONGEST]
    while True:
        lengths: dict[int, tuple[list[Example], list[list[int]]]] = defaultdict(lambda: ([], []))
        for pair in islice(drawn, int(pool * share) // 2):
            for example in pair:
                lengths[len(example.words)][0].append(example)
        for numbers in rng.choices(real, k=int(pool * (1 - share))):
            lengths[len(numbers)][1].append(numbers)
        cut = []
        for examples, sentences in lengths.values():
            count = max(1, round((len(examples) + len(sentences)) / size))
            rng.shuffle(examples)
            cut += [(examples[i::count], sentences[i::count]) for i in range(count)]
        rng.shuffle(cut)
        for examples, sentences in cut:
            if len(examples) + len(sentences) >= size // 4:
                yield assemble(examples, sentences, vocabulary, rng)


def numbers_of(example: Example, vocabulary: Vocabulary, rng: random.Random) -> list[int]:
    """Numbers for the words; now and then a word, or one of the two nouns, is made unknown."""
    row = vocabulary.numbers(example.words)
    unknown = {i for i in range(len(row)) if i != example.pronoun and rng.random() < UNKNOWN_WORD}
    if rng.random() < UNKNOWN_NOUN:
        unknown.add(rng.choice((example.antecedent, example.distractor)))
    for i in unknown:
        ending = example.words[i][-3:] if rng.random() < 0.5 else ""
        row[i] = vocabulary.bucket(f"{rng.random()}{ending}")
    return row


def assemble(examples: list[Example], sentences: list[list[int]], vocabulary: Vocabulary, rng: random.Random) -> Batch:
    """Numbers for the words; some words of the real sentences are masked."""
    rows = [numbers_of(example, vocabulary, rng) for example in examples]
    places, words = [], []
    for sentence in sentences:
        row = list(sentence)
        for i, number in enumerate(sentence):
            if rng.random() < 0.15:
                places.append((len(rows), i))
                words.append(number)
                draw = rng.random()
                row[i] = Vocabulary.MASK if draw < 0.8 else rng.randrange(2, len(vocabulary)) if draw < 0.9 else number
        rows.append(row)
    return Batch(
        torch.tensor(rows),
        torch.tensor([e.pronoun for e in examples], dtype=torch.long),
        torch.tensor([e.antecedent for e in examples], dtype=torch.long),
        torch.tensor(places, dtype=torch.long).reshape(-1, 2),
        torch.tensor(words, dtype=torch.long),
    )
