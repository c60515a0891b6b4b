"""Texts that small models learn from in seconds: a verdict that a negation turns around, and words whose part of speech
only their neighbours tell, or only their endings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

GOOD = ("good", "funny", "moving", "bright")
BAD = ("bad", "dull", "empty", "slow")
THINGS = ("film", "story", "cast", "music", "plot", "ending", "script")
FILLERS = ("in", "the", "end", "of", "this", "long", "week", "we", "saw", "it", "at", "home", "with", "friends")

VERBS = ("can", "watch", "play", "water", "book", "face", "plan", "judge")  # nouns as well
SUBJECTS = ("we", "they", "you")
ENDINGS = {"ly": "ADV", "ness": "NOUN", "ish": "ADJ"}


def verdicts(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts and labels: "the plot was not good" is "bad"; the words around it say nothing."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        good, turned = draw.random() < 0.5, draw.random() < 0.3
        word = draw.choice(GOOD if good else BAD)
        core = ["the", draw.choice(THINGS), "was", *(["not"] if turned else []), word]
        before, after = (draw.choices(FILLERS, k=draw.randrange(5)) for _ in range(2))
        found.append((" ".join([*before, *core, *after]), "good" if good != turned else "bad"))
    return found


def tagged(count: int, seed: int) -> list[list[tuple[str, str]]]:
    """Sentences as words and tags: "they can watch the can"; each has a new word, whose ending tells what it is."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        stem = "".join(draw.choices("bdfgklmnprstv", k=1) + draw.choices("aeiou", k=1)) * draw.randrange(1, 4)
        ending = draw.choice(list(ENDINGS))
        new = (f"{stem}{ending}", ENDINGS[ending])
        who, verb, noun = draw.choice(SUBJECTS), draw.choice(VERBS), draw.choice(VERBS)
        if ending == "ly":
            rest = [new, (verb, "VERB"), ("the", "DET"), (noun, "NOUN")]
        elif ending == "ish":
            rest = [(verb, "VERB"), ("the", "DET"), new, (noun, "NOUN")]
        else:
            rest = [(verb, "VERB"), ("the", "DET"), new]
        found.append([(who.capitalize(), "PRON"), *rest, (".", "PUNCT")])
    return found


def write_verdicts(path: Path, count: int, seed: int) -> Path:
    path.write_text("".join(f"{text}\t{label}\n" for text, label in verdicts(count, seed)), encoding="utf-8")
    return path


def conllu(sentences: Sequence[Sequence[tuple[str, str]]]) -> str:
    lines = []
    for sentence in sentences:
        lines += [f"{i}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_" for i, (word, tag) in enumerate(sentence, 1)]
        lines.append("")
    return "\n".join(["# newdoc", *lines]) + "\n"


def write_tagged(path: Path, count: int, seed: int) -> Path:
    path.write_text(conllu(tagged(count, seed)), encoding="utf-8")
    return path
