"""The gate by hand: what comes in, who is roused for it, and which token a worker takes."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from tokengate_executor import AffinityPolicy, TaskOptions, Token, TokenState
from tokengate_executor.engine.bounds import Bound
from tokengate_executor.engine.claims import put_away
from tokengate_executor.engine.crew import make_thread
from tokengate_executor.engine.gate import (
    AFTER_DRAIN,
    AFTER_EXIT,
    AFTER_SHUTDOWN,
    BROKEN,
    Gate,
)
from tokengate_executor.engine.lanes import Lane
from tokengate_executor.engine.router import Router
from tokengate_executor.engine.routes import Profile, Route
from tokengate_executor.engine.timers import Timers
from tokengate_executor.policies.weights import WEIGHTS, Weight

MANY = 1000
"""So many sharers that no lane's share of a short backlog comes to even one token."""


class FakeWorker:
    """What the gate and the router need of a worker."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.lane_number = lane.number
        self.thread: object = "started"
        self.current: Token[Any] | None = None
        self.cancelled = 0
        self.roused_for: list[Route | None] = []
        self.when_roused: Callable[[], object] = lambda: None

    def rouse(self, route: Route | None = None) -> None:
        """Note it."""
        self.roused_for.append(route)
        self.when_roused()


class Machine:
    """A gate with its lanes, one worker for each, and a crew that only takes notes."""

    def __init__(
        self,
        lanes: int = 2,
        *,
        sharers: int = MANY,
        mailbox_size: int = 4,
        policy: AffinityPolicy | None = None,
    ) -> None:
        self.policy = policy or AffinityPolicy.staggered(lanes)
        plain = Route(0, None, None)
        routes = [plain]
        routes += [Route(n, w, self.policy.lanes_for(w)) for n, w in enumerate(WEIGHTS, start=1)]
        self.router = Router()
        self.gate = Gate(
            routes,
            mailbox_size,
            sharers,
            self.router,
            limits={},
            ageing=60.0,
            timers=Timers("test", make_thread),
        )
        self.gate.lanes = tuple(Lane(number, (), plain) for number in range(1, lanes + 1))
        for route in routes:
            self.gate.use(route)
        self.unserved: list[RuntimeError] = []
        self.gate.fail_unserved = self.unserved.append
        self.gate.is_own_worker = lambda: False
        self.workers: Any = [FakeWorker(lane) for lane in self.gate.lanes]
        self.profiles = {
            weight: Profile(
                self.gate,
                route,
                TaskOptions(weight=weight),
                (),
                log_unread_exceptions=False,
            )
            for weight, route in self.gate.routes.items()
        }

    def fake_timers(self) -> list[tuple[float, Callable[[], object], Callable[[], bool]]]:
        """Return a list to which timers that are set come from here on."""
        timers: list[tuple[float, Callable[[], object], Callable[[], bool]]] = []

        def note(
            when: float, action: Callable[[], object], is_moot: Callable[[], bool] = bool
        ) -> None:
            timers.append((when, action, is_moot))

        self.gate.timers.set = note  # type: ignore[method-assign]
        return timers

    def token(self, weight: Weight | None = None) -> Token[Any]:
        """Make a token that is not admitted."""
        return Token(int, (), None, None, self.profiles[weight])

    def admit(self, weight: Weight | None = None) -> Token[Any]:
        """Make a token and admit it."""
        token = self.token(weight)
        self.gate.admit(token, self.gate.routes[weight])
        return token

    def take(self, lane: int = 1) -> Token[Any] | None:
        """Let the lane's worker take a token."""
        token: Token[Any] | None = self.gate.take(self.workers[lane - 1])
        return token

    def take_all(self, lane: int = 1) -> list[Token[Any]]:
        """Let the lane's worker take tokens until it finds none."""
        taken = []
        while (token := self.take(lane)) is not None:
            taken.append(token)
        return taken

    def depth(self, lane: int) -> int:
        """Count what is in a lane's mailbox."""
        return len(self.gate.lanes[lane - 1].mailbox)


# -- in -------------------------------------------------------------------------------------------


def test_an_admitted_token_waits() -> None:
    """It is at the gate, in no lane, and counted."""
    machine = Machine()
    token = machine.admit()
    assert (token.state, token.lane, machine.gate.waiting) == (TokenState.WAITING, None, 1)
    assert machine.gate.waiting_tokens() == [token]


def test_one_idle_worker_is_roused_for_one_token() -> None:
    """The last that became idle; a second token rouses a second, a third one finds none idle."""
    machine = Machine(2)
    machine.router.idle[:] = machine.workers
    first, second = machine.workers
    plain = machine.gate.routes[None]
    machine.admit()
    assert (first.roused_for, second.roused_for) == ([], [plain])
    machine.admit()
    machine.admit()
    assert (first.roused_for, second.roused_for) == ([plain], [plain])
    assert machine.gate.waiting == 3


