"""One `with watch(model)`: which modules it stands around, and what it keeps of their calls."""

from __future__ import annotations

import fnmatch
import re
import threading
import warnings
from dataclasses import fields, is_dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..normalizers import Softmax
from ..recording import CallInfo, MemoryCall, Recording, RecordingWriter
from ..recording.calls import layer_of
from ..recording.reader import stored_call
from ..recording.resuming import Unfinished
from ..scores import Dot
from . import memory
from .checks import reproduces
from .events import Event, NotExpressibleError
from .frames import Frame, is_compiled, recording_here
from .heads import of_heads
from .inputs import Inputs
from .standing import Standing, kind_of, some

__all__ = ["CaptureError", "CaptureWarning", "Session"]


class CaptureError(RuntimeError):
    """Nothing was captured; the text says what was tried and what to do."""


class CaptureWarning(UserWarning):
    """Some attention ran that was not captured."""


class Session(Standing):
    """A context manager that gives the `Recording`, which fills while the model runs."""

    error, doing = CaptureError, "watch"

    def __init__(
        self,
        model: nn.Module,
        layers: list[str | int] | None,
        heads: tuple[int, ...] | None,
        keep: str,
        dtype: torch.dtype | None,
        to: str | PathLike[str] | torch.device | None,
        tokenizer: Any,
        overwrite: bool,
        resume: bool,
    ) -> None:
        super().__init__(model)
        self.keep, self.dtype = keep, dtype
        self.patterns, self.heads = layers, heads
        self.device, self.path = _target(to)
        self.overwrite, self.resume = overwrite, resume
        self.unfinished: Unfinished | None = None
        self.inputs = Inputs(model, tokenizer)
        self.infos: dict[str, CallInfo] = {}
        self.missed: dict[str, str] = {}
        self.softmaxes: dict[str, str] = {}
        self.skipped: set[str] = set()
        self.ran = False
        self.lock = threading.Lock()
        self.writer: RecordingWriter | None = None
        self.recording = Recording()
        self.recording.model = type(model).__name__

    # --- standing around the modules

    def __enter__(self) -> Recording:
        self.find()
        if self.path is not None and self.resume:
            self.unfinished = Unfinished(self.path, self.recording.notes)
            self.writer = self.unfinished.writer
        elif self.path is not None:
            self.writer = RecordingWriter(self.path, self.recording.notes, self.overwrite)
        self.stand()
        return self.recording

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.let_go()
        self.inputs.write(self.recording)
        self.recording.not_captured = tuple(f"{name}: {why}" for name, why in sorted(self._not_captured().items()))
        if kind is not None:
            return
        if not self.recording:
            raise CaptureError(self._nothing())
        if self.unfinished is not None:
            self.unfinished.end()
        if self.writer is not None:
            self.writer.close(self.recording.notes)
        if self.recording.not_captured:
            warnings.warn(
                "some attention was not captured: " + "; ".join(self.recording.not_captured[:5]),
                CaptureWarning,
                stacklevel=2,
            )

    def find(self) -> None:
        if is_compiled(self.model):
            raise CaptureError(
                "the model is compiled, and compiled code cannot be watched without changing it; watch the model "
                "before torch.compile, or `model._orig_mod`"
            )
        super().find()
        if self.patterns is not None and not any(self.accepts(self.shown(p)) for p in self.paths.values()):
            there = sorted({n for n in map(layer_of, self.paths.values()) if n is not None})
            layers = f"its layers are {there[0]} to {there[-1]}, " if there else ""
            raise CaptureError(
                f"layers={self.patterns} matches no module of {self.recording.model}; {layers}its modules "
                f"{some(p for p in self.paths.values() if p)}"
            )

    # --- what interceptors ask and tell

    def entered(self, frame: Frame, outermost: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if recording_here():
            self.ran = True
            self.inputs.note(self.paths.get(id(frame.module), ""), outermost, args, kwargs)

    def accepts(self, name: str) -> bool:
        """Whether `layers` asks for this module: by its number, a glob, or a path that it lies under."""
        return self.patterns is None or any(_matches(name, p) for p in self.patterns)

    def take(self, name: str, module: nn.Module, event: Event) -> None:
        """Keep a copy of one call."""
        with self.lock:
            step = len(self.recording._calls.get(name, ()))
            if step == 0 and not reproduces(event):
                self.missed[name] = "queries, keys and mask as understood do not reproduce the module's output"
            if name in self.missed:
                return
            if self.heads is not None:
                try:
                    event = of_heads(event, self.heads)
                except NotExpressibleError as error:
                    self.missed[name] = str(error)
                    return
            info = self.infos.get(name) or self._describe(name, module, event)
            self.infos[name] = info
            options = {
                "score": _fixed(event.score, copied=True) or Dot(event.scale, event.softcap),
                "normalizer": _fixed(event.normalizer) or Softmax(self._copy(event.sinks, None)),
                "mask": event.mask,
                "bias": _fixed(event.bias),
                "dtype": event.query.dtype,
            }
            q, k = self._copy(event.query, self.dtype), self._copy(event.key, self.dtype)
            v = self._copy(event.value, self.dtype) if self.keep == "qkv" else None
            assert q is not None and k is not None
            there = None if self.unfinished is None else self.unfinished.take(name, step, q, k)
            if there is not None:
                self.recording._add(there)
                return
            call = MemoryCall(info, step, q, k, v, options)
            if self.writer is None:
                self.recording._add(call)
                memory.kept(call.nbytes)
            else:
                self.recording._add(stored_call(self.writer.path, self.writer.append(call)))

    def _copy(self, t: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
        """A contiguous copy that no later in-place change (a static cache) can reach."""
        if t is None:
            return None
        with torch.inference_mode(False), torch.no_grad():
            return memory.room(t.shape, dtype or t.dtype, self.device or t.device).copy_(t.detach())

    def _describe(self, name: str, module: nn.Module, event: Event) -> CallInfo:
        kind = kind_of(name, module, event)
        layer = layer_of(name)
        label = name.rsplit(".", 1)[-1] if layer is None else f"layer {layer}"
        return CallInfo(name, kind, label, layer, event.query.shape[1], type(module).__name__, self.heads)

    # --- the end

    def _not_captured(self) -> dict[str, str]:
        found = dict(self.missed)
        for name, why in self.softmaxes.items():
            if name not in self.recording and self.accepts(name):
                found.setdefault(name, why)
        for path in self.compiled:
            found.setdefault(self.shown(path), "compiled by torch.compile; watch the model before compiling it")
        return found

    def _nothing(self) -> str:
        if not self.ran:
            return "nothing was captured: the model was not called inside the `with`, or only in a backward pass"
        if self.skipped:
            return f"layers={self.patterns} matches no module in which attention ran; it ran in {some(self.skipped)}"
        missed = "; ".join(self.recording.not_captured[:5])
        tried = "transformers' attention interface, F.scaled_dot_product_attention, flex_attention, "
        tried += "multi_head_attention_forward, nn.MultiheadAttention, nn.TransformerEncoderLayer and foveate.attention"
        return (
            f"nothing was captured: {self.recording.model} called none of {tried}. "
            + (f"Not captured: {missed}. " if missed else "")
            + "For a Hugging Face model, load it with attn_implementation='sdpa' or 'eager'; in your own module, call "
            "foveate.attention or F.scaled_dot_product_attention"
        )


def _matches(name: str, pattern: str | int) -> bool:
    if isinstance(pattern, str):
        return fnmatch.fnmatchcase(name, pattern) or f"{name}.".startswith(f"{pattern}.")
    return layer_of(name) == pattern


def _fixed(thing: Any, copied: bool = False) -> Any:
    """A bias, score or normaliser outside the graph, which no training step can reach: learned tensors are copied.

    With `copied` all tensors are, as parts of a learned one (views) do not look learned.
    """
    if isinstance(thing, Tensor):
        learned = thing.requires_grad and thing.is_leaf
        return thing.detach().clone() if learned or copied else thing.detach()
    if is_dataclass(thing) and not isinstance(thing, type):
        return replace(thing, **{f.name: _fixed(getattr(thing, f.name), copied) for f in fields(thing)})
    return thing


def _target(to: str | PathLike[str] | torch.device | None) -> tuple[torch.device | None, Path | None]:
    """A device ("cpu", "cuda:1"; None: where the model is) or a path for a recording on disk."""
    if to is None:
        return None, None
    if is_device(to) or isinstance(to, torch.device):
        return torch.device(str(to)), None
    return torch.device("cpu"), Path(to)


def is_device(to: str | PathLike[str] | torch.device) -> bool:
    """Whether it names a device, not a path."""
    named = isinstance(to, str) and re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d+)?", to)
    return isinstance(to, torch.device) or bool(named)
