"""The same random program on ThreadPoolExecutor and on ours: what can be observed is the same.

A program is a list of operations. It is run with one worker, which makes the order of calls
definite, and after each operation the interpreter of programs lets the worker come to rest: it has
run all there is, or it is in a call that waits for an event. So nothing depends on chance.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NoReturn

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokengate_executor import TokenGateExecutor

PATIENCE: Final = 30.0
"""Seconds after which something that must come is not coming."""

Operation = tuple[str, *tuple[Any, ...]]
"""A verb of ``Run``, and its arguments."""

EXCEPTIONS: Final[tuple[type[BaseException], ...]] = (
    ValueError,
    KeyError,
    TimeoutError,
    CancelledError,
    StopIteration,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
)
WHEN: Final = (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED)

# Which future is meant is said by a number that is taken modulo how many there are.
some_future = st.integers(0, 11)
some_numbers = st.lists(st.integers(-2, 3), max_size=4)
operations: Final = st.one_of(
    st.tuples(st.just("submit_return"), st.integers(0, 9)),
    st.tuples(st.just("submit_raise"), st.sampled_from(EXCEPTIONS), st.text("ab", max_size=2)),
    st.tuples(st.just("submit_hold")),
    st.tuples(st.just("submit_cancel"), some_future),
    st.tuples(st.just("release"), st.integers(0, 3)),
    st.tuples(st.just("cancel"), some_future),
    st.tuples(st.just("add_callback"), some_future, st.sampled_from(["note", "raise", "cancel"])),
    st.tuples(st.just("look"), some_future),
    st.tuples(st.just("wait_now"), st.lists(some_future, max_size=5), st.sampled_from(WHEN)),
    st.tuples(st.just("wait_for_all"), st.sampled_from(WHEN)),
    st.tuples(st.just("as_completed_now"), st.lists(some_future, max_size=5)),
    st.tuples(st.just("map_over"), some_numbers, some_numbers),
    st.tuples(st.just("shut_down"), st.booleans()),
)
programs: Final = st.lists(operations, max_size=25)


def give(number: int, *, shift: int = 100) -> int:
    """Return something that depends on both kinds of arguments."""
    return number + shift


def fail(kind: type[BaseException], text: str) -> NoReturn:
    """Raise it."""
    raise kind(text)


def divide(dividend: int, divisor: int) -> int:
    """Raise where the divisor is 0."""
    return dividend // divisor


@dataclass
class Hold:
    """A call that waits for an event."""

    started: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> str:
        """Wait for it."""
        self.started.set()
        assert self.may_end.wait(PATIENCE)
        return "held"


class Run:
    """One run of a program on one class; ``seen`` is what came of it."""

    def __init__(self, kind: type[ThreadPoolExecutor]) -> None:
        self.executor = kind(1, thread_name_prefix="worker")
        self.is_ours = kind is TokenGateExecutor
        self.futures: list[Future[Any]] = []
        self.holds: dict[int, Hold] = {}
        self.is_down = False
        self.seen: list[object] = []

    def do(self, program: list[Operation]) -> list[object]:
        """Run the program, then let all calls end, and tell what was seen."""
        for verb, *arguments in program:
            self.note(verb)
            getattr(self, verb)(*arguments)
            self.come_to_rest()
        for hold in self.holds.values():
            hold.may_end.set()
        self.come_to_rest()
        self.executor.shutdown()
        for index in range(len(self.futures)):
            self.look(index)
        return self.seen

    def note(self, *what: object) -> None:
        """Have it compared with the other run."""
        self.seen.append(what)

    def come_to_rest(self) -> None:
        """Wait until the worker waits in a call, or has nothing left to do, callbacks included."""
        if (hold := self.present_hold()) is not None:
            assert hold.started.wait(PATIENCE)
        elif self.is_down:
            self.executor.shutdown(wait=True)
        else:
            self.executor.submit(int).result(PATIENCE)

    def present_hold(self) -> Hold | None:
        """The call in which the worker waits, or soon will."""
        for index, hold in self.holds.items():
            if not hold.may_end.is_set() and not self.futures[index].cancelled():
                return hold
        return None

    def pick(self, number: int) -> int | None:
        """The index of the future that is meant; ``None`` while there is none."""
        return number % len(self.futures) if self.futures else None

    # -- submitting -------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., object], *arguments: object, **named: object) -> bool:
        """Submit a call; false: it was refused."""
        try:
            self.futures.append(self.executor.submit(fn, *arguments, **named))
        except RuntimeError as error:
            self.note("refused", type(error), str(error))
            return False
        return True

    def submit_return(self, number: int) -> None:
        """Submit a call that returns."""
        self.submit(give, number, shift=10 * number)

    def submit_raise(self, kind: type[BaseException], text: str) -> None:
        """Submit a call that raises."""
        self.submit(fail, kind, text)

    def submit_hold(self) -> None:
        """Submit a call that waits for an event."""
        hold = Hold()
        if self.submit(hold):
            self.holds[len(self.futures) - 1] = hold

    def submit_cancel(self, number: int) -> None:
        """Submit a call that cancels a future submitted before it."""
        if (index := self.pick(number)) is not None:
            self.submit(self.futures[index].cancel)

    def release(self, number: int) -> None:
        """Let one of the waiting calls end, now or when its turn comes."""
        held = [hold for hold in self.holds.values() if not hold.may_end.is_set()]
        if held:
            held[number % len(held)].may_end.set()

    def map_over(self, dividends: list[int], divisors: list[int]) -> None:
        """Map over inputs, with time for the results only if the worker is free to find them."""
        timeout = PATIENCE if self.present_hold() is None else 0
        results: list[object] = []
        try:
            results += self.executor.map(divide, dividends, divisors, timeout=timeout)
        except (ZeroDivisionError, TimeoutError, RuntimeError) as error:
            self.note("map", type(error), str(error))
        self.note("mapped", results)

    def shut_down(self, cancel_futures: bool) -> None:
        """Shut down; if nothing holds the worker up, wait for it."""
        self.is_down = True
        is_free = self.present_hold() is None
        self.executor.shutdown(wait=is_free, cancel_futures=cancel_futures)

    # -- futures ----------------------------------------------------------------------------------

    def cancel(self, number: int) -> None:
        """Cancel a future."""
        if (index := self.pick(number)) is not None:
            self.note(index, self.futures[index].cancel())

    def add_callback(self, number: int, kind: str) -> None:
        """Add a callback that notes itself, and then raises, or cancels the future."""
        if (index := self.pick(number)) is not None:
            mark = len(self.seen)  # tells one callback from another
            self.futures[index].add_done_callback(partial(self.called_back, index, mark, kind))

    def called_back(self, index: int, mark: int, kind: str, future: Future[Any]) -> None:
        """Be called back."""
        is_the_one = future is self.futures[index]
        self.note("callback", index, mark, is_the_one, future.done(), future.cancelled())
        if kind == "raise":
            raise ValueError(mark)
        if kind == "cancel":
            self.note("cancel in callback", future.cancel())

    def look(self, number: int) -> None:
        """Note all that a future tells."""
        if (index := self.pick(number)) is None:
            return
        future = self.futures[index]
        self.note(index, future.done(), future.running(), future.cancelled())
        for verb in (future.result, future.exception):
            try:
                told = verb(timeout=0)
            except BaseException as error:  # whatever it is: it is what was seen
                self.note(verb.__name__, type(error), str(error))
            else:
                told = told if not isinstance(told, BaseException) else (type(told), str(told))
                self.note(verb.__name__, told)

    # -- waiting ----------------------------------------------------------------------------------
    # The documented difference: a queued future that was cancelled counts at once as done for
    # `wait` and `as_completed` with ours; with the standard library it does so only after the
    # worker has come across it, which it never does if it is stuck or `shutdown` emptied the queue.
    # With ours it is checked; the standard library's answer is turned into what it would be then.

    def wait_now(self, numbers: list[int], when: str) -> None:
        """Note what `wait` tells of the present."""
        picked = {index for n in numbers if (index := self.pick(n)) is not None}
        done, not_done = wait(
            [self.futures[index] for index in picked], timeout=0, return_when=when
        )
        late = self.late_to_be_done(not_done)
        self.note(self.indexes(done | late), self.indexes(not_done - late))

    def wait_for_all(self, when: str) -> None:
        """Let all calls end, and wait with time; those that end come while it waits, or before."""
        # A cancelled one that the standard library's worker will not meet would hold it up.
        futures = [future for future in self.futures if not future.cancelled()]
        for hold in self.holds.values():
            hold.may_end.set()
        done, not_done = wait(futures, timeout=PATIENCE, return_when=when)
        self.come_to_rest()  # the last one's callbacks may run yet
        if when == ALL_COMPLETED:
            self.note(self.indexes(done), self.indexes(not_done))
        else:
            # How many more than the first are there is a matter of chance.
            assert done or not futures
            assert done | not_done == set(futures)

    def as_completed_now(self, numbers: list[int]) -> None:
        """Note what `as_completed` yields without waiting, and how many it says are left."""
        picked = {index for n in numbers if (index := self.pick(n)) is not None}
        futures = {self.futures[index] for index in picked}
        done: set[Future[Any]] = set()
        left = 0
        try:
            for future in as_completed(futures, timeout=0):
                assert future not in done
                done.add(future)
        except TimeoutError as error:
            counts = re.fullmatch(r"(\d+) \(of (\d+)\) futures unfinished", str(error))
            assert counts is not None
            left = int(counts[1])
            assert int(counts[2]) == len(futures)
        assert left == len(futures - done)
        late = self.late_to_be_done(futures - done)
        self.note(self.indexes(done | late), left - len(late))

    def late_to_be_done(self, futures: set[Future[Any]]) -> set[Future[Any]]:
        """Those of them that are cancelled and not yet done for `wait`: with ours, none."""
        late = {future for future in futures if future.cancelled()}
        assert not (late and self.is_ours)
        return late

    def indexes(self, futures: set[Future[Any]]) -> list[int]:
        """Which futures they are."""
        return sorted(self.futures.index(future) for future in futures)


class Logged(logging.Handler):
    """Keeps what is logged under ``concurrent.futures``, less the futures' own words."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        error = record.exc_info[1] if record.exc_info else None
        self.records.append((record.levelname, record.msg, type(error), str(error)))


