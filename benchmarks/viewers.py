"""Several people looking around in one long recording at once: 2,000 random requests, some of them hostile.

    python benchmarks/viewers.py [--tokens 32768] [--viewers 8] [--requests 2000] [--threads 1]

One causal layer of 12 heads is recorded on disk and served on loopback. Each viewer is a connection that asks for rows,
top links, tiles of the map, pictures and single weights at random places, and now and then for what there is not: heads
and documents that do not exist, negative and enormous numbers, reversed ranges. Every answer is checked: its status,
its length, that a row's weights sum to 1, and that an error is one sentence. Printed are the requests that were lost or
answered wrongly (to reach: none), and how long answers took.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import torch

import foveate as fv
from figures import figure
from foveate.apps.serve import Page
from foveate.apps.workspace import Workspace
from foveate.views.overview import TILE
from foveate.views.source import Source
from foveate.views.wire import unpack
from foveate.views.words import from_pieces
from long_maps import recorded

HOSTILE = 8  # one request in so many


@dataclass
class Visit:
    """What one viewer saw: milliseconds of each question, and what was wrong."""

    taken: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    answered: int = 0


def fair(chance: random.Random, tokens: int, heads: int) -> tuple[str, dict[str, Any]]:
    """A question at a random place, with its parameters."""
    head, at = chance.randrange(heads), chance.randrange(tokens)
    look = {"call": 0, "index": at, "direction": "reads"}
    zoom = chance.randint(0, max(0, math.ceil(math.log2(tokens / TILE))))
    last = (tokens - 1) // (TILE << zoom)
    top, left = (chance.randint(0, max(0, tokens - 200)) for _ in range(2))
    part = {"r0": top, "r1": min(tokens, top + 200), "c0": left, "c1": min(tokens, left + 200)}
    return chance.choice([
        ("row", {**look, "head": head}),
        ("row", {**look, "head": head, "direction": "read_by"}),
        ("topk", {**look, "k": chance.randint(1, 64)}),
        ("topk", {**look, "k": 16, "head": head, "direction": "read_by"}),
        ("tile", {"call": 0, "head": head, **part, "height": 100, "width": 100}),
        ("map", {"call": 0, "head": head, "zoom": zoom, **{one: chance.randint(0, last) for one in ("row", "column")}}),
        ("pair", {"call": 0, "head": head, "i": at, "j": chance.randint(0, at)}),
        ("", {}),
    ])  # fmt: skip


def hostile(chance: random.Random, tokens: int, heads: int) -> tuple[str, dict[str, Any]]:
    """A question to which there is no answer."""
    name, asked = fair(chance, tokens, heads)
    while not asked:
        name, asked = fair(chance, tokens, heads)
    number = chance.choice([key for key, value in asked.items() if isinstance(value, int) and key not in ("k", "zoom")])
    bad: list[Any] = [-1, 10**12 - 1, 10**40, "1e3", "NaN", "", "../../etc/passwd", "0x1f", "1;2"]
    spoilt: list[dict[str, Any]] = [{**asked, number: chance.choice(bad)}, {**asked, "more": 1}, {**asked, "call": 7}]
    if "r0" in asked:
        spoilt.append({**asked, "r0": asked["r1"], "r1": asked["r0"]})
        spoilt.append({**asked, "height": 10**9})
    return name, chance.choice(spoilt)


def visit(page: Page, document: str, seed: int, count: int, tokens: int, heads: int, seen: Visit) -> None:
    """Ask `count` questions, one after the other, over one connection."""
    chance = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=120)
    cookie = {"Cookie": f"foveate_{page.port}={page.token}"}
    for _ in range(count):
        bad = chance.randrange(HOSTILE) == 0
        name, asked = (hostile if bad else fair)(chance, tokens, heads)
        known = chance.randrange(10) > 0 or not bad
        path = f"/api/documents/{document if known else 'nowhere'}{'/' if name else ''}{name}?{urlencode(asked)}"
        start = time.perf_counter()
        try:
            connection.request("GET", path, headers=cookie)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            seen.wrong.append(f"{path}: lost ({error!r})")
            connection.close()
            continue
        seen.answered += 1
        seen.taken.setdefault("refused" if bad else name or "document", []).append(1000 * (time.perf_counter() - start))
        seen.wrong += [f"{path}: {what}" for what in (refused if bad else answered)(name, asked, status, body, tokens)]
    connection.close()


def refused(name: str, asked: dict[str, Any], status: int, body: bytes, tokens: int) -> Iterator[str]:
    """What is wrong with an answer to a hostile question."""
    if status not in (400, 404):
        yield f"status {status}"
    elif not json.loads(body)["error"]:
        yield "no sentence"


def answered(name: str, asked: dict[str, Any], status: int, body: bytes, tokens: int) -> Iterator[str]:
    """What is wrong with an answer to a fair question."""
    if status != 200:
        yield f"status {status}: {body[:200]!r}"
    elif name == "row":
        header, raw = unpack(body)
        row = np.frombuffer(raw, "<f4")
        if (header["heads"], header["length"], len(row)) != (1, tokens, tokens):
            yield f"header {header}, {len(row)} weights"
        elif asked["direction"] == "reads" and abs(float(row.sum(dtype=np.float64)) - 1) > 1e-3:
            yield f"weights sum to {row.sum()}"
        elif asked["direction"] == "read_by" and header["refined"] == 1 and np.isnan(row).any():
            yield "all rows are known, and some are not"
    elif name in ("tile", "map"):
        header, raw = unpack(body)
        if header["height"] * header["width"] != len(raw):
            yield f"header {header}, {len(raw)} pixels"
    elif name == "topk":
        found = json.loads(body)
        if any(len(one) != asked["k"] for one in found["weights"]):
            yield f"{[len(one) for one in found['weights']]} links"
    elif name == "pair" and json.loads(body)["allowed"] is not True:
        yield "a causal query sees the keys up to its own"


def storm(page: Page, document: str, tokens: int, heads: int, viewers: int, requests: int) -> list[Visit]:
    """All viewers at once."""
    visits = [Visit() for _ in range(viewers)]
    shares = [requests // viewers + (n < requests % viewers) for n in range(viewers)]
    threads = [
        threading.Thread(target=visit, args=(page, document, seed, share, tokens, heads, one))
        for seed, (share, one) in enumerate(zip(shares, visits, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return visits


def report(visits: Sequence[Visit], tokens: int, requests: int, threads: int) -> None:
    wrong = [what for one in visits for what in one.wrong]
    for what in wrong[:10]:
        print("  ", what)
    who = f"{len(visits)} viewers, {tokens:,} tokens"
    lost = requests - sum(one.answered for one in visits)
    figure(f"{who}, {requests:,} requests: lost", lost, "requests", goal="<= 0", threads=threads)
    figure(f"{who}: answered wrongly", len(wrong), "requests", goal="<= 0", threads=threads)
    for name in sorted({name for one in visits for name in one.taken}):
        taken = [ms for one in visits for ms in one.taken.get(name, [])]
        middle, late = np.percentile(taken, [50, 95])
        print(f"   {name:9} {len(taken):5} answers, median {middle:6.1f} ms, p95 {late:6.1f} ms")
    every = [ms for one in visits for taken in one.taken.values() for ms in taken]
    figure(f"{who}: any answer, p95", float(np.percentile(every, 95)), "ms", threads=threads)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=32768)
    options.add_argument("--viewers", type=int, default=8)
    options.add_argument("--requests", type=int, default=2000)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    heads = 12
    with tempfile.TemporaryDirectory() as folder:
        path = recorded(Path(folder), chosen.tokens, heads, 64)
        workspace = Workspace()
        document = workspace.add(Source(fv.load(path), [from_pieces(["token"] * chosen.tokens)]))
        with Page(workspace, port=0) as page:
            visits = storm(page, document, chosen.tokens, heads, chosen.viewers, chosen.requests)
    report(visits, chosen.tokens, chosen.requests, chosen.threads)
    return 0


if __name__ == "__main__":
    main()
