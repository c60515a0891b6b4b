"""Sub-words: byte-pair encoding (Sennrich et al. 2016) whose pieces never span two words, for both languages at once.

A text is normalised (`normalise`), a `▁` put before each of its white-space tokens (Kudo & Richardson 2018), and cut
into words; merges are learned and made inside words only. Characters that training did not see often enough are
written as their UTF-8 bytes, so that every text has an encoding, and decoding gives it back.

A word is what alignments are shown for: letters, digits, or one punctuation mark, repeated or not; English clitics
(`don|'t`) and French elided words (`l'|homme`) are words. Both apostrophes count, and `&apos;`, as some tools write it.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .files import save_text

__all__ = ["BEGIN", "END", "PAD", "UNKNOWN", "Encoded", "Subwords", "normalise", "used"]

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
SMALLEST = 600  # special tokens and bytes are 260 of these
SPACE, LITERAL = "▁", "\n"  # a `▁` of the text itself is written as a line break, which a normalised text has not
_NO_UTF8 = re.compile("[\udc80-\udcff]")
_BLANKS = re.compile(r"[^\S\n]+")
_BYTES = frozenset(BYTES)
CHUNK = 2048  # texts that are held as pieces at a time
LONGEST = 100  # words of more pieces than this are not cut at random, which takes quadratic time

_APOSTROPHE = "(?:['’]|&apos;)"
_CLITIC = rf"{_APOSTROPHE}(?i:t|s|re|ve|ll|d|m)(?!\p{{L}})(?!{_APOSTROPHE}\p{{L}}{{3}})"  # not the t of y't'plaît
_WORDS = (  # the first that fits, from left to right
    rf"(?i:aujourd){_APOSTROPHE}(?i:hui)",
    _CLITIC,
    rf"(?i:[cdjlmnst]|(?:jus|lors|puis|quoi|pres|quel)?qu){_APOSTROPHE}",
    rf"[\p{{L}}\p{{M}}]+(?!{_CLITIC}){_APOSTROPHE}(?=\p{{L}})",
    r"[\p{L}\p{M}]+",
    r"\p{N}+",
    r"&(?:[a-z]+|#[0-9]+);",
    rf"([^{SPACE}\p{{L}}\p{{M}}\p{{N}}])\1*\p{{M}}*",
)
_PATTERN = f"{SPACE}?(?:{'|'.join(_WORDS)})"


def normalise(text: str) -> str:
    """NFC, each run of white space (no-break spaces too) one plain space, none at the ends; U+FFFD for surrogates."""
    if not text.isascii():
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        text = unicodedata.normalize("NFC", whole)
    return " ".join(text.split())


@dataclass(frozen=True)
class Encoded:
    """A text as sub-words, without special tokens."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]  # as in the vocabulary: `▁` before the first of a white-space token
    words: tuple[int, ...]  # which word each piece belongs to: 0, 1, 2 ...
    shown: tuple[str, ...]  # the words, as they are displayed

    def __len__(self) -> int:
        return len(self.ids)


