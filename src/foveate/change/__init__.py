"""Change the attention of any PyTorch model, for as long as a `with` lasts.

    with fv.knockout(model, heads={(3, 5)}):
        model(**inputs)

See docs/change.md for what each does, in which order they combine, and what cannot be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from .errors import ChangeError, ChangeWarning
from .intervention import Intervention
from .naming import Pair, pairs_of
from .scaling import Scaling, factors_of

__all__ = ["ChangeError", "ChangeWarning", "knockout", "scale"]


def knockout(model: nn.Module, heads: Iterable[Pair] | Pair) -> Intervention:
    """Inside the `with`, these heads put out 0: what they read reaches nothing. Their weights are as they were.

    Args:
        heads: pairs (where, head): the number of a layer or the path of a module, and the number of a head in it.

    Raises:
        ValueError: heads that are no such pairs.
        ChangeError: a module or head that is not there, a number that several modules have, or, at the end, heads of
            modules in which no attention ran that can be changed.
    """
    return Scaling(model, dict.fromkeys(pairs_of(heads), 0.0))


def scale(
    model: nn.Module, heads: Mapping[Pair, float | Tensor] | Iterable[Pair] | Pair, factor: float | Tensor | None = None
) -> Intervention:
    """Inside the `with`, the output of these heads is multiplied; 0 knocks a head out.

    Args:
        heads: pair -> factor, or pairs, all multiplied by `factor`. Pairs are those of `knockout`.
        factor: a number, or a tensor () or (B,), one for each sequence of the batch, through which gradients flow.

    Raises:
        ValueError, ChangeError: as `knockout`, or a factor that is none.
    """
    return Scaling(model, factors_of(heads, factor))
