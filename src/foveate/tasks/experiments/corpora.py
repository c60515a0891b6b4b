"""What experiments train on: the project's grammar, written into files, or parallel text that a user has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..alignment import Gold, format_gold
from ..bitext import Sentence, generate

__all__ = ["Files", "Grammar", "multi30k", "write_grammar"]


@dataclass(frozen=True)
class Files:
    """Paths of parallel text, each a TSV file or two line-aligned ones, and how sacrebleu tokenises it."""

    name: str
    train: tuple[Path, ...]
    valid: tuple[Path, ...]
    test: tuple[Path, ...]
    tokenize: str


@dataclass(frozen=True)
class Grammar:
    """Sentences of the grammar, with gold links, and the files that hold them."""

    files: Files
    train: Sequence[Sentence]
    valid: Sequence[Sentence]
    test: Sequence[Sentence]


def multi30k(pair: str = "en-fr") -> Files | None:
    """Multi30k (Elliott et al. 2016) in the folder that FOVEATE_DATA names; None where it is not."""
    folder = Path(os.environ.get("FOVEATE_DATA", "../shared/data")) / "multi30k"
    train, valid, test = (
        tuple(folder / f"{name}.{side}" for side in pair.split("-")) for name in ("train", "valid", "test2016")
    )
    if not all(path.is_file() for path in (*train, *valid, *test)):
        return None
    return Files("multi30k", train, valid, test, tokenize="none")


def write_grammar(folder: Path, count: int, *, seed: int = 1, lengths: tuple[int, int] = (3, 60)) -> Grammar:
    """Draw `count` pairs to train on, a tenth of it (at most 500 and 1,000) to validate and to test on, and write them.

    Files: `train.tsv`, `valid.tsv`, `test.tsv`, and `.gold` beside each, in Pharaoh format with possible links marked.
    """
    sizes = {"train": count, "valid": max(20, min(500, count // 10)), "test": max(20, min(1000, count // 10))}
    parts = {name: list(generate(seed, size, lengths=lengths, split=name)) for name, size in sizes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, sentences in parts.items():
        pairs = "".join(f"{' '.join(s.source)}\t{' '.join(s.target)}\n" for s in sentences)
        (folder / f"{name}.tsv").write_text(pairs, encoding="utf-8")
        links = "".join(format_gold(Gold(s.sure, s.possible)) + "\n" for s in sentences)
        (folder / f"{name}.gold").write_text(links, encoding="utf-8")
    train, valid, test = ((folder / f"{name}.tsv",) for name in sizes)
    files = Files("grammar", train, valid, test, tokenize="none")
    return Grammar(files, parts["train"], parts["valid"], parts["test"])
