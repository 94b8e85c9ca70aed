"""A flood through everything at once: bounds, limits, keys, tenants, cancels, pauses, limit changes.

``TOKENGATE_FLOOD_TOKENS`` sets how many tokens; the default is small. The full measure is a million:

    TOKENGATE_FLOOD_TOKENS=1000000 pytest tests/test_flood.py -o timeout=3600
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from tokengate_executor import (
    ExecutorView,
    RateLimit,
    Token,
    TokenGateExecutor,
    TokenTimeoutError,
)

TOKENS = int(os.environ.get("TOKENGATE_FLOOD_TOKENS", "8000"))
PRODUCERS = 8
BOUND = 1000


class Concurrency:
    """Counts who is inside, and remembers the most there ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1


class Flood:
    """One run: producers, one who steers, and what they saw."""

    def __init__(self, executor: TokenGateExecutor) -> None:
        self.executor = executor
        self.runs: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.settled: Counter[int] = Counter()
        self.limited = Concurrency()
        self.most_pending = 0
        self.most_permits = 4
        self.done = threading.Event()
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()

        self._key_busy: dict[int, Concurrency] = {key: Concurrency() for key in range(5)}

    def work(self, number: int) -> int:
        """Run a call that only counts."""
        self.runs[number] += 1  # no other thread has this number
        return number

    def limited_work(self, number: int) -> int:
        """Run a call that needs a permit."""
        with self.limited:
            return self.work(number)

    def keyed_work(self, number: int, key: int) -> int:
        """Run a call that needs its key."""
        with self._key_busy[key]:
            return self.work(number)

    def count(self, number: int, token: Token[int]) -> None:
        """A done-callback."""
        try:
            token.result(0)
            outcome = "completed"
        except CancelledError:
            outcome = "cancelled"
        except TokenTimeoutError:
            outcome = "timed out"
        with self._lock:
            self.outcomes[outcome] += 1
            self.settled[number] += 1

    def produce(self, base: int, numbers: int) -> None:
        """Submit calls of every kind, and cancel some of them."""
        try:
            chance = random.Random(base)
            executor = self.executor
            limited = executor.options(limits=("db",))
            hurried = executor.options(queue_timeout=0.5)
            keyed = [executor.options(key=key) for key in range(5)]
            tenants: list[ExecutorView] = [executor.options(tenant=name) for name in "abc"]
            urgent = executor.options(priority=3, weight="light")
            recent: list[Token[int]] = []
            for number in range(base, base + numbers):
                match chance.randrange(8):
                    case 0:
                        token = limited.submit(self.limited_work, number)
                    case 1:
                        key = chance.randrange(5)
                        token = keyed[key].submit(self.keyed_work, number, key)
                    case 2:
                        token = chance.choice(tenants).submit(self.work, number)
                    case 3:
                        token = urgent.submit(self.work, number)
                    case 4:
                        token = hurried.submit(self.work, number)
                    case _:
                        token = executor.submit(self.work, number)
                token.add_done_callback(self.counter(number))
                recent.append(token)
                if len(recent) > 50:
                    recent.pop(0)
                if chance.random() < 0.05:
                    chance.choice(recent).cancel()
        except BaseException as error:
            self.errors.append(error)

    def counter(self, number: int) -> Callable[[Token[int]], None]:
        """Return a done-callback."""
        return lambda token: self.count(number, token)

    def steer(self) -> None:
        """Pause, resume and change the limit until the producers are done."""
        try:
            chance = random.Random(0)
            while not self.done.is_set():
                self.most_pending = max(self.most_pending, self.executor.statistics().pending)
                self.executor.pause()
                self.done.wait(0.001)  # let some time pass, not for anything to happen
                self.executor.resume()
                self.executor.pause("nothing.of.this.name")
                permits = chance.randrange(1, 9)
                self.most_permits = max(self.most_permits, permits)
                self.executor.set_limit("db", permits)
                self.executor.set_limit("api", RateLimit(chance.randrange(1, 1000)))
                self.executor.resume("nothing.of.this.name")
                self.done.wait(0.02)
        except BaseException as error:
            self.errors.append(error)


@pytest.mark.timeout(3600 if TOKENS > 100_000 else 120)
def test_flood() -> None:
    """No bound or limit is ever exceeded, every call runs at most once, and the sums agree."""
    executor = TokenGateExecutor(
        4, lanes=2, max_pending=BOUND, limits={"db": 4, "api": RateLimit(100)}
    )
    flood = Flood(executor)
    share = TOKENS // PRODUCERS
    producers = [
        threading.Thread(target=flood.produce, args=(share * n, share)) for n in range(PRODUCERS)
    ]
    steerer = threading.Thread(target=flood.steer)
    for thread in (steerer, *producers):
        thread.start()
    for thread in producers:
        thread.join()
    flood.done.set()
    steerer.join()
    executor.shutdown()
    assert flood.errors == []
    total = share * PRODUCERS
    now = executor.statistics()
    assert sum(flood.outcomes.values()) == total
    assert set(flood.settled.values()) == {1}
    assert set(flood.runs.values()) <= {1}
    assert len(flood.runs) == flood.outcomes["completed"] == now.completed
    assert now.cancelled == flood.outcomes["cancelled"]
    assert now.timed_out == flood.outcomes["timed out"]
    assert now.submitted == total
    assert now.waiting == now.executing == now.failed == now.rejected == now.pending == 0
    assert flood.most_pending <= BOUND
    assert flood.limited.most <= flood.most_permits
    assert all(busy.most <= 1 for busy in flood._key_busy.values())
    assert {name: limit.used for name, limit in now.limits.items()} == {"db": 0, "api": 0}
