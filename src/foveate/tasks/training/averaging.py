"""The parameters of the last epochs and of the best one, in files, and their average."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from .checkpoint import save_tensors

__all__ = ["Epochs"]


class Epochs:
    """`epoch-00007.safetensors` for each of the last `count` epochs, and `best.safetensors`; the folder is theirs."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def keep(self, epoch: int, model: nn.Module, *, best: bool) -> None:
        """Write this epoch's parameters, and delete those that are too old."""
        save_tensors(self._path(epoch), model.state_dict())
        if best:
            save_tensors(self.folder / "best.safetensors", model.state_dict())
        kept = {self._path(e) for e in range(max(0, epoch + 1 - self.count), epoch + 1)}
        for path in self.folder.glob("epoch-*.safetensors"):
            if path not in kept:
                path.unlink()

    def forget(self) -> None:
        """Delete what an earlier run left behind."""
        for path in self.folder.glob("*.safetensors"):
            path.unlink()

    def candidates(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The best epoch's parameters, and the mean of the last ones' (Vaswani et al. 2017, section 6.1)."""
        yield "best epoch", load_file(self.folder / "best.safetensors")
        paths = sorted(self.folder.glob("epoch-*.safetensors"))
        if len(paths) > 1:
            yield f"mean of the last {len(paths)} epochs", _mean(paths)

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.safetensors"


def _mean(paths: list[Path]) -> dict[str, Tensor]:
    total = load_file(paths[0])
    for path in paths[1:]:
        for name, tensor in load_file(path).items():
            if tensor.is_floating_point():
                total[name] += tensor
    return {name: t / len(paths) if t.is_floating_point() else t for name, t in total.items()}
