"""Answer questions from texts about things that training never heard of, and from a store of 100,000 facts.

    python benchmarks/qa.py [-o runs/qa] [--seed 1] [--threads 1] [--model DIR] [--questions 1000] [--facts 100000]
                            [--drawn 2]

Trains a model by `foveate train qa` with its usual settings, or takes one that is there (`-o`, `--model`; `--model
builtin` is that of the package). All names and numbers of the questions are of the test split, drawn from the seed
`--drawn`; the long texts are four to five times as long as the longest of training. An answer is right if it is so word
for word. The peer reads the same: of all sentences it takes the one that shares most words with the question, the
rarest of them most, and guesses all of its words that the question has not and that training does not know, in one run
of them. It takes minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from figures import figure
from foveate.tasks import facts
from foveate.tasks.answerer import Answerer, load, load_builtin
from foveate.tasks.answering import asked
from foveate.tasks.words import cut_words
from recipes import arguments, place, trained

LONGEST = 60  # words of a text of training


def same(one: str, other: str) -> bool:
    return [w.lower() for w in cut_words(one)] == [w.lower() for w in cut_words(other)]


def overlap(answerer: Answerer, question: str, context: str) -> str:
    """What shared words alone find."""
    wanted = {word.lower() for word in asked(question)}
    rarity = answerer.rarity

    def shared(sentence: Sequence[str]) -> float:
        return sum(rarity(word.lower()) for word in set(sentence) if word.lower() in wanted)

    sentences: list[list[str]] = [[]]
    for word in cut_words(context):
        sentences[-1].append(word)
        if word == ".":
            sentences.append([])
    best = max(sentences, key=shared)
    runs: list[list[str]] = [[]]
    for word in best:
        if word.lower() in wanted or word.lower() in answerer.recipe.numbers:
            runs.append([])
        else:
            runs[-1].append(word)
    return " ".join(max(runs, key=len))


def share(found: Sequence[bool]) -> float:
    return 100 * sum(found) / len(found)


def texts(answerer: Answerer, name: str, goal: str, drawn: Iterator[facts.Question], threads: int) -> None:
    given = list(drawn)
    right = share([same(answerer.ask(one.question, one.context).answer, one.answer) for one in given])
    other = share([same(overlap(answerer, one.question, one.context), one.answer) for one in given])
    figure(name, right, "%", goal=goal, peer=("shared words", other), threads=threads)


def store(answerer: Answerer, given: list[facts.Question], questions: int, threads: int) -> None:
    count = len(given)
    start = time.perf_counter()
    kept = answerer.store([one.context for one in given])
    took = time.perf_counter() - start
    some = torch.randperm(count, generator=torch.Generator().manual_seed(1))[:questions].tolist()
    start = time.perf_counter()
    found = [answerer.ask_store(given[line].question, kept) for line in some]
    each = (time.perf_counter() - start) / len(some)
    right = [same(answer.answer, given[line].answer) for answer, line in zip(found, some, strict=True)]
    pairs = list(zip(found, some, strict=True))
    guesses = [overlap(answerer, given[line].question, " ".join(answer.words)) for answer, line in pairs]
    other = share([same(guess, given[line].answer) for guess, line in zip(guesses, some, strict=True)])
    read = share([answer.fact == line for answer, line in zip(found, some, strict=True)])
    figure(f"right answers from a store of {count:,} facts", share(right), "%", peer=("shared words", other))
    figure(f"answers read from the very fact, of {count:,}", read, "%", threads=threads)
    figure(f"a store of {count:,} facts is made in", took, "s", threads=threads)
    figure(f"one question to {count:,} facts", 1000 * each, "ms", threads=threads)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--facts", type=int, default=100_000)
    parser.add_argument("--drawn", type=int, default=2)
    own, rest = parser.parse_known_args(given)
    chosen = arguments(__doc__, rest)
    with place(chosen) as folder:
        if own.model is None:
            trained(chosen, Path(folder) / "qa", "qa", [])
        answerer = load_builtin() if own.model == "builtin" else load(own.model or Path(folder) / "qa")
        threads = chosen.threads
        long = (4 * LONGEST, 5 * LONGEST)
        for name, goal, words in (
            ("as long as in training", ">= 98", (12, LONGEST)),
            ("four times as long", ">= 90", long),
        ):
            drawn = facts.questions(own.drawn, own.questions, words=words, split="test")
            texts(answerer, f"held-out names, texts {name}", goal, drawn, threads)
        store(answerer, list(facts.facts(own.drawn, own.facts)), min(own.questions, own.facts), threads)
        seed = answerer.ask("What is the capital of France?", "France is a country. Paris is the capital.")
        weight = 100 * seed.weights[seed.words.index("Paris")]
        figure("weight on Paris, capital of France", weight, "%", threads=threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
