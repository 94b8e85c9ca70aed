"""Small models of the engine, run under every thread switch that matters, by plan and not by luck.

``interleave-test`` makes the threads of a model take turns, can switch before each line or bytecode
instruction of the engine and at each of its locks, and says which thread waits for what when all do. So
a lost wake-up is a deadlock with a table, found again by its schedule.

The engine takes its locks from ``_thread`` by name: the fixture puts the explorer's in their place.
``TOKENGATE_SCHEDULES`` multiplies how many schedules are tried; the default takes seconds.
"""

from __future__ import annotations

import gc
import os
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

if sys.version_info < (3, 12):
    pytest.skip(
        "interleave-test needs sys.monitoring, which came with Python 3.12: "
        "the schedules are explored on later versions only",
        allow_module_level=True,
    )

import interleave_test as explorer

import tokengate_executor
from tokengate_executor import AffinityPolicy, Token, TokenGateExecutor, TokenState
from tokengate_executor import executor as executor_module
from tokengate_executor.engine import (
    bounds,
    claims,
    crew,
    gate,
    mailboxes,
    shells,
    steering,
    timers,
    workers,
)
from tokengate_executor.engine.settlement import attempt
from tokengate_executor.policies.topology import Topology

PACKAGE = Path(tokengate_executor.__file__).parent
# Where threads are switched: in the token and the machine it flows through, and in this file.
INCLUDED = (PACKAGE / "token.py", PACKAGE / "waiting.py", PACKAGE / "engine", Path(__file__))
MORE = int(os.environ.get("TOKENGATE_SCHEDULES", "1"))

Model = Callable[[], None]


class ControlledThreading:
    """``threading`` for the crew: its threads are the explorer's, which cannot name the current one."""

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)

    @staticmethod
    def current_thread() -> None:
        """Return nobody: no model's worker shuts down its own executor."""


class ImpatientLock(explorer.Lock):
    """A lock with which time is over at once: the explorer's clock stands while anybody can run."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Try only, if there is a timeout."""
        return super().acquire() if blocking and timeout < 0 else super().acquire(blocking=False)


@pytest.fixture(autouse=True)
def controlled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the explorer's locks and threads in place of the engine's, and keep the collector out."""
    for name, module in sys.modules.copy().items():
        if name.startswith("tokengate_executor.") and hasattr(module, "allocate_lock"):
            monkeypatch.setattr(module, "allocate_lock", explorer.Lock)
    monkeypatch.setattr(crew, "threading", ControlledThreading())
    monkeypatch.setattr(timers, "threading", ControlledThreading())
    monkeypatch.setattr(steering, "SimpleQueue", queue._PySimpleQueue)
    monkeypatch.setattr(crew, "SimpleQueue", queue._PySimpleQueue)
    monkeypatch.setattr(shells, "_MANY_AT_LEAST", 1)
    topology = Topology.detect()
    monkeypatch.setattr(Topology, "detect", lambda: topology)
    # An executor of a broken-off schedule is left as it is: nobody could run what a finaliser rouses.
    unfinished = SimpleNamespace(finalize=lambda *_: SimpleNamespace(), ref=weakref.ref)
    monkeypatch.setattr(executor_module, "weakref", unfinished)
    monkeypatch.setattr(executor_module, "look_after", lambda *_, **__: None)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def explore(model: Model, strategy: str | explorer.Strategy, schedules: int) -> explorer.Result:
    """Run the model under so many schedules at most, switching between lines of the engine."""
    return explorer.explore(
        model,
        strategy=strategy,
        iterations=schedules * MORE,
        seed=1,
        granularity="line",
        include=INCLUDED,
    )


# -- the models ------------------------------------------------------------------------------------


def executor_of(workers: int, **arguments: Any) -> TokenGateExecutor:
    """Make an executor, not a subject of exploration."""
    with explorer.no_interleave():
        return TokenGateExecutor(workers, log_unread_exceptions=False, **arguments)


def submitted(executor: TokenGateExecutor, *calls: Callable[[], Any]) -> list[Token[Any]]:
    """Submit the calls with nobody in between."""
    with explorer.no_interleave():
        return [executor.submit(call) for call in calls]


def finish(executor: TokenGateExecutor, accepted: int) -> None:
    """Shut down; whatever was accepted is accounted for."""
    executor.shutdown()
    with explorer.no_interleave():
        now = executor.statistics()
        assert now.waiting == now.executing == 0, now
        assert now.completed + now.failed + now.cancelled == now.submitted == accepted, now


def exactly_one_has(end: Callable[[Token[Any]], object]) -> None:
    """Two claim a token and one ends it unrun: exactly one wins."""
    token: Token[int] = Token(int)
    token._phase = TokenState.WAITING
    tasks = [explorer.spawn(act, token) for act in (claims.claim, claims.claim_in_queue, end)]
    for task in tasks:
        task.join()
    assert [task.result() for task in tasks].count(True) == 1
    assert token.done() == tasks[2].result() != token.running()


def until_all_rest() -> None:
    """Wait until nobody else can run: only then does the explorer's time pass."""
    assert not threading.Event().wait(timeout=1)


