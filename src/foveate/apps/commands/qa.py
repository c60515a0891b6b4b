"""`foveate qa`: the answer that a text, or a store of facts, gives to a question, and where it was read."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common
from foveate.apps.errors import UsageError, UserError
from foveate.apps.lines import Unreadable, groups
from foveate.lines import name_of, opened

if TYPE_CHECKING:
    from foveate.tasks.answerer import Answered, Answerer

_EXAMPLES = """  foveate qa "What is the capital of France?" --context "France is a country. Paris is the capital."
  foveate qa "Who rules Veldania?" --context page.txt
  foveate qa "Who rules Veldania?" --context - < page.txt
  foveate qa "Who rules Veldania?" --store facts.txt        looked up in a file of facts, one a line
  foveate qa my-model "Who rules Veldania?" --context page.txt --json
  foveate qa "Who rules Veldania?" --context page.txt --view
  foveate view my-model --text "What is the capital of France? France is a country. Paris is the capital."
"""
GROUP = 4096  # lines that are read at a time


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "qa", "answer a question from a text that was never seen before", _EXAMPLES)
    about = "the folder that foveate train qa made; default: the built-in model"
    parser.add_argument("model", nargs="?", metavar="MODEL", help=about)
    parser.add_argument("question", type=common.readable, help="the question, as one argument")
    where = parser.add_mutually_exclusive_group()
    about = "the text that answers it: a file, the text itself, - for standard input; default: what follows the ?"
    where.add_argument("--context", metavar="TEXT|FILE|-", help=about)
    about = "a file of facts, one a line, .gz too, or - : those that fit are looked up, then read"
    where.add_argument("--store", metavar="FILE", help=about)
    parser.add_argument("--facts", type=common.whole(1), metavar="K", help="of a store, how many facts are read (16)")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="an object with the answer, all words and their weights")
    forms.add_argument("--view", action="store_true", help="open the page on question and text; also with --export")
    common.add_showing(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from foveate.tasks.answerer import BEST

    if arguments.facts is not None and arguments.store is None:
        raise UsageError("--facts says how many facts of a --store are read")
    if arguments.export is not None:
        if arguments.json:
            raise UsageError("--export writes a page; leave out --json")
        common.check_target(Path(arguments.export))
    answerer, question = _model(arguments.model), arguments.question
    fact = ""
    with common.explained():
        if arguments.store is None:
            question, context = _both(question, arguments.context)
            found = answerer.ask(question, context)
        else:
            store = answerer.store(_facts(arguments.store))
            found = answerer.ask_store(question, store, arguments.facts or BEST)
            context = " ".join(found.words)
            assert found.fact is not None
            fact = f"{found.fact + 1}: {store.facts[found.fact]}"
    if arguments.view or arguments.export is not None:
        return _show(answerer, question, context, arguments)
    _say(found, fact, arguments.json)
    return 0


def _show(answerer: Answerer, question: str, context: str, arguments: argparse.Namespace) -> int:
    from foveate.apps.shipped import BUILTINS
    from foveate.apps.task_model import TaskModel
    from foveate.tasks.answering import asked

    where = arguments.model
    model = BUILTINS["qa"]() if where is None else TaskModel(answerer, name=Path(where).resolve().name)
    return common.show_model(model, f"{' '.join(asked(question)[:-1])}? {context}", None, arguments, quick=True)


def _model(where: str | None) -> Answerer:
    from foveate.tasks.answerer import load, load_builtin

    if where is None:
        with common.explained():
            return load_builtin()
    if not Path(where).is_dir():
        raise UserError(f"no model: there is no folder {where}; a text goes behind --context")
    with common.explained():
        return load(where)


def _both(question: str, given: str | None) -> tuple[str, str]:
    """The question, and its text: as it is given, what a file of this name holds, or what follows the question."""
    if given is None:
        question, mark, context = question.partition("?")
        if not context.strip():
            raise UsageError("a question needs a text that answers it: --context TEXT, or facts: --store FILE")
        return question + mark, context
    try:
        is_file = given == "-" or Path(given).is_file()
    except (OSError, ValueError):  # no name of a file
        is_file = False
    if is_file:
        return question, common.read_text(given)
    if given and not any(map(str.isspace, given)):
        raise UserError(f"there is no file {given}; and as a text it is one word, which answers nothing")
    return question, common.readable(given)


def _facts(path: str) -> list[str]:
    """The lines of a file; an empty one stays, so that lines keep their numbers."""
    found: list[str] = []
    with opened(path) as (stream, _):
        for lines in groups(stream, GROUP, path=path):
            for line in lines:
                if isinstance(line, Unreadable):
                    raise UserError(f"{name_of(path)}:{len(found) + 1}: {line.why}")
                found.append(line)
    return found


def _say(found: Answered, fact: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_json(found), ensure_ascii=False))
        return
    from foveate.apps import terminal

    print(f"{terminal.printable(found.answer)}  {100 * found.probability:.1f} %")
    if fact:
        print(f"line {terminal.printable(fact)}")
    print()
    terminal.highlighted(found.words, found.weights, file=sys.stdout)


def _as_json(found: Answered) -> dict[str, Any]:
    return {
        "answer": found.answer,
        "probability": round(found.probability, 6),
        "words": found.words,
        "weights": [round(weight, 6) for weight in found.weights],
        "span": [found.first, found.past],
        **({} if found.fact is None else {"line": found.fact + 1}),
    }
