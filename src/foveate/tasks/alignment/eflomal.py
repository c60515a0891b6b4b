"""eflomal (Östling and Tiedemann 2016), statistical word alignment to compare with; optional: `pip install eflomal`."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .links import Links, read_links

__all__ = ["eflomal_links", "installed"]


def installed() -> bool:
    """Whether eflomal can be imported."""
    try:
        importlib.import_module("eflomal")
    except ImportError:
        return False
    return True


def eflomal_links(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[list[Links], list[Links]]:
    """Train eflomal on sentence pairs and align them, in both directions.

    Args:
        pairs: source words and target words of each pair; upper and lower case count as the same.

    Returns:
        `forward` (at most one link per target word) and `backward` (at most one per source word), both as (source,
        target): ready to `symmetrize`. Nothing is linked in a pair with an empty side, or with 1,024 words or more, as
        eflomal leaves it out. It draws random numbers that cannot be seeded: two runs differ a little.

    Raises:
        ModuleNotFoundError: eflomal is not installed.
        RuntimeError: it wrote no alignment for some sentence.
    """
    aligner = _aligner()
    if not pairs:
        return [], []
    numbers: dict[str, int] = {}
    sides = [[_numbered(pair[side], numbers) for pair in pairs] for side in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("forward", "backward")]
        aligner.align(*sides, links_filename_fwd=str(paths[0]), links_filename_rev=str(paths[1]))
        forward, backward = ([] if not path.exists() else read_links(path) for path in paths)
    if not len(forward) == len(backward) == len(pairs):
        raise RuntimeError(f"eflomal aligned {len(forward)} and {len(backward)} of {len(pairs)} sentence pairs")
    return forward, backward


def _aligner() -> Any:
    try:
        return importlib.import_module("eflomal").Aligner()
    except ImportError as error:
        raise ModuleNotFoundError(f"eflomal is needed to compare with it: pip install eflomal ({error})") from None


def _numbered(words: Sequence[str], numbers: dict[str, int]) -> str:
    """A line with numbers for words, as eflomal looks at nothing else: so white space in a word splits nothing."""
    return " ".join(str(numbers.setdefault(word.lower(), len(numbers))) for word in words)
