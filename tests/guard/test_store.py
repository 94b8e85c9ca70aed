"""The quarantine's store: what goes in, what is told of it, who may move it, what is left alone."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tokengate_executor.errors import (
    InvalidOptionError,
    NotReplayableError,
    QuarantineFileError,
    QuarantineFullError,
    QuarantineStateError,
    UnknownQuarantineIdError,
)
from tokengate_executor.guard import opening
from tokengate_executor.guard.calls import MOVES, STATUSES, Call
from tokengate_executor.guard.store import QuarantineStore
from tokengate_executor.guard.writing import ERROR_TEXT_LENGTH, SUMMARY_LENGTH, TRACEBACK_LENGTH

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

NOW = 1_700_000_000.0


class Clock:
    """Wall-clock time that moves when a test says so."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        """Return it."""
        return self.time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a quarantine may be made."""
    return tmp_path / "quarantine.db"


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[QuarantineStore]:
    """Yield an empty store of each kind, closed afterwards."""
    with QuarantineStore(path if request.param == "file" else None, now=Clock()) as made:
        yield made


def call_of(fn: Callable[..., Any] = divmod, *args: Any, **facts: Any) -> Call:
    """Return a call to store."""
    return Call("shop.pay", fn, args, **facts)


def raised(error: BaseException) -> BaseException:
    """Return the exception with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def names_beside(path: Path) -> set[str]:
    """Return the names of all files in its directory."""
    return {found.name for found in path.parent.iterdir()}


# What goes in comes out


def test_a_call_comes_back_whole(store: QuarantineStore) -> None:
    """Function and arguments are the same, however long; nothing is cut."""
    long = "x" * 1_000_000
    one = store.add(Call("shop.pay", divmod, (7, long), {"key": [1, {2}]}))
    assert store.load(one) == (divmod, (7, long), {"key": [1, {2}]})


def test_what_is_told_of_a_call(store: QuarantineStore) -> None:
    """Each fact has its place."""
    error = raised(ValueError("no such account"))
    call = Call("shop.pay", divmod, (7,), {"key": 2}, "spike", error, 3, NOW - 60)
    entry = store.get(store.add(call))
    assert (entry.operation, entry.status, entry.reason) == ("shop.pay", "pending", "spike")
    assert (entry.error_type, entry.error_text) == ("builtins.ValueError", "no such account")
    assert entry.traceback.startswith("Traceback")
    assert "in raised" in entry.traceback
    assert entry.traceback.endswith("ValueError: no such account\n")
    assert (entry.attempts, entry.submitted_at, entry.quarantined_at) == (3, NOW - 60, NOW)
    assert entry.decided_at is None
    assert entry.summary == "builtins.divmod(7, key=2)"
    assert (entry.replayable, entry.not_replayable_because) == (True, "")
    assert entry.process_id == os.getpid()
    assert store.pending() == (entry,)


def test_a_call_without_an_error(store: QuarantineStore) -> None:
    """A spike may be found before the call has run."""
    entry = store.get(store.add(call_of(reason="spike")))
    assert (entry.error_type, entry.error_text, entry.traceback) == ("", "", "")


def test_ids_are_unique_and_entries_in_order(store: QuarantineStore) -> None:
    """Equal calls are two entries."""
    ids = [store.add(call_of()) for _ in range(20)]
    assert len(set(ids)) == 20
    assert [entry.id for entry in store.pending()] == ids


def test_fingerprints(store: QuarantineStore) -> None:
    """Equal calls have equal ones; another argument or operation makes another."""
    calls = [
        call_of(divmod, 1),
        call_of(divmod, 1, attempts=5),
        call_of(divmod, 2),
        Call("other", divmod, (1,)),
    ]
    same, again, other, elsewhere = (store.get(store.add(call)).fingerprint for call in calls)
    assert same == again
    assert len({same, other, elsewhere}) == 3


def test_fingerprint_without_a_pickle(store: QuarantineStore) -> None:
    """Then the operation and the type of the error make it."""
    errors = [ValueError("a"), ValueError("b"), TypeError("a")]
    a, b, other = (
        store.get(store.add(call_of(lambda: 0, error=error))).fingerprint for error in errors
    )
    assert a == b != other


def test_it_stays_in_the_file(path: Path) -> None:
    """Another store on the same file has it all, and numbers no id twice."""
    with QuarantineStore(path) as first:
        one = first.add(call_of(divmod, 7, 2))
        first.approve(one)
    with QuarantineStore(path, create=False) as second:
        assert second.get(one).status == "approved"
        assert second.load(one) == (divmod, (7, 2), {})


def test_a_closed_store_opens_again(path: Path) -> None:
    """A late call is not lost to a store that was closed before."""
    store = QuarantineStore(path)
    one = store.add(call_of())
    store.close()
    store.close()
    two = store.add(call_of())
    assert [entry.id for entry in store.pending()] == [one, two]
    store.close()


def test_a_store_that_is_dropped_closes_its_file(path: Path) -> None:
    """Nothing complains, and no file of SQLite's is left beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QuarantineStore(path).add(call_of())
        gc.collect()
    assert names_beside(path) == {path.name}