def claim_or_cancel() -> None:
    """A token is claimed or cancelled, never both."""
    exactly_one_has(Token.cancel)


def claim_or_kill() -> None:
    """A token is claimed or killed, never both."""
    exactly_one_has(claims.kill_waiting)


def claim_or_expire() -> None:
    """A token is claimed or its time is over, never both."""
    exactly_one_has(claims.expire)


def submit_while_going_idle() -> None:
    """A worker that has just done one call goes idle while the next is submitted: it runs."""
    executor = executor_of(1)
    (first,) = submitted(executor, int)
    first.result()
    assert executor.submit(int).result() == 0
    finish(executor, 2)


def two_submitters() -> None:
    """Two submit while the only worker goes idle: both calls run."""
    executor = executor_of(1)
    (first,) = submitted(executor, int)
    first.result()
    tasks = [explorer.spawn(lambda: executor.submit(int).result()) for _ in range(2)]
    for task in tasks:
        task.join()
    assert [task.result() for task in tasks] == [0, 0]
    finish(executor, 3)


def cancel_settle_and_wait() -> None:
    """One cancels, a worker settles, two wait: all agree on what became of it, told once."""
    executor = executor_of(1)
    told: list[object] = []
    (token,) = submitted(executor, int)

    def outcome() -> object:
        try:
            return token.result()
        except CancelledError:
            return "cancelled"

    canceller, waiter = explorer.spawn(token.cancel), explorer.spawn(outcome)
    token.add_done_callback(told.append)
    expected = outcome()
    canceller.join()
    waiter.join()
    assert waiter.result() == expected == ("cancelled" if canceller.result() else 0)
    finish(executor, 1)
    assert told == [token]


def cancel_while_taken() -> None:
    """One of three queued calls is cancelled, and the queue made compact, while a worker takes them."""
    executor = executor_of(1)
    first, second, third = submitted(executor, int, int, int)
    canceller = explorer.spawn(second.cancel)
    assert [first.result(), third.result()] == [0, 0]
    canceller.join()
    assert second.cancelled() == canceller.result()
    finish(executor, 3)


def submit_while_shut_down() -> None:
    """One submits, another shuts down: the call is refused, or it runs."""
    executor = executor_of(1)

    def submit() -> int:
        try:
            token = executor.submit(int)
        except RuntimeError:
            return 0
        assert token.result() == 0
        return 1

    submitters = [explorer.spawn(submit) for _ in range(2)]
    executor.shutdown()
    for submitter in submitters:
        submitter.join()
    with explorer.no_interleave():
        assert executor.statistics().completed == sum(task.result() for task in submitters)


def fill_and_steal() -> None:
    """A call waits for one behind it, in its own lane's mailbox: another lane steals that."""
    executor = executor_of(2, lanes=2, mailbox_size=2)
    ran: list[int] = []
    told = threading.Event()
    tokens = submitted(executor, told.wait, told.set, *(partial(ran.append, n) for n in range(4)))
    for token in tokens:
        token.result()
    assert sorted(ran) == [0, 1, 2, 3]
    finish(executor, 6)


def weights_and_lanes() -> None:
    """A heavy call waits for a light one and for a plain one, submitted elsewhere meanwhile."""
    policy = AffinityPolicy(lanes=2, heavy=(1,), medium=(2,), light=(2,))
    executor = executor_of(2, lanes=2, policy=policy)
    with explorer.no_interleave():
        heavy, light = executor.options(weight="heavy"), executor.options(weight="light")
    both: list[threading.Event] = [threading.Event(), threading.Event()]
    waits = heavy.submit(lambda: [event.wait() for event in both])
    submitter = explorer.spawn(lambda: light.submit(both[0].set).result())
    executor.submit(both[1].set).result()
    submitter.join()
    waits.result()
    finish(executor, 3)


