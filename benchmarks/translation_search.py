"""Translating 1,000 sentences with a beam of 5: Hugging Face's `generate` / ours, with the same weights.

    python benchmarks/translation_search.py [--only natural] [--epochs 3] [--sentences 1000] [--threads 2]

Ours is `fv.nn.TransformerEncoderDecoder` (norms last) under `fv.nn.search.beam`; theirs a `MarianMTModel` of the same
shape that was given our weights: on one batch the logits must agree before anything is timed. Both have caches and
float32, the same batches (sorted by length, as many sentences), and take turns batch by batch, the first batch once
before timing. Both go from numbers to numbers: cutting text into sub-words is not timed.

natural  A Transformer of 128 trained here for a few epochs, so that sentences end where they should; each
         side stops as it does by itself, at most at twice the source's length and 10 tokens. `generate` is timed as
         it is, when it looks for the best as ours does, and with `early_stopping`, when it ends with the first 5
         hypotheses that ended. Ours writes the sub-words that targets use, as the package does, which Marian cannot.
         BLEU of all is printed.
small    The same shape untrained, whose sentences would end anywhere: so the end is ruled out, in both, and both write
         as many tokens for each batch as its longest reference has, of all sub-words. So nothing is gained by leaving
         out sentences that ended, or that can get no better: this is the pace of a step, and has no goal. How often
         both found the same is printed.
base     The same for the shape of the published Marian models, but for their vocabulary, which is larger.
rnn      The RNN with additive attention writes the same numbers of tokens.

Sentences are the first of Multi30k's training set where FOVEATE_DATA has it, else of the project's own grammar; what is
trained here, is trained on the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import foveate as fv
from corpora import progress, training_pairs
from figures import figure
from foveate.nn import search
from foveate.tasks.bucketing import SourceBatch, in_length_order
from foveate.tasks.corpus import Pair
from foveate.tasks.subwords import BEGIN, END, PAD, UNKNOWN
from foveate.tasks.training import Options, train
from foveate.tasks.translation import Shape
from foveate.tasks.translation.metrics import bleu
from foveate.tasks.translation.shape import Trained, build
from foveate.tasks.translation.task import Data, TranslationTask, prepare
from multi30k import settings
from peers import NEVER, give_marian, marian

GOAL = ">= 1.5"
WHAT = ("natural", "small", "base", "rnn")
BEAM, CELLS = 5, 4096  # source tokens of a batch, times the beam
SMALL, VOCABULARY = Shape("transformer", width=128, heads=4, layers=4, inner=256), 8000
BASE = Shape("transformer", width=512, heads=8, layers=6, inner=2048)
SPECIAL = (PAD, BEGIN, UNKNOWN)


@dataclass(frozen=True)
class Work:
    """A batch, and how many tokens to write for each of its sentences at most, the end counted."""

    batch: SourceBatch
    limits: list[int]


@dataclass
class Spent:
    """What was found for which sentence, and seconds: on the wall, and of the processor, all threads together."""

    found: dict[int, list[int]] = field(default_factory=dict)
    wall: float = 0.0
    processor: float = 0.0


Way = Callable[[Work], list[list[int]]]  # the best hypothesis of each sentence, without begin and end


def ours(model: Trained, work: Work) -> list[list[int]]:
    batch, outputs = work.batch, model.embedding.outputs
    steps = model.steps(batch.source_BS, batch.source_lengths_B)
    found = search.beam(steps, len(batch.index_B), begin=BEGIN, end=END, limit_B=work.limits, size=BEAM, forbid=SPECIAL)
    return [outputs[list(best.tokens)].tolist() for best, *_ in found]


def theirs(model: Any, early: bool, work: Work) -> list[list[int]]:
    found_BT: Tensor = model.generate(
        input_ids=work.batch.source_BS,
        attention_mask=_seen(work.batch),
        num_beams=BEAM,
        do_sample=False,
        max_new_tokens=max(work.limits),
        early_stopping=early,
        use_cache=True,
    )
    return [[token for token in row if token > UNKNOWN] for row in found_BT.tolist()]


def _seen(batch: SourceBatch) -> Tensor:
    return (torch.arange(batch.source_BS.shape[1]) < batch.source_lengths_B[:, None]).long()


def transformer(shape: Shape, vocabulary: int, outputs: Tensor | None = None) -> fv.nn.TransformerEncoderDecoder:
    """Ours, as Marian is built: norms last."""
    sizes: dict[str, Any] = {"width": shape.width, "heads": shape.heads, "layers": shape.layers, "inner": shape.inner}
    return fv.nn.TransformerEncoderDecoder(vocabulary, outputs=outputs, **sizes, dropout=shape.dropout, norm="post")


def endless(model: Any) -> Any:
    """A model that never writes the end."""
    with torch.no_grad():
        model.embedding.bias[END] = NEVER
    return model.eval()


def trained(data: Data, epochs: int) -> fv.nn.TransformerEncoderDecoder:
    """Ours, trained for a short time with our loop."""
    model = transformer(SMALL, len(data.subwords), data.outputs)
    task = TranslationTask(data, SMALL, tokenize="none", pictures=0)
    options = Options(epochs=epochs, peak=1e-3, warmup=300, patience=10, average=1, save_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        train(task, model, options, Path(folder))
    return model.eval()


def marian_of(own: fv.nn.TransformerEncoderDecoder, shape: Shape, batch: SourceBatch) -> Any:
    """A Marian that computes what ours does, which is checked on a batch. It writes no special tokens but the end."""
    other = marian(len(own.embedding.table), shape).eval()
    give_marian(own, other)
    outputs = own.embedding.outputs
    target_BT = torch.randint(UNKNOWN + 1, len(outputs), (len(batch.index_B), 7))
    with torch.no_grad():
        wanted = other(
            input_ids=batch.source_BS, attention_mask=_seen(batch), decoder_input_ids=outputs[target_BT]
        ).logits[..., outputs]
        found = own.logits(own(batch.source_BS, batch.source_lengths_B, target_BT))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
        other.final_logits_bias[0, list(SPECIAL)] = NEVER
    return other


def taken(ways: dict[str, Way], given: Sequence[Work], name: str) -> dict[str, Spent]:
    """What each way takes for all batches, in turns."""
    spent = {way: Spent() for way in ways}
    for translate in ways.values():
        translate(given[0])
    for number, work in enumerate(progress(given, name, len(given))):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            start = time.perf_counter(), time.process_time()
            found = ways[way](work)
            spent[way].wall += time.perf_counter() - start[0]
            spent[way].processor += time.process_time() - start[1]
            spent[way].found.update(zip(work.batch.index_B.tolist(), found, strict=True))
    return spent


def tell(name: str, spent: dict[str, Spent], threads: int, goal: str | None = None) -> None:
    """The figures; the first way is ours, and the goal that of the second."""
    (_, mine), *others = spent.items()
    told = f"translating {len(mine.found):,} sentences, beam {BEAM}, {name}"
    for number, (way, one) in enumerate(others):
        if not number:
            figure(told, mine.wall, "s", peer=(way, one.wall), threads=threads)
        ratio = one.wall / mine.wall
        figure(f"{told}, {way} / ours", ratio, "x", goal=None if number else goal, threads=threads)
        same = sum(mine.found[i] == one.found[i] for i in mine.found) / len(mine.found)
        print(f"  by processor time {one.processor / mine.processor:.2f} x; the same found for {same:.1%}")


def natural(data: Data, some: Sequence[Pair], given: Sequence[SourceBatch], epochs: int, threads: int) -> None:
    """Trained weights; each side stops by itself."""
    own = trained(data, epochs)
    other = marian_of(own, SMALL, given[0])
    ways: dict[str, Way] = {
        "ours": partial(ours, own),
        "generate": partial(theirs, other, False),
        "generate with early_stopping": partial(theirs, other, True),
    }
    works = [Work(batch, (2 * batch.source_lengths_B + 10).tolist()) for batch in given]
    spent = taken(ways, works, "natural")
    for way, one in spent.items():
        texts = [data.subwords.decode(one.found[i]) for i in range(len(some))]
        print(f"  {way}: BLEU {bleu(texts, [[p.target] for p in some], 'none')[0]:.1f}, {one.wall:.1f} s")
    tell("trained Transformer", spent, threads, GOAL)


def untrained(name: str, shape: Shape, vocabulary: int, given: Sequence[Work], threads: int) -> None:
    """Fresh weights; both write as many tokens."""
    own = endless(transformer(replace(shape, dropout=0.0), vocabulary))
    other = marian_of(own, shape, given[0].batch)
    size = f"{shape.layers} + {shape.layers} layers, width {shape.width}, {shape.heads} heads, inner {shape.inner}"
    print(f"{name}: {size}, {sum(p.numel() for p in own.parameters()):,} parameters")
    ways: dict[str, Way] = {"ours": partial(ours, own), "generate": partial(theirs, other, False)}
    tell(f"{name} Transformer that never ends", taken(ways, given, name), threads)


def recurrent(vocabulary: int, given: Sequence[Work], threads: int) -> None:
    """The RNN, which writes as many tokens."""
    model = endless(build(settings("en-fr", "rnn", "additive")["shape"], vocabulary, torch.arange(vocabulary)))
    spent = taken({"ours": partial(ours, model)}, given, "RNN")["ours"]
    told = f"translating {len(spent.found):,} sentences, beam {BEAM}, RNN that never ends"
    figure(told, spent.wall, "s", threads=threads)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=WHAT)
    options.add_argument("--epochs", type=int, default=3, help="to train for, for the natural comparison")
    options.add_argument("--sentences", type=int, default=1000)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--limit", type=int, metavar="N", help="only the first N pairs of the data, to try it out")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    told, pairs = training_pairs(chosen.limit)
    some, others = pairs[: chosen.sentences], pairs[chosen.sentences :]
    data = prepare(others, some[:200], VOCABULARY)
    subwords, wanted = data.subwords, set(WHAT if chosen.only is None else (chosen.only,))
    given = list(in_length_order(subwords.ids(p.source for p in some), CELLS // BEAM))
    references = subwords.ids(p.target for p in some)
    works = []
    for batch in given:
        longest = max(len(references[i]) + 1 for i in batch.index_B.tolist())
        works.append(Work(batch, [longest] * len(batch.index_B)))
    print(f"{told}: {len(some):,} sentences in {len(given)} batches, {len(subwords):,} sub-words")
    if "natural" in wanted:
        natural(data, some, given, chosen.epochs, chosen.threads)
    for name, shape in {"small": SMALL, "base": BASE}.items():
        if name in wanted:
            untrained(name, shape, len(subwords), works, chosen.threads)
    if "rnn" in wanted:
        recurrent(len(subwords), works, chosen.threads)


if __name__ == "__main__":
    main()
