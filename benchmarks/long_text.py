"""A long text and a layer whose heads look like a trained model's, for benchmarks and pictures of the page.

Some heads look at the token before, some at where the same token stood before and at what came after it, some at the
first token, some at their neighbourhood: queries and keys are built to score so, with noise.
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import torch

import foveate as fv
from foveate.normalizers import Softmax
from foveate.recording import CallInfo, MemoryCall, Notes, Recording
from foveate.scores import Dot

PLACES = 16  # pairs of waves that tell a distance
PIECE = 7  # letters of a sub-word


def pieces(count: int) -> list[str]:
    """So many sub-words of a text that comes with Python: its own reference."""
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics))
    text = re.sub(r"[*=~^+|`_-]{3,}", " ", text)
    found = ["[BOS]"]
    for word in itertools.cycle(re.findall(r"\w+|[^\w\s]", text)):
        found += [word[:PIECE], *("##" + word[i : i + PIECE] for i in range(PIECE, len(word), PIECE))]
        if len(found) >= count:
            return found[:count]
    raise AssertionError("cycle never ends")


def recording(tokens: int, heads: int = 12, width: int = 64, dtype: torch.dtype = torch.float32) -> Recording:
    """One causal layer of so many tokens."""
    draw = torch.Generator().manual_seed(1)
    text = pieces(tokens)
    seen = Recording(Notes(model="built by hand", tokens=[text], lengths=[tokens]))
    info = CallInfo("layers.0.attention", "decoder", "layer 0", 0, heads, "Attention")
    parts = {"score": Dot(1.0), "normalizer": Softmax(), "mask": fv.masks.causal()}
    q, k = (torch.empty(1, heads, tokens, width, dtype=dtype) for _ in range(2))
    for head in range(heads):
        one = _head(text, head, width, draw)
        q[0, head], k[0, head] = (side.to(dtype) for side in one)
    seen._add(MemoryCall(info, 0, q, k, None, {**parts, "dtype": torch.float32}))
    return seen


def saved(folder: Path, tokens: int, heads: int = 12, width: int = 64, dtype: torch.dtype = torch.float16) -> Path:
    """The same on disk."""
    recording(tokens, heads, width, dtype).save(folder / "run.fov")
    return folder / "run.fov"


def _head(text: list[str], head: int, width: int, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys (T, D): waves for the distance, a vector for each piece of text, one number for the first."""
    count = len(text)
    kind = head % 4  # before, again, first, near
    names = {piece: n for n, piece in enumerate(dict.fromkeys(text))}
    ids = torch.tensor([names[piece] for piece in text])
    words = torch.randn(len(names), width - 2 * PLACES - 1, generator=draw)
    words = words / words.norm(dim=1, keepdim=True)
    slow = torch.tensor([1.0 if kind != 3 else 0.02]) * math.pi * 2.0 ** -torch.arange(0, PLACES / 2, 0.5)
    back = torch.arange(count)[:, None] - (1 + head // 4 if kind == 0 else 0)
    here = torch.arange(count)[:, None]
    wave = [torch.cat([(slow * at).cos(), (slow * at).sin()], 1) for at in (back, here)]
    strong = {0: 0.8, 1: 0.12, 2: 0.1, 3: 0.55}[kind]
    same = {0: 1.0, 1: 14.0, 2: 2.0, 3: 3.0}[kind]
    after = ids.roll(1)  # what stood before a key: the query finds what came after itself
    first = torch.zeros(count, 1)
    first[0] = {0: 3.0, 1: 9.0, 2: 12.0, 3: 4.0}[kind]
    noise = 0.25 * torch.randn(2, count, width, generator=draw)
    query = torch.cat([strong * wave[0], same * words[ids], torch.ones(count, 1)], 1) + noise[0]
    key = torch.cat([wave[1], words[after if kind == 1 and head % 8 == 1 else ids], first], 1) + noise[1]
    return query, key
