"""Flip pairs about people: he or she by gender, he or she against it, they against it by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .grammar import Example, words_of
from .lexicon import Saying

if TYPE_CHECKING:
    from .grammar import Writer

__all__ = ["people_pair"]

LINKS = ("because", "because", "because", "since", "when", "so", "but", "although", "and", "after", ".", "as")


def people_pair(writer: Writer) -> tuple[Example, Example] | None:
    """One of three kinds of pair, drawn at random."""
    draw = writer.rng.random()
    if draw < 0.55 and writer.people_frames:
        return _roles(writer)
    if draw < 0.75:
        return _genders(writer)
    return _person_or_thing(writer)


def _roles(writer: Writer) -> tuple[Example, Example] | None:
    """Two people of one gender, or two groups: only what they do tells them apart."""
    rng, features = writer.rng, writer.lexicon.features
    frame = rng.choice(writer.people_frames)
    pronoun = rng.choice(("he", "he", "she", "she", "they"))
    wrong = {"he": "female", "she": "male", "they": "nobody"}[pronoun]
    sides = []
    for slot in (frame.a, frame.b):
        fitting = [noun for noun in slot if noun == "anyone" or wrong not in features[noun]]
        if not fitting:
            return None
        named = "anyone" in slot and rng.random() < 0.4
        sides.append(
            "anyone" if named and pronoun != "they" else rng.choice([n for n in fitting if n != "anyone"] or [""])
        )
    if "" in sides or (sides[0] == sides[1] and sides[0] != "anyone"):
        return None
    people = [_role(writer, noun, pronoun) for noun in sides]
    if people[0][-1] == people[1][-1]:
        return None
    kind = rng.choice(("adj", "vp"))
    firsts = [s for s in frame.a_says if s.kind == kind] or list(frame.a_says)
    seconds = [s for s in frame.b_says if s.kind == kind] or list(frame.b_says)
    if not firsts or not seconds:
        return None
    link = frame.connective or rng.choice(("because", "because", "because", "since", "as", ".", ", because"))
    words: list[str] = []
    ends: dict[str, int] = {}
    for part in frame.text.split():
        words += {"P": people[0], "Q": people[1]}.get(part, [part.lower()])
        ends[part] = len(words) - 1
    opening = rng.choice(writer.lexicon.lists["opening"]).split() if rng.random() < 0.1 else []
    words = [*opening, *words, *link.split()]
    made = []
    for saying, answer, other in ((rng.choice(firsts), "P", "Q"), (rng.choice(seconds), "Q", "P")):
        said = writer.remark(saying, pronoun == "they", False, link)
        shift = len(opening)
        sentence = (*words, pronoun, *said[1:], ".")
        made.append(Example(sentence, len(words), ends[answer] + shift, ends[other] + shift, frame.text))
    return made[0], made[1]


def _role(writer: Writer, noun: str, pronoun: str) -> list[str]:
    """A name or a determined noun."""
    rng, lexicon = writer.rng, writer.lexicon
    if noun == "anyone":
        return [rng.choice(lexicon.lists[f"{'male' if pronoun == 'he' else 'female'} name"])]
    word = lexicon.english.plural_of(noun) if pronoun == "they" else noun
    adjective = rng.choice(lexicon.lists["adjective"]).split()[:1] if rng.random() < 0.08 else []
    return [rng.choice(("the", "the", "the", "the", "my", "our", "his", "her", "that")), *adjective, word]


def _human(writer: Writer) -> str:
    lists, rng = writer.lexicon.lists, writer.rng
    if rng.random() < 0.5:
        return "was " + rng.choice(lists["person adj"])
    return rng.choice(lists["person vp"])


def _someone(writer: Writer, gender: str) -> list[str]:
    lists, rng = writer.lexicon.lists, writer.rng
    return rng.choice(lists[f"{gender} {'name' if rng.random() < 0.4 else 'person'}"]).split()


def _genders(writer: Writer) -> tuple[Example, Example]:
    rng = writer.rng
    man, woman = _someone(writer, "male"), _someone(writer, "female")
    order = [(man, "he"), (woman, "she")]
    rng.shuffle(order)
    (first, one), (second, two) = order
    if rng.random() < 0.6:
        middle = [rng.choice(writer.lexicon.lists["between people"]), *second]
    else:
        phrase = rng.choice(writer.lexicon.lists["towards people"]).replace("A's", "a")
        middle = [word for part in phrase.split() for word in (second if part == "B" else [part])]
    main = [*first, *middle]
    a = len(first) - 1
    b = next(i for i in range(len(first), len(main)) if main[i : i + len(second)] == second) + len(second) - 1
    link, remark = rng.choice(LINKS).split(), words_of(_human(writer))
    pronoun = len(main) + len(link)
    head = [*main, *link]
    return (
        Example((*head, one, *remark, "."), pronoun, a, b, "people"),
        Example((*head, two, *remark, "."), pronoun, b, a, "people"),
    )


def _person_or_thing(writer: Writer) -> tuple[Example, Example] | None:
    """The same main clause with a person X and a noun: "he was late" against "it was rusty"."""
    rng, lexicon = writer.rng, writer.lexicon
    frames = [f for f in writer.frames if f.text.startswith("X ")]
    frame = rng.choice(frames)
    firsts, seconds = writer.slots[id(frame), False]
    if not firsts or not seconds:
        return None
    a, b = writer.noun(firsts), writer.noun(seconds)
    found = lexicon.between(a, b)
    if a == b or not found:
        return None
    gender = rng.choice(("male", "female"))
    many = rng.random() < 0.25
    x = rng.choice(lexicon.lists["groups"]).split() if many else _someone(writer, gender)
    saying = rng.choice(writer.allowed(a, lexicon.predicates[rng.choice(found)].sayings) or [Saying("own", "")])
    if saying.kind in ("own", "obj"):
        return None
    slots = {"X": x, "A": writer.noun_phrase(a, False), "B": writer.noun_phrase(b, False)}
    words: list[str] = []
    ends: dict[str, int] = {}
    for part in frame.text.split():
        words += slots.get(part, [part])
        ends[part] = len(words) - 1
    words += rng.choice(LINKS).split()
    human = words_of(_human(writer))
    if many and human[0] == "was":
        human[0] = "were"
    thing = words_of(("was " if saying.kind == "adj" else "") + saying.text)
    pronoun = "they" if many else {"male": "he", "female": "she"}[gender]
    return (
        Example((*words, pronoun, *human, "."), len(words), ends["X"], ends["A"], frame.text),
        Example((*words, "it", *thing, "."), len(words), ends["A"], ends["X"], frame.text),
    )
