"""Random programs on a real executor: at every quiet moment it is what a list of the calls says.

Calls block on events of their own, so a program comes to rest after each step, and then everything is
known: which calls wait, which run, what became of the others. To see that moment come, ``Watch`` is told
when a worker is roused, falls asleep, lends itself or ends; nothing here sleeps for a time.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from enum import Enum, auto
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tokengate_executor import Token, TokenGateExecutor, TokenState
from tokengate_executor.engine.crew import Crew
from tokengate_executor.engine.workers import Worker
from tokengate_executor.waiting import current_thread

SECONDS = 10
"""For how long to wait for what has to come."""

WEIGHTS = (None, "heavy", "medium", "light")
NUMBERS = st.integers(0, 99)


class Rest(Enum):
    """Why a worker does nothing."""

    ASLEEP = auto()
    HELD = auto()
    LENT = auto()


class Watch:
    """Knows whether any worker is up to something.

    A worker is at rest from the moment at which it can only go on by what the test does. It is told to
    be up again by whoever makes it go on, before that happens; so rest is never seen too early.
    """

    def __init__(self) -> None:
        # Guards everything here; notified of every change.
        self.changed = threading.Condition()
        self.at_rest: dict[Worker, Rest | None] = {}
        self.roused: Counter[Worker] = Counter()
        self.waits_for: dict[Worker, Token[Any]] = {}
        self.patches = (
            mock.patch("tokengate_executor.engine.workers.allocate_lock", self.new_lock),
            mock.patch.object(Worker, "rouse", self.telling_of(Worker.rouse)),
            mock.patch.object(Worker, "run", self.telling_of_life(Worker.run)),
            mock.patch.object(Crew, "lending", self.telling_of_lending(Crew.lending)),
        )

    def note(self, worker: Worker, rest: Rest | None) -> None:
        """The worker is at rest, or up."""
        with self.changed:
            self.at_rest[worker] = rest
            self.changed.notify_all()

    def is_up(self, worker: Worker, rest: Rest | None) -> bool:
        """Whether the worker does something, or is about to. Called with the lock held."""
        if self.roused[worker] or rest is None:
            return True
        return rest is Rest.LENT and self.waits_for[worker].done()

    def is_quiet(self) -> bool:
        """Whether nothing goes on. Called with the lock held."""
        return not (
            any(self.is_up(*known) for known in self.at_rest.items())
            or any(count for worker, count in self.roused.items() if worker not in self.at_rest)
        )

    def until_quiet(self) -> None:
        """Wait until nothing goes on: the only wait of these tests."""
        with self.changed:
            assert self.changed.wait_for(self.is_quiet, SECONDS), (self.at_rest, self.roused)

    def count(self, rest: Rest) -> int:
        """How many workers are at rest in that way."""
        with self.changed:
            return list(self.at_rest.values()).count(rest)

    # -- where it is told -------------------------------------------------------------------------

    def new_lock(self) -> WakeLock:
        """A lock on which a worker sleeps."""
        return WakeLock(self)

    def telling_of(self, rouse: Callable[..., None]) -> Callable[..., None]:
        """`Worker.rouse`, which first tells."""

        def told(worker: Worker, *args: Any) -> None:
            with self.changed:
                self.roused[worker] += 1
            rouse(worker, *args)

        return told

    def telling_of_life(self, run: Callable[[Worker], None]) -> Callable[[Worker], None]:
        """`Worker.run`, which tells when it begins and when it is over."""

        def told(worker: Worker) -> None:
            self.note(worker, None)
            with self.changed:
                self.roused[worker] -= 1
            try:
                run(worker)
            finally:
                with self.changed:
                    del self.at_rest[worker]
                    self.changed.notify_all()

        return told

    def telling_of_lending(self, lending: Callable[..., Any]) -> Callable[..., Any]:
        """`Crew.lending`, which tells once the spare has been offered, and when the wait is over."""

        @contextmanager
        def told(crew: Crew, worker: Worker, *args: Any) -> Iterator[None]:
            with lending(crew, worker, *args):
                self.note(worker, Rest.LENT)
                try:
                    yield
                finally:
                    self.note(worker, None)

        return told


class WakeLock:
    """The lock on which a worker sleeps, which tells when it does."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.lock = allocate_lock()
        self.is_new = True

    def acquire(self) -> None:
        """The first time its maker holds it; from then on its worker sleeps."""
        if self.is_new:
            self.is_new = False
            self.lock.acquire()
            return
        worker: Any = current_thread.host
        self.watch.note(worker, Rest.ASLEEP)
        self.lock.acquire()
        with self.watch.changed:
            self.watch.roused[worker] -= 1
        self.watch.note(worker, None)

    def release(self) -> None:
        """Wake the worker, which was told of before."""
        self.lock.release()


