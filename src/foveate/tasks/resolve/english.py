"""English inflection, as far as the grammar needs it: plurals, tenses, articles.

Irregular forms come from `lexicon/irregular.txt`; everything else follows the spelling rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["English"]

VOWELS = "aeiou"
SILENT_E = re.compile(
    r"(?:[cvzu]|[^s]s|[aeiou]g|rg|ng|dg|[^aeou]id|[aeiou]k|[^aeiou][aiou][tdlmnrp]|tl|bl|gl|pl|kl|fl|dl)$"
)
PLAIN_STEMS = """
visit open lean wander listen offer enter answer happen follow gather deliver cover remember recover fear need
look book cook hook knock soak leak hear park work walk talk bark ask pick lick kick pack lock attack hang
belong bang ring bring sing cling swing hatch wait rain lift hunt avoid limit edit exit travel label cancel
pedal total model reach focus bus gas canvas howl growl purr stir occur prefer refer repair pair clear near
appear disappear
"""
NO_SILENT_E = frozenset(PLAIN_STEMS.split())


@dataclass(frozen=True)
class English:
    """Irregular forms: `plural[singular]`, `base[past]`, and the nouns that have no plural or no singular."""

    plural: dict[str, str]
    base: dict[str, str]
    mass: frozenset[str]
    plural_only: frozenset[str]

    def plural_of(self, noun: str) -> str:
        """`box` -> `boxes`, `mouse` -> `mice`, `ice_cream` -> `ice_creams`."""
        head, _, last = noun.rpartition("_")
        if last in self.plural_only:
            return noun
        return (head + "_" if head else "") + (self.plural.get(last) or _add_s(last))

    def base_of(self, past: str) -> str:
        """The base form of a past tense: `sat` -> `sit`, `chased` -> `chase`."""
        if past in self.base:
            return self.base[past]
        if not past.endswith("ed"):
            return past
        stem = past[:-2]
        if stem.endswith("i"):
            return stem[:-1] + "y"
        if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "lsfz" and stem[-1] not in VOWELS:
            return stem[:-1]
        if stem not in NO_SILENT_E and SILENT_E.search(stem) and not re.search(r"[aeiou]{2}[^aeiouscvz]$", stem):
            return stem + "e"
        return stem

    def third_person(self, base: str) -> str:
        """`chase` -> `chases`; `be` -> `is`, `have` -> `has`, modal verbs stay."""
        if base in ("can", "will", "must", "might"):
            return base
        return {"be": "is", "have": "has", "do": "does", "go": "goes"}.get(base) or _add_s(base)

    def progressive(self, base: str) -> str:
        """`sit` -> `sitting`, `chase` -> `chasing`, `lie` -> `lying`."""
        if base.endswith("ie"):
            return base[:-2] + "ying"
        if base.endswith("e") and not base.endswith(("ee", "be")):
            return base[:-1] + "ing"
        if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", base):
            return base + base[-1] + "ing"
        return base + "ing"

    def present(self, phrase: str, plural: bool) -> str:
        """A past-tense verb phrase in the present: `had no wheels` -> `has no wheels` (`have` in the plural)."""
        verb, _, rest = phrase.partition(" ")
        base = self.base_of(verb)
        if plural:
            verb = {"be": "are"}.get(base, base)
        else:
            verb = self.third_person(base)
        return f"{verb} {rest}".strip()

    def plural_past(self, phrase: str) -> str:
        """A past-tense verb phrase with a plural subject: `was tired` -> `were tired`, `its` -> `their`."""
        verb, _, rest = phrase.partition(" ")
        verb = "were" if verb == "was" else verb
        return re.sub(r"\bits\b", "their", f"{verb} {rest}".strip())


def _add_s(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in VOWELS:
        return word[:-1] + "ies"
    if word in ("echo", "hero", "go", "do"):
        return word + "es"
    return word + "s"