def test_only_a_worker_that_may_run_it_is_roused() -> None:
    """A lane that the policy keeps from a weight sleeps on."""
    machine = Machine(2)
    first, second = machine.workers
    machine.router.idle[:] = [second, first]
    machine.admit("light")
    assert (first.roused_for, len(second.roused_for)) == ([], 1)
    machine.admit("light")
    assert first.roused_for == []


@pytest.mark.parametrize("refusal", [AFTER_SHUTDOWN, AFTER_EXIT, BROKEN, AFTER_DRAIN])
def test_a_closed_gate_refuses(refusal: Any) -> None:
    """The token is taken back and settled; nothing waits, and nothing is taken."""
    machine = Machine()
    machine.gate.closed = refusal
    token = machine.token()
    with pytest.raises(refusal[0], match=refusal[1].partition(":")[0]) as caught:
        machine.gate.admit(token, machine.gate.routes[None])
    assert token.exception(0) is caught.value
    assert machine.gate.waiting == 0
    assert machine.take_all() == []
    with pytest.raises(refusal[0]):
        machine.gate.check_open()


def test_who_was_in_time_is_taken() -> None:
    """If a worker has the token when the gate is seen closed, it was in time, and no error is raised."""
    machine = Machine(1)
    machine.router.idle[:] = machine.workers
    (worker,) = machine.workers
    taken: list[Token[Any] | None] = []

    def take_and_close() -> None:
        taken.append(machine.take())
        machine.gate.close(AFTER_SHUTDOWN)

    worker.when_roused = take_and_close
    token = machine.admit()
    assert taken == [token]
    assert token.running()


def test_while_it_drains_own_workers_may_submit() -> None:
    """What the calls that run submit is part of what is to be finished; after a shutdown it is not."""
    machine = Machine()
    machine.gate.closed = AFTER_DRAIN
    assert machine.gate.is_draining
    machine.gate.is_own_worker = lambda: True
    machine.gate.check_open()
    token = machine.admit()
    assert machine.take() is token
    machine.gate.close(AFTER_SHUTDOWN)
    assert not machine.gate.is_draining
    with pytest.raises(RuntimeError, match="after shutdown"):
        machine.admit()


def test_the_first_reason_stays() -> None:
    """Closing again does not change what is answered."""
    machine = Machine()
    machine.gate.close(AFTER_EXIT)
    machine.gate.close(AFTER_SHUTDOWN)
    assert machine.gate.closed is AFTER_EXIT
    assert str(machine.gate.refusal()) == AFTER_EXIT[1]


@pytest.mark.parametrize("governed", [False, True])
def test_closing_rouses_the_idle(governed: bool) -> None:
    """They are to see that nothing comes any more; vacancies have no thread to wake, timers end."""
    machine = Machine(2)
    if governed:
        machine.gate.govern(for_good=True)
    closed: list[None] = []
    machine.gate.end_timers = lambda: closed.append(None)
    first, second = machine.workers
    second.thread = None
    machine.router.idle[:] = [second, first]
    machine.gate.close(AFTER_SHUTDOWN)
    assert (first.roused_for, second.roused_for) == ([None], [])
    assert machine.router.idle == [second]  # who is away may need its thread when it comes back
    assert closed == [None]


def test_a_closed_gate_with_something_left_rouses_the_idle_when_that_is_taken() -> None:
    """Under a governor whoever takes the last token tells the others that nothing comes any more."""
    machine = Machine(2)
    machine.gate.govern(for_good=True)
    tokens = [machine.admit(), machine.admit()]
    second = machine.workers[1]
    machine.gate.close(AFTER_SHUTDOWN)
    assert machine.take() is tokens[0]
    machine.router.idle[:] = [second]
    assert machine.take() is tokens[1]
    assert second.roused_for == [None]


def test_no_thread_for_the_only_worker() -> None:
    """The submitter is told and has its token back; others that waited for that thread are failed."""
    machine = Machine(1)
    machine.router.idle[:] = machine.workers
    error = RuntimeError("can't start new thread")

    def refuse() -> None:
        raise error

    machine.workers[0].when_roused = refuse
    token = machine.token()
    with pytest.raises(RuntimeError) as caught:
        machine.gate.admit(token, machine.gate.routes[None])
    assert caught.value is error
    assert token.exception(0) is error
    assert machine.unserved == [error]
    assert machine.gate.waiting == 0


