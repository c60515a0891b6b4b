"""Shared by all tests: where the data lies, a browser, and shape annotations checked at run time when asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("busy", suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")  # how fast examples come says how busy the machine is

if os.environ.get("FOVEATE_CHECK_SHAPES"):  # a session of its own: `make test` runs one
    from jaxtyping import install_import_hook

    names = "attend describe explain indexing linear map masks normalizers operator positions retrieval"
    names += " scores shapes stats nn"
    install_import_hook([f"foveate.{name}" for name in names.split()], "beartype.beartype")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of optional data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("FOVEATE_DATA", Path(__file__).parent.parent / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"needs the data sets; set FOVEATE_DATA (looked in {folder.name})")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    import pages

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=pages.CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def serve() -> Iterator[Any]:
    """Serves documents, and runs a model on new texts if one is given."""
    from foveate.apps.serve import Page
    from foveate.apps.workspace import Workspace

    served: list[Any] = []

    def start(*sources: Any, model: Any = None) -> Any:
        workspace = Workspace(model)
        for source in sources:
            workspace.add(source)
        served.append(Page(workspace, port=0).start())
        return served[-1]

    yield start
    for page in served:
        page.close()


@pytest.fixture
def tab(browser: Any, serve: Any) -> Iterator[Any]:
    """A tab in which every request must stay on this machine and no script or policy may complain.

    It needs `serve` only so that it closes before the pages that it looks at. FOVEATE_SLOW_PAGE=4 makes frames three
    frames late, replies 100 ms, and the page's processor four times slower.
    """
    import pages

    context = browser.new_context(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce")
    requests: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    pages.watch(page)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.complaints = complaints
    yield page
    context.close()
    outside = [url for url in requests if not re.match(r"http://127\.0\.0\.1:\d+/|file:///|data:|blob:", url)]
    assert outside == []
    assert complaints == []
