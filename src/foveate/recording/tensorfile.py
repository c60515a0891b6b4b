"""One safetensors file with a checksum for every 64 KiB block, so that a slice can be read *and* trusted.

The files are ordinary safetensors: 8 bytes of header length, a JSON header, the data. The last tensor,
`checksums` (uint32), holds the CRC-32 of each block of the data before it. Any safetensors reader opens them;
this one reads slices with pread, checks the blocks it touches, and refuses every header that breaks a rule.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .disk import Opened, write_whole
from .slices import Run, plan
from .strict import Record, RecordingError, parse

__all__ = ["BLOCK", "DTYPES", "FileFacts", "StoredTensor", "TensorFile", "raw_bytes", "write_tensors"]

BLOCK = 1 << 16
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U32": torch.uint32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_HEADER_LIMIT = 1 << 20
_ALIGN = 64


@dataclass(frozen=True)
class FileFacts:
    """What an index says of a tensor file; enough to notice any damage to it. None: no index lists it."""

    file: str
    bytes: int
    header: int | None  # CRC-32 of the length and header
    checksums: int | None  # CRC-32 of the `checksums` tensor

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, "bytes": self.bytes, "header": self.header, "checksums": self.checksums}

    @classmethod
    def from_record(cls, record: Record, folder: str) -> FileFacts:
        name = record.take("file", str)
        if not name.startswith(folder + "/") or not name.endswith(".safetensors"):
            raise RecordingError(f"{record.where}: 'file' must be {folder}/NAME.safetensors; got {name[:80]!r}")
        crc = 2**32 - 1
        return cls(name, record.whole("bytes"), record.whole("header", crc), record.whole("checksums", crc))


def write_tensors(root: Path, name: str, tensors: dict[str, Tensor]) -> FileFacts:
    """Write `tensors` to `root/name`, whole or not at all."""
    plain = {key: t.detach().cpu().contiguous() for key, t in tensors.items()}
    total = sum(t.nbytes for t in plain.values())
    entries, at = {}, 0
    for key, t in plain.items():
        entries[key] = {"dtype": _CODES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    blocks = -(-total // BLOCK)
    entries["checksums"] = {"dtype": "U32", "shape": [blocks], "data_offsets": [at, at + 4 * blocks]}
    text = json.dumps({"__metadata__": {"format": "foveate 1"}, **entries}, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    header = len(text).to_bytes(8, "little") + text
    facts: dict[str, int] = {}

    def fill(file: BinaryIO) -> None:
        file.write(header)
        sums = _Blocks()
        for t in plain.values():
            raw = raw_bytes(t)
            sums.update(raw)
            file.write(raw)
        table = np.asarray(sums.close(), dtype="<u4").tobytes()
        file.write(table)
        facts.update(header=zlib.crc32(header), checksums=zlib.crc32(table))

    size = write_whole(root / name, fill)
    return FileFacts(name, size, **facts)


def raw_bytes(t: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, without a copy."""
    flat: Any = t.reshape(-1).view(torch.uint8).numpy() if t.numel() else b""
    return memoryview(flat)


class _Blocks:
    """CRC-32 of each BLOCK of a stream of buffers."""

    def __init__(self) -> None:
        self.sums: list[int] = []
        self.crc, self.held = 0, 0

    def update(self, raw: memoryview) -> None:
        at = 0
        while at < len(raw):
            part = raw[at : at + BLOCK - self.held]
            self.crc = zlib.crc32(part, self.crc)
            self.held += len(part)
            at += len(part)
            if self.held == BLOCK:
                self._next()

    def _next(self) -> None:
        self.sums.append(self.crc)
        self.crc, self.held = 0, 0

    def close(self) -> list[int]:
        if self.held:
            self._next()
        return self.sums


