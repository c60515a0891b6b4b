"""A word of a text, by the tokens it is made of."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

__all__ = ["positions_of", "tokens_of"]

_STARTS, _CONTINUES, _ENDS = ("Ġ", "▁"), "##", "</w>"


def tokens_of(tokens: Any, tokenizer: Any, text: str | None) -> list[str] | None:
    """The tokens that were given, or those of a text by a tokenizer, special ones included.

    Raises:
        ValueError: a tokenizer without a text, or the other way round, or tokens that are no strings.
    """
    if tokens is not None:
        found = list(tokens)
        if not all(isinstance(token, str) for token in found):
            raise ValueError("tokens are the strings of one sequence, in order, special tokens included")
        return found
    if (tokenizer is None) != (text is None):
        raise ValueError("a tokenizer needs the text=, and a text its tokenizer=")
    if tokenizer is None or text is None:
        return None
    return [str(token) for token in tokenizer.convert_ids_to_tokens(list(tokenizer(text)["input_ids"]))]


def positions_of(word: str, tokens: Sequence[str] | None, what: str) -> list[int]:
    """The positions of a token, or of the tokens that a word is made of.

    Raises:
        ValueError: there are no tokens, or the word is absent or occurs more than once.
    """
    if tokens is None:
        raise ValueError(f"{what} {word!r} is text: give tokens=, or tokenizer= and text=, or a position")
    found = [[i] for i, token in enumerate(tokens) if token == word] or _words(word, tokens)
    if not found:
        plain = [_bare(token) for token in tokens]
        close = difflib.get_close_matches(word, plain, n=3) or plain[:8]
        raise ValueError(f"{what} {word!r} is not in the text; there is {', '.join(map(repr, close))}")
    if len(found) > 1:
        places = ", ".join(str(run[0]) for run in found)
        raise ValueError(f"{what} {word!r} occurs {len(found)} times, at {places}; give a position")
    return found[0]


def _words(word: str, tokens: Sequence[str]) -> list[list[int]]:
    """Runs of tokens that spell the word and begin and end where words do."""
    marked = any(token.startswith(_STARTS) for token in tokens)
    ended = any(token.endswith(_ENDS) for token in tokens)

    def begins(i: int) -> bool:
        if i in (0, len(tokens)) or not _bare(tokens[i])[:1].isalnum():
            return True
        if ended:
            return tokens[i - 1].endswith(_ENDS)
        if marked and _bare(tokens[i - 1])[-1:].isalnum():
            return tokens[i].startswith(_STARTS)
        return not tokens[i].startswith(_CONTINUES)

    found = []
    for i in range(len(tokens)):
        spelled = ""
        for j in range(i, len(tokens)):
            spelled += _bare(tokens[j])
            if not word.startswith(spelled):
                break
            if spelled == word and begins(i) and begins(j + 1):
                found.append(list(range(i, j + 1)))
                break
    return found


def _bare(token: str) -> str:
    token = token.removesuffix(_ENDS)
    if token.startswith(_CONTINUES) and len(token) > 2:
        return token[2:]
    return token.lstrip("".join(_STARTS))
