"""`foveate cost`: what attention costs on this machine, form by form, as n grows."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common
from foveate.apps.errors import UsageError

if TYPE_CHECKING:
    from foveate.apps.cost.study import Plan, Study

Shown = tuple[Callable[[str, bool], None], Callable[[str], None]]
_DISTURBED = 0.2  # share of the wall time in which a single thread did not run
FOLDER = "foveate-cost"

_EXAMPLES = """  foveate cost                                      the usual forms, 512 to 8,192
  foveate cost --forms softmax,causal,window:256,linear --lengths 512..16384 -o cost/
  foveate cost --forms eager,statistics --lengths 1000,2000,4000 --threads 2 --json
  foveate cost --lengths 512..65536                 goes on: what the folder holds is not measured again
"""


def add(commands: Any) -> None:
    from foveate.apps.cost.forms import listing
    from foveate.apps.cost.settings import DTYPES, Settings

    usual = Settings()
    summary = "measure what attention costs on this machine as n grows"
    parser = common.subcommand(commands, "cost", summary, f"{_EXAMPLES}\nforms:\n{listing()}")
    forms = "softmax,causal,window:256,linear,eager"
    parser.add_argument("--forms", default=forms, help=f"what to compare, the first with all ({forms})")
    about = "values of n: 512,1000,4096 or, doubling, 512..16384 (512..8192)"
    parser.add_argument("--lengths", default="512..8192", help=about)
    parser.add_argument("--heads", type=int, default=usual.heads, help=f"heads ({usual.heads})")
    parser.add_argument("--width", type=int, default=usual.width, help=f"width of a head ({usual.width})")
    parser.add_argument("--dtype", default=usual.dtype, help=f"{', '.join(DTYPES)} ({usual.dtype})")
    parser.add_argument("--threads", type=int, default=usual.threads, help=f"threads of torch ({usual.threads})")
    about = "seconds a measurement may take, start of its process included; longer ones are left out (60)"
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help=about)
    about = "memory a measurement may take (80 %% of what is free)"
    parser.add_argument("--memory", type=float, metavar="GB", help=about)
    about = "show processor time, for a machine that others use too; with one thread it is close to the time alone"
    parser.add_argument("--busy", action="store_true", help=about)
    about = f"folder for the measurements and the plot ({FOLDER}); what it holds is not measured again"
    parser.add_argument("-o", "--output", metavar="FOLDER", default=FOLDER, help=about)
    parser.add_argument("--fresh", action="store_true", help="forget what the folder holds")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from foveate.apps.cost import machine, table
    from foveate.apps.cost.store import Store
    from foveate.apps.cost.study import Study, ask_child

    plan, busy = _plan(arguments), arguments.busy
    folder = Path(arguments.output)
    store = Store(folder, asdict(plan.settings), machine.machine(), fresh=arguments.fresh)
    study = Study(plan, store, ask_child)
    _measure(study)
    if not busy and (lost := study.lost()) > _DISTURBED:
        print(f"other programs took {lost:.0%} of the time; --busy shows processor time", file=sys.stderr)
    files = [str(store.path), *_draw(study, folder, busy)]
    if arguments.json:
        print(json.dumps(table.as_json(study, files, busy), indent=2))
    else:
        print(f"{plan.settings}; {machine.sentence(store.machine)}; best of several calls; '/' ratios\n")
        print(table.text(study, busy))
        print(f"\nGrowth, least squares on the logarithms of the larger lengths:\n{table.growths(study, busy)}")
        print(f"\nwrote {', '.join(files)}")
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    from foveate.apps.cost.forms import parse_forms
    from foveate.apps.cost.settings import Settings, parse_lengths
    from foveate.apps.cost.study import Plan

    for name in ("limit", "memory"):
        value = getattr(arguments, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UsageError(f"--{name} is a number above 0; got {value:g}")
    settings = Settings(arguments.heads, arguments.width, arguments.dtype, arguments.threads)
    memory = None if arguments.memory is None else round(arguments.memory * 1e9)
    forms, lengths = parse_forms(arguments.forms), parse_lengths(arguments.lengths)
    return Plan(forms, lengths, settings, arguments.limit, memory)


def _measure(study: Study) -> None:
    total = len(study.plan.forms) * len(study.plan.lengths)
    with _progress(total) as (show, say):
        for form, n, what in study.run():
            if what == "skipped":
                say(f"left out: {study.skipped[form]}")
            else:
                show(f"{form}, n = {n:,}", what == "done")


@contextlib.contextmanager
def _plain_progress(total: int) -> Iterator[Shown]:
    count = 0

    def show(message: str, done: bool) -> None:
        nonlocal count
        count += done
        common.report(count / total, message)

    try:
        yield show, lambda line: print(line, file=sys.stderr, flush=True)
    finally:
        common.report_end()


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Shown]:
    """A bar on standard error where someone is looking: `show(message, done)` and `say(line)` that stays."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        rich = False
    else:
        rich = sys.stderr.isatty()
    if not rich:
        with _plain_progress(total) as shown:
            yield shown
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield (
            lambda message, done: bar.update(task, description=message, advance=float(done)),
            lambda line: bar.console.print(line, markup=False, highlight=False, soft_wrap=True),
        )


def _draw(study: Study, folder: Path, busy: bool) -> list[str]:
    """The plot's files; without matplotlib none, and how to install it is said."""
    from foveate.apps.cost import chart
    from foveate.extras import MissingExtraError

    if not any(study.points(form) for form in study.plan.forms):
        return []
    try:
        return [str(path) for path in chart.draw(study, folder, busy)]
    except MissingExtraError as error:
        print(f"no plot: {error}", file=sys.stderr)
        return []
