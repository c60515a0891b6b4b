"""`foveate demo`: the main job once, on the built-in model."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from foveate.apps.commands import common

SENTENCE = "The cat sat on the mat because it was tired."
FILE = "foveate-demo.html"

_EXAMPLES = """  foveate demo                                      heatmap, page in a file, live page
  foveate demo | cat                                ends after writing the file: nobody is there to look
"""


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "demo", "see what the built-in model sees in one sentence", _EXAMPLES)
    parser.add_argument("--output", metavar="PAGE.html", default=FILE, help=f"the page to write ({FILE})")
    common.add_serving(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from foveate.apps import export
    from foveate.apps.builtin import BuiltinModel
    from foveate.apps.workspace import Workspace
    from foveate.tasks.resolve import resolve

    model = BuiltinModel()
    try:
        source = model.run(SENTENCE, None, common.report)
    finally:
        common.report_end()
    print(SENTENCE)
    print()
    _print_heatmap(source)
    print()
    print(resolve(SENTENCE).line())
    print(f"wrote {export.write(source, arguments.output, SENTENCE)}", flush=True)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return 0
    workspace = Workspace(model)
    workspace.add(source)
    workspace.warm()
    common.serve(common.open_page(workspace, arguments.host, arguments.port), browser=False)
    return 0


def _print_heatmap(source: Any) -> None:
    """The head at which the page opens, words by words, special tokens left out."""
    from foveate.apps.terminal import heatmap

    document = source.document()
    focus = document.focus
    call, head = (focus.call, focus.head or 0) if focus else (0, 0)
    rows, _ = source.axes(call, 0)
    tokens = document.sequences[0].source
    names = ["".join(tokens.text[a:b]) for a, b in zip(rows.starts, rows.starts[1:], strict=False)]
    plain = [w for w, start in enumerate(rows.starts[:-1]) if not tokens.special[start]]
    weights = [source.row(call, 0, w, "reads", "word")[head].tolist() for w in plain]
    print(f"{document.calls[call].label}, head {head}: how much each word (left) looks at each word (top), in percent")
    heatmap([names[w] for w in plain], [names[w] for w in plain], [[line[w] for w in plain] for line in weights])
