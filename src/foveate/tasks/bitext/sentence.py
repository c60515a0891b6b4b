"""A sentence pair with gold links, and the last step of writing it: elision and contraction of the French words.

A French word under construction is a `Token`: (form, sure, possible, labels), where `sure` and `possible` hold indices
of English words and `labels` is a sum of bits of `BIT`. Because it names its English words by index, tokens can be put
into any order, and elision and contraction carry the links along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from .morphology import VOWELS

__all__ = ["BIT", "PHENOMENA", "Sentence", "Token", "begins_with_vowel", "finish", "labelled"]

Indices = tuple[int, ...]
Token = tuple[str, Indices, Indices, int]
Link = tuple[int, int]

PHENOMENA = (
    "adjective-before",  # the small cat -> le petit chat
    "adjective-after",  # the black cat -> le chat noir
    "clitic",  # sees it -> le voit
    "clitic-pair",  # gives it to her -> le lui donne
    "negation",  # does not see -> ne voit pas
    "negation-other",  # never, no longer, nothing, nobody, no, only -> ne ... jamais, plus, rien, personne, aucun, que
    "clitic-in-negation",  # does not see it -> ne le voit pas
    "contraction",  # of the -> du, to the -> aux
    "elision",  # the man -> l' homme
    "one-to-many",  # potato -> pomme de terre
    "many-to-one",  # train station -> gare
    "reflexive",  # gets up -> se lève
    "relative",  # who, that, where, whose -> qui, que, où, dont
    "possessive",  # the neighbour 's cat -> le chat du voisin
    "of-chain",  # the roof of the house -> le toit de la maison
    "coordination",  # and -> et
    "subordination",  # because -> parce que
    "complement",  # says that -> dit que
    "question",  # does he see -> est-ce qu' il voit
    "compound-past",  # saw -> a vu
    "near-future",  # is going to see -> va voir
    "infinitive",  # wants to see -> veut voir
    "participle-agreement",  # the house that he sold -> la maison qu' il a vendue
    "number",  # two -> deux
    "demonstrative",  # this -> cette
    "possessive-determiner",  # her cat -> son chat
    "inserted-article",  # not a cat -> pas de chat; some water -> de l' eau
    "dative-shift",  # gives the girl the book -> donne le livre à la fille
    "preposition",  # behind -> derrière
    "adverb",  # often -> souvent
    "comparison",  # bigger than -> plus grand que
    "impersonal",  # there is -> il y a; it is raining -> il pleut
    "pronoun-agreement",  # the car ... it is -> la voiture ... elle est
    "held-out",  # a pair of words, or of phenomena, that no training sentence has
)
BIT: Mapping[str, int] = {name: 1 << place for place, name in enumerate(PHENOMENA)}
CLITIC = BIT["clitic"]
ELISION, CONTRACTION, MANY_TO_ONE = BIT["elision"], BIT["contraction"], BIT["many-to-one"]

# What a word becomes before a vowel; "si" only before il, ils. (bel, vieil: nounphrases.py, which knows the number.)
ELIDED = {word: word[:-1] + "'" for word in ("le", "la", "je", "me", "se", "ne", "de", "que", "puisque", "si")}
LIAISON = {"ce": "cet", "ma": "mon", "sa": "son"}
BEFORE_VOWEL = ELIDED | LIAISON
CONTRACTED = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}


@dataclass(frozen=True)
class Sentence:
    """A source and its one translation, in words.

    `sure` and `possible` hold (source index, target index); `possible` includes `sure`. `phenomena` maps a name of
    `PHENOMENA` to all possible links of the target words that it is about: its error rate is that of these words.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    sure: frozenset[Link]
    possible: frozenset[Link]
    phenomena: Mapping[str, frozenset[Link]]

    def pharaoh(self) -> str:
        """The gold links in Pharaoh format, "0-0 1p2": `-` for sure, `p` for those that are only possible."""
        return " ".join(f"{i}{'-' if (i, j) in self.sure else 'p'}{j}" for i, j in sorted(self.possible))


def finish(source: Sequence[str], tokens: Sequence[Token], aspirated: frozenset[str]) -> Sentence:
    """Elide and contract the French words, and number their links.

    `aspirated`: words that begin with h, or with a vowel, and yet admit no elision (le héros, le onze).
    """
    target: list[str] = []
    sure_links: list[Link] = []
    possible_links: list[Link] = []
    found: dict[str, list[Link]] = {}
    last = len(tokens) - 1
    skip = False
    for place, (word, sure, possible, labels) in enumerate(tokens):
        if skip:
            skip = False
            continue
        if word in BEFORE_VOWEL and place < last:
            changed = _before(word, tokens[place + 1][0], aspirated)
            labels |= ELISION if changed != word else 0
            word = changed
        if (word == "de" or word == "à") and place < last:
            article = tokens[place + 1]
            if contracts(word, article, tokens[place + 2][0] if place + 1 < last else "", aspirated):
                word = CONTRACTED[word, article[0]]
                sure, possible = merged(sure, possible, article)
                labels |= article[3] | CONTRACTION
                skip = True
        if len(sure) > 1:
            labels |= MANY_TO_ONE
        number = len(target)
        target.append(word)
        links = [(i, number) for i in sure]
        sure_links += links
        if possible:
            links += [(i, number) for i in possible]
        possible_links += links
        if labels:
            for name in names_of(labels):
                found.setdefault(name, []).extend(links)
    phenomena = {name: frozenset(links) for name, links in found.items() if links}
    return Sentence(tuple(source), tuple(target), frozenset(sure_links), frozenset(possible_links), phenomena)


def _before(word: str, following: str, aspirated: frozenset[str]) -> str:
    """The form of `word`, a key of BEFORE_VOWEL, in front of `following`."""
    if word == "si":
        return "s'" if following in ("il", "ils") else word
    return BEFORE_VOWEL[word] if begins_with_vowel(following, aspirated) else word


def begins_with_vowel(word: str, aspirated: frozenset[str]) -> bool:
    """True if words elide before it; "y" does so only as the pronoun."""
    return (word[0] in VOWELS or word[0] == "h" or word == "y") and word not in aspirated


def contracts(preposition: str, article: Token, following: str, aspirated: frozenset[str]) -> bool:
    """True if de, à and this article become one word: not where it is elided, nor a pronoun (essaie de le voir)."""
    if (preposition, article[0]) not in CONTRACTED or article[3] & CLITIC:
        return False
    return article[0] == "les" or not following or not begins_with_vowel(following, aspirated)


def labelled(tokens: Sequence[Token], labels: int) -> list[Token]:
    """The same tokens with more labels."""
    return [(word, sure, possible, own | labels) for word, sure, possible, own in tokens]


def merged(sure: Indices, possible: Indices, article: Token) -> tuple[Indices, Indices]:
    """Links of a contraction. They stay sure only if the article has no sure word of its own: of two, none is it."""
    both = dict.fromkeys((*possible, *article[2]))
    if not article[1]:
        return sure, tuple(i for i in both if i not in sure)
    return (), tuple(dict.fromkeys((*sure, *article[1], *both)))


@cache
def names_of(labels: int) -> tuple[str, ...]:
    return tuple(name for name, bit in BIT.items() if labels & bit)
