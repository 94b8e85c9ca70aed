"""Screening: what is looked at before a call of one profile is let in.

Is its operation blocked, are its arguments a spike? As long as nothing is blocked and spikes are not
looked for, the profile's ``admit`` is the gate's own, and nobody asks.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.errors import OperationBlockedError, TokenQuarantinedError
from tokengate_executor.options import name_of
from tokengate_executor.policies.spikes import CALL_COST, Finding, SpikePolicy, estimate
from tokengate_executor.unread import Onlooker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokengate_executor.engine.routes import Profile, Route
    from tokengate_executor.guard.house import OperationRecord
    from tokengate_executor.guard.recovery import Recovery
    from tokengate_executor.token import Token

__all__ = ["Screen"]

_LOGGER: Final = logging.getLogger("tokengate_executor")


class Screen:
    """Looks at the calls of one profile."""

    def __init__(self, recovery: Recovery, profile: Profile, spikes: SpikePolicy | None) -> None:
        self._recovery = recovery
        self._profile = profile
        self._gate = profile.gate
        self._spikes = spikes
        self._usual_factor = 1.0 if spikes is None else 1.0 + spikes.review_at
        # The last function's name and what is kept of its operation: in one, as others read it.
        self._last: tuple[str, str | None, OperationRecord] | None = None
        self._admit = profile.steps.admit
        self._admit_entered = profile.steps.admit_entered

    def place(self, *, is_anything_blocked: bool) -> None:
        """Look at calls before they are let in, or not, as that can make a difference or not.

        A call that is on its way in meanwhile is let in as it was before.
        """
        steps = self._profile.steps
        if is_anything_blocked or self._spikes is not None:
            steps.admit, steps.admit_entered = self.admit, self.admit_entered
        else:
            steps.admit, steps.admit_entered = self._admit, self._admit_entered

    def admit(self, token: Token[Any], route: Route) -> None:
        """As the gate's, for a call that is let in; one that is held is not queued.

        Raises:
            OperationBlockedError: the operation is blocked.
            TokenQuarantinedError: the arguments are a spike, and the policy refuses it.
        """
        if self._is_as_usual(token) or self._is_let_in(token):
            try:
                self._admit(token, route)
            except BaseException:  # it waits for room, and may be interrupted
                self._forgo(token)
                raise

    def admit_entered(self, token: Token[Any], route: Route) -> None:
        """The same for a token that has its place already."""
        is_let_in = False
        try:
            is_let_in = self._is_let_in(token)
        finally:
            if not is_let_in and route.bound is not None:
                route.bound.leave()
        if is_let_in:
            try:
                self._admit_entered(token, route)
            except BaseException:  # it waits for room, and may be interrupted
                self._forgo(token)
                raise

    def _is_as_usual(self, token: Token[Any]) -> bool:
        """Whether nothing is blocked, and the call is no spike for sure: in short, as most are."""
        policy = self._spikes
        last = self._last
        fn: Any = token._fn
        if (
            policy is None
            or last is None
            or type(fn) is not FunctionType
            or fn.__qualname__ is not last[0]
            or fn.__module__ is not last[1]
            or policy.cost is not None
            or self._recovery.house.is_anything_blocked
        ):
            return False
        args, kwargs = token._args, token._kwargs
        cost = estimate(args, kwargs or {}) if args or kwargs else CALL_COST
        record = last[2]
        new_costs = record.new_costs
        # The history is looked at once for many of them.
        if cost >= record.usual * self._usual_factor or len(new_costs) >= record.patience:
            return False
        new_costs.append(cost)
        return True

    def _is_let_in(self, token: Token[Any]) -> bool:
        recovery = self._recovery
        if recovery.house.is_anything_blocked:
            record = self.record_of(token)
            try:
                ticket = recovery.house.enter(record)
            except OperationBlockedError:
                self._gate.rejected.add("blocked")
                raise
            if ticket.trial:
                token._ticket = record, ticket
                # One that is never run has no outcome.
                token.add_done_callback(Onlooker(self._forgo))
        return self._spikes is None or self._is_cost_let_in(token, self._spikes)

    def record_of(self, token: Token[Any]) -> OperationRecord:
        """What the guard house keeps of the call's operation. Called while the token has its call."""
        fn = token._fn
        assert fn is not None
        record = self._recovery.house.record_of(self._profile.operation or name_of(fn))
        if type(fn) is FunctionType:
            self._last = fn.__qualname__, fn.__module__, record
        return record

    def _is_cost_let_in(self, token: Token[Any], policy: SpikePolicy) -> bool:
        try:
            record = self.record_of(token)
            cost = policy.cost_of(token._args, token._kwargs or {})
            verdict = self._recovery.house.judge(record, cost, policy)
            if verdict.finding is Finding.NORMAL:
                return True
            approved = partial(record.new_costs.append, cost)
            return self._is_spike_let_in(token, str(verdict), verdict.finding, approved)
        except BaseException:
            self._forgo(token)
            raise

    def _is_spike_let_in(
        self, token: Token[Any], verdict: str, finding: Finding, approved: Callable[[], object]
    ) -> bool:
        assert self._spikes is not None
        if finding is Finding.REVIEW:
            self._recovery.reviewed.append(None)
            _LOGGER.warning("a call of %s is unusually large: %s", token.operation, verdict)
            return True
        if self._spikes.action == "refuse":
            self._gate.rejected.add("spike")
            raise TokenQuarantinedError(token.operation, verdict)
        _LOGGER.warning("a call of %s is held in quarantine: %s", token.operation, verdict)
        self._forgo(token)  # nobody need wait for the decision to know how the operation is
        self._recovery.quarantine.hold(token, verdict, approved)
        return False

    def _forgo(self, token: Token[Any]) -> None:
        given = token._ticket
        if given is not None:
            self._recovery.house.forgo(*given)
