"""The quarantine's database: one connection, its lock, and what becomes of both in a fork.

Guarantees: what ``writing`` has committed survives the death of the process and of the machine; a
thread never waits for itself; a forked child has nothing of its parent's connection.
Assumes: nobody runs code of the user's inside ``reading`` and ``writing``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary, finalize

from tokengate_executor.errors import QuarantineFileError
from tokengate_executor.guard.opening import (
    MEMORY,
    connect,
    explained,
    identified,
    identity_of,
    make_schema,
    prepare,
    transaction,
    uri_of,
)

__all__ = ["Database"]

_FORK_SECONDS: Final = 5.0

_MOVED: Final = "it was removed or replaced while in use; put it back or begin anew"

# Guards the time from a file's creation to its first connection, in this process: closing a file
# drops all locks that SQLite has on it here. Taken inside a database's own lock, never around it.
_opening = threading.Lock()


class Database:
    """One connection, opened when it is first needed, for all threads of this process.

    Args:
        path: of the file, or ``MEMORY``.
        create: whether a file that does not exist, or is empty, becomes a quarantine.
    """

    def __init__(self, path: str, *, create: bool) -> None:
        self.path = path if path == MEMORY else str(Path(path).absolute())
        self._create = create
        # Guards the connection and all that is done with it. Re-entrant only so that a thread that
        # comes back in the middle of its own transaction (a finaliser, a signal handler) gets an
        # error instead of waiting for itself.
        self._lock = threading.RLock()
        self._inside = False
        self._connection: sqlite3.Connection | None = None
        # Closes it when we are gone, before anybody's finaliser runs: the connection's own complains.
        self._closer: finalize[[], Database] | None = None
        self._identity: tuple[int, int] | None = None
        _databases[id(self)] = self

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """The connection, for this thread alone.

        Raises:
            QuarantineFileError: whatever SQLite has to complain of.
        """
        with self._lock:
            if self._inside:
                raise QuarantineFileError(
                    self.path, "this thread is in the middle of using it (finaliser, signal?)"
                )
            self._inside = True
            try:
                yield self._connected()
            except sqlite3.Error as error:
                raise QuarantineFileError(self.path, explained(error)) from error
            finally:
                self._inside = False

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """The same, in a transaction that is committed at the end, or undone by an exception."""
        with self.reading() as connection, transaction(connection):
            yield connection

    def close(self) -> None:
        """Close the connection, if there is one; the next use opens one again."""
        with self._lock:
            if not self._inside:
                self._disconnect()

    def __del__(self) -> None:
        # Nobody else has it any more, so no lock; a connection left open would be complained of.
        with suppress(AttributeError, sqlite3.Error):
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if self._closer is not None:
            self._closer.detach()
        if connection is not None:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            if self.path == MEMORY:
                self._connection = connect(MEMORY)
                with transaction(self._connection):
                    make_schema(self._connection)
            else:
                with _opening:
                    self._identity = identified(self.path, create=self._create)
                    self._connection = connect(uri_of(self.path, "mode=rw"))
                try:
                    prepare(self._connection, self.path)
                except BaseException:
                    self._disconnect()
                    raise
            self._closer = finalize(self, self._connection.close)
            self._closer.atexit = False
        elif self._identity is not None and identity_of(self.path) != self._identity:
            # SQLite would go on writing into a file that has no name any more.
            raise QuarantineFileError(self.path, _MOVED)
        return self._connection

    # A fork: SQLite must not find in the child a connection that the parent has open, nor its memory
    # of the parent's locks. So it is closed before, and both open it again when they need it.

    def before_fork(self) -> bool:
        """Close a file; returns whether the lock is held, for ``after_fork`` to release."""
        if not self._lock.acquire(timeout=_FORK_SECONDS):
            return False
        if self._inside:  # a fork out of our own transaction: only the child can still be helped
            self._lock.release()
            return False
        if self.path != MEMORY:
            self._disconnect()
        return True

    def after_fork(self, *, held: bool, in_child: bool) -> None:
        """Release the lock; in the child, begin anew: what is in memory is the parent's."""
        if not in_child:
            if held:
                self._lock.release()
            return
        self._lock, self._inside = threading.RLock(), False
        if held:
            self._disconnect()
        elif self._connection is not None:
            _inherited.append(self._connection)  # not even closed: it may be in any state
            self._connection = None
            if self._closer is not None:
                self._closer.detach()


_databases: Final[WeakValueDictionary[int, Database]] = WeakValueDictionary()
_inherited: Final[list[sqlite3.Connection]] = []
_forking: Final[dict[int, list[tuple[Database, bool]]]] = {}
"""Thread that forks → the databases, and whether it holds their locks."""


def _before_fork() -> None:
    found = [database for ref in _databases.valuerefs() if (database := ref()) is not None]
    _forking[threading.get_ident()] = [(database, database.before_fork()) for database in found]


def _after_fork(*, in_child: bool) -> None:
    for database, held in _forking.pop(threading.get_ident(), ()):
        database.after_fork(held=held, in_child=in_child)


def _after_fork_in_child() -> None:
    global _opening  # noqa: PLW0603
    _opening = threading.Lock()
    _after_fork(in_child=True)
    _forking.clear()  # other threads' forks did not come along


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(in_child=False),
        after_in_child=_after_fork_in_child,
    )
