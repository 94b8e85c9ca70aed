"""The token: a ``concurrent.futures.Future`` that carries its call.

Guarantees
    * A token settles once, its callbacks run once, and it lets go of its call when it settles.
    * Whoever wins ``claim`` runs the call; nobody else does. A token that was cancelled cannot be
      claimed, one that was claimed cannot be cancelled.
    * Reading ``state``, ``done()``, ``repr`` or the result of a settled token takes no lock.

Assumes
    * ``_phase`` is written under the token's lock and read anywhere: it only moves forward
      (see ``lifecycle.MOVES``), so a reader sees some state that was true a moment ago, and a
      settled one is final. ``_result`` and ``_exception`` are written before ``_phase`` says so.

It is light: one plain lock, no condition, and a list of those who wait only when one comes.
``concurrent.futures.wait`` and ``as_completed`` lock ``_condition`` and append to ``_waiters``;
they find the plain lock and a list made at that moment.
"""

from __future__ import annotations

import logging
from _thread import TIMEOUT_MAX, allocate_lock
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextvars import Context
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tokengate_executor.errors import ForkedError, TokenKilledError
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.options import OperationName, joined, name_of
from tokengate_executor.waiting import Audience, Callback, Waiters, current_thread, process

if TYPE_CHECKING:
    from tokengate_executor.contracts import Host, Profile
    from tokengate_executor.policies.weights import Weight
    from tokengate_executor.unread import Unread

__all__ = ["Token"]

T = TypeVar("T")

_FUTURES_LOGGER: Final = logging.getLogger("concurrent.futures")

# As module globals: reading them off the class costs a look-up more, and these are the hot words.
_CREATED: Final = TokenState.CREATED
_WAITING: Final = TokenState.WAITING
_EXECUTING: Final = TokenState.EXECUTING
_COMPLETED: Final = TokenState.COMPLETED
_FAILED: Final = TokenState.FAILED
_CANCELLED: Final = TokenState.CANCELLED
_KILLED: Final = TokenState.KILLED
_TIMEOUT: Final = TokenState.TIMEOUT

_UNSTARTED: Final = frozenset({TokenState.WAITING, TokenState.RETRYING, TokenState.QUARANTINED})
"""The phases of a token that its executor has, and whose call is not running."""

_early_ids: Final = count(1)


class EarlierAttempts:
    """What a token that is tried again remembers.

    Attributes:
        started: how many attempts were started, the present one included.
        first_started_at: when the first was, in seconds of ``time.perf_counter``.
        waited_seconds: from submission to that.
        errors: what became of those that ended, in a line each.
        tenacity: the state of a ``tenacity.Retrying``, if one decides.
        last_host: what ran the last one that ended.
        last_run_seconds: for how long.
    """

    __slots__ = (
        "errors",
        "first_started_at",
        "last_host",
        "last_run_seconds",
        "started",
        "tenacity",
        "waited_seconds",
    )

    def __init__(self, first_started_at: float, submitted_at: float) -> None:
        self.started = 1
        self.first_started_at = first_started_at
        self.waited_seconds = first_started_at - submitted_at
        self.errors: list[str] = []
        self.tenacity: Any = None
        self.last_host: Host | None = None
        self.last_run_seconds = 0.0


