"""Writing a recording: every call is whole on the disk before it is listed. The layout is in docs/format.md."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import masks
from ..biases import Bias
from ..describe import describe
from ..map import AttentionMap
from .calls import ROLES, Call, build, dtype_name
from .disk import append_line, flush_directory, write_whole
from .strict import RecordingError, parse, seal
from .tensorfile import FileFacts, raw_bytes, write_tensors

if TYPE_CHECKING:
    from .recording import Notes, Recording

__all__ = ["FORMAT", "VERSION", "RecordingWriter", "is_recording", "put", "save"]

FORMAT, VERSION = "foveate-recording", 1
_BITS_LIMIT = 1 << 33  # entries of a mask stored as bits: 1 GB


class RecordingWriter:
    """Appends calls to a directory; `close` makes it complete. Memory does not grow with the calls.

    Raises:
        FileExistsError: `path` is there and is neither empty nor an unfinished recording, and `overwrite` is False.
    """

    def __init__(self, path: str | PathLike[str], notes: Notes, overwrite: bool = False):
        self.path = Path(path)
        clear(self.path, overwrite)
        for folder in (self.path, self.path / "calls", self.path / "shared"):
            folder.mkdir(parents=True, exist_ok=True)
        self._begin(0)
        self._write_manifest(notes)
        (self.path / "index.jsonl").touch()
        flush_directory(self.path)

    @classmethod
    def going_on(cls, path: Path, count: int) -> RecordingWriter:
        """A writer that adds to an unfinished recording, whose index lists `count` calls in whole lines."""
        writer = cls.__new__(cls)
        writer.path = path
        writer._begin(count)
        return writer

    def _begin(self, count: int) -> None:
        self.count = count
        self._known: dict[tuple[int, int], tuple[Tensor, dict[str, Any]]] = {}
        self._written: dict[str, FileFacts] = {}

    def append(self, call: Call) -> dict[str, Any]:
        """Write one call, then list it. Returns its entry in the index."""
        given = call.arguments()
        tensors = {role: given[role] for role in ROLES if given.get(role) is not None}
        described, references = self._describe(call, given)
        facts = write_tensors(self.path, f"calls/{self.count:05d}.safetensors", tensors)
        dtype = given.get("dtype") or given["query"].dtype
        entry = {
            **facts.as_json(),
            "name": call.info.name,
            "step": call.step,
            "kind": call.info.kind,
            "label": call.info.label,
            "layer": call.info.layer,
            "heads": call.info.heads,
            "module": call.info.module,
            **({} if call.info.numbers is None else {"numbers": list(call.info.numbers)}),
            "dtype": dtype_name(dtype),
            "query": list(tensors["query"].shape),
            "key": list(tensors["key"].shape),
            "value": list(tensors["value"].shape) if "value" in tensors else None,
            **described,
            "tensors": references,
        }
        append_line(self.path / "index.jsonl", seal(entry))
        self.count += 1
        return entry

    def close(self, notes: Notes) -> None:
        """Write what is known at the end, and the file COMPLETE."""
        self._write_manifest(notes)
        text = f"{self.count}\n".encode()
        write_whole(self.path / "COMPLETE", lambda file: put(file, text))

    def _write_manifest(self, notes: Notes) -> None:
        content = {"format": FORMAT, "version": VERSION, **vars(notes)}
        content["not_captured"] = list(notes.not_captured)
        if notes.prompt_lengths is None:
            del content["prompt_lengths"]
        text = seal(content).encode()
        write_whole(self.path / "manifest.json", lambda file: put(file, text))

    def _describe(self, call: Call, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Score, normaliser, mask and bias as JSON, and where each tensor in them is stored."""
        described: dict[str, Any] = {}
        references: dict[str, Any] = {}
        for part in ("bias", "score", "normalizer", "mask"):
            thing = given.get(part)
            if part == "bias" and not isinstance(thing, Bias):
                described[part] = thing is not None
                references |= {} if thing is None else {part: self._share(thing)}
                continue
            if thing is None:
                described[part] = None
                continue
            try:
                described[part], tensors = describe(thing)
            except TypeError as error:
                if part != "mask":
                    raise RecordingError(f"the {part} of {call.info.name!r} cannot be stored: {error}") from None
                described[part], tensors = describe(masks.tensor(_bits_of(call)))
            references.update({f"{part}.{name}": self._share(t) for name, t in tensors.items()})
        return described, references

    def _share(self, tensor: Tensor) -> dict[str, Any]:
        """Store a tensor once for all calls that hold the same content, under its hash."""
        key = (id(tensor), 0 if tensor.is_inference() else tensor._version)
        if key in self._known:
            return self._known[key][1]
        plain = tensor.detach().cpu().contiguous()
        shape, packed = list(plain.shape), plain.dtype == torch.bool and plain.ndim > 0
        if packed:
            plain = torch.from_numpy(np.packbits(plain.numpy(), axis=-1))
        digest = hashlib.sha256(json.dumps([shape, packed, str(plain.dtype)]).encode())
        digest.update(raw_bytes(plain))
        name = f"shared/{digest.hexdigest()}.safetensors"
        if name not in self._written:
            self._written[name] = write_tensors(self.path, name, {"data": plain})
        reference = {**self._written[name].as_json(), "shape": shape, "packed": packed}
        if len(self._known) >= 64:  # hold few tensors alive
            self._known.pop(next(iter(self._known)))
        self._known[key] = (tensor, reference)
        return reference


