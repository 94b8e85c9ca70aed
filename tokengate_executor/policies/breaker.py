"""The circuit breaker of one operation: when its calls are refused, and when it is tried again.

The pattern is Michael Nygard's (*Release It!*, 2007); that it judges the share of failed calls in a
sliding window, and tries a few calls before it closes, is how Hystrix and resilience4j do it. The
numbers are TokenGate's auto-block: over 90 % failed of at least 10 calls. There a block was for ever.

``MOVES`` is the whole state machine. What it leaves open is told at `Circuit`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from tokengate_executor.errors import InvalidOptionError

__all__ = [
    "MOVES",
    "BreakerPolicy",
    "Circuit",
    "CircuitReport",
    "CircuitState",
    "Ticket",
    "Trigger",
]


class CircuitState(Enum):
    """Whether calls are let in: all, none, or a few trial calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Trigger(Enum):
    """What moves a circuit to another state."""

    TOO_MANY_FAILED = "too many calls failed"
    TIME_IS_UP = "it was open for as long as it was to be"
    TRIALS_SUCCEEDED = "all trial calls succeeded"
    TRIAL_FAILED = "a trial call failed"
    OPENED_BY_HAND = "it was opened by hand"
    CLOSED_BY_HAND = "it was closed by hand"


MOVES: Final[Mapping[tuple[CircuitState, Trigger], CircuitState]] = MappingProxyType(
    {
        (CircuitState.CLOSED, Trigger.TOO_MANY_FAILED): CircuitState.OPEN,
        (CircuitState.OPEN, Trigger.TIME_IS_UP): CircuitState.HALF_OPEN,
        (CircuitState.HALF_OPEN, Trigger.TRIALS_SUCCEEDED): CircuitState.CLOSED,
        (CircuitState.HALF_OPEN, Trigger.TRIAL_FAILED): CircuitState.OPEN,
        **{(state, Trigger.OPENED_BY_HAND): CircuitState.OPEN for state in CircuitState},
        **{(state, Trigger.CLOSED_BY_HAND): CircuitState.CLOSED for state in CircuitState},
    }
)
"""State and trigger → the state that follows; what is not here does not happen."""

