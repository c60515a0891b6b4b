"""What a report is about: one prediction of a model on one text.

Axes: B sequences that differ in what was removed, N tokens, C classes or words, E width of inputs that are vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .errors import FaithfulError

__all__ = ["MOST", "Subject", "asked", "chosen", "log_odds", "own"]

MOST = 64  # sequences at once


@dataclass(frozen=True)
class Subject:
    """A prediction that can be asked for again.

    `input` is (1, N) ids or (1, N, E) vectors, and `ask` gives logits (B, C) of (B, N) or (B, N, E). `target` is the
    class or word that the report is about, `name` what it is called. `special` says which tokens are never removed.
    `hidden` is the id or vector (E,) that stands for a removed token, if there is one, and
    `stands` what that is called. `most` is how many sequences
    `ask` takes at once.
    """

    model: nn.Module
    input: Tensor
    ask: Callable[[Tensor], Tensor]
    tokens: tuple[str, ...]
    special: tuple[bool, ...]
    target: int
    name: str
    hidden: Tensor | None
    stands: str | None = None
    most: int = MOST

    def log_odds(self, input_BN: Tensor) -> Tensor:
        """Of the target, (B,)."""
        return log_odds(self.ask(input_BN), self.target)


def log_odds(logits_BC: Tensor, target: int) -> Tensor:
    """log p / (1 - p) of a class, (B,), in float64."""
    logits_BC = logits_BC.double()
    others_BC = logits_BC.index_fill(1, torch.tensor([target], device=logits_BC.device), -torch.inf)
    return logits_BC[:, target] - others_BC.logsumexp(1)


def asked(ask: Callable[[Tensor], Any], given: Tensor) -> Tensor:
    """Logits (B, C) of what `ask` gives.

    Raises:
        FaithfulError: it gives something else.
    """
    found = ask(given)
    if not isinstance(found, Tensor):
        raise FaithfulError(f"predict must give logits, a tensor (batch, classes); got {type(found).__name__}")
    if found.ndim != 2 or len(found) != len(given) or not found.is_floating_point():
        raise FaithfulError(
            f"predict must give logits (batch, classes) = ({len(given)}, classes) of inputs {tuple(given.shape)}; "
            f"got {tuple(found.shape)}"
        )
    if found.shape[1] < 2:
        raise FaithfulError("the model gives one number and no classes; a report needs at least two classes")
    return found


def own(
    model: nn.Module,
    given: Any,
    target: Any,
    predict: Callable[[Tensor], Tensor],
    tokenizer: Any,
    tokens: Sequence[str] | None,
    labels: Sequence[str] | None,
    replacement: Any,
) -> Subject:
    """Any module, asked by `predict`.

    Raises:
        FaithfulError: inputs, tokens, target or what `predict` gives do not fit.
    """
    input_1N = _input(given, tokenizer)
    count = input_1N.shape[1]
    device = next((p.device for p in model.parameters()), input_1N.device)
    input_1N = input_1N.to(device)
    names = tuple(str(one) for one in tokens) if tokens is not None else _names(input_1N, tokenizer)
    if len(names) != count:
        raise FaithfulError(f"tokens must name each of the {count} tokens; got {len(names)}")

    def ask(given_BN: Tensor) -> Tensor:
        return asked(predict, given_BN)

    with torch.no_grad():
        logits_C = ask(input_1N)[0]
    number = chosen(target, logits_C, list(labels) if labels is not None else None)
    name = str(labels[number]) if labels is not None else f"class {number}"
    hidden = None if replacement is None else _vector(replacement, input_1N)
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    stands = (
        None if hidden is None else str(replacement) if convert is None or hidden.ndim else str(convert(int(hidden)))
    )
    return Subject(model, input_1N, ask, names, (False,) * count, number, name, hidden, stands)


def _input(given: Any, tokenizer: Any) -> Tensor:
    """(1, N) ids or (1, N, E) vectors, of a text, a list of ids, or a tensor with or without its first axis."""
    if isinstance(given, str):
        if tokenizer is None:
            raise FaithfulError("a text needs a tokenizer=, or give ids")
        given = tokenizer(given)
        given = given["input_ids"] if hasattr(given, "keys") else given
    try:
        found = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise FaithfulError(f"text must be a text, ids (N,) or vectors (N, E); got {type(given).__name__}") from None
    vectors = found.is_floating_point() and found.numel() > 0
    if found.ndim == (2 if vectors else 1):
        found = found[None]
    if found.ndim != (3 if vectors else 2) or len(found) != 1 or found.dtype == torch.bool:
        raise FaithfulError(f"text must be a text, ids (N,) or vectors (N, E); got a tensor {tuple(found.shape)}")
    if not found.shape[1]:
        raise FaithfulError("the text is empty")
    return found if vectors else found.long()


def _names(input_1N: Tensor, tokenizer: Any) -> tuple[str, ...]:
    if input_1N.is_floating_point():
        return tuple(str(place) for place in range(input_1N.shape[1]))
    ids = input_1N[0].tolist()
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    return tuple(str(one) for one in (convert(ids) if convert is not None else ids))


def _vector(replacement: Any, input_1N: Tensor) -> Tensor:
    found = torch.as_tensor(replacement, dtype=input_1N.dtype, device=input_1N.device)
    wanted = tuple(input_1N.shape[2:])
    if tuple(found.shape) != wanted:
        raise FaithfulError(f"replacement stands for one token and must have shape {wanted}; got {tuple(found.shape)}")
    return found


def chosen(target: Any, logits_C: Tensor, labels: Sequence[str] | None) -> int:
    """The number of a class: by number or label, or what the model predicts.

    Raises:
        FaithfulError: there is no such class.
    """
    count = len(logits_C)
    if labels is not None and len(labels) != count:
        raise FaithfulError(f"labels must name each of the {count} classes; got {len(labels)}")
    if target is None:
        return int(logits_C.argmax())
    if isinstance(target, str):
        fitting = [n for n, label in enumerate(labels or ()) if label == target]
        fitting = fitting or [n for n, label in enumerate(labels or ()) if label.lower() == target.lower()]
        if len(fitting) != 1:
            there = ", ".join(map(repr, list(labels or ())[:10]))
            raise FaithfulError(f"no class is called {target!r}; there is {there or 'none with a name: give a number'}")
        return fitting[0]
    if isinstance(target, bool) or not isinstance(target, int):
        raise FaithfulError(f"target must be the number or name of a class; got {target!r}")
    if not 0 <= target < count:
        raise FaithfulError(f"target must be one of the {count} classes, 0 to {count - 1}; got {target}")
    return target
