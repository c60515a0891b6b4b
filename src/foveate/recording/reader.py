"""Reading a recording: everything in it is checked before it is used, and tensors are read when they are looked at."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..biases import Bias
from ..describe import restore
from ..masks import Mask
from ..normalizers import Normalizer
from ..scores import Score
from .calls import KINDS, ROLES, CallInfo
from .disk import check_listed, read_small
from .recording import Notes, Recording
from .strict import Record, RecordingError, RecordingWarning, unseal
from .tensorfile import FileFacts, StoredTensor, TensorFile
from .writer import FORMAT, VERSION

__all__ = ["StoredCall", "load", "stored_call"]

_MANIFEST_LIMIT = 1 << 28
INDEX_LIMIT = 1 << 28
_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_NESTED = {
    "tokens": (str, 2),
    "target_tokens": (str, 2),
    "lengths": (int, 1),
    "starts": (int, 1),
    "target_lengths": (int, 1),
    "target_starts": (int, 1),
    "input_ids": (int, 2),
    "target_ids": (int, 2),
}
_LATER = {"prompt_lengths": (int, 1)}  # written where they are known


def load(path: str | PathLike[str]) -> Recording:
    """Open a recording. Only its index is read now; tensors are read when they are looked at.

    What was complete of an unfinished recording is given, with a `RecordingWarning` and `complete` False.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        RecordingError: the recording breaks a rule of docs/format.md: damaged, cut off or hostile.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(2, "no recording there" + _unfinished(root), str(root))
    if not root.is_dir():
        raise RecordingError(f"{root}: a recording is a directory; this is a file")
    manifest = unseal(read_small(root, "manifest.json", _MANIFEST_LIMIT), f"{root.name}/manifest.json")
    manifest.choice("format", [FORMAT])
    if manifest.whole("version") != VERSION:
        raise RecordingError(f"{manifest.where}: is of version {manifest.content['version']}; this reads {VERSION}")
    notes = _notes(manifest)
    complete = (root / "COMPLETE").exists()
    lines = _lines(root, complete)
    shared: dict[str, Tensor] = {}
    steps: dict[str, int] = {}
    recording = Recording(notes)
    for number, line in enumerate(lines):
        entry = unseal(line, f"{root.name}/index.jsonl, line {number + 1}")
        call = StoredCall(root, entry, shared)
        if call.step != steps.get(call.info.name, 0):
            raise RecordingError(f"{entry.where}: the calls of {call.info.name[:80]!r} must be numbered 0, 1, 2, ...")
        steps[call.info.name] = call.step + 1
        recording._add(call)
    recording.path, recording.complete = str(path), complete
    if not complete:
        warnings.warn(
            f"{root} was never finished: {len(lines)} complete calls are there, what came after is lost",
            RecordingWarning,
            stacklevel=2,
        )
    return recording


def _unfinished(root: Path) -> str:
    """Where a save to `root` that was killed has left what was complete."""
    found = sorted(root.parent.glob(f".{root.name}.*.part")) if root.parent.is_dir() else []
    if not found:
        return ""
    return f"; a save was interrupted, and fv.load({str(found[-1])!r}) gives what was complete of it"


def _lines(root: Path, complete: bool) -> list[bytes]:
    """The whole lines of the index. Of an unfinished recording a torn last line is dropped."""
    data = read_small(root, "index.jsonl", INDEX_LIMIT)
    lines = data.split(b"\n")
    torn = lines.pop()
    if complete:
        text = read_small(root, "COMPLETE", 32)
        if not re.fullmatch(rb"\d{1,12}\n", text) or torn or int(text) != len(lines):
            raise RecordingError(f"{root.name}/index.jsonl: must list as many calls as COMPLETE says; it was cut off")
    elif lines and not torn:  # a crash may leave a last line whose bytes never reached the disk
        try:
            unseal(lines[-1], "")
        except RecordingError:
            lines.pop()
    return lines


def _notes(manifest: Record) -> Notes:
    known = {**_NESTED, **{name: kind for name, kind in _LATER.items() if name in manifest.content}}
    nested: dict[str, Any] = {name: manifest.nested(name, *kind) for name, kind in known.items()}
    missed = manifest.nested("not_captured", str, 1)
    return Notes(model=manifest.take("model", str), not_captured=tuple(missed or ()), **nested)


