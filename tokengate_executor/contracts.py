"""What a token asks of the engine that it is in: two protocols, which the floor above implements."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tokengate_executor.policies.weights import Weight
    from tokengate_executor.token import Token

__all__ = ["Host", "Profile"]


class Profile(Protocol):
    """What a token knows of the executor that took it: its options, resolved, and its gate."""

    @property
    def weight(self) -> Weight | None:
        """The weight of the call, or ``None``."""
        ...

    @property
    def operation(self) -> str | None:
        """The name under which it is counted, if that was said."""
        ...

    @property
    def queue_timeout(self) -> float | None:
        """For how long it may wait at most, in seconds."""
        ...

    @property
    def log_unread_exceptions(self) -> bool:
        """Whether an exception that nobody reads is logged."""
        ...

    def left_queue(self, token: Token[Any], *, cancelled: bool) -> None:
        """A token that waited, for its turn or elsewhere, is about to stop doing so.

        If it is in a queue, its shell stays there.

        Called with the token's lock held, before anybody can see that it stopped. Takes no lock.
        """
        ...

    def give_up_place(self, token: Token[Any]) -> None:
        """A token that left the queue is to be followed by another. Called with no lock held."""
        ...

    def make_room(self, token: Token[Any]) -> None:
        """The same, for one that was settled unrun. Called with no lock held."""
        ...

    def left_behind(self, submitted_at: float, host: Host | None) -> bool:
        """Whether this process was forked since, and nobody here runs what was submitted then."""
        ...


class Host(Protocol):
    """A worker, as a token sees it."""

    @property
    def number(self) -> int:
        """From 1, unique within the executor."""
        ...

    @property
    def lane_number(self) -> int:
        """The lane it belongs to, from 1."""
        ...

    @property
    def current(self) -> Token[Any] | None:
        """The innermost token whose call it runs."""
        ...

    @property
    def started(self) -> int:
        """How many tokens it has started."""
        ...

    def run_in_place(self, token: Token[Any]) -> bool:
        """Run a token that is still queued right here, if this worker may; true: it is settled."""
        ...

    def lending(
        self, token: Token[Any] | None, timeout: float | None
    ) -> AbstractContextManager[None]:
        """A spare worker stands in for this one, on whose thread we are, while it blocks.

        Raises:
            DeadlockError: on entering, when the wait could never end.
        """
        ...
