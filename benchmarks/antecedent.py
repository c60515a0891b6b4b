"""The built-in model without one of its heads: how much of what it knows about pronouns does each carry?

    python benchmarks/antecedent.py [--pairs 500] [--model DIR] [--threads 1]

Antecedent heads are found first, on other sentences, by where they look from the pronoun: at the antecedent, with more
than twice what they put on the other noun. Of these the one is taken without which most of those sentences go wrong.
Then each head in turn is knocked out, on held-out frames: the share of sentences whose antecedent still comes first of
all words.
"""

from __future__ import annotations

import argparse
import random
from itertools import islice
from pathlib import Path

import torch

import foveate as fv
from figures import figure
from foveate.tasks.resolve import lexicon as lexicons
from foveate.tasks.resolve import load_builtin
from foveate.tasks.resolve.evaluate import looks, score
from foveate.tasks.resolve.grammar import pairs
from foveate.tasks.resolve.resolution import load
from foveate.tasks.resolve.train import split_of

LEAST = 0.25  # of a pronoun's attention


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=500, help="flip pairs of held-out frames (500)")
    parser.add_argument("--model", type=Path, help="folder of a trained model (default: the one of the package)")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = load(given.model) if given.model else load_builtin()
    lexicon = lexicons.load()
    split = split_of(lexicon)
    other, found = (
        list(islice(pairs(lexicon, random.Random(seed), split, held_out=kind, people=0), count))
        for seed, kind, count in ((2, "combinations", 200), (1, "frames", given.pairs))
    )
    with torch.no_grad(), fv.watch(model) as seen:
        model(torch.tensor([model.tokenize("The cat sat on the mat because it was tired.")[1]]))
    heads = {f"{at}.{h}": (name, h) for at, (name, w) in enumerate(seen.items()) for h in range(w.shape[1])}

    def lost(head: str, examples: list) -> float:
        with fv.knockout(model, heads={heads[head]}):
            return 100 * (whole[id(examples)] - score(model, examples).single)

    whole = {id(examples): score(model, examples).single for examples in (other, found)}
    looked = {head: to for head, to in looks(model, other).items() if to[0] > max(LEAST, 2 * to[1])}
    points = {head: lost(head, found) for head in heads}
    for head, to in looked.items():
        print(f"{head}: {to[0]:.2f} on the antecedent, {to[1]:.2f} on the other noun; {points[head]:.1f} points lost")
    best = max(looked, key=lambda head: lost(head, other))
    antecedent, rest = points.pop(best), points
    print("all other heads:", " ".join(f"{head} {one:.1f}" for head, one in rest.items()))
    figure("held-out frames, antecedent first of all words", 100 * whole[id(found)], "%", threads=given.threads)
    figure(f"lost without the antecedent head {best}", antecedent, "points", goal=">= 20", threads=given.threads)
    figure(
        "lost without another head, mean", sum(rest.values()) / len(rest), "points", goal="< 3", threads=given.threads
    )
    figure("lost without another head, at most", max(rest.values()), "points", threads=given.threads)


if __name__ == "__main__":
    main()
