"""Tokens and the words they make up.

A fast tokenizer knows its words (`from_encoding`); a saved recording only has token strings, so `from_pieces` reads the
marks that tokenizers leave in them (`foveate.pieces`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from foveate.pieces import are_special, begins, is_byte_level, said


@dataclass(frozen=True)
class Tokens:
    """The tokens of one sequence: their text, the number of the word each belongs to, and which are special."""

    text: tuple[str, ...]
    word: tuple[int, ...]
    special: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.text) == len(self.word) == len(self.special):
            raise ValueError(
                "tokens need one word number and one special flag each; "
                f"got {len(self.text)} tokens, {len(self.word)} word numbers, {len(self.special)} flags"
            )
        last = -1
        for number in self.word:
            if number not in (last, last + 1) or number < 0:
                raise ValueError(f"word numbers start at 0 and grow by at most one; got {number} after {last}")
            last = number

    def __len__(self) -> int:
        return len(self.text)

    def cut(self, length: int) -> Tokens:
        """The first `length` tokens."""
        return self.part(0, length)

    def part(self, start: int, stop: int) -> Tokens:
        """Tokens start .. stop - 1; their words are counted from 0 again."""
        first = self.word[start] if start < len(self) else 0
        word = tuple(number - first for number in self.word[start:stop])
        return Tokens(self.text[start:stop], word, self.special[start:stop])

    def as_json(self) -> dict[str, Any]:
        return {"text": list(self.text), "word": list(self.word), "special": list(self.special)}


def numbered(count: int) -> Tokens:
    """Tokens for a sequence whose text nobody knows: 0, 1, 2, ..."""
    return Tokens(tuple(str(i) for i in range(count)), tuple(range(count)), (False,) * count)


def from_words(words: Sequence[str]) -> Tokens:
    """Tokens that are words already."""
    return Tokens(tuple(words), tuple(range(len(words))), (False,) * len(words))


def from_pieces(pieces: Sequence[str], special: Sequence[bool] | None = None) -> Tokens:
    """Tokens from a tokenizer's own strings, by the marks it leaves in them; `special` if that is known."""
    special = are_special(pieces) if special is None else special
    word = [number - 1 for number in accumulate(begins(pieces, special))]
    byte_level = is_byte_level([piece for piece, flag in zip(pieces, special, strict=True) if not flag])
    text = [
        _seen(text) if byte_level and not flag else text
        for text, flag in zip(said(pieces, special), special, strict=True)
    ]
    return Tokens(tuple(text), tuple(word), tuple(special))


def from_encoding(text: str, encoding: Any) -> Tokens:
    """Tokens of `text` from a `tokenizers.Encoding`; a word begins where the tokenizer says, or after white space."""
    number, end = -1, 0
    surfaces: list[str] = []
    words: list[int] = []
    specials: list[bool] = []
    previous: int | None = None
    rows = zip(encoding.tokens, encoding.offsets, encoding.word_ids, encoding.special_tokens_mask, strict=True)
    for piece, (start, stop), word_id, flag in rows:
        special = bool(flag)
        surface = text[max(start, end) : stop]
        if special:
            starts, surface = True, piece
        else:
            spaced = surface[:1].isspace() or (start > end and text[end:start].isspace())
            starts = not words or specials[-1] or spaced or word_id != previous
            surface = surface.strip() or ("⏎" if "\n" in surface else "·")
            end = max(end, stop)
        number += starts
        words.append(number)
        surfaces.append(surface)
        specials.append(special)
        previous = word_id
    return Tokens(tuple(surfaces), tuple(words), tuple(specials))


def _seen(text: str) -> str:
    """A token without the white space around it; what is nothing else becomes a sign."""
    return text.strip() or ("⏎" if "\n" in text else "·" if text else "")
