"""Random programs while listeners look on, ask and steer: what is told is whole, and what is counted.

``TOKENGATE_STRESS_SECONDS`` says for how long, ``TOKENGATE_FUZZ_SEED`` with which program to begin. A
failure tells the seed of its program; as it is about races, that may have to run for some time again.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import random
import re
import sys
import threading
import time
import weakref
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from tokengate_executor import (
    BreakerPolicy,
    CircuitChanged,
    CircuitState,
    Event,
    ExecutorStatistics,
    GateDrained,
    GatePaused,
    GateResumed,
    LimitChanged,
    RetryPolicy,
    SpikePolicy,
    Token,
    TokenEvent,
    TokenGateExecutor,
    TokenQuarantined,
    TokenRejected,
    TokenRetrying,
    TokenSettled,
    TokenStarted,
    TokenState,
    TokenSubmitted,
    WorkerAbandoned,
    WorkerStarted,
    WorkerStopped,
    current_token,
)

SECONDS: Final = float(os.environ.get("TOKENGATE_STRESS_SECONDS", "3"))
SEED: Final = os.environ.get("TOKENGATE_FUZZ_SEED")
PATIENCE_SECONDS: Final = 20.0
OPERATIONS: Final = ("red", "blue")
ON_FULL: Final = ("block", "raise", "caller_runs", "discard_oldest", "discard_newest")
DURATIONS: Final = (0.0, 0.0, 0.0, 0.001, 0.004)

LETTERS: Final = {
    TokenSubmitted: "s",
    TokenRejected: "x",
    TokenStarted: "a",
    TokenRetrying: "r",
    TokenQuarantined: "q",
    TokenSettled: "e",
}
LIFE: Final = re.compile(r"s(?:x|q?(?:ar)*(?:aq?)?e)")
"""Refused; or perhaps held, then attempts with what is told between two of them, perhaps given up."""


class Cargo:
    """An argument or a result: nobody may keep it when its token is gone."""

    def __init__(self, program: Program, *, submits: bool) -> None:
        self.program = program
        self.submits = submits

    def __del__(self) -> None:
        if self.submits and not self.program.is_over and len(self.program.from_finalisers) < 20:
            with suppress(RuntimeError):  # the executor may be shut down, or full
                self.program.executor.submit(int)
                self.program.from_finalisers.append(None)


def call(program: Program, seed: float, cargo: Cargo) -> Cargo:
    """Take some time, may have a child, may fail, may heed a kill."""
    here = current_token()
    assert here is not None
    chance = random.Random(f"{seed} {here.attempts}")
    time.sleep(chance.choice(DURATIONS))
    if chance.random() < 0.1:
        with suppress(RuntimeError):
            child = program.executor.submit(int)
            if chance.random() < 0.7:
                child.cancelled() or child.exception(chance.choice((0.002, 5)))
    if chance.random() < 0.5:
        here.checkpoint()
    if chance.random() < 0.3:
        raise ValueError(seed)
    return cargo


class Program:
    """One executor and what happens to it, by a seed; the threads take turns as they will."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = chance = random.Random(seed)
        self.events: deque[Event] = deque()
        self.by_token: defaultdict[str, deque[Any]] = defaultdict(deque)
        self.from_finalisers: deque[None] = deque()
        self.is_over = False
        self.steered: deque[str] = deque()
        self.wrong: deque[object] = deque()
        self.cargoes: deque[weakref.ref[Cargo]] = deque()
        self.tokens: deque[Token[Any]] = deque()
        # One that asks or steers would wait for a lock that the finaliser's own thread may hold.
        self.finalisers_submit = chance.random() < 0.3
        self.is_listener_active = not self.finalisers_submit and chance.random() < 0.8
        arguments: dict[str, Any] = {"limits": {"db": 2}, "log_unread_exceptions": False}
        if chance.random() < 0.4:
            arguments.update(max_pending=chance.choice((1, 3, 8)), on_full=chance.choice(ON_FULL))
        if chance.random() < 0.4:
            arguments["keep_alive"] = chance.choice((0, 0.001, 0.01))
        if chance.random() < 0.4:
            arguments["breaker"] = BreakerPolicy(
                min_calls=5, failure_rate=0.2, open_for=0.002, trial_calls=1
            )
        if chance.random() < 0.4:
            arguments["quarantine"] = True
        if chance.random() < 0.3:
            arguments["max_spare_workers"] = chance.choice((0, 1, 3))
        if arguments.get("on_full") == "block":
            self.finalisers_submit = False  # it would wait for room, wherever it is run
        workers = chance.choice((1, 2, 3))
        self.lanes = chance.randint(1, workers)
        self.arguments = arguments
        self.executor = TokenGateExecutor(
            workers, lanes=self.lanes, listeners=[self.hear, self.act], **arguments
        )
        self.views = [self.executor.options(), *(self._view() for _ in range(4))]

    def _view(self) -> Any:
        chance = self.chance
        options: dict[str, Any] = {"operation": chance.choice(OPERATIONS)}
        if chance.random() < 0.6:
            options["retry"] = RetryPolicy(
                chance.choice((2, 3)),
                (ValueError, TimeoutError),
                delay=chance.choice((0.0, 0.002)),
                budget=None,
            )
        for likely, name, values in (
            (0.4, "timeout", (0.003, 0.01)),
            (0.2, "key", ("a", "b")),
            (0.2, "limits", (("db",),)),
            (0.2, "queue_timeout", (0.003, 0.05)),
            (0.2, "priority", (-1, 1)),
            (0.3, "weight", ("heavy", "light")),
            (0.2, "spikes", (SpikePolicy(cost=self._cost), SpikePolicy(action="refuse"))),
        ):
            if chance.random() < likely:
                options[name] = chance.choice(values)
        return self.executor.options(**options)

    @staticmethod
    def _cost(program: Program, seed: float, cargo: Cargo) -> float:  # noqa: ARG004
        return 1000.0 if seed > 0.8 else 1.0

    # -- the listeners ------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)
        if isinstance(event, TokenEvent):
            self.by_token[event.token_id].append(event)

    def act(self, event: Event) -> None:
        """Ask, steer or raise: a deadlock is found by the time that all is allowed to take."""
        chance = random.Random(f"{self.seed} {event.at}")
        if not self.is_listener_active or chance.random() < 0.6:
            return
        executor = self.executor
        if isinstance(event, TokenQuarantined) and event.reason == "spike":
            with suppress(Exception):  # somebody else has decided
                if chance.random() < 0.5:
                    executor.quarantine.approve(event.quarantine_id)
                else:
                    executor.quarantine.reject(event.quarantine_id)
        verbs: list[Callable[[], object]] = [
            executor.statistics,
            executor.tokens,
            executor.history,
            executor.guard_house.circuits,
            lambda: self._pause(None),
            lambda: self._resume(None),
            lambda: executor.purge(chance.choice(OPERATIONS)) if chance.random() < 0.2 else None,
            lambda: executor.guard_house.close(chance.choice(OPERATIONS)),
            lambda: executor.resize(chance.randint(self.lanes, 3)),
            lambda: executor.drain(0) if chance.random() < 0.1 else None,
            lambda: executor.shutdown() if chance.random() < 0.01 else None,
            lambda: sys.exit("a listener"),
        ]
        if isinstance(event, TokenEvent):
            verbs.append(lambda: executor.kill(event.token_id))
        chance.choice(verbs)()
        if chance.random() < 0.02 and self.arguments.get("on_full") != "block":
            executor.submit(int).cancel()

    def _pause(self, operation: str | None) -> None:
        self.executor.pause(operation)
        self.steered.append("GatePaused")

    def _resume(self, operation: str | None) -> None:
        self.executor.resume(operation)
        self.steered.append("GateResumed")

    # -- the threads --------------------------------------------------------------------------------

    def submit(self, chance: random.Random) -> Token[Any] | None:
        """Submit a call; ``None``: it is refused."""
        cargo = Cargo(self, submits=self.finalisers_submit)
        self.cargoes.append(weakref.ref(cargo))
        try:
            token: Token[Any] = chance.choice(self.views).submit(call, self, chance.random(), cargo)
        except RuntimeError:
            return None
        self.tokens.append(token)
        return token

    def produce(self, seed: float) -> None:
        """Submit some calls; cancel some of them, and wait for some."""
        chance = random.Random(seed)
        for _ in range(15):
            token = self.submit(chance)
            if token is not None and chance.random() < 0.2:
                token.cancel()

    def produce_in_asyncio(self, seed: float) -> None:
        """The same by the verbs for asyncio."""
        chance = random.Random(seed)

        async def main() -> None:
            for _ in range(8):
                cargo = Cargo(self, submits=self.finalisers_submit)
                self.cargoes.append(weakref.ref(cargo))
                view = chance.choice(self.views)
                with suppress(RuntimeError, TimeoutError):
                    if chance.random() < 0.5:
                        future = view.arun(call, self, chance.random(), cargo)
                        future.add_done_callback(lambda one: one.cancelled() or one.exception())
                        await asyncio.wait([future], timeout=0.001)
                    else:
                        submitting = view.asubmit(call, self, chance.random(), cargo)
                        self.tokens.append(await asyncio.wait_for(submitting, 0.01))

        asyncio.run(main())

    def steer(self, seed: float) -> None:
        """Use the verbs that steer, and leave nothing paused or drained."""
        chance = random.Random(seed)
        executor = self.executor

        def set_limit() -> None:
            executor.set_limit("db", chance.randint(1, 3))
            self.steered.append("LimitChanged")

        def drain() -> None:
            executor.drain(chance.choice((0.0, 0.003)))
            self.steered.append("GateDrained")

        verbs: list[Callable[[], object]] = [
            lambda: self._pause(chance.choice((None, *OPERATIONS))),
            lambda: self._resume(chance.choice((None, *OPERATIONS))),
            lambda: executor.kill(operation=chance.choice(OPERATIONS)),
            lambda: executor.guard_house.open(chance.choice(OPERATIONS), 0.002),
            lambda: executor.resize(chance.randint(self.lanes, 4)),
            executor.tokens,
            executor.statistics,
            set_limit,
            drain,
        ]
        for _ in range(chance.choice((0, 10))):
            time.sleep(chance.choice((0.0, 0.001, 0.003)))
            with suppress(RuntimeError):  # it may be shut down
                chance.choice(verbs)()
        self._resume_all()

    def _resume_all(self) -> None:
        for operation in (None, *OPERATIONS):
            self._resume(operation)

    def run(self) -> None:
        """Run all of it, and see that it ends as it is to end."""
        chance = self.chance
        whats = (self.produce, self.produce, self.produce_in_asyncio, self.steer)
        threads = [
            threading.Thread(target=what, args=(chance.random(),), daemon=True) for what in whats
        ]
        for thread in threads:
            thread.start()
        if chance.random() < 0.6:
            ended(*threads, meanwhile=self._resume_all)
        is_final = chance.random() < 0.3
        stop = threading.Thread(
            target=lambda: self.executor.shutdown(cancel_futures=is_final), daemon=True
        )
        stop.start()
        ended(stop, *threads)
        # Those that were given up, too, and what they still settle.
        ended(*self.executor._threads)
        timers = self.executor._gate.timers.thread
        ended(*([] if timers is None else [timers]))
        gc.collect()
        self.check()

    # -- what is to be ------------------------------------------------------------------------------

    def check(self) -> None:
        """See that each token is told of whole, and all of them as they are counted."""
        now = self.executor.statistics()
        assert not self.wrong
        for events in self.by_token.values():
            check_life(list(events))
        while self.tokens:
            self.check_end(self.tokens.popleft())
        self.check_numbers(now)
        self.check_workers_and_circuits()
        steered = Counter(type(event).__name__ for event in self.events)
        if not self.is_listener_active:
            for kind in (GatePaused, GateResumed, GateDrained, LimitChanged):
                assert steered[kind.__name__] == self.steered.count(kind.__name__)
        self.is_over = True
        del (
            self.executor,
            self.views,
        )  # the quarantine keeps calls, and queues keep what has left them
        for _ in range(3):  # what finalisers of others kept is found the next time
            gc.collect()
        assert not [reference for reference in self.cargoes if reference() is not None]

    def check_end(self, token: Token[Any]) -> None:
        """See that what was told last of a token is what became of it."""
        last = self.by_token[token.id][-1]
        told = TokenState.CANCELLED if isinstance(last, TokenRejected) else last.state
        assert told is token.state, (token, last)

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def check_numbers(self, now: ExecutorStatistics) -> None:
        """The events are as many as the statistics say."""
        reasons: Counter[str] = Counter(event.reason for event in self.of(TokenRejected))
        unheard = reasons.pop("closed", 0)  # the gate was not open
        assert reasons == now.rejected_by_reason
        assert len(self.of(TokenSubmitted)) == now.submitted + unheard
        ends = Counter(event.state for event in self.of(TokenSettled))
        assert now.completed == ends[TokenState.COMPLETED]
        assert now.failed == ends[TokenState.FAILED]
        assert now.timed_out == ends[TokenState.TIMEOUT]
        assert now.cancelled == ends[TokenState.CANCELLED] + ends[TokenState.KILLED]
        assert now.retries == len(self.of(TokenRetrying))
        started = sum(sum(lane.started_by_weight.values()) for lane in now.lanes)
        assert started == len(self.of(TokenStarted))
        cut_off = sum(event.error == "TokenTimeoutError" for event in self.of(TokenRetrying))
        cut_off += sum(
            event.state is TokenState.TIMEOUT and event.worker is not None
            for event in self.of(TokenSettled)
            if [type(one) for one in self.by_token[event.token_id]][-2] is not TokenRetrying
        )
        assert cut_off == len(self.of(WorkerAbandoned))
        assert now.submitted == now.rejected + now.completed + now.failed + sum(
            (now.timed_out, now.cancelled, now.executing, now.waiting, now.retrying)
        )
        assert (now.executing, now.waiting, now.retrying, now.quarantined) == (0, 0, 0, 0)
        assert now.pending == 0

    def check_workers_and_circuits(self) -> None:
        """Each thread of a worker's began and ended; each change of a circuit follows from the last."""
        began = Counter(event.worker for event in self.of(WorkerStarted))
        assert began == Counter(event.worker for event in self.of(WorkerStopped))
        states: dict[str, CircuitState] = {}
        for event in self.of(CircuitChanged):
            assert event.before is states.get(event.operation, CircuitState.CLOSED)
            assert event.before is not event.after
            states[event.operation] = event.after
        for operation, report in self.executor.guard_house.circuits().items():
            assert states.get(operation, CircuitState.CLOSED) is report.state


