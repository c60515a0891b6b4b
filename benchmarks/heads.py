"""Finding a head in a long text: measures and small pictures of all layers and heads, and rows asked for meanwhile.

    python benchmarks/heads.py [--tokens 32768] [--layers 12] [--heads 12] [--width 64] [--threads 1]

Layers of causal attention with random queries and keys are recorded on disk in float16 and served as the page gets
them. Measured are: the time until the heads of all layers have measures and thumbnails from their first 256 rows; how
long the 32 largest weights of random rows in all heads take at the server's door meanwhile, and while more rows are
measured; and the time until all is there again when the recording is opened anew, from what was kept beside it. The
dense weights that other tools take such measures from would be 618 GB.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import foveate as fv
from figures import figure
from foveate.apps.serve import Page
from foveate.apps.viewing import source_of
from foveate.apps.workspace import Workspace
from foveate.normalizers import Softmax
from foveate.recording import CallInfo, MemoryCall, Notes
from foveate.recording.writer import RecordingWriter
from foveate.scores import Dot

REFINED = 60  # rows asked for while more rows are measured


def recorded(folder: Path, tokens: int, layers: int, heads: int, width: int) -> Path:
    """Random layers on disk, and a text whose words are as frequent as those of a language."""
    draw, chance = torch.Generator().manual_seed(1), random.Random(1)
    ranks = range(1, 20_001)
    words = [f"w{rank}" for rank in chance.choices(ranks, weights=[1 / rank for rank in ranks], k=tokens)]
    notes = Notes(model=f"random, {layers} x {heads} heads", tokens=[words], lengths=[tokens], starts=[0])
    writer = RecordingWriter(folder / "run.fov", notes)
    for layer in range(layers):
        info = CallInfo(f"layers.{layer}.attention", "decoder", f"layer {layer}", layer, heads, "Attention")
        q, k = (torch.randn(1, heads, tokens, width, generator=draw).half() for _ in range(2))
        parts = {"score": Dot(width**-0.5), "normalizer": Softmax(), "mask": fv.masks.causal(), "dtype": torch.float32}
        writer.append(MemoryCall(info, 0, q, k, None, parts))
    writer.close(notes)
    return folder / "run.fov"


class Door:
    """One kept connection to the page's server."""

    def __init__(self, page: Page) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=120)
        self.cookie = {"Cookie": f"foveate_{page.port}={page.token}"}
        self.id = self.ask("/api/documents")[0]["id"]

    def ask(self, path: str) -> list[dict[str, str]]:
        self.connection.request("GET", path, headers=self.cookie)
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)

    def question(self, name: str, **parameters: object) -> dict[str, object]:
        query = "&".join(f"{key}={value}" for key, value in parameters.items())
        return self.ask(f"/api/documents/{self.id}/{name}?{query}")  # type: ignore[return-value]


def opened(path: Path, use: Callable[[Door], None]) -> None:
    workspace = Workspace()
    workspace.add(source_of(fv.load(path)))
    with Page(workspace, port=0) as page:
        use(Door(page))


def until_measured(door: Door, layers: int, meanwhile: Callable[[], object]) -> float:
    """Seconds until every layer has measures, asked for as the page does; something else is asked in between."""
    start = time.perf_counter()
    while True:
        measured = [door.question("heads", call=layer)["measured"] for layer in range(layers)]
        if all(measured):
            return time.perf_counter() - start
        meanwhile()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=32768)
    options.add_argument("--layers", type=int, default=12)
    options.add_argument("--heads", type=int, default=12)
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--threads", type=int, default=max(1, torch.get_num_threads() // 2), help="as the page takes")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    what, chance = f"{chosen.layers} x {chosen.heads} heads, {chosen.tokens:,} tokens", random.Random(2)

    def first(door: Door) -> None:
        waits: list[float] = []

        def row(layer: int = 0) -> None:
            start = time.perf_counter()
            door.question("topk", call=layer, index=chance.randrange(chosen.tokens), k=32)
            waits.append(1000 * (time.perf_counter() - start))

        for _ in range(REFINED // 2):
            row()
        alone = float(np.percentile(waits[1:], 95))  # without the first, which reads its layer from disk
        waits.clear()
        taken = until_measured(door, chosen.layers, row)
        figure(f"{what}: measures from a first sample", taken, "s", threads=chosen.threads)
        figure(
            f"{what}: a row meanwhile, p95", float(np.percentile(waits, 95)), "ms", goal="<= 50", peer=("alone", alone)
        )
        waits.clear()
        for _ in range(REFINED):
            row()
            door.question("heads", call=0)
        figure(
            f"{what}: a row while refining, p95",
            float(np.percentile(waits, 95)),
            "ms",
            goal="<= 50",
            peer=("alone", alone),
        )

    def again(door: Door) -> None:
        taken = until_measured(door, chosen.layers, lambda: time.sleep(0.02))
        figure(f"{what}: measures when opened again", taken, "s", threads=chosen.threads)

    with tempfile.TemporaryDirectory() as folder:
        path = recorded(Path(folder), chosen.tokens, chosen.layers, chosen.heads, chosen.width)
        opened(path, first)
        opened(path, again)


if __name__ == "__main__":
    main()
