"""The command ``serve-demo``: an executor under a made-up load, with its dashboard.

Exit statuses: 0 when it was ended, by Ctrl-C, too; 1 if the address cannot be had; 2 for a wrong command
line, a password file that cannot be read, or a package that is missing.
"""

from __future__ import annotations

import logging
import secrets
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from socket import gaierror
from time import monotonic
from typing import TYPE_CHECKING, Final

from tokengate_executor.cli_arguments import (
    add_password_file,
    decimal_number,
    missing_extra,
    password_given,
    whole_number,
    why,
)
from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.terminal_text import complain, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

__all__ = ["fill_serve_demo"]

_FAILED: Final = 1
_WRONG_USE: Final = 2

_LONGEST_SECONDS: Final = 10 * 365 * 86400.0
_LONGEST_WAIT: Final = 1.0  # where Ctrl-C cannot interrupt a wait, it is heeded after it


def fill_serve_demo(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments; it sets ``run``, a function from arguments to exit status."""
    parser.description = (
        "Serve the dashboard of an executor that is kept busy with made-up calls: light, medium and "
        "heavy ones, slow ones behind limits, some that fail, are tried again, time out, are blocked "
        "or held for review. Only who knows the password sees it. Ctrl-C ends it."
    )
    parser.epilog = (
        "exit status: 0 when it was ended, by Ctrl-C, too; 1 if the address cannot be had; 2 for a "
        "wrong command line, a password file that cannot be read, or if the extra 'dashboard' is not "
        "installed"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at (default: %(default)s, which only this machine can reach)",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=whole_number(0, 65535),
        default=0,
        help="the port to listen at (default: one that is free)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, 256),
        default=8,
        help="workers of the executor, 1 to 256 (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        metavar="N",
        type=decimal_number(0.1, 1000),
        default=20.0,
        help="calls per second, on average, 0.1 to 1000 (default: %(default)g)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=whole_number(0),
        default=1,
        help="which calls come, and which of them fail (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=decimal_number(0, _LONGEST_SECONDS),
        help="end after so many seconds (default: run until it is ended)",
    )
    add_password_file(parser, "one is made up and printed")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        # Both are slow to import, and the first needs the extra.
        from tokengate_executor.dashboard import serve  # noqa: PLC0415
        from tokengate_executor.demos.load import LAUNCHES, Load, shop_executor  # noqa: PLC0415
    except ImportError as error:
        return missing_extra("serve-demo", error)
    try:
        given = password_given(arguments)
    except ValueError as error:
        complain(error)
        return _WRONG_USE
    password = given or secrets.token_urlsafe(12)
    executor = shop_executor(arguments.workers)
    with _quiet(), ExitStack() as ending, suppress(KeyboardInterrupt), _sigterm_as_ctrl_c():
        ending.callback(executor.shutdown, cancel_futures=True)
        try:
            server = serve(
                executor,
                host=arguments.host,
                port=arguments.port,
                password=password,
                launch=LAUNCHES,
                show_arguments=True,
            )
        except (OSError, InvalidOptionError) as error:
            where = f"{arguments.host}: " if isinstance(error, gaierror) else ""
            complain(f"{where}{why(error)}")
            return _FAILED
        ending.callback(server.stop)
        ending.enter_context(Load(executor, rate=arguments.rate, seed=arguments.seed))
        _announce(server.url, None if given else password)
        _wait(arguments.seconds)
    return 0


def _announce(url: str, password: str | None) -> None:
    say(f"dashboard:  {url}")
    if password is not None:
        say(f"password:   {password}")
    say(f"terminal:   tokengate top {url}")
    say("Ctrl-C ends it.")
    sys.stdout.flush()


def _wait(seconds: float | None) -> None:
    """Wait for so long, or until Ctrl-C."""
    never = threading.Event()
    left = _LONGEST_SECONDS if seconds is None else seconds
    end = monotonic() + left
    while left > 0:
        never.wait(min(left, _LONGEST_WAIT))
        left = end - monotonic()


@contextmanager
def _sigterm_as_ctrl_c() -> Generator[None, None, None]:
    """Let a service manager end it as cleanly as a person does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """That calls are held, refused and cut off is shown on the dashboard, and need not be logged."""
    loggers = {"tokengate_executor": logging.ERROR, "tokengate_executor.dashboard": logging.WARNING}
    before = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
