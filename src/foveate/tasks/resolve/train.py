"""Train the model that resolves a pronoun: `python -m foveate.tasks.resolve.train -o DIR`."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ..training.checkpoint import describe_checkpoint, load_checkpoint, load_model, save_checkpoint, save_model
from ..training.report import Log, Progress
from ..training.schedule import learning_rate
from . import lexicon as lexicons
from .batches import Batch, batches, read_english, word_counts
from .evaluate import held_out
from .grammar import Example, Split, pairs
from .lexicon import Lexicon
from .model import Encoded, Resolver, Size
from .vocabulary import Vocabulary, build

__all__ = ["Run", "train"]


@dataclass(frozen=True)
class Run:
    """One training run; `half` multiplies matrices in bfloat16, with the parameters in float32."""

    steps: int = 7000
    word_steps: int = 2500
    batch: int = 160
    pool: int = 8192
    peak: float = 1.5e-3
    warmup: int = 150
    guess_weight: float = 0.3
    identity_weight: float = 0.3
    vocabulary: int = 10000
    seed: int = 1
    report_every: int = 100
    save_every: int = 500
    half: bool = True
    size: Size = field(default_factory=Size)


def split_of(lexicon: Lexicon) -> Split:
    """The frames and nouns listed in `lexicon/heldout.txt`."""
    frames, nouns = lexicon.held_out
    return Split(frozenset(frames), frozenset(nouns))


def word_vectors(model: Resolver, source: Iterator[tuple[Example, Example]], steps: int, pairs: int = 64) -> float:
    """Give the embeddings a first meaning: which of two nouns do the words of a remark, in any order, speak of?

    Only the embeddings and the prediction map learn here; without this start the encoder sits at chance for long.
    Returns the share of right choices over the last hundred steps.
    """
    table, number = model.embedding, model.vocabulary.number
    optimizer = torch.optim.Adam([*table.parameters(), *model.predict.parameters()], lr=3e-3)
    right: deque[float] = deque([0.0], maxlen=100)
    for _ in range(steps):
        examples = [example for pair in islice(source, pairs) for example in pair]
        remarks = [model.vocabulary.numbers(example.words[example.pronoun :]) for example in examples]
        starts = torch.tensor([0, *accumulate(map(len, remarks[:-1]))])
        summed = F.embedding_bag(torch.tensor([n for row in remarks for n in row]), table.weight, starts, mode="sum")
        true = table(torch.tensor([number(e.words[e.antecedent]) for e in examples]))
        false = table(torch.tensor([number(e.words[e.distractor]) for e in examples]))
        margin = 3 * ((true - false) * model.predict(summed)).sum(-1)
        optimizer.zero_grad(set_to_none=True)
        F.softplus(-margin).mean().backward()
        optimizer.step()
        right.append(float((margin > 0).float().mean()))
    return sum(right) / len(right)


@dataclass
class Loss:
    """The parts of the training loss, and how many antecedents came first."""

    resolve: torch.Tensor
    identity: torch.Tensor
    guess: torch.Tensor
    right: int

    def numbers(self) -> dict[str, float]:
        """The parts, for the log."""
        return {name: float(getattr(self, name).detach()) for name in ("resolve", "identity", "guess")}


def losses(model: Resolver, batch: Batch) -> Loss:
    """Mean losses: antecedents among the words of their sentence, and of the whole batch; masked words."""
    encoded = model(batch.ids_BL)
    count = len(batch.pronoun_R)
    resolve, identity, guess, right = *[encoded.hidden.sum() * 0] * 3, 0
    if count:
        rows = torch.arange(count)
        ids_RL = batch.ids_BL[:count]
        logits_RL = model.antecedents(Encoded(*(x[:count] for x in encoded)), ids_RL, batch.pronoun_R)
        resolve = F.cross_entropy(logits_RL, batch.antecedent_R)
        right = int((logits_RL.argmax(-1) == batch.antecedent_R).sum())
        words_U, place_RL = ids_RL.unique(return_inverse=True)
        wanted_RM = model.named(encoded.read[rows, batch.pronoun_R])
        identity = F.cross_entropy(wanted_RM @ model.embedding(words_U).T, place_RL[rows, batch.antecedent_R])
    if len(batch.words_N):
        rows, columns = batch.places_N2.T
        guess = F.cross_entropy(model.words(encoded.hidden[rows, columns]), batch.words_N)
    return Loss(resolve, identity, guess, right)


def begin(run: Run, lexicon: Lexicon, split: Split, english: list[list[str]]) -> Resolver:
    """A new model, whose embeddings have a first meaning."""
    model = Resolver(build(lexicon, english, run.vocabulary), run.size)
    drawn = pairs(lexicon, random.Random(run.seed + 1), split, counts=word_counts(english))
    chosen = word_vectors(model, drawn, run.word_steps)
    print(f"word vectors: {chosen:.1%} of choices right", file=sys.stderr, flush=True)
    return model


def begin_with(run: Run, folder: Path) -> Resolver:
    """A model with the words and parameters of a trained one, as far as that has them."""
    tensors, description = load_model(folder)
    if description["size"] != asdict(run.size):
        raise ValueError(f"{folder} holds a model of {description['size']}; this run makes one of {asdict(run.size)}")
    model = Resolver(Vocabulary(tuple(description["words"].split(" "))), run.size)
    model.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, strict=False)
    return model


def train(
    run: Run,
    output: Path,
    english: list[list[str]],
    *,
    start: Path | None = None,
    resume: bool = False,
    stop_after: int | None = None,
) -> Resolver:
    """Train, log to `log.jsonl`, keep `checkpoint.safetensors`, and leave `model.safetensors` and `model.json`.

    A resumed run sees the same batches, in the same order, as one that was never interrupted. `start` is the folder of
    a trained model whose words and parameters are begun with; those that it lacks are drawn.

    Raises:
        ValueError: there is no model, nothing to resume, or a model of another shape.
    """
    torch.manual_seed(run.seed)
    lexicon = lexicons.load()
    split = split_of(lexicon)
    if resume:
        model = Resolver(Vocabulary(tuple(describe_checkpoint(output)["words"].split(" "))), run.size)
    elif start is not None:
        model = begin_with(run, start)
    else:
        model = begin(run, lexicon, split, english)
    vocabulary = model.vocabulary
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.peak, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    first, seconds = 0, 0.0
    if resume:
        state = load_checkpoint(output, model, optimizer)
        first, seconds = state["step"], state["seconds"]
    progress = Progress(run.steps, first=first, seconds=seconds)
    log = Log(output / "log.jsonl", after=first if resume else None)
    source = batches(lexicon, vocabulary, english, split, random.Random(run.seed), size=run.batch, pool=run.pool)
    sums: Counter[str] = Counter()
    model.train()
    for step in range(min(run.steps, stop_after or run.steps)):
        batch = next(source)
        if step < first:
            continue
        loss = learn(model, optimizer, batch, run, step)
        parts = loss.numbers()
        sums.update({**parts, "steps": 1, "right": loss.right, "seen": len(batch.pronoun_R)})
        done = step + 1
        if done % run.report_every == 0 or done == run.steps:
            means = {part: sums[part] / sums["steps"] for part in parts}
            told = {**means, "accuracy": sums["right"] / max(1, sums["seen"])}
            log.add(step=done, seconds=round(progress.seconds, 1), **told)
            progress.say(done, told)
            sums.clear()
        if done % run.save_every == 0 or done == stop_after:
            state = {"step": done, "seconds": progress.seconds, "words": " ".join(vocabulary.words), "run": asdict(run)}
            save_checkpoint(output, model, optimizer, state)
    progress.close()
    model.eval()
    export(model, run, output, {"seconds": round(progress.seconds), "threads": torch.get_num_threads()})
    return model


def learn(model: Resolver, optimizer: torch.optim.Optimizer, batch: Batch, run: Run, step: int) -> Loss:
    """One step of training."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, run.steps, peak=run.peak, warmup=run.warmup)
    with torch.autocast("cpu", torch.bfloat16, enabled=run.half):
        loss = losses(model, batch)
    optimizer.zero_grad(set_to_none=True)
    (loss.resolve + run.identity_weight * loss.identity + run.guess_weight * loss.guess).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def export(model: Resolver, run: Run, output: Path, trained: dict[str, Any]) -> None:
    """Half-precision weights, and the vocabulary and shape that belong to them."""
    tensors = {key: tensor.half() for key, tensor in model.state_dict().items()}
    description = {
        "size": asdict(run.size),
        "trained": trained,
        "run": asdict(run),
        "words": " ".join(model.vocabulary.words),
    }
    save_model(output, tensors, description)


def data_folder() -> Path:
    return Path(os.environ.get("FOVEATE_DATA", "../shared/data"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m foveate.tasks.resolve.train", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the model, checkpoint and log")
    parser.add_argument(
        "--data", type=Path, default=data_folder(), help="folder that holds tatoeba-en-fr (default: $FOVEATE_DATA)"
    )
    parser.add_argument("--steps", type=int, default=Run.steps, help="training steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=Run.seed, help="random seed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--peak", type=float, default=Run.peak, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--start", type=Path, metavar="DIR", help="begin with the parameters of this trained model")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    run = Run(steps=given.steps, seed=given.seed, peak=given.peak)
    try:
        english = read_english(given.data / "tatoeba-en-fr" / "train.tsv")
        model = train(run, given.output, english, start=given.start, resume=given.resume)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    lexicon = lexicons.load()
    for kind, result in held_out(model, lexicon, split_of(lexicon), 500).items():
        print(f"{kind}: {result.single:.1%} of sentences, {result.pair:.1%} of flip pairs")


if __name__ == "__main__":
    main()
