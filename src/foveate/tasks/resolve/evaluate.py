"""How often the model is right, by what training never saw, and where its heads look.

`python -m foveate.tasks.resolve.evaluate --handwritten tests/data/resolve_handwritten.tsv --part dev`
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from ...operator import observe
from . import lexicon as lexicons
from .grammar import Example, Split, pairs
from .lexicon import Lexicon
from .model import Resolver
from .vocabulary import Vocabulary

__all__ = ["Score", "handwritten", "held_out", "looks", "score"]

KINDS = ("", "combinations", "frames", "nouns", "frames nouns")


@dataclass(frozen=True)
class Score:
    """Shares of sentences right (the first word of all is the antecedent), right between the two nouns, pairs right."""

    single: float
    choice: float
    pair: float
    count: int


def score(model: Resolver, found: Sequence[tuple[Example, Example]]) -> Score:
    """Score flip pairs."""
    right, chosen = [], []
    with torch.no_grad():
        for start in range(0, len(found), 64):
            examples = [example for pair in found[start : start + 64] for example in pair]
            logits_BL = predict(model, examples)
            for example, row in zip(examples, logits_BL, strict=True):
                right.append(int(row.argmax()) == example.antecedent)
                chosen.append(bool(row[example.antecedent] > row[example.distractor]))
    both = [a and b for a, b in zip(right[::2], right[1::2], strict=True)]
    return Score(sum(right) / len(right), sum(chosen) / len(chosen), sum(both) / len(both), len(right))


def predict(model: Resolver, examples: Sequence[Example]) -> torch.Tensor:
    """Logits (B, L) over the words of each sentence."""
    ids_BL, lengths_B = pad(model.vocabulary, examples)
    return model.antecedents(model(ids_BL, lengths_B), ids_BL, torch.tensor([e.pronoun for e in examples]))


def pad(vocabulary: Vocabulary, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Word numbers (B, L), padded on the right, and lengths (B,)."""
    rows = [vocabulary.numbers(example.words) for example in examples]
    longest = max(map(len, rows))
    padded = [row + [Vocabulary.PAD] * (longest - len(row)) for row in rows]
    return torch.tensor(padded), torch.tensor([len(row) for row in rows])


def held_out(model: Resolver, lexicon: Lexicon, split: Split, count: int, seed: int = 1) -> dict[str, Score]:
    """Scores on `count` fresh pairs of each kind; "" are new sentences of trained frames and nouns."""
    scores = {}
    for kind in KINDS:
        found = list(islice(pairs(lexicon, random.Random(seed), split, held_out=kind, people=0.0), count))
        scores[kind or "seen frames and nouns"] = score(model, found)
    return scores


def looks(model: Resolver, found: Sequence[tuple[Example, Example]]) -> dict[str, tuple[float, float]]:
    """For each head, the mean attention from the pronoun to the antecedent and to the distractor: {"3.5": (.., ..)}."""
    examples = [example for pair in found for example in pair]
    maps: list = []
    with torch.no_grad(), observe(maps.append):
        predict(model, examples)
    batch = torch.arange(len(examples))
    pronoun = torch.tensor([e.pronoun for e in examples])
    antecedent = torch.tensor([e.antecedent for e in examples])
    distractor = torch.tensor([e.distractor for e in examples])
    means = {}
    for layer, weights in enumerate(maps):
        rows_BHK = weights[...].float()[batch, :, pronoun]
        for head in range(rows_BHK.shape[1]):
            to = rows_BHK[batch, head, antecedent].mean(), rows_BHK[batch, head, distractor].mean()
            means[f"{layer}.{head}"] = (float(to[0]), float(to[1]))
    return means


def handwritten(path: Path, vocabulary: Vocabulary, part: str) -> list[tuple[Example, Example]]:
    """Flip pairs of a hand-written file: pair, split, sentence, pronoun, antecedent, distractor (tab separated).

    Raises:
        ValueError: a line has other columns, or names a word its sentence lacks; or nothing belongs to `part`.
    """
    rows: dict[str, list[Example]] = {}
    parts: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[1:], 2):
        columns = line.split("\t")
        if len(columns) != 6:
            raise ValueError(f"{path}, line {number}: expected 6 columns, got {len(columns)}")
        pair, split, sentence, *named = columns
        parts.add(split)
        if split != part:
            continue
        words = [word.lower() for word in vocabulary.tokenize(sentence)[0]]
        missing = [word for word in named if word not in words]
        if missing:
            raise ValueError(f"{path}, line {number}: the sentence has no word {missing[0]!r}, in lower case")
        a, b, c = (words.index(word) for word in named)
        rows.setdefault(pair, []).append(Example(tuple(words), a, b, c, frame=sentence))
    if not rows:
        raise ValueError(f"{path} has no sentences of the part {part!r}; it has {', '.join(sorted(parts)) or 'none'}")
    return [(a, b) for a, b in rows.values()]


def mistakes(model: Resolver, found: Sequence[tuple[Example, Example]]) -> list[str]:
    """One line for each sentence that comes out wrong."""
    lines = []
    with torch.no_grad():
        for example in (example for pair in found for example in pair):
            row = predict(model, [example])[0]
            best = int(row.argmax())
            if best != example.antecedent:
                wanted = example.words[example.antecedent]
                lines.append(f"{' '.join(example.words)} | {example.words[best]} instead of {wanted}")
    return lines


def main(arguments: list[str] | None = None) -> None:
    from .resolution import load, load_builtin
    from .train import split_of

    parser = argparse.ArgumentParser(prog="python -m foveate.tasks.resolve.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a trained model (default: the one of the package)")
    parser.add_argument("--handwritten", type=Path, help="tab-separated flip pairs to measure on as well")
    parser.add_argument("--part", default="dev", help="which part of them (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=1000, help="flip pairs of each kind (default: %(default)s)")
    parser.add_argument("--mistakes", action="store_true", help="list the hand-written sentences that come out wrong")
    given = parser.parse_args(arguments)
    model = load(given.model) if given.model else load_builtin()
    try:
        written = handwritten(given.handwritten, model.vocabulary, given.part) if given.handwritten else []
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    lexicon = lexicons.load()
    split = split_of(lexicon)
    scores = held_out(model, lexicon, split, given.pairs)
    sample = list(islice(pairs(lexicon, random.Random(1), split, held_out="frames", people=0), min(200, given.pairs)))
    if written:
        scores[f"hand-written, {given.part}"] = score(model, written)
        if given.mistakes:
            print("\n".join(mistakes(model, written)))
    for kind, found in scores.items():
        print(f"{kind or 'nothing'}: {found.single:.1%} of {found.count} sentences, {found.pair:.1%} of flip pairs")
    best = sorted(looks(model, sample).items(), key=lambda item: item[1][1] - item[1][0])
    for head, (antecedent, distractor) in best[:4]:
        print(f"head {head}: {antecedent:.2f} on the antecedent, {distractor:.2f} on the other noun")


if __name__ == "__main__":
    main()
