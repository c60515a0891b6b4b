"""The k best continuations of each sentence, exactly: of equal ones those that come first, whatever the machine.

Axes: N rows (hypotheses), V vocabulary, C chunks of W tokens, T chunks with hidden tokens, S sentences, R rows of a
sentence, J its best chunks, K its best continuations.

`torch.topk` over (S, R V) does not say which of equal numbers it takes, and takes longer than all else in a step. But
the k best lie in the k chunks whose best are best, so that two searches among a few hundred numbers find them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...shapes import at_a_time

__all__ = ["Chosen", "Chunks", "Logits", "starts"]

CHUNK = 64
CELLS = 1 << 17  # logits that are worked on at a time, on a CPU: half a megabyte
MANY = 64  # from so many on, sorting costs less than looking for the largest again and again


class Logits(NamedTuple):
    """A step's logits, float32 or float64, the largest of each chunk, and a norm: logit - norm is a log-probability."""

    logit_NV: Tensor
    top_NC: Tensor
    norm_N: np.ndarray


class Chosen(NamedTuple):
    """What may come next, best first. Where a sentence has fewer than K, the totals are -inf, and the rest is void."""

    total_SK: np.ndarray
    row_SK: np.ndarray
    token_SK: np.ndarray
    logp_SK: np.ndarray


