"""The quarantine's table: every statement on it. The caller has the connection and its lock."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from tokengate_executor.guard.calls import MOVES, STATUSES, Call, QuarantinedCall, Status
from tokengate_executor.guard.opening import COLUMNS
from tokengate_executor.guard.writing import WrittenCall, bounded

__all__ = [
    "any_of",
    "count",
    "counts",
    "delete",
    "find",
    "find_pickle",
    "ids_of",
    "insert",
    "move",
    "oldest",
    "select",
]

_NAME_LENGTH: Final = 1_000  # characters, of operations and of ids that are asked for

_NAMES: Final = tuple(COLUMNS.split(", "))

# What is decided goes first, what a person wants to have run goes last.
_ORDER_OF_GOING: Final = (
    "CASE status WHEN 'rejected' THEN 0 WHEN 'replayed' THEN 0 WHEN 'pending' THEN 1 ELSE 2 END"
)


def insert(
    connection: sqlite3.Connection,
    identifier: str,
    call: Call,
    notes: WrittenCall,
    *,
    now: float,
) -> None:
    """Add a pending call of this process."""
    row = (
        identifier,
        bounded(call.operation, _NAME_LENGTH),
        "pending",
        call.reason,
        notes.error_type,
        notes.error_text,
        notes.traceback,
        call.attempts,
        call.submitted_at,
        now,
        None,
        notes.summary,
        notes.fingerprint,
        notes.not_replayable_because,
        os.getpid(),
        notes.pickled,
    )
    places = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO quarantined ({COLUMNS}, pickled) VALUES ({places})", row)


def select(connection: sqlite3.Connection, status: Status | None) -> tuple[QuarantinedCall, ...]:
    """All calls, or those of one status, in the order of arrival."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM quarantined WHERE :status IS NULL OR status = :status "
        "ORDER BY number",
        {"status": status},
    )
    return tuple(map(_record, rows))


def find(connection: sqlite3.Connection, identifier: str) -> QuarantinedCall | None:
    """The call of that id, if there is one."""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM quarantined WHERE id = ?", (_searchable(identifier),)
    ).fetchone()
    return None if row is None else _record(row)


def find_pickle(
    connection: sqlite3.Connection, identifier: str
) -> tuple[bytes | None, str, int] | None:
    """Of the call of that id: its pickle; why there is none, if so; the process it came from."""
    found: tuple[bytes | None, str, int] | None = connection.execute(
        "SELECT pickled, not_replayable_because, process_id FROM quarantined WHERE id = ?",
        (_searchable(identifier),),
    ).fetchone()
    return found


def move(connection: sqlite3.Connection, identifier: str, wanted: Status, now: float) -> bool:
    """Give the call that status if it may go there from the one that it has; whether it did."""
    origins = [status for status, nexts in MOVES.items() if wanted in nexts]
    moved = connection.execute(
        "UPDATE quarantined SET status = ?, decided_at = ? "
        f"WHERE id = ? AND status IN ({', '.join('?' * len(origins))})",
        (wanted, now, _searchable(identifier), *origins),
    )
    return moved.rowcount == 1


def count(connection: sqlite3.Connection) -> int:
    """How many calls are there."""
    number: int = connection.execute("SELECT count(*) FROM quarantined").fetchone()[0]
    return number


def counts(connection: sqlite3.Connection) -> dict[Status, int]:
    """How many calls are in each status; all statuses are there."""
    rows = connection.execute("SELECT status, count(*) FROM quarantined GROUP BY status")
    found: dict[Status, int] = dict(rows)
    return {status: found.get(status, 0) for status in STATUSES}


def oldest(connection: sqlite3.Connection, number: int) -> list[str]:
    """The ids of those that go first when room is needed."""
    rows = connection.execute(
        f"SELECT id FROM quarantined ORDER BY {_ORDER_OF_GOING}, number LIMIT ?", (number,)
    )
    return [row[0] for row in rows]


def ids_of(
    connection: sqlite3.Connection, status: Status | None, before: float | None
) -> list[str]:
    """The ids of those that have that status and came before that moment."""
    rows = connection.execute(
        "SELECT id FROM quarantined WHERE (:status IS NULL OR status = :status) "
        "AND (:before IS NULL OR quarantined_at < :before)",
        {"status": status, "before": before},
    )
    return [row[0] for row in rows]


def any_of(connection: sqlite3.Connection, identifiers: Iterable[str]) -> set[str]:
    """Those of the ids that are there."""
    look = "SELECT 1 FROM quarantined WHERE id = ?"
    return {one for one in identifiers if connection.execute(look, (one,)).fetchone() is not None}


def delete(connection: sqlite3.Connection, identifiers: Iterable[str]) -> None:
    """Delete the calls of those ids."""
    connection.executemany("DELETE FROM quarantined WHERE id = ?", ((one,) for one in identifiers))


def _searchable(identifier: str) -> str:
    # An id from a command line may hold what SQLite cannot look for, and then is no id of ours.
    return bounded(identifier, _NAME_LENGTH)


def _record(row: tuple[Any, ...]) -> QuarantinedCall:
    facts: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    return QuarantinedCall(replayable=not facts["not_replayable_because"], **facts)
