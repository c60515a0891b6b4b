"""Train a translator on Multi30k (Elliott et al. 2016), and measure it once on test2016: BLEU, and alignment.

    python benchmarks/multi30k.py --pair en-fr --arch transformer -o runs/en-fr-transformer [--resume]
    python benchmarks/multi30k.py --pair fr-en --arch transformer -o runs/fr-en-transformer
    python benchmarks/multi30k.py --evaluate runs/en-fr-transformer --reverse-model runs/fr-en-transformer

It takes hours on a CPU, shows how far it is, and goes on with `--resume` where it was stopped: a command of its own, no
part of `make bench`. FOVEATE_DATA names the folder that holds `multi30k`. Its text is tokenised, so BLEU is counted on
what white space parts (sacrebleu's tokenize=none), beam 5; French apostrophes stay `&apos;`, as published figures have
them. What a model said of the test set is kept in its folder and shown again: no setting is chosen on it.

Where eflomal is installed, also the alignment error rate against its links (trained on training and test pairs, both
directions merged by grow-diag-final-and), between words that white space parts. Which attention is read is chosen on
validation pairs without any links: by how well the model agrees with `--reverse-model`, which translates back and whose
links are merged with its own, or with itself. Without one, the best source word of each target word and the best target
word of each source word are merged.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from corpora import data_folder, digest, kept, opened, translated
from figures import figure
from foveate.tasks.alignment.eflomal import installed
from foveate.tasks.corpus import read_pairs
from foveate.tasks.training import Options
from foveate.tasks.training.loop import Stopped
from foveate.tasks.training.world import DEVICES, joined
from foveate.tasks.translation import Shape, Translator
from foveate.tasks.translation.metrics import bleu
from foveate.tasks.translation.train import Run, run
from links import rates, readings, statistical

# How each model is trained: what `Shape`, `Options` and `Run` are given.
RNN: dict[str, Any] = {
    "shape": {"arch": "rnn", "width": 256, "hidden": 384, "dropout": 0.3, "state_dropout": 0.4},
    "options": {"epochs": 30, "peak": 1.5e-3, "warmup": 500, "patience": 0},
    "vocabulary": 8000,
    "tokens": 1536,
    "smoothing": 0.1,
}
TRANSFORMER: dict[str, Any] = {
    "shape": {"arch": "transformer", "width": 192, "heads": 4, "layers": 4, "inner": 512, "dropout": 0.3},
    "options": {"epochs": 42, "peak": 3e-3, "warmup": 1000, "patience": 0, "average": 8},
    "vocabulary": 6000,
    "tokens": 3072,
    "smoothing": 0.1,
    "subword_dropout": 0.05,
}
SETTINGS = {"rnn": RNN, "transformer": TRANSFORMER}
# In short trainings of en-de 3,500 sub-words validated 1.9 BLEU worse than 6,000, and 10,000 .6 better; with 42 epochs
# the loss was still falling, of both pairs.
LONGER: dict[str, Any] = {"vocabulary": 10_000}
OWN: dict[tuple[str, str], dict[str, Any]] = {
    ("en-fr", "transformer"): {**LONGER, "options": {**TRANSFORMER["options"], "epochs": 54}},
    ("en-de", "transformer"): {**LONGER, "options": {**TRANSFORMER["options"], "epochs": 58}},
}

PAIRS = ("en-fr", "en-de", "fr-en", "de-en")
GOALS = {  # BLEU: Wu et al. 2021 (Transformer-Tiny), and LIUM's RNN (WMT 2017)
    ("en-fr", "transformer"): (">= 62", ("Transformer-Tiny, published", 61.80)),
    ("en-fr", "rnn"): (">= 59.1", ("LIUM's RNN, published", 59.02)),
    ("en-de", "transformer"): (">= 41", ("Transformer-Tiny, published", 41.02)),
    ("en-de", "rnn"): (None, ("LIUM's RNN, published", 39.00)),
}
AER_GOAL = "<= 0.2"
EDGES = (1, 9, 12, 15, 20, 25, 1000)  # words of a source, where bands of length begin
CHOOSING = 500  # validation pairs on which readings are chosen
BEAM = 5


def settings(pair: str, arch: str, attention: str, head_dropout: float = 0.0, **changed: Any) -> dict[str, Any]:
    """What `Run` is given but for its files; `changed` are options of training."""
    chosen = SETTINGS[arch] | OWN.get((pair, arch), {})
    own = {"attention": attention} if arch == "rnn" else {"head_dropout": head_dropout}
    shape = Shape(**chosen["shape"], **own)
    options = Options(**{**chosen["options"], **changed})
    return {**chosen, "shape": shape, "options": options}


def files(pair: str, split: str, limit: int | None, scratch: Path) -> tuple[Path, Path]:
    """The two line-aligned files of a split; with a limit, copies of their first lines in `scratch`."""
    source, target = (data_folder("multi30k") / f"{split}.{side}" for side in pair.split("-"))
    if limit is None:
        return source, target
    scratch.mkdir(parents=True, exist_ok=True)
    for path in (source, target):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:limit]
        (scratch / path.name).write_text("".join(lines), encoding="utf-8")
    return scratch / source.name, scratch / target.name


def bands(lengths: Sequence[int], edges: Sequence[int] = EDGES) -> dict[str, list[int]]:
    """Which sentences have a length in which band: `{"1-8": [...], ..., "25+": [...]}`; empty bands are left out."""
    found = {}
    for least, beyond in pairwise(edges):
        rows = [i for i, length in enumerate(lengths) if least <= length < beyond]
        if rows:
            found[f"{least}+" if beyond == edges[-1] else f"{least}-{beyond - 1}"] = rows
    return found


def scores(found: Sequence[str], sources: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """BLEU of all sentences and by length of the source, with sacrebleu's signature."""
    whole, signature = bleu(found, [[r] for r in references], "none")
    by_length = {}
    for name, rows in bands([len(source.split()) for source in sources]).items():
        score, _ = bleu([found[i] for i in rows], [[references[i]] for i in rows], "none")
        by_length[name] = {"sentences": len(rows), "BLEU": round(score, 2)}
    return {"BLEU": round(whole, 2), "signature": signature, "by_length": by_length}