def observe(kind: type[ThreadPoolExecutor], program: list[Operation]) -> list[object]:
    """What can be seen of the program on that class, log included."""
    logger = logging.getLogger("concurrent.futures")
    logged = Logged()
    logger.addHandler(logged)
    logger.propagate = False
    try:
        return [*Run(kind).do(program), "logged", *logged.records]
    finally:
        logger.removeHandler(logged)
        logger.propagate = True


@given(programs)
@settings(max_examples=400, deadline=None)
@example(
    [("submit_hold",), ("submit_return", 1), ("cancel", 1), ("wait_now", [0, 1], ALL_COMPLETED)]
)
@example(
    [("submit_hold",), ("submit_return", 1), ("shut_down", True), ("as_completed_now", [0, 1])]
)
@example([("submit_raise", CancelledError, "a"), ("add_callback", 0, "raise"), ("look", 0)])
@example([("submit_hold",), ("map_over", [1, 2], [1, 0]), ("wait_for_all", FIRST_EXCEPTION)])
def test_programs_come_to_the_same(program: list[Operation]) -> None:
    """Whatever the program, its user cannot tell the classes apart, but for what is said above."""
    assert observe(TokenGateExecutor, program) == observe(ThreadPoolExecutor, program)


class CancelsWhatRuns(Future[Any]):
    """Says that it was cancelled when it was too late."""

    def cancel(self) -> bool:
        """Say so."""
        return super().cancel() or not self.done()