def test_the_logs_have_no_arguments() -> None:
    """Nor has the text of a call, which somebody may log."""
    call = Call("shop.pay", divmod, ("secret",), {"key": "secret"}, error=ValueError("secret"))
    assert "secret" not in repr(call)


# What cannot be pickled, or shown


class Awkward:
    """Raises wherever somebody looks at it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error

    def __reduce__(self) -> Any:
        raise self.error


class UnspeakableError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError


def test_a_call_that_cannot_be_pickled_is_kept(store: QuarantineStore) -> None:
    """It is in memory as it was, and its entry says why it is there only."""
    lock = threading.Lock()
    one = store.add(call_of(divmod, lock))
    entry = store.get(one)
    assert not entry.replayable
    assert "cannot be pickled: TypeError" in entry.not_replayable_because
    fn, args, kwargs = store.load(one)
    assert (fn, kwargs) == (divmod, {})
    assert args[0] is lock


def test_a_kept_call_is_out_of_reach_for_others(path: Path) -> None:
    """Another process, or this one after a close, is told who had it."""
    with QuarantineStore(path) as first, QuarantineStore(path) as second:
        one = first.add(call_of(lambda: 0))
        with pytest.raises(NotReplayableError, match=f"only process {os.getpid()} had it"):
            second.load(one)
        assert first.load(one)
        first.close()
        with pytest.raises(NotReplayableError):
            first.load(one)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), RecursionError()])
def test_code_of_the_users_that_raises_does_no_harm(
    store: QuarantineStore, error: BaseException
) -> None:
    """A bad ``__reduce__``, ``__repr__`` or ``__str__`` is told in the entry."""
    entry = store.get(store.add(call_of(divmod, Awkward(error), error=raised(UnspeakableError()))))
    assert type(error).__name__ in entry.not_replayable_because
    assert entry.error_text == "(its text raised RuntimeError)"
    assert "UnspeakableError" in entry.traceback
    assert "Awkward" in entry.summary


def test_an_interruption_is_not_swallowed(store: QuarantineStore) -> None:
    """Ctrl-C while a call is pickled goes on to whoever waits for it."""
    with pytest.raises(KeyboardInterrupt):
        store.add(call_of(divmod, Awkward(KeyboardInterrupt())))
    assert store.pending() == ()


def test_a_pickle_larger_than_the_database_takes_is_kept(
    store: QuarantineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not cut, and not refused."""
    monkeypatch.setattr("tokengate_executor.guard.store._LARGEST_PICKLE", 1000)
    one = store.add(call_of(divmod, "x" * 2000))
    assert "bytes, and the store takes 1000" in store.get(one).not_replayable_because
    assert store.load(one)[1] == ("x" * 2000,)


@pytest.mark.parametrize(
    "given",
    ["x" * 10**6, b"x" * 10**6, bytearray(10**6), list(range(10**6)), 10**5000, {"k": "v" * 10**6}],
    ids=lambda given: type(given).__name__,
)
def test_texts_for_people_are_bounded(store: QuarantineStore, given: Any) -> None:
    """Summary, text of the error and traceback have a length that a person can read."""
    error = raised(ValueError("y" * 10**6))
    call = Call("shop.pay", divmod, (given,) * 20, {f"k{n}": given for n in range(20)}, error=error)
    entry = store.get(store.add(call))
    assert entry.summary.startswith("builtins.divmod(")
    assert len(entry.summary) <= SUMMARY_LENGTH
    assert len(entry.error_text) <= ERROR_TEXT_LENGTH
    assert len(entry.traceback) <= TRACEBACK_LENGTH
    assert entry.traceback.endswith("yyy\n"), "the end is what counts"


