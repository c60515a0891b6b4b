"""Given translations read by a model: what each word of them looked at.

Axes: B sentences, H heads, T target tokens (the end symbol among them), S source tokens (the end symbol among them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice

import torch
from torch import Tensor

from ...map import AttentionMap
from ...watch import watch
from ..alignment import Reading, candidates, without_closing
from ..bucketing import Batch, Bitext, batches
from ..subwords import Encoded
from .shape import Shape, Trained

__all__ = ["Forced", "default_reading", "force"]

GROUP = 256  # pairs that are read ahead, so that those of about one length stand in a batch
TOKENS = 4096  # of a batch, padding included


@dataclass(frozen=True)
class Forced:
    """One pair of texts as a model reads it: what each target token looked at, and how probable it was.

    Queries and keys are kept; weights and probabilities are worked out when they are asked for.

    Rows of the maps are target tokens, the last one the end symbol; row t is what was read when token t was predicted.
    Columns are source tokens, the last one the end symbol.
    """

    source: Encoded
    target: Encoded
    maps: dict[str, AttentionMap]  # module -> (H, T, S)
    _scored: Callable[[], tuple[float, ...]] = field(repr=False)

    @cached_property
    def token_scores(self) -> tuple[float, ...]:
        """Natural logarithms of the tokens' probabilities, the end symbol's last."""
        return self._scored()

    def word_weights(self, reading: Reading) -> Tensor:
        """(target words, source words), the share of the end symbol and of closing punctuation removed; see
        `foveate.tasks.alignment`."""
        dense = {module: self.maps[module].dense() for module in reading.modules if module in self.maps}
        return self._spared(reading.word_weights(dense, self.source.words, self.target.words))

    def candidates(self, *, heads: bool = True) -> dict[Reading, Tensor]:
        """The same by every reading; see `foveate.tasks.alignment.candidates`."""
        dense = {module: weights.dense() for module, weights in self.maps.items()}
        found = candidates(dense, self.source.words, self.target.words, heads=heads)
        return {reading: self._spared(weights) for reading, weights in found.items()}

    def _spared(self, weights: Tensor) -> Tensor:
        return without_closing(weights, self.source.shown, self.target.shown)


def default_reading(shape: Shape) -> Reading:
    """Where to look until a better place is found: a Transformer's last layer but one, shifted (Chen et al. 2020)."""
    if shape.arch == "rnn":
        return Reading(("attention",), "mean", "output")
    layer = max(0, shape.layers - 2)
    return Reading((f"decoder.layers.{layer}.cross_attention",), "mean", "input")


def force(
    model: Trained, pairs: Iterable[tuple[Encoded, Encoded]], numbers: Callable[[Sequence[int]], list[int]]
) -> Iterator[Forced]:
    """Each pair as the model reads it, in the order given.

    Args:
        numbers: target sub-words as the model numbers them.
    """
    left = iter(pairs)
    while some := list(islice(left, GROUP)):
        bitext = Bitext([s.ids for s, _ in some], [numbers(t.ids) for _, t in some])
        found: dict[int, Forced] = {}
        for batch in batches(bitext, tokens=TOKENS):
            found |= _forced(model, some, batch)
        yield from (found.pop(place) for place in range(len(some)))


@torch.no_grad()
def _forced(model: Trained, pairs: Sequence[tuple[Encoded, Encoded]], batch: Batch) -> dict[int, Forced]:
    """The pairs of one batch, by their places among `pairs`."""
    device = model.embedding.table.device
    given = (t.to(device) for t in (batch.source_BS, batch.source_lengths_B, batch.target_in_BT))
    with watch(model, keep="qkv") as seen:
        hidden_BTM = model(*given)
    maps = {name: call for name, call in seen.items() if name == "attention" or name.endswith("cross_attention")}
    found = {}
    for row, place in enumerate(batch.index_B.tolist()):
        source, target = pairs[place]
        t, s = len(target) + 1, len(source) + 1
        own = {name: _cut(call, row, t, s) for name, call in maps.items()}
        scored = partial(_scores, model, hidden_BTM[row, :t], batch.target_out_BT[row, :t])
        found[place] = Forced(source, target, own, scored)
    return found


@torch.no_grad()
def _scores(model: Trained, hidden_TM: Tensor, target_T: Tensor) -> tuple[float, ...]:
    logp_TO = model.logits(hidden_TM).log_softmax(-1)
    return tuple(logp_TO.gather(-1, target_T[:, None].to(logp_TO.device))[:, 0].tolist())


def _cut(call: AttentionMap, row: int, queries: int, keys: int) -> AttentionMap:
    """The map of one sentence of a padded batch, as it would be without the others."""
    q, k, v = call.query, call.key, call.value
    return AttentionMap(
        q[row, :, :queries],
        k[row, :, :keys],
        value=None if v is None else v[row, :, :keys],
        score=call.problem.score,
        normalizer=call.problem.normalizer,
    )
