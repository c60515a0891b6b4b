"""Recording a text of any length on disk: what it will take, whether there is room, how far it is, going on.

The model first reads a few tokens. What they leave behind says which modules are recorded and how many bytes a token
takes, so that a choice that matches nothing, or a disk that is too small, is known before the long pass and not after.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.apps.errors import UserError
from foveate.apps.models import HubModel, Prepared
from foveate.apps.workspace import Report
from foveate.recording import Recording, RecordingError

__all__ = ["Choice", "Plan", "plan", "record", "size"]

PROBE = 4  # tokens
SPARE = 64 << 20  # bytes of the disk that stay free
_SIZES = ("hidden_size", "n_embd", "d_model")
_LEAST = (
    8  # of a layer's hidden vectors that are held at once: the stream, its norm, queries, keys, values, what they read
)


@dataclass(frozen=True)
class Choice:
    """What is kept: options of `fv.watch`."""

    layers: tuple[str | int, ...] | None = None
    heads: tuple[int, ...] | None = None
    values: bool = True
    dtype: torch.dtype | None = None

    def options(self) -> dict[str, Any]:
        layers = None if self.layers is None else list(self.layers)
        return {"layers": layers, "heads": self.heads, "keep": "qkv" if self.values else "qk", "dtype": self.dtype}


@dataclass(frozen=True)
class Plan:
    """The modules that will be recorded, in the order of their calls; bytes on disk; bytes of memory, at least."""

    names: tuple[str, ...]
    nbytes: int
    memory: int


class _Enough(Exception):  # noqa: N818  # it is no error
    """All that was asked for is recorded."""


def plan(model: HubModel, given: Prepared, choice: Choice) -> Plan:
    """What recording these inputs takes, found out by recording their first tokens.

    Raises:
        UserError: the choice matches nothing.
    """
    ids, targets = given.inputs["input_ids"], given.inputs.get("decoder_input_ids")
    source, target = ids.shape[1], 0 if targets is None else targets.shape[1]
    few = {name: _first(t, name.startswith("decoder_"), source, target) for name, t in given.inputs.items()}
    seen = model.watched(few, **choice.options())
    nbytes = 0
    for name, step, _, info in seen.calls():
        queries = target if targets is not None and info.kind != "encoder" else source
        keys = queries if info.kind != "cross" else source
        for role, length in (("query", queries), ("key", keys), ("value", keys)):
            part = seen.read(name, role, step)
            if part is not None:
                nbytes += part[..., :1, :].nbytes * length
    return Plan(tuple(name for name, *_ in seen.calls()), nbytes, _memory(model, max(source, target)))


def record(
    model: HubModel, given: Prepared, choice: Choice, planned: Plan, to: Path, report: Report, *, resume: bool = False
) -> Recording:
    """Run the model and write each call as it happens; it stops after the last one that was asked for.

    Raises:
        UserError: there is too little room on the disk or in memory, or nothing can be resumed there.
    """
    _check_room(planned, to)
    try:
        with _told(model, planned, report, early=choice.layers is not None):
            return model.watched(given.inputs, given.prompt, to=to, resume=resume, until=_Enough, **choice.options())
    except RecordingError as error:
        raise UserError(str(error)) from None


@contextmanager
def _told(model: HubModel, planned: Plan, report: Report, *, early: bool) -> Iterator[None]:
    """Say after each module how far it is, and end the pass after the last one, if others would follow."""
    network: nn.Module = model.load(report)
    start, done = time.monotonic(), 0

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - start) * (len(planned.names) - done) / done
        report(done / len(planned.names), f"{done} of {len(planned.names)} modules recorded, about {left:.0f} s left")
        if early and done == len(planned.names):
            raise _Enough

    paths = set(dict(network.named_modules())) & set(planned.names)
    hooks = [network.get_submodule(path).register_forward_hook(after) for path in paths]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _first(t: torch.Tensor, of_target: bool, source: int, target: int) -> torch.Tensor:
    """The first tokens of an input that has one entry for each."""
    length = target if of_target else source
    return t[:, :PROBE] if t.ndim > 1 and t.shape[1] == length else t


def _memory(model: HubModel, tokens: int) -> int:
    """Bytes that a pass holds beside the model, at least; much more where attention forms all weights."""
    config = model.config.get_text_config()
    held = tokens * _LEAST * next((n for name in _SIZES if (n := getattr(config, name, None))), 0) * 4
    if getattr(model.load(lambda progress, message: None).config, "_attn_implementation", None) == "eager":
        held += tokens * tokens * getattr(config, "num_attention_heads", 1) * 4
    return int(held)


def _check_room(planned: Plan, to: Path) -> None:
    there = sum(path.stat().st_size for path in to.glob("calls/*.safetensors"))
    free = shutil.disk_usage(to.resolve().parent).free
    if planned.nbytes - there > free - SPARE:
        raise UserError(
            f"the recording takes {size(planned.nbytes)}, and {size(free)} are free at {to.parent}. Keep less: fewer "
            "--layers or --heads, --no-values, or --dtype float16"
        )
    available = _available()
    if available is not None and planned.memory > available:
        raise UserError(
            f"one pass takes {size(planned.memory)} of memory beside the model, at least, and {size(available)} are "
            "left. Take a shorter text, or a model that attends by a fused kernel (sdpa)"
        )


def _available() -> int | None:
    """Bytes of memory that can be had; None where the system does not say."""
    try:
        facts = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(next(line for line in facts.splitlines() if line.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration, ValueError):
        return None


def size(nbytes: float) -> str:
    """Bytes for people: 9.7 GB."""
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "bytes" or nbytes >= 100 else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"
