"""Checkpoints without pickle: tensors in safetensors, everything else in JSON, each file replaced in one step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..files import replace_file, save_text

__all__ = [
    "CHECKPOINT",
    "clear_temporaries",
    "describe_checkpoint",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "save_model",
    "save_tensors",
]

CHECKPOINT = "checkpoint.safetensors"
_TEMPORARY = re.compile(r"\..+\.(safetensors|json|jsonl|png|md)\.[0-9]+")


def clear_temporaries(folder: Path) -> None:
    """Delete what processes that were killed had half written, here and one folder down."""
    for path in (*folder.glob(".*"), *folder.glob("*/.*")):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def save_model(folder: Path, tensors: dict[str, Tensor], description: dict[str, Any], name: str = "model") -> None:
    """Write `name.safetensors` and `name.json`; a reader sees the old or the new file, never half of one."""
    save_tensors(folder / f"{name}.safetensors", tensors)
    save_text(folder / f"{name}.json", json.dumps(description, ensure_ascii=False, indent=1) + "\n")


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file in one step."""
    contiguous = {key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}
    replace_file(path, lambda temporary: save_file(contiguous, temporary))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """One sentence where a file is cut off or something else."""
    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name} in {path.parent.name} is cut off or of another kind: {told}") from None


def load_model(folder: Path, name: str = "model") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_model` wrote.

    Raises:
        ValueError: there is none, or a file is cut off.
    """
    for suffix in ("safetensors", "json"):
        if not (folder / f"{name}.{suffix}").is_file():
            where = folder.resolve().name or folder
            raise ValueError(f"no {name}.{suffix} in {where}; train one first, or name another folder")
    with _reading(folder / f"{name}.json"):
        description = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError(f"expected an object, got {type(description).__name__}")
    with _reading(folder / f"{name}.safetensors"):
        return load_file(folder / f"{name}.safetensors"), description


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, description: dict[str, Any]
) -> None:
    """Everything needed to go on exactly where training stands: parameters, optimizer moments, torch's random state.

    One safetensors file holds all of it, description included, so parameters and step can never disagree.
    """
    tensors = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors["random"] = torch.get_rng_state()
    contiguous = {key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}
    metadata = {"description": json.dumps(description)}
    replace_file(folder / CHECKPOINT, lambda path: save_file(contiguous, path, metadata))


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """The description that was saved with a checkpoint.

    Raises:
        ValueError: there is none, or it is cut off.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ValueError(f"nothing to resume: no {CHECKPOINT} in {folder.name}")
    with _reading(path), safe_open(path, framework="pt") as file:
        description: dict[str, Any] = json.loads((file.metadata() or {}).get("description", ""))
    return description


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote and return its description.

    Raises:
        ValueError: there is none, it is cut off, or it is of a model of another shape.
    """
    description = describe_checkpoint(folder)
    with _reading(folder / CHECKPOINT):
        tensors = load_file(folder / CHECKPOINT)
    try:
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"{CHECKPOINT} in {folder.name} is of another model: {told}") from None
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    torch.set_rng_state(tensors["random"])
    return description
