"""Events: what happened in an executor, told to those who listen.

    Event
    ├── TokenEvent
    │   ├── TokenSubmitted      a call was handed over
    │   ├── TokenRejected       it was refused; its submitter was told, or its token was discarded
    │   ├── TokenStarted        an attempt began
    │   ├── TokenRetrying       an attempt failed, and there will be another
    │   ├── TokenQuarantined    its call was stored: it is held for review, or was given up
    │   └── TokenSettled        it came to its end, whatever that is
    ├── WorkerStarted, WorkerStopped
    ├── WorkerAbandoned         a call ran for too long, and nobody waits for it any more
    ├── WorkersAdapted          there are to be more workers, or fewer
    ├── CircuitChanged
    ├── GatePaused, GateResumed, GateDrained
    └── LimitChanged

Guarantees
    * A listener is called under no lock of ours, on the thread on which it happened.
    * What it raises is logged, the first time, and harms nothing.
    * Of one token: first ``TokenSubmitted``; ``TokenStarted`` before each attempt, ``TokenRetrying``
      after one that is followed by another; in the end ``TokenRejected`` or ``TokenSettled``, once.
      Between tokens, and between threads, there is no order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.waiting import current_thread

if TYPE_CHECKING:
    from tokengate_executor.lifecycle import TokenState
    from tokengate_executor.policies.breaker import CircuitState
    from tokengate_executor.policies.limits import LimitSpec
    from tokengate_executor.policies.weights import Weight

__all__ = [
    "Announcer",
    "CircuitChanged",
    "Event",
    "GateDrained",
    "GatePaused",
    "GateResumed",
    "LimitChanged",
    "Listener",
    "RejectionReason",
    "TokenEvent",
    "TokenQuarantined",
    "TokenRejected",
    "TokenRetrying",
    "TokenSettled",
    "TokenStarted",
    "TokenSubmitted",
    "WorkerAbandoned",
    "WorkerStarted",
    "WorkerStopped",
    "WorkersAdapted",
    "announcer_for",
]

_LOGGER: Final = logging.getLogger("tokengate_executor")

RejectionReason = Literal["full", "blocked", "spike", "closed", "error", "interrupted"]
"""Why a call was refused: too many wait, its operation is blocked, its arguments are a spike, the
executor was shut down or drained meanwhile; something that it needs failed, as there was no thread to be
had, or ``SpikePolicy.cost`` raised; or whoever submitted it was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        at: when, in seconds of ``time.perf_counter``.
    """

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent(Event):
    """Something that happened to one token.

    Attributes:
        token_id: as ``Token.id``.
        operation: the name under which it is counted.
        weight: ``"heavy"``, ``"medium"``, ``"light"`` or ``None``.
    """

    token_id: str
    operation: str
    weight: Weight | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSubmitted(TokenEvent):
    """A call was handed over. Told on the submitter's thread, before anybody else sees the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRejected(TokenEvent):
    """A call was refused.

    Attributes:
        reason: see ``RejectionReason``.
    """

    reason: RejectionReason


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStarted(TokenEvent):
    """An attempt began. Told in the call's own context: variables that are set there hold in the call.

    Attributes:
        lane, worker: what runs it, by number.
        attempt: which one, from 1.
        waited_seconds: since the token was submitted.
    """

    lane: int
    worker: int
    attempt: int
    waited_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRetrying(TokenEvent):
    """An attempt failed, and there will be another.

    Attributes:
        attempt: the one that failed, from 1.
        delay_seconds: until the next.
        error: the name of the exception's type; ``None``: what it returned was not good enough.
    """

    attempt: int
    delay_seconds: float
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenQuarantined(TokenEvent):
    """A call was stored in the quarantine.

    Attributes:
        quarantine_id: its id there.
        reason: ``"spike"``: its token is held for review; ``"given up"``: its token fails.
    """

    quarantine_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettled(TokenEvent):
    """A token came to its end. Told after whoever waited for it has been woken.

    Attributes:
        state: the final one.
        error: the name of the exception's type; ``None``: there is none.
        lane, worker: what ran it last, by number; ``None``: nothing did.
        attempts: how many were started.
        waited_seconds: from submission to the first start, or to the end if there was none.
        run_seconds: of the last attempt; 0.0 if there was none.
    """

    state: TokenState
    error: str | None
    lane: int | None
    worker: int | None
    attempts: int
    waited_seconds: float
    run_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkerEvent(Event):
    worker: int
    lane: int
    is_spare: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(_WorkerEvent):
    """A worker's thread began. Told on that thread.

    Attributes:
        worker, lane: by number.
        is_spare: whether it stands in for one that waits.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped(_WorkerEvent):
    """A worker's thread is about to end. Told on that thread.

    Attributes:
        worker, lane: by number.
        is_spare: whether it stood in for one that waited.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAbandoned(_WorkerEvent):
    """A call ran for longer than its ``timeout``: its thread goes on, unheard.

    Attributes:
        worker, lane: by number.
        is_spare: whether it stands in for one that waits.
        token_id, operation: of the call.
    """

    token_id: str
    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersAdapted(Event):
    """By its ``ConvergencePolicy``, the executor has another number of workers from here on.

    Told on the timers' thread. Of ``resize`` it is not told.

    Attributes:
        before, after: how many calls may run at a time.
        reason: why, in words.
    """

    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitChanged(Event):
    """An operation was blocked, may be tried, or is let in again.

    Attributes:
        operation: its full name.
        before, after: the states.
        calls, failures: because of which; 0 if it was done by hand.
    """

    operation: str
    before: CircuitState
    after: CircuitState
    calls: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePaused(Event):
    """Nothing starts any more.

    Attributes:
        operation: nothing of this one; ``None``: of any.
    """

    operation: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResumed(Event):
    """What was paused, or drained, goes on.

    Attributes:
        operation: this one; ``None``: everything that was not paused by name.
    """

    operation: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDrained(Event):
    """A drain is over: all was finished, or its time was.

    Attributes:
        seconds: how long it took.
        left: how many tokens were not finished.
    """

    seconds: float
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChanged(Event):
    """A limit was set.

    Attributes:
        name: of the limit.
        before, after: an int: so many at once; a ``RateLimit``: so many in a time.
    """

    name: str
    before: LimitSpec
    after: LimitSpec


