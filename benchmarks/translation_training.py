"""Training a translator: target tokens per second, ours / the same models written plainly in a plain loop.

    python benchmarks/translation_training.py [--only rnn] [--steps 6] [--rounds 9] [--threads 2]

Ours is what `foveate train translation` runs: `tasks.training.train` with batches of one length, an output over the
sub-words that targets use, losses taken with it, bfloat16 where this machine multiplies faster with it, fused AdamW.
The plain models are `nn.GRU` with additive attention written out, and `nn.TransformerEncoder` and
`nn.TransformerDecoder`: the same sizes, and given the same weights the same hidden states, which is checked first.
Their loop has shuffled batches of as many sentences on average, padded, a cross-entropy over the whole vocabulary that
ignores padding, Adam, and float32. Much of the gain is that of batches of one length, some that of bfloat16: so the
plain loop is run with either and with both too, and nobody need take for a faster model what is a better loop.

All take turns, some steps each: a figure is the median of the rounds' ratios. Tokens are those that are to be
predicted, padding not counted. Processor time is of all threads, and other programs disturb it less. The sizes are
those of `multi30k.py`; sentences are Multi30k's where FOVEATE_DATA has it, else the project's own grammar's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from corpora import training_pairs
from figures import figure
from foveate.tasks.bucketing import Batch, batches
from foveate.tasks.subwords import BEGIN, END, PAD
from foveate.tasks.training import train
from foveate.tasks.training.precision import settled
from foveate.tasks.translation import Shape
from foveate.tasks.translation.shape import build
from foveate.tasks.translation.task import Data, TranslationTask, prepare
from multi30k import settings
from peers import PlainRNN, PlainTransformer, give

GOAL = ">= 1.3"
PLAIN = {"rnn": PlainRNN, "transformer": PlainTransformer}
LOOPS = {  # on batches of ours, in bfloat16
    "plain loop": (False, False),
    "plain loop in bfloat16": (False, True),
    "plain loop on our batches": (True, False),
    "plain loop on our batches in bfloat16": (True, True),
}
NAMES = {"rnn": "the RNN with additive attention", "transformer": "the Transformer"}


class Spent(NamedTuple):
    """Target tokens of a step, and the seconds it took: on the wall, and of the processor, all threads together."""

    tokens: int
    wall: float
    processor: float


class Stopwatch:
    """The steps of one contender, in blocks, of which the first warms up."""

    def __init__(self) -> None:
        self.blocks: list[list[Spent]] = []
        self.tokens = 0  # of the step that goes on
        self._since: tuple[float, float] | None = None

    def begin(self) -> None:
        self._since = time.perf_counter(), time.process_time()

    def end(self) -> None:
        if self._since is not None:
            wall, processor = self._since
            self.blocks[-1].append(Spent(self.tokens, time.perf_counter() - wall, time.process_time() - processor))
            self._since = None

    def paces(self, clock: str) -> list[float]:
        """Tokens per second of each block."""
        return [sum(s.tokens for s in steps) / sum(getattr(s, clock) for s in steps) for steps in self.blocks[1:]]

    def median(self, clock: str) -> float:
        """Tokens per second, the median of all steps."""
        return statistics.median(s.tokens / getattr(s, clock) for steps in self.blocks[1:] for s in steps)


class Paused(Sequence[Batch]):
    """Batches of our loop, which asks for each as its step begins: so steps are timed, and between blocks of them the
    others take their turn."""

    def __init__(self, inner: Sequence[Batch], steps: int, rounds: int, between: Callable[[], object]) -> None:
        self.inner, self.steps, self.total, self.between = inner, steps, steps * (rounds + 1), between
        self.watch = Stopwatch()

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # no slices
        self.watch.end()
        if index % self.steps == 0:
            if index:
                self.between()
            self.watch.blocks.append([])
        self.watch.begin()
        batch = self.inner[index % len(self.inner)]
        self.watch.tokens = batch.tokens
        return batch

    def close(self) -> None:
        """After the last step, whose end `watch.end` marked."""
        with torch.enable_grad():  # the loop has turned it off to validate
            self.between()


class Timed(TranslationTask):
    """Translation as ever, but that one pass is `paused`, and nothing is validated."""

    paused: Paused

    def batches(self, epoch: int, rank: int, world: int) -> Paused:  # type: ignore[override]
        return self.paused

    def validate(self, model: nn.Module) -> dict[str, float]:
        self.paused.watch.end()
        return {"BLEU": 0.0}

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Path) -> None:
        self.paused.close()


class PlainLoop:
    """What one would write: padded batches, a cross-entropy that ignores padding, Adam."""

    def __init__(
        self, model: nn.Module, data: Data, batches: Iterator[list[int]], *, smoothing: float, clip: float, half: bool
    ) -> None:
        targets, outputs = data.train.targets, data.outputs
        self.sources = [_ended(data.train.sources[i]) for i in range(len(data.train))]
        self.targets = [_ended(outputs[torch.from_numpy(targets[i]).long()]) for i in range(len(targets))]
        self.model, self.batches, self.clip, self.half = model.train(), batches, clip, half
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        self.loss = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=smoothing)
        self.watch, self.cells = Stopwatch(), 0

    def step(self) -> None:
        rows = next(self.batches)
        source_BS = pad_sequence([self.sources[i] for i in rows], batch_first=True, padding_value=PAD)
        wanted_BT = pad_sequence([self.targets[i] for i in rows], batch_first=True, padding_value=PAD)
        lengths_B = torch.tensor([len(self.sources[i]) for i in rows])
        given_BT = F.pad(wanted_BT[:, :-1], (1, 0), value=BEGIN)
        with torch.autocast("cpu", torch.bfloat16) if self.half else nullcontext():
            logits_BTV = self.model(source_BS, lengths_B, given_BT)
            loss = self.loss(logits_BTV.flatten(0, 1), wanted_BT.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.watch.tokens = int((wanted_BT != PAD).sum())
        self.cells += wanted_BT.numel()

    def block(self, steps: int) -> None:
        self.watch.blocks.append([])
        for _ in range(steps):
            self.watch.begin()
            self.step()
            self.watch.end()


def shuffled(sentences: int, rows: int) -> Iterator[list[int]]:
    """Batches of `rows` sentences, drawn anew in each pass."""
    while True:
        yield from (some.tolist() for some in torch.randperm(sentences).split(rows))


def _ended(ids: Any) -> Tensor:
    return torch.cat([torch.as_tensor(ids, dtype=torch.int64), torch.tensor([END])])


def check(data: Data, shape: Shape) -> None:
    """The plain model with our weights says what ours says."""
    still = replace(shape, dropout=0.0, state_dropout=0.0)
    ours, plain = build(still, len(data.subwords), data.outputs), PLAIN[shape.arch](len(data.subwords), still)
    give(ours, plain)
    batch = batches(data.train, tokens=512)[0]
    given = batch.source_BS, batch.source_lengths_B
    with torch.no_grad():
        theirs = plain.hidden(*given, data.outputs[batch.target_in_BT])
        real_BT = batch.target_out_BT != PAD
        torch.testing.assert_close(ours(*given, batch.target_in_BT)[real_BT], theirs[real_BT], rtol=1e-4, atol=1e-4)


def measure(arch: str, data: Data, chosen: argparse.Namespace) -> tuple[Stopwatch, dict[str, Stopwatch]]:
    """Our steps, and those of the peers."""
    given = settings("en-fr", arch, "additive")
    shape, options, smoothing = given["shape"], given["options"], given["smoothing"]
    check(data, shape)
    inner = batches(data.train, tokens=given["tokens"])
    rows = round(len(data.train) / len(inner))
    print(f"  {len(inner):,} batches of {rows} sentences on average")
    loops = {}
    for name, (ordered, half) in LOOPS.items():
        model = PLAIN[arch](len(data.subwords), shape)
        order = cycle([some.tolist() for some in inner.rows]) if ordered else shuffled(len(data.train), rows)
        loops[name] = PlainLoop(model, data, order, smoothing=smoothing, clip=options.clip, half=half)
    turn = 0

    def others() -> None:
        nonlocal turn
        for loop in list(loops.values())[:: -1 if turn % 2 else 1]:
            loop.block(chosen.steps)
        turn += 1
        print(f"  round {turn} of {chosen.rounds + 1}", file=sys.stderr, flush=True)

    task = Timed(data, shape, tokens=given["tokens"], smoothing=smoothing)
    task.paused = Paused(inner, chosen.steps, chosen.rounds, others)
    one = replace(options, epochs=1, patience=0, average=1, save_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        train(task, task.model(), one, Path(folder), quiet=True)
    for name in ("plain loop", "plain loop on our batches"):
        real = sum(step.tokens for block in loops[name].watch.blocks for step in block)
        print(f"  padding of targets, {name}: {1 - real / loops[name].cells:.0%}")
    return task.paused.watch, {name: loop.watch for name, loop in loops.items()}


def tell(arch: str, ours: Stopwatch, peers: dict[str, Stopwatch], threads: int) -> None:
    """The figures."""

    def ratio(peer: str, clock: str) -> float:
        pairs = zip(ours.paces(clock), peers[peer].paces(clock), strict=True)
        return statistics.median(own / other for own, other in pairs)

    name, first = f"training {NAMES[arch]}", next(iter(peers))
    pace = peers[first].median("wall")
    figure(name, ours.median("wall"), "target tokens/s", peer=(first, pace), threads=threads)
    for peer in peers:
        figure(
            f"{name}, ours / {peer}", ratio(peer, "wall"), "x", goal=GOAL if peer == first else None, threads=threads
        )
    print("  the same by processor time:", ", ".join(f"{ratio(peer, 'processor'):.2f} x" for peer in peers))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=tuple(PLAIN))
    options.add_argument("--steps", type=int, default=6, help="of a block")
    options.add_argument("--rounds", type=int, default=9, help="blocks of each that are timed, after one to warm up")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--limit", type=int, metavar="N", help="only the first N pairs, to try it out")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    told, pairs = training_pairs(chosen.limit)
    print(f"{told}, {len(pairs):,} pairs; ours in {settled('auto', torch.device('cpu'))}")
    data = prepare(pairs, [], settings("en-fr", "rnn", "additive")["vocabulary"])
    print(f"  {len(data.subwords):,} sub-words, of which targets use {len(data.outputs):,}")
    for arch in PLAIN if chosen.only is None else (chosen.only,):
        print(NAMES[arch])
        tell(arch, *measure(arch, data, chosen), chosen.threads)


if __name__ == "__main__":
    main()
