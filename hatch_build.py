"""Compiles the C++ core when the package is built. Without a C++ compiler the package is still whole, only slower."""

from __future__ import annotations

import importlib.util
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeCore(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        native = _builder(Path(self.root))
        editable = version == "editable"
        self.scratch = tempfile.TemporaryDirectory()
        try:
            made = native.build(native.HERE if editable else Path(self.scratch.name))
        except native.BuildError as error:
            self.app.display_warning(f"foveate is installed without its compiled core: {error}")
            return
        if not editable:
            build_data["force_include"][str(made)] = f"foveate/native/{native.LIBRARY}"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact: str) -> None:
        self.scratch.cleanup()


def _builder(root: Path) -> ModuleType:
    """`foveate/native/build.py`, by its path: foveate itself needs torch, which is not here."""
    spec = importlib.util.spec_from_file_location("native_build", root / "src" / "foveate" / "native" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
