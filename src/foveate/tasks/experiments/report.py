"""What the experiments found, as tables of plain text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from ..files import save_text
from .alignment import Aligned
from .bottleneck import Result, verdict
from .induction import Moment
from .induction import Result as Copied
from .induction import verdict as copied
from .telephone import Played

__all__ = [
    "alignment_json",
    "alignment_table",
    "bottleneck_json",
    "bottleneck_table",
    "induction_json",
    "induction_table",
    "telephone_json",
    "telephone_table",
    "telephone_verdict",
    "write_json",
]


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


def induction_table(results: Sequence[Copied], learned: Mapping[str, int | None]) -> str:
    """Copying accuracy in percent, whole and without heads, of each model; and what the claim says to it."""
    told = [copied(result) for result in results]
    rows = [["", *(result.name for result in results)]]
    rows.append(["copying is learned by step", *(str(learned[result.name] or "never") for result in results)])
    rows.append(["copying accuracy, %", *(_percent(result.copying) for result in results)])
    rows.append(["a guess among the block's tokens", *(_percent(result.chance) for result in results)])
    rows.append(["the same where nothing repeats", *(_percent(result.fresh) for result in results)])
    for kind in ("induction", "previous"):
        named = [", ".join(head.name for head in result.of(kind)) or "none" for result in results]
        name = f"{kind}{'-token' if kind == 'previous' else ''} heads"
        rows.append([name, *named])
        rows.append([f"without all {name}", *(_percent(result.without.get(kind)) for result in results)])
        rows.append(["without one of them, at best", *(_best(result, kind) for result in results)])
    means = [mean(result.others) if result.others else None for result in results]
    rows.append(["without as many other heads", *map(_percent, means)])
    rows.append(["at worst", *(_percent(min(result.others, default=None)) for result in results)])
    claims = []
    for result, one in zip(results, told, strict=True):
        holds = {
            True: "holds",
            False: "does not hold",
            None: "cannot be put to the test: it needs induction heads, and as many heads that are neither these "
            "nor previous-token heads",
        }
        claims.append(f"{result.name}: the claim that copying is done by its induction heads {holds[one['holds']]}.")
    return "\n".join([_columns(rows), "", *claims])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _best(result: Copied, kind: str) -> str:
    return _percent(max((head.without for head in result.of(kind)), default=None))


def induction_json(results: Sequence[Copied], curves: Mapping[str, Sequence[Moment]]) -> dict[str, Any]:
    """The same as numbers, and each validation on the way."""
    models = [{**asdict(r), "heads": [{"name": h.name, **asdict(h)} for h in r.heads], **copied(r)} for r in results]
    return {"models": models, "moments": {name: [asdict(m) for m in found] for name, found in curves.items()}}


def telephone_table(found: Sequence[Played]) -> str:
    """The share of words that is repeated, in percent, by game, model and distance; and what the claim says to it."""
    told = []
    for game in dict.fromkeys(one.game for one in found):
        games = [one for one in found if one.game == game]
        rows = [["words between", "parameters", *map(str, games[0].accuracy)]]
        rows += [[one.name, f"{one.parameters:,}", *(f"{100 * a:.1f}" for a in one.accuracy.values())] for one in games]
        holds = {True: "holds here", False: "does not hold here", None: "was not put to the test"}
        claim = holds[telephone_verdict(games)[game]]
        told += [
            f"{game}: words repeated, %; in training at most {games[0].farthest} words between",
            _columns(rows),
            f"Who guesses among the words that were said has {100 * games[0].guess:.1f} %.",
            f"The claim that attention loses nothing over the distance, and a recurrent state does, {claim}.",
            "",
        ]
    return "\n".join(told[:-1])


def telephone_verdict(found: Sequence[Played]) -> dict[str, bool | None]:
    """Of each game: whether attention repeats 99 % at every distance, and every recurrence less at the farthest."""
    verdicts: dict[str, bool | None] = {}
    for game in dict.fromkeys(one.game for one in found):
        last = {one.name: one.accuracy[max(one.accuracy)] for one in found if one.game == game}
        least = [min(one.accuracy.values()) for one in found if one.game == game and one.name == "attention"]
        recurrent = [share for name, share in last.items() if name in ("GRU", "LSTM")]
        tested = bool(least and recurrent)
        verdicts[game] = least[0] >= 0.99 and max(recurrent) < last["attention"] - 0.01 if tested else None
    return verdicts


def telephone_json(found: Sequence[Played]) -> dict[str, Any]:
    return {"models": [asdict(one) for one in found], "holds": telephone_verdict(found)}


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
