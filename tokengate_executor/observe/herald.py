"""Heralds: they tell of the tokens of one profile, if anybody listens.

A profile of which nobody is told has no herald, and costs nothing for it. With one, its ``admit`` and
``attempt`` are the herald's, which tells, and goes on with what they were: ``steps``. Those who look
after calls (``guard.screening``, ``guard.supervision``) put themselves there.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.engine.claims import host_of
from tokengate_executor.engine.routes import Steps
from tokengate_executor.errors import GateFullError, OperationBlockedError, TokenQuarantinedError
from tokengate_executor.observe.events import (
    RejectionReason,
    TokenRejected,
    TokenSettled,
    TokenStarted,
    TokenSubmitted,
)
from tokengate_executor.unread import Onlooker

if TYPE_CHECKING:
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
        self._settled: Final = Onlooker(self._tell_settled)
        self.steps: Final = Steps(profile.admit, profile.admit_entered, profile.attempt)
        profile.admit, profile.admit_entered = self.admit, self.admit_entered
        profile.attempt = self.attempt
        profile.herald = self

    def admit(self, token: Token[Any], route: Route) -> None:
        """See ``Steps``."""
        self._admit(self.steps.admit, token, route)

    def admit_entered(self, token: Token[Any], route: Route) -> None:
        """See ``Steps``."""
        self._admit(self.steps.admit_entered, token, route)

    def _admit(self, admit: Admission, token: Token[Any], route: Route) -> None:
        try:
            self.tell_submitted(token)
            admit(token, route)
        except BaseException as error:
            self._tell_rejected(token, _reason_of(error))
            raise
        if token._is_refused:
            self._tell_rejected(token, "full")  # discarded as the newest

    def tell_submitted(self, token: Token[Any]) -> None:
        """A call was handed over; and have its end told, too."""
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
            self.steps.attempt(worker, token)  # or it would never settle
            del token  # the traceback of its exception leads to this frame: break the ring

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

    def _tell_settled(self, token: Token[Any]) -> None:
        if token._is_refused:
            return  # this is told by whoever refused it
        started_at, settled_at = token.started_at, token.settled_at or 0.0
        earlier = token._earlier
        first = started_at if earlier is None else earlier.first_started_at
        host = host_of(token)
        error = token._exception
        self._announce(
            TokenSettled(
                at=settled_at,
                token_id=token.id,
                operation=token.operation,
                weight=token.weight,
                state=token.state,
                error=None if error is None else type(error).__name__,
                lane=token.lane,
                worker=None if host is None else host.number,
                attempts=token.attempts,
                waited_seconds=(settled_at if first is None else first) - token.submitted_at,
                run_seconds=0.0 if started_at is None or host is None else settled_at - started_at,
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
        case Exception():
            return "closed"
        case _:
            return "interrupted"
