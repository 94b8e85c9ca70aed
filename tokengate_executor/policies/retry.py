"""When a call that failed is tried again: the policy, and the budget that stops retry storms.

The names are stamina's and tenacity's. Full jitter is from Marc Brooker, "Exponential Backoff And
Jitter" (AWS Architecture Blog, 2015); the budget is Finagle's ``RetryBudget``: retries are paid for by
recent successes, so that what is down is not kept down by those who try again.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, Protocol, cast, runtime_checkable

from tokengate_executor.errors import InvalidOptionError, TokenKilledError
from tokengate_executor.policies.complexity import ComplexityLevel

__all__ = [
    "BudgetAccount",
    "Jitter",
    "RetryBudget",
    "RetryOn",
    "RetryPolicy",
    "TenacityRetrying",
    "asks_to_end",
]

Jitter = Literal["full", "equal"]

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Which errors are worth another attempt: a type, several, or a function that says so."""

_SLOTS: Final = 10


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How much retrying a whole executor may do: equal budgets are one and the same budget.

    Attributes:
        share: retries per success, 0.1: one retry for ten successes.
        minimum: so many retries may be made in a window whatever succeeds, so that a quiet executor
            can retry, too.
        window: for how many seconds successes and retries count.
    """

    share: float = 0.1
    minimum: int = 10
    window: float = 10.0

    def __post_init__(self) -> None:
        _check_number("share", self.share, at_least=0.0)
        minimum = cast("object", self.minimum)
        if not isinstance(minimum, int) or isinstance(minimum, bool) or minimum < 0:
            raise InvalidOptionError("minimum", minimum, "an int of at least 0")
        _check_number("window", self.window, above=0.0)


class BudgetAccount:
    """What was earned and spent lately. Not for several threads at once: its owner has a lock.

    Time is cut into slots of a tenth of the window; the present one and the nine before it count. So
    every retry is judged by the successes and retries of the same time before it, which is at least nine
    tenths of the window and less than the whole.

    Guarantee: in any nine tenths of a window there are no more retries than ``minimum`` plus ``share``
    of the successes in the window that ends with the last of them. A longer stretch is made of such
    pieces: in a whole window, which is two of them, there can be twice the ``minimum``.
    """

    __slots__ = ("_budget", "_earned", "_slot_began", "_spent")

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        # By slot, the present one last.
        self._earned = deque([0] * _SLOTS, _SLOTS)
        self._spent = deque([0] * _SLOTS, _SLOTS)
        self._slot_began = -inf  # a clock may begin anywhere, below 0 too

    def earn(self, now: float, successes: int = 1) -> None:
        """Calls succeeded at this moment, in seconds of any clock that goes forward."""
        self._turn_to(now)
        self._earned[-1] += successes

    def spend(self, now: float) -> bool:
        """Pay for one retry; false: it cannot be paid for, and must not be made."""
        self._turn_to(now)
        # An int, compared as one: a minimum may be too large for a float.
        beyond_minimum = sum(self._spent) + 1 - self._budget.minimum
        if beyond_minimum > self._budget.share * sum(self._earned):
            return False
        self._spent[-1] += 1
        return True

    def _turn_to(self, now: float) -> None:
        slots = (now - self._slot_began) * _SLOTS / self._budget.window
        if slots < 1.0:
            return
        passed = int(min(slots, _SLOTS))
        self._earned.extend([0] * passed)
        self._spent.extend([0] * passed)
        if passed == _SLOTS:
            self._slot_began = now
        else:
            self._slot_began += passed * (self._budget.window / _SLOTS)


@runtime_checkable
class TenacityRetrying(Protocol):
    """What is asked of a ``tenacity.Retrying`` object: its strategies. Its ``sleep`` is not called."""

    @property
    def stop(self) -> object:
        """Whether to give up."""
        ...

    @property
    def wait(self) -> object:
        """For how long to wait."""
        ...

    @property
    def retry(self) -> object:
        """Whether an outcome is worth another attempt."""
        ...


_BY_COMPLEXITY: Final = (
    (ComplexityLevel.TRIVIAL, 5),
    (ComplexityLevel.SIMPLE, 4),
    (ComplexityLevel.MODERATE, 3),
    (ComplexityLevel.COMPLEX, 2),
    (ComplexityLevel.EXTREME, 2),
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a call that failed is tried again.

    Args:
        attempts: how many attempts there may be, the first one included; or by the complexity of the
            call, see ``by_complexity``: a level that is not named counts as ``MODERATE``, and if that
            is not named either, there is one attempt.
        on: the errors that are worth another attempt: an exception type, a tuple of types, or a
            function from the exception to a bool. ``asyncio.CancelledError``, ``KeyboardInterrupt``,
            ``SystemExit``, ``GeneratorExit`` and ``TokenKilledError`` are never retried.
        delay: seconds before the second attempt.
        factor: each further delay is so many times the one before.
        max_delay: the longest delay, in seconds.
        jitter: ``"full"``: a random time between 0 and the delay; ``"equal"``: between half of it and
            all of it; ``None``: just the delay.
        timeout: no attempt begins later than so many seconds after the submission.
        budget: what the executor may spend on retries altogether; ``None``: any number.

    Raises:
        InvalidOptionError: a value is not allowed.
    """

    attempts: int | Mapping[ComplexityLevel, int]
    on: RetryOn
    delay: float = 0.1
    factor: float = 2.0
    max_delay: float = 30.0
    jitter: Jitter | None = "full"
    timeout: float | None = None
    budget: RetryBudget | None = field(default_factory=RetryBudget)

    def __post_init__(self) -> None:
        if not _is_attempts(self.attempts):
            allowed = "an int of at least 1, or a mapping of ComplexityLevel to such"
            raise InvalidOptionError("attempts", self.attempts, allowed)
        if isinstance(self.attempts, Mapping):
            object.__setattr__(self, "attempts", _HashableMapping(self.attempts))
        if not _is_on(self.on):
            allowed = "an exception type, a tuple of such, or a function of an exception"
            raise InvalidOptionError("on", self.on, allowed)
        _check_number("delay", self.delay, at_least=0.0)
        _check_number("factor", self.factor, at_least=1.0)
        _check_number("max_delay", self.max_delay, at_least=0.0)
        if self.jitter not in (None, "full", "equal"):
            raise InvalidOptionError("jitter", self.jitter, "'full', 'equal' or None")
        if self.timeout is not None:
            _check_number("timeout", self.timeout, at_least=0.0)
        if self.budget is not None and not isinstance(cast("object", self.budget), RetryBudget):
            raise InvalidOptionError("budget", self.budget, "a RetryBudget or None")

    @classmethod
    def by_complexity(cls, on: RetryOn) -> RetryPolicy:
        """Five attempts for trivial calls, then 4, 3, 2, and 2 for extreme ones.

        The seed's table: what is cheap may be tried more often. A call whose complexity is unknown
        counts as moderate.
        """
        return cls(dict(_BY_COMPLEXITY), on)

    def attempts_for(self, level: Callable[[], ComplexityLevel]) -> int:
        """How many attempts there may be; the level is asked for only if it matters."""
        if not isinstance(self.attempts, Mapping):
            return self.attempts
        unknown = self.attempts.get(ComplexityLevel.MODERATE, 1)
        return self.attempts.get(level(), unknown)

    def is_worth_it(self, error: BaseException) -> bool:
        """Whether such an error is to be retried at all.

        Raises:
            BaseException: whatever a function that was given as ``on`` raises.
        """
        if asks_to_end(error):
            return False
        if callable(self.on) and not isinstance(self.on, type):
            return bool(self.on(error))
        return isinstance(error, self.on)

    def delay_after(self, attempt: int, draw: float) -> float:
        """Seconds to wait after that many attempts.

        Args:
            attempt: how many there were, at least 1.
            draw: a random number of at least 0 and below 1.
        """
        # Of a float, since a power of an int never overflows, but fills the memory.
        factor = float(self.factor)
        power = attempt - 1 if factor > 1.0 else 0
        try:
            full = min(self.max_delay, self.delay * factor**power)
        except OverflowError:  # beyond any longest delay
            full = self.max_delay if self.delay else 0.0
        if self.jitter == "full":
            return full * draw
        if self.jitter == "equal":
            return full / 2.0 * (1.0 + draw)
        return full


