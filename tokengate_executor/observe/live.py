"""The tokens that are not settled: names and numbers, never arguments."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from tokengate_executor.engine.claims import host_of
from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokengate_executor.engine.crew import Crew
    from tokengate_executor.policies.weights import Weight
    from tokengate_executor.token import Token

__all__ = ["LiveToken", "live_tokens"]


@dataclass(frozen=True, slots=True)
class LiveToken:
    """One token that is not settled.

    Attributes:
        token_id: as ``Token.id``; it stays the same from here on.
        operation: the name under which it is counted.
        weight: ``"heavy"``, ``"medium"``, ``"light"`` or ``None``.
        state: ``EXECUTING``, ``WAITING``, ``ADMITTED``, ``RETRYING`` or ``QUARANTINED``.
        lane, worker: what runs it, by number; ``None``: nothing does.
        attempts: how many times its call was started.
        submitted_at: in seconds of ``time.perf_counter``.
        started_at: when its present attempt was started, on the same clock; ``None``: it does not run.
        kill_requested: whether somebody killed it while it ran.
    """

    token_id: str
    operation: str
    weight: Weight | None
    state: TokenState
    lane: int | None
    worker: int | None
    attempts: int
    submitted_at: float
    started_at: float | None
    kill_requested: bool


def live_tokens(crew: Crew, most: int) -> tuple[LiveToken, ...]:
    """Those that run, and after them those that wait, each the oldest first; not more than ``most``."""
    gate = crew.gate
    running = {
        token: worker.number
        for worker in crew.workers
        for token in worker.executing()
        if token.running() and host_of(token) in (worker, None)  # claimed, and about to begin
    }
    found = [_seen(token, running[token]) for token in _oldest(most, running)]
    left = most - len(found)
    if left > 0:
        # Away first: from there they go to where we look next.
        waiting = [*gate.away.copy(), *gate.first_waiting(left)]
        waiting = [token for token in waiting if token not in running and not token.done()]
        found += [_seen(token, None) for token in _oldest(left, dict.fromkeys(waiting))]
    return tuple(one for one in found if not one.state.settled)  # as some have by now


def _oldest(most: int, tokens: Iterable[Token[Any]]) -> list[Token[Any]]:
    return nsmallest(most, tokens, key=lambda token: token.submitted_at)


def _seen(token: Token[Any], worker: int | None) -> LiveToken:
    return LiveToken(
        token_id=token.id,
        operation=token.operation,
        weight=token.weight,
        state=token.state if worker is None else TokenState.EXECUTING,
        lane=None if worker is None else token.lane,
        worker=worker,
        attempts=token.attempts,
        submitted_at=token.submitted_at,
        started_at=None if worker is None else token.started_at,
        kill_requested=token.kill_requested,
    )