def direction(facts: dict[str, Any]) -> str:
    """Out of which language into which a trained model translates: "en-fr"."""
    sides = [Path(name).suffix.removeprefix(".") for name in facts["trained"]["data"]]
    return "-".join(reversed(sides) if facts["settings"]["reverse"] else sides)


def evaluate(chosen: argparse.Namespace, folder: Path) -> None:
    """BLEU, and what alignment there is to measure; what the folder has already is only shown."""
    translator = opened(folder)
    pair = direction(translator.facts)
    test = _texts(pair, chosen.split, chosen)
    name = f"{chosen.split}{'' if chosen.limit is None else f'-{chosen.limit}'}"
    facts = {"pair": pair, "model": translator.shape.name}

    def measured() -> dict[str, Any]:
        start = time.perf_counter()
        sources, references = [s for s, _ in test], [t for _, t in test]
        found = translated(translator, sources, BEAM)
        (folder / f"{name}.{pair.split('-')[1]}").write_text("\n".join(found) + "\n", encoding="utf-8")
        seconds = round(time.perf_counter() - start, 1)
        return {**facts, **scores(found, sources, references), "beam": BEAM, "seconds": seconds,
                "trained": translator.facts["trained"], "size": translator.facts["parameters"]}  # fmt: skip

    results, key = folder / "results.jsonl", {"split": name, "parameters": digest(folder)}
    show(kept(results, {"what": "BLEU", **key}, measured), translator.shape)
    if not translator.has_attention:
        return
    if not installed():
        print("eflomal is not installed (pip install eflomal), so no alignment is measured")
        return
    other = None if chosen.reverse_model is None else digest(chosen.reverse_model)
    against = {"what": "AER", **key, "reverse": other}
    show_rates(kept(results, against, lambda: facts | align(chosen, translator, pair, test, name)))


def align(
    chosen: argparse.Namespace, forward: Translator, pair: str, test: list[tuple[str, str]], split: str
) -> dict[str, Any]:
    """Choose readings, read the test pairs by them, and hold them against eflomal."""
    backward = None if chosen.reverse_model is None else opened(chosen.reverse_model)
    print(f"choosing what to read, on {CHOOSING} validation pairs", file=sys.stderr, flush=True)
    own, other, agreement = readings(forward, backward, _texts(pair, "valid", chosen)[:CHOOSING])
    ahead = list(forward.align(test, own))
    back = None
    if backward is not None and other is not None:
        back = list(backward.align([(t, s) for s, t in test], other))
    folder = chosen.eflomal or chosen.evaluate or chosen.output
    links = statistical(_texts(pair, "train", chosen), test, folder / f"eflomal.{pair}.{split}")
    chosen_readings = [str(r) for r in (own, other) if r is not None]
    return {"readings": chosen_readings, "agreement": round(agreement, 4), "AER": rates(test, links, ahead, back)}