def asks_to_end(error: BaseException) -> bool:
    """Whether it tells a call to end: such a one is not tried again, whatever a policy says."""
    # Not imported for this: what is not there yet, or is just being imported, has raised nothing.
    cancelled = getattr(sys.modules.get("asyncio.exceptions"), "CancelledError", None)
    if cancelled is not None and isinstance(error, cancelled):
        return True
    return isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | TokenKilledError)


class _HashableMapping(dict[ComplexityLevel, int]):
    """Attempts by complexity, in a policy that can be compared and hashed; nobody changes it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _is_attempts(given: object) -> bool:
    if isinstance(given, Mapping):
        by_level = cast("Mapping[object, object]", given)
        return all(
            isinstance(level, ComplexityLevel) and _is_count(count)
            for level, count in by_level.items()
        )
    return _is_count(given)


def _is_count(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given >= 1


def _is_on(given: object) -> bool:
    if isinstance(given, type):
        return issubclass(given, BaseException)
    if isinstance(given, tuple):
        kinds = cast("tuple[object, ...]", given)
        return bool(kinds) and all(
            isinstance(k, type) and issubclass(k, BaseException) for k in kinds
        )
    return callable(given)


def _check_number(
    name: str, given: object, *, at_least: float | None = None, above: float | None = None
) -> None:
    bound = f"above {above:g}" if at_least is None else f"at least {at_least:g}"
    if (
        not isinstance(given, int | float)
        or isinstance(given, bool)
        or not abs(given) <= sys.float_info.max  # isfinite() raises for an int beyond floats
        or (at_least is not None and given < at_least)
        or (above is not None and given <= above)
    ):
        raise InvalidOptionError(name, given, f"a finite number, {bound}")
