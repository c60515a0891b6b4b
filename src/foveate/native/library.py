"""Finding the compiled core: whether it is there, whether this machine runs it, and on which instructions.

`FOVEATE_NATIVE` in the environment decides, read once: `1` (the default) the best instructions there are, `0` none, or
`portable`, `avx2`, `avx512`, `avx512bf16` just these.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .abi import Call
from .build import LIBRARY

__all__ = ["ISAS", "Core", "find", "load"]

ISAS = ("portable", "avx2", "avx512", "avx512bf16")
CHOICES = ("0", "1", *ISAS)


@dataclass(frozen=True)
class Core:
    """The compiled core, or why there is none."""

    library: ctypes.CDLL | None
    isa: str | None
    reason: str


@cache
def find() -> Core:
    """The core that this process uses.

    Raises:
        ValueError: FOVEATE_NATIVE holds none of its values.
    """
    return load(Path(__file__).parent / LIBRARY, os.environ.get("FOVEATE_NATIVE", "1"))


def load(path: Path, wanted: str) -> Core:
    if wanted not in CHOICES:
        names = ", ".join(CHOICES)
        raise ValueError(f"FOVEATE_NATIVE must be one of {names}; got {wanted!r}")
    if wanted == "0":
        return Core(None, None, "FOVEATE_NATIVE=0 turns it off")
    if not path.is_file():
        return Core(None, None, "it was not built: no C++ compiler at install time; python -m foveate.native.build")
    try:
        library = ctypes.CDLL(str(path))
        library.fv_call_size.restype = ctypes.c_int64
        library.fv_run.argtypes = [ctypes.POINTER(Call)]
    except (OSError, AttributeError) as error:
        return Core(None, None, f"it could not be loaded: {error}")
    if library.fv_call_size() != ctypes.sizeof(Call):
        return Core(None, None, "it was built from other sources; python -m foveate.native.build")
    runs = [name for number, name in enumerate(ISAS) if library.fv_runs(number)]
    if wanted == "1":
        return Core(library, runs[-1], "the best instructions of this machine")
    if wanted not in runs:
        return Core(None, None, f"FOVEATE_NATIVE={wanted}, but this machine runs {', '.join(runs)}")
    return Core(library, wanted, f"FOVEATE_NATIVE={wanted} asks for them")
