"""The built-in translator on Tatoeba's test set, beside a Transformer that Hugging Face's Trainer trained as long.

    python benchmarks/tatoeba.py -o DIR [--model DIR] [--only ours]
    python benchmarks/tatoeba.py -o DIR --minutes 90 [--resume]        # theirs for another time than ours took

BLEU is detokenised, with all references (sacrebleu's tokenize=13a), beam 5. The peer is a `MarianMTModel` with about as
many parameters, trained by `Seq2SeqTrainer` on the same pairs in the same sub-words, for the same wall time (what the
model's card says) on as many threads. It is given what helps it: batches of about one length, label smoothing, bfloat16
if a step is faster with it, and a learning rate that rises and falls by the clock, so that it ends low whatever the
machine does. All its time goes into training, while ours holds the validations too.

The peer needs `accelerate` (pip install accelerate). It takes as long as ours did: a command of its own, no part of
`make bench`; it tells how far it is, writes a checkpoint every few minutes, and goes on with `--resume`. FOVEATE_DATA
names the folder that holds `tatoeba-en-fr`. Results are kept in DIR/results.jsonl, and shown when asked for again: the
test set is looked at once per model.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from corpora import data_folder, digest, kept, opened, progress, translated
from figures import figure
from foveate.tasks.bucketing import Bitext, batches, in_length_order
from foveate.tasks.corpus import read_pairs, references
from foveate.tasks.subwords import BEGIN, END, PAD, UNKNOWN, Subwords
from foveate.tasks.training.report import duration
from foveate.tasks.translation import Translator
from foveate.tasks.translation.metrics import bleu
from foveate.tasks.translation.store import BUILTIN
from peers import NEVER, marian, marian_like

GOAL = ">= 50"
BEAM, CELLS = 5, 4096
PEAK, WARM_UP, SMOOTHING, CLIP = 1e-3, 0.04, 0.1, 1.0  # of the peer; warm-up is a share of its time
SAVE_EVERY, TELL_EVERY = 300.0, 30.0  # seconds


class Clock:
    """Wall time of a training that may be stopped and resumed, and the learning rate that follows from it."""

    def __init__(self, budget: float, before: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self.budget, self.before, self.now, self.start = budget, before, now, now()

    @property
    def seconds(self) -> float:
        return self.before + self.now() - self.start

    def rate(self, _: int = 0) -> float:
        """From 0 to 1 during the warm-up, then in a straight line to 0 at the end."""
        done = min(1.0, self.seconds / self.budget)
        return done / WARM_UP if done < WARM_UP else (1 - done) / (1 - WARM_UP)


class Pairs(torch.utils.data.Dataset):
    """What the Trainer reads: numbers of sub-words, with the end symbol."""

    def __init__(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> None:
        self.sources, self.targets = sources, targets

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"input_ids": [*self.sources[index], END], "labels": [*self.targets[index], END]}


def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """A padded batch; -100 is what the Trainer's loss leaves out."""

    def padded(lists: list[list[int]], value: int) -> Tensor:
        return pad_sequence([torch.tensor(ids) for ids in lists], batch_first=True, padding_value=value)

    source_BS = padded([row["input_ids"] for row in rows], PAD)
    given = [[BEGIN, *row["labels"][:-1]] for row in rows]
    return {
        "input_ids": source_BS,
        "attention_mask": (source_BS != PAD).long(),
        "labels": padded([row["labels"] for row in rows], -100),
        "decoder_input_ids": padded(given, PAD),
    }


def needed(name: str) -> None:
    """Ends the program where a package is missing."""
    if importlib.util.find_spec(name) is None:
        raise SystemExit(f"Hugging Face's Trainer needs {name}: pip install {name}")


def faster(model: Any, batch: dict[str, Tensor]) -> bool:
    """Whether a step of training takes less time in bfloat16."""

    def seconds(half: bool) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                model(**batch).loss.backward()
            best = min(best, time.perf_counter() - start)
        model.zero_grad()
        return best

    return seconds(True) < seconds(False)


