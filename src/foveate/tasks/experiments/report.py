"""What the experiments found, as tables of plain text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files import save_text
from .alignment import Aligned
from .bottleneck import Result, verdict

__all__ = ["alignment_json", "alignment_table", "bottleneck_json", "bottleneck_table", "write_json"]


def bottleneck_table(results: Sequence[Result]) -> str:
    """BLEU of each model, all and by length, and what the claim says to it."""
    header = ["", "parameters", "all", *(band.label for band in results[0].bands)]
    counts = ["sentences", "", str(sum(b.sentences for b in results[0].bands))]
    rows = [header, [*counts, *(str(band.sentences) for band in results[0].bands)]]
    for result in results:
        rows.append([result.name, f"{result.parameters / 1e6:.1f} M", f"{result.bleu:.1f}"])
        rows[-1] += [f"{band.bleu:.1f}" for band in result.bands]
    told = verdict(results)
    gaps = [
        f"{name} minus none, shortest to longest: {', '.join(f'{gap:+.1f}' for gap in found)}"
        for name, found in told["gaps"].items()
    ]
    holds = {
        True: "holds here",
        False: "does not hold here",
        None: "was not put to the test: it needs 'none' and another, and sentences of different lengths",
    }
    claim = f"The claim that a fixed vector loses more the longer the sentence {holds[told['holds']]}."
    return "\n".join([_columns(rows), "", *gaps, claim])


def alignment_table(found: Sequence[Aligned]) -> str:
    """Error rates in percent: of all links, and of each phenomenon."""
    names = sorted({name for one in found for name in one.phenomena})
    rows = [["", *(one.name for one in found)], ["all links", *(f"{100 * one.rate.aer:.1f}" for one in found)]]
    for name in names:
        rates = [one.phenomena.get(name) for one in found]
        rows.append([name, *("" if rate is None else f"{100 * rate.aer:.1f}" for rate in rates)])
    readings = [f"{one.name}: {one.reading}" for one in found]
    return "\n".join(["Alignment error rate, %", _columns(rows), "", "How each was read:", *readings])


def alignment_json(found: Sequence[Aligned], curves: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The same as numbers, in percent."""
    return {
        "aligners": [
            {
                "name": one.name,
                "reading": one.reading,
                "AER": round(100 * one.rate.aer, 2),
                "precision": round(100 * one.rate.precision, 2),
                "recall": round(100 * one.rate.recall, 2),
                "phenomena": {name: round(100 * rate.aer, 2) for name, rate in sorted(one.phenomena.items())},
            }
            for one in found
        ],
        "AER by epoch": {name: list(heights) for name, heights in curves.items()},
    }


def bottleneck_json(results: Sequence[Result]) -> dict[str, Any]:
    return {"models": [asdict(result) for result in results], **verdict(results)}


def write_json(path: Path, found: dict[str, Any]) -> Path:
    """In one step."""
    save_text(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return path


def _columns(rows: Sequence[Sequence[str]]) -> str:
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(wide[0]), *(cell.rjust(w) for cell, w in zip(row[1:], wide[1:], strict=True))]).rstrip()
        for row in rows
    )
