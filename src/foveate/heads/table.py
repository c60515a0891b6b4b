"""What a survey found, as a table with a row for each head, and as a Parquet file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..extras import need
from ..recording.disk import write_whole
from . import measures
from .state import State

__all__ = ["columns", "read_table", "to_frame", "unmeasured", "write_parquet"]

EXTRA = "heads"
_FACTS = b"foveate"
_SAID = {"model": str, "texts": int, "tokens": int, "measures": dict, "not_captured": list}  # facts, of all there are
_PLAIN = ("module", "layer", "kind", "head", "call")


def columns(state: State, chosen: Sequence[str] = measures.ALL) -> dict[str, list[Any]]:
    """The columns of the table: module, layer, kind, head, call, then each measure with its standard error, how many
    rows it is a mean of, then `nearest` and `agreement` with all heads, and `examples`. None where a number is not
    defined.
    """
    heads = [(layer, h) for layer in state.layers for h in range(layer.heads)]
    found: dict[str, list[Any]] = {
        "module": [layer.module for layer, _ in heads],
        "layer": [layer.layer for layer, _ in heads],
        "kind": [layer.kind for layer, _ in heads],
        "head": [h for _, h in heads],
        "call": [layer.call for layer, _ in heads],
    }
    mean, error = state.means.result()
    values = {name: (mean[:, at], error[:, at]) for at, name in enumerate(measures.MEANS)}
    values["positional"] = state.profile.result()
    values["copy"] = state.copy, torch.zeros_like(state.copy).masked_fill(state.copy.isnan(), torch.nan)
    whole, whole_error = _agreement(state)
    others = whole.clone().fill_diagonal_(-torch.inf).nan_to_num(-torch.inf, neginf=-torch.inf)
    nearest = others.argmax(-1) if len(others) else torch.zeros(0, dtype=torch.int64)
    alone = others.amax(-1) == -torch.inf if len(others) else nearest.bool()
    picked = (t.gather(1, nearest[:, None])[:, 0].masked_fill(alone, torch.nan) for t in (whole, whole_error))
    values["redundancy"] = tuple(picked)  # type: ignore[assignment]
    for name in measures.ALL:
        if name in chosen:
            found[name], found[f"{name}_se"] = (_numbers(t) for t in values[name])
    counts = state.means.rows
    found |= {f"{name}_n": counts[:, at].long().tolist() for at, name in enumerate(measures.MEANS) if name in chosen}
    if state.compared:
        found["nearest"] = [None if one else at for at, one in zip(nearest.tolist(), alone.tolist(), strict=True)]
        found["agreement"] = [_numbers(row) for row in whole]
    if state.links:
        found["examples"] = [[] for _ in heads]
        for (head, *_), example in state.examples.items():
            found["examples"][head].append(asdict(example) | {name: list(getattr(example, name)) for name in _AROUND})
    return found


_AROUND = ("around_query", "around_key")


def _agreement(state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Agreement of all heads and its standard error, NaN between classes, and of heads that nothing is known of."""
    whole, error = (torch.full((state.heads, state.heads), torch.nan, dtype=torch.float64) for _ in range(2))
    for kind, one in state.agreement.items():
        at = torch.tensor(state.of_kind(kind))
        for into, part in zip((whole, error), one.result(), strict=True):
            into[at[:, None], at] = part
    for t in (whole, error):
        t[unmeasured(state)], t[:, unmeasured(state)] = torch.nan, torch.nan
    return whole, error


def unmeasured(state: State) -> torch.Tensor:
    """Which heads (N,) no row was measured of, as their weights are NaN."""
    return state.means.rows[:, measures.MEANS.index("entropy")] == 0


def _numbers(t: torch.Tensor) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in t.tolist()]


def to_frame(state: State, facts: dict[str, Any], chosen: Sequence[str] = measures.ALL) -> Any:
    """A pandas DataFrame; `attrs` holds `facts`. Numbers that are not defined are NaN.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    pandas = need("pandas", EXTRA)
    made = columns(state, chosen)
    frame = pandas.DataFrame(made)
    numbers = [name for name in made if name.removesuffix("_se") in measures.ALL]
    frame[numbers] = frame[numbers].astype("float64")
    for name in ("layer", "nearest"):
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    frame.attrs.update(facts)
    return frame


def write_parquet(path: Path, state: State, facts: dict[str, Any], chosen: Sequence[str] = measures.ALL) -> None:
    """Write the table in one step: who reads sees all of it, or nothing. The same state gives the same bytes.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow, parquet = need("pyarrow", EXTRA), need("pyarrow.parquet", EXTRA)
    made = columns(state, chosen)
    arrays = {name: pyarrow.array(column, _type(pyarrow, name)) for name, column in made.items()}
    table = pyarrow.table(arrays).replace_schema_metadata({_FACTS: json.dumps(facts, sort_keys=True)})
    write_whole(path, lambda file: parquet.write_table(table, file, compression="zstd"))


def _type(pyarrow: Any, name: str) -> Any:
    """The type of a column, whatever is in it."""
    text, whole, number = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    if name in ("module", "kind"):
        return text
    if name == "agreement":
        return pyarrow.list_(number)
    if name == "examples":
        plain = [("text", whole), ("row", whole), ("key", whole), ("weight", number)]
        words = [("query_token", text), ("key_token", text)]
        around = [("around_query", pyarrow.list_(text)), ("around_key", pyarrow.list_(text))]
        return pyarrow.list_(pyarrow.struct([*plain, *words, *around, ("at_query", whole), ("at_key", whole)]))
    return number if name.removesuffix("_se") in measures.ALL else whole


def read_table(path: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The columns and facts of a file that `write_parquet` wrote.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ValueError: it is no such file; the text says what it lacks.
        OSError: it cannot be read.
    """
    pyarrow, parquet = need("pyarrow", EXTRA), need("pyarrow.parquet", EXTRA)
    try:
        with path.open("rb") as file:
            table = parquet.read_table(file)
        facts = json.loads((table.schema.metadata or {}).get(_FACTS, b"null"))
        made = table.to_pydict()
        wrong = _wrong(pyarrow, table.schema, made, facts)
    except (ValueError, RecursionError) as error:
        wrong = str(error)
    if wrong:
        raise ValueError(f"{path.name} is no survey of heads, as foveate heads -o writes it: {wrong}")
    return made, facts


def _wrong(pyarrow: Any, schema: Any, made: dict[str, list[Any]], facts: Any) -> str:
    """What a table has that no survey has, or lacks; nothing of one that is."""
    if not isinstance(facts, dict):
        return "it does not say what was measured"
    for name, kind in _SAID.items():
        if not isinstance(facts.get(name), kind):
            return f"it does not say {name!r}"
    measured = [name for name in measures.ALL if name in made]
    for name in (*_PLAIN, *(f"{name}_se" for name in measured)):
        if name not in made:
            return f"it has no column {name!r}"
    known = [*_PLAIN, *measured, *(f"{name}_se" for name in measured), "agreement", "examples"]
    for name in known:
        if name in made and schema.field(name).type != _type(pyarrow, name):
            return f"the column {name!r} holds {str(schema.field(name).type)[:40]}"
        if name in (*_PLAIN, "agreement", "examples") and name != "layer" and None in made.get(name, ()):
            return f"the column {name!r} has gaps"
    if any(len(row) != len(made["head"]) for row in made.get("agreement", ())):
        return "agreement is of every head with every head"
    return ""