Listener = Callable[[Any], object]
"""Called with each event. It should be quick: what it does, the executor waits for."""


class Announcer:
    """Tells the listeners of one executor."""

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners: Final = listeners
        self._failed: set[int] = set()

    def __call__(self, event: Event) -> None:
        """Tell each of them, in order, whatever becomes of the others.

        Raises:
            KeyboardInterrupt: somebody interrupted the main thread while it was listening. Inside an
                attempt it is kept in ``current_thread``, as the token would never settle.
        """
        interrupt: KeyboardInterrupt | None = None
        for index, listener in enumerate(self._listeners):
            try:
                listener(event)
            except BaseException as error:
                if (
                    isinstance(error, KeyboardInterrupt)
                    and threading.current_thread() is threading.main_thread()
                ):
                    interrupt = error
                elif index not in self._failed:
                    self._failed.add(index)
                    _LOGGER.exception(
                        "a listener failed at %s; it is told of what comes, this is not logged again",
                        type(event).__name__,
                    )
        if interrupt is not None and current_thread.guest is not None:
            current_thread.interrupt = interrupt
        elif interrupt is not None:
            try:
                raise interrupt
            finally:
                interrupt = None


def announcer_for(listeners: Iterable[Listener]) -> Announcer | None:
    """Who tells the listeners; ``None``: there are none.

    Raises:
        InvalidOptionError: they are not callables.
    """
    given = cast("object", listeners)
    try:
        all_of_them = tuple(listeners)
    except TypeError:
        raise InvalidOptionError("listeners", given, "an iterable of callables") from None
    for listener in all_of_them:
        if not callable(cast("object", listener)):
            raise InvalidOptionError("listeners", listener, "callables that take an event")
    return Announcer(all_of_them) if all_of_them else None
