"""A ``tenacity.Retrying`` that was handed over as a retry policy.

Its ``retry``, ``stop`` and ``wait`` strategies decide, as tenacity documents them for a
``RetryCallState``; its ``sleep`` is never called, as no thread waits. What it would raise
(``RetryError``) is not raised: a token fails with what its call raised.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any

from tokengate_executor.token import EarlierAttempts

if TYPE_CHECKING:
    from tokengate_executor.policies.retry import TenacityRetrying
    from tokengate_executor.token import Token

__all__ = ["Reviewer"]


class Reviewer:
    """Asks one ``tenacity.Retrying``.

    Raises:
        ImportError: tenacity is not installed, whatever was handed over.
    """

    def __init__(self, retrying: TenacityRetrying) -> None:
        # An optional package, and by name: type checkers need not have it.
        tenacity: Any = import_module("tenacity")

        self._retrying: Any = retrying
        self._make_state: Any = tenacity.RetryCallState
        self._make_future: Any = tenacity.Future
        self._asks_for_another: type[BaseException] = tenacity.TryAgain

    def delay_after(
        self,
        token: Token[Any],
        attempts: int,
        error: BaseException | None,
        result: object,
        now: float,
    ) -> float | None:
        """Seconds until the next attempt; ``None``: there is none.

        Raises:
            Exception: whatever a strategy raises.
        """
        retrying = self._retrying
        if not getattr(retrying, "enabled", True):  # which old versions do not have
            return None
        state = self._state_of(token, now)
        state.attempt_number = attempts
        state.outcome = outcome = self._make_future(attempts)
        state.outcome_timestamp = monotonic()
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)
        try:
            if not (isinstance(error, self._asks_for_another) or retrying.retry(state)):
                return None
            # In tenacity's order: some of its `stop` strategies look at the sleep to come.
            delay = float(retrying.wait(state)) if retrying.wait else 0.0
            state.upcoming_sleep = delay
            if retrying.stop and retrying.stop(state):
                return None
            state.idle_for += delay
        finally:
            state.outcome = None  # it would keep the error, and the error its frames
        return max(0.0, delay)

    def _state_of(self, token: Token[Any], now: float) -> Any:
        earlier = token._earlier
        if earlier is None:
            earlier = token._earlier = EarlierAttempts(token._started_at or now, token.submitted_at)
        if earlier.tenacity is None:
            # Without the call: it would keep the arguments.
            earlier.tenacity = self._make_state(self._retrying, None, (), {})
            earlier.tenacity.start_time = monotonic() - (now - earlier.first_started_at)
        return earlier.tenacity
