"""The governor against a model that looks at every waiting token each time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tokengate_executor import AffinityPolicy, RateLimit, Token, TokenState
from tokengate_executor.engine.claims import (
    bring_back,
    expire,
    is_waiting,
    kill_waiting,
    put_away,
)
from tokengate_executor.engine.governor import Governor
from tokengate_executor.engine.lanes import Lane
from tokengate_executor.engine.limits import Bulkhead, limits_of, make_limits
from tokengate_executor.engine.routes import Profile, Route
from tokengate_executor.engine.shells import Shells
from tokengate_executor.options import TaskOptions
from tokengate_executor.policies.weights import WEIGHTS

AGEING = 10.0
POLICY = AffinityPolicy(lanes=2, heavy=(1,), medium=(1, 2), light=(2,))

OPTIONS = st.builds(
    TaskOptions,
    weight=st.sampled_from([None, *WEIGHTS]),
    operation=st.sampled_from(["red", "blue"]),
    priority=st.sampled_from([None, 1, 2]),
    key=st.sampled_from([None, None, "k", "l"]),
    tenant=st.sampled_from([None, "x", "y"]),
    limits=st.sampled_from([None, ("a",), ("b",), ("a", "b"), ("rate",), ("rate", "a")]),
    queue_timeout=st.sampled_from([None, None, 7.0]),
)


class FakeGate:
    """What a profile needs of a gate."""

    def __init__(self) -> None:
        self.shells = Shells()
        self.watchers: list[object] = []
        self.is_ending = False
        self.posts: deque[tuple[Token[Any], bool, bool]] = deque()
        self.away: set[Token[Any]] = set()
        self.cancelled_away: deque[None] = deque()

    def admit(self, token: Token[Any], route: Route) -> None:
        """Never called here."""

    admit_timed = admit_entered = admit_entered_timed = admit

    def post(self, token: Token[Any], *, held: bool, stays: bool = False) -> None:
        """Remember it, as if somebody else held the lock."""
        self.posts.append((token, held, stays))

    def compact(self) -> None:
        """Not here: a rule of its own."""


class GovernorMachine(RuleBasedStateMachine):
    """One governor, two lanes, and a clock that only a rule moves."""

    @initialize()
    def begin(self) -> None:
        """Everything is empty."""
        self.now = 100.0
        self.actions: list[tuple[float, Callable[[], object]]] = []
        self.gate: Any = FakeGate()
        self.limits = make_limits({"a": 2, "b": 1, "rate": RateLimit(1, per=5, burst=2)}, self.now)
        self.governor = Governor(
            ageing=AGEING,
            limits=self.limits,
            bury=self.gate.shells.bury_here,
            call_at=lambda when, action: self.actions.append((when, action)),
            now=lambda: self.now,
        )
        plain = Route(0, None, None)
        self.routes = {None: plain}
        for index, weight in enumerate(WEIGHTS, start=1):
            self.routes[weight] = Route(index, weight, POLICY.lanes_for(weight))
        self.lanes = {number: Lane(number, (), plain) for number in (1, 2)}
        for lane in self.lanes.values():
            lane.routes = tuple(r for r in self.routes.values() if lane.may_run(r))
        self.waiting: list[Token[Any]] = []  # in order of submission
        self.running: list[Token[Any]] = []
        self.in_place: list[Token[Any]] = []
        self.retrying: list[Token[Any]] = []
        self.started_at_rate: list[float] = []
        self.arrivals: deque[Token[Any]] = deque()

    def profile(self, token: Token[Any]) -> Profile:
        """Return the token's options."""
        return token._profile  # type: ignore[return-value]

    def catch_up(self) -> None:
        """Do what whoever takes the lock does first: what was posted, then what has arrived."""
        while self.gate.posts:
            token, held, stays = self.gate.posts.popleft()
            self.governor.finish(token, held=held, stays=stays)
        while self.arrivals:
            token = self.arrivals.popleft()
            self.governor.sort_in(token, self.profile(token).route)

    @rule(options=OPTIONS)
    def submit(self, options: TaskOptions) -> None:
        """A token arrives."""
        route = self.routes[options.weight]
        limits = limits_of(options, self.limits)
        profile = Profile(self.gate, route, options, limits, log_unread_exceptions=False)
        token: Token[Any] = Token(int, (), None, None, profile)
        token._phase = TokenState.WAITING
        token.submitted_at = self.now
        self.now += 0.001
        self.arrivals.append(token)
        self.waiting.append(token)

    def eligible(self, token: Token[Any], lane: Lane) -> bool:
        """Whether this lane may start the token now, by the book."""
        profile = self.profile(token)
        if self.governor.is_paused or token.operation in self.governor.paused_operations:
            return False
        if not lane.may_run(profile.route):
            return False
        is_late = profile.queue_timeout is not None and self.now >= token.submitted_at + 7.0
        if is_late and not token.attempts:
            return False
        if any(limit.free(self.now) < 1 for limit in profile.limits):
            return False
        if profile.key is not None:
            alike = [t for t in self.waiting if self.profile(t).key == profile.key]
            busy = any(self.profile(t).key == profile.key for t in self.running + self.retrying)
            return not busy and alike[0] is token
        return True

    @rule(number=st.sampled_from([1, 2]))
    def take(self, number: int) -> None:
        """A worker asks: it gets the first due of some tenant's, or nothing if nothing may start."""
        lane = self.lanes[number]
        self.catch_up()
        eligible = [token for token in self.waiting if self.eligible(token, lane)]
        # A worker that finds nothing asks again as long as it is told that there may be something.
        token = self.governor.take(lane)
        while token is None and self.governor.has_ready(lane):
            token = self.governor.take(lane)
        self.governor.to_rouse.clear()
        assert (token is None) == (not eligible)
        if token is None:
            return
        profile = self.profile(token)
        rivals = [t for t in eligible if self.profile(t).tenant == profile.tenant]
        due = {id(t): t.submitted_at - self.profile(t).priority * AGEING for t in rivals}
        assert due[id(token)] == min(due.values())
        assert token.running()
        self.waiting.remove(token)
        self.running.append(token)
        if self.limits["rate"] in profile.limits:
            self.started_at_rate.append(self.now)

    @precondition(lambda self: self.running)
    @rule(chance=st.integers(0, 1000))
    def finish(self, chance: int) -> None:
        """A call ends."""
        token = Random(chance).choice(self.running)
        self.running.remove(token)
        self.gate.post(token, held=True)

    @precondition(lambda self: self.running)
    @rule(chance=st.integers(0, 1000))
    def fail(self, chance: int) -> None:
        """A call fails, and is to be tried again: it keeps its key, and nothing else."""
        token = Random(chance).choice(self.running)
        if token in self.in_place:
            return  # such a call is never tried again, as its shell would be taken for itself
        self.running.remove(token)
        token._started_at = self.now
        assert put_away(token, TokenState.RETRYING)
        self.gate.post(token, held=True, stays=True)
        self.retrying.append(token)

    @precondition(lambda self: self.retrying)
    @rule(chance=st.integers(0, 1000), cancelled=st.booleans())
    def come_back(self, chance: int, cancelled: bool) -> None:
        """One that is to be tried again comes back, or is cancelled instead."""
        token = Random(chance).choice(self.retrying)
        self.retrying.remove(token)
        if cancelled:
            assert token.cancel()
            return
        assert bring_back(token)
        self.gate.away.discard(token)
        self.arrivals.appendleft(token)
        self.waiting.insert(0, token)

    @precondition(lambda self: self.waiting)
    @rule(chance=st.integers(0, 1000), how=st.sampled_from(["cancel", "kill", "run in place"]))
    def leave(self, chance: int, how: str) -> None:
        """A token that waits is cancelled, killed, or run by one who waits for it."""
        token = Random(chance).choice(self.waiting)
        if how == "cancel":
            assert token.cancel()
        elif how == "kill":
            assert kill_waiting(token)
        else:
            self.catch_up()
            may = any(self.eligible(token, lane) for lane in self.lanes.values())
            assert self.governor.take_this(token) == may
            if not may:
                return
            self.running.append(token)
            self.in_place.append(token)
            if self.limits["rate"] in self.profile(token).limits:
                self.started_at_rate.append(self.now)
        self.waiting.remove(token)

    @rule(operation=st.sampled_from([None, "red"]))
    def pause_or_resume(self, operation: str | None) -> None:
        """Pause what is not paused, and resume what is."""
        if operation is None:
            self.governor.is_paused = not self.governor.is_paused
        elif operation in self.governor.paused_operations:
            self.governor.resume(operation)
        else:
            self.governor.pause(operation)

    @rule(seconds=st.floats(0.1, 8))
    def wait(self, seconds: float) -> None:
        """Time passes; timers go off, also those of tokens that waited for too long."""
        self.now += seconds
        due = [action for when, action in self.actions if when <= self.now]
        self.actions = [(when, action) for when, action in self.actions if when > self.now]
        for action in due:
            action()
        for token in list(self.waiting):
            timeout = self.profile(token).queue_timeout
            if timeout is not None and self.now >= token.submitted_at + timeout:
                assert expire(token) == (not token.attempts)
                if token.attempts:
                    continue
                self.waiting.remove(token)

    @rule(permits=st.integers(1, 3))
    def change_limit(self, permits: int) -> None:
        """The limit changes under load."""
        self.limits["a"].change(permits, self.now)
        self.governor.limit_has_room(self.limits["a"])

    @rule()
    def drop_shells(self) -> None:
        """The queues are looked through."""
        self.catch_up()
        self.governor.drop_shells()
        assert self.governor.size == len(self.waiting)

    @invariant()
    def permits_add_up(self) -> None:
        """Each permit in use is one running token's, and none is too many but after a change."""
        if self.gate.posts:
            return  # some came back that the governor has not heard of
        for limit in self.limits.values():
            if isinstance(limit, Bulkhead):
                held = sum(limit in self.profile(token).limits for token in self.running)
                assert limit.used == held
        assert self.limits["b"].used <= 1
        for index, began in enumerate(self.started_at_rate):
            within = [at for at in self.started_at_rate[index:] if at - began <= 5.0]
            assert len(within) <= 2 + 1 + 1e-9

    @invariant()
    def nothing_is_lost(self) -> None:
        """What waits by the model is in the governor, and everything else in it is a shell."""
        inside = [token for token, _ in self.governor.entries()] + list(self.arrivals)
        waiting = [token for token in inside if is_waiting(token)]
        assert sorted(map(id, waiting)) == sorted(map(id, self.waiting))
        assert self.governor.size + len(self.arrivals) == len(waiting) + len(self.gate.shells)

    @invariant()
    def keys_run_one_at_a_time(self) -> None:
        """No key has two running tokens."""
        keys = [self.profile(token).key for token in self.running]
        busy = [key for key in keys if key is not None]
        assert len(busy) == len(set(busy))


