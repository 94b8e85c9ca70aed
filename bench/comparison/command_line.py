"""What the command lines of the scripts have in common."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import UsageError
from .relaunch import check_interpreter, report_of_interpreter


def positive(text: str) -> int:
    """Parse a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def make_parser(
    description: str, known_rows: Sequence[str], rounds: str
) -> argparse.ArgumentParser:
    """Make a parser with the arguments that all scripts have; ``rounds``: what is said of them."""

    def row_names(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in names if name not in known_rows]
        if unknown or not names:
            given = ", ".join(unknown) or "nothing"
            raise argparse.ArgumentTypeError(f"got {given}; rows are {', '.join(known_rows)}")
        return names

    parser = argparse.ArgumentParser(
        description=description, epilog="rows: " + ", ".join(known_rows)
    )
    add = parser.add_argument
    add("--rows", type=row_names, default=list(known_rows), metavar="A,B,…")
    add("--rounds", type=positive, help=rounds)
    add("--quick", action="store_true", help="less work and 3 rounds, to try things out")
    add("--python", action="append", default=[], metavar="PATH", help="may be repeated")
    add("--json", type=Path, metavar="PATH", help="write everything, samples included")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--check", action="store_true", help="exit with status 1 if a row is short")
    add("--quiet", action="store_true", help="no progress line")
    add("--hang-seconds", type=positive, default=300, help="end a sample that takes longer")
    return parser


def run(
    arguments: argparse.Namespace,
    make_report: Callable[[argparse.Namespace], dict[str, Any]],
    format_table: Callable[[dict[str, Any], bool], str],
) -> int:
    """Measure, here or in the interpreters that were named, and tell; return the exit status.

    Raises:
        UsageError: an interpreter cannot be used.
        OSError: the file cannot be written.
    """
    for path in arguments.python or [sys.executable]:
        check_interpreter(path)
    if arguments.python:
        reports = [report_of_interpreter(path, arguments) for path in arguments.python]
    else:
        reports = [make_report(arguments)]
        print(format_table(reports[0], arguments.markdown), end="\n\n")
    if arguments.json:
        text = json.dumps({"schema": 1, "reports": reports}, indent=1)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    verdicts = {row["verdict"] for report in reports for row in report["rows"]}
    return 1 if arguments.check and verdicts & {"short", "error"} else 0


def refuse(error: UsageError | OSError) -> int:
    """Say what cannot be used; return the exit status."""
    print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
    return 2
