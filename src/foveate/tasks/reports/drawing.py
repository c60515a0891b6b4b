"""Draw reports with a headline each: deterministic in the seed, and no invented word occurs in two splits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..facts.names import SPLITS, name_of
from .lexicon import SLOT, Lexicon, Story, load

__all__ = ["SPLITS", "Report", "reports"]

SHORTEST = 20  # words of a report
OPENED = 0.4  # of reports: do not begin with their news
BETWEEN = (0, 0, 1, 1, 2)  # sentences between what makes the headline
FILLED = 0.1  # of further sentences: about nothing


@dataclass(frozen=True)
class Report:
    """A report, and the headline that its news makes; `story` is which kind of news it is."""

    text: str
    headline: str
    story: str


@dataclass
class _Page:
    """One report while it is written; no two of its names share an invented word, no number is there twice."""

    lexicon: Lexicon
    split: str
    draw: random.Random
    used: set[str] = field(default_factory=set)

    def fresh(self, kind: str) -> str:
        """A name that this report does not have, as long as there is one."""
        given = self.lexicon.kinds[kind]
        for _ in range(100):
            name = name_of(given, self.split, self.draw, self.lexicon.words)
            own = {name.lower()} if given.words else {*name.lower().split()} - self.lexicon.words
            if not own & self.used:
                break
        self.used |= own
        return name

    def sentence(self, frame: str, slots: dict[str, str]) -> str:
        """The frame with these slots; what else stands in braces is a kind, and made up."""
        text = SLOT.sub(lambda found: slots.get(found[1]) or self.fresh(found[1]), frame)
        return text[:1].upper() + text[1:]


def reports(seed: int, count: int, *, words: tuple[int, int] = (25, 60), split: str = "train") -> Iterator[Report]:
    """`count` reports.

    Args:
        words: how long they are at least, drawn between these two numbers; the last sentence may go beyond it.
        split: "train", "valid" or "test"; invented words of one occur in no other.

    Raises:
        ValueError: an unknown split, or numbers out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected 'train', 'valid' or 'test'")
    if count < 0:
        raise ValueError(f"count must not be negative; got {count}")
    if not SHORTEST <= words[0] <= words[1]:
        raise ValueError(f"words must be (shortest, longest) with {SHORTEST} <= shortest <= longest; got {words}")
    draw = random.Random(f"reports/{split}/{seed}")
    return (_report(draw, words, split) for _ in range(count))


def _report(draw: random.Random, words: tuple[int, int], split: str) -> Report:
    lexicon, wanted = load(), draw.randint(*words)
    page, story = _Page(lexicon, split, draw), draw.choice(lexicon.stories)
    slots = {slot: page.fresh(kind) for slot, kind in story.slots.items()}
    details = _details(draw, lexicon, story)
    sentences = [page.sentence(draw.choice(story.openings), {})] if draw.random() < OPENED else []
    for number, step in enumerate(story.steps):
        between = draw.choice(BETWEEN) if number else 0
        sentences += [page.sentence(next(details), {}) for _ in range(between)]
        sentences.append(page.sentence(draw.choice(step), slots))
    while len(" ".join(sentences).split()) < wanted:
        sentences.append(page.sentence(next(details), {}))
    return Report(" ".join(sentences), page.sentence(story.headline, slots), story.name)


def _details(draw: random.Random, lexicon: Lexicon, story: Story) -> Iterator[str]:
    """Sentences that are no news: this story's, then those of others, and again; each time in another order."""
    others = [line for other in lexicon.stories if other is not story for line in other.details]
    while True:
        yield from draw.sample(story.details, len(story.details))
        for line in draw.sample(others, len(others)):
            yield draw.choice(lexicon.fillers) if draw.random() < FILLED else line
