"""Binary answers: a little-endian uint32 (the length of a JSON header), the header padded to 4 bytes, a raw array."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(value: Any) -> str:
    """Compact JSON that UTF-8 can carry; a number that JSON cannot hold is an error rather than an invalid document."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def pack(header: dict[str, Any], array: NDArray[Any]) -> bytes:
    """`array` must be uint8 or float32."""
    if array.dtype not in (np.uint8, np.float32):
        raise TypeError(f"binary answers carry uint8 or float32; got {array.dtype}")
    text = dumps(header).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<I", len(text)) + text + array.astype(array.dtype.newbyteorder("<")).tobytes()


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the raw bytes of the array."""
    (length,) = struct.unpack_from("<I", data)
    return json.loads(data[4 : 4 + length]), data[4 + length :]
