"""Pictures to look at: scenes of coloured shapes, something like a photograph, and models that read them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

import foveate as fv
from foveate.views.source import Source

COLOURS = {"red": (214, 48, 49), "green": (39, 174, 96), "blue": (41, 98, 255), "yellow": (241, 196, 15)}
PHRASE = ("the", "small", "red", "circle", "left", "of", "the", "square")


def scene(side: int = 64) -> NDArray[np.uint8]:
    """A small red circle left of a green square, a large blue circle, a yellow square below: (side, side, 3)."""
    pixels = np.full((side, side, 3), 244, np.uint8)
    y, x = (np.indices((side, side)) + 0.5) * 64 / side
    pixels[(x - 16) ** 2 + (y - 18) ** 2 < 49] = COLOURS["red"]
    pixels[(abs(x - 44) < 9) & (abs(y - 18) < 9)] = COLOURS["green"]
    pixels[(x - 20) ** 2 + (y - 46) ** 2 < 121] = COLOURS["blue"]
    pixels[(abs(x - 50) < 6) & (abs(y - 50) < 6)] = COLOURS["yellow"]
    return pixels


def photograph(height: int = 384, width: int = 384) -> NDArray[np.uint8]:
    """Sky, hills and a sun with grain: (height, width, 3)."""
    draw = np.random.default_rng(5)
    y, x = np.indices((height, width)) / np.array([height, width])[:, None, None]
    sky = np.stack([0.35 + 0.5 * y, 0.55 + 0.3 * y, 0.9 - 0.1 * y], -1)
    hills = 0.62 + 0.08 * np.sin(7 * x) + 0.04 * np.sin(19 * x + 1)
    ground = np.stack([0.18 + 0.3 * x, 0.42 - 0.25 * (y - 0.6), 0.14 + 0 * x], -1)
    picture = np.where((y > hills)[..., None], ground, sky)
    picture[(x - 0.72) ** 2 + (y - 0.24) ** 2 < 0.006] = (1.0, 0.93, 0.6)
    grain = draw.normal(0, 0.025, (height, width, 1))
    return (255 * np.clip(picture + grain, 0, 1)).astype(np.uint8)


def features(pixels: NDArray[np.uint8], rows: int, columns: int) -> torch.Tensor:
    """The share of each colour in each part, and how much its pixels differ: (rows * columns, 5)."""
    high, wide = pixels.shape[0] // rows, pixels.shape[1] // columns
    cut = pixels[: rows * high, : columns * wide].reshape(rows, high, columns, wide, 3).astype(np.float32)
    parts = cut.transpose(0, 2, 1, 3, 4).reshape(rows * columns, high * wide, 3)
    shares = [(abs(parts - np.array(colour)).max(-1) < 40).mean(-1) for colour in COLOURS.values()]
    return torch.tensor(np.stack([*shares, parts.std((1, 2)) / 64], -1), dtype=torch.float32)


def reading(
    rows: int = 8,
    columns: int = 8,
    heads: int = 4,
    pixels: NDArray[np.uint8] | None = None,
    shown: NDArray[np.uint8] | None = None,
) -> Source:
    """The words of a phrase that read a scene, of which `shown` stands there: colours read their shapes."""
    pixels = scene() if pixels is None else pixels
    draw = torch.Generator().manual_seed(1)
    wanted = torch.zeros(len(PHRASE), 5)
    for at, word in enumerate(PHRASE):
        colour = {"red": 0, "circle": 0, "small": 0, "square": 1, "left": 0, "of": 1}.get(word)
        wanted[at, 4 if colour is None else colour] = 2.0 if word in ("red", "square") else 1.2
    noise = 0.5 * torch.randn(2, heads, len(PHRASE), 5, generator=draw)
    keys = features(pixels, rows, columns).expand(1, heads, -1, 5)
    maps = {
        f"layers.{layer}.cross_attention": fv.AttentionMap(
            (5 * (wanted + noise[layer]))[None], keys, value=keys, scale=0.6
        )
        for layer in range(2)
    }
    picture = fv.Picture(pixels if shown is None else shown, rows, columns)
    return Source(maps, None, [list(PHRASE)], pictures=[picture], title=" ".join(PHRASE), model="scenes")


def looking(
    rows: int = 14, columns: int = 14, first: int = 1, after: int = 0, pixels: NDArray[np.uint8] | None = None
) -> Source:
    """Parts of a photograph that read each other and what stands before and after them."""
    pixels = photograph(16 * rows, 16 * columns) if pixels is None else pixels
    draw = torch.Generator().manual_seed(2)
    length = first + rows * columns + after
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    turns = torch.cat([f(place / scale) for scale in (2, 4) for f in (torch.sin, torch.cos)], -1)
    body = torch.randn(1, 3, length, 8, generator=draw)
    body[:, :2, first : first + rows * columns] = 2 * turns
    maps = {
        f"layers.{layer}.attention": fv.AttentionMap(body + 0.3 * torch.randn(body.shape, generator=draw), body)
        for layer in range(3)
    }
    return Source(maps, pictures=[fv.Picture(pixels, rows, columns, first)], title="A photograph", model="parts")


def mixed() -> Source:
    """Parts that read each other, words that read each other, and words that read parts: a model of two sides."""
    draw = torch.Generator().manual_seed(3)
    picture = fv.Picture(scene(), 4, 4, first=1)

    def call(queries: int, keys: int) -> fv.AttentionMap:
        return fv.AttentionMap(*(1.5 * torch.randn(1, 2, n, 4, generator=draw) for n in (queries, keys)))

    maps = {
        "encoder.layers.0": call(17, 17),
        "decoder.layers.0.self": call(8, 8),
        "decoder.layers.0.cross": call(8, 17),
    }
    return Source(maps, None, [list(PHRASE)], pictures=[picture], title="Two sides", model="mixed")
