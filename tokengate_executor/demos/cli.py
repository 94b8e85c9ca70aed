"""The command ``demo``: programs that show the executor at work beside a loop and a thread pool.

Exit statuses: 0 if all ways came to the same, 1 if they did not, 2 for a wrong command line, a tree that
cannot be read or a file that cannot be written.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from tokengate_executor.cli_arguments import whole_number

from .commands import COMMANDS, fill_command
from .corpus import DEFAULT_OUTPUT, DemoOptions, default_workers, run_demo
from .driver import TASKS_IN_FLIGHT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["fill_demo", "with_demo_named"]

_CORPUS: Final = "corpus"


def with_demo_named(argv: Sequence[str]) -> list[str]:
    """Return the command line with ``corpus`` after ``demo`` where no demo is named.

    ``tokengate demo`` and ``tokengate demo PATH`` mean the corpus demo. For a tree that has the name of
    a demo, ``./`` before it helps.
    """
    named = {_CORPUS, *COMMANDS, "-h", "--help"}
    if argv[:1] == ["demo"] and (len(argv) == 1 or argv[1] not in named):
        return ["demo", _CORPUS, *argv[1:]]
    return list(argv)


def fill_demo(parser: argparse.ArgumentParser) -> None:
    """Give the parser its commands; each sets ``run``, a function from arguments to exit status."""
    parser.description = (
        "Do the same work by ThreadPoolExecutor, by TokenGateExecutor and, except for corpus, by a "
        "plain loop; check that they come to the same, and show what each of them took. Without a "
        "name, and with a path in place of it, the corpus demo is run."
    )
    parser.epilog = (
        "exit status: 0 if all ways came to the same, 1 if they did not or a task failed, 2 if a demo "
        "cannot be run, 130 after Ctrl-C"
    )
    demos = parser.add_subparsers(title="demos", metavar="DEMO", required=True, dest="demo")
    corpus = "work through a directory tree (the default)"
    _fill_corpus(demos.add_parser(_CORPUS, help=corpus, allow_abbrev=False))
    for name, command in COMMANDS.items():
        fill_command(demos.add_parser(name, help=command.help, allow_abbrev=False), command)


def _fill_corpus(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "For every file of a directory tree, run light work (size, SHA-256), medium work "
        "(parse, tokenise, count names; .py files only) and heavy work (LZMA), first through "
        "ThreadPoolExecutor and then, with weights, through TokenGateExecutor. Check that both "
        "reports agree exactly, print both times and what each lane did, and write a JSON "
        "report. A file that cannot be read or parsed becomes a row that says why."
    )
    parser.epilog = (
        "exit status: 0 if both reports agree, 1 if they do not, 2 if the tree cannot be read "
        "or the report cannot be written, 130 after Ctrl-C"
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        help="the directory tree; by default the standard library of this interpreter, "
        "without what was installed beside it",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, TASKS_IN_FLIGHT),
        default=default_workers(),
        help=f"workers of each executor, 1 to {TASKS_IN_FLIGHT} (default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=whole_number(1),
        help="take the first N files only, by relative path",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        default=DEFAULT_OUTPUT,
        help="where to write the JSON report, over an earlier one (default: %(default)s)",
    )
    parser.add_argument("--no-progress", action="store_true", help="show no progress")
    parser.add_argument(
        "--quiet", action="store_true", help="write nothing but errors, notes and the report"
    )
    parser.set_defaults(run=_run_corpus)


def _run_corpus(arguments: argparse.Namespace) -> int:
    options = DemoOptions(
        path=arguments.path,
        workers=arguments.workers,
        limit=arguments.limit,
        output=arguments.output,
        show_progress=not arguments.no_progress,
        quiet=arguments.quiet,
    )
    return run_demo(options, sys.stdout, sys.stderr)
