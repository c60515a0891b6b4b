"""The k largest numbers of each row, ties by lowest place: what `torch.topk` does not promise.

Axes: R rows, C columns, k.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["best"]

CHUNK = 64  # columns of which only the largest number is looked at first


def best(s: Float[Tensor, "R C"], k: int) -> tuple[Float[Tensor, "R k"], Int[Tensor, "R k"]]:
    """Values and places of the k largest (all, where there are fewer), best first; NaN counts as largest.

    By chunk maxima: of two numbers the larger, else the one further left is better. The k best numbers then lie in the
    k best chunks, since every chunk that is better than a number's own holds a better number.
    """
    n = s.shape[-1]
    if n < 4 * CHUNK * max(1, k):
        return _best(s, k)
    whole = n // CHUNK * CHUNK
    chunks = s[:, :whole].unflatten(-1, (-1, CHUNK))
    first = _best(chunks.amax(-1), k)[1].sort(-1).values
    near = chunks.gather(1, first[..., None].expand(-1, -1, CHUNK)).flatten(1)
    places = (first[..., None] * CHUNK + torch.arange(CHUNK, device=s.device)).flatten(1)
    tail = torch.arange(whole, n, device=s.device).expand(len(s), -1)
    values, at = _best(torch.cat([near, s[:, whole:]], -1), k)
    return values, torch.cat([places, tail], -1).gather(1, at)


def _best(s: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if s.shape[-1] <= k:
        return s.sort(dim=-1, descending=True, stable=True)
    values, places = s.topk(k + 1, dim=-1)
    tied = values[:, k - 1] == values[:, k] if k else torch.zeros(len(s), dtype=torch.bool, device=s.device)
    values, places = values[:, :k], places[:, :k]
    places, order = places.sort(dim=-1)
    values, order = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
    places = places.gather(1, order)
    if bool(tied.any()):  # one more of the same size was left out: was it the right one?
        exact = s[tied].sort(dim=-1, descending=True, stable=True)
        values[tied], places[tied] = exact.values[:, :k], exact.indices[:, :k]
    return values, places
