"""The built page is that of its source: checked by hash here, without Node, and byte for byte by `npm run check`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE, STATIC = ROOT / "web", ROOT / "src/foveate/apps/static"
BUILT = ["foveate.js", "foveate.css", "foveate-widget.js", "foveate-survey.js", "foveate-survey.css"]


def source_hash() -> str:
    """As web/build.mjs: sha256 over every file's path and content, in the order of the paths."""
    digest = hashlib.sha256()
    files = {path.relative_to(SOURCE).as_posix(): path for path in (SOURCE / "src").rglob("*") if path.is_file()}
    for name in sorted(files):
        digest.update(f"{name}\0".encode() + files[name].read_bytes() + b"\0")
    return digest.hexdigest()


@pytest.mark.skipif(not SOURCE.is_dir(), reason="an installed package has no web/")
@pytest.mark.parametrize("name", BUILT)
def test_the_built_page_is_that_of_its_source(name: str) -> None:
    first = (STATIC / name).read_text(encoding="utf-8").partition("\n")[0]
    found = re.search(r"source sha256 ([0-9a-f]{64})", first)
    assert found, f"{name} does not name its source"
    assert found[1] == source_hash(), f"{name} is stale; run `npm run build` in web/"


def test_the_page_asks_no_other_machine() -> None:
    for name in BUILT:
        text = (STATIC / name).read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"\beval\(|new Function|innerHTML|@import", text), name


@pytest.mark.skipif(not SOURCE.is_dir(), reason="an installed package has no web/")
def test_the_lock_file_names_no_registry() -> None:
    assert "resolved" not in (SOURCE / "package-lock.json").read_text(encoding="utf-8")
