"""`resolve(text)`: what a pronoun stands for, how sure that is, and which heads look there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import torch

from ...operator import observe
from ..training.checkpoint import load_model
from .model import Resolver, Size
from .vocabulary import Vocabulary

__all__ = ["Candidate", "Look", "Resolution", "load_builtin", "resolve"]

PRONOUNS = ("it", "they", "he", "she", "them", "its", "their")
LONGEST = 64
FUNCTION_WORDS = """
a an the this that these those some any no every each all both i me my mine you your yours he him his she her
hers it its we us our ours they them their theirs who whom whose which what where when why how and or but so
nor yet because since as although though while until unless if before after once than then there here of in on
at by for from to with without into onto over under out off up down about is are was were am be been being has
have had do does did can could will would shall should may might must not very too n't 's 're 've 'd 'll 'm
"""
NO_ANTECEDENTS = frozenset(FUNCTION_WORDS.split())


@dataclass(frozen=True)
class Candidate:
    """A word of the text and the probability that the pronoun stands for it."""

    index: int
    word: str
    probability: float


@dataclass(frozen=True)
class Look:
    """The attention of one head from the pronoun to the antecedent."""

    layer: int
    head: int
    weight: float


@dataclass(frozen=True)
class Resolution:
    """What `tokens[pronoun_index]` stands for. `candidates` and `heads` are sorted, likeliest and strongest first."""

    text: str
    tokens: tuple[str, ...]
    pronoun_index: int
    candidates: tuple[Candidate, ...]
    heads: tuple[Look, ...]

    @property
    def pronoun(self) -> str:
        """The pronoun as it is written, in lower case."""
        return self.tokens[self.pronoun_index].lower()

    @property
    def antecedent(self) -> str:
        """The likeliest word, as it is written."""
        return self.candidates[0].word

    @property
    def antecedent_index(self) -> int:
        """Its place among the tokens."""
        return self.candidates[0].index

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.candidates[0].probability

    def line(self, heads: int = 3) -> str:
        """One line: `it -> cat  97.3 %   heads: 3.5 (0.81) 2.1 (0.64)`; a head is written layer.head, from 0."""
        looks = " ".join(f"{look.layer}.{look.head} ({look.weight:.2f})" for look in self.heads[:heads])
        return f"{self.pronoun} -> {self.antecedent}  {self.probability:.1%}   heads: {looks}".replace("%", " %")


@cache
def load_builtin() -> Resolver:
    """The trained model of the package, ready to use; `tokenize` and `forward` are all that a viewer needs."""
    with resources.as_file(resources.files(__package__) / "weights") as folder:
        return load(folder)


def load(folder: Path) -> Resolver:
    """A model that `train` wrote."""
    tensors, description = load_model(folder)
    model = Resolver(Vocabulary(tuple(description["words"].split(" "))), Size(**description["size"]))
    model.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    return model.requires_grad_(False).eval()


def find_pronoun(words: list[str]) -> int:
    """The place of the pronoun to resolve: the last "it", or else the last of the next kind in `PRONOUNS`."""
    for pronoun in PRONOUNS:
        if pronoun in words:
            return len(words) - 1 - words[::-1].index(pronoun)
    raise ValueError(f"no pronoun to resolve; expected one of {', '.join(PRONOUNS)}")


def resolve(text: str, model: Resolver | None = None) -> Resolution:
    """Find out what "it" (or another pronoun) stands for in one English sentence.

    With several pronouns, the last "it" is resolved, or else the last "they", "he", "she", "them", "its" or "their".

    Raises:
        ValueError: no pronoun, no word it could stand for, or more than 64 words.
    """
    model = load_builtin() if model is None else model
    tokens, ids = model.tokenize(text)
    if len(tokens) > LONGEST:
        raise ValueError(f"at most {LONGEST} words and punctuation marks can be read at once; got {len(tokens)}")
    words = [token.lower() for token in tokens]
    pronoun = find_pronoun(words)
    places = [i for i, word in enumerate(words) if word[0].isalpha() and word not in NO_ANTECEDENTS]
    if not places:
        raise ValueError(f"no word that '{words[pronoun]}' could stand for")
    maps: list = []
    ids_1L = torch.tensor([ids])
    with torch.no_grad(), observe(maps.append):
        logits_L = model.antecedents(model(ids_1L), ids_1L, torch.tensor([pronoun]))[0]
    candidates = gather(words, tokens, places, logits_L)
    target = candidates[0].index
    looks = [
        Look(layer, head, float(weight))
        for layer, weights in enumerate(maps)
        for head, weight in enumerate(weights[0, :, pronoun, target])
    ]
    looks.sort(key=lambda look: -look.weight)
    return Resolution(text, tuple(tokens), pronoun, candidates, tuple(looks))


def gather(words: list[str], tokens: list[str], places: list[int], logits_L: torch.Tensor) -> tuple[Candidate, ...]:
    """Candidates with probabilities; a word that occurs twice counts once, at its likelier place."""
    chances = torch.softmax(logits_L[places].double(), 0).tolist()
    best: dict[str, Candidate] = {}
    for place, chance in sorted(zip(places, chances, strict=True), key=lambda item: -item[1]):
        old = best.get(words[place])
        if old is None:
            best[words[place]] = Candidate(place, tokens[place], chance)
        else:
            best[words[place]] = Candidate(old.index, old.word, old.probability + chance)
    return tuple(sorted(best.values(), key=lambda candidate: -candidate.probability))
