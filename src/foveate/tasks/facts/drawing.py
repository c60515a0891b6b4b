"""Draw pages of facts with a question each: deterministic in the seed, and with names that occur in one split only."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..words import cut_words
from .lexicon import Lexicon, Relation, load
from .names import SPLITS, name_of

__all__ = ["SPLITS", "Question", "facts", "questions"]

TURNED = 0.15  # of questions, where a relation has them: about the answer
ALIKE = 0.7  # of two things of a kind that follow each other: how often the same is told of both
FILLED = 0.06  # of sentences: about nothing
FOLLOWING = 3  # sentences in a row that only say "it"


@dataclass(frozen=True)
class Question:
    """A question, a page, and the answer, which stands in the page; `relation` is what it is about."""

    question: str
    context: str
    answer: str
    relation: str


@dataclass
class _Page:
    """Facts about some things, no two of which share a name or an answer that could be asked for."""

    lexicon: Lexicon
    split: str
    draw: random.Random
    used: set[str] = field(default_factory=set)
    said: list[tuple[Relation, str, str]] = field(default_factory=list)

    def fresh(self, kind: str) -> str:
        """A name whose invented words this page does not have; of a closed list, nothing once it is used up."""
        closed = {word.lower() for word in self.lexicon.kinds[kind].words}
        while not closed or not closed <= self.used:
            name = name_of(self.lexicon.kinds[kind], self.split, self.draw)
            own = {name.lower()} if closed else {*name.lower().split()} - self.lexicon.words
            if not own & self.used:
                self.used |= own
                return name
        return ""

    def paragraph(self, kind: str, name: str, relations: list[Relation]) -> list[str]:
        """Sentences about one thing: each with its name, or an introduction and sentences that say "it"."""
        draw, sentences, following = self.draw, [], 0
        if draw.random() < 0.6:
            sentences.append(draw.choice(self.lexicon.kinds[kind].says).format(s=name))
            following = FOLLOWING if draw.random() < 0.8 else 0
        for relation in relations:
            answer = self.fresh(relation.answer)
            if not answer:
                continue
            shift = bool(relation.following) and following > 0 and draw.random() < 0.7
            frame = draw.choice(relation.following if shift else relation.sentences)
            following = following - 1 if shift else 0
            sentences.append(_sentence(frame, name, answer))
            self.said.append((relation, name, answer))
        return sentences


def questions(seed: int, count: int, *, words: tuple[int, int] = (12, 60), split: str = "train") -> Iterator[Question]:
    """`count` questions, each over a page of its own.

    Args:
        words: how long pages are, shortest and longest, punctuation counted; short ones more often, as many of 12 to
            24 as of 24 to 48.
        split: "train", "valid" or "test"; invented words of one occur in no other.

    Raises:
        ValueError: an unknown split, or numbers out of range.
    """
    _check(count, split)
    shortest, longest = words
    if not 12 <= shortest <= longest:
        raise ValueError(f"words must be (shortest, longest) with 12 <= shortest <= longest; got {words}")
    draw = random.Random(f"questions/{split}/{seed}")
    return (_question(draw, words, split) for _ in range(count))


def facts(seed: int, count: int, *, split: str = "test") -> Iterator[Question]:
    """`count` facts of one or two sentences each, no two of which are about the same, with a question about each.

    Raises:
        ValueError: an unknown split, or a negative count.
    """
    _check(count, split)
    return _facts(random.Random(f"facts/{split}/{seed}"), count, split)


def _check(count: int, split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected 'train', 'valid' or 'test'")
    if count < 0:
        raise ValueError(f"count must not be negative; got {count}")


def _question(draw: random.Random, words: tuple[int, int], split: str) -> Question:
    lexicon, (shortest, longest) = load(), words
    wanted = shortest * (longest / shortest) ** draw.random()
    while True:
        page = _Page(lexicon, split, draw)
        kinds = [draw.choice(list(lexicon.of))] * draw.choice((1, 2, 2, 3))
        sentences: list[str] = []
        length = 0
        last: list[Relation] = []
        while length < wanted:
            kind = kinds.pop(0) if kinds else draw.choice(list(lexicon.of))
            asked = draw.sample(lexicon.of[kind], min(len(lexicon.of[kind]), draw.choice((1, 1, 2, 3, 4))))
            if last and last[0].subject == kind and draw.random() < ALIKE:
                asked = draw.sample(last, len(last))
            last = asked
            lines = page.paragraph(kind, page.fresh(kind), asked)
            lines += [draw.choice(lexicon.fillers)] if draw.random() < FILLED * (1 + len(lines)) else []
            more = len(cut_words(" ".join(lines)))
            if length >= shortest and length + more > wanted:
                break
            sentences.append(" ".join(lines))
            length += more
        draw.shuffle(sentences)
        if page.said and length <= longest:
            context = " ".join(sentences)
            for _ in range(4):
                relation, name, answer = draw.choice(page.said)
                if context.count(answer) == 1 and context.count(name) >= 1:
                    return _asked(draw, relation, name, answer, context)


def _facts(draw: random.Random, count: int, split: str) -> Iterator[Question]:
    lexicon = load()
    relations = [one for some in lexicon.of.values() for one in some]
    seen: set[tuple[str, str]] = set()
    while len(seen) < count:
        relation = draw.choice(relations)
        name = name_of(lexicon.kinds[relation.subject], split, draw)
        answer = name_of(lexicon.kinds[relation.answer], split, draw)
        if (relation.name, name) in seen or {*name.split()} & {*answer.split()}:
            continue
        seen.add((relation.name, name))
        page = draw.choice(relation.sentences)
        if relation.following and draw.random() < 0.2:
            page = f"{draw.choice(lexicon.kinds[relation.subject].says)} {draw.choice(relation.following)}"
        yield _asked(draw, relation, name, answer, _sentence(page, name, answer), turned=0.0)


def _asked(
    draw: random.Random, relation: Relation, name: str, answer: str, context: str, *, turned: float = TURNED
) -> Question:
    if relation.turned and context.count(name) == 1 and draw.random() < turned * 2:
        return Question(_sentence(draw.choice(relation.turned), "", answer), context, name, relation.name)
    return Question(_sentence(draw.choice(relation.questions), name, ""), context, answer, relation.name)


def _sentence(frame: str, name: str, answer: str) -> str:
    text = frame.format(s=name or "{s}", a=answer or "{a}")
    return text[0].upper() + text[1:]
