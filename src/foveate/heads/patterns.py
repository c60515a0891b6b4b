"""What the shares of a row are made of, as one 0/1 pattern for each of them, the same for all heads and layers.

A share is a sum of weights over a pattern, so all shares of a batch are one matrix product.

Axes: B texts, R rows picked, K keys, S shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .batches import Side
from .measures import LOCAL
from .profile import bucket

__all__ = ["OF_PLACES", "OF_TEXTS", "Patterns", "patterns"]

OF_TEXTS = ("first", "separator")
OF_PLACES = ("local", "previous", "next", "duplicate", "induction")


@dataclass(frozen=True, eq=False)
class Patterns:
    """For some rows of some texts: which keys each share adds up, and for which rows it is defined.

    `rows` are those that are no padding, `links` the pairs of tokens that examples are taken from. `apart` and
    `offsets` are None where queries and keys are different texts.
    """

    names: tuple[str, ...]
    shares: Float[Tensor, "B S R*K"]
    defined: Float[Tensor, "B S R"]
    rows: Bool[Tensor, "B R"]
    links: Float[Tensor, "B R K"]
    apart: Float[Tensor, "R K"] | None
    offsets: Int[Tensor, " R*K"] | None


def patterns(queries: Side, keys: Side, rows: Int[Tensor, " R"], *, same: bool, causal: bool) -> Patterns:
    """The patterns of these rows of all texts of a batch.

    Args:
        same: whether queries and keys are of the same text, query i being key i.
        causal: whether no row sees a later key; then no row has a `next`, and the first token, which rows that look for
            nothing read, is left out of the examples.
    """
    real_BR, key = queries.real[:, rows], torch.arange(keys.ids.shape[1])
    real_BK = keys.real
    separator_BK = keys.special & (key > 0)
    shape = (*real_BR.shape, len(key))
    shares = [(key == 0).expand(shape), separator_BK[:, None].expand(shape)]
    defined = [real_BR, real_BR & separator_BK.any(-1)[:, None]]
    links = ((real_BR & ~queries.special[:, rows])[:, :, None]) & (real_BK & ~keys.special)[:, None]
    if causal and same:
        links = links & (key > 0)
    if not same:
        return _patterns(OF_TEXTS, shares, defined, real_BR, links, None, None)
    ahead_RK = key - rows[:, None]
    twin_BRK = (queries.ids[:, rows, None] == keys.ids[:, None]) & (ahead_RK < 0)
    after_BRK = torch.nn.functional.pad(twin_BRK[..., :-1], (1, 0)) & (ahead_RK < 0)
    follows_BR = (rows + 1 < keys.lengths[:, None]) & (not causal)
    places = [ahead_RK.abs() <= LOCAL, ahead_RK == -1, ahead_RK == 1]
    shares += [*(place.expand(shape) for place in places), twin_BRK, after_BRK]
    defined += [real_BR, real_BR & (rows > 0), real_BR & follows_BR]
    defined += [real_BR & twin_BRK.any(-1), real_BR & after_BRK.any(-1)]
    return _patterns(
        OF_TEXTS + OF_PLACES, shares, defined, real_BR, links, ahead_RK.abs().float(), bucket(ahead_RK).flatten()
    )


def _patterns(
    names: tuple[str, ...],
    shares: list[Tensor],
    defined: list[Tensor],
    rows: Tensor,
    links: Tensor,
    apart: Tensor | None,
    offsets: Tensor | None,
) -> Patterns:
    defined_BSR = torch.stack(defined, 1)
    shares_BSRK = torch.stack(shares, 1) & defined_BSR[..., None]
    return Patterns(names, shares_BSRK.flatten(2).float(), defined_BSR.float(), rows, links.float(), apart, offsets)
