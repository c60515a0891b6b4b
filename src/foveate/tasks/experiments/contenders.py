"""The models that are compared: the same data, the same passes over it, about as many parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...nn.recurrent import Attends
from ..training import Options
from ..training.loop import Stopped
from ..training.world import joined
from ..translation import Shape, Translator, load
from ..translation.task import Judge
from ..translation.train import Run, run
from .small import announce

__all__ = ["CONTENDERS", "Budget", "Contender", "chosen", "trained"]


@dataclass(frozen=True)
class Contender:
    """A model, how fast it learns, and how a plot shows it."""

    name: str
    shape: Shape
    peak: float
    warmup: int
    colour: str
    marker: str


@dataclass(frozen=True)
class Budget:
    """What every model is given alike. `size` scales all widths: 1 is a model of about 5 million parameters.

    `device` is what models are trained on.
    """

    epochs: int = 20
    tokens: int = 2048
    vocabulary: int = 8000
    size: float = 1.0
    seed: int = 1
    device: str = "cpu"


def _rnn(attention: Attends, colour: str, marker: str) -> Contender:
    return Contender(attention, Shape(attention=attention), 1.5e-3, 300, colour, marker)


_TRANSFORMER = Shape(arch="transformer", width=192, heads=4, layers=4, inner=640)
CONTENDERS = {
    c.name: c
    for c in (  # Okabe and Ito's colours
        _rnn("additive", "#0072B2", "o"),
        _rnn("dot", "#009E73", "s"),
        _rnn("general", "#E69F00", "v"),
        _rnn("none", "#D55E00", "D"),
        Contender("transformer", _TRANSFORMER, 2e-3, 1000, "#CC79A7", "^"),
    )
}


def chosen(names: Sequence[str]) -> list[Contender]:
    """By name.

    Raises:
        ValueError: an unknown name, or none.
    """
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown or not names:
        raise ValueError(f"unknown model {', '.join(unknown) or 'nothing'!r}; expected some of {', '.join(CONTENDERS)}")
    return [CONTENDERS[name] for name in dict.fromkeys(names)]


def trained(
    contender: Contender,
    budget: Budget,
    train: Sequence[Path],
    valid: Sequence[Path],
    folder: Path,
    *,
    tokenize: str,
    reverse: bool = False,
    judge: Judge | None = None,
    quiet: bool = False,
) -> Translator:
    """The model in `folder`, trained there unless it is already; a run that was cut off goes on.

    Raises:
        ValueError: the folder holds a run with other settings.
        Stopped: Ctrl-C, after a checkpoint.
    """
    if not (folder / "model.safetensors").is_file():
        options = Options(
            epochs=budget.epochs, peak=contender.peak, warmup=contender.warmup, patience=0, seed=budget.seed
        )
        given = Run(
            train,
            valid,
            _scaled(contender.shape, budget.size),
            options,
            budget.vocabulary,
            budget.tokens,
            tokenize=tokenize,
            reverse=reverse,
        )
        resume = announce(folder, quiet)
        try:
            with joined(budget.device) as world:
                run(given, folder, world=world, resume=resume, judge=judge, quiet=quiet)
        except Stopped:
            raise Stopped(f"stopped in {folder}; the same command goes on") from None
    return load(folder)


def _scaled(shape: Shape, size: float) -> Shape:
    """All widths times `size`, in multiples of 16."""

    def times(width: int) -> int:
        return max(16, round(width * size / 16) * 16)

    return replace(shape, width=times(shape.width), hidden=times(shape.hidden), inner=times(shape.inner))