def test_no_thread_was_needed_after_all() -> None:
    """If somebody has the token by the time no thread can be had, its submitter is not told."""
    machine = Machine(1)
    machine.router.idle[:] = machine.workers

    def take_and_refuse() -> None:
        assert machine.take() is not None
        raise RuntimeError("can't start new thread")

    machine.workers[0].when_roused = take_and_refuse
    assert machine.admit().running()
    assert len(machine.unserved) == 1


def test_here_is_room_for_all() -> None:
    """A gate without bounds gives each a place, and lists nobody."""
    machine = Machine(1)
    route = machine.gate.routes[None]
    waiter: Any = None
    assert machine.gate.enter_or_list(route, waiter, again=False)
    token = machine.token()
    machine.gate.admit_entered(token, route)
    assert machine.take() is token


def test_closing_wakes_who_waits_for_room() -> None:
    """They are to see that there is nothing to wait for."""
    machine = Machine(1)
    bound = Bound(1)
    machine.gate.bounds = (bound,)
    assert bound.try_enter()
    lock = threading.Lock()
    lock.acquire()
    bound.enter_or_list(lock, again=False)
    machine.gate.close(AFTER_SHUTDOWN)
    assert not lock.locked()


# -- out ------------------------------------------------------------------------------------------


def test_first_in_first_out() -> None:
    """In the order in which they came, whatever way they took."""
    for sharers in (1, 2, MANY):
        machine = Machine(1, sharers=sharers)
        tokens = [machine.admit() for _ in range(30)]
        assert machine.take_all() == tokens
        assert all(token.running() for token in tokens)
        assert machine.gate.waiting == 0
        assert machine.take() is None


def test_a_share_goes_to_the_mailbox() -> None:
    """With the first go half a worker's share of those behind it: these are admitted."""
    machine = Machine(1, sharers=2, mailbox_size=100)
    tokens = [machine.admit() for _ in range(41)]
    assert machine.take() is tokens[0]
    assert machine.depth(1) == 40 // (2 * 2)
    assert {token.state for token in tokens[1:11]} == {TokenState.ADMITTED}
    assert {token.lane for token in tokens[1:11]} == {1}
    assert {token.state for token in tokens[11:]} == {TokenState.WAITING}
    assert machine.gate.waiting == 40


@pytest.mark.parametrize("mailbox_size", [1, 3, 32])
def test_a_mailbox_has_no_more_than_its_size(mailbox_size: int) -> None:
    """However many wait, and at every moment."""
    machine = Machine(1, sharers=1, mailbox_size=mailbox_size)
    tokens = [machine.admit() for _ in range(200)]
    depths = []
    for token in tokens:
        assert machine.take() is token
        depths.append(machine.depth(1))
    assert max(depths) == mailbox_size


def test_a_few_are_not_hoarded() -> None:
    """With as many workers as tokens each token is left for a worker."""
    machine = Machine(2, sharers=8)
    tokens = [machine.admit() for _ in range(8)]
    assert machine.take(1) is tokens[0]
    assert machine.depth(1) == 0
    assert machine.take(2) is tokens[1]


def test_the_oldest_goes_first_whatever_its_weight() -> None:
    """A lane that may run several weights takes them in the order in which they came."""
    machine = Machine(1)
    weights: list[Weight | None] = ["light", None, "heavy", "medium", None, "heavy", "light"]
    tokens = [machine.admit(weight) for weight in weights]
    assert machine.take_all() == tokens


def test_a_mailbox_holds_tokens_of_one_weight() -> None:
    """What is older than a mailbox's tokens has been taken before them, also of other weights."""
    machine = Machine(1, sharers=1, mailbox_size=4)
    heavy = [machine.admit("heavy") for _ in range(9)]
    light = [machine.admit("light") for _ in range(3)]
    taken = machine.take_all()
    assert [token for token in taken if token.weight == "heavy"] == heavy
    assert [token for token in taken if token.weight == "light"] == light
    assert taken[0] is heavy[0]


def test_a_lane_takes_nothing_that_it_may_not_run() -> None:
    """It finds nothing, though much waits for others."""
    machine = Machine(2)
    tokens = [machine.admit("light") for _ in range(5)]
    assert machine.take_all(1) == []
    assert not machine.gate.has_work(machine.gate.lanes[0])
    assert not machine.gate.is_left_for(machine.gate.lanes[0])
    assert machine.gate.has_work(machine.gate.lanes[1])
    assert machine.take_all(2) == tokens


def test_stealing() -> None:
    """A lane that finds nothing at the gate takes from another's mailbox, the first one first."""
    machine = Machine(2, sharers=1, mailbox_size=10)
    tokens = [machine.admit() for _ in range(3)]
    assert machine.take(1) is tokens[0]
    assert machine.depth(1) == 1
    assert machine.take(2) is tokens[2], "what is at the gate has nobody yet"
    assert machine.gate.has_work(machine.gate.lanes[1])
    assert machine.take(2) is tokens[1]
    assert [lane.stolen for lane in machine.gate.lanes] == [0, 1]
    assert machine.take(2) is None


