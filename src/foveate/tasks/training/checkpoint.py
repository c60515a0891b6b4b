"""Checkpoints without pickle: tensors in safetensors, everything else in JSON, each file replaced in one step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = ["describe_checkpoint", "load_checkpoint", "load_model", "save_checkpoint", "save_model"]


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_model(folder: Path, tensors: dict[str, Tensor], description: dict[str, Any], name: str = "model") -> None:
    """Write `name.safetensors` and `name.json`; a reader sees the old or the new file, never half of one."""
    contiguous = {key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}
    _replace(folder / f"{name}.safetensors", lambda path: save_file(contiguous, path))
    text = json.dumps(description, ensure_ascii=False, indent=1)
    _replace(folder / f"{name}.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))


def load_model(folder: Path, name: str = "model") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_model` wrote."""
    for suffix in ("safetensors", "json"):
        if not (folder / f"{name}.{suffix}").is_file():
            raise ValueError(f"no {name}.{suffix} in {folder.name}; train one first, or name another folder")
    description = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
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
    _replace(folder / "checkpoint.safetensors", lambda path: save_file(contiguous, path, metadata))


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """The description that was saved with a checkpoint."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        raise ValueError(f"nothing to resume: no checkpoint.safetensors in {folder.name}")
    with safe_open(path, framework="pt") as file:
        description: dict[str, Any] = json.loads(file.metadata()["description"])
    return description


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote and return its description."""
    description = describe_checkpoint(folder)
    tensors = load_file(folder / "checkpoint.safetensors")
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    torch.set_rng_state(tensors["random"])
    return description
