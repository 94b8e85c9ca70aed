"""The last tokens that finished: names and numbers, never arguments or results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokengate_executor.contracts import Profile
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.options import OperationName, joined

if TYPE_CHECKING:
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.policies.weights import Weight

__all__ = ["RawRecord", "TokenRecord", "merged"]

RawRecord = tuple[
    str | None, int, OperationName, Profile, tuple[TokenState, str] | None, float, float, float
]
"""What a worker notes of a token: its id, if it was asked for, and else its number among the
worker's; its name and options; if its call raised, its state and the type of the error; when it was
submitted, started, settled."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One finished token.

    Attributes:
        token_id: as ``Token.id``.
        operation: the name under which it was counted.
        weight: ``"heavy"``, ``"medium"``, ``"light"`` or ``None``.
        lane: the lane that ran it, from 1.
        worker: the number of the worker that ran it.
        state: ``COMPLETED``, ``FAILED`` or ``KILLED``.
        error: the name of the exception's type, or ``None``.
        waited_seconds: from submission to start.
        run_seconds: from start to end of the call.
        settled_at: when the call ended, in seconds of ``time.perf_counter``.
    """

    token_id: str
    operation: str
    weight: Weight | None
    lane: int
    worker: int
    state: TokenState
    error: str | None
    waited_seconds: float
    run_seconds: float
    settled_at: float

    @property
    def success(self) -> bool:
        """Whether the call returned."""
        return self.state is TokenState.COMPLETED


def merged(workers: Iterable[Worker], size: int) -> tuple[TokenRecord, ...]:
    """The last ``size`` records of all workers' rings, oldest first."""
    records = [
        TokenRecord(
            token_id=early_id or f"{worker.number}-{serial}",
            operation=profile.operation or joined(name),
            weight=profile.weight,
            lane=worker.lane_number,
            worker=worker.number,
            state=TokenState.COMPLETED if error is None else error[0],
            error=None if error is None else error[1],
            waited_seconds=started_at - submitted_at,
            run_seconds=settled_at - started_at,
            settled_at=settled_at,
        )
        for worker in workers
        # A copy: the worker goes on writing.
        for early_id, serial, name, profile, error, submitted_at, started_at, settled_at in (
            worker.ring.copy()
        )
    ]
    records.sort(key=lambda record: record.settled_at)
    return tuple(records[-size:] if size else ())
