"""Change the attention of any PyTorch model, for as long as a `with` lasts.

    with fv.knockout(model, heads={(3, 5)}):
        model(**inputs)

See docs/change.md for what each does, in which order they combine, and what cannot be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..recording.calls import KINDS
from ..shapes import whole
from .blocking import Blocking, links_of
from .errors import ChangeError, ChangeWarning
from .intervention import Intervention
from .naming import Pair, pairs_of
from .replacing import Average, Replacing, weights_by
from .scaling import Scaling, factors_of
from .texts import tokens_of

__all__ = ["Average", "ChangeError", "ChangeWarning", "block", "knockout", "replace", "scale"]


def knockout(model: nn.Module, heads: Iterable[Pair] | Pair) -> Intervention:
    """Inside the `with`, these heads put out 0: what they read reaches nothing. Their weights are as they were.

    Args:
        heads: pairs (where, head): the number of a layer or the path of a module, and the number of a head in it.

    Raises:
        ValueError: heads that are no such pairs.
        ChangeError: a module or head that is not there, a number that several modules have, or, at the end, heads of
            modules in which no attention ran that can be changed.
    """
    return Scaling(model, dict.fromkeys(pairs_of(heads), 0.0))


def scale(
    model: nn.Module, heads: Mapping[Pair, float | Tensor] | Iterable[Pair] | Pair, factor: float | Tensor | None = None
) -> Intervention:
    """Inside the `with`, the output of these heads is multiplied; 0 knocks a head out.

    Args:
        heads: pair -> factor, or pairs, all multiplied by `factor`. Pairs are those of `knockout`.
        factor: a number, or a tensor () or (B,), one for each sequence of the batch, through which gradients flow.

    Raises:
        ValueError, ChangeError: as `knockout`, or a factor that is none.
    """
    return Scaling(model, factors_of(heads, factor))


def block(
    model: nn.Module,
    links: Iterable[tuple[int | str, int | str]],
    heads: Iterable[Pair] | Pair | None = None,
    *,
    kind: str | None = None,
    sequence: int | Iterable[int] | None = None,
    tokens: Sequence[str] | None = None,
    target_tokens: Sequence[str] | None = None,
    tokenizer: Any = None,
    text: str | None = None,
) -> Intervention:
    """Inside the `with`, these queries may not read these keys; the rest of each row is what a mask would leave.

    Args:
        links: pairs (query, key). An end is a position in what the model is given, padding and special tokens included
            (with a cache it goes on counting), or a word or token of the text, which must occur once.
        heads: pairs as in `knockout`; default: all heads, of attention of one kind.
        kind: "encoder", "decoder" or "cross", where a model has several.
        sequence: rows of the batch; default all. Beam search has a row for each beam.
        tokens: the tokens of the text, for ends that are words; or `tokenizer` and `text`.
        target_tokens: those of the queries, where queries and keys are of different texts.

    Raises:
        ValueError: links, heads or options that are none, or a word that is absent or occurs more than once.
        ChangeError: as `knockout`, or no query could read its key anyway.
    """
    if kind not in (None, *KINDS):
        raise ValueError(f"unknown kind {kind!r}; expected one of {', '.join(map(repr, KINDS))}")
    if kind is not None and heads is not None:
        raise ValueError("kind= is for all heads of a kind; heads= names them")
    keys = tokens_of(tokens, tokenizer, text)
    queries = keys if target_tokens is None else tokens_of(target_tokens, None, None)
    of = None
    if sequence is not None:
        of = [whole(one, "a sequence") for one in ([sequence] if isinstance(sequence, int) else sequence)]
        if not of or min(of) < 0:
            raise ValueError(f"sequences are rows of the batch, counted from 0; got {of}")
    pairs = None if heads is None else pairs_of(heads)
    return Blocking(model, links_of(links, queries, keys), pairs, kind, of)


def replace(model: nn.Module, heads: Iterable[Pair] | Pair, by: Any, *, over: Any = None) -> Intervention:
    """Inside the `with`, these heads read by other weights than their own.

    Args:
        heads: pairs as in `knockout`.
        by: "uniform": all keys that a row may read, alike. "average": the mean over a corpus. A recording, or an
            `AttentionMap`: the weights of another run, head by head and call by call. A tensor (Q, K), (H, Q, K) or
            (B, H, Q, K).
        over: for "average", a recording, several, or an `Average` (`foveate.change.Average`).

    No weight goes to keys that a row may not read: its others grow until they add up to what they did.

    Raises:
        ValueError: heads or weights that are none.
        ChangeError: as `knockout`, or weights of another shape than the call's.
    """
    return Replacing(model, pairs_of(heads), weights_by(by, over))
