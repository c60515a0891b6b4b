"""The core's build: with a compiler, without one, and what the environment says at run time."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from foveate import config
from foveate.native import abi, build, library

ROOT = Path(__file__).parent.parent


def test_the_portable_part_compiles_alone_and_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("needs a C++ compiler")
    monkeypatch.setattr("platform.machine", lambda: "other")  # whatever this machine has besides is left out
    made = build.build(tmp_path / "new")
    assert [p.name for p in made.parent.iterdir()] == [library.LIBRARY]
    core = library.load(made, "1")
    assert core.library is not None and core.isa == "portable"
    assert library.load(made, "avx512").library is None
    assert "this machine runs portable" in library.load(made, "avx512").reason


@pytest.mark.parametrize("cxx", ["false", "no-such-compiler", "false --with an option"])
def test_no_compiler(cxx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", cxx)
    with pytest.raises(build.BuildError, match=r"^(false failed \(1\)|no-such-compiler could not be run)"):
        build.build(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match="no C\\+\\+ compiler was found"):
        build.build(tmp_path)


def hook(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str]]:
    """The package's build hook, and what it warns of; hatchling itself is not here."""
    said: list[str] = []

    class Interface:
        root = str(ROOT)
        app = SimpleNamespace(display_warning=said.append)

    names = ["hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    interface = ModuleType("interface")
    interface.BuildHookInterface = Interface  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{names[-1]}.interface", interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, said


def test_a_wheel_is_pure_without_a_compiler_and_holds_the_core_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    module, said = hook(monkeypatch)
    monkeypatch.setenv("CXX", "false")
    data: dict[str, Any] = {"force_include": {}, "pure_python": True}
    made = module.NativeCore()
    made.initialize("standard", data)
    made.finalize("standard", data, "")
    assert data == {"force_include": {}, "pure_python": True}
    assert len(said) == 1 and "installed without its compiled core: false failed" in said[0]

    built = SimpleNamespace(build=lambda folder: folder / "_core.so", LIBRARY="_core.so", HERE=Path("here"))
    built.BuildError = build.BuildError
    monkeypatch.setattr(module, "_builder", lambda root: built)
    made.initialize("standard", data)
    made.finalize("standard", data, "")
    assert list(data["force_include"].values()) == ["foveate/native/_core.so"] and data["pure_python"] is False
    assert re.fullmatch(r"py3-none-\w+", data["tag"])
    data = {"force_include": {}}
    made.initialize("editable", data)  # built where the sources are
    made.finalize("editable", data, "")
    assert data == {"force_include": {}}


RUN = "import foveate as fv, torch; print(fv.config()); print(fv.attention(*[torch.ones(1, 8, 256, 4)] * 3)[0].sum())"


def run_with(value: str) -> subprocess.CompletedProcess[str]:
    code = f"import os; os.environ['FOVEATE_NATIVE'] = {value!r}; {RUN}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("value", ["0", "portable"])
def test_the_environment_turns_it_off_or_chooses_its_instructions(value: str) -> None:
    done = run_with(value)
    assert done.returncode == 0, done.stderr
    told, total = done.stdout.splitlines()
    assert total == "tensor(8192.)"
    expected = library.load(Path(library.__file__).parent / library.LIBRARY, value)
    assert f"native={expected.library is not None}, isa={expected.isa!r}" in told
    assert expected.reason in told


@pytest.mark.parametrize("value", ["", "off", "AVX2", "2"])
def test_other_values_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"FOVEATE_NATIVE must be one of 0, 1, portable, .*; got '"):
        library.load(Path("none"), value)


def test_why_it_is_not_in_use(tmp_path: Path) -> None:
    assert "it was not built" in library.load(tmp_path / "none.so", "1").reason
    (tmp_path / "broken.so").write_text("no library")
    assert "it could not be loaded" in library.load(tmp_path / "broken.so", "1").reason
    assert library.load(tmp_path / "none.so", "0").reason == "FOVEATE_NATIVE=0 turns it off"
    told = config()
    assert told.threads == torch.get_num_threads() and told.native == (told.isa is not None)


def test_both_sides_list_the_same_fields() -> None:
    """`abi.py` mirrors `abi.h`; the size alone would not show two fields that changed places."""
    text = (Path(abi.__file__).parent / "abi.h").read_text()
    body = text.split("typedef struct {")[2].split("} FvCall;")[0]
    plain = re.sub(r"//.*", "", body)
    names = [re.sub(r"\[.*\]|\*|\s", "", part) for line in plain.split(";") for part in line.split(",")]
    names = [re.sub(r"^(const)?(int64_t|int32_t|uint64_t|double|float|void|FvPooled)", "", name) for name in names]
    assert [name for name in names if name] == [field[0] for field in abi.Call._fields_]


def test_the_core_needs_no_python_or_torch_headers() -> None:
    for path in build.SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= 500
        assert not re.search(r"#include <(torch|Python|ATen|omp|vector|string>|thread|algorithm)", text), path.name
    imports = [node for node in ast.walk(ast.parse(Path(build.__file__).read_text())) if isinstance(node, ast.Import)]
    assert "torch" not in {name.name for node in imports for name in node.names}
