"""The governor: which token is next, where more than the order of arrival decides.

A gate has one only while something needs it: an option such as ``priority``, ``key``, ``tenant`` or
``limits``, or a pause. Then no lane fills its mailbox, and every worker asks the governor.

All of it is guarded by the gate's lock, which whoever calls a method holds. No user code runs here.

How a token goes
    Those of a key that is taken wait in its ``Line``. All others are *ready*, in a heap for each route
    of their tenant; tenants take turns. A worker takes the first ready token that its lane may run. One
    that meets an obstacle (a paused operation, a limit without a free permit) is *parked* there, and is
    ready again when the obstacle is gone: so each token meets each obstacle a few times at most, however
    many wait, and others pass it.

The order
    A token is *due* when it was submitted, or earlier by ``ageing`` seconds for each level of its
    priority. First due, first out. This is first in, first out within a level, and a token that has
    waited for ``ageing`` seconds more than another makes up for a level: no one starves.

Why no permit is left unused while somebody waits for it: a permit that comes back makes the first parked
token of each route ready, as one that only a busy lane may run must not keep it from the others. Who
comes too late for it is parked again. If a token that is made ready meets another obstacle, it is parked
there, and the next one that waits for the permit is made ready in its place; so, too, if it is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, TypeVar

from tokengate_executor.engine.claims import claim, claim_in_queue, is_back, is_waiting
from tokengate_executor.engine.limits import Bucket, Entry, Limit, ParkingSpace
from tokengate_executor.engine.routes import profile_of

if TYPE_CHECKING:
    from tokengate_executor.engine.lanes import Lane
    from tokengate_executor.engine.routes import Profile, Route
    from tokengate_executor.token import Token

__all__ = ["Governor"]

Q = TypeVar("Q")


class Tenant:
    """One tenant's ready tokens, by route."""

    def __init__(self, name: Hashable) -> None:
        self.name = name
        self.heaps: dict[Route, list[Entry]] = {}

    def first(self, routes: tuple[Route, ...]) -> list[Entry] | None:
        """The heap, of those of the routes, whose first token is due before the others' first."""
        best: list[Entry] | None = None
        for route in routes:
            heap = self.heaps.get(route)
            if heap and (best is None or heap[0] < best[0]):
                best = heap
        return best


class Line:
    """The tokens of one key: the head is ready, parked or running, the others wait behind it."""

    def __init__(self, head: Token[Any]) -> None:
        self.head = head
        self.followers: deque[tuple[Token[Any], Route]] = deque()
        self.route: Route | None = None
        """The route of the lane on which the line stays, if it is to stay on one."""


