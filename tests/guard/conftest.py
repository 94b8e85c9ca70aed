"""Time and chance by hand: what tests of retries and timeouts share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from tokengate_executor import TokenGateExecutor

_CLOCKS = ("token", "guard.supervision", "engine.watchdog", "engine.crew")


@dataclass
class Timer:
    """One call of ``Timers.set``."""

    by_hand: ByHand
    when: float
    action: Callable[[], object]
    is_moot: Callable[[], bool]

    @property
    def delay(self) -> float:
        """In how many seconds it is due."""
        return self.when - self.by_hand.now

    def fire(self) -> None:
        """Let its moment come."""
        self.by_hand.now = max(self.by_hand.now, self.when)
        self.action()


class ByHand:
    """The timers of one executor and the clock of its calls: nothing moves but by the test.

    Attributes:
        now: what the clock says, in seconds.
    """

    thread = None

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: SimpleQueue[Timer] = SimpleQueue()
        self.made: list[TokenGateExecutor] = []

    def executor(self, *args: Any, **kwargs: Any) -> TokenGateExecutor:
        """Make the executor; whatever jitter it draws is 0.5 of the whole."""
        assert not self.made, "one executor each"
        executor = TokenGateExecutor(*args, **kwargs)
        executor._recovery.draw = lambda: 0.5
        self.made.append(executor)
        return executor

    def next(self) -> Timer:
        """The next timer that is set; wait for it, if it is not yet."""
        return self._timers.get(timeout=30)

    @property
    def is_unset(self) -> bool:
        """Whether no timer was set that was not asked for."""
        return self._timers.empty()

    def fire_all(self) -> None:
        """Let the moments of all timers come that are set by now."""
        while True:
            try:
                timer = self._timers.get_nowait()
            except Empty:
                return
            timer.fire()

    # -- what the engine asks of ``Timers`` ----------------------------------------------------------

    def set(
        self, when: float, action: Callable[[], object], is_moot: Callable[[], bool] = bool
    ) -> None:
        """Note it."""
        self._timers.put(Timer(self, when, action, is_moot))

    def start(self) -> None:
        """Do without a thread."""

    def close(self) -> None:
        """Do without a thread."""

    def join(self) -> None:
        """Do without a thread."""

    def renew(self) -> None:
        """Do without a thread."""


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[ByHand]:
    """Return timers and a clock that the test moves."""
    by_hand = ByHand()
    monkeypatch.setattr("tokengate_executor.engine.assembly.Timers", lambda *_: by_hand)
    for module in _CLOCKS:
        monkeypatch.setattr(f"tokengate_executor.{module}.perf_counter", lambda: by_hand.now)
    yield by_hand
    for executor in by_hand.made:
        executor.shutdown(wait=False, cancel_futures=True)
