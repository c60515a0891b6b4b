"""Answer questions from pages of invented facts: exact answers, and on pages with four times as many facts.

    python benchmarks/qa.py [-o runs/qa] [--seed 1] [--threads 1]

A BiGRU and a Transformer by `foveate train qa` with its usual settings on 20,000 pages of at most 6 facts; every name
of validation and test is made up anew. Beside them a rule without any learning: of the sentence that shares the most
words with the question, the last capitalised word that the question has not. It takes minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from figures import figure
from foveate.tasks import facts
from foveate.tasks.lookup import LookingUp, Reader, load
from recipes import arguments, place, trained

GOAL, LONG_GOAL = ">= 98", ">= 90"
SEED_QUESTION = "What is the capital of France?", "France is a country. Paris is the capital."


def by_rule(path: Path) -> float:
    """Exact answers in percent of the rule above."""
    rows = LookingUp.read(path, None, skip_bad=False).items
    right = 0
    for one in rows:
        ends = [place for place, word in enumerate(one.page) if word == "."]
        starts = [0, *(end + 1 for end in ends[:-1])]
        asked = set(one.question)
        start, end = max(zip(starts, ends, strict=True), key=lambda span: len(asked & set(one.page[span[0] : span[1]])))
        names = [at for at in range(start, end) if one.page[at][:1].isupper() and one.page[at] not in asked]
        right += bool(names) and names[-1] == one.place
    return 100 * right / len(rows)


def exact(reader: Reader, path: Path) -> float:
    """Exact answers of a model in percent."""
    rows = LookingUp.read(path, None, skip_bad=False).items
    return reader.recipe.scores(reader.model, rows, 2048)["accuracy"]


def main(given: list[str] | None = None) -> int:
    chosen = arguments(__doc__, given)
    with place(chosen) as folder:
        if not (folder / "data" / "long.tsv").is_file():
            facts.write(folder / "data", seed=chosen.seed)
        files = [folder / "data" / f"{name}.tsv" for name in ("train", "valid", "test")]
        long = folder / "data" / "long.tsv"
        rules = by_rule(files[2]), by_rule(long)
        for name, arch in (("BiGRU", "rnn"), ("Transformer", "transformer")):
            found = trained(chosen, folder / name, "qa", files, f"--arch={arch}")["test"]["accuracy"]
            reader = load(folder / name)
            peer = "the rule without learning"
            title = f"answers from pages of invented facts, {name}"
            figure(f"{title}, as long as in training", found, "%", goal=GOAL, peer=(peer, rules[0]))
            figure(f"{title}, 4 times as long", exact(reader, long), "%", goal=LONG_GOAL, peer=(peer, rules[1]))
            said = reader.find(*SEED_QUESTION)
            read = said.weights[said.page.index("Paris")]
            figure(f"“{SEED_QUESTION[0]}”: weight on Paris, {name}", round(100 * read, 2), "%", threads=chosen.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