def checkpoint(folder: Path) -> tuple[Path, float] | None:
    """The last whole checkpoint, and the seconds until it."""
    found = sorted(folder.glob("checkpoint-*/clock.json"), key=lambda path: int(path.parent.name.split("-")[1]))
    return (found[-1].parent, json.loads(found[-1].read_text())["seconds"]) if found else None


def watcher(clock: Clock, folder: Path) -> Any:
    """A callback that stops the Trainer in time, asks for checkpoints, and tells how far it is."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        saved, told, loss = clock.seconds, 0.0, float("nan")

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            self.loss = (logs or {}).get("loss", self.loss)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            seconds = clock.seconds
            if seconds - self.told >= TELL_EVERY:
                self.told = seconds
                where = f"step {state.global_step:,}, epoch {state.epoch:.2f}, loss {self.loss:.3f}"
                left = duration(max(0.0, clock.budget - seconds))
                print(f"peer: {where}, {left} left", file=sys.stderr, flush=True)
            control.should_training_stop = seconds >= clock.budget
            if control.should_training_stop or seconds - self.saved >= SAVE_EVERY:
                control.should_save, self.saved = True, seconds
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            path = folder / f"checkpoint-{state.global_step}" / "clock.json"
            path.write_text(json.dumps({"seconds": clock.seconds, "steps": state.global_step}))

    return Watcher()


def train(translator: Translator, chosen: argparse.Namespace, minutes: float, folder: Path) -> dict[str, Any]:
    """The peer, trained into `folder`; facts about it."""
    from transformers import PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments
    from transformers.utils.logging import disable_progress_bar

    last = checkpoint(folder)
    if last is not None and not chosen.resume:
        raise SystemExit(f"there is a checkpoint in {folder}: go on with --resume, or name another folder")
    disable_progress_bar()
    subwords, settings = translator.subwords, translator.facts.get("settings", {})
    pairs = read_pairs([data_folder("tatoeba-en-fr") / "train.tsv"]).pairs[: chosen.limit]
    sources, targets = subwords.ids(p.source for p in pairs), subwords.ids(p.target for p in pairs)
    rows = chosen.rows or round(
        len(pairs) / len(batches(Bitext(sources, targets), tokens=settings.get("tokens", CELLS)))
    )
    shape = marian_like(translator.facts["parameters"], len(subwords))
    torch.manual_seed(chosen.seed)
    model, data = marian(len(subwords), shape), Pairs(sources, targets)
    half = faster(model, collate([data[i] for i in range(min(rows, len(data)))]))
    clock = Clock(60 * minutes, 0.0 if last is None else last[1])
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=rows, train_sampling_strategy="group_by_length",
        label_smoothing_factor=SMOOTHING, max_grad_norm=CLIP, max_steps=10**8, save_strategy="no", save_total_limit=2,
        bf16=half, use_cpu=True, seed=chosen.seed, logging_steps=20, disable_tqdm=True, report_to="none",
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, clock.rate)
    trainer = Seq2SeqTrainer(
        model, arguments, data_collator=collate, train_dataset=data, optimizers=(optimizer, schedule),
        callbacks=[watcher(clock, folder)],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if last is None else str(last[0]))
    trainer.save_model(str(folder / "model"))
    return {
        "size": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "shape": f"{shape.layers} + {shape.layers} layers, width {shape.width}, inner {shape.inner}",
        "pairs": len(pairs), "rows": rows, "precision": "bfloat16" if half else "float32", "threads": chosen.threads,
        "minutes": round(clock.seconds / 60, 1), "steps": trainer.state.global_step, "epochs": trainer.state.epoch,
    }  # fmt: skip


def generated(model: Any, subwords: Subwords, texts: Sequence[str]) -> list[str]:
    """Translations by `generate`."""
    model.eval().final_logits_bias[0, [PAD, BEGIN, UNKNOWN]] = NEVER
    given = list(in_length_order(subwords.ids(texts), CELLS // BEAM))
    found = [""] * len(texts)
    for batch in progress(given, "peer: translating, batches", len(given)):
        seen_BS = (batch.source_BS != PAD).long()
        most = int(2 * batch.source_lengths_B.max() + 10)
        out_BT = model.generate(
            input_ids=batch.source_BS, attention_mask=seen_BS, num_beams=BEAM, do_sample=False, max_new_tokens=most
        )
        for index, row in zip(batch.index_B.tolist(), out_BT.tolist(), strict=True):
            found[index] = subwords.decode(row)
    return found


def measured(found: Sequence[str], wanted: Sequence[Sequence[str]], path: Path) -> dict[str, Any]:
    """BLEU, and the translations into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(found) + "\n", encoding="utf-8")
    score, signature = bleu(found, wanted, "13a")
    return {"BLEU": round(score, 2), "signature": signature, "beam": BEAM, "sentences": len(found)}