def test_text_that_is_no_unicode(store: QuarantineStore) -> None:
    """Undecodable file names and NULs are in messages; they are stored escaped."""
    name = os.fsdecode(b"caf\xe9\0")
    call = Call(name, divmod, (name,), error=raised(OSError(name)))
    entry = store.get(store.add(call))
    assert entry.operation == entry.error_text == "caf\\udce9\0"
    with pytest.raises(UnknownQuarantineIdError):
        store.get(name)


# Nothing is unpickled unasked


class Trap:
    """Unpickling it makes a directory."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_only_load_unpickles(path: Path, tmp_path: Path) -> None:
    """A pickle does what it wants, and until somebody loads it, it does nothing."""
    mark = tmp_path / "unpickled"
    with QuarantineStore(path) as first:
        one = first.add(call_of(divmod, Trap(mark)))
    with QuarantineStore(path) as store:
        assert store.entries() == store.pending() == (store.get(one),)
        store.reject(one)
        store.approve(one)
        store.mark_replayed(one)
        store.give_back(one)
        store.counts()
        assert not mark.exists()
        store.load(one)
        assert mark.is_dir()


def test_a_pickle_that_cannot_be_read_is_told(store: QuarantineStore, tmp_path: Path) -> None:
    """The reason is in the error, and the call stays as it was."""
    one = store.add(call_of(divmod, Trap(tmp_path)))  # the directory exists already
    with pytest.raises(NotReplayableError, match="cannot be unpickled: FileExistsError") as caught:
        store.load(one)
    assert caught.value.id == one
    assert isinstance(caught.value.__cause__, FileExistsError)
    assert store.get(one).status == "pending"


# Statuses


def into(store: QuarantineStore, status: str) -> str:
    """Return the id of a call that was brought into that status."""
    one = store.add(call_of())
    if status != "pending":
        verb_for(store, status)(one)
    return one


def verb_for(store: QuarantineStore, status: str) -> Callable[[str], None]:
    """Return the method that gives a call that status."""
    return {
        "pending": store.give_back,
        "approved": store.approve,
        "rejected": store.reject,
        "replayed": store.mark_replayed,
    }[status]


@pytest.mark.parametrize("wanted", STATUSES)
@pytest.mark.parametrize("origin", STATUSES)
def test_moves(store: QuarantineStore, origin: Any, wanted: Any) -> None:
    """What the table allows is done and dated; all else is refused and changes nothing."""
    one = into(store, origin)
    if wanted in MOVES[origin]:
        verb_for(store, wanted)(one)
        assert (store.get(one).status, store.get(one).decided_at) == (wanted, NOW)
    else:
        with pytest.raises(QuarantineStateError) as caught:
            verb_for(store, wanted)(one)
        assert (caught.value.id, caught.value.status, caught.value.wanted) == (one, origin, wanted)
        assert store.get(one).status == origin
    assert sum(store.counts().values()) == 1


@pytest.mark.parametrize("verb", ["get", "approve", "reject", "mark_replayed", "give_back", "load"])
def test_an_unknown_id(store: QuarantineStore, verb: str) -> None:
    """Each verb says which id it does not know."""
    with pytest.raises(UnknownQuarantineIdError, match="no quarantined call has the id 'nobody'"):
        getattr(store, verb)("nobody")


def test_counts(store: QuarantineStore) -> None:
    """Each status is there, also with nothing in it."""
    assert store.counts() == dict.fromkeys(STATUSES, 0)
    for status in ("pending", "rejected", "rejected"):
        into(store, status)
    assert store.counts() == {"pending": 1, "approved": 0, "rejected": 2, "replayed": 0}
    assert len(store.entries("rejected")) == 2


@pytest.mark.parametrize("verb", ["approve", "reject", "mark_replayed"])
@pytest.mark.parametrize("shared", [True, False], ids=["one store", "a store each"])
def test_of_all_who_decide_at_once_one_wins(path: Path, verb: str, shared: bool) -> None:
    """The others get the error that says so."""
    number = 8
    stores = [QuarantineStore(path)] * number
    if not shared:
        stores = [QuarantineStore(path) for _ in range(number)]
    one = stores[0].add(call_of())
    together = threading.Barrier(number)

    def decide(store: QuarantineStore) -> bool:
        together.wait(20)
        try:
            getattr(store, verb)(one)
        except QuarantineStateError:
            return False
        return True

    with ThreadPoolExecutor(number) as threads:
        assert sum(threads.map(decide, stores)) == 1
    for store in stores:
        store.close()


# Purge, and what happens when it is full


def test_purge(store: QuarantineStore) -> None:
    """By status, by age, by both, all."""
    clock: Any = store._now  # pyright: ignore[reportPrivateUsage]
    old = into(store, "rejected")
    clock.time += 100
    into(store, "rejected")
    new = into(store, "pending")
    assert store.purge("replayed") == 0
    assert store.purge(older_than=100) == 0, "not older: as old"
    assert store.purge("rejected", older_than=99.5) == 1
    with pytest.raises(UnknownQuarantineIdError):
        store.get(old)
    assert store.purge("rejected") == 1
    assert [entry.id for entry in store.entries()] == [new]
    assert store.purge() == 1
    assert store.entries() == ()


def test_purged_calls_are_let_go_of(path: Path) -> None:
    """Memory holds nothing whose row is gone, whoever purged it."""
    with QuarantineStore(path) as store, QuarantineStore(path) as other:
        kept = store._kept  # pyright: ignore[reportPrivateUsage]
        store.add(call_of(lambda: 0))
        assert store.purge() == 1
        assert kept == {}
        store.add(call_of(lambda: 0))
        assert other.purge() == 1
        one = store.add(call_of(lambda: 0))
        assert list(kept) == [one]


def test_full_and_refusing(path: Path) -> None:
    """Nothing that is there is lost; the caller hears of it, and nothing of the call stays."""
    with QuarantineStore(path, max_entries=2) as store:
        ids = [store.add(call_of(lambda: 0)) for _ in range(2)]
        with pytest.raises(QuarantineFullError) as caught:
            store.add(call_of(lambda: 0))
        assert (caught.value.entries, caught.value.max_entries) == (2, 2)
        assert [entry.id for entry in store.entries()] == ids
        assert list(store._kept) == ids  # pyright: ignore[reportPrivateUsage]
        store.purge()
        assert store.add(call_of())


def test_full_and_discarding(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Decided calls go first, approved ones last, the oldest of each before the others."""
    order = ["approved", "pending", "pending", "replayed", "rejected"]
    with QuarantineStore(path, max_entries=5, on_full="discard_oldest") as store:
        approved, older, newer, replayed, rejected = (into(store, status) for status in order)
        gone: list[str] = []
        for _ in range(5):
            before = {entry.id for entry in store.entries()}
            with caplog.at_level(logging.WARNING, "tokengate_executor"):
                added = store.add(call_of(lambda: 0))
            store.approve(added)  # goes last itself
            left = {entry.id for entry in store.entries()}
            assert len(left) == 5
            (lost,) = before - left
            assert lost in caplog.messages[-1]
            gone.append(lost)
        assert gone == [replayed, rejected, older, newer, approved]
        store.add(call_of(lambda: 0))
        assert len(store._kept) == 5  # pyright: ignore[reportPrivateUsage]