def test_a_thief_passes_over_empty_mailboxes() -> None:
    """One that its own lane has emptied is dropped from the list of those worth looking into."""
    machine = Machine(3, sharers=1, mailbox_size=1)
    tokens = [machine.admit() for _ in range(7)]
    taken = [machine.take(lane) for lane in (1, 2, 1, 3, 3, 3)]
    assert taken == [tokens[number] for number in (0, 2, 1, 4, 5, 6)]
    assert [lane.number for lane in machine.gate.mailboxes.filled] == [1, 2, 3]
    assert machine.take(3) is tokens[3]
    assert [lane.number for lane in machine.gate.mailboxes.filled] == [2, 3]
    assert [lane.stolen for lane in machine.gate.lanes] == [0, 0, 1]


def test_nobody_steals_what_it_may_not_run() -> None:
    """A mailbox of another lane with tokens that this one may not run is left alone."""
    policy = AffinityPolicy(lanes=2, heavy=(1,), medium=(1, 2), light=(2,))
    machine = Machine(2, sharers=1, policy=policy)
    tokens = [machine.admit("heavy") for _ in range(3)]
    assert machine.take(1) is tokens[0]
    assert machine.depth(1) == 1
    assert machine.take(2) is None
    assert not machine.gate.has_work(machine.gate.lanes[1])
    assert machine.take_all(1) == tokens[1:]


def test_who_leaves_tokens_behind_rouses_another() -> None:
    """Whoever fills a mailbox, or steals from one that is not empty by that, passes it on."""
    machine = Machine(2, sharers=1, mailbox_size=10)
    for _ in range(3):
        machine.admit()
    first, second = machine.workers
    machine.router.idle[:] = [second]
    machine.take(1)
    assert second.roused_for == [machine.gate.routes[None]]
    machine.router.idle[:] = [second]
    machine.take(1)
    assert len(second.roused_for) == 1, "it took from its mailbox, and left nothing"
    assert first.roused_for == []


def test_somebody_is_roused_for_each_queue_with_something_left() -> None:
    """For the gate's, and for a mailbox that another lane may take from."""
    machine = Machine(2, sharers=1)
    for _ in range(3):
        machine.admit()
    assert machine.take(1) is not None
    machine.router.idle[:] = machine.workers
    machine.gate.rouse_for_the_rest()
    assert machine.router.idle == []
    machine.gate.routes[None].backlog.clear()
    machine.router.idle[:] = machine.workers
    machine.gate.rouse_for_the_rest()
    assert len(machine.router.idle) == 1


def test_has_work() -> None:
    """Nothing, then the gate's, then a mailbox's, then nothing again."""
    machine = Machine(2, sharers=1)
    lane = machine.gate.lanes[0]
    seen = [machine.gate.has_work(lane)]
    machine.admit()
    machine.admit()
    machine.admit()
    seen.append(machine.gate.has_work(lane))
    machine.take(2)
    machine.take(2)
    machine.take(2)
    seen.append(machine.gate.has_work(lane))
    assert seen == [False, True, False]


class Emptied(deque[Token[Any]]):
    """A mailbox that somebody else empties just before one takes from it."""

    def popleft(self) -> Token[Any]:
        """Find nothing any more."""
        self.clear()
        return super().popleft()


def test_somebody_else_is_quicker() -> None:
    """A mailbox that has something, and then has not, is passed over, its own lane's and another's."""
    for lane in (1, 2):
        machine = Machine(2, sharers=1)
        tokens = [machine.admit() for _ in range(3)]
        assert machine.take(1) is tokens[0]
        assert machine.take(1) is tokens[1]
        other = machine.gate.lanes[0]
        other.mailbox = Emptied([machine.token()])
        machine.gate.routes[None].backlog.clear()
        assert machine.take(lane) is None
        assert machine.gate.lanes[1].stolen == 0


def test_one_that_drains_is_not_alone_either() -> None:
    """It takes what it gets."""
    machine = Machine(1)
    token = machine.admit()
    assert machine.gate.drain([Emptied([machine.token()]), *machine.gate.queues()]) == [token]


# -- tokens that stopped waiting ------------------------------------------------------------------


@pytest.mark.parametrize("sharers", [1, MANY])
def test_cancelled_ones_are_passed_over(sharers: int) -> None:
    """Wherever they are, and each is accounted for once."""
    machine = Machine(1, sharers=sharers, mailbox_size=100)
    tokens = [machine.admit() for _ in range(12)]
    assert machine.take() is tokens[0]
    for token in tokens[1::2]:
        assert token.cancel()
    assert machine.gate.waiting == 5
    assert machine.take_all() == tokens[2::2]
    assert machine.gate.waiting == 0
    shells = machine.gate.shells
    assert (len(shells), shells.cancelled_and_gone + machine.workers[0].cancelled) == (0, 6)


