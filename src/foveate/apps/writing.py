"""Having a model write: how many tokens, drawn or the most probable ones, and what else could have come out.

What it wrote is then read by the model in one pass, as a translation is: every token's row is the one it had while it
was written, each module has one call, and a recording takes as much room as that of a text of this length.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.apps.errors import UserError
from foveate.views.document import Alternative, Decoding, Step

__all__ = ["Writing", "Written", "named", "write"]

ALTERNATIVES = 5


@dataclass(frozen=True)
class Writing:
    """At most `tokens` are written: the most probable ones, or, with a temperature, drawn ones.

    `top_p`: only from the most probable tokens that have this share together.
    """

    tokens: int
    temperature: float | None = None
    top_p: float = 1.0
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """What `generate` takes."""
        drawn = self.temperature is not None
        more = {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0} if drawn else {}
        return {"max_new_tokens": self.tokens, "num_beams": 1, "do_sample": drawn, **more}


@dataclass(frozen=True)
class Written:
    """`ids`: all tokens, (given and written). `best`: for each written one the most probable tokens in its place and
    how probable each was, before any temperature; the one that came out is among them.
    """

    ids: list[int]
    best: list[list[tuple[int, float]]]

    @property
    def given(self) -> int:
        return len(self.ids) - len(self.best)


def write(model: Any, inputs: dict[str, Tensor], writing: Writing) -> Written:
    """What the model writes after these inputs (1, length), or as their translation."""
    with torch.no_grad(), torch.random.fork_rng(enabled=writing.temperature is not None), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of generation options that the model's own configuration sets
        torch.manual_seed(writing.seed) if writing.temperature is not None else None
        try:
            made = model.generate(**inputs, **writing.options(), return_dict_in_generate=True, output_logits=True)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise UserError(f"The model cannot write: {' '.join(str(error).split())[:300]}") from None
    ids: list[int] = made.sequences[0].tolist()
    written = ids[len(ids) - len(made.logits) :]
    return Written(ids, [_best(logits[0], chosen) for logits, chosen in zip(made.logits, written, strict=True)])


def _best(logits_V: Tensor, chosen: int) -> list[tuple[int, float]]:
    p_V = logits_V.float().softmax(-1)
    numbers = p_V.topk(min(ALTERNATIVES, len(p_V))).indices.tolist()
    listed = numbers if chosen in numbers else [*numbers, chosen]
    return [(number, float(f"{float(p_V[number]):.5g}")) for number in listed]


def named(decoding: Decoding, written: Written, texts: Callable[[list[int]], list[str]]) -> Decoding:
    """The steps of the only sequence with what could have come out at each; `texts` says what tokens are called."""
    steps: list[Step] = []
    for step in decoding.steps[0]:
        n = step.token + 1 - written.given  # what comes out at the row of the token before
        if not 0 <= n < len(written.best):
            steps.append(step)
            continue
        numbers = [number for number, _ in written.best[n]]
        pairs = zip(texts(numbers), written.best[n], strict=True)
        alternatives = tuple(Alternative(text, p) for text, (_, p) in pairs)
        steps.append(Step(step.token, alternatives, numbers.index(written.ids[step.token + 1])))
    return Decoding(decoding.calls, (tuple(steps),), decoding.own)
