"""Alignments that translators read, and eflomal's to hold them against; words are what white space parts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from foveate.tasks import alignment
from foveate.tasks.alignment import Links, Reading, diagonal, error_rate, hard, merged, symmetrize
from foveate.tasks.translation import Translator, choosing

__all__ = ["rates", "readings", "statistical"]

Texts = Sequence[tuple[str, str]]


def readings(forward: Translator, backward: Translator | None, pairs: Texts) -> tuple[Reading, Reading | None, float]:
    """What to read of each model, found without links on these pairs; and how well the readings agree."""
    if backward is None:
        alone = choosing.best_reading(forward, pairs)
        return alone.reading, None, alone.agreement
    best = choosing.best_readings(forward, backward, pairs)
    return best.forward, best.backward, best.agreement


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
    forward: Sequence[Tensor],
    backward: Sequence[Tensor] | None,
) -> dict[str, float]:
    """The error rate of every aligner against eflomal's two directions merged.

    One direction links each word that is written to what it reads most; "both ends" merges that with the word that
    reads each source word most; "both models" merges one direction of each. `backward` is as its model says it.
    """
    gold = [symmetrize(f, b) for f, b in zip(statistical["forward"], statistical["backward"], strict=True)]
    found: dict[str, Sequence[Links]] = {
        "forward": [hard(weights) for weights in forward],
        "both ends": [merged(weights) for weights in forward],
    }
    if backward is not None:
        turned = [hard(weights.T, "source") for weights in backward]
        found |= {
            "backward": turned,
            "backward, both ends": [merged(weights.T) for weights in backward],
            "both models": [symmetrize(f, b) for f, b in zip(found["forward"], turned, strict=True)],
        }
    found["diagonal"] = [diagonal(len(s.split()), len(t.split())) for s, t in pairs]
    found |= {f"eflomal {name}": links for name, links in statistical.items()}
    return {name: round(error_rate(links, gold).aer, 4) for name, links in found.items()}