def test_claimed_ones_are_shells_too() -> None:
    """One that was begun or failed in a queue is passed over, and is not counted as cancelled."""
    machine = Machine(1, sharers=1, mailbox_size=1)
    first, admitted, started, failed, last = (machine.admit() for _ in range(5))
    assert machine.take() is first
    assert admitted.state is TokenState.ADMITTED
    assert admitted.set_running_or_notify_cancel()
    assert started.set_running_or_notify_cancel()
    failed.set_exception(ValueError())
    assert (machine.gate.waiting, len(machine.gate.shells)) == (1, 3)
    assert machine.take_all() == [last]
    shells = machine.gate.shells
    assert (len(shells), shells.cancelled_and_gone, machine.workers[0].cancelled) == (0, 0, 0)


def test_many_cancelled_are_dropped() -> None:
    """However many come and are cancelled, the queue keeps few of them, and its order."""
    machine = Machine(1)
    kept: list[Token[Any]] = []
    for _ in range(30):
        kept.append(machine.admit())
        for token in [machine.admit() for _ in range(100)]:
            assert token.cancel()
        assert len(machine.gate.routes[None].backlog) < len(kept) + 128
        assert machine.gate.waiting == len(kept)
    assert machine.take_all() == kept


def test_dropping_shells_costs_less_than_the_tokens_that_stay() -> None:
    """With many that stay, a few cancelled are no reason to look through them all."""
    machine = Machine(1)
    tokens = [machine.admit() for _ in range(2000)]
    looks: list[int] = []
    compact = machine.gate.compact

    def count() -> None:
        looks.append(len(machine.gate.shells))
        compact()

    machine.gate.compact = count  # type: ignore[method-assign]
    for token in tokens[:1000]:
        token.cancel()
    assert len(looks) <= 2


def test_compact_never_waits() -> None:
    """While somebody has the lock it does nothing; it says which workers may be needed."""
    machine = Machine(2)
    token, cancelled = machine.admit(), machine.admit()
    cancelled.cancel()
    with machine.gate.lock:
        machine.gate.compact()
        assert len(machine.gate.routes[None].backlog) == 2
    machine.router.idle[:] = machine.workers
    machine.gate.compact()
    assert list(machine.gate.routes[None].backlog) == [token]
    assert len(machine.router.idle) == 1, "one is roused for what is left"


# -- emptying it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("governed", [False, True])
def test_drain_all(governed: bool) -> None:
    """Everything is taken out, from the gate and from the mailboxes, and still waits for its end."""
    machine = Machine(2, sharers=1)
    tokens = [machine.admit(weight) for weight in (None, None, None, "heavy", "light")]
    assert machine.take(1) is tokens[0]
    if governed:
        machine.gate.govern()
    drained = machine.gate.drain_all()
    assert set(drained) == set(tokens[1:])
    assert len(drained) == 4
    assert machine.gate.waiting == 0
    for token in drained[:2]:
        assert token.cancel()
        machine.gate.bury_drained(token)
    for token in drained[2:]:
        token.set_exception(ValueError())
        machine.gate.bury_failed(token)
    assert len(machine.gate.shells) == 0
    assert machine.gate.shells.cancelled_and_gone == 2
    assert len(machine.gate.failed_unrun) == 2
    assert machine.take(1) is None


def test_renew() -> None:
    """It begins with empty queues, free locks and no shells, as in a forked child."""
    machine = Machine(2, sharers=1)
    for _ in range(4):
        machine.admit()
    machine.take(1)
    machine.admit().cancel()
    machine.gate.lock.acquire()
    machine.gate.renew()
    assert machine.gate.waiting == 0
    assert len(machine.gate.shells) == 0
    token = machine.admit()
    assert machine.take(2) is token


# -- a governor -----------------------------------------------------------------------------------


def test_governing_takes_the_mailboxes_over() -> None:
    """What a lane had admitted waits again, and is taken in the order in which it came."""
    machine = Machine(1, sharers=1, mailbox_size=10)
    tokens = [machine.admit() for _ in range(9)]
    assert machine.take() is tokens[0]
    assert tokens[1].state is TokenState.ADMITTED
    machine.gate.govern()
    assert (tokens[1].state, machine.depth(1)) == (TokenState.WAITING, 0)
    assert machine.take_all() == tokens[1:]


