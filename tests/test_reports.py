"""Made-up reports: what the headline says stands in them, splits share no invented word, and the files are checked."""

from __future__ import annotations

import random
import re
from itertools import islice
from pathlib import Path

import pytest

from foveate.tasks import reports
from foveate.tasks.reports import drawing, lexicon
from foveate.tasks.reports.__main__ import main


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def invented(split: str) -> set[str]:
    found = {word for one in reports.reports(3, 300, split=split) for word in words(f"{one.text} {one.headline}")}
    return {word for word in found - lexicon.load().words if word.isalpha()}


def test_the_headline_says_what_the_report_does() -> None:
    known = lexicon.load().words
    for one in reports.reports(1, 600, words=(20, 90)):
        assert "{" not in one.text + one.headline
        assert one.headline[0] == one.headline[0].upper()
        assert set(words(one.headline)) - known <= set(words(one.text))
        assert re.findall(r"[.]", one.text)


def test_every_story_is_told_and_its_news_need_not_come_first() -> None:
    some = list(reports.reports(2, 600))
    assert {one.story for one in some} == {story.name for story in lexicon.load().stories}
    firsts = [set(words(one.text.split(". ")[0])) for one in some]
    news = [set(words(one.headline)) - lexicon.load().words for one in some]
    assert sum(facts <= first for facts, first in zip(news, firsts, strict=True)) < 60
    assert 150 < sum(not facts & first for facts, first in zip(news, firsts, strict=True)) < 350


def test_no_name_is_there_twice() -> None:
    page = drawing._Page(lexicon.load(), "train", random.Random(1))
    numbers = [page.fresh("number") for _ in range(300)]
    assert len(set(numbers)) == 300


def test_reports_are_as_long_as_asked() -> None:
    lengths = [len(one.text.split()) for one in reports.reports(1, 200, words=(30, 80))]
    assert min(lengths) >= 30 and max(lengths) > 75 and max(lengths) < 110
    (long,) = reports.reports(1, 1, words=(400, 400))
    assert 400 <= len(long.text.split()) < 430


def test_the_same_seed_draws_the_same_and_the_longer_run_begins_with_the_shorter() -> None:
    five = list(reports.reports(5, 5))
    assert five == list(islice(reports.reports(5, 9), 5))
    assert five != list(reports.reports(6, 5))


def test_what_is_held_out_is_never_heard_of() -> None:
    train, valid, test = map(invented, reports.SPLITS)
    assert min(len(train), len(valid), len(test)) > 500
    assert not train & test and not train & valid and not valid & test


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "unknown split 'dev'; expected 'train', 'valid' or 'test'"),
        ({"count": -1}, "count must not be negative; got -1"),
        ({"words": (30, 20)}, r"20 <= shortest <= longest; got \(30, 20\)"),
        ({"words": (5, 20)}, r"20 <= shortest <= longest; got \(5, 20\)"),
    ],
)
def test_numbers_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reports.reports(1, **{"count": 1, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\n= who nobody\n^ {who}\n1 {who} came.\n", "stories.txt:1: lines with = name a slot, then a kind"),
        ("[a]\n= person person\n^ {person}\n1 {person} came.\n", "lines with = name a slot, then a kind of kinds.txt"),
        ("[a]\n= who person\n1 {who} came.\n", r"a story needs one headline \(\^\) and sentences that tell it"),
        ("[a]\n= who person\n^ {who}\n. {person} came.\n", "a story needs one headline"),
        (
            "[a]\n= who person\n^ {who}\n1 {who} came.\n. {who} went.\n",
            "there is no slot or kind {who} for '{who} went",
        ),
        ("[a]\n= who person\n^ {what}\n1 {who} came.\n", "there is no slot or kind {what} for '{what}'"),
        ("[a]\n= who person\n^ {who}\n1 {who} came.\n1 It rained.\n", "the headline has {who}, which not every report"),
        ("= who person\n", r"stories.txt:1: expected \[a header\], then lines that begin with"),
    ],
)
def test_a_mistake_in_the_lexicon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "kinds.txt").write_text("[weekday]\nword Monday\n", encoding="utf-8")
    (tmp_path / "stories.txt").write_text(text, encoding="utf-8")
    monkeypatch.setattr(lexicon, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=message):
        lexicon.load.__wrapped__()


def test_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--count", "3", "--seed", "2", "--words", "20", "30", "--split", "test"]
    main(options)
    main([*options, "-o", str(tmp_path / "x.tsv")])
    wanted = "".join(f"{one.text}\t{one.headline}\n" for one in reports.reports(2, 3, words=(20, 30), split="test"))
    assert capsys.readouterr().out == wanted == (tmp_path / "x.tsv").read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match=r"error: words must be \(shortest, longest\)"):
        main(["--words", "9", "5"])
