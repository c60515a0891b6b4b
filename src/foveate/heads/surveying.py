"""`fv.heads.survey`: what every head of a model does, over a corpus."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..extras import need
from . import measures as known
from .engine import Folder, Make, Measure, gather, here, jobs_of
from .sampling import SAMPLE
from .shard import Options
from .state import State
from .subject import Text, subject_of
from .table import to_frame
from .workers import in_processes, on_ray

__all__ = ["ENGINES", "chosen", "facts_of", "run", "survey"]

ENGINES = ("local", "ray")


def survey(
    model: nn.Module | Make,
    texts: Iterable[Text],
    *,
    tokenizer: Any = None,
    measures: Iterable[str] | None = None,
    layers: Iterable[str | int] | None = None,
    rows: int = SAMPLE,
    examples: bool = True,
    most_tokens: int | None = None,
    special: Iterable[int] = (),
    processes: int = 1,
    engine: str = "local",
    progress: Callable[[int], None] | None = None,
) -> Any:
    """Measure every head of a model over a corpus, in constant memory; see `foveate.heads.measures` and docs/survey.md.

    Args:
        model: any model that `fv.watch` sees: of transformers, or a module that is called with ids (B, n). For several
            processes, a function of a module that gives a `Subject` (`subject_of(model, tokenizer)`): each makes its
            own.
        texts: strings (they need a `tokenizer`), lists of token ids, or, for a model that reads two texts, pairs
            (source, target). Read once, a thousand at a time.
        measures: names of what is wanted, see `measures.ALL`. Without "positional" or "redundancy" less is computed.
        layers: as in `fv.watch`. Default: all.
        rows: queries of a text that are measured at most; of a longer one they are spread evenly over it.
        examples: keep the strongest links of each head.
        most_tokens: longer texts are cut off there, or where the model's positions end.
        special: ids that are no part of a text, beside those that the tokenizer names.
        processes: how many work side by side. The result is the same, bit by bit, for any number, as long as each has
            one thread.
        engine: "local" or "ray"; `progress` is told how many texts are done.

    Returns:
        A pandas DataFrame with a row for each head: `module`, `layer`, `kind` (encoder, decoder, cross), `head`,
        `call` (which call of the module in a pass), each measure with its standard error `NAME_se` and how many rows
        it is a mean of, `NAME_n`; `nearest` and `agreement` (with all heads, in the order of the rows), and
        `examples`. NaN or None where something is not defined. `attrs` says of what, and what each measure is.

    Raises:
        ValueError: something is no text, or an option is unknown. CaptureError: no attention can be seen.
        MissingExtraError: pandas (or Ray) is not installed.
    """
    need("pandas", "heads")
    wanted = chosen(measures)
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; expected {' or '.join(map(repr, ENGINES))}")
    if rows < 1 or processes < 1:
        raise ValueError(f"rows and processes must be at least 1; got {rows} and {processes}")
    options = Options.of(wanted, rows=rows, examples=examples, layers=layers)
    if not isinstance(model, nn.Module):
        state = run(model, texts, options, processes=processes, engine=engine, progress=progress)
    elif processes > 1 or engine != "local":
        raise ValueError("several processes make a model each: give a function that makes a `Subject`, not a model")
    else:
        made = subject_of(model, tokenizer, most=most_tokens, special=special)
        with _evaluating(model):
            state = gather(jobs_of(texts), here(made, options), tell=progress)
    return to_frame(state, facts_of(state, wanted), wanted)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards each module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def run(
    make: Make,
    texts: Iterable[Text],
    options: Options,
    *,
    processes: int = 1,
    threads: int = 1,
    engine: str = "local",
    folder: Folder | None = None,
    progress: Callable[[int], None] | None = None,
) -> State:
    """A survey by workers that make their models, with what is done kept in a folder."""
    work: Measure
    if engine == "ray":
        work = on_ray(make, options, processes, threads)
    elif processes > 1:
        work = in_processes(make, options, processes, threads)
    else:
        work = _alone(make, options, threads)
    return gather(jobs_of(texts), work, folder, progress)


def _alone(make: Make, options: Options, threads: int) -> Measure:
    """In this process, with as many threads as a worker has. The model is made if something is to be done."""

    def run(jobs: Any) -> Any:
        before, subject = torch.get_num_threads(), None
        torch.set_num_threads(threads)
        try:
            for job in jobs:
                subject = subject or make()
                yield from here(subject, options)(iter([job]))
        finally:
            torch.set_num_threads(before)

    return run


def chosen(measures: Iterable[str] | None) -> tuple[str, ...]:
    """The measures asked for, in the order of the table.

    Raises:
        UserError: there is no such measure.
    """
    if measures is None:
        return known.ALL
    wanted = list(measures)
    unknown = [name for name in wanted if name not in known.ALL]
    if unknown or not wanted:
        got = repr(unknown[0]) if unknown else "none"
        raise UserError(f"measures are {', '.join(known.ALL)}; got {got}")
    return tuple(name for name in known.ALL if name in wanted)


def facts_of(state: State, wanted: tuple[str, ...]) -> dict[str, Any]:
    """What a survey was made of, for the table's metadata."""
    versions = {"torch": str(torch.__version__)}
    for name in ("foveate", "transformers"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "model": state.about["name"],
        "digest": state.about["model"],
        "texts": state.texts,
        "tokens": state.tokens,
        "cut": state.cut,
        "rows": state.about["rows"],
        "not_captured": list(state.missed),
        "measures": {name: known.MEANING[name] for name in wanted},
        "versions": versions,
    }