def test_a_pause_keeps_everything_and_its_end_is_an_end() -> None:
    """Nothing is taken while it lasts; afterwards there is no governor, and the order is the same."""
    machine = Machine(1)
    tokens = [machine.admit() for _ in range(3)]
    with machine.gate.steering() as governor:
        governor.is_paused = True
    tokens.append(machine.admit())
    assert machine.take() is None
    assert machine.gate.waiting == 4
    machine.router.idle[:] = machine.workers
    with machine.gate.steering() as governor:
        governor.is_paused = False
    assert machine.router.idle == [], "somebody is roused for what may start again"
    assert machine.gate.governor is None
    assert machine.take_all() == tokens


def test_options_are_governed_for_good() -> None:
    """A governor for options stays, also when a pause ends."""
    machine = Machine(1)
    machine.gate.govern(for_good=True)
    governor = machine.gate.governor
    with machine.gate.steering() as same:
        assert same is governor
    assert machine.gate.governor is governor
    machine.gate.renew()
    assert machine.gate.governor is not None


class Interrupting:
    """A lock; when it is first asked for, something happens before it is had."""

    def __init__(self, event: Callable[[], object]) -> None:
        self.lock = threading.Lock()
        self.event: Callable[[], object] | None = event

    def acquire(self, *, blocking: bool = True) -> bool:
        """Let it happen, then lock."""
        event, self.event = self.event, None
        if event is not None:
            event()
        return self.lock.acquire(blocking=blocking)

    def release(self) -> None:
        """Unlock."""
        self.lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_a_token_on_its_way_from_a_mailbox_does_not_slip_past_a_pause() -> None:
    """A worker that popped it, and finds a governor after claiming it, gives it back unrun."""
    machine = Machine(1, sharers=1)
    tokens = [machine.admit() for _ in range(5)]
    assert machine.take() is tokens[0]
    assert tokens[1].state is TokenState.ADMITTED

    def pause() -> None:
        with machine.gate.steering() as governor:
            governor.is_paused = True

    tokens[1]._lock = Interrupting(pause)  # type: ignore[assignment]
    assert machine.take() is None
    assert (tokens[1].state, machine.workers[0].current) == (TokenState.WAITING, None)
    with machine.gate.steering() as governor:
        governor.is_paused = False
    assert machine.take_all() == tokens[1:]


def test_a_token_that_is_cancelled_on_its_way() -> None:
    """A worker that popped it from its mailbox, or got it from the gate, goes on to the next."""
    machine = Machine(1, sharers=1)
    tokens = [machine.admit() for _ in range(4)]
    tokens[0]._lock = Interrupting(tokens[0].cancel)  # type: ignore[assignment]
    assert machine.take() is tokens[1]
    machine.admit()
    assert machine.gate.shells.cancelled_and_gone == 1
    assert len(machine.gate.shells) == 0
    first = machine.gate.lanes[0].mailbox or machine.gate.routes[None].backlog
    token = first[0]
    token._lock = Interrupting(token.cancel)  # type: ignore[assignment]
    assert machine.take() is not token
    assert len(machine.gate.shells) == 0


def test_closing_a_paused_gate_lets_everything_go_on() -> None:
    """Nobody could resume it, and what waits is to be settled."""
    machine = Machine(1)
    token = machine.admit()
    with machine.gate.steering() as governor:
        governor.is_paused = True
        governor.pause("builtins.int")
    machine.gate.close(AFTER_SHUTDOWN)
    assert machine.gate.is_left_for(machine.gate.lanes[0])
    assert machine.take() is token
    assert not machine.gate.is_left_for(machine.gate.lanes[0])


def test_whoever_posts_never_waits() -> None:
    """What is posted while somebody has the lock is done by who has it, when it lets go."""
    machine = Machine(1)
    machine.gate.govern(for_good=True)
    profile = Profile(
        machine.gate,
        machine.gate.routes[None],
        TaskOptions(key="k"),
        (),
        log_unread_exceptions=False,
    )
    tokens: list[Token[Any]] = [Token(int, (), None, None, profile) for _ in range(2)]
    for token in tokens:
        machine.gate.admit(token, profile.route)
    assert machine.take() is tokens[0]
    assert machine.take() is None, "it has the same key"
    machine.router.idle[:] = machine.workers
    with machine.gate._locked():
        machine.gate.post(tokens[0], held=True)
        assert machine.gate.posts
        assert machine.workers[0].roused_for == []
    assert not machine.gate.posts
    assert machine.workers[0].roused_for == [profile.route]
    assert machine.take() is tokens[1]