def save(recording: Recording, path: str | PathLike[str], overwrite: bool = False) -> None:
    """Write into a temporary sibling of `path`, then rename it into place."""
    target = Path(path)
    _refuse(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        writer = RecordingWriter(temporary, recording.notes)
        for call in list(recording._order):
            writer.append(call)
        writer.close(recording.notes)
        clear(target, overwrite)
        os.rename(temporary, target)
        flush_directory(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def is_recording(path: Path) -> bool:
    """Whether `path` is a directory with a manifest of ours."""
    manifest = path / "manifest.json"
    if path.is_symlink() or not path.is_dir() or not manifest.is_file():
        return False
    try:
        content = parse(manifest.read_bytes(), str(manifest))
    except RecordingError:
        return False
    return isinstance(content, dict) and isinstance(c := content.get("content"), dict) and c.get("format") == FORMAT


def _refuse(path: Path, overwrite: bool) -> None:
    """Raise unless `path` is free, an unfinished recording, or a recording that may be overwritten."""
    if not path.exists() and not path.is_symlink():
        return
    ours = is_recording(path)
    if ours and (overwrite or not (path / "COMPLETE").exists()):
        return
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        return
    remedy = "pass overwrite=True to replace it" if ours else "it is no recording, so it is never overwritten"
    raise FileExistsError(errno.EEXIST, f"something is there already; {remedy}", str(path))


def clear(path: Path, overwrite: bool) -> None:
    """Make room at `path`: nothing is deleted but an own recording, and that is moved away first."""
    _refuse(path, overwrite)
    if path.exists():
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
        os.rename(path, aside)
        shutil.rmtree(aside)


def _bits_of(call: Call) -> Tensor:
    """The boolean table of a mask that has no description: who gets a weight when all scores are equal."""
    weights = build(call)
    b, h, q, k = weights.problem.geometry.shape
    if b * h * q * k > _BITS_LIMIT:
        raise RecordingError(
            f"the mask of {call.info.name!r} is a Python function, so it is stored as bits: {(b, h, q, k)} of them are "
            "more than 1 GB; describe it with fv.masks.causal, window, padding, documents or prefix instead"
        )
    equal = AttentionMap(torch.zeros(b, h, q, 1), torch.zeros(b, h, k, 1), mask=weights.mask)
    step = max(1, (1 << 24) // max(1, b * h * k))
    rows = [equal[:, :, r : r + step] > 0 for r in range(0, q, step)]
    return torch.cat(rows, dim=2) if rows else torch.ones(1, 1, 1, 1, dtype=torch.bool)


def put(file: Any, text: bytes) -> None:
    file.write(text)
