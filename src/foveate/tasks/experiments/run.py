"""The experiments from start to end.

A folder holds what was trained; the same call goes on where it was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..corpus import read_pairs, references
from ..training.report import read_log
from . import alignment, bottleneck, induction, plots, report, telephone
from .contenders import Budget, Contender, trained
from .corpora import Files, Grammar
from .repeats import STEPS, Setting

__all__ = ["Found", "run_alignment", "run_bottleneck", "run_induction", "run_telephone"]


@dataclass(frozen=True)
class Found:
    """A table to print, the numbers behind it, and the files that were written."""

    table: str
    numbers: dict[str, Any]
    files: list[Path]


def run_bottleneck(
    contenders: Sequence[Contender], files: Files, budget: Budget, folder: Path, *, beam: int = 5, quiet: bool = False
) -> Found:
    """Train every contender on the same data, translate the test set, and tell BLEU by length.

    Raises:
        ValueError: the folder holds a run with other settings.
        Stopped: Ctrl-C, after a checkpoint.
    """
    sources, targets = references(read_pairs(files.test).pairs)
    edges = bottleneck.EDGES.get(files.name, bottleneck.EDGES["grammar"])
    results = []
    for contender in contenders:
        translator = trained(
            contender, budget, files.train, files.valid, folder / contender.name, tokenize=files.tokenize, quiet=quiet
        )
        results.append(
            bottleneck.judge(contender.name, translator, sources, targets, edges, tokenize=files.tokenize, beam=beam)
        )
    numbers = {"data": files.name, "epochs": budget.epochs, "seed": budget.seed, **report.bottleneck_json(results)}
    written = [report.write_json(folder / "bottleneck.json", numbers)]
    title = f"{files.name}, {budget.epochs} epochs"
    written += plots.draw_bottleneck(results, title, folder / "bottleneck")
    return Found(report.bottleneck_table(results), numbers, written)


def run_alignment(
    contenders: Sequence[Contender], grammar: Grammar, budget: Budget, folder: Path, *, quiet: bool = False
) -> Found:
    """Train every contender on the grammar's sentences, and hold what its attention says against the gold links.

    Which attention is read, and whether shifted, is chosen on validation sentences without their gold.

    Raises:
        ValueError: the folder holds a run with other settings, or a contender has no attention.
        Stopped: Ctrl-C, after a checkpoint.
    """
    found, one_way = [], []
    curves: dict[str, list[float]] = {}
    judged = alignment.judge(grammar.valid)
    for contender in contenders:
        if contender.name == "none":
            raise ValueError("'none' has no attention, so there is nothing to read an alignment from")
        place = folder / contender.name
        files = grammar.files
        translator = trained(
            contender, budget, files.train, files.valid, place, tokenize=files.tokenize, judge=judged, quiet=quiet
        )
        reading = alignment.best_reading(translator, grammar.valid)
        both, one = alignment.links_of(translator, grammar.test, reading)
        found.append(alignment.rated(contender.name, f"{reading}; both ends merged", both, grammar.test))
        one_way.append(alignment.rated(f"{contender.name}, one direction", str(reading), one, grammar.test))
        name = f"AER {reading.modules[0]} {reading.shift}"
        curves[contender.name] = [line[name] for line in read_log(place / "log.jsonl") if line["kind"] == "valid"]
    found += alignment.baselines(grammar.train, grammar.test)
    numbers = {"epochs": budget.epochs, "seed": budget.seed, **report.alignment_json([*found, *one_way], curves)}
    written = [report.write_json(folder / "alignment.json", numbers)]
    rest = {one.name: 100 * one.rate.aer for one in found if one.name not in curves}
    written += plots.draw_epochs(curves, rest, "known links of the grammar, validation", folder / "alignment")
    rates = {one.name: {n: 100 * r.aer for n, r in one.phenomena.items()} for one in found}
    written += plots.draw_phenomena(rates, "by phenomenon, test", folder / "phenomena")
    return Found(report.alignment_table([*found, *one_way]), numbers, written)


def run_induction(setting: Setting, folder: Path, *, quiet: bool = False) -> Found:
    """Train a decoder to copy, once as it is and once where reading costs something; then knock out its heads.

    Raises:
        ValueError: the folder holds a run with other settings.
        Stopped: Ctrl-C, after a checkpoint.
    """
    results, curves = [], {}
    for name, one in {"plain": replace(setting, cost=0.0), "sparing": setting}.items():
        model = induction.trained(one, folder / name, quiet=quiet)
        results.append(induction.judge(name, model, one))
        curves[name] = induction.moments(folder / name)
    numbers = {"setting": asdict(setting), **report.induction_json(results, curves)}
    written = [report.write_json(folder / "induction.json", numbers)]
    written += plots.draw_induction(results, curves, setting.free * STEPS, folder / "induction")
    steps = {name: induction.learned(found) for name, found in curves.items()}
    return Found(report.induction_table(results, steps), numbers, written)


def run_telephone(
    games: Sequence[telephone.Game],
    models: Sequence[str],
    setting: telephone.Setting,
    folder: Path,
    *,
    quiet: bool = False,
) -> Found:
    """Train every model in every game, and see how much each repeats over eight times the distance of training.

    Raises:
        ValueError: an unknown model, or the folder holds a run with other settings.
        Stopped: Ctrl-C, after a checkpoint.
    """
    found = []
    for game in games:
        for name in models:
            place = folder / game / name.replace(", ", "-").replace(" ", "-").lower()
            model = telephone.trained(name, game, setting, place, quiet=quiet)
            found.append(telephone.judge(model, game, setting))
    numbers = {"setting": asdict(setting), **report.telephone_json(found)}
    written = [report.write_json(folder / "telephone.json", numbers)]
    written += plots.draw_telephone(found, folder / "telephone")
    return Found(report.telephone_table(found), numbers, written)