def test_whoever_takes_does_what_was_posted_before() -> None:
    """And rouses another for what that has made ready."""
    machine = Machine(2)
    machine.gate.govern(for_good=True)
    profile = Profile(
        machine.gate,
        machine.gate.routes[None],
        TaskOptions(key="k"),
        (),
        log_unread_exceptions=False,
    )
    first, second = (Token[Any](int, (), None, None, profile) for _ in range(2))
    for token in (first, second):
        machine.gate.admit(token, profile.route)
    assert machine.take() is first
    machine.gate.posts.append((first, True, False))  # by somebody who found the lock taken
    machine.router.idle[:] = [machine.workers[1]]
    assert machine.take() is second
    assert not machine.gate.posts
    assert machine.workers[1].roused_for == [profile.route]


def test_posts_without_a_governor_are_dropped() -> None:
    """There is nobody whom they concern."""
    machine = Machine(1)
    machine.gate.post(machine.token(), held=True)
    assert not machine.gate.posts


def test_a_worker_on_its_way_to_the_gate_meets_a_pause() -> None:
    """It has looked, and finds a governor once it has the lock: it asks that."""
    machine = Machine(1)
    token = machine.admit()

    def pause() -> None:
        with machine.gate.steering() as governor:
            governor.is_paused = True

    machine.gate.lock = Interrupting(pause)  # type: ignore[assignment]
    assert machine.take() is None
    assert token.state is TokenState.WAITING


def test_a_worker_on_its_way_to_the_governor_meets_the_end_of_the_pause() -> None:
    """It finds none once it has the lock, and looks at the queues when it asks again."""
    machine = Machine(1)
    token = machine.admit()
    with machine.gate.steering() as governor:
        governor.is_paused = True

    def resume() -> None:
        with machine.gate.steering() as governor:
            governor.is_paused = False

    machine.gate.lock = Interrupting(resume)  # type: ignore[assignment]
    assert machine.take() is None
    assert machine.take() is token
    machine.admit()
    with machine.gate.steering() as governor:
        governor.is_paused = True
    machine.gate.lock = Interrupting(resume)  # type: ignore[assignment]
    assert machine.gate.has_work(machine.gate.lanes[0])


def test_a_governed_queue_is_looked_at_as_any() -> None:
    """How many wait, which, since when, and whether there is something for a lane."""
    machine = Machine(2)
    machine.gate.govern(for_good=True)
    machine.gate.govern(for_good=True)
    heavy, light = machine.admit("heavy"), machine.admit("light")
    first, second = machine.gate.lanes
    assert machine.gate.waiting == 2
    assert set(machine.gate.waiting_tokens()) == {heavy, light}
    assert machine.gate.facts().oldest == heavy.submitted_at
    assert machine.take(1) is heavy
    assert [machine.gate.has_work(lane) for lane in (first, second)] == [False, True]
    assert machine.gate.is_left_for(first), "by the governor any lane may get it, for all it knows"
    assert machine.take(1) is None
    assert machine.gate.take_this(light)
    assert not machine.gate.take_this(light)
    assert not machine.gate.is_left_for(second)


def test_many_cancelled_are_dropped_from_a_governor() -> None:
    """However many come and are cancelled, it keeps few of them."""
    machine = Machine(1)
    machine.gate.govern(for_good=True)
    kept = [machine.admit() for _ in range(3)]
    governor = machine.gate.governor
    assert governor is not None
    for _ in range(500):
        token = machine.admit()
        machine.gate.catch_up()
        assert token.cancel()
        assert machine.gate.waiting == 3
        assert governor.size + len(machine.gate.routes[None].backlog) < 3 + 128
    machine.router.idle[:] = machine.workers
    machine.gate.rouse_for_the_rest()
    assert machine.router.idle == []
    assert machine.take_all() == kept


def test_what_a_governor_does_at_a_moment_is_done_with_the_lock() -> None:
    """Its timers are those of the gate."""
    machine = Machine(1)
    timers = machine.fake_timers()
    seen: list[bool] = []
    machine.gate._call_at(7.0, lambda: seen.append(machine.gate.lock.locked()))
    ((when, action, _),) = timers
    assert (when, seen) == (7.0, [])
    action()
    assert (seen, machine.gate.lock.locked()) == ([True], False)


def test_nobody_can_be_roused_for_what_is_left() -> None:
    """If there is no thread for it, those who wait for one are failed, and nobody here is told."""
    machine = Machine(1)
    error = RuntimeError("can't start new thread")

    def refuse() -> None:
        raise error

    machine.workers[0].when_roused = refuse
    machine.admit()
    machine.router.idle[:] = machine.workers
    machine.gate.rouse_for_the_rest()
    assert machine.unserved == [error]


# -- time -----------------------------------------------------------------------------------------


def timed(machine: Machine) -> Token[Any]:
    """Admit a token that is to start within five seconds."""
    profile = Profile(
        machine.gate,
        machine.gate.routes[None],
        TaskOptions(queue_timeout=5),
        (),
        log_unread_exceptions=False,
    )
    token: Token[Any] = Token(int, (), None, None, profile)
    profile.admit(token, profile.route)
    return token


