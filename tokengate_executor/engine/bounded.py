"""The bounded gate: a gate at which only so many tokens may wait, and what happens to one more."""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import sys
import time
import weakref
from _thread import TIMEOUT_MAX, allocate_lock
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from typing_extensions import override

from tokengate_executor.engine.bounds import Bound, Waiter
from tokengate_executor.engine.claims import is_waiting
from tokengate_executor.engine.gate import Gate
from tokengate_executor.engine.routes import profile_of
from tokengate_executor.errors import GateFullError
from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from tokengate_executor.engine.routes import Route
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.token import Token

__all__ = ["ON_FULL", "BoundedGate", "OnFull"]

OnFull = Literal["block", "raise", "caller_runs", "discard_oldest", "discard_newest"]
ON_FULL: Final[tuple[OnFull, ...]] = (
    "block",
    "raise",
    "caller_runs",
    "discard_oldest",
    "discard_newest",
)

_MOST_LOOKS: Final = 100_000


class BoundedGate(Gate):
    """A gate whose routes have bounds.

    A token has its place from before it can be seen until it is claimed, cancelled or taken back.
    """

    on_full: OnFull = "block"
    submit_timeout: float | None = None
    # The crew's, which knows the workers: run a token on the calling thread.
    run_here: Callable[[Token[Any]], bool]

    @override
    def renew(self) -> None:
        super().renew()
        # By bound, the tokens that were admitted, oldest first; only for `discard_oldest`.
        self._admitted: dict[Bound, deque[weakref.ref[Token[Any]]]] = {}
        for bound in self.bounds:
            bound.renew()

    @override
    def take(self, worker: Worker) -> Token[Any] | None:
        token = super().take(worker)
        if token is not None:
            profile_of(token).give_up_place(token)
        return token

    @override
    def admit(self, token: Token[Any], route: Route) -> None:
        """As ``Gate.admit``, if there is a place; else what ``on_full`` says.

        Raises:
            GateFullError: the token is refused.
        """
        bound = route.bound
        if bound is None or bound.try_enter() or self._is_place_made(token, route, bound):
            self.admit_entered(token, route)

    @override
    def admit_entered(self, token: Token[Any], route: Route) -> None:
        if route.bound is not None and self.on_full == "discard_oldest":
            self._note(token, route.bound)
        Gate.admit(self, token, route)

    @override
    def enter_or_list(self, route: Route, waiter: Waiter, *, again: bool) -> bool:
        return route.bound is None or route.bound.enter_or_list(waiter, again=again)

    # -- when it is full ------------------------------------------------------------------------------

    def _is_place_made(self, token: Token[Any], route: Route, bound: Bound) -> bool:
        """Whether the token has a place after all; false: it is settled."""
        if self.is_own_worker() and self.on_full in ("block", "caller_runs"):
            # It must not wait for room that perhaps only it can make.
            self._run_by_caller(token, route, bound)
            return False
        match self.on_full:
            case "block":
                self._wait(route, bound)
            case "discard_oldest":
                self._discard_oldest(route, bound)
            case "caller_runs":
                self._run_by_caller(token, route, bound)
                return False
            case "discard_newest":
                self.rejected.add("full")
                token._is_refused = True
                token.cancel()
                return False
            case "raise":
                self._refuse(route, bound)
        return True

    def _refuse(self, route: Route, bound: Bound, advice: str = "") -> NoReturn:
        self.rejected.add("full")
        raise GateFullError(bound.pending, bound.size, route.only_lane, advice)

    def _wait(self, route: Route, bound: Bound) -> None:
        asyncio = sys.modules.get("asyncio")
        if asyncio is not None and asyncio._get_running_loop() is not None:
            self._refuse(
                route, bound, "submit would block the running event loop: await asubmit(...)"
            )
        timeout = self.submit_timeout
        deadline = None if timeout is None else perf_counter() + timeout
        sleeper = allocate_lock()
        sleeper.acquire()
        again = False
        while not bound.enter_or_list(sleeper, again=again):
            again = True
            if self.is_refusing():
                if not bound.withdraw(sleeper):
                    bound.pass_on()
                raise self.refusal()
            awake = False
            try:
                left = -1 if deadline is None else max(0.0, deadline - perf_counter())
                left = min(left, TIMEOUT_MAX)
                awake = sleeper.acquire(timeout=left)
            finally:
                # Time is over, or an interrupt: if it was woken meanwhile, somebody else has to be.
                if not awake and not bound.withdraw(sleeper):
                    bound.pass_on()
            if not awake:
                self._refuse(route, bound, f"none started within submit_timeout={timeout:g} s")

    def _run_by_caller(self, token: Token[Any], route: Route, bound: Bound) -> None:
        if profile_of(token).is_ordered or not self.run_here(token):
            self._refuse(
                route, bound, "and the caller cannot run one that may have to wait for others"
            )

    def claim_here(self, token: Token[Any]) -> bool:
        """Claim a token that nobody else has seen, for its submitter; false: it may not start."""
        token._phase = TokenState.EXECUTING
        governor = self.governor
        if governor is not None and (governor.is_paused or governor.paused_operations):
            token._phase = TokenState.CREATED
            return False
        return True

    def _note(self, token: Token[Any], bound: Bound) -> None:
        admitted = self._admitted.setdefault(bound, deque())
        admitted.append(weakref.ref(token))
        if len(admitted) > 2 * bound.size + 16:
            for _ in range(len(admitted)):
                try:
                    reference = admitted.popleft()
                except IndexError:
                    break
                oldest = reference()
                if oldest is not None and is_waiting(oldest) and not oldest._has_no_place:
                    admitted.append(reference)

    def _discard_oldest(self, route: Route, bound: Bound) -> None:
        """Cancel who has waited longest until a place is free.

        For a moment a place can belong to a token that is not listed, because its submitter has only
        come in, or a worker has claimed it and is about to leave: these come to their end without us,
        so look again. Unless it is a submit that ours has interrupted; therefore not for ever.
        """
        admitted = self._admitted.setdefault(bound, deque())
        for _ in range(_MOST_LOOKS):
            if bound.try_enter():
                return
            try:
                oldest = admitted.popleft()()
            except IndexError:
                time.sleep(0)  # let the others come to their end
                continue
            if oldest is not None and is_waiting(oldest) and not oldest._has_no_place:
                oldest.cancel()
        self._refuse(route, bound, "and none of them can be discarded")
