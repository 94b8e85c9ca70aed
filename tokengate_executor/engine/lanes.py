"""Lanes: the workers of one core, and the mailbox that is theirs."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any

from tokengate_executor.engine.routes import Route
from tokengate_executor.errors import InvalidOptionError

if TYPE_CHECKING:
    from tokengate_executor.token import Token

__all__ = ["Lane", "check_pinning", "pin_this_thread"]


class Lane:
    """One lane.

    Attributes:
        number: from 1.
        cpus: the logical CPUs of its core.
        routes: where its workers take tokens from: those of the routes it may run that are in use.
        mailbox: the tokens admitted to it, in order, all of ``mailbox_route``. Filled and stolen
            from under the gate's lock; its own workers pop without it.
        stolen: how many tokens it took from other mailboxes. Guarded by the gate's lock.
        regulars, spares, blocked: how many workers are its own, how many are lent to it, and how
            many of all these wait for a token. Guarded by the crew's lock.
    """

    __slots__ = (
        "_looked_for",
        "_own_routes",
        "blocked",
        "cpus",
        "mailbox",
        "mailbox_route",
        "number",
        "regulars",
        "routes",
        "spares",
        "stolen",
    )

    def __init__(self, number: int, cpus: tuple[int, ...], route: Route) -> None:
        """``route``: one that every lane may run."""
        self.number = number
        self.cpus = cpus
        self.routes: tuple[Route, ...] = ()
        self._looked_for: list[Route] = []
        self.mailbox: deque[Token[Any]] = deque()
        self.mailbox_route = route
        self._own_routes: dict[int, Route] = {}
        self.stolen = 0
        self.regulars = 0
        self.spares = 0
        self.blocked = 0

    def look_for(self, route: Route) -> None:
        """Take tokens of that route from here on. Takes no lock.

        Two who say so at once may each undo what the other wrote; so each looks, after it has written,
        whether all that was said is there.
        """
        self._looked_for.append(route)
        while missing := [one for one in self._looked_for if one not in self.routes]:
            self.routes = (*self.routes, *dict.fromkeys(missing))

    def may_run(self, route: Route) -> bool:
        """Whether the policy lets this lane run tokens of that route."""
        return route.rank is None or self.number in route.rank

    def own_route(self, route: Route) -> Route:
        """For tokens of that route that are to run on this lane alone. Under the gate's lock."""
        own = self._own_routes.get(route.index)
        if own is None:
            own = self._own_routes[route.index] = Route(route.index, route.weight, (self.number,))
            self.look_for(own)
        return own


def check_pinning(cpus_of_lanes: tuple[tuple[int, ...], ...]) -> None:
    """Refuse ``pin_lanes=True`` where it could not be kept.

    Raises:
        InvalidOptionError: the system has no call for it, or this process may not use the CPUs.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise InvalidOptionError(
            "pin_lanes", True, "False on this system, which cannot pin threads to CPUs"
        )
    usable = os.sched_getaffinity(0)
    missing = sorted({cpu for cpus in cpus_of_lanes for cpu in cpus} - usable)
    if missing:
        raise InvalidOptionError(
            "pin_lanes", True, f"False here: this process may not use the CPUs {missing}"
        )


def pin_this_thread(cpus: tuple[int, ...]) -> None:
    """Keep the calling thread on these CPUs.

    Raises:
        OSError: the system refuses.
    """
    os.sched_setaffinity(0, cpus)
