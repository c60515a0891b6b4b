"""Eight viewers at once: no request is lost, every answer is right, and what is refused is refused in a sentence."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import foveate as fv
from foveate.apps.serve import Page
from foveate.apps.workspace import Workspace
from foveate.views.source import Source
from foveate.views.words import from_pieces

TOKENS, HEADS, REQUESTS = 900, 3, 2000


@pytest.fixture
def viewers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module("viewers")


def test_eight_viewers_lose_nothing(viewers: Any, tmp_path: Path, one_thread: None) -> None:
    path = viewers.recorded(tmp_path, TOKENS, HEADS, 16)
    workspace = Workspace()
    document = workspace.add(Source(fv.load(path), [from_pieces(["token"] * TOKENS)]))
    with Page(workspace, port=0) as page:
        visits = viewers.storm(page, document, TOKENS, HEADS, 8, REQUESTS)
    assert [what for one in visits for what in one.wrong] == []
    assert sum(one.answered for one in visits) == REQUESTS
    kinds = {name for one in visits for name in one.taken}
    assert kinds == {"row", "topk", "tile", "map", "pair", "document", "refused"}