class TellsBackwards(Future[Any]):
    """Calls back the last one first."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Keep it with the others."""
        callbacks = self.__dict__.setdefault("callbacks", [])
        callbacks.append(fn)
        if len(callbacks) == 1:
            super().add_done_callback(lambda _: [one(self) for one in reversed(callbacks)])


@pytest.mark.parametrize(
    ("defect", "program"),
    [
        ("result", [("submit_return", 1)]),
        ("cancel", [("submit_hold",), ("cancel", 0)]),
        ("order", [("submit_hold",), ("add_callback", 0, "note"), ("add_callback", 0, "note")]),
        ("text", [("shut_down", False), ("submit_return", 1)]),
    ],
)
def test_a_difference_is_seen(defect: str, program: list[Operation]) -> None:
    """The comparison can fail: it sees a class that differs from the standard library's."""

    class Different(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if defect == "result" and fn is give:
                return super().submit(fn, *args)
            try:
                future = super().submit(fn, *args, **kwargs)
            except RuntimeError as error:
                raise RuntimeError(f"{error}!") from error
            if defect == "cancel":
                future.__class__ = CancelsWhatRuns
            if defect == "order":
                future.__class__ = TellsBackwards
            return future

    assert observe(Different, program) != observe(ThreadPoolExecutor, program)