def test_a_file_that_holds_more_than_may_be(path: Path) -> None:
    """A smaller bound than before: as much is discarded as there has to be."""
    with QuarantineStore(path) as store:
        for _ in range(5):
            store.add(call_of())
    with QuarantineStore(path, max_entries=2, on_full="discard_oldest") as store:
        one = store.add(call_of())
        assert [entry.id for entry in store.entries()][1:] == [one]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_entries": 0}, "max_entries must be an int of at least 1, not 0"),
        ({"max_entries": True}, "max_entries must be"),
        ({"on_full": "drop"}, "on_full must be 'refuse' or 'discard_oldest', not 'drop'"),
        ({"path": ""}, "path must be the path of a file or None, not ''"),
        ({"path": b"q.db"}, "path must be"),
        ({"path": 3}, "path must be"),
        ({"path": "a\0b"}, "path must be"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    """They are refused at once, before there is a file."""
    with pytest.raises(InvalidOptionError, match=message):
        QuarantineStore(**arguments)


def test_wrong_arguments_of_verbs(store: QuarantineStore) -> None:
    """A misspelled status is not an empty answer, nor purges it nothing."""
    for misspelled in (store.purge, store.entries):
        with pytest.raises(InvalidOptionError, match="status must be one of 'pending'"):
            misspelled("rejcted")  # type: ignore[operator]
    with pytest.raises(InvalidOptionError, match="older_than must be seconds"):
        store.purge(older_than=-1)


# Files


def test_the_file_is_made_when_it_is_needed(path: Path) -> None:
    """By the first use, or by ``open``; and for its owner alone."""
    with QuarantineStore(path) as store:
        assert not path.exists()
        store.open()
        assert path.exists()
        if os.name == "posix":
            for name in names_beside(path):
                assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600


def test_the_file_is_as_the_decision_says(path: Path) -> None:
    """Write-ahead log, every commit on the disk."""
    with QuarantineStore(path) as store, store._database.reading() as connection:  # pyright: ignore[reportPrivateUsage]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_an_empty_file_becomes_a_quarantine(path: Path) -> None:
    """One that was killed while it made the file has left it so."""
    path.touch()
    with QuarantineStore(path) as store:
        store.add(call_of())


def make_text(path: Path) -> None:
    """Write something that is no database."""
    path.write_text("dear diary\n" * 1000, encoding="utf-8")


def make_short_text(path: Path) -> None:
    """Write less than a database's header."""
    path.write_text("x", encoding="utf-8")


def make_header_only(path: Path) -> None:
    """Write how a database begins, and no more."""
    path.write_bytes(b"SQLite format 3\0\x10\0")


def make_other_database(path: Path) -> None:
    """Make somebody else's database, which is in use of a write-ahead log."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL").close()
    connection.execute("CREATE TABLE quarantined (id)")
    connection.close()


def make_newer(path: Path) -> None:
    """Make a quarantine of a later version of this package."""
    with QuarantineStore(path) as store:
        store.open()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA user_version = 2")
    connection.close()


def make_truncated(path: Path) -> None:
    """Make a quarantine of which the end is lost."""
    make_full(path)
    os.truncate(path, path.stat().st_size // 2)


def make_overwritten(path: Path) -> None:
    """Make a quarantine with noise where its table is described."""
    make_full(path)
    whole = bytearray(path.read_bytes())
    whole[100:3000] = bytes(range(256)) * 11 + bytes(84)
    path.write_bytes(whole)


def make_without_column(path: Path) -> None:
    """Make a file that is marked as ours and has another table."""
    make_other_database(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA application_id = {0x544B4751}")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


def make_full(path: Path) -> None:
    """Make a quarantine of some pages."""
    with QuarantineStore(path) as store:
        for _ in range(20):
            store.add(call_of(divmod, "x" * 5000))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (make_text, "not a quarantine file"),
        (make_short_text, "not a quarantine file"),
        (make_header_only, "not a quarantine file"),
        (make_other_database, "not a quarantine file"),
        (make_newer, "version 2, this package reads 1"),
        (make_truncated, "damaged"),
        (make_overwritten, "damaged"),
        (make_without_column, "damaged"),
    ],
)
def test_a_foreign_or_damaged_file_is_left_as_it_is(
    path: Path, make: Callable[[Path], None], problem: str
) -> None:
    """The error says what is wrong; no byte is changed, and no file is left beside it."""
    make(path)
    before, names = path.read_bytes(), names_beside(path)
    with QuarantineStore(path) as store:
        for use in (store.open, store.pending, lambda: store.add(call_of())):
            with pytest.raises(QuarantineFileError, match=problem) as caught:
                use()
            assert caught.value.path == str(path)
    assert path.read_bytes() == before
    assert names_beside(path) == names


def test_a_foreign_database_in_use_is_left_as_it_is(path: Path) -> None:
    """What its owner has beside it (write-ahead log, shared memory) is not touched either."""
    make_other_database(path)
    owner = sqlite3.connect(path, isolation_level=None)
    owner.execute("INSERT INTO quarantined VALUES (1)")
    before = {name: (path.parent / name).read_bytes() for name in names_beside(path)}
    assert len(before) == 3
    with QuarantineStore(path) as store, pytest.raises(QuarantineFileError, match="not a quaran"):
        store.open()
    assert {name: (path.parent / name).read_bytes() for name in names_beside(path)} == before
    owner.close()


def test_damage_that_shows_later_is_told(path: Path) -> None:
    """The pages of the pickles are not looked at before somebody needs them."""
    make_full(path)
    whole = bytearray(path.read_bytes())
    whole[8192:] = b"\xff" * (len(whole) - 8192)
    path.write_bytes(whole)
    with QuarantineStore(path) as store, pytest.raises(QuarantineFileError, match="damaged"):
        store.entries()
    assert path.read_bytes() == bytes(whole)


def test_paths_that_cannot_be(path: Path, tmp_path: Path) -> None:
    """A directory, a pipe, a directory that is not there."""
    cases = {tmp_path: "regular file", tmp_path / "no" / "q.db": "no such file or directory"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        cases[path] = "regular file"
    for where, problem in cases.items():
        with QuarantineStore(where) as store, pytest.raises(QuarantineFileError, match=problem):
            store.open()


def test_a_file_that_must_exist(path: Path) -> None:
    """Nothing is made where nothing was, nor of an empty file."""
    with QuarantineStore(path, create=False) as store:
        with pytest.raises(QuarantineFileError, match="no such file"):
            store.pending()
        assert names_beside(path) == set()
        path.touch()
        with pytest.raises(QuarantineFileError, match="it is empty"):
            store.pending()
        assert path.stat().st_size == 0


def test_names_that_mean_something_to_sqlite(tmp_path: Path) -> None:
    """The path is taken as it is."""
    path = tmp_path / "a?mode=memory&b#c%20é 'd'.db"
    with QuarantineStore(path) as store:
        store.add(call_of())
    assert names_beside(path) == {path.name}


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that changes its directory later does not get another quarantine."""
    monkeypatch.chdir(tmp_path)
    with QuarantineStore("q.db") as store:
        monkeypatch.chdir("/")
        store.add(call_of())
        assert store.path == str(tmp_path / "q.db")
    assert names_beside(tmp_path / "q.db") == {"q.db"}


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be removed elsewhere")
@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_was_taken_away(path: Path, replaced: bool) -> None:
    """SQLite would write on into nowhere; we say so, and go on when it is back."""
    with QuarantineStore(path) as store:
        one = store.add(call_of())
        away = path.rename(path.with_name("away"))
        if replaced:
            path.write_text("else", encoding="utf-8")
        with pytest.raises(QuarantineFileError, match="removed or replaced while in use"):
            store.add(call_of())
        away.replace(path)
        two = store.add(call_of())
        assert [entry.id for entry in store.entries()] == [one, two]


def test_a_file_that_stays_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while that is an error, and nothing of the call stays."""
    monkeypatch.setattr(opening, "_BUSY_SECONDS", 0.05)
    with QuarantineStore(path) as store:
        store.open()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(QuarantineFileError, match="cannot be used: database is locked"):
            store.add(call_of(lambda: 0))
        other.execute("ROLLBACK")
        other.close()
        assert store.entries() == ()
        assert store._kept == {}  # pyright: ignore[reportPrivateUsage]


def test_a_thread_that_comes_back_in_the_middle_is_not_left_waiting(
    store: QuarantineStore,
) -> None:
    """As a finaliser or a signal handler would."""
    with store._database.writing():  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(QuarantineFileError, match="in the middle of using it"):
            store.add(call_of())
        store.close()
    store.add(call_of())


def test_user_code_runs_without_the_lock(store: QuarantineStore) -> None:
    """What is pickled, shown or freed may use the store itself."""

    class Uses:
        def __reduce__(self) -> Any:
            store.counts()
            raise TypeError

        def __repr__(self) -> str:
            store.counts()
            return "fine"

        def __del__(self) -> None:
            counted.append(store.counts()["pending"])

    counted: list[int] = []
    one = store.add(call_of(divmod, Uses()))
    assert store.get(one).summary == "builtins.divmod(fine)"
    store.purge()
    gc.collect()
    assert counted == [0]


# Several threads, several processes, forks


def add_some(path: str, number: int) -> list[str]:
    """Add calls to a file; returns their ids."""
    with QuarantineStore(path) as store:
        return [store.add(call_of(divmod, n)) for n in range(number)]


def test_many_threads_one_store(store: QuarantineStore) -> None:
    """Each call is there once, and what is counted meanwhile adds up."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            ids = list(threads.map(lambda n: store.add(call_of(divmod, n)), range(100)))
    finally:
        sys.setswitchinterval(interval)
    assert {entry.id for entry in store.pending()} == set(ids)
    assert {store.load(one)[1][0] for one in ids} == set(range(100))


def test_many_threads_make_the_file_at_once(path: Path) -> None:
    """One makes the table, the others find it."""
    number = 8
    together = threading.Barrier(number)

    def make(_n: int) -> list[str]:
        together.wait(20)
        return add_some(str(path), 3)

    with ThreadPoolExecutor(number) as threads:
        ids = [one for some in threads.map(make, range(number)) for one in some]
    with QuarantineStore(path) as store:
        assert {entry.id for entry in store.pending()} == set(ids)


WRITER = """
import sys
from tokengate_executor.guard.calls import Call
from tokengate_executor.guard.store import QuarantineStore
sys.stdin.readline()
with QuarantineStore(sys.argv[1]) as store:
    for n in range(25):
        print(store.add(Call("shop.pay", divmod, (n,))))
"""


def test_several_processes_add_at_once(path: Path) -> None:
    """They begin together with a file that is not there; nothing is lost, no id is given twice."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    ids = [one for writer in writers for one in writer.communicate(timeout=50)[0].split()]
    assert len(set(ids)) == 100
    with QuarantineStore(path) as store:
        entries = store.pending()
    assert {entry.id for entry in entries} == set(ids)
    assert len({entry.process_id for entry in entries}) == 4
    assert names_beside(path) == {path.name}


def in_child(work: Callable[[], object]) -> None:
    """Run it in a forked child; fail if it fails there."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode == 0


@needs_fork
def test_a_forked_child_and_its_parent_go_on(path: Path) -> None:
    """Both add to the same file, and neither has the other's connection."""
    with QuarantineStore(path) as store:
        kept = store.add(call_of(lambda: 0))

        def child() -> None:
            with pytest.raises(NotReplayableError):
                store.load(kept)
            store.add(call_of(divmod, 2))
            store.close()

        in_child(child)
        store.add(call_of(divmod, 3))
        assert store.load(kept)
        processes = [entry.process_id for entry in store.pending()]
        assert processes[0] == processes[2] == os.getpid() != processes[1]


@needs_fork
def test_a_fork_closes_the_connection_before(path: Path) -> None:
    """SQLite's memory of locks must not be copied; both open the file again."""
    with QuarantineStore(path) as store:
        store.open()
        database = store._database  # pyright: ignore[reportPrivateUsage]

        def child() -> None:
            assert database._connection is None  # pyright: ignore[reportPrivateUsage]

        in_child(child)
        assert database._connection is None  # pyright: ignore[reportPrivateUsage]


@needs_fork
def test_a_quarantine_in_memory_is_empty_in_a_child() -> None:
    """Its calls are the parent's, who alone replays them."""
    with QuarantineStore() as store:
        store.add(call_of(lambda: 0))

        def child() -> None:
            assert store.entries() == ()
            store.add(call_of())

        in_child(child)
        assert len(store.entries()) == 1


@needs_fork
def test_forks_while_other_threads_add(path: Path) -> None:
    """No child finds the lock taken or the file in the middle of something."""
    done = threading.Event()
    added: list[str] = []

    with QuarantineStore(path, max_entries=10**6) as store:

        def keep_adding() -> None:
            while not done.wait(0.001):  # a pause, or SQLite lets no other process in for long
                added.append(store.add(call_of()))

        adder = threading.Thread(target=keep_adding)
        adder.start()
        try:
            for _ in range(10):
                in_child(lambda: store.add(Call("child", divmod)))
        finally:
            done.set()
            adder.join()
        entries = store.entries()
        assert [entry.id for entry in entries if entry.operation == "shop.pay"] == added
        assert sum(entry.operation == "child" for entry in entries) == 10


@needs_fork
def test_a_fork_out_of_a_transaction(path: Path) -> None:
    """The child begins anew, and the parent finishes what it began."""
    with QuarantineStore(path) as store:
        database = store._database  # pyright: ignore[reportPrivateUsage]
        one = store.add(call_of())

        def child() -> None:
            assert store.get(one).status == "pending"

        with database.reading() as connection:
            in_child(child)
            assert connection.execute("SELECT count(*) FROM quarantined").fetchone() == (1,)


def test_pickles_are_of_a_protocol_that_every_version_reads(path: Path) -> None:
    """A file written by a later Python is read by an earlier one."""
    with QuarantineStore(path) as store:
        store.add(call_of())
        with store._database.reading() as connection:  # pyright: ignore[reportPrivateUsage]
            (stored,) = connection.execute("SELECT pickled FROM quarantined").fetchone()
    assert stored[:2] == b"\x80\x05"
    assert pickle.loads(stored) == (divmod, (), {})