def lend_while_submitted() -> None:
    """A call waits for what only a call that is submitted meanwhile brings: a spare runs that."""
    executor = executor_of(1)
    brought: Token[int] = Token()
    (waits,) = submitted(executor, partial(brought.result, 100))
    executor.submit(brought.set_result, 7)
    assert waits.result() == 7
    finish(executor, 2)


def nested_waits() -> None:
    """A call waits for its child by ``wait``, and once more without a timeout; another comes between."""
    executor = executor_of(1)

    def parent() -> int:
        child = executor.submit(int)
        assert wait([child], timeout=100).done == {child}
        return executor.submit(int).result()

    (token,) = submitted(executor, parent)
    assert executor.submit(int).result() == 0
    assert token.result() == 0
    finish(executor, 4)


def spare_leaves() -> None:
    """A spare is roused for a call while its time ends: another worker runs that call."""
    executor = executor_of(2, lanes=1)
    brought: Token[int] = Token()
    held, told = threading.Event(), threading.Event()

    def parent() -> None:
        submitted(executor, int, held.wait)
        brought.result(timeout=100)
        told.wait()

    (token,) = submitted(executor, parent)
    until_all_rest()
    held.set()
    until_all_rest()  # the spare and the other worker are idle, often the spare on top
    brought.set_result(7)
    executor.submit(told.set).result()
    token.result()
    finish(executor, 4)


def idle_thread_ends() -> None:
    """A worker's thread ends for idleness while a call is submitted: the call runs."""
    executor = executor_of(1, keep_alive=1)
    assert executor.submit(int).result() == 0
    assert executor.submit(int).result() == 0
    finish(executor, 2)


def blocked_producers() -> None:
    """Two submit where one call may wait, and block until it starts: all calls run."""
    executor = executor_of(1, max_pending=1)
    (first,) = submitted(executor, int)
    tasks = [explorer.spawn(lambda: executor.submit(int).result()) for _ in range(2)]
    for task in tasks:
        task.join()
    first.result()
    finish(executor, 3)


def producer_blocked_at_shutdown() -> None:
    """One waits for room while another shuts down: its call is refused, or it runs."""
    executor = executor_of(1, max_pending=1)
    told = threading.Event()
    submitted(executor, told.wait)

    def submit_two() -> int:
        accepted = 0
        with suppress(RuntimeError):
            while accepted < 2:
                executor.submit(int)
                accepted += 1
        return accepted

    submitter = explorer.spawn(submit_two)
    executor.shutdown(wait=False)
    told.set()
    submitter.join()
    executor.shutdown()
    with explorer.no_interleave():
        assert executor.statistics().completed == 1 + submitter.result()


def pause_while_taken() -> None:
    """The executor is paused while a worker takes calls: none begins until it is resumed."""
    executor = executor_of(1)
    tokens = submitted(executor, *[int] * 6)
    executor.pause()
    waiting = [token for token in tokens if claims.is_waiting(token)]
    until_all_rest()
    assert all(claims.is_waiting(token) for token in waiting)
    executor.resume()
    assert [token.result() for token in tokens] == [0] * 6
    finish(executor, 6)


def drain_while_submitted() -> None:
    """One drains, another submits: the call is refused, or it has run when the drain is over."""
    executor = executor_of(1)

    def submit() -> Token[int] | None:
        try:
            return executor.submit(int)
        except RuntimeError:
            return None

    submitter = explorer.spawn(submit)
    assert executor.drain().is_complete
    submitter.join()
    token = submitter.result()
    assert token is None or token.result() == 0
    executor.resume()
    assert executor.submit(int).result() == 0
    finish(executor, 1 if token is None else 2)


def one_permit() -> None:
    """Three calls need a permit of which there is one: one at a time runs, and each of them does."""
    executor = executor_of(2, lanes=1, limits={"permit": 1})
    with explorer.no_interleave():
        limited = executor.options(limits=("permit",))
        first = limited.submit(int)
    running: list[None] = []

    def alone() -> None:
        assert not running
        running.append(None)
        running.pop()

    tasks = [explorer.spawn(lambda: limited.submit(alone).result()) for _ in range(2)]
    for task in tasks:
        task.join()
    first.result()
    finish(executor, 3)


