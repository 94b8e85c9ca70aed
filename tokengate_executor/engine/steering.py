"""Steering: the verbs that stop, resume, empty and end what an executor does."""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from _thread import TIMEOUT_MAX
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.engine.claims import host_of, kill_waiting
from tokengate_executor.engine.gate import AFTER_DRAIN, AFTER_SHUTDOWN
from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import GateDrained, GatePaused, GateResumed, LimitChanged
from tokengate_executor.options import is_duration
from tokengate_executor.waiting import current_thread

if TYPE_CHECKING:
    from tokengate_executor.engine.crew import Crew
    from tokengate_executor.policies.limits import LimitSpec
    from tokengate_executor.token import Token

__all__ = ["DrainReport", "LeftToken", "Steering"]

_QUARANTINED: Final = TokenState.QUARANTINED


@dataclass(frozen=True, slots=True)
class LeftToken:
    """One token that was not finished when the time for a drain was over.

    Attributes:
        token_id: as ``Token.id``.
        operation: the name under which it is counted.
        state: where it was in its life.
        seconds: since it was submitted.
    """

    token_id: str
    operation: str
    state: TokenState
    seconds: float


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What ``drain`` left.

    Attributes:
        seconds: for how long it waited.
        left: what had not finished by then, oldest first.
    """

    seconds: float
    left: tuple[LeftToken, ...]

    @property
    def is_complete(self) -> bool:
        """Whether everything has finished."""
        return not self.left


class Steering:
    """The verbs, on one executor's gate and crew."""

    def __init__(self, crew: Crew) -> None:
        self._crew: Final = crew
        self._gate: Final = crew.gate

    # -- pause, resume ----------------------------------------------------------------------------

    def pause(self, operation: str | None) -> None:
        """See ``TokenGateExecutor.pause``."""
        _check_name("operation", operation)
        self._refuse_after_shutdown()
        with self._gate.steering() as governor:
            # Looked at with the lock held: who closes the gate lifts the pauses that are there by then.
            is_too_late = self._gate.is_ending
            if is_too_late:
                pass
            elif operation is None:
                governor.is_paused = True
            else:
                governor.pause(operation)
        if is_too_late:
            self._refuse_after_shutdown()
        if self._gate.announce is not None:
            self._gate.announce(GatePaused(at=perf_counter(), operation=operation))

    def resume(self, operation: str | None) -> None:
        """See ``TokenGateExecutor.resume``."""
        _check_name("operation", operation)
        gate = self._gate
        with gate.steering() as governor:
            if operation is None:
                governor.is_paused = False
                if gate.closed is AFTER_DRAIN:
                    gate.closed = None
                    if gate.is_ending:  # since we looked
                        gate.closed = AFTER_SHUTDOWN
            else:
                governor.resume(operation)
        if gate.announce is not None:
            gate.announce(GateResumed(at=perf_counter(), operation=operation))

    def _refuse_after_shutdown(self) -> None:
        if self._gate.is_ending:
            raise self._gate.refusal()

    # -- limits -----------------------------------------------------------------------------------

    def set_limit(self, name: str, spec: LimitSpec) -> None:
        """See ``TokenGateExecutor.set_limit``."""
        limits = self._gate.limits
        if name not in limits:
            raise InvalidOptionError("limit", name, f"one of {', '.join(map(repr, limits))}")
        with self._gate.steering() as governor:
            before = limits[name].spec
            limits[name].change(spec, perf_counter())
            governor.limit_has_room(limits[name])
        if self._gate.announce is not None:
            self._gate.announce(
                LimitChanged(at=perf_counter(), name=name, before=before, after=spec)
            )

    # -- drain ------------------------------------------------------------------------------------

    def drain(self, timeout: float | None) -> DrainReport:
        """See ``TokenGateExecutor.drain``."""
        gate = self._gate
        if timeout is not None and not is_duration(timeout):
            raise InvalidOptionError("timeout", timeout, "seconds, at least 0, or None")
        self._refuse_after_shutdown()
        began = perf_counter()
        deadline = None if timeout is None else began + timeout
        gate.closed = AFTER_DRAIN
        if gate.is_ending:  # since we looked
            gate.closed = AFTER_SHUTDOWN
            self._refuse_after_shutdown()
        for bound in gate.bounds:
            bound.wake_all()
        gate.govern()
        changes: SimpleQueue[None] = SimpleQueue()
        gate.watchers.append(changes)
        try:
            # Looked at twice, as one may have moved from a worker to where we had looked already.
            while (
                (left := self._unfinished())
                or self._crew.is_any_busy()
                or (left := self._unfinished())
            ):
                seconds = None if deadline is None else deadline - perf_counter()
                if seconds is not None and seconds <= 0:
                    break
                with suppress(Empty):
                    changes.get(timeout=None if seconds is None else min(seconds, TIMEOUT_MAX))
        finally:
            gate.watchers.remove(changes)
        now = perf_counter()
        if gate.announce is not None:
            gate.announce(GateDrained(at=now, seconds=now - began, left=len(left)))
        return DrainReport(
            now - began,
            tuple(
                LeftToken(token.id, token.operation, token.state, now - token.submitted_at)
                for token in sorted(left, key=lambda token: token.submitted_at)
            ),
        )

    def _unfinished(self) -> list[Token[Any]]:
        """What waits or runs, except the calls that we are inside of, and those held for review."""
        here = (current_thread.host, current_thread.guest)
        # Away first: from there they go to where we look next.
        waiting = [one for one in self._gate.away.copy() if one.state is not _QUARANTINED]
        waiting += self._gate.waiting_tokens()
        return waiting + [
            token
            for worker in self._crew.workers
            if worker not in here
            for token in worker.executing()
            # One that runs elsewhere by now was cut off here.
            if token.running() and host_of(token) is worker
        ]

    def _all_waiting(self) -> list[Token[Any]]:
        """What waits for its turn, to be tried again, or to be reviewed."""
        return list(dict.fromkeys([*self._gate.away.copy(), *self._gate.waiting_tokens()]))

    # -- purge, kill ------------------------------------------------------------------------------

    def purge(self, operation: str | None) -> int:
        """See ``TokenGateExecutor.purge``."""
        _check_name("operation", operation)
        return sum(
            token.cancel()
            for token in self._all_waiting()
            if not token.running() and (operation is None or token.operation == operation)
        )

    def kill(self, token_id: str | None, operation: str | None) -> int:
        """See ``TokenGateExecutor.kill``."""
        _check_name("token_id", token_id)
        _check_name("operation", operation)
        if (token_id is None) == (operation is None):
            raise InvalidOptionError(
                "token_id", token_id, "given, or operation instead, and not both of them"
            )

        def is_meant(token: Token[Any]) -> bool:
            if operation is not None:
                return token.operation == operation
            # One that waits has an id only if somebody asked for it; asking for all would make them.
            return (token.id if token.running() else token._id) == token_id

        killed = 0
        # What waits first: what starts meanwhile is then found running.
        for token in self._all_waiting():
            if is_meant(token) and kill_waiting(token):
                killed += 1
        for worker in self._crew.workers:
            for token in worker.executing():
                if token.running() and is_meant(token) and not token.kill_requested:
                    token._kill_requested = True
                    killed += 1
        return killed


def _check_name(argument: str, given: object) -> None:
    if given is not None and (not isinstance(given, str) or not given):
        raise InvalidOptionError(argument, given, "a non-empty string or None")
