"""What tokenizers' strings say, and where words begin in them, by the marks that each family leaves.

`##ing` (WordPiece), `Ġcat` (byte-level BPE), `▁cat` (SentencePiece), `cat</w>` (BPE). A character whose bytes several
pieces share is that of the first of them; the others say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

__all__ = ["are_special", "begins", "decoded", "is_byte_level", "said", "written"]

_SPECIAL = re.compile(
    r"\[(CLS|SEP|PAD|BOS|EOS)\]|</?(s|pad|bos|eos|cls|sep|start_of_turn|end_of_turn)>|<\|[^<>|]+\|>|__\w+__",
    re.IGNORECASE,
)
_SPACE_MARKS = "Ġ▁Ċ"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # a byte that SentencePiece has no piece for


def are_special(pieces: Sequence[str]) -> list[bool]:
    """Which look like no part of a text."""
    return [bool(_SPECIAL.fullmatch(piece)) for piece in pieces]


def begins(pieces: Sequence[str], special: Sequence[bool]) -> list[bool]:
    """Whether a word begins with each piece; a special one is a word of its own."""
    ordinary = _ordinary(pieces, special)
    hashed = any(piece.startswith("##") and len(piece) > 2 for piece in ordinary)
    marked = any(piece[:1] in _SPACE_MARKS for piece in ordinary if piece)
    ended = any(piece.endswith("</w>") for piece in ordinary)

    def starts(i: int) -> bool:
        if i == 0 or special[i] or special[i - 1]:
            return True
        previous, piece = pieces[i - 1], pieces[i]
        if hashed:
            return not piece.startswith("##")
        if marked:
            return piece[:1] in _SPACE_MARKS or (previous not in ("▁", "Ġ") and _punctuation_between(previous, piece))
        return not ended or previous.endswith("</w>") or _punctuation_between(previous, piece)

    return [starts(i) for i in range(len(pieces))]


def said(pieces: Sequence[str], special: Sequence[bool]) -> list[str]:
    """The text of each piece, without marks; of byte-level BPE with its white space."""
    ordinary = _ordinary(pieces, special)
    byte_level = is_byte_level(ordinary)
    text = [piece if flag or byte_level else _clean(piece) for piece, flag in zip(pieces, special, strict=True)]
    if byte_level or any(_BYTE.fullmatch(piece) for piece in ordinary):
        for run in _runs(special):
            text[run] = decoded(written(piece, byte_level) for piece in text[run])
    return text


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


def _ordinary(pieces: Sequence[str], special: Sequence[bool]) -> list[str]:
    return [piece for piece, flag in zip(pieces, special, strict=True) if not flag]


def _punctuation_between(left: str, right: str) -> bool:
    left, right = left.removesuffix("</w>"), right.removesuffix("</w>")
    return bool(left and right) and _is_letter(left[-1]) != _is_letter(right[0])


def _is_letter(character: str) -> bool:
    return character.isalnum() or character == "_" or ord(character) > 127


def _clean(piece: str) -> str:
    if piece.startswith("##") and len(piece) > 2:
        return piece[2:]
    return piece.removesuffix("</w>").lstrip("▁") or piece


def _runs(special: Sequence[bool]) -> Iterator[slice]:
    """Runs of tokens that are not special."""
    edges = [-1, *(i for i, flag in enumerate(special) if flag), len(special)]
    return (slice(a + 1, b) for a, b in pairwise(edges) if b - a > 1)
