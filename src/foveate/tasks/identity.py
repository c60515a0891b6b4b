"""What a word is, without having been learned: signs that follow from its letters alone, so that equal words have equal
signs and any two others do not. With them a model can compare and copy words that it never saw.

Axes: W words, D signs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MOST", "signs"]

MOST = 512  # signs of a word


def signs(words: Iterable[str], width: int) -> Tensor:
    """(W, D): for each word, however it is capitalised, D signs, 1 or -1; float32.

    Raises:
        ValueError: a width that is no multiple of 8 from 8 to `MOST`.
    """
    if not 8 <= width <= MOST or width % 8:
        raise ValueError(f"width must be a multiple of 8 from 8 to {MOST}; got {width}")
    found = [_bits(word.lower())[:width] for word in words]
    return torch.from_numpy(np.stack(found) if found else np.zeros((0, width), np.int8)).float()


@lru_cache(maxsize=1 << 16)
def _bits(word: str) -> NDArray[np.int8]:
    digest = np.frombuffer(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=MOST // 8).digest(), np.uint8)
    return np.unpackbits(digest).astype(np.int8) * 2 - 1
