"""Tokens and the words they make up, told apart the way each family of tokenizers marks them.

A fast tokenizer knows its words (`from_encoding`); a saved recording only has token strings, so `from_pieces` reads the
marks that tokenizers leave: `##ing` (WordPiece), `Ġcat` (byte-level BPE), `▁cat` (SentencePiece), `cat</w>` (BPE).
A character whose bytes several tokens share is that of the first of them; the others say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

_SPECIAL = re.compile(
    r"\[(CLS|SEP|PAD|BOS|EOS)\]|</?(s|pad|bos|eos|cls|sep|start_of_turn|end_of_turn)>|<\|[^<>|]+\|>|__\w+__",
    re.IGNORECASE,
)
_SPACE_MARKS = "Ġ▁Ċ"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # a byte that SentencePiece has no piece for


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
    byte_level = is_byte_level(ordinary)
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
        text.append(piece if special[i] or byte_level else _clean(piece))
    if byte_level or any(_BYTE.fullmatch(piece) for piece in ordinary):
        for run in _runs(special):
            said = decoded(written(piece, byte_level) for piece in text[run])
            text[run] = [_seen(piece) for piece in said] if byte_level else said
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


def _clean(piece: str) -> str:
    if piece.startswith("##") and len(piece) > 2:
        return piece[2:]
    return piece.removesuffix("</w>").lstrip("▁") or piece


def _seen(text: str) -> str:
    """A token without the white space around it; what is nothing else becomes a sign."""
    return text.strip() or ("⏎" if "\n" in text else "·" if text else "")


def _runs(special: Sequence[bool]) -> Iterator[slice]:
    """Runs of tokens that are not special."""
    edges = [-1, *(i for i, flag in enumerate(special) if flag), len(special)]
    return (slice(a + 1, b) for a, b in pairwise(edges) if b - a > 1)


def is_byte_level(pieces: Sequence[str]) -> bool:
    """Whether pieces are those of byte-level BPE: by its marks for white space, or as their bytes are UTF-8 text.

    >>> is_byte_level(["Ġcat"]), is_byte_level(["ÐŁÑĢ", "Ð¸"]), is_byte_level(["café", "a"])
    (True, True, False)
    """
    if any(piece[:1] in "ĠĊ" for piece in pieces if piece):
        return True
    table, whole = _bytes_of_characters(), "".join(pieces)
    if whole.isascii() or not all(character in table for character in whole):
        return False
    try:
        bytes(table[character] for character in whole).decode()
    except UnicodeDecodeError:
        return False
    return True


def written(piece: str, byte_level: bool) -> bytes:
    """The bytes of the text that a piece stands for: in the alphabet of byte-level BPE, as `<0x0A>`, or as it is."""
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        return bytes([int(byte[1], 16)])
    table = _bytes_of_characters()
    if not byte_level or not all(character in table for character in piece):
        return piece.encode()
    return bytes(table[character] for character in piece)


def decoded(parts: Iterable[bytes]) -> list[str]:
    """What each part of a text says; a character is that of the part in which it begins. No UTF-8 reads U+FFFD."""
    parts = list(parts)
    owner = [number for number, part in enumerate(parts) for _ in part]
    said: list[list[str]] = [[] for _ in parts]
    at = 0
    for character in b"".join(parts).decode("utf-8", "surrogateescape"):
        lost = "\udc80" <= character <= "\udcff"
        said[owner[at]].append("\ufffd" if lost else character)
        at += 1 if lost else len(character.encode())
    return ["".join(one) for one in said]


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, int]:
    """The alphabet in which byte-level BPE writes the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