SHORTEST_WINDOW: Final = 0.001
"""Seconds; below, a part of a window would be too short to be told from the next by a clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When an operation is blocked, for how long, and what opens it again.

    Args:
        failure_rate: the share of failed calls above which it is blocked, from 0 to below 1; exactly
            this share does not block yet.
        min_calls: of how many calls the share is taken at least.
        window: over the last how many seconds, at least 0.001.
        open_for: for how many seconds it is blocked before trial calls are let in.
        trial_calls: how many are let in then; when all succeed it is free again, and when one fails it
            is blocked anew.
        quick_failure: a call that fails within so many seconds counts as a quick failure in the account
            of the operation's health. For the circuit one failure is like another.

    Raises:
        InvalidOptionError: an argument is not a number, or out of its range.
    """

    failure_rate: float = 0.9
    min_calls: int = 10
    window: float = 60.0
    open_for: float = 30.0
    trial_calls: int = 3
    quick_failure: float = 0.1

    def __post_init__(self) -> None:
        seconds = "a finite number of seconds"
        for name, least, allowed in (
            ("failure_rate", 0, "a number from 0 to below 1"),
            ("min_calls", 1, "an int of at least 1"),
            ("window", SHORTEST_WINDOW, f"{seconds}, at least {SHORTEST_WINDOW}"),
            ("open_for", math.ulp(0), f"{seconds} above 0"),
            ("trial_calls", 1, "an int of at least 1"),
            ("quick_failure", 0, f"{seconds}, at least 0"),
        ):
            given: Any = getattr(self, name)
            right = _is_number(given) and given >= least
            right = right and (name != "failure_rate" or given < 1)
            if not right or (name.endswith("_calls") and not isinstance(given, int)):
                raise InvalidOptionError(name, given, allowed)

    def blocks(self, failures: int, calls: int) -> bool:
        """Whether so many failures of so many calls are too many."""
        # The quotient, not the product: floats divide 29 by 100 to exactly what 0.29 is written as,
        # but 0.29 * 100 is less than 29.
        return calls >= self.min_calls and failures / calls > self.failure_rate

    def __str__(self) -> str:
        return (
            f"Breaker: opens for {self.open_for:g} s when over {self.failure_rate * 100:.4g} % of "
            f"at least {_counted(self.min_calls, 'call')} within {self.window:g} s failed; "
            f"then {_counted(self.trial_calls, 'trial call')}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """Leave to make a call. Its result, or that it has none, is told to the circuit that gave it.

    While the circuit is closed all calls have the same ticket, so it costs nothing; each trial call has
    its own. Tickets are equal only to themselves.

    Attributes:
        trial: whether the call decides if a half-open circuit closes.
    """

    trial: bool


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """A circuit at a moment.

    Attributes:
        state: its state. One that was open for long enough is half-open only when a call asks to enter.
        calls: those because of which it is not closed, trial calls included; 0 if it was opened by
            hand. Closed: those that ended within the window, if whoever counts them has said so.
        failures: how many of these failed.
        retry_at: from when on a call may be let in, on the clock that the circuit is told; now, if the
            circuit is not open. ``None``: not before it is closed by hand.
        retry_after: the same as seconds from now, at least 0.
        trials: how many trial calls are on their way.
        openings: how often it opened since it was made or reset.
    """

    state: CircuitState
    calls: int
    failures: int
    retry_at: float | None
    retry_after: float | None
    trials: int
    openings: int

    @property
    def failure_rate(self) -> float:
        """The share of calls that failed, from 0 to 1; 0 if there were none."""
        return self.failures / self.calls if self.calls else 0.0

    def __str__(self) -> str:
        text = f"{self.state.value}: {self.failures} of {_counted(self.calls, 'call')} failed"
        match self.state, self.retry_after:
            case CircuitState.CLOSED, _:
                return text
            case CircuitState.HALF_OPEN, _:
                return f"{text}; {_counted(self.trials, 'trial call')} on the way"
            case _, None:
                return f"{text}; until it is closed by hand"
            case _, seconds:
                return f"{text}; may be tried in {seconds:.1f} s"


class Circuit:
    """Decides, for one operation, which calls are let in; learns from how they end.

    Guarantees:
        - While open no call is let in before the time is up.
        - While half-open, the trial calls on their way and those that succeeded are never more than
          ``trial_calls`` together.
        - A result counts only for the ticket's own stretch of one state: that of a call from before the
          circuit opened, closed or was reset changes nothing.
        - Its memory does not grow with the number of calls: it does not count those of a closed circuit.

    Assumes:
        - Calls of its methods do not overlap: whoever shares it holds a lock.
        - ``now`` is in seconds of a clock that does not run backwards, such as ``perf_counter``. A
          result that is told a little late counts as of the latest moment told.
        - Each ticket is used once: ``succeeded``, ``failed`` or ``forgo``. A trial call that is never
          heard of again leaves the circuit half-open until somebody closes or resets it: no time is
          set, since how long a call takes is the operation's matter.

    Args:
        policy: when to open, for how long, and what closes it.

    Attributes:
        closed_since: from when on calls count; may be read at any time.
    """

    __slots__ = (
        "_calls",
        "_failures",
        "_openings",
        "_pass",
        "_policy",
        "_retry_at",
        "_state",
        "_succeeded",
        "_trials",
        "closed_since",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self.closed_since = -math.inf
        self._state = CircuitState.CLOSED
        self._pass: Ticket | None = Ticket(trial=False)  # closed: every call's ticket; else None
        self._calls = self._failures = 0  # not closed: what it is blamed on
        self._retry_at = math.inf  # open: until when; infinite: until closed by hand
        self._trials: set[Ticket] = set()  # half-open: those on their way
        self._succeeded = 0  # half-open: trial calls that did
        self._openings = 0

    @property
    def policy(self) -> BreakerPolicy:
        """When to open, for how long, and what closes it."""
        return self._policy

    @property
    def standing(self) -> Ticket | None:
        """The ticket of every call while it is closed, else ``None``; may be read at any time."""
        return self._pass

    @property
    def state(self) -> CircuitState:
        """The state at the last moment told; an open circuit becomes half-open in ``may_enter``."""
        return self._state

    def may_enter(self, now: float) -> Ticket | None:
        """Return a ticket for a call that may be made, ``None`` for one that must not.

        An open circuit whose time is up becomes half-open.
        """
        if self._pass is not None:
            return self._pass
        if self._state is CircuitState.OPEN:
            if now < self._retry_at:
                return None
            self._move(Trigger.TIME_IS_UP, now)
        if len(self._trials) + self._succeeded >= self._policy.trial_calls:
            return None
        ticket = Ticket(trial=True)
        self._trials.add(ticket)
        return ticket

    def forgo(self, ticket: Ticket) -> None:
        """Give back the ticket of a call that has no result: it never started, or was cancelled."""
        self._trials.discard(ticket)

    def judge(self, now: float, calls: int, failures: int) -> None:
        """Open it, if it is closed, and that many failures of that many calls are too many.

        Args:
            now: the moment.
            calls: how many ended within the window, of those that began since ``closed_since``.
            failures: how many of these failed or timed out.
        """
        if self._state is CircuitState.CLOSED and self._policy.blocks(failures, calls):
            self._calls, self._failures = calls, failures
            self._move(Trigger.TOO_MANY_FAILED, now)
            self._retry_at = now + self._policy.open_for

    def succeeded(self, ticket: Ticket, now: float) -> None:
        """Count a trial call that succeeded; others are counted elsewhere, see ``judge``."""
        self._count(ticket, now, failed=False)

    def failed(self, ticket: Ticket, now: float) -> None:
        """Count a trial call that failed or timed out; others are counted elsewhere."""
        self._count(ticket, now, failed=True)

    def open(self, now: float, seconds: float | None = None) -> None:
        """Open it by hand, whatever its state.

        Args:
            now: the moment.
            seconds: for how long, above 0; then trial calls decide. ``None``: until it is closed by
                hand.

        Raises:
            InvalidOptionError: ``seconds`` is neither ``None`` nor a finite number above 0.
        """
        if seconds is not None and not (_is_number(seconds) and seconds > 0):
            allowed = "a finite number of seconds above 0, or None"
            raise InvalidOptionError("seconds", seconds, allowed)
        if self._state is CircuitState.CLOSED:
            self._calls = self._failures = 0
        self._move(Trigger.OPENED_BY_HAND, now)
        self._retry_at = math.inf if seconds is None else now + seconds

    def close(self, now: float) -> None:
        """Close it by hand, whatever its state; calls that began before do not count."""
        self._move(Trigger.CLOSED_BY_HAND, now)

    def reset(self, now: float) -> None:
        """Make it as new: closed, and nothing remembered, not even how often it opened."""
        self.close(now)
        self._openings = 0

    def describe(self, now: float) -> CircuitReport:
        """Return what is known of it; its state does not change."""
        retry_at: float | None = now
        if self._state is CircuitState.OPEN:
            retry_at = None if math.isinf(self._retry_at) else max(now, self._retry_at)
        return CircuitReport(
            state=self._state,
            calls=0 if self._pass is not None else self._calls,
            failures=0 if self._pass is not None else self._failures,
            retry_at=retry_at,
            retry_after=None if retry_at is None else retry_at - now,
            trials=len(self._trials),
            openings=self._openings,
        )

    def _count(self, ticket: Ticket, now: float, *, failed: bool) -> None:
        if ticket not in self._trials:
            return  # its call began before the circuit came into this state, and says nothing about it
        self._trials.remove(ticket)
        self._calls += 1
        if failed:
            self._failures += 1
            self._move(Trigger.TRIAL_FAILED, now)
            self._retry_at = now + self._policy.open_for
        else:
            self._succeeded += 1
            if self._succeeded == self._policy.trial_calls:
                self._move(Trigger.TRIALS_SUCCEEDED, now)

    def _move(self, trigger: Trigger, now: float) -> None:
        before, self._state = self._state, MOVES[self._state, trigger]
        closed = self._state is CircuitState.CLOSED
        # New tickets only count from here on: this is what tells calls from before.
        self._pass = Ticket(trial=False) if closed else None
        self._trials.clear()
        self._succeeded = 0
        if closed:
            self.closed_since = now
        elif self._state is CircuitState.OPEN is not before:
            self._openings += 1


def _is_number(given: object) -> bool:
    """Whether it is finite; a bool is no number."""
    if not isinstance(given, int | float) or isinstance(given, bool):
        return False
    return abs(given) <= sys.float_info.max  # an int can be larger than any float


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
