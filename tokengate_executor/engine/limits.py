"""Limits at work: what is left of each, and which tokens wait for it.

All of it is guarded by the lock of the gate whose governor uses it; nothing here takes a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappush
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.policies.limits import (
    STORAGE_LIMITS,
    STORAGE_TIERS,
    LimitSpec,
    RateLimit,
    is_permit_count,
)

if TYPE_CHECKING:
    from tokengate_executor.engine.routes import Route
    from tokengate_executor.options import TaskOptions
    from tokengate_executor.token import Token

__all__ = [
    "Bucket",
    "Bulkhead",
    "Entry",
    "Limit",
    "ParkingSpace",
    "limits_of",
    "make_limit",
    "make_limits",
]

Entry = tuple[float, int, "Token[Any]", "Route"]
"""A token that waits, by its place in the order: when it is due (see ``engine.governor``), and the
number of its arrival among those that are due at the same moment."""


class ParkingSpace:
    """Where tokens wait for one thing that keeps them from starting, in order, route by route.

    Attributes:
        parked: route → those that wait here, a heap.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin with nobody: at first, and in a forked child."""
        self.parked: dict[Route, list[Entry]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.parked.values()))

    def park(self, entry: Entry) -> None:
        """The token waits here, until it is taken out of its heap."""
        heap = self.parked.get(entry[3])
        if heap is None:
            heap = self.parked[entry[3]] = []
        heappush(heap, entry)


class Bulkhead(ParkingSpace):
    """At most ``capacity`` tokens at once: each holds its permit until it settles."""

    def __init__(self, name: str, capacity: int) -> None:
        super().__init__()
        self.name = name
        self.spec: LimitSpec = capacity

    @override
    def renew(self) -> None:
        super().renew()
        self.used = 0

    def free(self, now: float) -> int:  # noqa: ARG002  as `Bucket.free`
        """How many tokens may have a permit now."""
        assert isinstance(self.spec, int)
        return self.spec - self.used

    def take(self) -> None:
        """A token has a permit. Only called when one is free."""
        self.used += 1

    def give_back(self) -> None:
        """The token has settled."""
        self.used -= 1

    def change(self, spec: LimitSpec, now: float) -> None:  # noqa: ARG002  as `Bucket.change`
        """At most so many from now on; what is over that is not taken away, but not given again."""
        if not is_permit_count(spec):
            raise InvalidOptionError(f"limit {self.name!r}", spec, "an int of at least 1")
        self.spec = spec


class Bucket(ParkingSpace):
    """So many starts in a time: a permit is used up, and new ones come with time."""

    def __init__(self, name: str, spec: RateLimit, now: float) -> None:
        super().__init__()
        self.name = name
        self.spec: LimitSpec = spec
        self._rate = spec
        self._level = float(spec.capacity)
        self._filled_at = now

    @override
    def renew(self) -> None:
        super().renew()
        self.used = 0
        self.is_awaited = False
        """Whether a timer is set for the next permit."""

    def free(self, now: float) -> int:
        """How many tokens may have a permit now."""
        if now > self._filled_at:
            self._level = self._rate.level_after(self._level, now - self._filled_at)
            self._filled_at = now
        return int(self._level)

    def seconds_until_free(self) -> float:
        """For how long nobody can have a permit, from the last call of ``free`` on."""
        return self._rate.seconds_until_one(self._level)

    def take(self) -> None:
        """A token uses a permit up. Only called when one is free."""
        self._level -= 1

    def give_back(self) -> None:
        """The token has settled; a start is not undone by that."""

    def change(self, spec: LimitSpec, now: float) -> None:
        """Another rate from now on; the bucket keeps what is in it, up to the new capacity."""
        if not isinstance(spec, RateLimit):
            raise InvalidOptionError(f"limit {self.name!r}", spec, "a RateLimit")
        self.free(now)
        self.spec = self._rate = spec
        self._level = min(self._level, float(spec.capacity))


Limit = Bulkhead | Bucket


def make_limit(name: str, spec: object, now: float) -> Limit:
    """A limit with all its permits.

    Raises:
        InvalidOptionError: the spec is neither a number of permits nor a ``RateLimit``.
    """
    if isinstance(spec, RateLimit):
        return Bucket(name, spec, now)
    if is_permit_count(spec):
        assert isinstance(spec, int)
        return Bulkhead(name, spec)
    raise InvalidOptionError("limits", {name: spec}, "ints of at least 1 or RateLimits, by name")


def make_limits(specs: Mapping[str, LimitSpec] | None, now: float) -> dict[str, Limit]:
    """The executor's limits by name, those of the storage tiers among them.

    Raises:
        InvalidOptionError: a name is not a string, or a spec is not one.
    """
    limits: dict[str, Limit] = {
        name: Bulkhead(name, STORAGE_TIERS[tier]) for name, tier in STORAGE_LIMITS.items()
    }
    given = cast("object", specs)
    if given is not None and not isinstance(given, Mapping):
        raise InvalidOptionError("limits", given, "a mapping from names to limits")
    for name, spec in cast("Mapping[object, object]", specs or {}).items():
        if not isinstance(name, str) or not name:
            raise InvalidOptionError("limits", name, "named by non-empty strings")
        limits[name] = make_limit(name, spec, now)
    return limits


def limits_of(options: TaskOptions, limits: Mapping[str, Limit]) -> tuple[Limit, ...]:
    """The limits that the options name, each once, that of the storage tier among them.

    Raises:
        InvalidOptionError: there is no limit of such a name.
    """
    named = list(dict.fromkeys(options.limits or ()))
    if options.storage is not None:
        named.append(f"storage:{options.storage.lower()}")
    for name in named:
        if name not in limits:
            known = ", ".join(repr(one) for one in limits if one not in STORAGE_LIMITS)
            raise InvalidOptionError(
                "limits", name, f"names of this executor's limits ({known or 'it has none'})"
            )
    return tuple(limits[name] for name in dict.fromkeys(named))
