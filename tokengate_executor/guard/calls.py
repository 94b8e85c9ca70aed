"""A call that is quarantined: what it consists of, and its statuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

__all__ = ["MOVES", "STATUSES", "Call", "CallParts", "QuarantinedCall", "Reason", "Status"]

Reason = Literal["given up", "spike"]
Status = Literal["pending", "approved", "rejected", "replayed"]
CallParts = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""Function, positional arguments, keyword arguments."""

MOVES: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        "pending": frozenset({"approved", "rejected", "replayed"}),
        "approved": frozenset({"rejected", "replayed"}),
        "rejected": frozenset({"approved"}),
        "replayed": frozenset({"pending"}),
    }
)
"""Where a quarantined call may go from each status; the last one is a replay that failed again."""

STATUSES: Final[tuple[Status, ...]] = tuple(MOVES)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that shall be quarantined. Its ``repr`` shows no arguments, as logs must not.

    Attributes:
        operation: the name under which the call is counted.
        fn: the function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        reason: ``"given up"`` by its retry policy, or a ``"spike"``.
        error: the exception of the last attempt, if there was one.
        attempts: how many times it ran.
        submitted_at: seconds since the epoch.
    """

    operation: str
    fn: Callable[..., Any] = field(repr=False)
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    reason: Reason = "given up"
    error: BaseException | None = field(default=None, repr=False)
    attempts: int = 0
    submitted_at: float = 0.0


@dataclass(frozen=True, slots=True)
class QuarantinedCall:
    """What the quarantine tells of a call without unpickling it.

    Attributes:
        id: names it, across processes.
        operation: the name under which it is counted.
        status: ``"pending"``, ``"approved"``, ``"rejected"`` or ``"replayed"``.
        reason: ``"given up"`` by its retry policy, or a ``"spike"``.
        error_type: module and name of the exception's class; empty if there was no exception.
        error_text: what the exception says, or the beginning of it.
        traceback: of the exception; the end of it, if it is long.
        attempts: how many times the call ran before it came here.
        submitted_at: seconds since the epoch.
        quarantined_at: seconds since the epoch.
        decided_at: when it got its present status, in seconds since the epoch; ``None``: never moved.
        summary: function and arguments for people, shortened.
        fingerprint: equal for calls that are the same: a hash over operation and pickled call; where
            there is no pickle, over operation and type of the error. Equal arguments usually have
            equal pickles, but need not: think of the order in a set.
        replayable: whether every process that has the modules can replay it. If not, only the
            process that put it here can, for as long as it lives.
        not_replayable_because: empty if it is replayable.
        process_id: of the process that put it here.
    """

    id: str
    operation: str
    status: Status
    reason: Reason
    error_type: str
    error_text: str
    traceback: str = field(repr=False)
    attempts: int
    submitted_at: float
    quarantined_at: float
    decided_at: float | None
    summary: str = field(repr=False)
    fingerprint: str
    replayable: bool
    not_replayable_because: str
    process_id: int