class TensorFile:
    """The tensors of one file, by name; nothing but the header is read before a tensor is asked for."""

    def __init__(self, root: Path, facts: FileFacts):
        self.root, self.facts = root, facts
        with Opened(root, facts.file, facts.bytes) as file:
            self.where = file.where
            header, self.start = _read_header(file, facts)
            self.entries = _check_entries(header, facts.bytes - self.start, self.where)
            sums = self.entries.pop("checksums", None)
            if sums is None or sums.dtype != torch.uint32:
                raise RecordingError(f"{self.where}: must hold the tensor 'checksums' of uint32")
            self.covered = sums.begin
            if sums.shape != (-(-self.covered // BLOCK),) or sums.end != facts.bytes - self.start:
                raise RecordingError(f"{self.where}: 'checksums' must come last and have one entry per {BLOCK} bytes")
            table = file.read(self.start + sums.begin, sums.end - sums.begin)
        if facts.checksums not in (None, zlib.crc32(table)):
            raise RecordingError(f"{self.where}: the table of checksums is damaged")
        self.sums = np.frombuffer(table, dtype="<u4")

    def __getitem__(self, name: str) -> StoredTensor:
        if name not in self.entries:
            raise RecordingError(f"{self.where}: has no tensor {name!r}; it holds {', '.join(self.entries)}")
        return StoredTensor(self, name)

    def read(self, file: Opened, begin: int, end: int) -> memoryview:
        """Bytes `begin` to `end` of the data, after every block they lie in has passed its checksum."""
        first, last = begin // BLOCK * BLOCK, min(-(-end // BLOCK) * BLOCK, self.covered)
        data = memoryview(file.read(self.start + first, last - first))
        for at in range(first, last, BLOCK):
            if zlib.crc32(data[at - first : at - first + BLOCK]) != self.sums[at // BLOCK]:
                raise RecordingError(f"{self.where}: the block at byte {self.start + at} is damaged")
        return data[begin - first : end - first]


@dataclass(frozen=True)
class _Entry:
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class StoredTensor:
    """A tensor on disk. `stored[0, 3, 100:200]` reads those rows and no others; `load()` reads all."""

    def __init__(self, file: TensorFile, name: str):
        self.file, self.name = file, name
        self._entry = file.entries[name]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._entry.shape

    @property
    def dtype(self) -> torch.dtype:
        return self._entry.dtype

    @property
    def nbytes(self) -> int:
        return self._entry.end - self._entry.begin

    def load(self) -> Tensor:
        return self[...]

    def __getitem__(self, index: Any) -> Tensor:
        """Ints, slices and an ellipsis, as for a tensor.

        Raises:
            IndexError: out of range, or too many indices.
            RecordingError: the file was cut off, replaced or damaged.
        """
        runs, shape, rest = plan(self.shape, index)
        e, width = self._entry, self._entry.dtype.itemsize
        with Opened(self.file.root, self.file.facts.file, self.file.facts.bytes) as file:
            parts = [self._run(file, run, e.begin, width) for run in runs]
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(whole) == 0:
            return torch.empty(shape, dtype=e.dtype)[rest]
        raw = bytearray(whole) if isinstance(whole, bytes) else whole
        if e.dtype == torch.bool:  # any byte but 0 is True, whoever wrote it
            flat = torch.frombuffer(raw, dtype=torch.uint8) != 0
        else:
            flat = torch.frombuffer(raw, dtype=e.dtype)
        return flat.reshape(shape)[rest]

    def _run(self, file: Opened, run: Run, begin: int, width: int) -> memoryview:
        return self.file.read(file, begin + run.start * width, begin + run.stop * width)

    def __repr__(self) -> str:
        return f"StoredTensor({self.name!r}, shape={self.shape}, dtype={self.dtype}, file={self.file.where})"


def _read_header(file: Opened, facts: FileFacts) -> tuple[Record, int]:
    if facts.bytes < 8:
        raise RecordingError(f"{file.where}: is too short for a header")
    length = int.from_bytes(file.read(0, 8), "little")
    if length > _HEADER_LIMIT or 8 + length > facts.bytes:
        raise RecordingError(f"{file.where}: the header's length, {length}, is out of bounds")
    raw = bytes(file.read(0, 8 + length))
    header = Record(parse(raw[8:], file.where), file.where)
    if facts.header not in (None, zlib.crc32(raw)):
        raise RecordingError(f"{file.where}: the header is not the one that the index lists")
    return header, 8 + length


def _check_entries(header: Record, size: int, where: str) -> dict[str, _Entry]:
    """Dtype, shape and offsets of each tensor: in range, in agreement, without a hole or an overlap."""
    entries = {}
    for name in header.content:
        if name == "__metadata__":
            continue
        item = Record(header.take(name, dict), f"{where}, tensor {name[:40]!r}")
        dtype = DTYPES[item.choice("dtype", DTYPES)]
        shape, offsets = item.shape("shape"), item.numbers("data_offsets")
        count = 1
        for axis in shape:
            count *= axis
        if len(offsets) != 2 or offsets[1] - offsets[0] != count * dtype.itemsize:
            raise RecordingError(f"{item.where}: 'data_offsets' do not agree with the dtype and shape")
        entries[name] = _Entry(dtype, shape, *offsets)
    at = 0
    for name, entry in sorted(entries.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if entry.begin != at:
            raise RecordingError(
                f"{where}: tensor {name[:40]!r} must begin at {at}: tensors neither overlap nor leave holes"
            )
        at = entry.end
    if at != size:
        raise RecordingError(f"{where}: the header describes {at} bytes of data; the file holds {size}")
    return entries