def test_one_that_does_not_start_in_time() -> None:
    """At that moment it is over, and is counted; before it is no matter of timers."""
    machine = Machine(1)
    timers = machine.fake_timers()
    token = timed(machine)
    ((when, end, is_moot),) = timers
    assert when == token.submitted_at + 5
    assert not is_moot()
    end()
    assert (token.state, machine.gate.timed_out) == (TokenState.TIMEOUT, 1)
    assert is_moot()
    assert machine.take() is None


def test_one_that_starts_in_time() -> None:
    """Then the moment passes without effect."""
    machine = Machine(1)
    timers = machine.fake_timers()
    token = timed(machine)
    assert machine.take() is token
    ((_, end, is_moot),) = timers
    assert is_moot()
    end()
    assert (token.running(), machine.gate.timed_out) == (True, 0)


def test_a_timer_keeps_no_token() -> None:
    """One that is gone needs no end."""
    machine = Machine(1)
    timers = machine.fake_timers()
    gone = weakref.ref(timed(machine))
    machine.gate.renew()
    assert gone() is None
    ((_, end, is_moot),) = timers
    assert is_moot()
    end()
    assert machine.gate.timed_out == 0


# -- for who waits for a token, and for statistics ------------------------------------------------


def test_take_this() -> None:
    """One who waits for a queued token may have it out of turn, once."""
    machine = Machine(1)
    tokens = [machine.admit() for _ in range(3)]
    assert machine.gate.take_this(tokens[1])
    assert tokens[1].running()
    assert not machine.gate.take_this(tokens[1])
    assert machine.gate.waiting == 2
    assert machine.take_all() == [tokens[0], tokens[2]]


def test_obstacles() -> None:
    """Who is before a token in its line; without a governor there are no lines."""
    machine = Machine(1)
    machine.gate.catch_up()
    assert machine.gate.obstacles_of(machine.admit()) == (None, [])
    assert machine.take() is not None
    machine.gate.govern(for_good=True)
    profile = Profile(
        machine.gate,
        machine.gate.routes[None],
        TaskOptions(key="k"),
        (),
        log_unread_exceptions=False,
    )
    first, second = (Token[Any](int, (), None, None, profile) for _ in range(2))
    for token in (first, second):
        machine.gate.admit(token, profile.route)
    machine.gate.catch_up()
    assert machine.gate.routes[None].backlog == deque()
    assert machine.gate.obstacles_of(first) == (None, [])
    assert machine.gate.obstacles_of(second) == (first, [])


def test_facts() -> None:
    """The oldest of what waits, whatever its weight; with nothing there is none."""
    machine = Machine(2)
    assert machine.gate.facts().oldest is None
    first, second = machine.admit("light"), machine.admit()
    assert machine.gate.facts().oldest == first.submitted_at
    assert machine.take(2) is first
    facts = machine.gate.facts()
    assert facts.oldest == second.submitted_at
    assert (facts.parked, facts.is_paused, facts.paused_operations) == (0, False, ())


def test_watchers_are_told() -> None:
    """One that waits for all to be done hears of each token that leaves unrun."""
    machine = Machine(1)
    told: list[None] = []

    class Watcher:
        put = told.append

    machine.gate.watchers.append(Watcher())  # type: ignore[arg-type]
    machine.admit().cancel()
    assert told == [None]


# -- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("governed", [False, True])
def test_the_end_is_passed_on_by_whoever_does_the_last_post(governed: bool) -> None:
    """Who has the lock as the last token leaves finds that posted, and then rouses the idle."""
    machine = Machine(1)
    if governed:
        machine.gate.govern(for_good=True)
    (worker,) = machine.workers
    token = machine.admit()
    assert machine.take() is token
    assert put_away(token, TokenState.RETRYING)
    machine.router.idle[:] = [worker]
    machine.gate.close(AFTER_SHUTDOWN)
    with machine.gate._locked():
        assert token.cancel()
        machine.gate._sorted()
        assert not machine.gate.posts
        assert worker.roused_for == []
    assert worker.roused_for == [None]


def test_closing_keeps_a_vacancy_that_has_just_come_to_be() -> None:
    """A worker whose thread ends by itself as it is to be roused is idle still, for who comes back."""

    class Idle(list[Any]):
        def remove(self, worker: Any) -> None:
            super().remove(worker)
            worker.thread = None

    machine = Machine(1)
    (worker,) = machine.workers
    machine.gate.idle = machine.router.idle = Idle([worker])  # type: ignore[misc]
    machine.gate.close(AFTER_SHUTDOWN)
    assert (machine.router.idle, worker.roused_for) == ([worker], [])
