"""The command ``quarantine``: what people do with a quarantine file.

Exit statuses: 0 for success, 1 if a call that was replayed has failed again, 2 for a file that cannot
be used, an id that is not there, or a call that cannot become or be what was asked.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Final

from .errors import QuarantineFileError, TokenGateError
from .executor import TokenGateExecutor
from .guard.store import QuarantineStore
from .guard.writing import told
from .terminal_text import columns_of, complain, cut, padded, printable, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from .guard.calls import QuarantinedCall

__all__ = ["fill_quarantine"]

_FAILED_AGAIN: Final = 1
_WRONG_USE: Final = 2

_WIDEST_COLUMN: Final = 40  # characters, on a terminal

_HEADINGS: Final = ("ID", "STATUS", "SINCE", "OPERATION", "REASON", "ATTEMPTS", "CALL", "ERROR")

_TRUST: Final = (
    "Replay unpickles the call, and unpickling executes whatever the file says. Replay only from a "
    "file that you trust: one that nobody but you and your programs could write. "
    "The other commands unpickle nothing."
)


def fill_quarantine(parser: argparse.ArgumentParser) -> None:
    """Give the parser its commands; each sets ``run``, a function from arguments to exit status."""
    parser.description = f"List, show, approve, reject and replay quarantined calls. {_TRUST}"
    parser.epilog = (
        "exit status: 0 for success, 1 if a replayed call failed again, 2 if the file cannot be "
        "used or a call is not there, or not in the status for what was asked"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="quarantine_command"
    )

    def command(name: str, help: str, run: Callable[[argparse.Namespace], int]) -> _Parser:  # noqa: A002
        made = commands.add_parser(name, help=help, allow_abbrev=False)
        made.description = f"{help[0].upper()}{help[1:]}."
        made.set_defaults(run=_on_file(run))
        return made

    listing = command("list", "list the calls that nobody has decided on yet", _list)
    listing.add_argument("--all", action="store_true", help="list decided calls, too")
    showing = command("show", "show all that is known of a call", _show)
    approving = command("approve", "say that calls may run again", _approve)
    rejecting = command("reject", "say that calls shall not run again", _reject)
    replaying = command("replay", "run pending or approved calls again, in this process", _replay)
    replaying.description = (
        f"Run pending or approved calls again, in this process, one after the other. {_TRUST} "
        "The modules of the call must be importable here: python -m tokengate_executor looks for "
        "them in the current directory, too. A call that fails again, or cannot be unpickled, is "
        "pending afterwards. One that is interrupted counts as replayed."
    )
    for made in (listing, showing):
        made.add_argument("--json", action="store_true", help="write JSON")
    for made in (listing, showing, approving, rejecting, replaying):
        made.add_argument("path", metavar="PATH", help="the quarantine file; it must exist")
    showing.add_argument("id", metavar="ID", help="of the call, as list shows it")
    for made in (approving, rejecting, replaying):
        made.add_argument("ids", metavar="ID", nargs="+", help="of a call, as list shows it")


if TYPE_CHECKING:
    _Parser = argparse.ArgumentParser


def _on_file(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def run_and_tell(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except TokenGateError as error:
            complain(error)
            return _WRONG_USE

    return run_and_tell


def _opened(arguments: argparse.Namespace) -> QuarantineStore:
    return QuarantineStore(arguments.path, create=False)


def _list(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as store:
        entries = store.entries() if arguments.all else store.pending()
    if arguments.json:
        say(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif entries:
        _say_table([_HEADINGS, *map(_row, entries)])
    else:
        say("no calls" if arguments.all else "no pending calls")
    return 0


def _row(entry: QuarantinedCall) -> tuple[str, ...]:
    replayable = "" if entry.replayable else f" [only process {entry.process_id} can replay it]"
    return (
        entry.id,
        entry.status,
        _moment(entry.quarantined_at),
        entry.operation,
        entry.reason,
        str(entry.attempts),
        entry.summary + replayable,
        f"{entry.error_type.rpartition('.')[2]}: {entry.error_text}" if entry.error_type else "-",
    )


def _show(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as store:
        entry = store.get(arguments.id)
    facts = asdict(entry)
    if arguments.json:
        say(json.dumps(facts, indent=2))
        return 0
    traceback = str(facts.pop("traceback"))
    for name in ("submitted_at", "quarantined_at", "decided_at"):
        facts[name] = "-" if facts[name] is None else _moment(facts[name])
    facts["replayable"] = "yes" if entry.replayable else "no"
    width = max(map(len, facts))
    for name, fact in facts.items():
        say(f"{name.replace('_', ' '):{width}}  {printable(str(fact)) or '-'}")
    for line in traceback.splitlines():
        say(printable(line))
    return 0


def _approve(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as store:
        return _each(arguments.ids, lambda one: _done(store.approve, one, "approved"))


def _reject(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as store:
        return _each(arguments.ids, lambda one: _done(store.reject, one, "rejected"))


def _replay(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as store, TokenGateExecutor(1) as executor:
        return _each(arguments.ids, lambda one: _replay_one(store, executor, one))


def _each(ids: Iterable[str], act: Callable[[str], int]) -> int:
    """Act on all, whatever becomes of one; returns the gravest of the exit statuses."""
    gravest = 0
    for one in ids:
        try:
            status = act(one)
        except QuarantineFileError:
            raise  # the others would say the same
        except TokenGateError as error:
            complain(error)
            status = _WRONG_USE
        gravest = max(gravest, status)
    return gravest


def _done(verb: Callable[[str], None], one: str, past: str) -> int:
    verb(one)
    say(f"{printable(one)} {past}")
    return 0


def _replay_one(store: QuarantineStore, executor: TokenGateExecutor, one: str) -> int:
    operation = store.get(one).operation
    # Taken before it is unpickled: of two people who replay it, one runs its code, not both.
    store.mark_replayed(one)
    try:
        fn, args, kwargs = store.load(one)
    except BaseException:
        store.give_back(one)
        raise
    token = executor.options(operation=operation or None).submit(fn, *args, **kwargs)
    error = token.exception()
    if error is None:
        say(f"{one} replayed: completed")
        return 0
    store.give_back(one)
    say(f"{one} failed again, and is pending: {printable(told(error))}")
    return _FAILED_AGAIN


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
    except (OSError, OverflowError, ValueError):
        return f"{seconds:g}"


def _say_table(rows: Sequence[tuple[str, ...]]) -> None:
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(columns_of, column)) for column in zip(*cells, strict=True)]
    screen = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if screen is not None:  # whoever pipes it elsewhere gets all
        widths = [min(width, _WIDEST_COLUMN) for width in widths]
        cells = [
            [cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells
        ]
    for row in cells:
        line = "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True))
        say(line.rstrip() if screen is None else cut(line.rstrip(), screen))
