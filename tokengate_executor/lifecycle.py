"""The states of a token and the moves between them: this file owns both, as data.

``docs/lifecycle.md`` is generated from ``MOVES``; the tests follow random programs of submit,
cancel, run and settle and refuse every move that is not in it.

``ADMITTED`` is ``WAITING`` in a lane's mailbox: both may be claimed, both may be cancelled. So the
token keeps one stored phase for the two, and tells them apart by whether it has a lane; moving a
batch of tokens into a mailbox then writes one plain attribute and takes no token's lock.
"""

from __future__ import annotations

from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from enum import Enum
from typing import Final, Self

__all__ = ["MOVES", "SETTLED", "TokenState", "mermaid"]


class TokenState(Enum):
    """Where a token is in its life. ``future_state`` is what ``concurrent.futures`` calls it."""

    future_state: str
    settled: bool

    CREATED = ("created", PENDING, False)
    WAITING = ("waiting", PENDING, False)
    ADMITTED = ("admitted", PENDING, False)
    EXECUTING = ("executing", RUNNING, False)
    RETRYING = ("retrying", PENDING, False)
    QUARANTINED = ("quarantined", PENDING, False)
    COMPLETED = ("completed", FINISHED, True)
    FAILED = ("failed", FINISHED, True)
    CANCELLED = ("cancelled", CANCELLED_AND_NOTIFIED, True)
    KILLED = ("killed", CANCELLED_AND_NOTIFIED, True)
    TIMEOUT = ("timeout", FINISHED, True)

    def __new__(cls, word: str, future_state: str, settled: bool) -> Self:
        """The member's value is its word; the rest are plain attributes, cheap to read."""
        member = object.__new__(cls)
        member._value_ = word
        member.future_state = future_state
        member.settled = settled
        return member

    def __str__(self) -> str:
        return str(self.value)


MOVES: Final[dict[TokenState, dict[TokenState, str]]] = {
    TokenState.CREATED: {
        TokenState.WAITING: "submit",
        TokenState.QUARANTINED: "submit, and its arguments are a spike",
        TokenState.EXECUTING: "set_running_or_notify_cancel",
        TokenState.COMPLETED: "set_result",
        TokenState.FAILED: "set_exception",
        TokenState.CANCELLED: "cancel",
    },
    TokenState.WAITING: {
        TokenState.ADMITTED: "a lane takes it into its mailbox",
        TokenState.EXECUTING: "a worker claims it",
        TokenState.FAILED: "the executor breaks, or the process forks",
        TokenState.CANCELLED: "cancel",
        TokenState.KILLED: "kill",
        TokenState.TIMEOUT: "queue_timeout is over",
    },
    TokenState.ADMITTED: {
        TokenState.WAITING: "the gate is paused, or begins to order what waits",
        TokenState.EXECUTING: "a worker claims it",
        TokenState.FAILED: "the executor breaks, or the process forks",
        TokenState.CANCELLED: "cancel",
        TokenState.KILLED: "kill",
        TokenState.TIMEOUT: "queue_timeout is over",
    },
    TokenState.EXECUTING: {
        TokenState.WAITING: "the gate was paused while a worker claimed it; its call has not begun",
        TokenState.RETRYING: "the call raises, and is to be tried again",
        TokenState.COMPLETED: "the call returns",
        TokenState.FAILED: "the call raises",
        TokenState.KILLED: "kill, and the call heeds it",
        TokenState.TIMEOUT: "timeout is over; the call goes on unheard",
    },
    TokenState.RETRYING: {
        TokenState.WAITING: "the delay is over",
        TokenState.FAILED: "the executor breaks, or the process forks",
        TokenState.CANCELLED: "cancel",
        TokenState.KILLED: "kill",
    },
    TokenState.QUARANTINED: {
        TokenState.WAITING: "approve",
        TokenState.FAILED: "reject, shutdown, or the process forks",
        TokenState.CANCELLED: "cancel",
        TokenState.KILLED: "kill",
    },
    TokenState.COMPLETED: {},
    TokenState.FAILED: {},
    TokenState.CANCELLED: {},
    TokenState.KILLED: {},
    TokenState.TIMEOUT: {},
}
"""state → the states it may become → what makes it so."""

SETTLED: Final[frozenset[TokenState]] = frozenset(state for state in TokenState if state.settled)
"""The states that are never left."""


def mermaid() -> str:
    """The table of moves as the text of a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {TokenState.CREATED.name}"]
    for state, moves in MOVES.items():
        lines += [f"    {state.name} --> {to.name}: {cause}" for to, cause in moves.items()]
    lines += [f"    {state.name} --> [*]" for state in TokenState if state.settled]
    return "\n".join(lines) + "\n"
