"""Point at what phrases are about, in scenes whose pairs of colour and shape training never saw.

    python benchmarks/ground.py [-o runs/ground] [--seed 1] [--threads 1] [--model DIR] [--scenes 1000] [--drawn 2]

Trains a model by `foveate train ground` with its usual settings, or takes one that is there (`-o`, `--model`; `--model
builtin` is that of the package). Scenes are drawn from the seed `--drawn`. No box is ever used in training. A phrase is
pointed at rightly if the middle of the region with the largest weight lies in the box of the thing that it is about;
"by x and y", if the place does that `foveate ground` tells, the middle of the weight of that region and those around.
Phrases that say where a thing stands are counted by themselves, too. The peer knows where all things are, and takes one
of them at random: what is left to know is which. Training takes half an hour.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import torch

from figures import figure
from foveate.tasks.grounder import Grounder, load, load_builtin
from foveate.tasks.grounding import inside, middle, of_scene, peak, within
from foveate.tasks.scenes import scenes
from recipes import arguments, place, trained

PLACED = {"left", "right", "above", "over", "below", "under"}


def share(found: list[bool]) -> float:
    return 100 * sum(found) / max(1, len(found))


@torch.no_grad()
def pointing(grounder: Grounder, split: str, drawn: int, count: int, goal: str | None, threads: int) -> None:
    recipe, draw = grounder.recipe, random.Random(1)
    grid = recipe.shape.grid
    found: dict[str, list[bool]] = {"all": [], "saying where": [], "fits": [], "guess": [], "x and y": []}
    for some in recipe.together([of_scene(one) for one in scenes(drawn, count, split=split)], 1024):
        weights_NR = recipe.read_by(grounder.model, some)[0][-1]
        rows = iter(weights_NR)
        for one in some:
            for phrase, fits, box in zip(one.phrases, one.fits, one.boxes, strict=True):
                row = next(rows)
                found["fits"].append(bool(row[0] < 0.5) == fits)
                if box is None:
                    continue
                hit = inside(int(row[1:].argmax()), box, grid, one.picture)
                found["all"].append(hit)
                x, y = middle(*peak(row[1:].reshape(grid, grid).numpy()), grid, one.picture)
                found["x and y"].append(within(x, y, box))
                found["guess"].append(draw.choice(one.picture.things).box == box)  # type: ignore[union-attr]
                if PLACED & set(phrase):
                    found["saying where"].append(hit)
    pairs = "new pairs of colour and shape" if split != "train" else "pairs of training, new scenes"
    guess = ("one of the things", share(found["guess"]))
    figure(f"pointing, {pairs}", share(found["all"]), "%", goal=goal, peer=guess, threads=threads)
    figure(f"pointing by x and y, {pairs}", share(found["x and y"]), "%", threads=threads)
    figure(f"pointing by where a thing stands, {pairs}", share(found["saying where"]), "%", threads=threads)
    figure(f"whether a phrase fits, {pairs}", share(found["fits"]), "%", peer=("always no", 50.0), threads=threads)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--drawn", type=int, default=2)
    own, rest = parser.parse_known_args(given)
    chosen = arguments(__doc__, rest)
    with place(chosen) as folder:
        if own.model is None:
            trained(chosen, Path(folder) / "ground", "ground", [])
        grounder = load_builtin() if own.model == "builtin" else load(own.model or Path(folder) / "ground")
        pointing(grounder, "test", own.drawn, own.scenes, ">= 95", chosen.threads)
        pointing(grounder, "train", own.drawn + 1000, own.scenes, None, chosen.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
