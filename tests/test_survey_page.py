"""The report of a survey: one file that holds what it shows, and shows it to hands, keys and eyes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("pyarrow")
pytest.importorskip("transformers")

from foveate.apps.cli import main
from foveate.apps.commands import common
from foveate.apps.serve import Page
from foveate.apps.survey_page import report_of, served_of
from foveate.apps.workspace import Workspace
from foveate.heads import subject_of
from foveate.heads.shard import Options, measure
from foveate.heads.surveying import facts_of
from foveate.heads.table import write_parquet
from hf_models import FAMILIES
from pages import ask, settled

pytestmark = pytest.mark.usefixtures("one_thread")

NOTHING = "rgba(0, 0, 0, 0)"
HOSTILE = "</script><img src=x onerror=alert(1)>"


class Words:
    """Ids as words; one of them would like to be markup."""

    all_special_ids = (3,)
    pad_token_id = 0

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [HOSTILE if i == 7 else f"w{i}" for i in ids]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subject = subject_of(FAMILIES["gpt2"].build("sdpa"), Words(), name="a <b>model</b>")
    draw = torch.Generator().manual_seed(1)
    texts = [(n, torch.randint(3, 14, (9,), generator=draw).tolist()) for n in range(12)]
    state, path = measure(subject, texts, Options()), tmp_path_factory.mktemp("survey") / "heads.parquet"
    wanted = ("entropy", "previous", "copy", "redundancy")
    write_parquet(path, state, {"corpus": ["texts.txt"], **facts_of(state, wanted)}, wanted)
    return path


def test_nothing_in_it_becomes_markup(table: Path) -> None:
    text = report_of(table)
    assert HOSTILE not in text
    assert "<b>model" not in text
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert "unsafe" not in policy[1]


def test_only_a_survey_has_a_report(tmp_path: Path, table: Path, capsys: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    other, page = tmp_path / "other.parquet", tmp_path / "page.html"
    parquet.write_table(pyarrow.table({"a": [1]}), other)
    assert main(["heads", str(other), "--report", str(page)]) == 1
    assert "other.parquet is no survey of heads" in capsys.readouterr().err
    assert main(["heads", str(table), "--report", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == report_of(table)
    assert main(["heads", "model", "-o", "x.parquet"]) == 2
    assert "a survey needs a CORPUS" in capsys.readouterr().err


def test_view_serves_it(table: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the point where the command would wait for Ctrl-C."""
    answers: list[tuple[int, dict[str, str], bytes]] = []

    def serve(page: Page, browser: bool) -> None:
        assert not browser
        with page:
            answers.extend(ask(page, path) for path in ("/", "/static/foveate-survey.js", "/api/documents"))
            answers.append(ask(page, "/", headers={"Cookie": ""}))

    monkeypatch.setattr(common, "serve", serve)
    assert main(["view", str(table), "--no-open", "--port", "0"]) == 0
    (status, headers, body), script, documents, stranger = answers
    assert (status, script[0], documents[2], stranger[0]) == (200, 200, b"[]", 403)
    assert body.decode() == served_of(table)
    assert HOSTILE not in body.decode()
    assert "unsafe" not in headers["content-security-policy"]


def test_view_writes_it_or_says_what_a_survey_has_not(table: Path, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "page.html"
    assert main(["view", str(table), "--export", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == report_of(table)
    renamed = tmp_path / "heads"
    renamed.write_bytes(table.read_bytes())
    assert main(["view", str(renamed), "--export", str(page)]) == 0
    capsys.readouterr()
    for words, told in (
        ([str(table), "run.fov"], "a survey is shown alone"),
        (["run.fov", str(table)], "a survey is shown alone"),
        ([str(table), "--text", "A text."], "leave out --text"),
        ([str(table), "--terminal"], "leave out --terminal"),
        ([str(table), "--export", str(page), "--layer", "0"], "leave out --layer"),
    ):
        assert main(["view", *words]) == 2
        assert told in capsys.readouterr().err
    assert main(["view", str(tmp_path / "none.parquet")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
    page.write_bytes(b"PAR1 and nothing more")
    assert main(["view", str(page)]) == 1
    assert "page.html is no survey of heads" in capsys.readouterr().err


def test_a_table_that_looks_like_one_is_looked_at_closely(table: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    good, other = parquet.read_table(table), tmp_path / "other.parquet"
    facts = json.loads(good.schema.metadata[b"foveate"])
    at, examples = (good.schema.get_field_index(name) for name in ("agreement", "examples"))
    short = pyarrow.array([row[1:] for row in good["agreement"].to_pylist()])
    gaps = pyarrow.array([None] * len(good), good.schema.field("examples").type)
    for bad, told in (
        (good.replace_schema_metadata(None), "it does not say what was measured"),
        (good.replace_schema_metadata({"foveate": "[" * 100000}), "recursion"),
        (good.replace_schema_metadata({"foveate": json.dumps(facts | {"texts": "many"})}), "it does not say 'texts'"),
        (good.drop_columns("call"), "it has no column 'call'"),
        (good.drop_columns("entropy_se"), "it has no column 'entropy_se'"),
        (good.set_column(2, "kind", pyarrow.array(range(len(good)))), "the column 'kind' holds int64"),
        (good.set_column(at, "agreement", short), "agreement is of every head with every head"),
        (good.set_column(examples, "examples", gaps), "the column 'examples' has gaps"),
    ):
        parquet.write_table(bad, other)
        with pytest.raises(ValueError, match=f"other.parquet is no survey of heads.*{told}"):
            report_of(other)


@pytest.mark.browser
def test_it_is_served_under_the_policy_of_the_page(table: Path, tab: Any) -> None:
    with Page(Workspace(), port=0, front=served_of(table)) as page:
        tab.goto(page.url)
        settled(tab)
        assert tab.locator(".sv-cell").count() == 12
        assert "token" not in tab.evaluate("location.href")
        assert tab.locator(".sv-cell").first.evaluate("cell => getComputedStyle(cell).backgroundColor") != NOTHING
        tab.goto("about:blank")


@pytest.mark.browser
def test_heads_are_looked_at_by_hand_and_by_keys(table: Path, tmp_path: Path, tab: Any) -> None:
    (tmp_path / "page.html").write_text(report_of(table), encoding="utf-8")
    tab.set_viewport_size({"width": 1200, "height": 900})
    tab.goto((tmp_path / "page.html").as_uri())
    settled(tab)
    cells = tab.locator(".sv-cell")
    assert cells.count() == 12
    assert tab.locator("h1").inner_text() == "What the heads of a <b>model</b> do"
    tab.get_by_role("button", name="Previous", exact=True).click()
    cells.nth(1).click()
    settled(tab)
    assert tab.locator(".sv-detail h2").inner_text() == "Layer 0, head 1"
    tab.mouse.move(1, 1)
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowRight")
    settled(tab)
    assert tab.locator(".sv-detail h2").inner_text() == "Layer 1, head 2"
    assert re.fullmatch(r"1\.2: Previous 0\.\d+ ± [\d.]+", cells.nth(8).get_attribute("aria-label"))
    assert tab.locator(".sv-examples li").count() == 8
    shown = [float(text) for text in tab.locator(".sv-value").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    tab.locator("input[type=range]").fill("0.5")
    settled(tab)
    assert tab.locator(".sv-group").count() == 1
    assert tab.locator(".sv-group .sv-chip").count() == 12
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1200
    held = tab.evaluate("JSON.stringify(JSON.parse(document.getElementById('foveate-data').textContent).examples)")
    assert HOSTILE in held
    assert tab.locator("img").count() == 0