class Subwords:
    """A vocabulary of sub-words and its merges; ids 0 to 3 are `<pad>`, `<s>`, `</s>`, `<unk>`, then the 256 bytes.

    Made by `Subwords.train` or `Subwords.load`. Text never becomes a special token, whatever it holds.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        """From what a tokenizers file holds; `train` and `load` call this, after a check."""
        self._description = description
        model: dict[str, Any] = description["model"]
        self.dropout: float | None = model["dropout"]
        self._ids: dict[str, int] = model["vocab"]
        self._pieces = sorted(self._ids, key=self._ids.__getitem__)
        self._bytes = [piece.encode() for piece in self._pieces]
        self._bytes[: len(SPECIAL)] = [b""] * len(SPECIAL)
        for piece, byte in zip(BYTES, range(256), strict=True):
            self._bytes[self._ids[piece]] = bytes([byte])
        self._longest = max(len(piece) for piece in self._pieces)
        self._ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
        plain = {**description, "model": {**model, "dropout": None}}
        self._tokenizer = _tokenizers().Tokenizer.from_str(json.dumps(plain, ensure_ascii=False))

    @classmethod
    def train(
        cls, texts: Iterable[str], size: int = 8000, *, min_frequency: int = 2, dropout: float | None = None
    ) -> Subwords:
        """Learn pieces from texts, of both languages together; the same texts give the same pieces.

        Args:
            texts: sentences.
            size: the most pieces, special tokens and bytes among them; fewer if no pair is frequent enough.
            min_frequency: merge no pair, and give no character a piece of its own, that is rarer than this.
            dropout: how often `encode_batch` leaves out a merge, if it is given `chance` (Provilkov et al. 2020).

        Raises:
            ValueError: `size` is below 600, `dropout` not in [0, 1), or there is no text.
            ModuleNotFoundError: tokenizers is not installed.
        """
        if size < SMALLEST:
            raise ValueError(
                f"a vocabulary needs at least {SMALLEST} pieces, 260 for special tokens and bytes; got {size}"
            )
        if dropout is not None and not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1; got {dropout}")
        texts = [_inner(text) for text in map(normalise, texts) if text]
        if not texts:
            raise ValueError("there is no text to learn sub-words from")
        alphabet, rare = _alphabet(texts, (size - len(SPECIAL) - len(BYTES)) // 2, min_frequency)
        learner = _empty()
        trainer = _tokenizers().trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=min_frequency,
            special_tokens=[*SPECIAL, *BYTES],
            initial_alphabet=alphabet,
            show_progress=False,
        )
        learner.train_from_iterator((text.translate(rare) for text in texts), trainer, length=len(texts))
        description = json.loads(learner.to_str())
        description["added_tokens"] = []  # else text that reads "</s>" would become the special token
        description["model"]["dropout"] = dropout
        return cls(description)

    @classmethod
    def load(cls, path: str | Path) -> Subwords:
        """What `save` wrote.

        Raises:
            ValueError: there is no such file, or it is not one of ours.
            ModuleNotFoundError: tokenizers is not installed.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"no sub-words: there is no file {path.name}")
        tokenizers = _tokenizers()
        try:
            description = json.loads(tokenizers.Tokenizer.from_str(path.read_bytes().decode("utf-8")).to_str())
        except Exception as error:  # tokenizers raises nothing more precise
            raise ValueError(f"{path.name} holds no sub-words: it is no tokenizers file, or broken ({error})") from None
        differs = _differences(description)
        if differs:
            raise ValueError(f"{path.name} does not hold sub-words of foveate; different are its {', '.join(differs)}")
        return cls(description)

    def save(self, path: str | Path) -> None:
        """Write a tokenizers JSON file, in one step: pieces, merges and what cuts words, but not `normalise`."""
        save_text(Path(path), json.dumps(self._description, ensure_ascii=False, indent=1) + "\n")

    def __len__(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> Encoded:
        """The sub-words of a text; decoding them gives `normalise(text)`."""
        one = self._tokenizer.encode(_inner(normalise(text)))
        return self._of(one.ids, one.word_ids)

    def encode_batch(self, texts: Iterable[str], *, chance: random.Random | None = None) -> list[Encoded]:
        """Of many texts. With `chance`, merges are left out at random, as often as `dropout` says."""
        inner = [_inner(normalise(text)) for text in texts]
        encoded = [self._of(one.ids, one.word_ids) for one in self._tokenizer.encode_batch(inner)]
        return encoded if chance is None or not self.dropout else [self._dropped(one, chance) for one in encoded]

    def ids(self, texts: Iterable[str]) -> list[list[int]]:
        """Only the ids of many texts, which is several times faster than `encode_batch`."""
        inner = [_inner(normalise(text)) for text in texts]
        return [one.ids for one in self._tokenizer.encode_batch_fast(inner)]

    def drawn_ids(self, texts: Sequence[str], chance: random.Random) -> Iterator[list[int]]:
        """Only the ids of many texts, merges left out at random, as often as `dropout` says."""
        for first in range(0, len(texts), CHUNK):
            for one in self.encode_batch(texts[first : first + CHUNK], chance=chance):
                yield list(one.ids)

    def reachable(self, texts: Sequence[str]) -> set[int]:
        """Ids of all pieces into which these texts can be cut when merges are left out."""
        words: set[tuple[str, ...]] = set()
        for first in range(0, len(texts), CHUNK):
            for one in self.encode_batch(texts[first : first + CHUNK]):
                pairs = zip(one.words, one.pieces, strict=True)
                words.update(tuple(piece for _, piece in group) for _, group in groupby(pairs, key=itemgetter(0)))
        found = {self._ids[piece] for word in words for piece in word}
        for word in words:
            symbols = _symbols(word)
            for begin in range(len(symbols)) if len(word) <= LONGEST else ():
                for end in range(begin + 1, min(len(symbols), begin + self._longest) + 1):
                    number = self._ids.get("".join(symbols[begin:end]))
                    if number is not None:
                        found.add(number)
        return found

    def encode_words(self, words: Sequence[str]) -> Encoded:
        """As `encode(" ".join(words))`, but the words are those given, as alignments count them."""
        parts = [normalise(word) for word in words]
        owner = [number for number, part in enumerate(parts) for _ in part.split(" ") if part]
        one = self.encode(" ".join(parts))
        begins = np.cumsum([piece.startswith(SPACE) for piece in one.pieces]) - 1
        return Encoded(one.ids, one.pieces, tuple(owner[token] for token in begins), tuple(parts))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of sub-words; special tokens are left out, bytes that are no UTF-8 read U+FFFD."""
        return _BLANKS.sub(" ", self._text(ids).replace(SPACE, " ")).strip(" ").replace(LITERAL, SPACE)

    def spell(self, ids: Iterable[int]) -> Encoded:
        """What these sub-words say (a model wrote them): the same pieces, and the words of their text."""
        ids = [i for i in ids if i >= len(SPECIAL)]
        raw = b"".join(self._bytes[i] for i in ids).decode("utf-8", "surrogateescape")
        text = _NO_UTF8.sub("\x1a", raw)  # one byte for one, so that places stay
        cut = self._tokenizer.pre_tokenizer.pre_tokenize_str(text)
        ends = np.cumsum([len(part.encode()) for part, _ in cut])
        begins = np.cumsum([0, *(len(self._bytes[i]) for i in ids[:-1])]) if ids else np.zeros(0, np.int64)
        places = np.searchsorted(ends, begins, side="right")
        words = np.cumsum(np.diff(places, prepend=places[:1]) > 0)
        return self._of(ids, words.tolist())

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """How the vocabulary writes sub-words."""
        return [self._pieces[i] for i in ids]

    def _text(self, ids: Iterable[int]) -> str:
        return b"".join(self._bytes[i] for i in ids).decode("utf-8", "replace")

    def _of(self, ids: Sequence[int], words: Sequence[int]) -> Encoded:
        groups: list[list[int]] = [[] for _ in range(words[-1] + 1)] if words else []
        for number, word in zip(ids, words, strict=True):
            groups[word].append(number)
        shown = tuple(self._text(group).replace(SPACE, "").replace(LITERAL, SPACE) for group in groups)
        return Encoded(tuple(ids), tuple(self.pieces(ids)), tuple(words), shown)

    def _dropped(self, one: Encoded, chance: random.Random) -> Encoded:
        """The same words cut otherwise: each merge that is possible is left out with probability `dropout`."""
        pieces: list[str] = []
        words: list[int] = []
        for word, group in groupby(zip(one.words, one.pieces, strict=True), key=itemgetter(0)):
            whole = [piece for _, piece in group]
            if len(whole) <= LONGEST:
                whole = _merge(_symbols(whole), self._ranks, self.dropout or 0.0, chance)
            pieces += whole
            words += [word] * len(whole)
        return Encoded(tuple(self._ids[piece] for piece in pieces), tuple(pieces), tuple(words), one.shown)


def used(ids: Iterable[Sequence[int]]) -> Tensor:
    """The sub-words that occur, sorted, int64; the special tokens are always among them, so they keep their numbers."""
    found = {PAD, BEGIN, END, UNKNOWN}
    for one in ids:
        found.update(one)
    return torch.tensor(sorted(found))


def _tokenizers() -> ModuleType:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ModuleNotFoundError("tokenizers is not installed; run: pip install 'foveate[train]'") from None
    return tokenizers


def _empty() -> Any:
    """A tokenizer of our kind that has not learned anything."""
    tokenizers = _tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=SPECIAL[UNKNOWN], byte_fallback=True))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(_PATTERN), "isolated")
    return tokenizer


def _inner(text: str) -> str:
    """A normalised text as it is cut: `▁` where a white-space token begins."""
    return SPACE + text.replace(SPACE, LITERAL).replace(" ", SPACE) if text else ""


def _alphabet(texts: Iterable[str], most: int, min_frequency: int) -> tuple[list[str], dict[int, str]]:
    """The characters that get a piece of their own, and a table that puts spaces in the place of all others."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    ranked = sorted(counts, key=lambda c: (-counts[c], c))
    kept = [c for c in ranked if counts[c] >= min_frequency and c != LITERAL][:most]
    return sorted(kept), {ord(c): SPACE for c in set(ranked) - set(kept)}


def _symbols(pieces: Iterable[str]) -> list[str]:
    """What merges begin with: characters, and bytes of characters that have no piece."""
    return [symbol for piece in pieces for symbol in ([piece] if piece in _BYTES else piece)]


def _merge(symbols: list[str], ranks: dict[tuple[str, ...], int], dropout: float, chance: random.Random) -> list[str]:
    while True:
        found = [
            (ranks[pair], place)
            for place, pair in enumerate(pairwise(symbols))
            if pair in ranks and chance.random() >= dropout
        ]
        if not found:
            return symbols
        place = min(found)[1]
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


def _differences(description: dict[str, Any]) -> list[str]:
    """Where this is not what `Subwords.train` makes."""
    ours = json.loads(_empty().to_str())
    model, learned = description.pop("model"), {"vocab", "merges", "dropout"}
    found = [key for key in ours if key != "model" and description.get(key) != ours[key]]
    found += [f"model's {key}" for key in ours["model"] if key not in learned and model.get(key) != ours["model"][key]]
    description["model"] = model
    numbers = model.get("vocab", {})
    first = [numbers.get(piece) for piece in (*SPECIAL, *BYTES)]
    if sorted(numbers.values()) != list(range(len(numbers))) or first != list(range(len(first))):
        found.append("ids")
    return found
