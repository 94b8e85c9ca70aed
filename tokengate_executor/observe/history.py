"""The last tokens that finished: names and numbers, never arguments or results."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import islice
from types import CodeType
from typing import TYPE_CHECKING, Final

from tokengate_executor.contracts import Profile
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.options import OperationName, joined
from tokengate_executor.policies.complexity import Complexity, complexity_of_code

if TYPE_CHECKING:
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.policies.weights import Weight

__all__ = ["ByOperation", "Notes", "RawRecord", "TokenRecord", "merged"]

RawRecord = tuple[
    str | None,
    int,
    OperationName,
    Profile,
    tuple[TokenState, str] | None,
    float,
    float,
    float,
    CodeType | None,
    int,
]
"""What a worker notes of a token: its id, if it was asked for, and else its number among the
worker's; its name and options; if its call raised, its state and the type of the error; when it was
submitted, started, settled; the code of its function; how many attempts there were."""

_MOST_OPERATIONS: Final = 1024


class Notes:
    """What a worker notes of the calls of one function under one profile.

    Attributes:
        module, qualname, profile: of these calls; compared by identity.
        name: module and qualified name.
        records: the operation's last attempts on this worker, one of ``ByOperation``'s values.
    """

    __slots__ = ("module", "name", "profile", "qualname", "records")

    def __init__(
        self, name: OperationName, profile: Profile | None, records: deque[RawRecord]
    ) -> None:
        self.module, self.qualname = self.name = name
        self.profile = profile
        self.records = records


class ByOperation(dict[Hashable, deque[RawRecord]]):
    """Operation → its last attempts on one worker; written by that worker alone.

    Of very many operations, those that came first are forgotten: names may be made up per call.

    Args:
        attempts: how many are kept of each.
    """

    def __init__(self, attempts: int) -> None:
        super().__init__()
        self._attempts = attempts

    def __missing__(self, operation: Hashable) -> deque[RawRecord]:
        if len(self) >= _MOST_OPERATIONS:
            del self[next(iter(self))]
        records = self[operation] = deque(maxlen=self._attempts)
        return records


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One finished token.

    Attributes:
        token_id: as ``Token.id``.
        operation: the name under which it was counted.
        weight: ``"heavy"``, ``"medium"``, ``"light"`` or ``None``.
        lane: the lane that ran it, from 1.
        worker: the number of the worker that ran it.
        state: ``COMPLETED``, ``FAILED``, ``KILLED`` or ``TIMEOUT``.
        error: the name of the exception's type, or ``None``.
        waited_seconds: from submission to the start of the first attempt.
        run_seconds: from start to end of the last attempt.
        settled_at: when the call ended, in seconds of ``time.perf_counter``.
        attempts: how many times the call was started.
        complexity: how much code the function has, see ``Complexity``.
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
    attempts: int
    complexity: Complexity

    @property
    def success(self) -> bool:
        """Whether the call returned."""
        return self.state is TokenState.COMPLETED


def merged(workers: Iterable[Worker], size: int) -> tuple[TokenRecord, ...]:
    """The last ``size`` records of all workers' rings, oldest first."""
    if size == 0:
        return ()
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
            attempts=attempts,
            complexity=complexity_of_code(code),
        )
        for worker in workers
        for (
            early_id,
            serial,
            name,
            profile,
            error,
            submitted_at,
            started_at,
            settled_at,
            code,
            attempts,
        ) in _last(worker.ring, size)
    ]
    records.sort(key=lambda record: record.settled_at)
    return tuple(records[-size:])


def _last(ring: deque[RawRecord], size: int) -> list[RawRecord]:
    """The last of a ring that its worker goes on writing to."""
    records = ring.copy()
    return list(islice(reversed(records), size))