def main(given: list[str] | None = None) -> int:
    chosen = arguments(given)
    place = chosen.model or BUILTIN / "en-fr"
    translator = opened(place)
    trained = translator.facts["trained"]
    chosen.threads = chosen.threads or trained["threads"]
    torch.set_num_threads(chosen.threads)
    folder, minutes = chosen.output, chosen.minutes or trained["seconds"] / 60
    pairs = read_pairs([data_folder("tatoeba-en-fr") / f"{chosen.split}.tsv"]).pairs
    sources, wanted = (texts[: chosen.limit] for texts in references(pairs))
    split = chosen.split if chosen.limit is None else f"{chosen.split}-{chosen.limit}"
    of_model, results = digest(place), folder / "results.jsonl"

    def ours() -> dict[str, Any]:
        found = translated(translator, sources, BEAM)
        facts = {"model": translator.shape.name, "size": translator.facts["parameters"], "trained": trained}
        return measured(found, wanted, folder / f"ours.{split}.fr") | facts

    def theirs() -> dict[str, Any]:
        from transformers import MarianMTModel

        facts = train(translator, chosen, minutes, folder / "peer")
        model = MarianMTModel.from_pretrained(folder / "peer" / "model")
        return measured(generated(model, translator.subwords, sources), wanted, folder / f"peer.{split}.fr") | facts

    mine, peer = kept(results, {"what": "ours", "split": split, "parameters": of_model}, ours), None
    print(f"  ours: {mine['model']}, {mine['size']:,} parameters, BLEU {mine['BLEU']}, {mine['signature']}")
    if chosen.only != "ours":
        needed("accelerate")
        peer = kept(results, {"what": "peer", "split": split, "beside": of_model, "asked": round(minutes, 2)}, theirs)
        told = f"{peer['shape']}, {peer['size']:,} parameters, {peer['minutes']} min on {peer['threads']} threads"
        print(f"  peer: {told}, {peer['epochs']:.1f} epochs in {peer['precision']}, BLEU {peer['BLEU']}")
    other = None if peer is None else (f"Marian, Seq2SeqTrainer, {peer['minutes']} min", peer["BLEU"])
    name = f"Tatoeba en-fr, {'built-in model' if chosen.model is None else mine['model']}, {split}"
    figure(name, mine["BLEU"], "BLEU", goal=GOAL if split == "test" else None, peer=other)
    return 0


def arguments(given: list[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("-o", "--output", type=Path, metavar="DIR", required=True, help="for results and the peer")
    options.add_argument("--model", type=Path, metavar="DIR", help="a trained translator; default: the built-in one")
    options.add_argument("--only", choices=("ours",), help="train no peer")
    options.add_argument("--minutes", type=float, help="to train the peer; default: as long as ours was trained")
    options.add_argument("--resume", action="store_true", help="go on with the peer where it was stopped")
    options.add_argument("--rows", type=int, help="sentences of the peer's batches; default: as many as in ours")
    options.add_argument("--threads", type=int, help="default: as many as ours was trained on")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--split", choices=("valid", "test"), default="test", help="to measure on")
    options.add_argument("--limit", type=int, metavar="N", help="only the first N of everything, to try it out")
    return options.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
