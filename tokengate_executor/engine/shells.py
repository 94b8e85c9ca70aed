"""Shells: tokens that stopped waiting while they were in a queue, and are met there later."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokengate_executor.token import Token

__all__ = ["Shells"]

_MANY_AT_LEAST: Final = 64


class Shells:
    """How many shells there are in the queues of one gate.

    Attributes:
        cancelled, claimed: an entry for each shell, of a token that was cancelled or killed, or of
            one that somebody claimed there, or that failed or timed out. Their lengths are counters
            that can be changed in any thread without a lock.
        cancelled_and_gone: how many of the cancelled were met under the gate's lock, which guards
            this. Those met without are counted by the workers.
        many: as of so many the queues are worth looking through. Guarded by the gate's lock.
    """

    __slots__ = ("cancelled", "cancelled_and_gone", "claimed", "many")

    def __init__(self) -> None:
        self.cancelled: deque[None] = deque()
        self.claimed: deque[None] = deque()
        self.cancelled_and_gone = 0
        self.many = _MANY_AT_LEAST

    def __len__(self) -> int:
        return len(self.cancelled) + len(self.claimed)

    def add(self, *, cancelled: bool) -> None:
        """A token stopped waiting in a queue, and stays there. Takes no lock."""
        (self.cancelled if cancelled else self.claimed).append(None)

    def bury(self, token: Token[Any]) -> bool:
        """A shell was taken out of its queue; whether it was of a cancelled token. Takes no lock."""
        cancelled = token.cancelled()
        (self.cancelled if cancelled else self.claimed).pop()
        return cancelled

    def bury_here(self, token: Token[Any]) -> None:
        """``bury`` and count it, with the gate's lock held."""
        if self.bury(token):
            self.cancelled_and_gone += 1

    def note_kept(self, kept: int) -> None:
        """The queues were looked through, and have so many tokens left.

        Amortised: the next time comes when there are as many new shells as tokens were looked at.
        """
        self.many = max(_MANY_AT_LEAST, kept, 2 * len(self))