def governed(limits: dict[str, Any]) -> GovernorMachine:
    """Return a machine to be driven by hand, without other options than those a test gives."""
    machine = GovernorMachine()
    machine.begin()
    machine.limits.update(make_limits(limits, machine.now))
    return machine


def test_a_permit_goes_on_to_the_next_when_the_first_meets_another_obstacle() -> None:
    """One that needs two permits and finds only the first free leaves that to who is behind."""
    machine = governed({"a": 1, "b": 1})
    for limits in (("a",), ("b",), ("a", "b"), ("a",)):
        machine.submit(TaskOptions(limits=limits))
    machine.take(1)
    machine.take(1)
    holds_a, _ = machine.running
    machine.take(1)  # finds nothing: both others are parked at "a"
    machine.running.remove(holds_a)
    machine.gate.post(holds_a, held=True)
    machine.take(1)
    assert [machine.profile(token).limits[0].name for token in machine.running] == ["b", "a"]
    assert len(machine.waiting) == 1
    machine.teardown()


def test_a_permit_reaches_who_can_use_it() -> None:
    """One that only a busy lane may run is first in line for a permit, and keeps nobody from it."""
    machine = governed({"a": 1})
    machine.submit(TaskOptions(limits=("a",)))
    machine.submit(TaskOptions(limits=("a",), weight="heavy"))
    machine.submit(TaskOptions(limits=("a",)))
    machine.take(1)
    machine.take(1)  # finds nothing: both others are parked
    machine.finish(0)
    machine.take(2)  # which may run nothing heavy
    assert [machine.profile(token).weight for token in machine.running] == [None]
    machine.teardown()


def test_a_permit_goes_on_when_the_first_is_cancelled() -> None:
    """One that was made ready for it, and is gone before anybody takes it, leaves it to the next."""
    machine = governed({"a": 1})
    for _ in range(3):
        machine.submit(TaskOptions(limits=("a",)))
    machine.take(1)
    machine.take(1)  # finds nothing: both others are parked
    machine.finish(0)
    machine.catch_up()
    assert machine.waiting.pop(0).cancel()
    machine.take(1)
    assert len(machine.running) == 1
    machine.teardown()


def test_a_head_that_was_cancelled_before_it_arrived_lets_the_others_pass() -> None:
    """A token whose end was posted before it was sorted in does not hold its key for ever."""
    machine = governed({})
    first, second = TaskOptions(key="k"), TaskOptions(key="k")
    machine.submit(first)
    machine.submit(second)
    head = machine.waiting[0]
    machine.governor.sort_in(machine.arrivals.popleft(), machine.routes[None])
    assert head.cancel()
    machine.waiting.remove(head)
    machine.gate.posts.clear()  # as if it had been done before
    machine.take(1)
    assert len(machine.running) == 1
    machine.teardown()


TestGovernorMachine = GovernorMachine.TestCase
TestGovernorMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
