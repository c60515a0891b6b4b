"""Given translations read by a model: what each word of them looked at.

Axes: B sentences, H heads, T target tokens (the end symbol among them), S source tokens (the end symbol among them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...map import AttentionMap
from ...watch import watch
from ..alignment import Reading
from ..bucketing import Bitext, batches
from ..subwords import Encoded
from .shape import Shape, Trained

__all__ = ["ROWS", "Forced", "default_reading", "force"]

ROWS = 64  # sentences whose attention is recorded at once


@dataclass(frozen=True)
class Forced:
    """One pair of texts as a model reads it: what each target token looked at, and how probable it was.

    Rows of the maps are target tokens, the last one the end symbol; row t is what was read when token t was predicted.
    Columns are source tokens, the last one the end symbol.
    """

    source: Encoded
    target: Encoded
    maps: dict[str, AttentionMap]  # module -> (H, T, S)
    token_scores: tuple[float, ...]  # natural logarithms, the end symbol's last

    def word_weights(self, reading: Reading) -> Tensor:
        """(target words, source words), the end symbol's share removed; see `foveate.tasks.alignment`."""
        dense = {module: self.maps[module].dense() for module in reading.modules if module in self.maps}
        return reading.word_weights(dense, self.source.words, self.target.words)


def default_reading(shape: Shape) -> Reading:
    """Where to look until a better place is found: a Transformer's last layer but one, shifted (Chen et al. 2020)."""
    if shape.arch == "rnn":
        return Reading(("attention",), "mean", "output")
    layer = max(0, shape.layers - 2)
    return Reading((f"decoder.layers.{layer}.cross_attention",), "mean", "input")


@torch.no_grad()
def force(
    model: Trained,
    pairs: Sequence[tuple[Encoded, Encoded]],
    numbers: Callable[[Sequence[int]], list[int]],
    *,
    rows: int,
) -> Iterator[Forced]:
    """Each pair as the model reads it, in the order given, `rows` of them at a time.

    Args:
        numbers: target sub-words as the model numbers them.
    """
    for first in range(0, len(pairs), rows):
        some = pairs[first : first + rows]
        bitext = Bitext([s.ids for s, _ in some], [numbers(t.ids) for _, t in some])
        yield from _forced(model, some, bitext)


def _forced(model: Trained, pairs: Sequence[tuple[Encoded, Encoded]], bitext: Bitext) -> Iterator[Forced]:
    cells = len(pairs) * int(max(bitext.sources.lengths.max(), bitext.targets.lengths.max()) + 2)
    (batch,) = batches(bitext, tokens=cells)
    device = model.embedding.table.device
    given = (t.to(device) for t in (batch.source_BS, batch.source_lengths_B, batch.target_in_BT))
    with watch(model, keep="qkv") as seen:
        hidden_BTM = model(*given)
    maps = {name: call for name, call in seen.items() if name == "attention" or name.endswith("cross_attention")}
    logp_BTO = model.logits(hidden_BTM).log_softmax(-1)
    logp_BT = logp_BTO.gather(-1, batch.target_out_BT[..., None].to(device))[..., 0]
    place = {int(index): row for row, index in enumerate(batch.index_B)}
    for i, (source, target) in enumerate(pairs):
        row, t, s = place[i], len(target) + 1, len(source) + 1
        own = {name: _cut(call, row, t, s) for name, call in maps.items()}
        yield Forced(source, target, own, tuple(logp_BT[row, :t].tolist()))


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