def one_key() -> None:
    """Three calls have the same key, and the middle one is cancelled: the others run in order."""
    executor = executor_of(2, lanes=1)
    ran: list[int] = []
    with explorer.no_interleave():
        in_line = executor.options(key="key")
        tokens = [in_line.submit(ran.append, number) for number in range(3)]
    canceller = explorer.spawn(tokens[1].cancel)
    tokens[2].result()
    canceller.join()
    assert ran == ([0, 2] if canceller.result() else [0, 1, 2])
    finish(executor, 3)


def pause_and_resume() -> None:
    """One pauses and another resumes: calls run in the end."""
    executor = executor_of(1)
    tasks = [explorer.spawn(executor.pause), explorer.spawn(executor.resume)]
    token = executor.submit(int)
    for task in tasks:
        task.join()
    executor.resume()
    assert token.result() == 0
    finish(executor, 1)


def leave_while_shut_down() -> None:
    """A worker that is one too many ends while another shuts down: both are joined, and counted."""
    executor = executor_of(2, lanes=1)
    told = threading.Event()
    tokens = submitted(executor, told.wait, told.wait)
    until_all_rest()
    with explorer.no_interleave():
        executor.resize(1)
        told.set()
    assert [token.result() for token in tokens] == [True, True]
    finish(executor, 2)


MODELS: tuple[Model, ...] = (
    claim_or_cancel,
    claim_or_kill,
    claim_or_expire,
    submit_while_going_idle,
    two_submitters,
    cancel_settle_and_wait,
    cancel_while_taken,
    submit_while_shut_down,
    fill_and_steal,
    weights_and_lanes,
    lend_while_submitted,
    nested_waits,
    spare_leaves,
    idle_thread_ends,
    blocked_producers,
    producer_blocked_at_shutdown,
    pause_while_taken,
    drain_while_submitted,
)
STEERED: tuple[Model, ...] = (one_permit, one_key, pause_and_resume, leave_while_shut_down)
IMPATIENT = (idle_thread_ends,)


def names(value: object) -> str | None:
    """Name the models and breaches in the tests' ids."""
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("model", MODELS, ids=names)
def test_no_schedule_breaks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every schedule of the model that is tried ends, and ends well."""
    if model in IMPATIENT:
        monkeypatch.setattr(workers, "allocate_lock", ImpatientLock)
    assert explore(model, explorer.PCTStrategy(depth=3), 100).ok


@pytest.mark.parametrize("model", STEERED, ids=names)
def test_no_schedule_breaks_what_is_steered(model: Model) -> None:
    """Every schedule of the model that is tried ends, and ends well."""
    assert explore(model, explorer.PCTStrategy(depth=2), 300).ok


@pytest.mark.parametrize(
    "model", [submit_while_going_idle, drain_while_submitted, idle_thread_ends], ids=names
)
def test_no_single_switch_breaks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model ends well with every single switch that can be forced on it, at every line."""
    if model in IMPATIENT:
        monkeypatch.setattr(workers, "allocate_lock", ImpatientLock)
    result = explore(model, explorer.DFSStrategy(max_preemptions=1), 1000)
    assert result.exhausted


# -- the explorer finds what it is to find -----------------------------------------------------------


def list_after_the_last_look(worker: workers.Worker) -> None:
    """As `Worker._work`, but it looks for work before it lists itself as idle."""
    gate, idle = worker.crew.gate, worker.crew.router.idle
    while True:
        token = gate.take(worker)
        if token is not None:
            attempt(worker, token)
            continue
        has_work = gate.has_work(worker.lane)
        idle.append(worker)
        if has_work or gate.is_ending:
            try:
                idle.remove(worker)
            except ValueError:
                worker._wake.acquire()
        else:
            worker._wake.acquire()
        if worker._is_done():
            return


def rouse_before_the_token_is_there(self: gate.Gate, token: Token[Any], route: Any) -> None:
    """As `Gate.admit`, but it looks for an idle worker before it appends the token."""
    token._phase = TokenState.WAITING
    if self.idle:
        self._rouse(route)
    route.backlog.append(token)


def never_withdraw(_token: Token[Any]) -> bool:
    """As `claims.withdraw`, but a token that came too late is left where it is."""
    return False


