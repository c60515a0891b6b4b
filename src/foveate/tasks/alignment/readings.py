"""From attention between tokens to links between words.

Axes: T target tokens (rows), S source tokens (columns), J target words, I source words; anything may stand before them
(layers, heads).

A decoder reads the source twice for a word: when it predicts it (row t), and when it is given it to predict the next
(row t + 1). Which of the two rows says where the word came from depends on the layer: low layers of a Transformer see
what they were given, and only the top is about to predict (`shift="input"` is the Shift-Att of Chen et al. 2020,
"Accurate Word Alignment Induction from Neural Machine Translation", `shift="output"` their Naive-Att).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .links import Link, Links

__all__ = ["HOW", "SHIFTS", "Reading", "chosen", "hard", "soft", "without_closing", "word_weights"]

SHIFTS = ("output", "input")
HOW = ("target", "source", "both", "either", "all")
MOST_END = 0.99
_SAID = frozenset("%‰&@#*§")  # Unicode's punctuation that is read aloud


@dataclass(frozen=True)
class Reading:
    """Which rows of which attention to read an alignment from; a trained model keeps its best one as JSON.

    Attributes:
        modules: paths of the attention modules, as a recording names them; several are averaged.
        head: a head's number, from 0, or "mean" of all heads.
        shift: "output", the row that predicted a word, or "input", the row that was given it.
    """

    modules: tuple[str, ...]
    head: int | str = "mean"
    shift: str = "output"

    def __post_init__(self) -> None:
        names = (self.modules,) if isinstance(self.modules, str) else tuple(self.modules)
        object.__setattr__(self, "modules", names)
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"modules must name at least one attention module; got {self.modules!r}")
        is_number = isinstance(self.head, int) and not isinstance(self.head, bool) and self.head >= 0
        if self.head != "mean" and not is_number:
            raise ValueError(f"head must be 'mean' or a number from 0; got {self.head!r}")
        _check_choice("shift", self.shift, SHIFTS)

    def __str__(self) -> str:
        head = "mean of heads" if self.head == "mean" else f"head {self.head}"
        return f"{' + '.join(self.modules)}, {head}, {self.shift}"

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes: `{"modules": ["decoder.0"], "head": 3, "shift": "input"}`."""
        return {"modules": list(self.modules), "head": self.head, "shift": self.shift}

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> Reading:
        """What `as_json` gave.

        Raises:
            ValueError: a key is missing or unknown, or its value is none that a reading may have.
        """
        keys = {"modules", "head", "shift"}
        if set(description) != keys or not isinstance(description["modules"], list | tuple):
            raise ValueError(f"a reading has the keys head, modules (a list), shift; got {', '.join(description)}")
        return cls(tuple(description["modules"]), description["head"], description["shift"])

    def weights(self, maps: Mapping[str, Tensor]) -> Tensor:
        """The weights (T, S) to read, from those of one sentence pair by module, each (heads, T, S).

        Raises:
            ValueError: a module is not there, or has no such head.
        """
        found = []
        for name in self.modules:
            if name not in maps:
                raise ValueError(f"no attention of {name!r}; there is {', '.join(maps) or 'none'}")
            heads_HTS = maps[name]
            if self.head == "mean":
                found.append(heads_HTS.mean(0))
            elif int(self.head) < heads_HTS.shape[0]:
                found.append(heads_HTS[int(self.head)])
            else:
                raise ValueError(f"{name} has {heads_HTS.shape[0]} heads, counted from 0; got head {self.head}")
        return found[0] if len(found) == 1 else torch.stack(found).mean(0)

    def word_weights(
        self,
        maps: Mapping[str, Tensor],
        source_words: Sequence[int],
        target_words: Sequence[int],
        *,
        most_end: float = MOST_END,
    ) -> Tensor:
        """`word_weights` of what this reading reads: (target words, source words)."""
        return word_weights(self.weights(maps), source_words, target_words, shift=self.shift, most_end=most_end)


def word_weights(
    weights: Tensor,
    source_words: Sequence[int],
    target_words: Sequence[int],
    *,
    shift: str = "output",
    most_end: float = MOST_END,
) -> Tensor:
    """Attention between the words of one sentence pair.

    The columns of the end symbol are dropped and the rest of each row is divided by its sum, as an attention that has
    nothing to look up often looks there. Then the columns of a source word are added, and the rows of a target word
    averaged.

    Args:
        weights: (..., T, S): rows are the target tokens and the end symbol, in the order in which they are predicted;
            columns are the source tokens and the end symbol. No padding.
        source_words: the word that each column belongs to, numbered from 0, or -1 for a symbol that is no word. One
            number fewer than columns means that the last one is the end symbol.
        target_words: the same for rows.
        shift: `"output"` reads row t for the target token t (what was read to predict it), `"input"` row t + 1.
        most_end: a row that gives more than this share to symbols that are no words is not read. What it would have
            said of its word, its other tokens say alone.

    Returns:
        (..., target words, source words). Rows sum to 1, or are zero: that word is not aligned.

    Raises:
        ValueError: the numbers of rows or columns do not fit the words; weights are negative, infinite or NaN.
    """
    _check_choice("shift", shift, SHIFTS)
    first = 1 if shift == "input" else 0
    rows, columns = weights.shape[-2:]
    _check_axes(rows, columns, source_words, target_words, first)
    weights = weights if weights.dtype == torch.float64 else weights.float()
    read = weights[..., first : first + len(target_words), :]
    targets_JT = _membership(target_words, read.shape[-2], weights).T
    whole = read.sum(-1, keepdim=True)
    words = read @ _membership(source_words, columns, weights)
    known = words.sum(-1, keepdim=True)
    if not bool(torch.isfinite(whole).all()) or bool((read < 0).any()):
        raise ValueError("attention weights must be finite and at least 0; some are not")
    heard = (known > 0) & (whole - known <= most_end * whole)
    rows_sum_to_one = torch.where(heard, words / torch.where(heard, known, 1), 0)
    return (targets_JT @ rows_sum_to_one) / (targets_JT @ heard.to(weights.dtype)).clamp(min=1)


