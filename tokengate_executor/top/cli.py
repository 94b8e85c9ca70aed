"""The command ``top``: an executor watched through its dashboard.

Exit statuses: 0 after ``q`` or Ctrl-C, and after ``--once`` and ``--json``; 1 if the dashboard cannot be
reached or lets nobody in; 2 for a wrong command line, a password file that cannot be read, or a package
that is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import closing, suppress
from getpass import getpass
from typing import TYPE_CHECKING, Final

from tokengate_executor.cli_arguments import (
    PASSWORD_VARIABLE,
    add_password_file,
    missing_extra,
    password_given,
)
from tokengate_executor.terminal_lines import painted, text_of
from tokengate_executor.terminal_text import complain, encodable, printable, say
from tokengate_executor.top.rates import Rates
from tokengate_executor.top.screen import View, finished, screen

if TYPE_CHECKING:
    import argparse

    from tokengate_executor.top.client import DashboardClient
    from tokengate_executor.top.feed import Feed, FeedState
    from tokengate_executor.top.terminal import LiveTerminal

__all__ = ["fill_top"]

_FAILED: Final = 1
_WRONG_USE: Final = 2

_TICK_SECONDS: Final = 1.0
_SIZE_ELSEWHERE: Final = (100, 24)
_ROWS_ELSEWHERE: Final = 500  # more than all tables have
_TREND_SECONDS: Final = 16


def fill_top(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments; it sets ``run``, a function from arguments to exit status."""
    parser.description = (
        "Watch an executor through its dashboard, in a terminal: the states of its calls, its lanes, "
        "operations, limits, its quarantine, what runs and what has ended. q or Ctrl-C ends it. "
        "Where there is no terminal to draw on, one screen is printed. When the dashboard goes away, "
        "it is tried again until it is back."
    )
    parser.epilog = (
        "exit status: 0 when it was ended, or after --once and --json; 1 if the dashboard cannot be "
        "reached, or the password is wrong; 2 for a wrong command line, a password file that cannot "
        "be read, or if the extra 'dashboard' is not installed; 130 after Ctrl-C before anything "
        "was shown. NO_COLOR is respected. SSL_CERT_FILE names further certificates to trust."
    )
    parser.add_argument("url", metavar="URL", help="of the dashboard: http://127.0.0.1:8000/, say")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--once", action="store_true", help="print one screen and end")
    kinds.add_argument("--json", action="store_true", help="print one snapshot as JSON and end")
    add_password_file(parser, "it is asked for, if the dashboard wants one")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        from tokengate_executor.top.client import (  # noqa: PLC0415  slow to import, and needs the extra
            DashboardClient,
            RefusedError,
            UnreachableError,
            dashboard_url,
        )
    except ImportError as error:
        return missing_extra("top", error)
    try:
        url = dashboard_url(arguments.url)
        password = password_given(arguments)
    except ValueError as error:
        complain(error)
        return _WRONG_USE
    client = DashboardClient(url, lambda: _asked(url) if password is None else password)
    try:
        client.enter()
        if arguments.json or arguments.once or not _has_screen():
            return _once(client, as_json=arguments.json)
        return _live(client, url)
    except (RefusedError, UnreachableError) as error:
        complain(f"{url}: {error}")
        return _FAILED


def _asked(url: str) -> str:
    """The password that a person types."""
    if sys.stdin.isatty():
        with suppress(EOFError):
            return getpass(f"Password for {printable(url)}: ")
    from tokengate_executor.top.client import RefusedError  # noqa: PLC0415  as above

    raise RefusedError(f"it wants a password: name a --password-file, or set {PASSWORD_VARIABLE}")


def _has_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _has_colours() -> bool:
    return _has_screen() and not os.environ.get("NO_COLOR")


def _once(client: DashboardClient, *, as_json: bool) -> int:
    with closing(client.snapshots()) as snapshots:
        snapshot = next(snapshots)
    if as_json:
        say(json.dumps(snapshot, indent=2))
        return 0
    columns, rows = shutil.get_terminal_size(_SIZE_ELSEWHERE)
    if not sys.stdout.isatty():
        rows = _ROWS_ELSEWHERE
    lines = screen(snapshot, columns, rows, View(moment=time.time(), is_still=True))
    while lines and not text_of(lines[-1]).strip():
        lines.pop()
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        if _has_colours():
            say(painted(line, encoding, colours=True))
        else:
            say(encodable(text_of(line), encoding).rstrip())
    return 0


def _live(client: DashboardClient, url: str) -> int:
    from tokengate_executor.top.feed import Feed  # noqa: PLC0415  needs the extra

    try:
        from tokengate_executor.top.terminal import LiveTerminal  # noqa: PLC0415  not on every system
    except ModuleNotFoundError:
        complain("the live view needs a POSIX terminal: --once and --json work without")
        return _WRONG_USE
    keys = sys.stdin.fileno() if sys.stdin.isatty() else None
    encoding = sys.stdout.encoding or "utf-8"
    terminal = LiveTerminal(sys.stdout.fileno(), keys, encoding, colours=_has_colours())
    feed = Feed(client, terminal.wake)
    try:
        feed.start()
        if feed.state.ended is not None:
            raise feed.state.ended
        sys.stdout.flush()
        with terminal:
            return _show(feed, terminal, url)
    finally:
        feed.stop()


def _show(feed: Feed, terminal: LiveTerminal, url: str) -> int:
    """Draw whatever comes until somebody ends it; returns the exit status."""
    rates = Rates()
    foot = f"{printable(url)} · q ends"
    now, moment = time.monotonic(), time.time()
    while True:
        state = feed.state
        if state.ended is not None:
            raise state.ended
        if not state.trouble:  # else time stands still: nobody knows what has become of what ran
            now, moment = time.monotonic(), time.time()
            rates.note(now, finished(state.snapshot))
        view = View(
            moment=moment,
            throughput=rates.per_second(now),
            trend=rates.trend(now, _TREND_SECONDS),
            foot=foot,
            trouble=_told(state, time.monotonic()),
        )
        terminal.draw(screen(state.snapshot, *terminal.size(), view))
        status = terminal.wait(_TICK_SECONDS)
        if status is not None:
            return status


def _told(state: FeedState, now: float) -> str:
    if not state.trouble:
        return ""
    if state.retry_at is None:
        return f"not connected: {state.trouble}; trying again ..."
    return f"not connected: {state.trouble}; trying again in {max(0.0, state.retry_at - now):.0f} s"
