"""The quarantine: calls that must not run again before a person has looked at them.

A call is stored whole, as a pickle, in an SQLite file that several processes may share, or in memory.
Only ``load`` unpickles, and nothing here calls it: see ``docs/decisions/0009``.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import Final, Literal, Self, cast

from tokengate_executor.errors import (
    InvalidOptionError,
    NotReplayableError,
    QuarantineFullError,
    QuarantineStateError,
    UnknownQuarantineIdError,
)
from tokengate_executor.guard import rows
from tokengate_executor.guard.calls import STATUSES, Call, CallParts, QuarantinedCall, Status
from tokengate_executor.guard.database import Database
from tokengate_executor.guard.opening import MEMORY
from tokengate_executor.guard.writing import told, written
from tokengate_executor.options import is_duration

__all__ = ["QuarantineStore"]

_LOGGER: Final = logging.getLogger("tokengate_executor")

_LARGEST_PICKLE: Final = 900_000_000  # bytes; SQLite takes a row of 10**9


class QuarantineStore:
    """A quarantine in a file or in memory; safe with many threads and, in a file, many processes.

    A file is opened when it is first needed, or by ``open``, and again in a forked child. One in
    memory is empty in a forked child: what is in it is the parent's to decide.

    Every method that looks into the store raises ``QuarantineFileError`` if the file is foreign,
    damaged, out of reach, removed while in use, or busy for more than 30 s; also for a finaliser or
    signal handler that comes in the middle of another of these calls on the same thread.

    Args:
        path: of the file; a missing or empty one becomes a quarantine that only its owner may read.
            ``None`` or ``":memory:"``: in memory.
        max_entries: how many calls may be here, decided ones included.
        on_full: ``"refuse"``: no further call comes in, ``add`` raises; nothing that is here is lost.
            ``"discard_oldest"``: room is made, with a warning in the log. The oldest rejected or
            replayed call goes first; where there is none, the oldest pending, then approved one.
        create: ``False``: a missing or empty file is an error.
        now: the clock that people read, in seconds since the epoch.

    Raises:
        InvalidOptionError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        max_entries: int = 10_000,
        on_full: Literal["refuse", "discard_oldest"] = "refuse",
        create: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        entries = cast("object", max_entries)
        if not isinstance(entries, int) or entries is True or entries < 1:
            raise InvalidOptionError("max_entries", entries, "an int of at least 1")
        if on_full not in ("refuse", "discard_oldest"):
            raise InvalidOptionError("on_full", on_full, "'refuse' or 'discard_oldest'")
        self._max_entries, self._on_full, self._now = max_entries, on_full, now
        self._database = Database(_checked_path(path), create=create)
        # Calls without a pickle, by id. Changed only while the database is held, so that it agrees
        # with the rows; but what is taken out is let go of afterwards, as that may run finalisers.
        self._kept: dict[str, CallParts] = {}
        self._process = os.getpid()

    @property
    def path(self) -> str:
        """The file's absolute path; ``:memory:`` without a file."""
        return self._database.path

    def open(self) -> None:
        """Make or open the file now, so that what is wrong with it is known before it is needed."""
        with self._database.reading():
            pass

    def add(self, call: Call) -> str:
        """Store a call; returns its id once it is on the disk.

        A call that cannot be pickled is kept in this process's memory, and its row says so.

        Raises:
            QuarantineFullError: there is no room, and ``on_full`` is ``"refuse"``.
        """
        notes = written(call, _LARGEST_PICKLE)
        identifier = secrets.token_hex(8)
        now, kept = self._now(), self._kept_here()
        whole: CallParts = (call.fn, call.args, dict(call.kwargs))
        let_go: list[CallParts] = []
        try:
            with self._database.writing() as connection:
                discarded = self._make_room(connection)
                rows.insert(connection, identifier, call, notes, now=now)
                if notes.pickled is None:
                    kept[identifier] = whole
                    # Other processes may have purged some.
                    gone = kept.keys() - rows.any_of(connection, tuple(kept))
                    let_go += [kept.pop(one) for one in gone]
        except BaseException:
            kept.pop(identifier, None)
            raise
        let_go += [kept.pop(one) for one in discarded if one in kept]
        if discarded:
            _LOGGER.warning(
                "quarantine %s is full: discarded %s (on_full='discard_oldest')",
                self.path,
                ", ".join(discarded),
            )
        return identifier

    def pending(self) -> tuple[QuarantinedCall, ...]:
        """What nobody has decided on yet, in the order of arrival. Nothing is unpickled."""
        return self.entries("pending")

    def entries(self, status: Status | None = None) -> tuple[QuarantinedCall, ...]:
        """All calls, or those of one status, in the order of arrival. Nothing is unpickled.

        Raises:
            InvalidOptionError: there is no such status.
        """
        _check_status(status)
        with self._database.reading() as connection:
            return rows.select(connection, status)

    def get(self, id: str) -> QuarantinedCall:  # noqa: A002  the word of the command line, too
        """What is told of one call. Nothing is unpickled.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
        """
        with self._database.reading() as connection:
            found = rows.find(connection, id)
        if found is None:
            raise UnknownQuarantineIdError(id)
        return found

    def approve(self, id: str) -> None:  # noqa: A002
        """Say that the call may run again: it was pending or rejected.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
            QuarantineStateError: it is approved or replayed already.
        """
        self._move(id, "approved")

    def reject(self, id: str) -> None:  # noqa: A002
        """Say that the call shall not run again: it was pending or approved.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
            QuarantineStateError: it is rejected or replayed already.
        """
        self._move(id, "rejected")

    def mark_replayed(self, id: str) -> None:  # noqa: A002
        """Take the call, pending or approved, to run it: of all who try, one gets it.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
            QuarantineStateError: it is rejected, or somebody else has taken it.
        """
        self._move(id, "replayed")

    def give_back(self, id: str) -> None:  # noqa: A002
        """Make a call pending again that was taken and has failed, or could not be run.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
            QuarantineStateError: it is not taken.
        """
        self._move(id, "pending")

    def load(self, id: str) -> CallParts:  # noqa: A002
        """Function, arguments and keyword arguments of a call: **unpickles, and so runs code**.

        What runs is what the file says: do this only with a file that nobody else can write, and
        only when a person has asked for it.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
            NotReplayableError: another process has kept it, or it cannot be unpickled here.
        """
        with self._database.reading() as connection:
            found = rows.find_pickle(connection, id)
        if found is None:
            raise UnknownQuarantineIdError(id)
        pickled, because, process = found
        if pickled is None:
            kept = self._kept_here().get(id)
            if kept is not None:
                return kept
            raise NotReplayableError(id, f"{because}; only process {process} had it in memory")
        try:
            fn, args, kwargs = pickle.loads(pickled)
        except Exception as error:
            raise NotReplayableError(id, f"it cannot be unpickled: {told(error)}") from error
        return fn, args, kwargs

    def purge(self, status: Status | None = None, older_than: float | None = None) -> int:
        """Delete calls for good; returns how many.

        Args:
            status: only those of this status. ``None``: of any, also those that nobody has seen.
            older_than: only those that came here more than so many seconds ago.

        Raises:
            InvalidOptionError: an argument has a value that is not allowed.
        """
        _check_status(status)
        if older_than is not None and not is_duration(older_than):
            raise InvalidOptionError("older_than", older_than, "seconds, at least 0, or None")
        before = None if older_than is None else self._now() - older_than
        with self._database.writing() as connection:
            gone = rows.ids_of(connection, status, before)
            rows.delete(connection, gone)
        kept = self._kept_here()
        for one in gone:
            kept.pop(one, None)
        return len(gone)

    def counts(self) -> dict[Status, int]:
        """How many calls are in each status; all statuses are there."""
        with self._database.reading() as connection:
            return rows.counts(connection)

    def close(self) -> None:
        """Let go of the file; using the store again opens it again.

        What is in memory is gone then: calls without a pickle, or all of them if there is no file.
        """
        self._database.close()
        self._kept = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _move(self, identifier: str, wanted: Status) -> None:
        now = self._now()
        with self._database.writing() as connection:
            moved = rows.move(connection, identifier, wanted, now)
            found = None if moved else rows.find(connection, identifier)
        if moved:
            return
        if found is None:
            raise UnknownQuarantineIdError(identifier)
        raise QuarantineStateError(identifier, found.status, wanted)

    def _make_room(self, connection: sqlite3.Connection) -> list[str]:
        entries = rows.count(connection)
        if entries < self._max_entries:
            return []
        if self._on_full == "refuse":
            raise QuarantineFullError(self.path, entries, self._max_entries)
        gone = rows.oldest(connection, entries + 1 - self._max_entries)
        rows.delete(connection, gone)
        return gone

    def _kept_here(self) -> dict[str, CallParts]:
        if self._process != os.getpid():  # forked: the parent keeps them
            self._kept, self._process = {}, os.getpid()
        return self._kept


def _checked_path(path: object) -> str:
    if path is None:
        return MEMORY
    try:
        named: object = os.fspath(cast("str | os.PathLike[str]", path))
    except TypeError:
        named = None
    if not isinstance(named, str) or not named or "\0" in named:
        raise InvalidOptionError("path", path, "the path of a file or None")
    return named


def _check_status(status: Status | None) -> None:
    if status is not None and status not in STATUSES:
        allowed = ", ".join(repr(known) for known in STATUSES)
        raise InvalidOptionError("status", status, f"one of {allowed} or None")