def without_closing(
    word_weights: Tensor, source: Sequence[str], target: Sequence[str], *, most_end: float = MOST_END
) -> Tensor:
    """Word weights without what words look up in the punctuation that closes the source.

    Like the end symbol, a full stop is where an attention often looks that has nothing to look up (Clark et al. 2019,
    section 3.2, find the same in BERT). So its columns are dropped from the rows of all words that are no punctuation
    themselves, and the rest of each row is divided by its sum.

    Args:
        word_weights: (..., J, I), what `word_weights` gave.
        source, target: the I and J words as texts.
        most_end: a row that gives more than this share to closing punctuation becomes zero: that word is not aligned.

    Raises:
        ValueError: the words do not fit the weights.
    """
    if tuple(word_weights.shape[-2:]) != (len(target), len(source)):
        raise ValueError(
            f"weights must have a row for each of the {len(target)} target words and a column for each of the "
            f"{len(source)} source words; got {tuple(word_weights.shape)}"
        )
    first = len(source)
    while first and _is_punctuation(source[first - 1]):
        first -= 1
    if first in (0, len(source)):
        return word_weights
    words_J = torch.tensor([not _is_punctuation(word) for word in target], dtype=torch.bool)
    words_J1 = words_J[:, None].to(word_weights.device)
    rest = word_weights[..., :first]
    known = rest.sum(-1, keepdim=True)
    heard = known >= (1 - most_end) * word_weights.sum(-1, keepdim=True)
    spared = torch.where(heard & (known > 0), rest / torch.where(known > 0, known, 1), 0)
    spared = torch.nn.functional.pad(spared, (0, len(source) - first))
    return torch.where(words_J1, spared, word_weights)


def chosen(word_weights: Tensor, how: str = "target", *, threshold: float = 0.0) -> Tensor:
    """Which cells of word weights (..., J, I) are links: bool, the same shape. See `hard`."""
    _check_choice("how", how, HOW)
    enough = (word_weights > 0) & (word_weights >= threshold)
    if how == "all":
        if threshold <= 0:
            raise ValueError(
                f"how='all' links every cell from the threshold up, which must be above 0; got {threshold}"
            )
        return enough
    if not word_weights.numel():
        return enough
    best = [
        torch.zeros_like(enough).scatter_(axis, word_weights.argmax(axis, keepdim=True), True)
        for axis, takes in ((-1, how != "source"), (-2, how != "target"))
        if takes
    ]
    if how == "either":
        return (best[0] | best[1]) & enough
    return best[0] & best[-1] & enough


def hard(word_weights: Tensor, how: str = "target", *, threshold: float = 0.0) -> Links:
    """Links out of word weights (target words, source words).

    Args:
        word_weights: what `word_weights` gave.
        how: `"target"`: the largest weight of each target word (the first of equals); `"source"`: of each source word;
            `"both"`, `"either"`: their intersection, their union; `"all"`: every weight from `threshold` up.
        threshold: no link has a smaller weight. A weight of 0 is never a link.

    Raises:
        ValueError: `how` is none of these, or is `"all"` without a threshold.
    """
    places = chosen(word_weights, how, threshold=threshold).nonzero().tolist()
    return frozenset((source, target) for target, source in places)


def soft(word_weights: Tensor, *, least: float = 0.001) -> dict[Link, float]:
    """Word weights (target words, source words) from `least` up, by link, for `format_soft`."""
    places = ((word_weights > 0) & (word_weights >= least)).nonzero()
    values = word_weights[places[:, 0], places[:, 1]].tolist()
    return {(source, target): value for (target, source), value in zip(places.tolist(), values, strict=True)}


def _is_punctuation(word: str) -> bool:
    return bool(word) and all(unicodedata.category(c)[0] == "P" and c not in _SAID for c in word)


def _membership(words: Sequence[int], tokens: int, like: Tensor) -> Tensor:
    """(tokens, words): 1 where a token belongs to a word."""
    numbers = torch.tensor(words, device=like.device, dtype=torch.long)
    members = like.new_zeros(tokens, max(words, default=-1) + 1)
    inside = (numbers >= 0).nonzero()[:, 0]
    members[inside, numbers[inside]] = 1
    return members


def _check_axes(rows: int, columns: int, source: Sequence[int], target: Sequence[int], first: int) -> None:
    if columns - len(source) not in (0, 1):
        raise ValueError(
            f"source_words must have one number per column of the weights, {columns}, or one fewer; got {len(source)}"
        )
    if rows - len(target) not in (0, 1):
        raise ValueError(
            f"target_words must have one number per row of the weights, {rows}, or one fewer; got {len(target)}"
        )
    if first and rows == len(target) and rows and target[-1] >= 0:
        raise ValueError(f"shift='input' reads the row after the last word's, {rows}; the weights have {rows} rows")
    _check_numbers("source_words", source)
    _check_numbers("target_words", target)


def _check_numbers(name: str, words: Iterable[int]) -> None:
    least = min(words, default=0)
    if least < -1:
        raise ValueError(f"{name} must be numbers from 0, or -1 for symbols that are no words; got {least}")


def _check_choice(name: str, given: str, choices: Sequence[str]) -> None:
    if given not in choices:
        raise ValueError(f"unknown {name} {given!r}; expected one of {', '.join(choices)}")
