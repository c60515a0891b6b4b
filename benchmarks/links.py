"""Alignments that translators read, and eflomal's to hold them against; words are what white space parts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from foveate.tasks import alignment
from foveate.tasks.alignment import Links, Reading, diagonal, error_rate, hard, swap, symmetrize
from foveate.tasks.translation import Translator

__all__ = ["aligned", "rates", "readings", "statistical"]

Texts = Sequence[tuple[str, str]]


def readings(forward: Translator, backward: Translator | None, pairs: Texts) -> tuple[Reading, Reading | None, float]:
    """What to read of each model, found without links on these pairs; and how well the readings agree."""
    ahead = _each_way(forward, pairs)
    if backward is None:
        alone = alignment.choose_alone(ahead, [alignment.same_words(s.split(), t.split()) for s, t in pairs])
        return alone.reading, None, alone.agreement
    best = alignment.choose(zip(ahead, _each_way(backward, [(t, s) for s, t in pairs]), strict=True))
    return best.forward, best.backward, best.agreement


def _each_way(translator: Translator, pairs: Texts) -> Iterator[Mapping[Reading, Tensor]]:
    for one in translator.force_words(pairs):
        dense = {name: call.dense() for name, call in one.maps.items()}
        yield alignment.candidates(dense, one.source.words, one.target.words)


def aligned(translator: Translator, pairs: Texts, reading: Reading) -> list[Links]:
    """For each target word the source word that it reads most."""
    return [hard(weights) for weights in translator.align(pairs, reading)]


def statistical(train: Texts, test: Texts, kept: Path) -> dict[str, list[Links]]:
    """eflomal's links of the test pairs, "forward" and "backward". It draws at random, so they are kept in files whose
    names begin with `kept`, for the next model."""
    paths = {name: kept.with_name(f"{kept.name}.{name}") for name in ("forward", "backward")}
    if not all(path.is_file() for path in paths.values()):
        print(f"eflomal: aligning {len(train) + len(test):,} pairs", file=sys.stderr, flush=True)
        links = alignment.eflomal_links([(s.split(), t.split()) for s, t in (*train, *test)])
        kept.parent.mkdir(parents=True, exist_ok=True)
        for path, one in zip(paths.values(), links, strict=True):
            path.write_text("".join(alignment.format_links(each) + "\n" for each in one[len(train) :]))
    return {name: alignment.read_links(path) for name, path in paths.items()}


def rates(
    pairs: Texts,
    statistical: Mapping[str, Sequence[Links]],
    forward: Sequence[Links],
    backward: Sequence[Links] | None,
) -> dict[str, float]:
    """The error rate of every aligner against eflomal's two directions merged. `backward` is as its model says it."""
    gold = [symmetrize(f, b) for f, b in zip(statistical["forward"], statistical["backward"], strict=True)]
    found: dict[str, Sequence[Links]] = {"forward": forward}
    if backward is not None:
        turned = [swap(links) for links in backward]
        found |= {"backward": turned, "symmetrised": [symmetrize(f, b) for f, b in zip(forward, turned, strict=True)]}
    found["diagonal"] = [diagonal(len(s.split()), len(t.split())) for s, t in pairs]
    found |= {f"eflomal {name}": links for name, links in statistical.items()}
    return {name: round(error_rate(links, gold).aer, 4) for name, links in found.items()}
