"""One pass of a model whose attention is read: the maps, the values, and gradients of the target's log-odds.

Axes: B batch (here 1), H heads, Q queries, N tokens, V value width, E width of embedded tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..map import AttentionMap
from ..watch.checks import reproduces
from ..watch.events import Event, Put
from .errors import FaithfulError
from .layers import Layer
from .projection import projections
from .subject import Subject
from .touching import Touching, map_of

__all__ = ["Pass", "read"]


@dataclass(frozen=True)
class Pass:
    """What one pass said. `embedded_NE` are the embedded tokens and `gradient_NE` their gradient, where they are known.

    `rows_Q` adds up to 1 over the queries of the last layer from which the prediction is made: those that have a
    gradient. `reaches` is whether there are any.
    """

    log_odds: float
    layers: tuple[Layer, ...]
    rows_Q: Tensor
    reaches: bool
    embedded_NE: Tensor | None
    gradient_NE: Tensor | None


def read(subject: Subject) -> Pass:
    """Run the model once on the text.

    Raises:
        FaithfulError: no attention to the text's tokens was seen, or it was not understood; something is NaN.
    """
    reader, embedding = _Reader(subject), _Embedding(subject)
    with torch.enable_grad():
        with embedding, reader:
            found = subject.log_odds(embedding.input)[0]
        probes = [seen.probe for seen in reader.seen] + ([] if embedding.probe is None else [embedding.probe])
        if not reader.seen:
            raise FaithfulError(reader.nothing())
        if bool(found.isnan()):
            raise FaithfulError("what the model gives on this text is NaN")
        if not found.requires_grad:
            raise FaithfulError("the prediction has no gradient: predict must not detach what the model gives")
        gradients = torch.autograd.grad(found, probes, allow_unused=True)
    known = projections(subject.model)
    layers = tuple(
        Layer(
            seen.name,
            seen.weights,
            seen.value_GNV,
            torch.zeros_like(seen.probe[0]) if gradient is None else gradient[0],
            known.get(id(seen.module)),
        )
        for seen, gradient in zip(reader.seen, gradients, strict=False)
    )
    rows_Q, reaches = _rows(layers)
    gradient = gradients[-1] if embedding.probe is not None and gradients[-1] is not None else None
    return Pass(
        float(found.detach()),
        layers,
        rows_Q,
        reaches,
        None if embedding.output is None else embedding.output.detach()[0],
        None if gradient is None else gradient[0],
    )


def _rows(layers: tuple[Layer, ...]) -> tuple[Tensor, bool]:
    size_Q = layers[-1].gradient_HQV.double().square().sum((0, 2)).sqrt()
    used_Q = (size_Q > 1e-7 * size_Q.max()).double() if bool(size_Q.max()) else torch.ones_like(size_Q)
    reaches = any(bool(layer.gradient_HQV.any()) for layer in layers)
    return used_Q / used_Q.sum(), reaches


@dataclass(frozen=True)
class _Seen:
    name: str
    module: nn.Module
    weights: AttentionMap
    value_GNV: Tensor
    probe: Tensor  # (1, H, Q, V) zeros, added to the heads' outputs


class _Reader(Touching):
    """Keeps every call whose keys are the tokens, and adds to its output what has the output's gradient."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject.model)
        self.count = subject.input.shape[1]
        self.seen: list[_Seen] = []
        self.others: list[str] = []

    def touch(self, module: nn.Module, event: Event, out_BHQV: Tensor, put: Put) -> Any:
        name = self.name_of(module)
        with torch.no_grad():
            if not bool(event.query.isfinite().all() and event.key.isfinite().all()):
                raise FaithfulError(f"{name} has queries or keys that are not finite, so it has no weights to go by")
            if event.value is None or not reproduces(event):
                raise FaithfulError(f"the attention of {name} is not understood: its weights do not give its output")
        if len(event.query) != 1 or event.key.shape[2] != self.count:
            self.others.append(f"{name} {tuple(event.query.shape)} x {tuple(event.key.shape)}")
            return None
        probe = torch.zeros_like(out_BHQV, requires_grad=True)
        self.seen.append(_Seen(name, module, map_of(event), event.value.detach()[0], probe))
        return put(out_BHQV + probe, None)

    def nothing(self) -> str:
        told = f"no attention to the {self.count} tokens of the text was seen"
        if self.others:
            return f"{told}; there was {'; '.join(self.others[:3])} (queries x keys)"
        return f"{told}: docs/watch.md says what can be"


class _Embedding:
    """The embedded tokens of a pass: the output of the first `nn.Embedding` that is given the ids, or the vectors."""

    def __init__(self, subject: Subject) -> None:
        self.model, self.input = subject.model, subject.input
        self.output: Tensor | None = None
        self.probe: Tensor | None = None
        if self.input.is_floating_point():
            self.output, self.probe = self.input, torch.zeros_like(self.input, requires_grad=True)
            self.input = self.input + self.probe
        self.hooks: list[Any] = []

    def __enter__(self) -> None:
        if self.probe is None:
            embeddings = [module for module in self.model.modules() if isinstance(module, nn.Embedding)]
            self.hooks = [module.register_forward_hook(self._embedded) for module in embeddings]

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def _embedded(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        given = args[0] if args else None
        if self.probe is not None or not isinstance(given, Tensor) or not torch.equal(given, self.input):
            return output
        self.output, self.probe = output, torch.zeros_like(output, requires_grad=True)
        return output + self.probe