class Chunks:
    """A vocabulary cut into runs of tokens; `blocked_V` says which tokens may not be chosen."""

    def __init__(self, blocked_V: np.ndarray) -> None:
        tokens, self.width = len(blocked_V), min(CHUNK, len(blocked_V))
        token_CW = np.arange(math.ceil(tokens / self.width) * self.width).reshape(-1, self.width)
        self.token_CW = np.minimum(token_CW, tokens - 1)
        self.hidden_CW = blocked_V[self.token_CW] | (token_CW >= tokens)
        self.touched_T = np.flatnonzero(self.hidden_CW.any(axis=1))

    def measured(self, logit_NV: Float[Tensor, "N V"]) -> Logits:
        """The norm is the `logsumexp`, by 2 ** x, which is several times faster than e ** x on CPUs.

        It is never below a logit, so no rounding makes a probability above 1. For a row that holds NaN, +inf, or
        nothing but -inf, it is NaN.
        """
        wide_NV = logit_NV if logit_NV.dtype == torch.float64 else logit_NV.float()
        whole = wide_NV.shape[1] // self.width
        top_NC = wide_NV[:, : whole * self.width].unflatten(1, (whole, self.width)).amax(-1)
        if whole < len(self.token_CW):
            top_NC = torch.cat([top_NC, wide_NV[:, whole * self.width :].amax(dim=1, keepdim=True)], dim=1)
        top_N1 = top_NC.amax(dim=1, keepdim=True)
        sum_N = _sum_of_powers(wide_NV, top_N1)
        return Logits(wide_NV, top_NC, _host(top_N1[:, 0].double() + sum_N.double().log()))

    def best(self, logits: Logits, total_N: np.ndarray, sentence_N: np.ndarray, k: int) -> Chosen:
        """The k best continuations, by one token, of all rows of a sentence. Its rows lie together.

        A row has the total `total_N` so far, and no continuation where its norm is +inf.
        """
        start_S, norm_N = starts(sentence_N), logits.norm_N
        total_SRC, row_SR = _by_sentence(_added(total_N, self._best_of_chunks(logits), norm_N), start_S)
        total_SX = total_SRC.reshape(len(start_S), -1)
        place_SJ = _largest(total_SX, k)
        place_SJ.sort(axis=1)  # so that of equal tokens the first is met first
        rank_SJ, chunk_SJ = np.divmod(place_SJ, len(self.token_CW))
        row_SJ, token_SJW = _take(row_SR, rank_SJ), self.token_CW[chunk_SJ]
        logit_SJW = _picked(logits.logit_NV, row_SJ[:, :, None], token_SJW)
        total_SJW = _added(total_N[row_SJ], logit_SJW, norm_N[row_SJ])
        total_SJW[self.hidden_CW[chunk_SJ] | (_take(total_SX, place_SJ) == -np.inf)[:, :, None]] = -np.inf
        best_SK = _largest(total_SJW.reshape(len(start_S), -1), k)
        row_SK = _take(row_SJ, best_SK // self.width)
        total_SK, logit_SK, token_SK = (
            _take(x.reshape(len(start_S), -1), best_SK) for x in (total_SJW, logit_SJW, token_SJW)
        )
        return Chosen(total_SK, row_SK, token_SK, logit_SK - norm_N[row_SK])

    def _best_of_chunks(self, logits: Logits) -> np.ndarray:
        """(N, C): the largest logit of each chunk that is not hidden."""
        top_NC = _host(logits.top_NC)
        if len(self.touched_T):
            token_TW, hidden_TW = self.token_CW[self.touched_T], self.hidden_CW[self.touched_T]
            seen_NTW = _picked(logits.logit_NV, np.arange(len(top_NC))[:, None, None], token_TW)
            top_NC[:, self.touched_T] = np.where(hidden_TW, -np.inf, seen_NTW).max(axis=-1)
        return top_NC


def _sum_of_powers(logit_NV: Tensor, top_N1: Tensor) -> Tensor:
    """(N,): sums of e ** (logit - top), some rows at a time in memory that stays in the cache."""
    rows = max(1, at_a_time(CELLS, logit_NV.device) // logit_NV.shape[1])
    room_RV = torch.empty_like(logit_NV[:rows])
    sums = []
    for part_RV, top_R1 in zip(logit_NV.split(rows), top_N1.split(rows), strict=True):
        below_RV = torch.sub(part_RV, top_R1, out=room_RV[: len(part_RV)])
        sums.append(below_RV.mul_(math.log2(math.e)).exp2_().sum(dim=1))
    return torch.cat(sums)


def starts(sentence_N: np.ndarray) -> np.ndarray:
    """Where the rows of each sentence start."""
    return np.flatnonzero(np.diff(sentence_N, prepend=-1))


def _by_sentence(total_NC: np.ndarray, start_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, R, C), -inf where a sentence has fewer rows than others; and which row of all each is."""
    count_S = np.diff(start_S, append=len(total_NC))
    row_SR = start_S[:, None] + np.arange(count_S.max())
    there_SR = row_SR < (start_S + count_S)[:, None]
    row_SR[~there_SR] = 0
    total_SRC = total_NC[row_SR]
    total_SRC[~there_SR] = -np.inf
    return total_SRC, row_SR


def _largest(x_SX: np.ndarray, k: int) -> np.ndarray:
    """Columns (S, K) of the k largest, best first, of equal ones the first one first; K is k, or X if that is less."""
    k = min(k, x_SX.shape[1])
    if k >= MANY:
        return np.argsort(-x_SX, axis=1, kind="stable")[:, :k]
    left_SX, row_S = np.maximum(x_SX, np.finfo(x_SX.dtype).min), np.arange(len(x_SX))  # -inf is what was taken
    found_SK = np.empty((len(x_SX), k), dtype=np.int64)
    for i in range(k):
        found_SK[:, i] = left_SX.argmax(axis=1)
        left_SX[row_S, found_SK[:, i]] = -np.inf
    return found_SK


def _added(total: np.ndarray, logit: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """Totals (...), logits (..., X) and norms (...) -> the totals (..., X) of the continuations."""
    return total[..., None] + (logit - norm[..., None])


def _picked(logit_NV: Tensor, row: np.ndarray, token: np.ndarray) -> np.ndarray:
    row_there, token_there = (torch.from_numpy(x).to(logit_NV.device) for x in (row, token))
    return _host(logit_NV[row_there, token_there])


def _host(x: Tensor) -> np.ndarray:
    return x.double().cpu().numpy()


def _take(x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return x[np.arange(len(x))[:, None], columns]