def _texts(pair: str, split: str, chosen: argparse.Namespace) -> list[tuple[str, str]]:
    source, target = (data_folder("multi30k") / f"{split}.{side}" for side in pair.split("-"))
    return [(p.source, p.target) for p in read_pairs((source, target)).pairs[: chosen.limit]]


def show(found: dict[str, Any], shape: Shape) -> None:
    """BLEU, as a table and as a figure."""
    for name, band in found["by_length"].items():
        print(f"  {name:>6} words  {band['sentences']:>5} sentences  BLEU {band['BLEU']:.1f}")
    print(f"  {found['signature']}")
    whole = found["split"] == "test2016"
    trains = shape.arch == "transformer" or shape.attention == "additive"
    goal, peer = GOALS.get((found["pair"], shape.arch), (None, None)) if whole and trains else (None, None)
    figure(f"Multi30k {found['pair']}, {found['model']}, {found['split']}", found["BLEU"], "BLEU", goal=goal, peer=peer)


def show_rates(found: dict[str, Any]) -> None:
    """Error rates, as a table and as a figure."""
    print(f"  read: {'; '.join(found['readings'])} (agreement {found['agreement']:.3f})")
    for name, aer in found["AER"].items():
        print(f"  {name:<19} AER {aer:.3f}")
    how = "both models" if "both models" in found["AER"] else "both ends"
    goal = AER_GOAL if found["split"] == "test2016" and found["pair"] == "en-fr" else None
    name = f"Multi30k {found['pair']}, {found['model']}, {found['split']}: AER against eflomal, {how}"
    figure(name, found["AER"][how], "AER", goal=goal, peer=("diagonal", found["AER"]["diagonal"]))


def arguments(given: list[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pair", choices=PAIRS, default="en-fr")
    options.add_argument("--arch", choices=tuple(SETTINGS), default="rnn")
    options.add_argument("--attention", choices=("additive", "dot", "general", "none"), default="additive")
    options.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the model, checkpoints and log")
    options.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    options.add_argument("--epochs", type=int, help="passes over the data; default: the setting of the model")
    options.add_argument("--seed", type=int, help="default: 1")
    options.add_argument("--head-dropout", type=float, default=0.0, help="of a transformer: whole heads, at random")
    options.add_argument(
        "--device", choices=DEVICES, default="auto", help="to train on; auto: a GPU where there is one"
    )
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--evaluate", type=Path, metavar="DIR", help="measure what is there; train nothing")
    options.add_argument("--reverse-model", type=Path, metavar="DIR", help="a model that translates back")
    options.add_argument("--eflomal", type=Path, metavar="DIR", help="where its links are kept; default: the model's")
    options.add_argument("--split", choices=("valid", "test2016"), default="test2016", help="to measure on")
    options.add_argument("--limit", type=int, metavar="N", help="only the first N pairs of everything, to try it out")
    chosen = options.parse_args(given)
    if (chosen.evaluate is None) == (chosen.output is None):
        options.error("name a folder to train in (-o DIR), or one to measure (--evaluate DIR)")
    return chosen


def main(given: list[str] | None = None) -> int:
    chosen = arguments(given)
    torch.set_num_threads(chosen.threads)
    folder = chosen.evaluate or chosen.output
    if chosen.evaluate is None:
        if not chosen.resume and (folder / "checkpoint.safetensors").is_file():
            print(f"there is a checkpoint in {folder}: go on with --resume, or name another folder", file=sys.stderr)
            return 2
        changed = {name: value for name in ("epochs", "seed") if (value := getattr(chosen, name)) is not None}
        train, valid = (files(chosen.pair, split, chosen.limit, folder / "data") for split in ("train", "valid"))
        asked = Run(
            train,
            valid,
            tokenize="none",
            **settings(chosen.pair, chosen.arch, chosen.attention, chosen.head_dropout, **changed),
        )
        try:
            with joined(chosen.device) as world:
                outcome = run(asked, folder, world=world, resume=chosen.resume)
        except Stopped:
            print(f"stopped; a checkpoint is in {folder}: go on with --resume", file=sys.stderr)
            return 130
        print(json.dumps({"trained": str(folder), "epochs": outcome.epochs, "seconds": outcome.seconds,
                          "chosen": outcome.chosen, **outcome.metrics}))  # fmt: skip
    evaluate(chosen, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
