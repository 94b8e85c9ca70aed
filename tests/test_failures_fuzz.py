"""Random programs over all that is done about failures, with all that steers: it adds up in the end.

``TOKENGATE_FUZZ_SECONDS`` says for how long, ``TOKENGATE_FUZZ_SEED`` with which program to begin. A
failure tells the seed of its program; as it is about races, that may have to run for some time again.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any, Final

import pytest

from tokengate_executor import (
    BreakerPolicy,
    GateFullError,
    OperationBlockedError,
    RetryPolicy,
    Token,
    TokenGateExecutor,
    TokenState,
    current_token,
)

SECONDS: Final = float(os.environ.get("TOKENGATE_FUZZ_SECONDS", "3"))
SEED: Final = os.environ.get("TOKENGATE_FUZZ_SEED")
PATIENCE_SECONDS: Final = 10.0
OPERATIONS: Final = ("red", "blue")
ON_FULL: Final = ("block", "raise", "caller_runs", "discard_oldest", "discard_newest")
ATTEMPT_SECONDS: Final = (0.0, 0.0, 0.001, 0.004, 0.011)

Step = Callable[[], object]


class Call:
    """What one token calls: it takes some time, may fail, may have a child, and counts who is inside."""

    def __init__(self, program: Program, seed: float, key: str | None) -> None:
        self.program = program
        self.seed = seed
        self.key = key
        self.runs: deque[None] = deque()

    def __call__(self) -> None:
        """Do what the seed says for this attempt."""
        self.runs.append(None)
        chance = random.Random(f"{self.seed} {len(self.runs)}")
        with self.program.alone(self.key):
            time.sleep(chance.choice(ATTEMPT_SECONDS))
            if chance.random() < 0.1:
                child = self.program.submit(chance, self.program.plain, depth=1)
                if child is not None and chance.random() < 0.7:
                    child.exception(chance.choice((0.002, None)))
            here = current_token()
            assert here is not None
            if chance.random() < 0.5:
                here.checkpoint()
            if chance.random() < 0.3:
                raise ValueError


class Program:
    """One executor and what happens to it, by a seed; the threads take turns as they will."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = chance = random.Random(seed)
        self.arguments: dict[str, Any] = {"limits": {"db": 1}, "log_unread_exceptions": False}
        if chance.random() < 0.3:
            self.arguments.update(
                max_pending=chance.choice((1, 3, 8)), on_full=chance.choice(ON_FULL)
            )
        if chance.random() < 0.4:
            self.arguments["keep_alive"] = chance.choice((0, 0.001, 0.01))
        if chance.random() < 0.3:
            self.arguments["breaker"] = BreakerPolicy(
                min_calls=5, failure_rate=0.9, open_for=0.002, trial_calls=1
            )
        if chance.random() < 0.3:
            self.arguments["quarantine"] = True
        if chance.random() < 0.2:
            self.arguments["max_spare_workers"] = chance.choice((0, 1, 3))
        workers = chance.choice((1, 2, 3))
        self.lanes = chance.randint(1, workers)
        self.executor = TokenGateExecutor(workers, lanes=self.lanes, **self.arguments)
        self.plain = self.executor.options(), None
        self.views: list[tuple[Any, str | None]] = [self.plain]
        self.views += [self._view() for _ in range(4)]
        self.tokens: deque[Token[None]] = deque()
        self.refused: deque[RuntimeError] = deque()
        self.wrong: deque[object] = deque()
        self._lock = threading.Lock()
        self._inside: Counter[str | None] = Counter()

    def _view(self) -> tuple[Any, str | None]:
        """Options, and the key if at no time two calls of it may run."""
        chance = self.chance
        options: dict[str, Any] = {"operation": chance.choice(OPERATIONS)}
        if chance.random() < 0.6:
            options["retry"] = RetryPolicy(
                chance.choice((2, 3)),
                (ValueError, TimeoutError),
                delay=chance.choice((0.0, 0.002)),
                budget=None,
            )
        if chance.random() < 0.5:
            options["timeout"] = chance.choice((0.003, 0.01))
        if chance.random() < 0.2:
            options["key"] = chance.choice("ab")
        if chance.random() < 0.2:
            options["limits"] = ("db",)
        if chance.random() < 0.2:
            options["queue_timeout"] = chance.choice((0.005, 0.05))
        if chance.random() < 0.2:
            options["priority"] = chance.choice((-1, 1))
        # A call that was cut off may still be inside when it is tried again.
        key = None if "timeout" in options else options.get("key")
        if key is None and "key" in options:
            options["key"] += " after its time"
        return self.executor.options(**options), key

    @contextmanager
    def alone(self, key: str | None) -> Iterator[None]:
        """See that no two calls of a key are in here."""
        with self._lock:
            self._inside[key] += 1
            if key is not None and self._inside[key] > 1:
                self.wrong.append(f"{self._inside[key]} calls of key {key} run at a time")
        try:
            yield
        finally:
            with self._lock:
                self._inside[key] -= 1

    def submit(
        self, chance: random.Random, view: tuple[Any, str | None], depth: int = 0
    ) -> Token[None] | None:
        """Submit a call; ``None``: it is refused, which is all right."""
        executor, key = view
        call = Call(self, chance.random(), key) if depth == 0 else time.sleep
        try:
            token: Token[None] = executor.submit(call, *(() if depth == 0 else (0.0,)))
        except (GateFullError, OperationBlockedError) as error:
            self.refused.append(error)
            return None
        except RuntimeError as error:
            if "cannot schedule new futures" not in str(error):
                self.wrong.append(error)
            return None
        self.tokens.append(token)
        return token

    # -- the threads --------------------------------------------------------------------------------

    def produce(self, seed: float) -> None:
        """Submit some calls; cancel some of them, and wait for some."""
        chance = random.Random(seed)
        for _ in range(12):
            token = self.submit(chance, chance.choice(self.views))
            if token is None:
                continue
            luck = chance.random()
            if luck < 0.1:
                token.cancel()
            elif luck < 0.2:
                with suppress(CancelledError, TimeoutError):
                    token.exception(0.01)

    def steer(self, seed: float) -> None:
        """Use the verbs that steer, and leave nothing paused or drained."""
        chance = random.Random(seed)
        executor = self.executor
        verbs: list[Step] = [
            executor.pause,
            executor.resume,
            executor.statistics,
            lambda: executor.pause(chance.choice(OPERATIONS)),
            lambda: executor.resume(chance.choice(OPERATIONS)),
            lambda: executor.kill(operation=chance.choice(OPERATIONS)),
            lambda: executor.purge(chance.choice((None, *OPERATIONS))),
            lambda: executor.resize(chance.randint(self.lanes, 4)),
            lambda: executor.drain(chance.choice((0.0, 0.005))),
        ]
        for _ in range(chance.choice((0, 0, 10))):
            time.sleep(chance.choice((0.0, 0.001, 0.005)))
            try:
                chance.choice(verbs)()
            except RuntimeError as error:
                if "cannot schedule new futures after shutdown" not in str(error):
                    self.wrong.append(error)
        executor.resume()
        for operation in OPERATIONS:
            executor.resume(operation)

    def run(self) -> None:
        """Run all of it, and see that it ends as it is to end."""
        chance = self.chance
        threads = [
            threading.Thread(target=what, args=(chance.random(),), daemon=True)
            for what in (self.produce, self.produce, self.steer)
        ]
        for thread in threads:
            thread.start()
        if chance.random() < 0.4:
            ended(*threads)
            accepted = self.tokens.copy()  # a call that was cut off may still have a child later
            report: list[bool] = []
            drain = threading.Thread(
                target=lambda: report.append(self.executor.drain().is_complete), daemon=True
            )
            drain.start()
            ended(drain)
            assert report == [True]
            assert unsettled(accepted) == []
        else:
            time.sleep(chance.uniform(0, 0.05))  # at any moment
        is_final = chance.random() < 0.3
        stop = threading.Thread(
            target=lambda: self.executor.shutdown(cancel_futures=is_final), daemon=True
        )
        stop.start()
        ended(stop, *threads)
        assert unsettled(self.tokens) == []
        self.check()

    # -- what is to be ------------------------------------------------------------------------------

    def left(self) -> tuple[int, ...]:
        """Return how many are anywhere, a moment ago."""
        now = self.executor.statistics()
        places = now.waiting, now.executing, now.abandoned, now.retrying, now.quarantined
        return (*places, now.pending, now.limits["db"].used)

    def check(self) -> None:
        """See that nothing is left, and that the numbers are those of the tokens."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(left := self.left()) and time.monotonic() < deadline:
            pass  # calls that were cut off are still to end
        assert not any(left)
        assert not self.wrong
        now = self.executor.statistics()
        states = Counter(token.state for token in self.tokens)
        assert now.submitted == len(self.tokens) + len(self.refused)
        assert (now.completed, now.failed, now.timed_out) == (
            states[TokenState.COMPLETED],
            states[TokenState.FAILED],
            states[TokenState.TIMEOUT],
        )
        # One that was discarded as it came is cancelled, too, but counted as rejected.
        assert now.cancelled + now.rejected == (
            states[TokenState.CANCELLED] + states[TokenState.KILLED] + len(self.refused)
        )
        self.check_crew()

    def tell(self) -> None:
        """Say which program this is, and where it stands."""
        print(f"TOKENGATE_FUZZ_SEED={self.seed} for {self.arguments}")  # noqa: T201
        print("unsettled:", unsettled(self.tokens))  # noqa: T201
        for token in self.tokens.copy():
            if not token.done():
                profile = token._profile
                options = [getattr(profile, name) for name in ("operation", "key", "limits")]
                print(token, "with", *options)  # noqa: T201
        facts = self.executor._gate.facts()
        print([(one.name, one.used, one.parked) for one in facts.limits])  # noqa: T201
        print(facts, self.executor._gate.governor, list(self.executor._gate.posts))  # noqa: T201
        for worker in self.executor._crew.workers:
            print(  # noqa: T201
                f"worker {worker.number}, spare {worker.is_spare}, leaving {worker.leaving}, "
                f"idle {worker in self.executor._gate.idle}, abandoned {worker.abandoned}, "
                f"runs {worker.current}, on {worker.thread}"
            )
        faulthandler.dump_traceback()

    def check_crew(self) -> None:
        """See that nobody is taken to be lent, to wait, or to be inside a call."""
        crew = self.executor._crew
        for thread in self.executor._threads:
            thread.join(PATIENCE_SECONDS)  # those that were given up, too
            assert not thread.is_alive()
        assert {(lane.spares, lane.blocked) for lane in self.executor._gate.lanes} == {(0, 0)}
        assert len(crew._free_guests) == len(crew.guests)
        assert crew._running == set()
        timers = self.executor._gate.timers.thread
        if timers is not None:
            timers.join(PATIENCE_SECONDS)
            assert not timers.is_alive()


def ended(*threads: threading.Thread) -> None:
    """Wait for their end, but not for ever."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), f"{thread} does not end"


def unsettled(tokens: deque[Token[None]]) -> list[tuple[str, int]]:
    """Return where the tokens are that are not settled, and how often they were tried."""
    return [(token.state.value, token.attempts) for token in tokens.copy() if not token.done()]


@pytest.fixture
def died(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException | None]]:
    """Return the errors of which threads died; have them take turns all the time, and nothing logged."""
    died: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: died.append(hook.exc_value))
    for name in ("concurrent.futures", "tokengate_executor"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield died
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.timeout(SECONDS + 60)
def test_whatever_happens_it_adds_up(died: list[BaseException | None]) -> None:
    """Every token settles, every wait and every thread ends, and the statistics are the tokens' own."""
    deadline = time.monotonic() + SECONDS
    seed = random.SystemRandom().randrange(2**32) if SEED is None else int(SEED)
    while time.monotonic() < deadline:
        program = Program(seed)
        try:
            program.run()
            assert died == []
        except BaseException:
            program.tell()
            program.executor.shutdown(wait=False, cancel_futures=True)
            raise
        seed += 1