class StoredCall:
    """A recorded call on disk, see `Call`."""

    stored = True

    def __init__(self, root: Path, entry: Record, shared: dict[str, Tensor]):
        self._root, self._entry, self._shared = root, entry, shared
        self._file: TensorFile | None = None
        self.step = entry.whole("step")
        self.info = CallInfo(
            name=entry.take("name", str),
            kind=entry.choice("kind", KINDS),
            label=entry.take("label", str),
            layer=entry.take("layer", int, none=True),
            heads=entry.whole("heads"),
            module=entry.take("module", str),
            numbers=_head_numbers(entry),
        )
        self.dtype = _DTYPES[entry.choice("dtype", _DTYPES)]
        self._facts = FileFacts.from_record(entry, "calls")
        self._shapes = {role: entry.shape(role) for role in ROLES if entry.content.get(role) is not None}
        self._check()
        check_listed(root, self._facts.file, self._facts.bytes)

    def _check(self) -> None:
        where = self._entry.where
        if not {"query", "key"} <= set(self._shapes):
            raise RecordingError(f"{where}: a call must have a query and a key")
        axes = {len(shape) for shape in self._shapes.values()}
        if len(axes) != 1 or min(axes) < 3:
            raise RecordingError(f"{where}: query, key and value must have the same three or more axes")
        if self.info.heads != self._shapes["query"][-3]:
            raise RecordingError(f"{where}: 'heads' must be the query's number of heads")

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self._shapes["query"][:-1], self._shapes["key"][-2])

    @property
    def nbytes(self) -> int:
        return self._facts.bytes

    @property
    def digest(self) -> str:
        """Of the entry in the index, which holds the checksums of all tensors."""
        return hashlib.sha256(json.dumps(self._entry.content, sort_keys=True).encode()).hexdigest()

    def read(self, role: str) -> StoredTensor | None:
        if role not in ROLES:
            raise KeyError(f"unknown role {role!r}; expected one of {', '.join(ROLES)}")
        if role not in self._shapes:
            return None
        if self._file is None:
            self._file = TensorFile(self._root, self._facts)
        stored = self._file[role]
        if stored.shape != self._shapes[role] or not stored.dtype.is_floating_point:
            raise RecordingError(f"{self._file.where}: {role} must be floating point of shape {self._shapes[role]}")
        return stored

    def arguments(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for role in ROLES:
            stored = self.read(role)
            found[role] = None if stored is None else stored.load()
        return {**found, **self.options}

    @property
    def options(self) -> dict[str, Any]:
        where = self._entry.where
        tensors = self._tensors()
        found: dict[str, Any] = {}
        found["bias"] = tensors.get("bias") if self._entry.take("bias", bool, dict) is True else None
        for part, kind in (("score", Score), ("normalizer", Normalizer), ("mask", Mask), ("bias", Bias)):
            description = self._entry.take(part, *((bool, dict) if part == "bias" else (dict,)), none=part == "mask")
            if isinstance(description, bool):
                continue
            mine = {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(f"{part}.")}
            try:
                found[part] = None if description is None else restore(description, mine)
            except (TypeError, ValueError, AttributeError, KeyError) as error:
                raise RecordingError(f"{where}: the {part} cannot be restored: {str(error)[:200]}") from None
            if description is not None and not isinstance(found[part], kind):
                raise RecordingError(f"{where}: the field {part!r} does not describe a {part}")
        return {**found, "dtype": self.dtype}

    def _tensors(self) -> dict[str, Tensor]:
        """The shared tensors this call refers to, each read once per recording."""
        found = {}
        for name, reference in self._entry.take("tensors", dict).items():
            record = Record(reference, f"{self._entry.where}, tensor {name[:40]!r}")
            facts = FileFacts.from_record(record, "shared")
            key = f"{facts.file} {record.shape('shape')} {record.take('packed', bool)}"
            if key not in self._shared:
                self._shared[key] = _unpacked(TensorFile(self._root, facts)["data"], record)
            found[name] = self._shared[key]
        return found


def stored_call(root: Path, entry: dict[str, Any]) -> StoredCall:
    """A call that has just been written, to be read back when it is looked at."""
    return StoredCall(root, Record(entry, f"{root.name}/index.jsonl"), {})


def _head_numbers(entry: Record) -> tuple[int, ...] | None:
    """Which heads of the module these are, in ascending order."""
    if "numbers" not in entry.content:
        return None
    found = tuple(entry.take("numbers", list))
    rising = all(type(n) is int for n in found) and all(a < b for a, b in pairwise((-1, *found)))
    if not rising or len(found) != entry.whole("heads"):
        raise RecordingError(f"{entry.where}: 'numbers' must be those of {entry.whole('heads')} heads, rising")
    return found


def _unpacked(stored: StoredTensor, record: Record) -> Tensor:
    shape = record.shape("shape")
    expected = (*shape[:-1], -(-shape[-1] // 8)) if record.take("packed", bool) and shape else shape
    if stored.shape != expected:
        raise RecordingError(f"{record.where}: must have the shape {expected}; got {stored.shape}")
    data = stored.load()
    if not record.take("packed", bool):
        return data
    if data.dtype != torch.uint8:
        raise RecordingError(f"{record.where}: packed bits must be stored as U8")
    bits = np.unpackbits(data.numpy(), axis=-1, count=shape[-1])
    return torch.from_numpy(bits.view(np.bool_))
