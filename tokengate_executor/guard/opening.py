"""How a quarantine's SQLite file is told from any other, made, and opened.

Guarantees: a file that is foreign or damaged is left as it is, and nothing is put beside a foreign one;
a process killed anywhere in here leaves a file that the next one can open.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tokengate_executor.errors import QuarantineFileError

__all__ = [
    "COLUMNS",
    "MEMORY",
    "connect",
    "explained",
    "identified",
    "identity_of",
    "make_schema",
    "prepare",
    "transaction",
    "uri_of",
]

MEMORY: Final = ":memory:"

COLUMNS: Final = (
    "id, operation, status, reason, error_type, error_text, traceback, attempts, submitted_at, "
    "quarantined_at, decided_at, summary, fingerprint, not_replayable_because, process_id"
)
"""All but the pickle; each is an attribute of ``QuarantinedCall``."""

_APPLICATION_ID: Final = 0x544B4751  # "TKGQ"
_VERSION: Final = 1
_SCHEMA: Final = (
    """
    CREATE TABLE quarantined (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        operation TEXT NOT NULL,
        status TEXT NOT NULL,
        reason TEXT NOT NULL,
        error_type TEXT NOT NULL,
        error_text TEXT NOT NULL,
        traceback TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        submitted_at REAL NOT NULL,
        quarantined_at REAL NOT NULL,
        decided_at REAL,
        summary TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        not_replayable_because TEXT NOT NULL,
        process_id INTEGER NOT NULL,
        pickled BLOB
    )
    """,
    "CREATE INDEX quarantined_by_status ON quarantined (status, number)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)

_BUSY_SECONDS: Final = 30.0
_FOREIGN: Final = "it is not a quarantine file; name another path"


def connect(target: str) -> sqlite3.Connection:
    """Connect to what ``uri_of`` returned, or to ``MEMORY``."""
    return sqlite3.connect(
        target,
        uri=target != MEMORY,
        timeout=_BUSY_SECONDS,
        isolation_level=None,  # transactions are begun here, not guessed
        check_same_thread=False,
    )


def uri_of(path: str, parameters: str) -> str:
    """An absolute path as SQLite wants it when there is more to say."""
    return f"{Path(path).as_uri()}?{parameters}"


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Hold the right to write; commit at the end, or undo all after an exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def identified(path: str, *, create: bool) -> tuple[int, int]:
    """Make sure that the path is a file of ours, or an empty one; nothing else is touched."""
    try:
        if create:
            # A pickle is code to whoever replays it, and holds arguments: for the owner only.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        found = Path(path).stat()
    except OSError as error:
        raise QuarantineFileError(path, (error.strerror or str(error)).lower()) from error
    if not stat.S_ISREG(found.st_mode):
        raise QuarantineFileError(path, "it is not a regular file")
    if found.st_size:
        _check_header(path)
    elif not create:
        raise QuarantineFileError(path, "it is empty")
    return found.st_dev, found.st_ino


def identity_of(path: str) -> tuple[int, int] | None:
    """Which file it is, whatever it is called; ``None``: there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_header(path: str) -> None:
    # "immutable" takes no lock and puts no file beside it. It does not see the write-ahead log, and
    # what a killed process has left may be whole only together with that: so only the header is
    # read, which is there from the first commit on, and with "writable_schema" SQLite does not
    # compare the size that it tells. Not with open(): closing that would drop SQLite's locks.
    try:
        connection = connect(uri_of(path, "mode=ro&immutable=1"))
        try:
            connection.execute("PRAGMA writable_schema = ON")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise QuarantineFileError(path, f"it cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise QuarantineFileError(path, _FOREIGN) from error
    if application != _APPLICATION_ID:
        raise QuarantineFileError(path, _FOREIGN)
    if version != _VERSION:
        raise QuarantineFileError(path, f"it has version {version}, this package reads {_VERSION}")


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Set the connection up, make the table if it is missing, and check that it is ours."""
    connection.execute("PRAGMA trusted_schema = OFF")
    # An entry is rare and is there to be kept: it is worth a write to the disk of its own. With
    # NORMAL the last ones would be lost with the machine's power, though not with the process.
    connection.execute("PRAGMA synchronous = FULL")
    if not _has_schema(connection):
        with transaction(connection):
            if not _has_schema(connection):  # another process may have been faster
                make_schema(connection)
    _use_write_ahead_log(connection)
    try:
        connection.execute(f"SELECT number, pickled, {COLUMNS} FROM quarantined LIMIT 0").close()
    except sqlite3.OperationalError as error:
        raise QuarantineFileError(path, f"it is damaged: {error}") from error


def _has_schema(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables)


def make_schema(connection: sqlite3.Connection) -> None:
    """Make the table in an empty database and mark the file as ours; within a transaction."""
    for statement in _SCHEMA:
        connection.execute(statement)


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # After the schema, so that no file has ever a header without our application_id. Where the file
    # system has no shared memory, SQLite stays with its rollback journal: slower, as safe. The
    # switch needs the file alone, and SQLite does not always wait for that itself.
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.005)
        else:
            return


def explained(error: sqlite3.Error) -> str:
    """What SQLite complains of, and whether that means that the file is damaged."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"it is damaged: {error}"
    return f"it cannot be used: {error}"
