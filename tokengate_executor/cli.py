"""The command line tool: ``tokengate``, or ``python -m tokengate_executor``.

Exit statuses: 0 for success, 1 if a check failed, 2 for a wrong command line
or input that cannot be read, 130 after Ctrl-C, 141 if the reader of the output went away.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .demos.corpus import DEFAULT_OUTPUT, DemoOptions, default_workers, run_demo
from .demos.driver import TASKS_IN_FLIGHT
from .quarantine_cli import fill_quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT_WRONG_USE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141

_DISTRIBUTION: Final = "tokengate-executor"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line tool and return its exit status.

    Args:
        argv: the arguments after the program's name; ``None`` takes them from ``sys.argv``.

    Raises:
        SystemExit: from argparse, after ``--help`` and ``--version`` (status 0) and after an
            argument it refuses (status 2).
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] | None = arguments.run
    if run is None:
        parser.print_help(sys.stderr)
        return EXIT_WRONG_USE
    try:
        status = run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more at its end and would complain.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; each command sets ``run``, a function from arguments to exit status."""
    parser = argparse.ArgumentParser(
        prog=_program_name(),
        description="Programs that come with TokenGateExecutor.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=None)
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _fill_demo(
        commands.add_parser(
            "demo",
            help="work through a directory tree with ThreadPoolExecutor and TokenGateExecutor",
            allow_abbrev=False,
        )
    )
    fill_quarantine(
        commands.add_parser(
            "quarantine",
            help="look through a quarantine file, and decide what becomes of its calls",
            allow_abbrev=False,
        )
    )
    return parser


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a converter for argparse that takes whole numbers from ``low`` to ``high``."""
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(
                f"a whole number {allowed} is needed, {text!r} was given"
            )
        return number

    return convert


def _fill_demo(parser: argparse.ArgumentParser) -> None:
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
    parser.set_defaults(run=_run_demo)


def _run_demo(arguments: argparse.Namespace) -> int:
    options = DemoOptions(
        path=arguments.path,
        workers=arguments.workers,
        limit=arguments.limit,
        output=arguments.output,
        show_progress=not arguments.no_progress,
        quiet=arguments.quiet,
    )
    return run_demo(options, sys.stdout, sys.stderr)


def _program_name() -> str:
    # Under ``python -m`` the first argument is a file's path, which is not what was typed.
    name = Path(sys.argv[0]).name if sys.argv else ""
    return "python -m tokengate_executor" if name == "__main__.py" else "tokengate"


def _version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"
