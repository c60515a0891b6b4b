"""`foveate translate`: a translation, and which word of the sentence each of its words came from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.commands import common
from foveate.apps.errors import UsageError, UserError
from foveate.apps.lines import groups
from foveate.lines import opened

if TYPE_CHECKING:
    from foveate.apps.answers import Answer, Search
    from foveate.tasks.translation import Translator

GROUP = 256  # lines that are translated at a time, where so many have arrived
BEAM = 5

_EXAMPLES = """  foveate translate "How are you?"
  foveate translate "How are you?" --view           the page: each word, and what it was translated from
  foveate translate - < sentences.txt > out.txt     one line of translation for each line
  foveate translate --file sentences.txt --json     tokens, scores and alignment, one object a line
  foveate translate "How are you?" --nbest 3 --model my-translator
  foveate translate "How are you?" --sample --top-p 0.9 --seed 7
"""


def add(commands: Any) -> None:
    summary = "translate, and show what each word was translated from"
    parser = common.subcommand(commands, "translate", summary, _EXAMPLES)
    about = "what foveate train translation made; default: the built-in English-French one"
    parser.add_argument("--model", metavar="DIR", help=about)
    add_options(parser, "a sentence")


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Everything but the model; `what` is read."""
    parser.add_argument("text", nargs="*", type=common.readable, help=f"{what}; - reads one a line")
    parser.add_argument("--file", metavar="F", help=f"a file with {what} a line")
    _add_search(parser.add_argument_group("search"))
    _add_output(parser.add_argument_group("output"))
    parser.set_defaults(run=run, what=what)
    common.add_showing(parser)


def _add_search(group: Any) -> None:
    add = group.add_argument
    add("--beam", type=common.whole(1, 1000), help=f"hypotheses kept per text ({BEAM})")
    add("--nbest", type=common.whole(1), default=1, help="answers per text, best first (1)")
    about = "exponent of the length by which scores are divided; higher is longer (1)"
    finite = common.number("that is finite", lambda value: True)
    add("--length-penalty", type=finite, default=1.0, metavar="EXPONENT", help=about)
    add("--sample", action="store_true", help="draw at random instead of searching for the best")
    add("--temperature", type=common.positive, help="of --sample; below 1 keeps closer to the best (1)")
    add("--top-k", type=common.whole(1), help="of --sample: only the k most probable tokens")
    probability = common.number("above 0 and at most 1", lambda value: 0 < value <= 1)
    add("--top-p", type=probability, help="of --sample: only the most probable tokens with this share together")
    add("--seed", type=common.whole(0), help="of --sample; the same one draws the same (0)")


def _add_output(group: Any) -> None:
    forms = group.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="one JSON object a line")
    forms.add_argument("--pharaoh", action="store_true", help="only alignments, as source-target word numbers from 0")
    forms.add_argument("--view", action="store_true", help="open the page; also with --export")
    about = "the alignment as a picture below each answer; at a terminal it is there anyway"
    group.add_argument("--alignment", action=argparse.BooleanOptionalAction, help=about)


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    where = _where(arguments)
    with common.explained():
        if arguments.view:
            return _view(arguments, where)
        translator = common.load_translator(arguments.model)
        show = _shown(arguments, translator)
        if where is not None:
            return _translate_lines(translator, where, _search(arguments), show)
        from foveate.apps.answers import answers

        (answer,) = answers(translator, [" ".join(arguments.text)], _search(arguments))
        if answer.error:
            raise UserError(answer.error)
        show(answer)
        return 0


def _check(arguments: argparse.Namespace) -> None:
    """What does not go together; `--export` means `--view`."""
    arguments.view = arguments.view or arguments.export is not None
    for option in ("temperature", "top_k", "top_p", "seed"):
        if getattr(arguments, option) is not None and not arguments.sample:
            raise UsageError(f"--{option.replace('_', '-')} is of --sample; add it")
    if arguments.sample and arguments.beam is not None:
        raise UsageError("--sample draws and searches no beam; leave out --beam")
    if arguments.view and (arguments.sample or arguments.beam or arguments.nbest > 1 or arguments.length_penalty != 1):
        raise UsageError("the page shows the best that the usual search finds; leave out options of search")
    if arguments.view and (arguments.json or arguments.pharaoh):
        raise UsageError("--export writes a page; leave out --json and --pharaoh")
    if arguments.pharaoh and (arguments.alignment is False or arguments.nbest > 1):
        raise UsageError("--pharaoh prints the alignment of the best one; leave out --no-alignment and --nbest")
    if arguments.alignment and (arguments.json or arguments.pharaoh or arguments.view):
        raise UsageError("--alignment is a picture in the terminal; it does not go with other forms of output")


