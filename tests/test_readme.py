"""The README's Python blocks run, in order, and print what their comments say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    scope: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, "README.md", "exec"), scope)
    promised = re.findall(r"^print\(.*\)\s+# (.*)$", "\n".join(blocks), re.MULTILINE)
    assert promised
    assert printed.getvalue().splitlines() == promised
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_the_operator_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (README.parent / "docs" / "operator.md").read_text(), re.DOTALL)
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/operator.md", "exec"), scope)
    assert scope["weights"].reduce(scope["FirstToken"]()).shape == (2, 6)  # type: ignore[attr-defined,operator]


def test_the_page_on_modules_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (README.parent / "docs" / "nn.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/nn.md", "exec"), scope)


def test_local_links_lead_somewhere() -> None:
    for page in [README, *sorted((README.parent / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}, which is not there"


PAGES = {
    "linear.md": 2,
    "lookup.md": 2,
    "survey.md": 1,
    "change.md": 3,
    "tasks.md": 1,
    "qa.md": 1,
    "ground.md": 1,
    "pictures.md": 1,
    "summarise.md": 1,
    "vision.md": 3,
}


@pytest.mark.parametrize(("page", "count"), list(PAGES.items()))
def test_pages_run(page: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (README.parent / "docs" / page).read_text(), re.DOTALL)
    assert len(blocks) == count
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, f"docs/{page}", "exec"), scope)
