"""The French of the grammar, against rules written here anew: elision, contraction, agreement, conjugation."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given

from bitexts import ADJECTIVES, LEXICON, SEEDS, SPLITS, few, nouns_of, some
from foveate.tasks.bitext import Sentence, generate
from foveate.tasks.bitext.clauses import clause
from foveate.tasks.bitext.draft import Draft, view
from foveate.tasks.bitext.morphology import adjective_forms, conjugate, english_verb, participle, plural
from foveate.tasks.bitext.relatives import relative_clause
from foveate.tasks.bitext.sentence import BIT, finish

ASPIRATED = r"(?!h[ée]r(os|isson)|hibou|hamster|haricot|harpe|hache|haut|huit|onze)"
VOWEL = rf"{ASPIRATED}[aeiouhâàéèêëîïôûùœæ]"


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("le homme", "l' homme"), ("la maison", "la maison"), ("de le homme", "de l' homme"),
        ("de le chat", "du chat"), ("à les hommes", "aux hommes"), ("à la école", "à l' école"),
        ("le héros", "le héros"), ("de le héros", "du héros"), ("que il ne y a", "qu' il n' y a"),
        ("si il si elle", "s' il si elle"), ("ma amie", "mon amie"), ("ce arbre", "cet arbre"),
        ("de onze", "de onze"), ("puisque elle", "puisqu' elle"), ("parce que on", "parce qu' on"),
    ],
)  # fmt: skip
def test_elision_and_contraction(words: str, written: str) -> None:
    tokens = [(word, (0,), (), 0) for word in words.split()]
    assert " ".join(finish(("x",), tokens, LEXICON.aspirated).target) == written


def test_a_pronoun_never_contracts() -> None:
    tokens = [("de", (0,), (), 0), ("le", (0,), (), BIT["clitic"]), ("voir", (0,), (), 0)]
    assert finish(("x",), tokens, frozenset()).target == ("de", "le", "voir")


@some
@given(SEEDS, SPLITS)
def test_no_text_breaks_the_rules_of_elision(seed: int, split: str) -> None:
    for s in few(seed, split):
        text = f" {' '.join(s.target)} "
        assert not re.search(rf" (le|la|je|me|se|ne|de|que|puisque|ce|ma|sa) {VOWEL}", text), text
        assert not re.search(r" (le|la|me|se|ne|je|que) y ", text), text
        assert not re.search(r" si ils? ", text), text
        assert not re.search(rf" (l'|j'|m'|s'|n'|d'|qu'|puisqu'|cet|bel|nouvel|vieil) (?!{VOWEL}|y )", text), text
        one = "un|le|mon|son|ce|notre|votre|leur|du|au|aucun|chaque|autre"
        assert not re.search(rf" ({one}) (beau|nouveau|vieux) {VOWEL}", text), text
        assert not re.search(r" (de|à) les? (?!\w*(er|ir|re|lui|leur) )", text), text
        assert not re.search(r" de (des|du) ", text), text
        assert text == text.lower()


VERBS = {form for v in LEXICON.verbs for form in vars(v.english).values()}
MASCULINE = {"le", "un", "ce", "cet", "du", "au", "aucun", "quel", "quels"}
FEMININE = {"la", "une", "cette", "ma", "sa", "aucune", "quelle", "quelles"}
SINGULAR = {"le", "la", "l'", "un", "une", "mon", "ma", "son", "sa", "ce", "cet", "cette", "du", "au", "notre", "leur"}
PLURAL = {"les", "des", "mes", "ses", "nos", "vos", "leurs", "ces", "aux", "plusieurs", "quelques", "quels", "quelles"}


@some
@given(SEEDS, SPLITS)
def test_nouns_and_what_stands_before_them_agree(seed: int, split: str) -> None:
    for s in few(seed, split):
        for place, noun, many in nouns_of(s):
            if s.source[place] in VERBS or s.source[place - 1] == "to":
                continue  # a watch, she watches; goes to bed
            head = place + noun.block.sure[0][0]
            targets = sorted(j for i, j in s.sure if i == head)
            forms = noun.many if many else noun.block.french
            assert s.target[targets[0]] == forms[0], s
            before = s.target[targets[0] - 1] if targets[0] else ""
            assert before not in (MASCULINE if noun.feminine else FEMININE), s
            assert before not in (SINGULAR if many else PLURAL), s


@some
@given(SEEDS, SPLITS)
def test_adjectives_agree_with_the_noun_and_stand_on_their_side(seed: int, split: str) -> None:
    for s in few(seed, split):
        starts = {place: (noun, many) for place, noun, many in nouns_of(s)}
        for name, before in (("adjective-before", True), ("adjective-after", False)):
            for i, j in s.phenomena.get(name, frozenset()) & s.sure:
                adjective = ADJECTIVES[s.source[i]]
                place = i + 1
                while s.source[place] in ADJECTIVES and place not in starts:
                    place += 1
                noun, many = starts[place]
                forms = adjective.forms[2 * many + noun.feminine]
                assert s.target[j] in forms or (s.target[j] == adjective.liaison and not many and not noun.feminine), s
                head = min(t for source, t in s.sure if source == place + noun.block.sure[0][0])
                assert (j < head) == before == adjective.before, s


PERSONS = {"je": 0, "j'": 0, "il": 1, "elle": 1, "ils": 4, "elles": 4}
CLITICS = {*["ne", "n'", "me", "m'", "se", "s'", "nous", "vous", "le", "la", "l'", "les", "lui", "leur", "y", "en"]}
FINITE = [
    {form for c in LEXICON.conjugations.values() for form in (c.present[p], c.imperfect[p], c.future[p])}
    for p in range(5)
] + [set()]
WEATHER = {"pleut", "neige", "pleuvait", "neigeait", "pleuvra", "neigera"}


@some
@given(SEEDS, SPLITS)
def test_verbs_agree_with_pronouns(seed: int, split: str) -> None:
    for s in few(seed, split):
        for i, j in s.sure:
            person = {"we": 2, "you": 3}.get(s.source[i], PERSONS.get(s.target[j]))
            if person is None or s.target[j] not in (*PERSONS, "nous", "vous"):
                continue
            if s.source[i] == "you" and j and s.target[j - 1] in {*CLITICS, *PERSONS}:
                continue  # an object
            place = j + 1
            while s.target[place] in CLITICS:
                place += 1
            if s.source[i] == "you" and s.target[place] not in FINITE[3]:
                assert re.search(r"(er|ir|re)$", s.target[place]) or any(s.target[place] in f for f in FINITE), s
                continue
            assert s.target[place] in FINITE[person] | WEATHER, (s.target[place], s)


BETWEEN = {"ne", "n'", "pas", "jamais", "plus", "rien", "aussi", "déjà", "bien", "mal", *["lui", "leur"]} | {
    word for b in LEXICON.phrases["often"] for word in b.french
}  # fmt: skip
AGREED: dict[str, set[tuple[bool, bool]]] = {}
for _c in LEXICON.conjugations.values():
    for _kind in ((False, False), (True, False), (False, True), (True, True)):
        AGREED.setdefault(participle(_c.participle, *_kind), set()).add(_kind)


def participle_after(target: tuple[str, ...], place: int) -> str:
    """The participle after a form of avoir that comes next, or ""."""
    while target[place] in BETWEEN:
        place += 1
    if target[place] not in LEXICON.conjugations["avoir"].present:
        return ""
    place += 1
    while target[place] in BETWEEN:
        place += 1
    return target[place] if target[place] in AGREED else ""


@pytest.fixture(scope="module")
def short() -> list[Sentence]:
    return list(generate(2, 4000, lengths=(4, 14)))


def test_participles_agree_with_an_object_before_them(short: list[Sentence]) -> None:
    checked = Counter[str]()
    for s in short:
        nouns = {place + len(noun.block.english): (noun.feminine, many) for place, noun, many in nouns_of(s)}
        for i, j in sorted(s.sure):
            word, after = s.source[i], ""
            if s.target[j] in ("la", "l'", "le", "les") and word in ("him", "her", "them"):
                after = participle_after(s.target, j + 1)
                good = {"him": [(False, False)], "her": [(True, False)]}.get(word, [(False, True), (True, True)])
            elif word == "that" and s.target[j] in ("que", "qu'") and i in nouns and s.target[j + 1] in PERSONS:
                after = participle_after(s.target, j + 2)
                good = [nouns[i]]
            if after:
                checked[word] += 1
                assert AGREED[after] & set(good), s
    assert all(checked[word] for word in ("him", "her", "them", "that")), checked


def test_participles_with_etre_agree_with_the_subject(short: list[Sentence]) -> None:
    subjects = {"he": {(False, False)}, "she": {(True, False)}, "we": {(False, True)}}
    checked = Counter[str]()
    for s in short:
        for i, j in s.sure:
            place = j + 1
            while s.source[i] in subjects and s.target[place] in CLITICS:
                place += 1
            if s.source[i] in subjects and s.target[place] in LEXICON.conjugations["être"].present:
                place += 1
                while s.target[place] in BETWEEN:
                    place += 1
                if s.target[place] in AGREED:
                    checked[s.source[i]] += 1
                    assert AGREED[s.target[place]] & subjects[s.source[i]], s
    assert all(checked[word] > 5 for word in subjects), checked


def test_adjectives_agree_with_the_subject(short: list[Sentence]) -> None:
    pronouns = {"he": (False, False), "she": (True, False), "we": (False, True), "you": (False, True)}
    checked = Counter[tuple[bool, bool]]()
    for s in short:
        first = {
            place + len(noun.block.english): (noun.feminine, many) for place, noun, many in nouns_of(s) if place == 1
        }
        for i in range(2, len(s.source)):
            kind = pronouns.get(s.source[i - 2], first.get(i - 1))
            if s.source[i] in ADJECTIVES and s.source[i - 1] in ("is", "are", "was", "were") and kind:
                if s.source[i] in ("hot", "cold"):
                    continue  # a person "a chaud"
                form = ADJECTIVES[s.source[i]].forms[2 * kind[1] + kind[0]]
                checked[kind] += 1
                assert {s.target[j] for k, j in s.sure if k == i} <= set(form), s
    assert len(checked) == 4, checked


def test_pronouns_agree_with_what_they_stand_for() -> None:
    """After "the women sleep" and "he sells the car", where the noun cannot be mistaken."""
    draw = random.Random(5).random
    checked = Counter[tuple[str, bool]]()
    for _ in range(9000):
        draft = Draft(view(True), draw, relative_clause)
        tokens = clause(draft, 4)
        tokens += [("et", (draft.say("and"),), (), 0)]
        size = len(draft.english)
        tokens += clause(draft, 4)
        s = finish((*draft.english, "."), [*tokens, (".", (len(draft.english),), (), 0)], LEXICON.aspirated)
        found = [entry for entry in nouns_of(s) if entry[0] < size]
        if len(found) != 1:
            continue
        place, noun, many = found[0]
        for i, j in s.sure:
            word = s.source[i] if i >= size else ""
            if (word == "it" and not many) or (word == "they" and many and place == 1 and noun.person):
                good = {"it": ({"il", "le"}, {"elle", "la"}), "they": ({"ils"}, {"elles"})}[word][noun.feminine]
                checked[word, noun.feminine] += 1
                assert s.target[j] in good | {"l'", "en"}, s
    assert len(checked) == 4, checked


@pytest.mark.parametrize(
    ("infinitive", "forms"),
    [
        ("manger", "mange mange mangeons mangez mangent mangeais mangions mangerai mangé"),
        ("commencer", "commence commence commençons commencez commencent commençais commencions commencerai commencé"),
        ("finir", "finis finit finissons finissez finissent finissais finissions finirai fini"),
        ("vendre", "vends vend vendons vendez vendent vendais vendions vendrai vendu"),
        ("appeler", "appelle appelle appelons appelez appellent appelais appelions appellerai appelé"),
        ("être", "suis est sommes êtes sont étais étions serai été"),
        ("aller", "vais va allons allez vont allais allions irai allé"),
        ("prendre", "prends prend prenons prenez prennent prenais prenions prendrai pris"),
        ("voir", "vois voit voyons voyez voient voyais voyions verrai vu"),
    ],
)
def test_conjugation(infinitive: str, forms: str) -> None:
    c = LEXICON.conjugations.get(infinitive) or conjugate(infinitive)
    assert " ".join((*c.present, c.imperfect[0], c.imperfect[2], c.future[0], c.participle)) == forms


def test_other_forms() -> None:
    assert [participle("dû", f, p) for p in (False, True) for f in (False, True)] == ["dû", "due", "dus", "dues"]
    assert participle("pris", False, True) == "pris"
    assert [plural(word) for word in ("chat", "cheval", "gâteau", "nez")] == ["chats", "chevaux", "gâteaux", "nez"]
    assert adjective_forms(("médiéval", "médiévale")) == ("médiéval", "médiévale", "médiévaux", "médiévales")
    assert [english_verb(base).ing for base in ("see", "make", "hurry")] == ["seeing", "making", "hurrying"]
    assert [english_verb(base).past for base in ("hurry", "agree", "obey")] == ["hurried", "agreed", "obeyed"]
    assert english_verb("stop", double=True).past == "stopped"
