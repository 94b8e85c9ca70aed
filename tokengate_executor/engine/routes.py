"""Routes and profiles: what is known of a call before it is made, resolved once per set of options."""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from tokengate_executor.engine.settlement import attempt
from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from tokengate_executor.engine.bounds import Bound
    from tokengate_executor.engine.gate import Gate
    from tokengate_executor.engine.limits import Limit
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.observe.herald import Herald
    from tokengate_executor.options import TaskOptions
    from tokengate_executor.policies.weights import Weight
    from tokengate_executor.token import Token

__all__ = ["Profile", "Route", "Steps", "profile_of"]


class Route:
    """The backlog of one weight, and the lanes that may take from it.

    Attributes:
        index: which of the workers' counters by weight is this route's.
        rank: lane number → its place in the policy's order of preference, from 0; ``None`` for
            unweighted tokens, to which all lanes are equal.
        bound: how many of its tokens may wait; ``None``: any number.
    """

    __slots__ = ("backlog", "bound", "index", "rank", "weight")

    def __init__(self, index: int, weight: Weight | None, lanes: tuple[int, ...] | None) -> None:
        self.index = index
        self.weight: Weight | None = weight
        self.rank = None if lanes is None else {lane: rank for rank, lane in enumerate(lanes)}
        self.backlog: deque[Token[Any]] = deque()
        self.bound: Bound | None = None

    @property
    def only_lane(self) -> int | None:
        """The lane that alone may run its tokens, if it is one alone."""
        return next(iter(self.rank)) if self.rank is not None and len(self.rank) == 1 else None


class Attempt(Protocol):
    """What runs a token's call once, and settles the token or sees to its being tried again."""

    def __call__(self, worker: Worker, token: Token[Any], /) -> None:
        """Called on the worker's thread, with a token that was claimed for it."""
        ...


class Admission(Protocol):
    """What lets a token in, or refuses it."""

    def __call__(self, token: Token[Any], route: Route, /) -> None:
        """Called on the submitter's thread."""
        ...


class Steps:
    """What calls go through, composed once: whoever looks after them puts itself in front.

    Attributes:
        admit: how a token enters the gate.
        admit_entered: the same for one that has its place already.
        attempt: how its call is run.
    """

    __slots__ = ("admit", "admit_entered", "attempt")

    def __init__(self, admit: Admission, admit_entered: Admission, attempt: Attempt) -> None:
        self.admit: Admission = admit
        self.admit_entered: Admission = admit_entered
        self.attempt: Attempt = attempt


class Profile(Steps):
    """The options of a call, resolved: what a token keeps of the executor that took it.

    Attributes:
        gate: where its tokens wait.
        route: which way they take.
        limits: those of which each token needs a permit.
        herald: tells of its tokens, before their other steps; ``None``: nobody listens.
        is_ordered: whether the token may have to wait for something else than a worker, or
            goes before or after others: the gate's governor then decides.
        is_in_place: whether a worker that waits for a token may run it, inside its own call. Not if
            the token may not be settled then, or before: it is tried again, or its time is over.
        look_after: what is done about a call that runs for long; returns when to do that again.
    """

    __slots__ = (
        "__weakref__",
        "gate",
        "herald",
        "is_in_place",
        "is_ordered",
        "key",
        "limits",
        "log_unread_exceptions",
        "look_after",
        "operation",
        "priority",
        "queue_timeout",
        "route",
        "sticky",
        "tenant",
        "weight",
        "weight_index",
    )

    def __init__(
        self,
        gate: Gate,
        route: Route,
        options: TaskOptions,
        limits: tuple[Limit, ...],
        *,
        log_unread_exceptions: bool,
    ) -> None:
        if options.queue_timeout is None:
            super().__init__(gate.admit, gate.admit_entered, attempt)
        else:
            super().__init__(gate.admit_timed, gate.admit_entered_timed, attempt)
        self.gate = gate
        self.route = route
        self.weight: Weight | None = route.weight
        self.weight_index = route.index
        self.operation = options.operation
        self.priority = options.priority or 0
        self.key: Hashable | None = options.key
        self.sticky = options.sticky is not None
        self.tenant: Hashable | None = options.tenant
        self.limits = limits
        self.queue_timeout = options.queue_timeout
        self.is_in_place = True
        self.look_after: Callable[[Worker, Token[Any], float], float] = _never_again
        self.is_ordered = options.need_order
        self.log_unread_exceptions = log_unread_exceptions
        self.herald: Herald | None = None

    @property
    def steps(self) -> Steps:
        """Where those who look after its calls put themselves."""
        return self if self.herald is None else self.herald.steps

    def left_queue(self, token: Token[Any], *, cancelled: bool) -> None:
        """See ``contracts.Profile``."""
        gate = self.gate
        if token._phase is TokenState.WAITING:
            gate.shells.add(cancelled=cancelled)
            return
        gate.away.discard(token)
        if cancelled:
            gate.cancelled_away.append(None)

    def give_up_place(self, token: Token[Any]) -> None:
        """See ``contracts.Profile``."""
        if self.route.bound is not None and not token._has_no_place:
            self.route.bound.leave()

    def make_room(self, token: Token[Any]) -> None:
        """See ``contracts.Profile``."""
        gate = self.gate
        self.give_up_place(token)
        if self.key is not None or gate.is_ending:
            gate.post(token, held=False)
        if gate.watchers:
            gate.tell_watchers()
        if len(gate.shells) >= gate.shells.many:
            gate.compact()

    def left_behind(self, submitted_at: float, host: object) -> bool:
        """See ``contracts.Profile``."""
        gate = self.gate
        return submitted_at < gate.forked_at and (host is None or host is not gate.survivor)


def _never_again(_worker: Worker, _token: Token[Any], _now: float) -> float:
    return inf


def profile_of(token: Token[Any]) -> Profile:
    """The profile of a token that has been at a gate."""
    return token._profile  # type: ignore[return-value]  # the protocol's one implementation
