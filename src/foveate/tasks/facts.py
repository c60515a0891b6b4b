"""Pages of invented facts, and questions that only the page answers: every name is made up anew.

    python -m foveate.tasks.facts -o DIR [--train 20000] [--facts 6] [--seed 1]

writes `train.tsv`, `valid.tsv`, `test.tsv`, and `long.tsv`, whose pages have four times as many facts. A row is a
question, a tab, a page, a tab, and the answer, one word of the page. Of each page's facts some share what is asked for
(other capitals), some whom it is asked of (what else is known of the same country): neither alone tells the answer.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import save_text

__all__ = ["Asked", "pages", "write"]

RELATIONS = ("capital", "river", "king", "queen", "language", "mountain", "port", "currency", "founder", "poet", "lake",
             "bridge", "largest town", "oldest school", "national dish", "patron saint")  # fmt: skip
FRAMES = (
    "The {relation} of {owner} is {value} .",
    "{value} is the {relation} of {owner} .",
    "{owner} 's {relation} is {value} .",
    "In {owner} , the {relation} is {value} .",
    "{owner} calls {value} its {relation} .",
    "As for {owner} , its {relation} is called {value} .",
    "{owner} is a country . {value} is the {relation} .",
    "{owner} has a {relation} . It is {value} .",
)
QUESTIONS = (
    "What is the {relation} of {owner} ?",
    "What is {owner} 's {relation} ?",
    "Which is the {relation} of {owner} ?",
    "In {owner} , what is the {relation} ?",
    "Name the {relation} of {owner} .",
)
FILLERS = (
    "{owner} is a country .",
    "{owner} lies far from here .",
    "Few people have been to {owner} .",
    "The old map shows {owner} , too .",
)
ONSETS = ("b", "br", "d", "dr", "f", "g", "gr", "h", "k", "kl", "l", "m", "n", "p", "qu", "r", "s", "sk", "st", "t",
          "tr", "v", "w", "z", "")  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u", "ae", "ei", "ou")
CODAS = ("", "", "n", "r", "l", "s", "m", "rd", "nt", "x")
ENDINGS = ("", "ia", "land", "burg", "o", "a", "en")
LONGER = 4  # times as many facts


@dataclass(frozen=True)
class Asked:
    """A question, a page, and the word of it that answers."""

    question: str
    page: str
    answer: str

    def row(self) -> str:
        return f"{self.question}\t{self.page}\t{self.answer}\n"


def pages(chance: random.Random, facts: int) -> Iterator[Asked]:
    """Without end, each page with from half of `facts` to all of them, and about a fourth as many idle sentences.

    Raises:
        ValueError: less than 3 facts.
    """
    if facts < 3:
        raise ValueError(f"a page needs at least 3 facts, so that others are like the one asked for; got {facts}")
    while True:
        yield _page(chance, chance.randint(max(3, facts // 2), facts))


def _page(chance: random.Random, facts: int) -> Asked:
    names = _names(chance)
    owners = [next(names) for _ in range(max(2, facts // 3))]
    relations = chance.sample(RELATIONS, max(2, min(len(RELATIONS), facts // 2 + 1)))
    cells = [(owner, relation) for owner in owners for relation in relations]
    owner, relation = asked = chance.choice(cells)
    rivals = [c for c in cells if c != asked and (c[0] == owner) != (c[1] == relation)]
    others = [c for c in cells if c != asked and c not in rivals]
    chance.shuffle(rivals)
    chosen = [asked, *(rivals + chance.sample(others, len(others)))[: facts - 1]]
    values = {cell: next(names) for cell in chosen}
    said = [chance.choice(FRAMES).format(owner=o, relation=r, value=values[o, r]) for o, r in chosen]
    said += [chance.choice(FILLERS).format(owner=chance.choice(owners)) for _ in range(chance.randint(0, facts // 4))]
    chance.shuffle(said)
    question = chance.choice(QUESTIONS).format(owner=owner, relation=relation)
    return Asked(question, " ".join(said), values[asked])


def _names(chance: random.Random) -> Iterator[str]:
    """Made-up names, all different."""
    seen: set[str] = set()
    while True:
        parts = (
            chance.choice(ONSETS) + chance.choice(VOWELS) + chance.choice(CODAS) for _ in range(chance.randint(1, 2))
        )
        name = ("".join(parts) + chance.choice(ENDINGS)).capitalize()
        if len(name) > 3 and name not in seen:
            seen.add(name)
            yield name


def write(folder: Path, *, train: int = 20_000, held: int = 1000, facts: int = 6, seed: int = 1) -> None:
    """The four files; `held` rows each for validation, test and long pages."""
    for name, rows, many in (("train", train, facts), ("valid", held, facts), ("test", held, facts),
                             ("long", held, facts * LONGER)):  # fmt: skip
        drawn = pages(random.Random(f"{seed} {name}"), many)
        save_text(folder / f"{name}.tsv", "".join(next(drawn).row() for _ in range(rows)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m foveate.tasks.facts", description="Pages of invented facts.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    for option, usual in (("train", 20_000), ("facts", 6), ("seed", 1)):
        parser.add_argument(f"--{option}", type=int, default=usual)
    given = parser.parse_args()
    try:
        write(given.output, train=given.train, facts=given.facts, seed=given.seed)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
