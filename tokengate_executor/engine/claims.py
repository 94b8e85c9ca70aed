"""How a token changes hands: who may run it, who takes it back, who ends it unrun.

The token's lock decides: a phase that says ``WAITING`` is changed under it by exactly one of those
who want the token, a worker, the one who cancels, the submitter who takes it back.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from concurrent.futures._base import CANCELLED_AND_NOTIFIED
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.engine.routes import profile_of
from tokengate_executor.errors import TokenKilledError, TokenTimeoutError
from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from tokengate_executor.contracts import Host
    from tokengate_executor.token import Token

__all__ = [
    "bring_back",
    "claim",
    "claim_in_queue",
    "end_unrun",
    "expire",
    "fail_waiting",
    "host_of",
    "is_back",
    "is_waiting",
    "kill_waiting",
    "orphan",
    "put_away",
    "unclaim",
    "was_cut_off",
    "withdraw",
]

_WAITING: Final = TokenState.WAITING
_EXECUTING: Final = TokenState.EXECUTING
_AWAY: Final = frozenset({TokenState.RETRYING, TokenState.QUARANTINED})


def claim(token: Token[Any]) -> bool:
    """``WAITING → EXECUTING``, true for exactly one claimant, who took it out of its queue.

    The claimant alone writes to the token from here on, until it settles it.
    """
    lock = token._lock
    lock.acquire()
    if token._phase is _WAITING:
        token._phase = _EXECUTING
        lock.release()
        return True
    lock.release()
    return False


def claim_in_queue(token: Token[Any]) -> bool:
    """``claim`` for somebody who did not take the token out of its queue; its shell stays there."""
    with token._lock:
        if token._phase is not _WAITING:
            return False
        if token._profile is not None:
            token._profile.left_queue(token, cancelled=False)
        token._phase = _EXECUTING
    return True


def withdraw(token: Token[Any], refusal: RuntimeError) -> bool:
    """Take back a token that nobody was given yet; false: a worker has claimed it.

    Its submitter is told by the refusal, and nobody else has it: it only leaves its queue.
    """
    return end_unrun(token, TokenState.FAILED, refusal, is_refused=True)


def is_waiting(token: Token[Any]) -> bool:
    """Whether the token could be claimed, a moment ago."""
    return token._phase is _WAITING


def host_of(token: Token[Any]) -> Host | None:
    """The worker that runs or ran the token."""
    return getattr(token, "_host", None)


def is_back(token: Token[Any]) -> bool:
    """Whether it was away, and waits for its turn as one that was let in long ago."""
    return token._has_no_place


def was_cut_off(token: Token[Any]) -> bool:
    """Whether its attempt ended, though perhaps its call did not."""
    ended = getattr(token, "_ended_attempt", 0.0)
    return ended != 0.0 and ended == token._started_at


def unclaim(token: Token[Any]) -> None:
    """``EXECUTING → WAITING``, by the claimant, who has not begun its call."""
    with token._lock:
        token._phase = _WAITING
        token._lane = None


def end_unrun(
    token: Token[Any],
    state: TokenState,
    exception: BaseException | None,
    *,
    even_if_tried: bool = False,
    is_refused: bool = False,
) -> bool:
    """``state`` for a token that waits, here or elsewhere; false: it is too late.

    One that is away, or has been tried, counts only with ``even_if_tried``.
    """
    profile = token._profile
    with token._lock:
        call = token._call
        phase = token._phase
        if phase is not _WAITING and (phase not in _AWAY or not even_if_tried):
            return False
        if token.attempts and not even_if_tried:
            return False
        if profile is not None:
            profile.left_queue(token, cancelled=state.future_state is CANCELLED_AND_NOTIFIED)
        if is_refused:
            token._is_refused = True  # before anybody hears of its end
        callbacks = token._settle(state, None, exception, perf_counter())
    if profile is not None:
        profile.make_room(token)
    del call
    token._call_back(callbacks, BaseException)
    return True


def fail_waiting(token: Token[Any], exception: BaseException) -> bool:
    """The executor can not run it."""
    return end_unrun(token, TokenState.FAILED, exception, even_if_tried=True)


def kill_waiting(token: Token[Any]) -> bool:
    """Somebody killed it."""
    error = TokenKilledError(token.operation)
    return end_unrun(token, TokenState.KILLED, error, even_if_tried=True)


def expire(token: Token[Any]) -> bool:
    """It did not start in time."""
    profile = token._profile
    timeout = (profile.queue_timeout if profile is not None else None) or 0.0
    return end_unrun(token, TokenState.TIMEOUT, TokenTimeoutError(token.operation, timeout))


def put_away(token: Token[Any], phase: TokenState) -> bool:
    """``phase`` for a token that is in no queue, and will wait elsewhere; false: it is settled.

    Called by whoever alone may move it: its submitter, or the one whose attempt it was.
    """
    profile = profile_of(token)
    with token._lock:
        if token._phase.settled:
            return False
        token._lane = None
        token._has_no_place = True
        token._phase = phase
        profile.gate.away.add(token)
    return True


def bring_back(token: Token[Any]) -> bool:
    """``WAITING`` for a token that was put away; false: it has been settled meanwhile.

    The caller queues it, and only then takes it off the list of those who are away.
    """
    with token._lock:
        if token._phase not in _AWAY:
            return False
        token._phase = _WAITING
    return True


def orphan(token: Token[Any]) -> None:
    """In a forked child: fail a token whose call runs in the parent."""
    token._orphan()
