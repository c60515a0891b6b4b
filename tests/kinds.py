"""Every score, normaliser and mask that the operator has, so that tests can take all combinations.

A new one joins by one line here; a test fails until it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import foveate as fv
from foveate.scores.perceptron import Perceptron
from foveate.scores.products import Bilinear


@dataclass(frozen=True)
class Kind:
    """How to make one, for H = 2 heads of width D = 2, from parameters of these shapes, which are differentiated too.

    `positive`: what a score gives, or what a normaliser needs. `smooth`: it has derivatives, away from its edges.
    """

    make: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = ()
    positive: bool = False
    smooth: bool = True

    def parameters(self) -> list[Tensor]:
        return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in self.shapes]


SCORES: dict[str, Kind] = {
    "dot": Kind(lambda: fv.scores.dot(softcap=1.5)),
    "scaled_dot": Kind(lambda: fv.scores.scaled_dot()),
    "cosine": Kind(lambda log: fv.scores.cosine(log.exp()), ((2,),)),
    "l2": Kind(lambda: fv.scores.l2()),
    "additive": Kind(lambda wq, wk, v, b: Perceptron(wq, wk, v, b), ((3, 2), (3, 2), (3,), (3,))),
    "concat, by head": Kind(lambda wq, wk, v: Perceptron(wq, wk, v, None, "concat"), ((2, 3, 2), (2, 3, 2), (2, 3))),
    "general": Kind(lambda w: Bilinear(w), ((2, 2),)),
    "a function with weights": Kind(lambda w: lambda q, k: (q @ w) @ k.mT, ((2, 2),)),
    "a positive function": Kind(lambda: lambda q, k: torch.exp(q @ k.mT / 2), positive=True),
}

NORMALIZERS: dict[str, Kind] = {
    "softmax": Kind(lambda: fv.normalizers.softmax()),
    "softmax with sinks": Kind(lambda sinks: fv.normalizers.softmax(sinks), ((2,),)),
    "softmax off by one, cooler": Kind(lambda: fv.normalizers.softmax(off_by_one=True, temperature=0.7)),
    "top_k": Kind(lambda: fv.normalizers.top_k(2)),
    "sparsemax": Kind(lambda: fv.normalizers.sparsemax()),
    "entmax15": Kind(lambda: fv.normalizers.entmax15()),
    "hard": Kind(lambda: fv.normalizers.hard()),
    "hard, straight through": Kind(lambda: fv.normalizers.hard(straight_through=True), smooth=False),
    "sigmoid": Kind(lambda bias: fv.normalizers.sigmoid(bias), ((2,),)),
    "proportional": Kind(lambda: fv.normalizers.proportional(), positive=True),
}

MASKS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "causal window": lambda: fv.masks.causal() & fv.masks.window(1),
    "empty row": lambda: fv.masks.where(lambda b, h, q, k: (q != 1) & (k != 2)),
}


# all others, for 3 queries and 4 keys of one sequence; they meet one score and one normaliser
MORE_MASKS: dict[str, Callable[[], Any]] = {
    "causal from the start": lambda: fv.masks.causal("start"),
    "causal by an offset": lambda: fv.masks.causal(offset=[2]),
    "window by an offset": lambda: fv.masks.window(1, 0, offset=[0]),
    "padding": lambda: fv.masks.padding([2]),
    "padding at the left": lambda: fv.masks.padding([2], "left"),
    "documents": lambda: fv.masks.documents([0, 0, 1, 1]),
    "packed": lambda: fv.masks.packed([1, 2], [3, 1], causal=True),
    "prefix": lambda: fv.masks.causal("start") | fv.masks.prefix(2),
    "everything": lambda: ~fv.masks.everything(),
    "tensor": lambda: fv.masks.tensor([[True, False, True, False], [False] * 4, [True] * 4]),
    "dilated": lambda: fv.masks.dilated(1, dilation=2),
    "strided": lambda: fv.masks.strided(2),
    "fixed": lambda: fv.masks.fixed(2),
    "global_tokens": lambda: fv.masks.window(0) | fv.masks.global_tokens([0]),
    "longformer": lambda: fv.masks.longformer(1, [3]),
    "bigbird": lambda: fv.masks.bigbird(1, random=1),
    "block_sparse": lambda: fv.masks.block_sparse([[True, False], [False, True]], 2),
    "neighbourhood": lambda: fv.masks.neighbourhood([3], 3, leading=1),
}


def combinations(smooth: bool = True) -> Iterator[tuple[str, str, str]]:
    """Names of scores, normalisers and masks that go together."""
    for s, score in SCORES.items():
        for n, normalizer in NORMALIZERS.items():
            fits = score.positive or not normalizer.positive
            if fits and not (smooth and not (score.smooth and normalizer.smooth)):
                yield from ((s, n, m) for m in MASKS)
