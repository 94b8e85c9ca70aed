"""What several commands take, and say: numbers within bounds, a password, what is missing or wrong.

A command line is seen by everybody on the machine and kept by the shell; so a password comes from a
file, from the environment, or is asked for.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokengate_executor.terminal_text import complain

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "PASSWORD_VARIABLE",
    "add_password_file",
    "decimal_number",
    "password_given",
    "whole_number",
]

PASSWORD_VARIABLE: Final = "TOKENGATE_PASSWORD"

_WRONG_USE: Final = 2

_LONGEST_PASSWORD: Final = 1024  # bytes: a wrong path may name a device that never ends


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


def decimal_number(low: float, high: float) -> Callable[[str], float]:
    """Return a converter for argparse that takes numbers from ``low`` to ``high``."""

    def convert(text: str) -> float:
        try:
            given = float(text)
        except ValueError:
            given = math.nan
        if not low <= given <= high:
            raise argparse.ArgumentTypeError(
                f"a number from {low:g} to {high:g} is needed, {text!r} was given"
            )
        return given

    return convert


def add_password_file(parser: argparse.ArgumentParser, otherwise: str) -> None:
    """Add ``--password-file``.

    Args:
        parser: of the command.
        otherwise: what happens without a file and without the variable, for the help.
    """
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="a file with the password in its first line; without it the environment variable "
        f"{PASSWORD_VARIABLE} counts, and without that {otherwise}",
    )


def password_given(arguments: argparse.Namespace) -> str | None:
    """The password from the file or the environment; ``None``: neither has one.

    Raises:
        ValueError: the file cannot be read, or there is no password in it.
    """
    path: str | None = arguments.password_file
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        with Path(path).open("rb") as file:
            line = file.readline(_LONGEST_PASSWORD + 1)
        password = line.decode("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read a password from {path!r}: {why(error)}") from error
    if not password or len(line) > _LONGEST_PASSWORD:
        raise ValueError(
            f"the first line of {path!r} must be a password of 1 to {_LONGEST_PASSWORD} bytes"
        )
    return password


def missing_extra(command: str, error: ImportError) -> int:
    """Say how to get what a command needs; returns the exit status.

    Raises:
        ImportError: it is not of another's package.
    """
    if error.name is None or error.name.partition(".")[0] == "tokengate_executor":
        raise error
    complain(
        f"tokengate {command} needs the package {error.name}, which is not installed: "
        'python -m pip install "tokengate-executor[dashboard]"'
    )
    return _WRONG_USE


def why(error: Exception) -> str:
    """What is wrong, in words."""
    return str((error.strerror if isinstance(error, OSError) else None) or error)