class Call:
    """A call of the program, and what is known of it.

    Attributes:
        weight: of the token.
        fails: whether it raises in the end.
        child: the call that it submits and waits for; ``None``: none.
        has_begun, has_ended: what it has done so far.
        cancelled: whether the program cancelled it.
    """

    def __init__(self, number: int, weight: str | None, *, fails: bool, held: bool) -> None:
        self.number = number
        self.weight = weight
        self.fails = fails
        self.child: Call | None = None
        self.way = ""
        self.token: Token[int]
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        if not held:
            self.may_end.set()
        self.worker: Worker | None = None
        self.has_ended = False
        self.cancelled = False
        self.refused = False

    @property
    def state(self) -> TokenState:
        """What state its token has to be in."""
        if self.cancelled:
            return TokenState.CANCELLED
        if self.has_ended:
            return TokenState.FAILED if self.error is not None else TokenState.COMPLETED
        return TokenState.EXECUTING if self.has_begun.is_set() else TokenState.WAITING

    @property
    def error(self) -> type[Exception] | None:
        """What it has to raise in the end: its own error, or what its child comes to."""
        if self.refused:
            return RuntimeError
        if self.child is not None and self.child.cancelled:
            return CancelledError
        inner = None if self.child is None else self.child.error
        return inner or (ValueError if self.fails else None)