class Governor:
    """What waits in order, and what keeps it from starting.

    Attributes:
        is_paused: nothing starts at all.
        paused_operations: operations of which nothing starts, and where their tokens are parked.
        size: how many tokens, and shells of tokens, are in here.
        to_rouse: routes of tokens that became ready: whoever holds the lock rouses an idle worker
            for each when it has let go of the lock.
    """

    def __init__(
        self,
        *,
        ageing: float,
        limits: dict[str, Limit],
        bury: Callable[[Token[Any]], object],
        call_at: Callable[[float, Callable[[], object]], None],
        now: Callable[[], float],
    ) -> None:
        """``bury``: account for a shell; ``call_at``: at that moment, tell that time has passed."""
        self._ageing = ageing
        self._limits = limits
        self._bury = bury
        self._call_at = call_at
        self._now = now
        self._tenants: dict[Hashable, Tenant] = {}
        self._turns: deque[Tenant] = deque()
        self._lines: dict[Hashable, Line] = {}
        self._overdue = ParkingSpace()
        self._arrivals = 0
        self.is_paused = False
        self.paused_operations: dict[str, ParkingSpace] = {}
        self.size = 0
        self.to_rouse: list[Route] = []

    # -- in ---------------------------------------------------------------------------------------

    def sort_in(self, token: Token[Any], route: Route) -> None:
        """A token has arrived."""
        self.size += 1
        if not is_waiting(token):
            self._drop(token)
            return
        profile = profile_of(token)
        if profile.key is not None:
            line = self._lines.get(profile.key)
            if line is None:
                self._lines[profile.key] = Line(token)
            elif line.head is not token:
                line.followers.append((token, route))
                return
            elif line.route is not None:  # it comes back, to be tried again where the line stays
                route = line.route
                self.to_rouse.append(route)
        self._make_ready(self._entry(token, route))

    def _entry(self, token: Token[Any], route: Route) -> Entry:
        self._arrivals += 1
        due = token.submitted_at - profile_of(token).priority * self._ageing
        return due, self._arrivals, token, route

    def _make_ready(self, entry: Entry) -> None:
        name = profile_of(entry[2]).tenant
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = Tenant(name)
            self._turns.append(tenant)
        heap = tenant.heaps.get(entry[3])
        if heap is None:
            heap = tenant.heaps[entry[3]] = []
        heappush(heap, entry)

    # -- out --------------------------------------------------------------------------------------

    def has_ready(self, lane: Lane) -> bool:
        """Whether ``take`` may find something. If it finds nothing all the same, this becomes false."""
        if self.is_paused:
            return False
        routes = lane.routes
        return any(tenant.first(routes) for tenant in self._turns)

    def take(self, lane: Lane) -> Token[Any] | None:
        """The next token that this lane may run now: claimed, and with all its permits."""
        if self.is_paused:
            return None
        now = self._now()
        for _ in range(len(self._turns)):
            tenant = self._turns[0]
            token = self._take_for(tenant, lane, now)
            if any(tenant.heaps.values()):
                self._turns.rotate(-1)
            else:
                self._turns.popleft()
                del self._tenants[tenant.name]
            if token is not None:
                return token
        return None

    def _take_for(self, tenant: Tenant, lane: Lane, now: float) -> Token[Any] | None:
        while (heap := tenant.first(lane.routes)) is not None:
            entry = heappop(heap)
            token = entry[2]
            profile = profile_of(token)
            if is_waiting(token):
                obstacle = self._obstacle(token, profile, now)
                if obstacle is not None:
                    self._park(entry, obstacle, now)
                    continue
                if claim(token):
                    self.size -= 1
                    for limit in profile.limits:
                        limit.take()
                    if profile.sticky:
                        self._stay(profile.key, lane, entry[3])
                    if heap:
                        self.to_rouse.append(entry[3])
                    return token
            self._drop(token)
            self._pass_on_permits(profile, now)
        return None

    def take_this(self, token: Token[Any]) -> bool:
        """Claim this token, for somebody who waits for it, if it could start now; its shell stays."""
        profile = profile_of(token)
        if self.is_paused:
            return False
        if profile.key is not None:
            line = self._lines.get(profile.key)
            if line is None or line.head is not token:
                return False
        obstacle = self._obstacle(token, profile, self._now())
        if obstacle is not None or not claim_in_queue(token):
            return False
        for limit in profile.limits:
            limit.take()
        return True

    def _stay(self, key: Hashable, lane: Lane, route: Route) -> None:
        line = self._lines.get(key)
        if line is not None and line.route is None:
            line.route = lane.own_route(route)

    # -- obstacles ----------------------------------------------------------------------------------

    def _obstacle(self, token: Token[Any], profile: Profile, now: float) -> ParkingSpace | None:
        """What keeps the token from starting now."""
        timeout = profile.queue_timeout
        if timeout is not None and now >= token.submitted_at + timeout and not is_back(token):
            return self._overdue  # its timer is on its way
        if self.paused_operations:
            space = self.paused_operations.get(token.operation)
            if space is not None:
                return space
        for limit in profile.limits:
            if limit.free(now) < 1:
                return limit
        return None

    def obstacles_of(self, token: Token[Any]) -> tuple[Token[Any] | None, list[tuple[Limit, int]]]:
        """Who is before it in its line, and of which of its limits all permits are held, and how many.

        Permits of a rate limit are not held, and come again.
        """
        profile = profile_of(token)
        line = None if profile.key is None else self._lines.get(profile.key)
        head = None if line is None or line.head is token else line.head
        now = self._now()
        full = [(one, one.used) for one in profile.limits if one.used and one.free(now) < 1]
        return head, full

    def _park(self, entry: Entry, obstacle: ParkingSpace, now: float) -> None:
        obstacle.park(entry)
        if isinstance(obstacle, Bucket):
            self._await_permit(obstacle, now)
        self._pass_on_permits(profile_of(entry[2]), now, obstacle)

    def _pass_on_permits(
        self, profile: Profile, now: float, obstacle: ParkingSpace | None = None
    ) -> None:
        """A token that was ready does not start: what permits it could have had are for others."""
        for limit in profile.limits:
            if limit is not obstacle and limit.free(now) > 0:
                self._unpark(limit, 1)

    def _await_permit(self, bucket: Bucket, now: float) -> None:
        if bucket.is_awaited:
            return
        bucket.is_awaited = True
        self._call_at(now + bucket.seconds_until_free(), lambda: self._permit_came(bucket))

    def _permit_came(self, bucket: Bucket) -> None:
        bucket.is_awaited = False
        self.limit_has_room(bucket)

    def limit_has_room(self, limit: Limit) -> None:
        """Permits may have come back, or come with time, or with a change of the limit."""
        now = self._now()
        self._unpark(limit, limit.free(now))
        if isinstance(limit, Bucket) and len(limit):
            self._await_permit(limit, now)

    def _unpark(self, space: ParkingSpace, most: int) -> None:
        """Make the first of those who are parked there ready, as many as that of each route."""
        for route, heap in space.parked.items():
            left = most
            while left > 0 and heap:
                entry = heappop(heap)
                if is_waiting(entry[2]):
                    self._make_ready(entry)
                    self.to_rouse.append(route)
                    left -= 1
                else:
                    self._drop(entry[2])

    def pause(self, operation: str) -> None:
        """No token of the operation starts from here on."""
        self.paused_operations.setdefault(operation, ParkingSpace())

    def resume(self, operation: str) -> None:
        """Tokens of the operation may start again."""
        space = self.paused_operations.pop(operation, None)
        if space is not None:
            self._unpark(space, len(space))

    # -- ends ---------------------------------------------------------------------------------------

    def finish(self, token: Token[Any], *, held: bool, stays: bool) -> None:
        """A token has run (``held``: it had permits), or has left the queue without.

        It keeps its key, and only that, if it ``stays``, to be tried again.
        """
        profile = profile_of(token)
        if held:
            for limit in profile.limits:
                limit.give_back()
                self._unpark(limit, limit.free(self._now()))
        if not stays:
            self._leave_line(token)

    def _leave_line(self, token: Token[Any]) -> None:
        key = profile_of(token).key
        if key is not None:
            line = self._lines.get(key)
            if line is not None and line.head is token:
                self._advance(key, line)

    def _advance(self, key: Hashable, line: Line) -> None:
        while line.followers:
            token, route = line.followers.popleft()
            if is_waiting(token):
                line.head = token
                entry = self._entry(token, line.route or route)
                self._make_ready(entry)
                self.to_rouse.append(entry[3])
                return
            self._drop(token)
        del self._lines[key]

    def _drop(self, token: Token[Any]) -> None:
        """A shell was taken out. If its end was posted before it came in here, we learn of it now.

        One that runs in place of a wait has not come to its end; that will be posted.
        """
        self.size -= 1
        self._bury(token)
        if token.done():
            self._leave_line(token)

    # -- all that is here -----------------------------------------------------------------------------

    def entries(self) -> Iterator[tuple[Token[Any], Route]]:
        """Every token, and shell of a token, that is in here."""
        for heap in self._all_heaps():
            for entry in heap:
                yield entry[2], entry[3]
        for line in self._lines.values():
            yield from line.followers

    def copy_of_entries(self) -> list[tuple[Any, ...]]:
        """The same, each a tuple that ends with the token and its route; made quickly."""
        copied: list[tuple[Any, ...]] = []
        for heap in self._all_heaps():
            copied += heap
        for line in self._lines.values():
            copied += line.followers
        return copied

    def _all_heaps(self) -> Iterator[list[Entry]]:
        for tenant in self._turns:
            yield from tenant.heaps.values()
        yield from self._all_parked()

    def _all_parked(self) -> Iterator[list[Entry]]:
        for space in (self._overdue, *self.paused_operations.values(), *self._limits.values()):
            yield from space.parked.values()

    def parked(self) -> int:
        """How many tokens, and shells, are kept from starting by an obstacle or a line."""
        return sum(map(len, self._all_parked())) + sum(
            len(line.followers) for line in self._lines.values()
        )

    def ready_routes(self) -> list[Route]:
        """The routes in which something is ready."""
        if self.is_paused:
            return []
        return [route for tenant in self._turns for route, heap in tenant.heaps.items() if heap]

    def lift_pauses(self) -> None:
        """Everything that was paused goes on."""
        self.is_paused = False
        for operation in tuple(self.paused_operations):
            self.resume(operation)
        self.to_rouse += self.ready_routes()

    def drop_shells(self) -> None:
        """Forget those that do not wait any more."""
        shells: list[Token[Any]] = []
        for heap in self._all_heaps():
            waiting = _waiting_of(heap, lambda entry: entry[2], shells)
            if len(waiting) < len(heap):
                heap[:] = waiting
                heapify(heap)
        for line in self._lines.values():
            line.followers = deque(_waiting_of(line.followers, lambda one: one[0], shells))
        now = self._now()
        for token in shells:
            self._drop(token)
            self._pass_on_permits(profile_of(token), now)

    def clear(self) -> list[tuple[Token[Any], Route]]:
        """Take everything out, in the order in which it is due."""
        entries = sorted(entry for heap in self._all_heaps() for entry in heap)
        found = [(entry[2], entry[3]) for entry in entries]
        for line in self._lines.values():
            found += line.followers
        for heap in self._all_parked():
            heap.clear()
        self._tenants.clear()
        self._turns.clear()
        self._lines.clear()
        self.size = 0
        return found


def _waiting_of(
    queue: Iterable[Q], token_of: Callable[[Q], Token[Any]], shells: list[Token[Any]]
) -> list[Q]:
    """Those of the queue that still wait; the others' tokens are added to the shells."""
    waiting: list[Q] = []
    for item in queue:
        token = token_of(item)
        if is_waiting(token):
            waiting.append(item)
        else:
            shells.append(token)
    return waiting
