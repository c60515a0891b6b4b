"""The forms of French verbs, adjectives and nouns, and of English verbs and nouns, by rule where no table lists them.

Persons are numbered 0 to 4: je, il or elle, nous, vous, ils or elles (the grammar has no tu).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Conjugation",
    "English",
    "adjective_forms",
    "conjugate",
    "english_plural",
    "english_verb",
    "participle",
    "plural",
]

VOWELS = frozenset("aeiouâàäéèêëîïôöûùüœæ")
PRESENT = {
    "er": ("e", "e", "ons", "ez", "ent"),
    "ir": ("is", "it", "issons", "issez", "issent"),
    "re": ("s", "", "ons", "ez", "ent"),
}
IMPERFECT = ("ais", "ait", "ions", "iez", "aient")
FUTURE = ("ai", "a", "ons", "ez", "ont")
PARTICIPLE = {"er": "é", "ir": "i", "re": "u"}


@dataclass(frozen=True)
class Conjugation:
    """All forms of a French verb that the grammar uses; `present`, `imperfect` and `future` by person."""

    infinitive: str
    present: tuple[str, ...]
    imperfect: tuple[str, ...]
    future: tuple[str, ...]
    participle: str
    etre: bool = False


@dataclass(frozen=True)
class English:
    """The forms of the inflected word of an English verb."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


def conjugate(infinitive: str, listed: tuple[str, ...] | None = None) -> Conjugation:
    """`listed`: the five present forms, the participle, the first person of the future and perhaps "être"."""
    ending = infinitive[-2:]
    if listed is not None:
        present, past, future = listed[:5], listed[5], listed[6].removesuffix("ai")
    elif ending in PRESENT:
        present = _regular(infinitive, ending)
        past, future = infinitive[:-2] + PARTICIPLE[ending], infinitive.removesuffix("e")
    else:
        raise ValueError(f"'{infinitive}' ends in none of -er, -ir, -re; list its forms in conjugations.txt")
    stem = "ét" if infinitive == "être" else present[2].removesuffix("ons")
    return Conjugation(
        infinitive,
        tuple(present),
        tuple(_soften(infinitive, stem, tail) for tail in IMPERFECT),
        tuple(future + tail for tail in FUTURE),
        past,
        listed is not None and "être" in listed[7:],
    )


def _regular(infinitive: str, ending: str) -> tuple[str, ...]:
    stem = infinitive[:-2]
    nous = {"ger": stem + "eons", "cer": stem[:-1] + "çons"}.get(infinitive[-3:])
    forms = [stem + tail for tail in PRESENT[ending]]
    return tuple(forms if nous is None else [*forms[:2], nous, *forms[3:]])


def _soften(infinitive: str, stem: str, tail: str) -> str:
    """mange-ait but mang-ions, commenç-ait but commenc-ions."""
    if tail[0] == "i":
        stem = stem[:-1] if infinitive.endswith("ger") else stem[:-1] + "c" if stem.endswith("ç") else stem
    return stem + tail


def participle(masculine: str, feminine: bool, plural: bool) -> str:
    """The past participle in agreement: pris, prise, pris, prises; dû, due."""
    form = masculine.replace("dû", "du") if feminine or plural else masculine
    form += "e" if feminine else ""
    return form + ("s" if plural and not form.endswith("s") else "")


def plural(singular: str) -> str:
    """The plural of a French adjective, or of the first word of a noun, where none is listed."""
    if singular[-1] in "sxz":
        return singular
    if singular.endswith("al"):
        return singular[:-1] + "ux"
    return singular + ("x" if singular.endswith("eau") else "s")


def adjective_forms(listed: tuple[str, ...]) -> tuple[str, str, str, str]:
    """(masculine, feminine, masculine plural, feminine plural) from masculine, feminine and perhaps the plural."""
    masculine, feminine = listed[:2]
    return masculine, feminine, listed[2] if len(listed) > 2 else plural(masculine), feminine + "s"


def english_plural(singular: str) -> str:
    if singular.endswith(("s", "x", "z", "ch", "sh")):
        return singular + "es"
    if singular.endswith("y") and singular[-2] not in VOWELS:
        return singular[:-1] + "ies"
    return singular + "s"


def english_verb(base: str, listed: tuple[str, ...] | None = None, double: bool = False) -> English:
    """`listed`: past, participle and perhaps the -ing form. `double`: stopped, stopping."""
    third = "has" if base == "have" else base + "es" if base in ("go", "do") else english_plural(base)
    stem = base + base[-1] if double else base.removesuffix("e") if not base.endswith(("ee", "ye", "oe")) else base
    ing = "being" if base == "be" else stem + "ing"
    if listed is not None:
        return English(base, third, listed[0], listed[1], listed[2] if len(listed) > 2 else ing)
    past = base[:-1] + "ied" if base.endswith("y") and base[-2] not in VOWELS else stem.removesuffix("e") + "ed"
    return English(base, third, past, past, ing)
