"""One call, as all interventions that want to change it would have it, the one that began first at first.

Weights are changed before outputs are multiplied. B batch, H heads, Q queries, V value width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..scores import Placed
from ..watch.events import Call, NotExpressibleError
from .errors import ChangeError
from .reading import Reading

if TYPE_CHECKING:
    from .intervention import Intervention

__all__ = ["change", "multiplied"]


def change(call: Call, wanted: list[tuple[Intervention, nn.Module]]) -> Call:
    """The changed call.

    Raises:
        ChangeError: it cannot be changed; the text says why.
    """
    name = wanted[0][0].name_of(wanted[0][1])
    try:
        out_BHQV, put = call.open()
    except NotExpressibleError as why:
        raise ChangeError(f"the heads of {name} cannot be changed: {why}") from None
    batch, heads = out_BHQV.shape[:2]
    event, shown = call.event, None
    reweighing = [(one, module) for one, module in wanted if one.reweighs]
    if reweighing:
        reading = _reading(call, name, wanted[0][1], batch)
        for one, _ in reweighing:
            one.reweigh(reading)
        if bool(reading.touched.any()):
            out_BHQV = changed = reading.output(out_BHQV)
            event, shown = partial(reading.changed, changed), reading.map(changed)
    factors: dict[int, list[float | Tensor]] = {}
    for intervention, module in wanted:
        found = intervention.factors(intervention.name_of(module), batch, heads)
        for head, factor in found.items():
            factors.setdefault(head, []).append(factor)
    return replace(call, result=put(multiplied(out_BHQV, factors), shown), event=event)


def _reading(call: Call, name: str, module: nn.Module, batch: int) -> Reading:
    try:
        event = call.event()
    except (NotExpressibleError, RuntimeError, ValueError, TypeError) as why:
        raise ChangeError(f"the weights of {name} cannot be changed: {why}") from why
    if isinstance(event.score, Placed) or event.value is None:
        raise ChangeError(f"the weights of {name} cannot be changed: its scores are no function of query and key")
    return Reading(event, name, module, batch)


def multiplied(out_BHQV: Tensor, factors: dict[int, list[float | Tensor]]) -> Tensor:
    """Heads' outputs times all of their factors; exactly 0 where a number among these is 0, whatever the output."""
    none = [head for head, given in factors.items() if any(not isinstance(f, Tensor) and f == 0 for f in given)]
    rest = {head: given for head, given in factors.items() if head not in none}
    wide = torch.promote_types(out_BHQV.dtype, torch.float32)
    if rest:
        one = torch.ones((), dtype=wide, device=out_BHQV.device)
        columns = [one] * out_BHQV.shape[1]
        for head, given in rest.items():
            for factor in given:
                columns[head] = columns[head] * (factor.to(one) if isinstance(factor, Tensor) else factor)
        table = torch.stack(torch.broadcast_tensors(*columns), dim=-1)  # (H,) or (B, H)
        out_BHQV = (out_BHQV * table[..., None, None]).to(out_BHQV.dtype)
    if none:
        gone = torch.zeros(out_BHQV.shape[1], dtype=torch.bool, device=out_BHQV.device)
        gone[none] = True
        out_BHQV = out_BHQV.masked_fill(gone[:, None, None], 0.0)
    return out_BHQV
