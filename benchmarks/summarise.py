"""Headlines from reports about things that training never heard of, beside the first words of the report.

    python benchmarks/summarise.py [-o runs/summarise] [--seed 1] [--threads 1] [--reports 14000] [--headlines 500]

Trains a small model by `foveate train translate --task summarise` on made reports of 20 to 30 words (or takes one that
is there, `-o`), and writes headlines for reports of the test split, none of whose invented words
is in training: as long as those of training, and twice as long. The peer is what summaries are always compared with,
the first words of the text, as many as headlines of training have. It takes minutes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from figures import figure
from foveate.tasks.reports import Report, reports
from foveate.tasks.rouge import rouge
from foveate.tasks.translation import Translator, load
from recipes import arguments, made, place

GOALS = {"ROUGE-1": ">= 90", "ROUGE-2": ">= 85", "ROUGE-L": ">= 90"}
SHORT, LONG = (20, 30), (40, 60)  # words of a report
EPOCHS = 3
SMALL = {
    "vocabulary": 800,
    "width": 64,
    "hidden": 128,
    "dropout": 0,
    "state-dropout": 0,
    "warmup": 200,
    "batch-tokens": 1024,
}


def write(path: Path, given: Sequence[Report]) -> None:
    path.write_text("".join(f"{one.text}\t{one.headline}\n" for one in given), encoding="utf-8")


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def lead(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def copied(found: Sequence[str], given: Sequence[Report], known: set[str]) -> float:
    """The share of the words of headlines that training does not know which were written, letter for letter."""
    pairs = [(word, words(one)) for one, right in zip(found, given, strict=True) for word in words(right.headline)]
    unheard = [(word, own) for word, own in pairs if word not in known]
    return 100 * sum(word in own for word, own in unheard) / len(unheard)


def measure(
    model: Translator, name: str, given: Sequence[Report], known: set[str], count: int, threads: int, goals: bool
) -> None:
    """The figures of some reports; `count` words make a lead, `known` are the words of training."""
    found = [one.text for one in model.translate([one.text for one in given], weights=False)]
    right = [[one.headline] for one in given]
    others = [lead(one.text, count) for one in given]
    peers = rouge(others, right)
    for metric, score in rouge(found, right).items():
        goal = GOALS[metric] if goals else None
        figure(
            f"{metric}, {name}", score, "F1", goal=goal, peer=(f"first {count} words", peers[metric]), threads=threads
        )
    whole = 100 * sum(text == one.headline for text, one in zip(found, given, strict=True)) / len(given)
    figure(f"headlines right word for word, {name}", whole, "%", threads=threads)
    peer = f"first {count} words", copied(others, given, known)
    figure(f"unheard-of words copied right, {name}", copied(found, given, known), "%", peer=peer, threads=threads)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--reports", type=int, default=14_000)
    parser.add_argument("--headlines", type=int, default=500)
    own, rest = parser.parse_known_args(given)
    chosen = arguments(__doc__, rest)
    chosen.epochs = chosen.epochs or EPOCHS
    with place(chosen) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        train = list(reports(chosen.seed, own.reports, words=SHORT))
        files = {
            "train": train,
            "valid": list(reports(chosen.seed, min(200, own.reports // 10), words=SHORT, split="valid")),
        }
        for name, some in files.items():
            write(folder / f"{name}.tsv", some)
        options = [f"--{name}={folder / name}.tsv" for name in files] + [f"--{name}={n}" for name, n in SMALL.items()]
        facts = made(chosen, folder / "summariser", "translate", "--task", "summarise", *options, "--precision=float32")
        trained = facts["trained"]
        print(f"{facts['parameters']:,} parameters, {trained['epochs']} epochs, {trained['steps']:,} steps, "
              f"{trained['seconds']} s; validation {trained['validation']}")  # fmt: skip
        model = load(folder / "summariser")
        known = {word for one in train for word in words(f"{one.text} {one.headline}")}
        count = round(sum(len(one.headline.split()) for one in train) / len(train))
        for name, lengths, goals in (("held-out names", SHORT, True), ("reports twice as long", LONG, False)):
            tried = list(reports(2, own.headlines, words=lengths, split="test"))
            measure(model, name, tried, known, count, chosen.threads, goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
