"""The order of arrival: backlogs shared out to the lanes' mailboxes, and stolen from them.

Guarantees
    * First in, first out within a lane for tokens of equal weight, whatever cancels meanwhile.
    * A lane never holds tokens that another lane which may run them could not get at.

All methods but ``has_any`` are called with the gate's lock held. A worker pops from the mailbox of its
own lane without it, so whoever pops under the lock has to expect an empty mailbox all the same.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokengate_executor.engine.lanes import Lane
    from tokengate_executor.engine.routes import Route
    from tokengate_executor.token import Token

__all__ = ["Mailboxes"]


class Mailboxes:
    """The mailboxes of all lanes.

    Attributes:
        sharers: how many workers share the backlogs.
        filled: the lanes whose mailboxes may have something in them.
    """

    def __init__(self, size: int, sharers: int) -> None:
        """``size``: how many tokens one mailbox holds."""
        self._size: Final = size
        self.sharers = sharers
        self.filled: tuple[Lane, ...] = ()

    def renew(self, lanes: tuple[Lane, ...]) -> None:
        """Begin with empty mailboxes: at first, and in a forked child."""
        self.filled = ()
        for lane in lanes:
            lane.mailbox = deque()

    def has_any(self, lane: Lane) -> bool:
        """Whether there is something for this lane in another's mailbox, or in its own."""
        for other in self.filled:  # noqa: SIM110  a generator would take twice as long
            if other.mailbox and other.mailbox_route in lane.routes:
                return True
        return False

    def take(self, lane: Lane) -> tuple[Token[Any] | None, Route | None]:
        """The next token for this lane, unclaimed; and the route of what was left in a mailbox.

        A mailbox is filled only when it is empty and from one backlog: its tokens are of one route,
        and what is older than they are has been taken before them.
        """
        if lane.mailbox:  # filled meanwhile, for another worker of this lane
            return self._take_first(lane)
        route = self._oldest(lane)
        return self._steal(lane) if route is None else self._take_share(lane, route)

    def put_first(self, token: Token[Any], route: Route) -> bool:
        """Put one that comes back before what a mailbox of its route has; false: none has anything.

        Its workers may empty it this very moment: then the token is all that is in it.
        """
        for lane in self.filled:
            if lane.mailbox and lane.mailbox_route is route:
                token._lane = lane.number
                lane.mailbox.appendleft(token)
                return True
        return False

    def _oldest(self, lane: Lane) -> Route | None:
        """The route whose first token has waited longest, of those that this lane may run."""
        oldest: Route | None = None
        submitted_at = 0.0
        for route in lane.routes:
            backlog = route.backlog
            if backlog and (oldest is None or backlog[0].submitted_at < submitted_at):
                oldest = route
                submitted_at = backlog[0].submitted_at
        return oldest

    def _take_share(self, lane: Lane, route: Route) -> tuple[Token[Any], Route | None]:
        """The first token; in the mailbox, this lane's share of the rest.

        The share is small against what every worker could have, so that no lane holds tokens which
        another would have begun sooner; what it holds all the same can be stolen.
        """
        backlog = route.backlog
        token = backlog.popleft()
        share = min(len(backlog) // (2 * self.sharers), self._size)
        mailbox = lane.mailbox
        lane.mailbox_route = route
        for _ in range(share):
            follower = backlog.popleft()
            follower._lane = lane.number  # harmless if it was cancelled meanwhile
            mailbox.append(follower)
        if share and lane not in self.filled:
            self.filled = (*self.filled, lane)
        return token, route if share else None

    def _steal(self, lane: Lane) -> tuple[Token[Any] | None, Route | None]:
        """The first token of another lane's mailbox."""
        for other in self.filled:
            if not other.mailbox:  # only we fill it, so it stays empty until we have the lock again
                self.filled = tuple(one for one in self.filled if one is not other)
            elif other.mailbox_route in lane.routes:
                token, left = self._take_first(other)
                if token is not None:
                    lane.stolen += 1
                    return token, left
        return None, None

    def _take_first(self, lane: Lane) -> tuple[Token[Any] | None, Route | None]:
        mailbox = lane.mailbox
        try:
            return mailbox.popleft(), lane.mailbox_route if mailbox else None
        except IndexError:
            return None, None  # its own workers emptied it

    def empty(self) -> Iterator[tuple[Token[Any], Route]]:
        """Take everything out."""
        for lane in self.filled:
            while True:
                token, _ = self._take_first(lane)
                if token is None:
                    break
                token._lane = None
                yield token, lane.mailbox_route
        self.filled = ()
