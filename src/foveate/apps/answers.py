"""Translations of lines as a command answers them: text, JSON, links between words, or a picture in the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from foveate.apps import terminal
from foveate.apps.lines import Unreadable
from foveate.tasks.alignment import format_links

if TYPE_CHECKING:
    from foveate.tasks.translation import Sampling, Translation, Translator

__all__ = ["Answer", "Search", "answers", "as_json", "as_pharaoh", "as_text", "print_picture"]


@dataclass(frozen=True)
class Search:
    """How to translate; `weights`: also find out what each word was translated from."""

    beam: int = 5
    nbest: int = 1
    length_penalty: float = 1.0
    sampling: Sampling | None = None
    weights: bool = True


@dataclass(frozen=True)
class Answer:
    """To line number `line`, from 1: a translation, nothing if the line is empty, or why there is none."""

    line: int
    source: str
    found: Translation | None = None
    error: str = ""


def answers(
    translator: Translator, lines: Sequence[str | Unreadable], search: Search, *, first: int = 1
) -> Iterator[Answer]:
    """Answers to some lines, of which one has the number `first`; what is drawn depends on that number, too."""
    texts = ["" if isinstance(line, Unreadable) else line for line in lines]
    most = translator.goal.max_tokens
    lengths = [len(ids) for ids in translator.subwords.ids(texts)]
    sampling = search.sampling and replace(search.sampling, seed=search.sampling.seed + first - 1)
    translated = iter(
        translator.translate(
            [text for text, length in zip(texts, lengths, strict=True) if 0 < length <= most],
            beam=search.beam,
            nbest=search.nbest,
            length_penalty=search.length_penalty,
            sampling=sampling,
            weights=search.weights,
        )
    )
    for number, (line, text, length) in enumerate(zip(lines, texts, lengths, strict=True), first):
        if isinstance(line, Unreadable):
            yield Answer(number, "", error=line.why)
        elif length > most:
            error = f"the text has {length:,} tokens; at most {most:,} are {translator.goal.verb}d at once"
            yield Answer(number, text, error=error)
        else:
            yield Answer(number, text, next(translated) if length else None)


def as_json(answer: Answer, result: str = "translation", *, alternatives: bool) -> str:
    """One object on one line; `result` is what the text that was written is called in it."""
    if answer.error:
        told: dict[str, Any] = {"source": answer.source, "error": answer.error}
    elif answer.found is None:
        told = {"source": "", result: "", "tokens": [], "score": None, "token_scores": [], "alignment": [],
                "source_words": [], "words": []}  # fmt: skip
    else:
        found = answer.found
        told = {"source": found.source, **_facts(found, result), "source_words": found.source_words}
    if alternatives and not answer.error:
        told["alternatives"] = [_facts(one, result) for one in (answer.found.alternatives if answer.found else ())]
    return json.dumps(told, ensure_ascii=False)


def as_text(answer: Answer, *, nbest: bool, numbered: bool) -> str:
    """The translation; of several, each with its score (and the number of its line), tab-separated."""
    found = answer.found
    if found is None or not nbest:
        return "" if found is None else found.text
    number = f"{answer.line}\t" if numbered else ""
    return "\n".join(f"{number}{one.score:.3f}\t{one.text}" for one in (found, *found.alternatives))


def as_pharaoh(answer: Answer) -> str:
    return "" if answer.found is None else format_links(answer.found.alignment or ())


def print_picture(answer: Answer, *, nbest: bool) -> None:
    """The translation, and below it what each of its words read; an empty line between two of them."""
    if answer.line > 1:
        print()
    for line in as_text(answer, nbest=nbest, numbered=False).split("\n"):
        print(*map(terminal.printable, line.split("\t")), sep="\t")
    found = answer.found
    if found is not None and found.word_weights is not None and found.words:
        print(flush=True)
        terminal.alignment(found.source_words, found.words, found.word_weights)


def _facts(found: Translation, result: str) -> dict[str, Any]:
    links = found.alignment
    return {
        result: found.text,
        "tokens": found.tokens,
        "score": round(found.score, 4),
        "token_scores": [round(score, 4) for score in found.token_scores],
        "alignment": None if links is None else [list(link) for link in sorted(links)],
        "words": found.words,
    }