def _where(arguments: argparse.Namespace) -> str | None:
    """The file with lines, "-" for standard input; None for a sentence of the command line, or the page without one."""
    if arguments.text and arguments.file is not None:
        raise UsageError(f"give {arguments.what} or --file, not both")
    if arguments.file is not None or arguments.text == ["-"]:
        return arguments.file or "-"
    if not arguments.text and not arguments.view:
        raise UsageError(f"give {arguments.what} in quotation marks; or -, or --file")
    if len([text for text in arguments.text if " " in text.strip()]) > 1:
        raise UsageError(
            f"give {arguments.what}, as one argument or word by word; several go into --file, or - with a line each"
        )
    if arguments.text and not " ".join(arguments.text).strip():
        raise UserError("the text is empty")
    return None


def _search(arguments: argparse.Namespace) -> Search:
    from foveate.apps.answers import Search
    from foveate.tasks.translation import Sampling

    sampling = None
    if arguments.sample:
        sampling = Sampling(arguments.temperature or 1.0, arguments.top_k, arguments.top_p, arguments.seed or 0)
    weights = arguments.pharaoh or _pictured(arguments) or (arguments.json and arguments.alignment is not False)
    return Search(arguments.beam or BEAM, arguments.nbest, arguments.length_penalty, sampling, weights)


def _pictured(arguments: argparse.Namespace) -> bool:
    """Whether there is to be a picture below each translation."""
    if arguments.json or arguments.pharaoh:
        return False
    return sys.stdout.isatty() if arguments.alignment is None else bool(arguments.alignment)


def _shown(arguments: argparse.Namespace, translator: Translator) -> Callable[[Answer], None]:
    """What prints an answer."""
    from foveate.apps import answers

    if not translator.has_attention and (arguments.pharaoh or arguments.alignment):
        raise UserError("this model has one fixed vector for a whole text, and no alignment to show")
    several = arguments.nbest > 1
    if arguments.json:
        return lambda answer: print(answers.as_json(answer, translator.goal.result, alternatives=several))
    if arguments.pharaoh:
        return lambda answer: print(answers.as_pharaoh(answer))
    if _pictured(arguments):
        return lambda answer: answers.print_picture(answer, nbest=several)
    numbered = not sys.stdout.isatty()
    return lambda answer: print(answers.as_text(answer, nbest=several, numbered=numbered))


def _translate_lines(translator: Translator, path: str, search: Search, show: Callable[[Answer], None]) -> int:
    from foveate.apps.answers import answers

    failures, first = 0, 1
    with opened(path) as (stream, _):
        typed = path == "-" and sys.stdin.isatty()
        for lines in groups(stream, GROUP, path=path, full=search.sampling is not None and not typed):
            for answer in answers(translator, lines, search, first=first):
                show(answer)
                if answer.error:
                    failures += 1
                    print(f"foveate: line {answer.line}: {answer.error}", file=sys.stderr)
            first += len(lines)
            sys.stdout.flush()
    return 1 if failures else 0


def _view(arguments: argparse.Namespace, where: str | None) -> int:
    from foveate.apps.shipped import BUILTINS
    from foveate.apps.translation import TranslationModel

    if arguments.export is not None:
        common.check_target(Path(arguments.export))
    text = " ".join(arguments.text) if where is None else common.read_text(where)
    if where is not None and not text:
        raise UserError("the text is empty")
    if arguments.model is None:
        model = BUILTINS["translate"]()
    else:
        model = TranslationModel(common.load_translator(arguments.model), name=Path(arguments.model).resolve().name)
    return common.show_model(model, text or model.examples[0], None, arguments, quick=True)