def check_life(events: list[Any]) -> None:
    """See that one token was told of whole: in order, with one end, and numbers that fit."""
    assert LIFE.fullmatch("".join(LETTERS[type(event)] for event in events)), events
    attempt = 0
    for event in events:
        if isinstance(event, TokenStarted):
            attempt += 1
        if isinstance(event, TokenStarted | TokenRetrying):
            assert event.attempt == attempt, events
        if isinstance(event, TokenQuarantined):
            assert event.reason == ("given up" if attempt else "spike"), events
    assert len({(event.operation, event.weight) for event in events}) == 1, events
    times = [event.at for event in events]
    last = events[-1]
    if isinstance(last, TokenSettled):
        assert last.state.settled
        assert last.attempts == attempt, events
        assert (last.worker is None) == (last.lane is None) == (attempt == 0), events
        good = TokenState.COMPLETED, TokenState.CANCELLED
        assert (last.error is None) == (last.state in good), events
        assert last.waited_seconds >= 0, events
        assert last.run_seconds >= 0, events
        assert last.run_seconds <= last.at - times[0], events
        times.pop()  # it is of the moment at which the call ended
    assert times == sorted(times), events


def ended(*threads: threading.Thread, meanwhile: Callable[[], object] = bool) -> None:
    """Wait for their end, but not for ever; ``meanwhile``: undo what listeners do."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for thread in threads:
        while thread.is_alive():
            meanwhile()
            thread.join(0.05)
            if time.monotonic() > deadline:
                faulthandler.dump_traceback()
                raise AssertionError(f"{thread} does not end")


@pytest.fixture
def died(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Return the errors of which threads died; have them take turns all the time, and nothing logged."""
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: died.append(hook.exc_value))
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: died.append(hook.exc_value))
    for name in ("concurrent.futures", "tokengate_executor"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield died
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.timeout(SECONDS + 90)
def test_whatever_happens_it_is_told(died: list[object]) -> None:
    """Every token has one life in the events, these are as many as are counted, and keep nothing."""
    deadline = time.monotonic() + SECONDS
    seed = random.SystemRandom().randrange(2**32) if SEED is None else int(SEED)
    while time.monotonic() < deadline:
        program = Program(seed)
        try:
            program.run()
            assert died == []
        except BaseException:
            print(f"TOKENGATE_FUZZ_SEED={program.seed} for {program.arguments}")  # noqa: T201
            raise
        seed += 1