class Programs(RuleBasedStateMachine):
    """Programs of submit, cancel, release and shut down; numbers choose among the calls there are.

    Which of several workers begins a call is not the program's to say, and children are submitted when
    their parents begin: so whether a rule may be chosen depends on the number of calls made, which is.
    """

    @initialize(
        workers=st.integers(1, 3),
        lanes=st.integers(1, 3),
        mailbox_size=st.integers(1, 3),
        nests=st.booleans(),
    )
    def start(self, workers: int, lanes: int, mailbox_size: int, nests: bool) -> None:
        """Make the executor, and choose whether calls submit calls."""
        self.nests = nests
        self.watch = Watch()
        for patch in self.watch.patches:
            patch.start()
        self.executor = TokenGateExecutor(
            workers,
            lanes=min(workers, lanes),
            mailbox_size=mailbox_size,
            log_unread_exceptions=False,
        )
        self.number = 0
        self.calls: list[Call] = []
        self.begun: list[Call] = []
        self.is_shut_down = False
        self.is_over = False

    def teardown(self) -> None:
        """Everything ends, and the threads with it."""
        if not hasattr(self, "executor"):
            return
        try:
            self.is_over = True
            for call in self.calls:
                self.let_end(call)
            self.watch.until_quiet()
            self.executor.shutdown()
            assert all(call.token.done() for call in self.calls)
            self.is_as_known()
            assert not any(thread.is_alive() for thread in self.executor._threads)
        finally:
            for patch in self.watch.patches:
                patch.stop()

    # -- calls ------------------------------------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Submit a call with its weight."""
        target: Any = self.executor
        if call.weight is not None:
            target = target.options(weight=call.weight)
        call.token = target.submit(self.run, call)
        self.calls.append(call)

    def run(self, call: Call) -> int:
        """What every call does, on a worker's thread."""
        worker = current_thread.host
        assert isinstance(worker, Worker)
        with self.watch.changed:
            assert not call.has_begun.is_set()
            call.worker = worker
            call.has_begun.set()
            self.begun.append(call)
            if not call.may_end.is_set():
                self.watch.note(worker, Rest.HELD)
        try:
            assert call.may_end.wait(SECONDS)
            if call.child is not None:
                self.run_child(call, call.child, worker)
            if call.fails:
                raise ValueError(call.number)
            return call.number
        finally:
            call.has_ended = True

    def run_child(self, call: Call, child: Call, worker: Worker) -> None:
        """Submit the child and wait for it in one of the ways there are."""
        if self.is_over:
            child.may_end.set()
        try:
            self.submit(child)
        except RuntimeError:
            call.refused = True
            raise
        self.watch.waits_for[worker] = child.token
        if call.way == "wait":
            assert wait([child.token], SECONDS).done
        assert child.token.result(SECONDS if call.way == "timeout" else None) == child.number

    def let_end(self, call: Call) -> None:
        """Let a call go on; its worker is up before it is."""
        with self.watch.changed:
            if call.has_begun.is_set() and not call.may_end.is_set():
                assert call.worker is not None
                self.watch.note(call.worker, None)
            call.may_end.set()

    def one(self, number: int) -> Call:
        """The call that a number stands for."""
        return self.calls[number % len(self.calls)]

    def next_call(self, weight: str | None, *, fails: bool, held: bool) -> Call:
        """A call with a number of its own."""
        self.number += 1
        return Call(self.number, weight, fails=fails, held=held)

    def try_submit(self, call: Call) -> None:
        """Submit, and be refused after a shutdown."""
        if self.is_shut_down:
            with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
                self.submit(call)
        else:
            self.submit(call)
        self.watch.until_quiet()

    # -- the program ------------------------------------------------------------------------------

    @rule(weight=st.sampled_from(WEIGHTS), fails=st.booleans(), number=st.integers(1, 5))
    def submit_held(self, weight: str | None, fails: bool, number: int) -> None:
        """Submit calls that block."""
        for _ in range(number):
            self.try_submit(self.next_call(weight, fails=fails, held=True))

    @rule(weight=st.sampled_from(WEIGHTS), fails=st.booleans())
    def submit_instant(self, weight: str | None, fails: bool) -> None:
        """Submit a call that returns or raises at once."""
        self.try_submit(self.next_call(weight, fails=fails, held=False))

    @precondition(lambda self: self.nests)
    @rule(
        weight=st.sampled_from(WEIGHTS),
        inner_weight=st.sampled_from(WEIGHTS),
        way=st.sampled_from(["result", "timeout", "wait"]),
        fails=st.booleans(),
        held=st.booleans(),
    )
    def submit_nested(
        self, weight: str | None, inner_weight: str | None, way: str, fails: bool, held: bool
    ) -> None:
        """Submit a call that submits another and waits for it."""
        call = self.next_call(weight, fails=False, held=False)
        call.way = way
        call.child = self.next_call(inner_weight, fails=fails, held=held)
        self.try_submit(call)

    @precondition(lambda self: self.number)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        """Cancel a call: it works if it has not begun."""
        call = self.one(number)
        call.cancelled = call.state in (TokenState.WAITING, TokenState.CANCELLED)
        assert call.token.cancel() is call.cancelled
        self.watch.until_quiet()

    @precondition(lambda self: self.number)
    @rule(number=NUMBERS)
    def release(self, number: int) -> None:
        """Let a call end that blocks or that will."""
        self.let_end(self.one(number))
        self.watch.until_quiet()

    @property
    def blocked(self) -> list[Call]:
        """The calls that block, in the order of their numbers."""
        blocked = [call for call in self.begun if not call.may_end.is_set()]
        return sorted(blocked, key=lambda call: call.number)

    @rule(number=NUMBERS)
    def release_one(self, number: int) -> None:
        """Let a call end that blocks, if one does."""
        if self.blocked:
            self.let_end(self.blocked[number % len(self.blocked)])
            self.watch.until_quiet()

    @rule(number=NUMBERS)
    def release_all_but_one(self, number: int) -> None:
        """Let calls end until one alone blocks: the others do what its lane's mailbox holds, too."""
        kept = self.blocked[number % len(self.blocked)] if self.blocked else None
        while others := [call for call in self.blocked if call is not kept]:
            self.let_end(others[0])
            self.watch.until_quiet()

    @precondition(lambda self: self.number)
    @rule(number=NUMBERS)
    def read(self, number: int) -> None:
        """Ask for a result, without waiting."""
        call = self.one(number)
        state = call.state
        error = call.error if state is TokenState.FAILED else None
        if state is TokenState.CANCELLED:
            error = CancelledError
        elif not state.settled:
            error = TimeoutError
        if error is None:
            assert call.token.result(timeout=0) == call.number
        else:
            with pytest.raises(error):
                call.token.result(timeout=0)

    @precondition(lambda self: self.number > 9)
    @rule(cancel_futures=st.booleans())
    def shut_down(self, cancel_futures: bool) -> None:
        """Take no more calls; perhaps cancel those that wait."""
        self.is_shut_down = True
        if cancel_futures:
            for call in self.calls:
                call.cancelled = call.cancelled or call.state is TokenState.WAITING
        self.executor.shutdown(wait=False, cancel_futures=cancel_futures)
        self.watch.until_quiet()

    # -- what has to be true ------------------------------------------------------------------------

    @invariant()
    def is_as_known(self) -> None:
        """The statistics, and each token, say what is known of the calls."""
        if not hasattr(self, "executor"):
            return
        states = Counter(call.state for call in self.calls)
        now = self.executor.statistics()
        assert now.submitted == len(self.calls)
        assert now.waiting == states[TokenState.WAITING] == self.executor._work_queue.qsize()
        assert now.executing == states[TokenState.EXECUTING]
        assert now.completed == states[TokenState.COMPLETED]
        assert now.failed == states[TokenState.FAILED]
        assert now.cancelled == states[TokenState.CANCELLED]
        assert now.executing == sum(lane.executing for lane in now.lanes)
        assert len(self.executor.history()) == now.completed + now.failed
        if not self.is_shut_down and not self.is_over:
            assert now.idle_workers == self.watch.count(Rest.ASLEEP)
        for call in self.calls:
            state = call.token.state
            assert state is call.state or (state, call.state) == (
                TokenState.ADMITTED,
                TokenState.WAITING,
            )
            if call.has_begun.is_set():
                assert call.token.lane in self.executor.policy.lanes_for(call.token.weight)

    @invariant()
    def nothing_waits_while_a_worker_is_idle(self) -> None:
        """No worker that may run a waiting call is idle."""
        if not hasattr(self, "executor"):
            return
        idle = {worker.lane_number for worker in self.executor._crew.router.idle}
        for call in self.calls:
            if call.state is TokenState.WAITING:
                assert not idle.intersection(self.executor.policy.lanes_for(call.token.weight))

    @invariant()
    def one_worker_keeps_the_order(self) -> None:
        """With one worker, calls of equal weight begin in the order in which they were submitted."""
        if not hasattr(self, "executor") or self.executor._max_workers > 1 or self.nests:
            return  # children run inside their parents, and spares begin calls beside them
        for weight in WEIGHTS:
            numbers = [call.number for call in self.begun if call.weight == weight]
            assert all(before < after for before, after in pairwise(numbers))


ProgramsTest = Programs.TestCase
ProgramsTest.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
)