def claim_without_the_lock(token: Token[Any]) -> bool:
    """As `claims.claim`, but it looks and writes without the token's lock."""
    if token._phase is not TokenState.WAITING:
        return False
    token._phase = TokenState.EXECUTING
    return True


def sleep_without_another_look(token: Token[Any], timeout: float | None) -> None:
    """As `Token._sleep`, but it does not look again whether the token has settled."""
    assert timeout is None
    sleeper = explorer.Lock()
    sleeper.acquire()
    with token._lock:
        if not token.done():
            token._the_audience().sleepers.append(sleeper)
    sleeper.acquire()


def offer_after_the_last_look(self: crew.Crew, spare: workers.Worker) -> None:
    """As `Crew._offer`, but it looks for work before it lists the spare as idle."""
    if self.gate.has_work(spare.lane):
        spare.rouse()
    else:
        self.router.idle.insert(0, spare)


def keep_the_wake_up(_gate: gate.Gate) -> None:
    """As `Gate.rouse_for_the_rest`, but a worker that leaves does not pass on why it was roused."""


def look_into_own_mailbox_only(_mailboxes: mailboxes.Mailboxes, lane: Any) -> bool:
    """As `Mailboxes.has_any`, but what another lane holds is not seen."""
    return bool(lane.mailbox)


def end_without_a_last_look(worker: workers.Worker) -> bool:
    """As `Worker._sleep`, but it does not look for work once it is a vacancy again."""
    if worker._wake.acquire(timeout=worker.crew.keep_alive or 0):
        return True
    try:
        worker.crew.router.idle.remove(worker)
    except ValueError:
        worker._wake.acquire()
        return True
    worker.thread = None
    worker.crew.router.idle.insert(0, worker)
    return False


def free_the_place_after_the_look(bound: Any) -> None:
    """As `Bound.leave`, but it looks for somebody who waits before the place is free."""
    bound._wake_one()
    bound._free.append(None)


def begin_though_governed(self: gate.Gate, worker: workers.Worker) -> Token[Any] | None:
    """As `Gate.take`, but it does not look for a governor after it claimed from a mailbox."""
    mailbox = worker.lane.mailbox
    while mailbox:
        try:
            token: Token[Any] = mailbox.popleft()
        except IndexError:
            break
        if claims.claim(token):
            worker.current = token
            return token
    return self._take_from_gate(worker)


BREACHES: tuple[tuple[object, str, Callable[..., object], Model], ...] = (
    (workers.Worker, "_work", list_after_the_last_look, submit_while_going_idle),
    (workers.Worker, "_work", list_after_the_last_look, two_submitters),
    (gate.Gate, "admit", rouse_before_the_token_is_there, submit_while_going_idle),
    (gate.Gate, "admit", rouse_before_the_token_is_there, two_submitters),
    (gate, "withdraw", never_withdraw, submit_while_shut_down),
    (claims, "claim", claim_without_the_lock, claim_or_cancel),
    (gate, "claim", claim_without_the_lock, cancel_settle_and_wait),
    (Token, "_sleep", sleep_without_another_look, cancel_settle_and_wait),
    (crew.Crew, "_offer", offer_after_the_last_look, lend_while_submitted),
    (gate.Gate, "rouse_for_the_rest", keep_the_wake_up, spare_leaves),
    (mailboxes.Mailboxes, "has_any", look_into_own_mailbox_only, fill_and_steal),
    (workers.Worker, "_sleep", end_without_a_last_look, idle_thread_ends),
    (bounds.Bound, "leave", free_the_place_after_the_look, blocked_producers),
    (gate.Gate, "take", begin_though_governed, pause_while_taken),
)
"""What is put in the place of what; and the model that then has to fail."""


@pytest.mark.parametrize(("owner", "name", "breach", "model"), BREACHES, ids=names)
def test_a_breach_is_found(
    owner: object,
    name: str,
    breach: Callable[..., object],
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken protocol makes some schedule fail, and the same schedule fails again."""
    if model in IMPATIENT:
        monkeypatch.setattr(workers, "allocate_lock", ImpatientLock)
    monkeypatch.setattr(owner, name, breach)
    with pytest.raises((explorer.DeadlockError, explorer.RaceFound)) as found:
        explore(model, explorer.PCTStrategy(depth=3), 3000)
    with pytest.raises(type(found.value)):
        explorer.replay(model, found.value.failure, include=INCLUDED)
