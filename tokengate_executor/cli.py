"""The command line tool: ``tokengate``, or ``python -m tokengate_executor``.

Exit statuses: 0 for success, 1 if a check failed or a server cannot be had, 2 for a wrong command
line, input that cannot be read or a package that is missing, 130 after Ctrl-C, unless that is the usual
way to end the command, 141 if the reader of the output went away.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .demos.cli import fill_demo, with_demo_named
from .quarantine_cli import fill_quarantine
from .serve_demo_cli import fill_serve_demo
from .top.cli import fill_top
from .topology_cli import fill_topology

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
    arguments = parser.parse_args(with_demo_named(sys.argv[1:] if argv is None else argv))
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
    for name, (help_, fill) in _COMMANDS.items():
        fill(commands.add_parser(name, help=help_, allow_abbrev=False))
    return parser


_COMMANDS: Final[dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]]] = {
    "demo": ("do the same work by a loop, ThreadPoolExecutor and TokenGateExecutor", fill_demo),
    "quarantine": (
        "look through a quarantine file, and decide what becomes of its calls",
        fill_quarantine,
    ),
    "topology": ("show the CPUs, and how an executor would lie on them", fill_topology),
    "top": ("watch an executor through its dashboard, in the terminal", fill_top),
    "serve-demo": ("serve the dashboard of an executor under a made-up load", fill_serve_demo),
}
"""Name → what it is for, and what gives its parser the arguments and ``run``."""


def _program_name() -> str:
    # Under ``python -m`` the first argument is a file's path, which is not what was typed.
    name = Path(sys.argv[0]).name if sys.argv else ""
    return "python -m tokengate_executor" if name == "__main__.py" else "tokengate"


def _version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"
