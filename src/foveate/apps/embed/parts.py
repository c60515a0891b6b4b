"""Arrays as text inside a page: the bytes of each number apart, deflated, in 85 characters safe in HTML and JSON.

Bytes of equal rank stand together, so that signs and exponents, which repeat, deflate and mantissas do not spoil them:
float16 queries and keys shrink by a seventh. Five characters carry four bytes, where base64 needs five and a third.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.apps.errors import UserError

__all__ = ["Parts", "decode", "encode", "half_or_single", "megabytes", "too_large"]

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@[]^_{|}~"[
    :85
].encode()  # no quote, backslash, ampersand or angle: neither JSON nor HTML has to escape any
TEXT = 5 / 4  # characters for a byte
LEVEL = 6
_HALF_MAX = 65504.0


class Parts:
    """The arrays of a page, each distinct one once, and their size as text, which may not exceed `limit`."""

    def __init__(self, limit: int) -> None:
        self.texts: list[str] = []
        self.size, self.limit = 0, limit
        self._known: dict[tuple[bytes, str, tuple[int, ...]], int] = {}

    def add(self, array: NDArray[Any], dtype: str, shape: tuple[int, ...] | None = None) -> dict[str, Any]:
        """The reference {part, shape, dtype} to `array`.

        Raises:
            UserError: the page would exceed its limit.
        """
        shape = tuple(array.shape) if shape is None else shape
        data = np.ascontiguousarray(array)
        key = (hashlib.sha256(data.tobytes()).digest(), dtype, shape)
        if key not in self._known:
            self._known[key] = len(self.texts)
            self.texts.append(encode(_deflated(data)))
            self.size += len(self.texts[-1])
            self.check()
        return {"part": self._known[key], "shape": list(shape), "dtype": dtype}

    def add_floats(self, tensor: Tensor, half: bool) -> dict[str, Any]:
        """As float16, if asked and no number is too large for that; else as float32."""
        numbers = tensor.detach().float().cpu().numpy()
        half = half and fits_half(tensor)
        return self.add(numbers.astype("<f2" if half else "<f4"), "float16" if half else "float32")

    def add_bits(self, flags: Tensor) -> dict[str, Any]:
        return self.add(np.packbits(flags.cpu().numpy(), axis=-1), "bits", tuple(flags.shape))

    def add_places(self, places: Tensor) -> dict[str, Any]:
        """Whole numbers below 2^31, as differences along the last axis."""
        found = places.cpu().numpy().astype(np.int64)
        return self.add(np.diff(found, axis=-1, prepend=0).astype("<i4"), "steps", found.shape)

    def check(self, more: float = 0) -> None:
        """Whether there is room for so many characters more."""
        if self.size + more > self.limit:
            raise too_large(self.size + more, self.limit)


def too_large(size: float, limit: int, alternative: str = "") -> UserError:
    """What is said of a page beyond its limit, and the ways out."""
    return UserError(
        f"the page would take {megabytes(size)}{alternative}, more than the limit of {megabytes(limit)}; choose "
        "some layers and heads (layers=, heads=; --layer, --head), keep less (embed='top', a smaller k), or raise "
        "limit=; fv.view shows everything, at any length"
    )


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 9.5e6 else f"{size / 1e6:.2g} MB"


def fits_half(tensor: Tensor) -> bool:
    return bool((tensor.detach().float().abs() <= _HALF_MAX).all())


def half_or_single(tensor: Tensor, half: bool) -> Tensor:
    """The numbers as the page will have them, in float32."""
    numbers = tensor.detach().float()
    return numbers.to(torch.float16).float() if half and fits_half(tensor) else numbers


def _deflated(data: NDArray[Any]) -> bytes:
    planes = data.view(np.uint8).reshape(-1, data.itemsize).T if data.size else data
    squeeze = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(np.ascontiguousarray(planes).tobytes()) + squeeze.flush()


def encode(data: bytes) -> str:
    """Four bytes, the first the highest, as five digits; of a last group of n bytes, n + 1 digits."""
    lacks = -len(data) % 4
    numbers = np.frombuffer(data + b"\0" * lacks, ">u4").astype(np.uint32)
    digits = np.empty((len(numbers), 5), np.uint8)
    for place in range(4, -1, -1):
        numbers, digits[:, place] = np.divmod(numbers, np.uint32(85))
    text = np.frombuffer(ALPHABET, np.uint8)[digits].tobytes().decode()
    return text[: len(text) - lacks]


def decode(text: str) -> bytes:
    """What `encode` wrote."""
    lacks = -len(text) % 5
    values = np.zeros(256, np.uint64)
    values[np.frombuffer(ALPHABET, np.uint8)] = np.arange(85, dtype=np.uint64)
    digits = values[np.frombuffer(text.encode() + ALPHABET[-1:] * lacks, np.uint8)].reshape(-1, 5)
    numbers = digits @ np.array([85**4, 85**3, 85**2, 85, 1], np.uint64)
    data = numbers.astype(">u4").tobytes()
    return data[: len(data) - lacks]
