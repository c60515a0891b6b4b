"""Sentences: clauses of one time, joined up to a length."""

from __future__ import annotations

from .clauses import clause
from .draft import Draft
from .lexicon import Block
from .questions import question
from .sentence import BIT, Token

__all__ = ["write_sentence"]

FRAMES = ("present",) * 5 + ("past",) * 4 + ("future",) * 2
COORDINATION, SUBORDINATION, ADVERB = BIT["coordination"], BIT["subordination"], BIT["adverb"]


def write_sentence(d: Draft, length: int) -> list[Token]:
    """Write a sentence of at most, and most often exactly, `length` words with its full stop or question mark."""
    room = length - 1
    d.frame = d.pick(FRAMES if room > 2 else FRAMES[:-2])
    d.rich = d.chance(0.5)
    asks = room >= 3 and d.chance(0.14)
    tokens = question(d, share(d, room)) if asks else opening(d, room)
    left = room - len(d.english)
    while left >= 4:
        joined = join(d, left, asks)
        if not joined:
            break
        tokens += joined
        left = room - len(d.english)
    tokens += fill(d, left)
    mark = "?" if asks else "."
    tokens.append((mark, (d.say(mark),), (), 0))
    return tokens


def share(d: Draft, room: int) -> int:
    """How much of the room the next clause may take."""
    return room if room <= 7 else min(room, 5 + int(d.random() * (18 if d.rich else 11)))


def opening(d: Draft, room: int) -> list[Token]:
    """The first clause, or now and then a subordinate clause, a comma and the main clause."""
    if room < 8 or not d.chance(0.1):
        return clause(d, share(d, room))
    block = d.pick(d.phrases["subordinate"])
    if d.frame not in block.flags:
        return clause(d, share(d, room))
    tokens = d.place(block, SUBORDINATION)
    tokens += clause(d, min(share(d, room), room - len(d.english) - 4), 0, frame_after(d, block))
    tokens.append((",", (d.say(","),), (), 0))
    return tokens + clause(d, share(d, room - len(d.english)))


def join(d: Draft, left: int, asks: bool) -> list[Token]:
    """A conjunction and one more clause, or nothing if the conjunction drawn does not fit."""
    for _ in range(8):
        coordinate = not asks and d.chance(0.5)
        block = d.pick(d.phrases["coordinate" if coordinate else "subordinate"])
        if d.english[-1] == block.english[0]:  # now now that
            continue
        if (coordinate or d.frame in block.flags) and len(block.english) + 3 <= left:
            tokens = d.place(block, COORDINATION if coordinate else SUBORDINATION)
            return tokens + clause(d, share(d, left - len(block.english)), 0, frame_after(d, block))
    return []


def frame_after(d: Draft, block: Block) -> str:
    """The frame of the clause after a conjunction: if ... and while ... take fewer tenses."""
    if d.frame == "present":
        return "plain" if "plain" in block.flags else "present"
    return "reported" if "was" in block.flags else d.frame


def fill(d: Draft, left: int) -> list[Token]:
    """The last words: a time or a place, to reach the length."""
    tokens: list[Token] = []
    if left > 0 and d.time:
        fitting = d.view.fitting(d.time, left)
        longest = max((len(b.english) for b in fitting), default=0)
        if longest:
            block = d.pick([b for b in fitting if len(b.english) == longest])
            tokens = d.place(block, ADVERB)
            left -= longest
    if left > 0 and d.where and not tokens:
        fitting = d.view.fitting("where", left)
        tokens = d.place(d.pick(fitting), ADVERB) if fitting else []
    return tokens