class Token(Future[T]):
    """A call that was handed to an executor, and the future of its result.

    Works wherever a ``concurrent.futures.Future`` does (``wait``, ``as_completed``,
    ``asyncio.wrap_future``), can be awaited in asyncio, and compares by identity.

    Attributes:
        submitted_at: when it was submitted, in seconds of ``time.perf_counter``.
    """

    # A slot stays unset until it means something, which is a third of the time it takes to make a
    # token; ``getattr`` with ``None`` reads such a one.
    __slots__ = (
        "_args",
        "_audience",
        "_context",
        "_ended_attempt",
        "_exception",
        "_fn",
        "_host",
        "_kwargs",
        "_lane",
        "_lock",
        "_look_at",
        "_name",
        "_phase",
        "_profile",
        "_result",
        "_serial",
        "_settled_at",
        "_started_at",
        "submitted_at",
    )

    # Of few tokens and therefore no slots; a ``Future`` has a dictionary for them.
    _id: str | None = None
    _unread: Unread | None = None
    _earlier: EarlierAttempts | None = None
    _has_no_place: bool = False
    _is_refused: bool = False
    # Of supervised ones: leave to make a trial call, with what the guard house keeps of the
    # operation; and of which attempt, by its start, it is known that it is slow, that it came late.
    _ticket: tuple[Any, Any] | None = None
    _logged_attempt: float | None = None
    _late_attempt: float | None = None
    _kill_requested: bool = False
    _is_orphaned: bool = False

    _ended_attempt: float
    _exception: BaseException | None
    _host: Host | None
    _lane: int | None
    _look_at: float
    _name: OperationName | None
    _result: T | None
    _serial: int
    _settled_at: float | None
    _started_at: float | None
    submitted_at: float

    def __init__(  # noqa: PLR0917  by position is quicker, and executors alone do it
        self,
        fn: Callable[..., T] | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        context: Context | None = None,
        profile: Profile | None = None,
        audience: Audience | None = None,
    ) -> None:
        """For executors; users get tokens from ``submit``. Without a call: a bare future."""
        # Guards _phase on its way forward, _audience and _id. Never held while user code runs.
        self._lock = allocate_lock()
        self._phase = _CREATED
        self._fn = fn
        self._args = args
        self._kwargs = kwargs
        self._context = context
        self._profile = profile
        self._audience = audience
        self.submitted_at = perf_counter()

    # -- what the token is ------------------------------------------------------------------------

    @property
    def state(self) -> TokenState:
        """Where the token is in its life, a moment ago."""
        phase = self._phase
        if phase is _WAITING and self.lane is not None:
            return TokenState.ADMITTED
        return phase

    @property
    def id(self) -> str:
        """``worker-serial``: the nth token that a worker started; ``0-n`` when asked earlier.

        Unique within the executor and stable once it was asked for. Made when asked for.
        """
        if process.is_forked:
            self._mind_fork()
        with self._lock:
            if self._id is None:
                host: Host | None = getattr(self, "_host", None)
                if host is None:
                    with process.early_ids_lock:
                        self._id = f"0-{next(_early_ids)}"
                else:
                    self._id = f"{host.number}-{self._serial}"
            return self._id

    @property
    def operation(self) -> str:
        """The name under which the call is counted: the option, or ``module.qualname``."""
        if self._profile is not None and self._profile.operation is not None:
            return self._profile.operation
        fn = self._fn
        # The token lets go of its call at any moment, but notes its name before.
        name = getattr(self, "_name", None) if fn is None else name_of(fn)
        return "unnamed" if name is None else joined(name)

    @property
    def weight(self) -> Weight | None:
        """``"heavy"``, ``"medium"``, ``"light"``, or ``None``: unweighted."""
        return None if self._profile is None else self._profile.weight

    @property
    def lane(self) -> int | None:
        """The number of the lane that took the token, from 1; ``None`` while none has."""
        return getattr(self, "_lane", None)

    @property
    def started_at(self) -> float | None:
        """When its last attempt started, in seconds of ``time.perf_counter``, or ``None``."""
        return getattr(self, "_started_at", None)

    @property
    def settled_at(self) -> float | None:
        """When it settled, in seconds of ``time.perf_counter``, or ``None``."""
        return getattr(self, "_settled_at", None)

    @property
    def attempts(self) -> int:
        """How many times the call was started."""
        if self._earlier is not None:
            return self._earlier.started
        return 0 if self.started_at is None else 1

    def __repr__(self) -> str:
        phase = self._phase
        what = "cancelled" if self.cancelled() else phase.future_state.lower()
        if phase is _COMPLETED:
            what += f" returned {type(self._result).__name__}"
        elif phase is _FAILED or phase is _TIMEOUT:
            what += f" raised {type(self._exception).__name__}"
        return f"<{type(self).__name__} at {id(self):#x} state={what}>"

    # -- inside its call: see ``current_token`` ------------------------------------------------------

    @property
    def kill_requested(self) -> bool:
        """Whether somebody killed the token while its call ran: the call should end soon."""
        return self._kill_requested

    def checkpoint(self) -> None:
        """For the running call, at moments where it may end: end it if the token was killed.

        Raises:
            TokenKilledError: it was. If the call lets it out, the token is ``KILLED``.
        """
        if self._kill_requested:
            raise TokenKilledError(self.operation)

    # -- waiting for it ---------------------------------------------------------------------------

    def cancelled(self) -> bool:
        """Whether the token was cancelled or killed."""
        phase = self._phase
        return phase is _CANCELLED or phase is _KILLED

    def running(self) -> bool:
        """Whether the call is running."""
        return self._phase is _EXECUTING

    def done(self) -> bool:
        """Whether the token is settled: completed, failed, timed out, cancelled or killed."""
        if not self._phase.settled and process.is_forked:
            self._mind_fork()
        return self._phase.settled

    def result(self, timeout: float | None = None) -> T:
        """The result of the call.

        Args:
            timeout: how long to wait for it, in seconds; ``None``: as long as it takes.

        Raises:
            CancelledError: the token was cancelled; ``TokenKilledError``: it was killed.
            TimeoutError: it did not settle in time; the call goes on. ``TokenTimeoutError``: it did
                not start within its ``queue_timeout``, and never will.
            DeadlockError: the caller is a worker, and the wait could never end.
            BaseException: whatever the call raised.
        """
        if not self._phase.settled:
            self._block(timeout)
        if self._phase is _COMPLETED:
            return self._result  # type: ignore[return-value]
        try:
            exception = self.exception(0)
            if exception is None:
                return None  # type: ignore[return-value]  # somebody set the exception to that
            raise exception
        finally:
            # The traceback of what is raised here holds this frame: break the ring.
            self = exception = None  # type: ignore[assignment]  # noqa: PLW0642

    get = result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or ``None`` when it returned. Waits and raises as ``result``."""
        if not self._phase.settled:
            self._block(timeout)
        phase = self._phase
        if phase is _FAILED or phase is _TIMEOUT:
            if self._unread is not None:
                self._unread.exception = None
            return self._exception
        if phase is _COMPLETED:
            return None
        if phase is _CANCELLED:
            raise CancelledError
        if phase is _KILLED and self._exception is not None:
            raise self._exception
        raise TimeoutError

    def add_done_callback(self, fn: Callback) -> None:
        """Call ``fn(token)`` once the token is settled; at once if it is.

        Callbacks run in the order in which they were added, on the thread that settles the token.
        An exception in one is logged under ``concurrent.futures``, as the standard library does.
        """
        if process.is_forked:
            self._mind_fork()
        lock = self._lock
        lock.acquire()
        try:
            if not self._phase.settled:
                self._the_audience().callbacks.append(fn)
                return
        finally:
            lock.release()
        if self._unread is not None:
            self._unread.exception = None
        self._call_back([fn])

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in asyncio. Cancelling the task that waits cancels a token that has not started."""
        from tokengate_executor.following import future_of  # noqa: PLC0415  see there

        return future_of(self).__await__()

    def _block(self, timeout: float | None) -> None:
        """Wait until the token is settled or the time is over; a worker lends itself meanwhile."""
        if process.is_forked:
            self._mind_fork()
        if timeout is not None and timeout <= 0:
            return
        host = current_thread.host
        if host is None:
            self._sleep(timeout)
        elif timeout is not None or not host.run_in_place(self):
            with host.lending(self, timeout):
                self._sleep(timeout)

    def _sleep(self, timeout: float | None) -> None:
        sleeper = allocate_lock()
        sleeper.acquire()
        lock = self._lock
        lock.acquire()
        if self._phase.settled:
            lock.release()
            return
        audience = self._the_audience()
        if audience.sleepers is None:
            audience.sleepers = [sleeper]
        else:
            audience.sleepers.append(sleeper)
        lock.release()
        if timeout is None:
            sleeper.acquire()
        elif not sleeper.acquire(timeout=min(timeout, TIMEOUT_MAX)):
            with lock:
                sleepers: list[Any] | None = self._the_audience().sleepers
                if sleepers is not None and sleeper in sleepers:
                    sleepers.remove(sleeper)

    def _the_audience(self) -> Audience:
        """Called with the lock held."""
        audience = self._audience
        if audience is None:
            audience = self._audience = Audience()
        return audience

    # -- settling it ------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call if it has not started.

        A cancelled token is settled at once: whoever waits for it is woken, its callbacks have run
        when this returns, and its call and its place in the queue are free.

        Returns:
            whether the token is cancelled.
        """
        if process.is_forked:
            self._mind_fork()
        with self._lock:
            phase = self._phase
            if phase not in _UNSTARTED and phase is not _CREATED:
                return phase is _CANCELLED or phase is _KILLED
            queued_at = self._profile if phase in _UNSTARTED else None
            if queued_at is not None:
                queued_at.left_queue(self, cancelled=True)
            call = self._call
            callbacks = self._settle(_CANCELLED, None, None, perf_counter())
        if queued_at is not None:
            queued_at.make_room(self)
        del call
        self._call_back(callbacks)
        return True

    def set_running_or_notify_cancel(self) -> bool:
        """For executors and tests: as in ``concurrent.futures.Future``."""
        queued_at: Profile | None = None
        with self._lock:
            phase = self._phase
            if phase is _CREATED or phase is _WAITING:
                queued_at = self._profile if phase is _WAITING else None
                if queued_at is not None:
                    queued_at.left_queue(self, cancelled=False)
                self._phase = _EXECUTING
                self._started_at = perf_counter()
        if phase is _CREATED or phase is _WAITING:
            if queued_at is not None:
                queued_at.give_up_place(self)
            return True
        if phase is _CANCELLED or phase is _KILLED:
            return False
        _FUTURES_LOGGER.critical("Future %s in unexpected state: %s", id(self), phase.future_state)
        raise RuntimeError("Future in unexpected state")

    def set_result(self, result: T) -> None:
        """For executors and tests: as in ``concurrent.futures.Future``."""
        self._settle_by_hand(_COMPLETED, result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """For executors and tests: as in ``concurrent.futures.Future``."""
        self._settle_by_hand(_FAILED, None, exception)

    def _settle_by_hand(
        self, phase: TokenState, result: Any, exception: BaseException | None
    ) -> None:
        callbacks: Sequence[Callback] = ()
        queued_at: Profile | None = None
        with self._lock:
            call = self._call
            open_ = not self._phase.settled
            if open_:
                if self._phase in _UNSTARTED and self._profile is not None:
                    queued_at = self._profile
                    queued_at.left_queue(self, cancelled=False)
                callbacks = self._settle(phase, result, exception, perf_counter())
        if not open_:
            raise InvalidStateError(f"{self._state}: {self!r}")
        if queued_at is not None:
            queued_at.make_room(self)
        del call
        self._call_back(callbacks)

    @property
    def _call(self) -> tuple[object, ...]:
        """What the token refers to until it settles.

        Whoever settles it keeps this until the lock is free: what goes with it may have finalisers, and
        these may come to this token.
        """
        return self._fn, self._args, self._kwargs, self._context

    def _settle(
        self, state: TokenState, result: Any, exception: BaseException | None, now: float
    ) -> Sequence[Callback]:
        """The token becomes settled and lets go of its call. Called with the lock held.

        ``engine.settlement`` has the same steps once more, written out for the way of most calls.

        Returns the callbacks, which the caller runs without the lock.
        """
        fn = self._fn
        if fn is not None:
            self._name = name_of(fn)
            self._fn = self._kwargs = self._context = None
            self._args = ()
        self._settled_at = now
        self._result = result
        self._exception = exception
        self._phase = state
        audience = self._audience
        return () if audience is None else audience.tell(self, state)

    def _mind_fork(self) -> None:
        """Before anybody waits: a token that is left over from before a fork will never settle."""
        profile = self._profile
        if (
            not self._is_orphaned
            and profile is not None
            and profile.left_behind(self.submitted_at, getattr(self, "_host", None))
        ):
            self._orphan()

    def _orphan(self) -> None:
        """In a forked child: settle a token whose call runs in the parent.

        The lock may be held by a thread that does not exist here, so the token gets a new one.
        Callbacks are dropped: they belong to the parent, which runs them.
        """
        self._is_orphaned = True
        self._lock = allocate_lock()
        if not self._phase.settled:
            self._audience = None
            error = ForkedError(
                "this token was inherited over fork(): its call runs in the parent process, not here"
            )
            self._settle(_FAILED, None, error, perf_counter())

    def _call_back(
        self,
        callbacks: Iterable[Callback],
        logged: type[BaseException] = Exception,
    ) -> None:
        """Run the callbacks, each of them; log what they raise if it is a ``logged`` one."""
        escaped: BaseException | None = None
        for callback in callbacks:
            try:
                callback(self)
            except logged:
                _FUTURES_LOGGER.exception("exception calling callback for %r", self)
            except BaseException as exception:
                escaped = escaped or exception
        if escaped is not None:
            try:
                raise escaped
            finally:
                escaped = None

    # -- what the standard library's own functions reach for -----------------------------------------

    # Type checkers go on seeing `Future`'s attributes: by these they check what `as_completed` takes.
    if not TYPE_CHECKING:

        @property
        def _condition(self) -> Any:
            """``wait`` and ``as_completed`` only ever lock it, so it is the plain lock."""
            if process.is_forked:
                self._mind_fork()
            return self._lock

        @property
        def _state(self) -> str:
            return self._phase.future_state

        @property
        def _waiters(self) -> list[Any]:
            """Read with the lock held, as ``_condition`` promises."""
            audience = self._the_audience()
            if audience.waiters is None:
                audience.waiters = Waiters()
            return audience.waiters
