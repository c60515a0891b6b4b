"""Tokens and the words they make up, told apart the way each family of tokenizers marks them.

A fast tokenizer knows its words (`from_encoding`); a saved recording only has token strings, so `from_pieces` reads the
marks that tokenizers leave: `##ing` (WordPiece), `Ġcat` (byte-level BPE), `▁cat` (SentencePiece), `cat</w>` (BPE).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_SPECIAL = re.compile(
    r"\[(CLS|SEP|PAD|BOS|EOS)\]|</?(s|pad|bos|eos|cls|sep|start_of_turn|end_of_turn)>|<\|[^<>|]+\|>|__\w+__",
    re.IGNORECASE,
)
_SPACE_MARKS = "Ġ▁Ċ"


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
    if special is None:
        special = [bool(_SPECIAL.fullmatch(piece)) for piece in pieces]
    ordinary = [piece for piece, is_special in zip(pieces, special, strict=True) if not is_special]
    hashed = any(piece.startswith("##") and len(piece) > 2 for piece in ordinary)
    marked = any(piece[:1] in _SPACE_MARKS for piece in ordinary if piece)
    ended = any(piece.endswith("</w>") for piece in ordinary)
    byte_level = any(piece[:1] in "ĠĊ" for piece in ordinary if piece)
    number, word, text = -1, [], []
    for i, piece in enumerate(pieces):
        previous = pieces[i - 1] if i else ""
        if i == 0 or special[i] or special[i - 1]:
            starts = True
        elif hashed:
            starts = not piece.startswith("##")
        elif marked:
            starts = piece[:1] in _SPACE_MARKS or (previous not in ("▁", "Ġ") and _punctuation_between(previous, piece))
        elif ended:
            starts = previous.endswith("</w>") or _punctuation_between(previous, piece)
        else:
            starts = True
        number += starts
        word.append(number)
        text.append(piece if special[i] else _clean(piece, byte_level))
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


def _punctuation_between(left: str, right: str) -> bool:
    left, right = left.removesuffix("</w>"), right.removesuffix("</w>")
    return bool(left and right) and _is_letter(left[-1]) != _is_letter(right[0])


def _is_letter(character: str) -> bool:
    return character.isalnum() or character == "_" or ord(character) > 127


def _clean(piece: str, byte_level: bool) -> str:
    if byte_level:
        text = spelled(piece)
        piece = piece.lstrip("Ġ") if text is None else text
        return piece.strip() or ("⏎" if "\n" in piece else "·")
    if piece.startswith("##") and len(piece) > 2:
        return piece[2:]
    return piece.removesuffix("</w>").lstrip("▁") or piece


def spelled(piece: str) -> str | None:
    """What a piece of byte-level BPE spells, white space included; None where its bytes are no whole characters."""
    table = _bytes_of_characters()
    try:
        return bytes(table[character] for character in piece).decode()
    except (KeyError, UnicodeDecodeError):
        return None


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, int]:
    """The alphabet in which byte-level BPE writes the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
