"""Heralds: they tell of the tokens of one profile, if anybody listens.

A profile of which nobody is told has no herald, and costs nothing for it. With one, its ``admit`` and
``attempt`` are the herald's, which tells, and goes on with what they were: ``steps``. Those who look
after calls (``guard.screening``, ``guard.supervision``) put themselves there.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.engine.claims import host_of
from tokengate_executor.engine.routes import Steps
from tokengate_executor.errors import (
    GateFullError,
    OperationBlockedError,
    TokenGateError,
    TokenQuarantinedError,
)
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import (
    RejectionReason,
    TokenRejected,
    TokenSettled,
    TokenStarted,
    TokenSubmitted,
)
from tokengate_executor.unread import Onlooker

if TYPE_CHECKING:
    from tokengate_executor.engine.bounds import Bound
    from tokengate_executor.engine.routes import Admission, Profile, Route
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.observe.events import Announcer
    from tokengate_executor.token import Token

__all__ = ["Herald"]


class Herald:
    """Tells of the tokens of one profile.

    Attributes:
        steps: what its calls go through when they have been told of.
    """

    def __init__(self, announce: Announcer, profile: Profile) -> None:
        """From here on the profile's calls are told of."""
        self._announce = announce
        self._settled: Final = Onlooker(partial(_tell_settled, announce))
        self.steps: Final = Steps(profile.admit, profile.admit_entered, profile.attempt)
        profile.admit, profile.admit_entered = self.admit, self.admit_entered
        profile.attempt = self.attempt
        profile.herald = self

    def admit(self, token: Token[Any], route: Route) -> None:
        """See ``Steps``."""
        self.let_in(self.steps.admit, token, route)

    def admit_entered(self, token: Token[Any], route: Route) -> None:
        """See ``Steps``."""
        self.let_in(self.steps.admit_entered, token, route, place=route.bound)

    def let_in(
        self, admit: Admission, token: Token[Any], route: Route, *, place: Bound | None = None
    ) -> None:
        """Tell that a call was handed over, let it in by ``admit``, and tell if it is refused.

        Args:
            admit: lets it in, or refuses it.
            token: the call's.
            route: the way it takes.
            place: where the token has its place already.
        """
        is_told = False
        try:
            self._tell_submitted(token)
            is_told = True
            admit(token, route)
        except BaseException as error:
            if place is not None and not is_told:
                place.leave()
            # One that is in all the same was interrupted too late: its end will be told.
            if token._is_refused or token._phase is TokenState.CREATED:
                self._tell_rejected(token, _reason_of(error))
            raise
        if token._is_refused:
            self._tell_rejected(token, "full")  # discarded as the newest

    def _tell_submitted(self, token: Token[Any]) -> None:
        self._announce(
            TokenSubmitted(
                at=token.submitted_at,
                token_id=token.id,
                operation=token.operation,
                weight=token.weight,
            )
        )
        token.add_done_callback(self._settled)

    def attempt(self, worker: Worker, token: Token[Any]) -> None:
        """See ``Steps``."""
        now = perf_counter()
        event = TokenStarted(
            at=now,
            token_id=token.id,
            operation=token.operation,
            weight=token.weight,
            lane=worker.lane_number,
            worker=worker.number,
            attempt=token.attempts + 1,
            waited_seconds=now - token.submitted_at,
        )
        context = token._context
        try:
            if context is None:  # somebody has settled it by hand
                self._announce(event)
            else:
                context.run(self._announce, event)
        finally:
            del context  # the traceback of an exception leads to this frame, which need not keep it
            self.steps.attempt(worker, token)  # or it would never settle
            del token  # break the ring

    def _tell_rejected(self, token: Token[Any], reason: RejectionReason) -> None:
        self._announce(
            TokenRejected(
                at=perf_counter(),
                token_id=token.id,
                operation=token.operation,
                weight=token.weight,
                reason=reason,
            )
        )


def _tell_settled(announce: Announcer, token: Token[Any]) -> None:
    if token._is_refused:
        return  # this is told by whoever refused it
    started_at, settled_at = token.started_at, token.settled_at or 0.0
    earlier = token._earlier
    host = host_of(token)
    run_seconds = 0.0
    if host is not None and started_at is not None:
        run_seconds = settled_at - started_at
    elif earlier is not None:  # settled between two attempts
        host, run_seconds = earlier.last_host, earlier.last_run_seconds
    first = started_at if earlier is None else earlier.first_started_at
    error = token._exception
    announce(
        TokenSettled(
            at=settled_at,
            token_id=token.id,
            operation=token.operation,
            weight=token.weight,
            state=token.state,
            error=None if error is None else type(error).__name__,
            lane=None if host is None else host.lane_number,
            worker=None if host is None else host.number,
            attempts=token.attempts,
            waited_seconds=(settled_at if first is None else first) - token.submitted_at,
            run_seconds=run_seconds,
        )
    )


def _reason_of(error: BaseException) -> RejectionReason:
    match error:
        case GateFullError():
            return "full"
        case OperationBlockedError():
            return "blocked"
        case TokenQuarantinedError():
            return "spike"
        case RuntimeError() if not isinstance(error, TokenGateError):
            return "closed"
        case Exception():
            return "error"
        case _:
            return "interrupted"
