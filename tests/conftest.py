"""Shared by all tests: where the data lies, and shape annotations checked at run time when asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

if os.environ.get("FOVEATE_CHECK_SHAPES"):  # a session of its own: `make test` runs one
    from jaxtyping import install_import_hook

    names = "attend describe explain indexing map masks normalizers operator scores shapes stats nn"
    install_import_hook([f"foveate.{name}" for name in names.split()], "beartype.beartype")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of optional data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("FOVEATE_DATA", Path(__file__).parent.parent / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"needs the data sets; set FOVEATE_DATA (looked in {folder.name})")
    return folder
