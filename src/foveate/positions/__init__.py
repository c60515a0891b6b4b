"""Positions: what tells attention where a token is. Three families, each used where the paper put it.

Added to the input: `sinusoidal`, `Learned`. Rotating queries and keys: `rotary` (`Rotary` for modules), with
`Interpolation`, `DynamicNTK`, `YaRN`, `Llama3` and `LongRoPE` for texts longer than those of training. Added to the
scores, as a `bias=` that is never formed: `alibi`, `RelativeBuckets`, `RelativeKeys`.

Positions align to the end, as those of masks do: query i sits at key position i + K - Q.
"""

from .absolute import Learned, sinusoidal
from .relative import RelativeBuckets, RelativeKeys, alibi, alibi_slopes
from .rotary import Rotary, frequencies, rotary, rotary_tables, rotate
from .scaling import DynamicNTK, Interpolation, Llama3, LongRoPE, Scaling, YaRN

__all__ = [
    "DynamicNTK",
    "Interpolation",
    "Learned",
    "Llama3",
    "LongRoPE",
    "RelativeBuckets",
    "RelativeKeys",
    "Rotary",
    "Scaling",
    "YaRN",
    "alibi",
    "alibi_slopes",
    "frequencies",
    "rotary",
    "rotary_tables",
    "rotate",
    "sinusoidal",
]
