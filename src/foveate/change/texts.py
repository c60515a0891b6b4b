"""A word of a text, by the tokens it is made of."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from ..pieces import are_special, begins, said

__all__ = ["positions_of", "tokens_of"]


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
    words = _words(tokens)
    found = [[i] for i, token in enumerate(tokens) if token == word] or _spelled(word, words)
    if not found:
        names = ["".join(text for _, text in one) for one in words]
        close = difflib.get_close_matches(word, names, n=3) or names[:8]
        raise ValueError(f"{what} {word!r} is not in the text; there is {', '.join(map(repr, close))}")
    if len(found) > 1:
        places = ", ".join(str(run[0]) for run in found)
        raise ValueError(f"{what} {word!r} occurs {len(found)} times, at {places}; give a position")
    return found[0]


def _words(tokens: Sequence[str]) -> list[list[tuple[int, str]]]:
    """Of each word the positions of its tokens, and what they say, without white space or the mark of it."""
    special = are_special(tokens)
    words: list[list[tuple[int, str]]] = []
    for i, (first, text) in enumerate(zip(begins(tokens, special), said(tokens, special), strict=True)):
        if first:
            words.append([])
        words[-1].append((i, text.strip().strip("▁")))
    return words


def _spelled(word: str, words: Sequence[list[tuple[int, str]]]) -> list[list[int]]:
    """Runs of whole words that spell the word: what people call one may be several to a tokenizer ("don't")."""
    found = []
    for start in range(len(words)):
        spelled, run = "", []
        for one in words[start:]:
            spelled += "".join(text for _, text in one)
            run += [i for i, _ in one]
            if not word.startswith(spelled):
                break
            if spelled == word:
                found.append(run)
                break
    return found
