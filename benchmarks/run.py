"""Run the benchmarks one after another and write what they say into one dated file.

    python benchmarks/run.py [--only watch_time --only reopen] [--results FOLDER] [--limit SECONDS] [--list]

Each is a script of this folder that prints its figures with `figures.figure`. What it prints is shown as it comes. As
each ends, a line is added to FOLDER/YYYY-MM-DD.jsonl, and FOLDER/YYYY-MM-DD.md is written anew from the latest line of
each benchmark there: a run that is stopped keeps what it had, and `--only` renews a part. Exit code 1 if one failed.
`multi30k.py` and `tatoeba.py` train for hours and are commands of their own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Figure, digits, parse

HERE = Path(__file__).parent
ALONE = ("multi30k", "tatoeba")
_TAIL = 12  # lines of a failed benchmark that are kept


def scripts(folder: Path) -> dict[str, Path]:
    """The benchmarks: scripts that can be run, this one and those that train for hours left out."""
    found = (path for path in sorted(folder.glob("[a-z]*.py")) if path.stem not in (Path(__file__).stem, *ALONE))
    return {path.stem: path for path in found if '__name__ == "__main__"' in path.read_text()}


def run_one(path: Path, limit: float) -> dict[str, Any]:
    """Run one benchmark, show what it prints, and give its record."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-u", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    watchdog = threading.Timer(limit, child.kill)
    watchdog.start()
    printed: list[str] = []
    try:
        assert child.stdout is not None
        for line in child.stdout:
            print(f"   {line}", end="", flush=True)
            printed.append(line.rstrip())
        code = child.wait()
    finally:
        watchdog.cancel()
        child.kill()
        child.communicate()
    seconds = time.perf_counter() - start
    failed = "" if code == 0 else f"stopped after {limit:g} s" if seconds >= limit else f"exit code {code}"
    figures = [asdict(found) for line in printed if (found := _parse(line)) is not None]
    kept = printed[-_TAIL:] if failed else [] if figures else printed
    return {
        "benchmark": path.stem,
        "when": datetime.datetime.now().isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "failed": failed,
        "figures": figures,
        "printed": kept,
    }


def _parse(line: str) -> Figure | None:
    try:
        return parse(line)
    except ValueError:
        return None


def markdown(day: str, records: Iterable[dict[str, Any]]) -> str:
    """The latest record of each benchmark, as a page."""
    latest = {record["benchmark"]: record for record in records}
    last = max(latest.values(), key=lambda record: record["when"])
    lines = [f"# Benchmarks, {day}", "", f"{last['machine']}. `make bench` writes this file.", ""]
    lines += ["| figure | measured | goal | peer | threads | benchmark |", "|---|---|---|---|---|---|"]
    for record in latest.values():
        lines += [_row(_figure(found), record["benchmark"]) for found in record["figures"]]
    for record in latest.values():
        state = f"**failed: {record['failed']}**" if record["failed"] else f"{record['seconds']:,.0f} s"
        lines += ["", f"`{record['benchmark']}`, commit {record['commit']}: {state}"]
        if record["printed"]:
            lines += ["", *(f"    {line}" for line in record["printed"])]
    return "\n".join(lines) + "\n"


def _figure(found: dict[str, Any]) -> Figure:
    return Figure(**{**found, "peer": tuple(found["peer"]) if found["peer"] else None})


def _row(found: Figure, benchmark: str) -> str:
    reached = "" if found.met is None else ", met" if found.met else ", **missed**"
    peer = f"{found.peer[0]}: {digits(found.peer[1])} {found.unit}" if found.peer else ""
    goal = f"{found.goal}{reached}" if found.goal else ""
    threads = str(found.threads or "")
    cells = (found.name, f"{digits(found.measured)} {found.unit}", goal, peer, threads, f"`{benchmark}`")
    return f"| {' | '.join(cells)} |"


def surroundings() -> dict[str, str]:
    """The commit and the machine, in words."""
    from foveate.apps.cost.machine import machine, sentence

    facts = machine()
    words = sentence(facts)
    return {"commit": commit(), "machine": f"{words[:1].upper()}{words[1:]}, torch {facts['torch']}"}


def commit() -> str:
    """The short name of the commit that is checked out, and whether library or benchmarks differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short", "HEAD")
    if not name:
        return "unknown"
    return f"{name} with changes" if git("status", "--porcelain", "--", "../src", ".") else name


def write(folder: Path, day: str, record: dict[str, Any]) -> Path:
    """Add a record to the day's file, and write its page anew."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{day}.jsonl"
    before = kept.read_text() if kept.exists() else ""
    records = [json.loads(line) for line in before.splitlines(keepends=True) if line.endswith("\n")]
    _replace(kept, "".join(json.dumps(each) + "\n" for each in (*records, record)))
    page = folder / f"{day}.md"
    _replace(page, markdown(day, [*records, record]))
    return page


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(text)
    os.replace(draft, path)


def run(chosen: dict[str, Path], results: Path, limit: float) -> int:
    """Run the chosen benchmarks; the number of those that failed."""
    around, failed = surroundings(), []
    page = results
    for number, (name, path) in enumerate(chosen.items(), 1):
        print(f"[{number}/{len(chosen)}] {name}", flush=True)
        record = run_one(path, limit)
        page = write(results, datetime.date.today().isoformat(), {**record, **around})
        if record["failed"]:
            failed.append(name)
        print(f"   {record['failed'] or 'done'}, {record['seconds']:,.0f} s", flush=True)
    print(f"wrote {page}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def main(given: list[str] | None = None, folder: Path = HERE) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="run this one; may be given several times")
    parser.add_argument("--results", type=Path, default=folder / "results", help="folder to write to")
    parser.add_argument("--limit", type=float, default=1800.0, metavar="SECONDS", help="stop a benchmark after (1800)")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    options = parser.parse_args(given)
    known = scripts(folder)
    if options.list:
        print("\n".join(known))
        return 0
    unknown = [name for name in options.only or [] if name not in known]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    chosen = {name: path for name, path in known.items() if not options.only or name in options.only}
    try:
        return 1 if run(chosen, options.results, options.limit) else 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
