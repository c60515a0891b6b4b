"""The projection that follows the heads of an attention module, where it is known.

Axes: H heads, V value width, E model width.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..heads.pruning.sites import find

__all__ = ["projections"]


def projections(model: nn.Module) -> dict[int, Tensor]:
    """id of an attention module -> (H, V, E): what each of its heads' outputs is multiplied with.

    Known of `nn.MultiheadAttention` and of what heads can be taken out of: our modules and transformers' families.
    """
    found: dict[int, Tensor] = {}
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            found[id(module)] = module.out_proj.weight.detach().T.unflatten(0, (module.num_heads, -1))
    for site in find(model).values():
        for slab in site.slabs:
            if slab.path == f"{site.output}.weight":
                weight = slab.parameter.detach()
                found[id(site.module)] = (weight if slab.axis == 0 else weight.T).unflatten(0, (site.heads, -1))
    return found
