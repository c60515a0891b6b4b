"""The house rules that a machine can check: import direction, public names, sizes, optional packages, no pickle."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import foveate

SOURCE = Path(foveate.__file__).parent
FILES = sorted(p for p in SOURCE.rglob("*.py"))

# An import may only point to a layer of a lower number, or stay in its own.
LAYERS = {
    "describe": 0,
    "errors": 0,
    "extras": 0,
    "lengths": 0,
    "lines": 0,
    "picturefile": 0,
    "pieces": 0,
    "shapes": 0,
    "native": 0,
    "gpu": 0,
    "masks": 1,
    "scores": 1,
    "biases": 1,
    "normalizers": 1,
    "positions": 1,
    "operator": 2,
    "indexing": 2,
    "explain": 3,
    "stats": 3,
    "map": 4,
    "ragged": 5,
    "attend": 5,
    "linear": 5,
    "retrieval": 5,
    "hf": 6,
    "nn": 6,
    "recording": 6,
    "watch": 7,
    "change": 8,
    "heads": 9,
    "faithful": 10,
    "plot": 11,
    "tasks": 11,
    "views": 11,
    "vision": 11,
    "apps": 12,
}
OPTIONAL = {
    "transformers",
    "tokenizers",
    "starlette",
    "uvicorn",
    "matplotlib",
    "rich",
    "IPython",
    "sacrebleu",
    "anywidget",
    "faiss",
    "hnswlib",
    "pandas",
    "pyarrow",
    "ray",
    "triton",
}
MAY_IMPORT_OPTIONAL = {"apps", "heads", "plot", "tasks", "hf"}
MAY_IMPORT_TRITON = {"gpu"}  # and nothing else that is optional


def layer(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Top-level parts of foveate, or outside packages, that a file imports, wherever in the file it does."""
    found = set()
    package = path.relative_to(SOURCE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            base = ("foveate", *package[: len(package) - (node.level - 1)])
            tail = tuple((node.module or "").split(".")) if node.module else ()
            if tail or base != ("foveate",):
                found.add(".".join((*base, *tail)))
            else:
                found |= {f"foveate.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    here = layer(path)
    if here == "__init__" or here == "__main__":
        return
    assert here in LAYERS, f"{here} has no place in the layers; give it one here and in docs/DESIGN.md"
    for name in imported(path):
        top = name.split(".")
        if top[0] == "foveate" and len(top) > 1:
            assert LAYERS[top[1]] <= LAYERS[here], f"{path.name} ({here}) may not import {top[1]}"
        if top[0] in OPTIONAL:
            may = MAY_IMPORT_TRITON if top[0] == "triton" else MAY_IMPORT_OPTIONAL
            assert here in may, f"{path.name} ({here}) may not import {top[0]}"


def test_the_import_check_can_fail(tmp_path: Path) -> None:
    assert "foveate.views.source" in imported_from("from ..views.source import Source", "stats/x.py")
    assert "foveate.masks" in imported_from("from .. import masks", "operator/x.py")
    assert "starlette.routing" in imported_from("def f():\n    import starlette.routing", "views/x.py")


def imported_from(text: str, place: str) -> set[str]:
    class Fake(type(SOURCE)):  # type: ignore[misc]
        def read_text(self, *args: object, **kwargs: object) -> str:
            return text

    return imported(Fake(SOURCE / place))


def test_public_names_are_exactly_these() -> None:
    assert sorted(foveate.__all__) == [
        "AttentionMap",
        "Picture",
        "Recording",
        "attention",
        "block",
        "config",
        "export_html",
        "faithful",
        "head_view",
        "heads",
        "hf",
        "knockout",
        "linear",
        "linear_attention",
        "load",
        "lookup",
        "masks",
        "nn",
        "normalizers",
        "plot",
        "positions",
        "replace",
        "scale",
        "scores",
        "stats",
        "tasks",
        "view",
        "vision",
        "watch",
    ]
    for name in foveate.__all__:
        assert getattr(foveate, name) is not None
    assert set(foveate.__all__) <= set(dir(foveate))
    assert callable(foveate.watch)
    assert callable(foveate.view)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'attend_to'"):
        foveate.attend_to  # noqa: B018


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is over 60 lines"


def test_nothing_can_unpickle() -> None:
    banned = ("import pickle", "from pickle", "torch.load", "torch.save", "allow_pickle=True", "joblib", "cloudpickle")
    for path in FILES:
        text = path.read_text()
        assert not [word for word in banned if word in text], path.name
        assert "trust_remote_code=True" not in text, path.name


def in_a_fresh_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


def test_the_core_runs_without_any_optional_package() -> None:
    code = BLOCK.format(names=OPTIONAL) + (
        "import torch, foveate as fv\n"
        "o, w = fv.attention([1, .5], [[1, .5], [.1, .9]], [[10, 20], [30, 40]], score='dot')\n"
        "layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)\n"
        "x = torch.randn(1, 3, 8)\n"
        "with fv.watch(layer) as seen:\n"
        "    layer(x, x, x)\n"
        "print(len(seen), w.shape)\n"
    )
    done = in_a_fresh_process(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "torch.Size([2])"]


def test_blocking_really_blocks() -> None:
    done = in_a_fresh_process(BLOCK.format(names=OPTIONAL) + "import starlette")
    assert done.returncode != 0
    assert "No module named 'starlette'" in done.stderr


def test_import_is_lean() -> None:
    loaded = f"import sys, foveate; print(sorted({{m.split('.')[0] for m in sys.modules}} & {OPTIONAL!r}))"
    assert in_a_fresh_process(loaded).stdout.strip() == "[]"
