"""The crew: spares for workers that wait, waits that are refused, and threads that cannot be had."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from concurrent.futures.thread import BrokenThreadPool
from contextvars import ContextVar
from typing import Any, cast

import pytest

from tokengate_executor import (
    AffinityPolicy,
    DeadlockError,
    ForkedError,
    GateFullError,
    RetryPolicy,
    Token,
    TokenGateExecutor,
    TokenState,
    TokenTimeoutError,
    current_token,
)
from tokengate_executor.engine.crew import Crew, make_thread
from tokengate_executor.engine.gate import AFTER_SHUTDOWN
from tokengate_executor.engine.lanes import Lane
from tokengate_executor.engine.workers import Worker
from tokengate_executor.waiting import current_thread

NO_THREAD = "can't start new thread"


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


class Held:
    """A call that has started and stays until it is let go."""

    def __init__(self, executor: Any) -> None:
        self.release = threading.Event()
        started = threading.Event()

        def stay() -> int:
            started.set()
            self.release.wait(30)
            return threading.get_ident()

        self.token = executor.submit(stay)
        assert started.wait(30)


def this_worker() -> Worker:
    """Return the worker whose thread this is."""
    host = current_thread.host
    assert isinstance(host, Worker)
    return host


def counts(crew: Crew) -> list[tuple[int, int, int]]:
    """Return regulars, spares and blocked ones of each lane."""
    return [(lane.regulars, lane.spares, lane.blocked) for lane in crew.gate.lanes]


# -- lending --------------------------------------------------------------------------------------


def test_a_spare_is_lent_for_as_long_as_a_call_waits(one: TokenGateExecutor) -> None:
    """It is one more worker of that lane, and no more once the wait is over."""
    crew = one._crew

    def look() -> list[list[tuple[int, int, int]]]:
        seen = [counts(crew)]
        with this_worker().lending(None, None):
            seen.append(counts(crew))
            with this_worker().lending(None, 1.0):
                seen.append(counts(crew))
            seen.append(counts(crew))
        return [*seen, counts(crew)]

    assert one.submit(look).result(30) == [
        [(1, 0, 0)],
        [(1, 1, 1)],
        [(1, 2, 2)],
        [(1, 1, 1)],
        [(1, 0, 0)],
    ]


def test_a_spare_gets_no_thread_as_long_as_there_is_nothing_to_do(one: TokenGateExecutor) -> None:
    """It is idle and vacant, and gone when the wait is over; the next wait takes the same one."""
    crew = one._crew

    def look() -> list[tuple[int, list[Any]]]:
        seen = []
        for _ in range(5):
            with this_worker().lending(None, None):
                seen.append((len(one._threads), [w.is_spare for w in crew.router.idle]))
        return seen

    assert one.submit(look).result(30) == [(1, [True])] * 5
    assert len(crew.spares) == 1
    assert not any(worker.is_spare for worker in crew.router.idle)


def test_a_spare_ends_when_the_wait_is_over(one: TokenGateExecutor) -> None:
    """It runs what is there meanwhile, is counted as a spare, and its thread ends afterwards."""
    bare: Token[None] = Token()
    spares: list[tuple[threading.Thread, int, int]] = []

    def look() -> None:
        now = one.statistics()
        spares.append((threading.current_thread(), now.workers, now.spare_workers))
        bare.set_result(None)

    def waits() -> None:
        one.submit(look)
        wait([bare])
        spares[0][0].join(30)

    one.submit(waits).result(30)
    ((spare, workers, spare_workers),) = spares
    assert (workers, spare_workers) == (2, 1)
    assert not spare.is_alive()
    now = one.statistics()
    assert (now.workers, now.spare_workers, now.completed) == (1, 0, 2)
    assert spare.name.endswith("_1")


def test_a_spare_that_still_runs_stands_in_again(one: TokenGateExecutor) -> None:
    """If the worker waits once more before its spare has ended, that one simply stays."""
    crew = one._crew
    hold = threading.Event()
    bare: Token[None] = Token()

    def stay() -> None:
        bare.set_result(None)
        hold.wait(30)

    def waits() -> tuple[list[bool], list[bool]]:
        one.submit(stay)
        wait([bare])
        before = [spare.leaving for spare in crew.spares]
        with this_worker().lending(None, None):
            return before, [spare.leaving for spare in crew.spares]

    assert one.submit(waits).result(30) == ([True], [False])
    hold.set()
    one.shutdown()
    assert len(crew.spares) == 1


def test_spares_are_of_the_lane_of_who_waits() -> None:
    """A heavy call that waits does not get a thread for light ones."""
    policy = AffinityPolicy(lanes=2, heavy=(1,), medium=(1,), light=(2,))
    with TokenGateExecutor(2, lanes=2, policy=policy) as executor:
        crew = executor._crew

        def look() -> tuple[list[tuple[int, int, int]], list[int]]:
            with this_worker().lending(None, None):
                return counts(crew), [w.lane_number for w in crew.spares]

        heavy, light = executor.options(weight="heavy"), executor.options(weight="light")
        assert heavy.submit(look).result(30) == ([(1, 1, 1), (1, 0, 0)], [1])
        assert light.submit(look).result(30) == ([(1, 0, 0), (1, 1, 1)], [1, 2])


def test_many_waits_make_few_workers(one: TokenGateExecutor) -> None:
    """However often calls wait, as many spares are made as were lent at a time."""

    def waits() -> None:
        for _ in range(100):
            wait([one.submit(int)])

    one.submit(waits).result(30)
    one.shutdown()
    assert len(one._crew.spares) <= 2
    assert one.statistics().completed == 101


def test_a_spare_that_somebody_rouses_at_once_is_not_roused_twice(
    one: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submitter may take it off the list between its listing and the look for something to do."""
    idle = one._crew.router.idle
    roused: list[Worker] = []

    def take_it(_: object) -> bool:
        roused.append(idle.pop())
        return True

    def waits() -> list[Worker]:
        with monkeypatch.context() as patch:
            patch.setattr(one._gate, "has_work", take_it)
            with this_worker().lending(None, None):
                threads = one._crew.threads
        assert len(threads) == 1, "it has no thread: whoever took it is to start that"
        (spare,) = roused
        idle.append(spare)
        return [spare]

    assert one.submit(waits).result(30) == one._crew.spares


def test_one_that_is_not_to_leave_stays(one: TokenGateExecutor) -> None:
    """A spare that was asked to leave, and is needed again before it has, is told so."""
    crew = one._crew

    def look() -> tuple[bool, bool]:
        with this_worker().lending(None, None):
            (spare,) = crew.spares
            stays = crew.may_leave(spare)
            crew.router.idle.remove(spare)
            spare.leaving = True
            leaves = crew.may_leave(spare)
            spare.leaving = False
            crew._free_spares.remove(spare)
            crew.router.idle.insert(0, spare)
        return stays, leaves

    assert one.submit(look).result(30) == (False, True)


def test_one_that_leaves_passes_on_what_it_was_roused_for(
    one: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are roused for what waits, and who waits for all to be done is told."""
    crew = one._crew
    told: list[str] = []
    monkeypatch.setattr(crew.gate, "tell_watchers", lambda: told.append("watchers"))
    monkeypatch.setattr(crew.gate, "rouse_for_the_rest", lambda: told.append("others"))
    worker = crew.regulars[0]
    assert not crew.may_leave(worker)
    assert told == []
    worker.leaving = True
    crew.leavers.append(worker)
    assert crew.may_leave(worker)
    assert told == ["watchers", "others"]


# -- waits that are refused -----------------------------------------------------------------------


def test_at_the_cap_the_last_worker_of_a_lane_is_refused() -> None:
    """The error names the lane and the number; the wait leaves no trace, and others go on."""
    with TokenGateExecutor(1, max_spare_workers=1) as executor:
        bare: Token[None] = Token()

        def inner() -> str:
            with pytest.raises(DeadlockError) as caught:
                wait([Token()])
            executor.submit(bare.set_result, None)
            return str(caught.value)

        def outer() -> str:
            child = executor.submit(inner)
            wait([child, bare])
            return child.result()

        assert executor.submit(outer).result(30) == (
            "every worker of lane 1 would wait, and all 1 spare workers (max_spare_workers) are lent"
        )
        assert executor.submit(lambda: wait([executor.submit(int)]) and 5).result(30) == 5
        assert counts(executor._crew) == [(1, 0, 0)]


def test_at_the_cap_a_wait_with_a_timeout_is_not_refused() -> None:
    """It ends by itself, so it may."""
    with TokenGateExecutor(1, max_spare_workers=0) as executor:

        def waits() -> None:
            with pytest.raises(TimeoutError):
                executor.submit(int).result(timeout=0.01)

        executor.submit(waits).result(30)
        assert counts(executor._crew) == [(1, 0, 0)]


def test_at_the_cap_another_worker_of_the_lane_is_enough() -> None:
    """With two workers one may wait without a spare; the second one may not."""
    with TokenGateExecutor(2, lanes=1, max_spare_workers=0) as executor:
        bare: Token[int] = Token()
        first = executor.submit(bare.result)
        refused = executor.submit(lambda: wait([first]))
        with pytest.raises(DeadlockError):
            refused.result(30)
        bare.set_result(5)
        assert first.result(30) == 5


def test_what_runs_in_place_needs_no_spare() -> None:
    """Without spares a call may still wait for one that is queued."""
    with TokenGateExecutor(1, max_spare_workers=0) as executor:

        def nest(depth: int) -> int:
            return 1 + executor.submit(nest, depth - 1).result() if depth else 0

        assert executor.submit(nest, 20).result(30) == 20


@pytest.mark.parametrize("size", [2, 3])
def test_a_ring_of_calls_that_wait_for_each_other_is_refused(size: int) -> None:
    """Whoever would close the ring gets the error, so the others come to an end as well."""
    with TokenGateExecutor(size) as executor:
        barrier = threading.Barrier(size + 1)
        tokens: list[Token[str]] = []

        def wait_for_the_next(number: int) -> str:
            barrier.wait(30)
            try:
                return tokens[(number + 1) % size].result()
            except DeadlockError as error:
                return str(error)

        tokens += [executor.submit(wait_for_the_next, number) for number in range(size)]
        barrier.wait(30)
        (text,) = {token.result(30) for token in tokens}
        assert "in a ring" in text
        assert all(worker.waits_for is None for worker in executor._crew.workers)


def test_a_child_that_waits_for_its_parent_is_refused(one: TokenGateExecutor) -> None:
    """Also when it runs in place, inside the parent's own wait."""

    def child(parent: Token[Any]) -> str:
        with pytest.raises(DeadlockError) as caught:
            parent.result()
        return str(caught.value)

    def parent() -> str:
        return one.submit(child, this_worker().current).result()

    assert "parent would" in one.submit(parent).result(30)


def test_a_ring_with_a_timeout_is_not_refused(one: TokenGateExecutor) -> None:
    """It ends by itself."""

    def waits() -> None:
        token = this_worker().current
        assert token is not None
        with pytest.raises(TimeoutError):
            token.result(timeout=0.01)

    one.submit(waits).result(30)


def test_a_wait_for_ones_own_key_is_refused(one: TokenGateExecutor) -> None:
    """A call cannot wait for one that waits for the key that it has; for another key it can."""
    mine, other = one.options(key="mine"), one.options(key="other")

    def waits() -> str:
        assert other.submit(int).result() == 0
        with pytest.raises(DeadlockError) as caught:
            mine.submit(int).result()
        return str(caught.value)

    assert "a key or permit" in mine.submit(waits).result(30)


def test_a_wait_for_ones_own_permit_is_refused() -> None:
    """A call that has the only permit cannot wait for another that needs it."""
    with TokenGateExecutor(1, limits={"one": 1}) as executor:
        limited = executor.options(limits=("one",))
        children: list[Token[int]] = []

        def waits() -> str:
            children.append(limited.submit(int))
            with pytest.raises(DeadlockError) as caught:
                children[0].result()
            return str(caught.value)

        assert "a key or permit" in limited.submit(waits).result(30)
        assert children[0].result(30) == 0


def test_a_wait_for_a_permit_that_comes_back_is_not() -> None:
    """If one of those that have a permit does not wait for this call, it is waited for."""
    with TokenGateExecutor(3, lanes=1, limits={"two": 2}) as executor:
        limited = executor.options(limits=("two",))
        held = Held(limited)
        submitted = threading.Event()

        def waits() -> int:
            child = limited.submit(pow, 2, 3)
            submitted.set()
            return child.result()

        token = limited.submit(waits)
        assert submitted.wait(30)
        held.release.set()
        assert token.result(30) == 8


def test_a_wait_for_others_is_no_ring(one: TokenGateExecutor) -> None:
    """Another executor's token, nobody's, and one that is settled meanwhile end by themselves."""
    with TokenGateExecutor(1) as other:

        def waits() -> list[int]:
            bare: Token[int] = Token()
            other.submit(bare.set_result, 5)
            running = other.submit(bare.result)
            return [bare.result(), running.result(), other.submit(int).result()]

        assert one.submit(waits).result(30) == [5, 5, 0]


# -- threads that cannot be had -------------------------------------------------------------------


class NoThreads:
    """While it is on, no thread can be started; something may happen just before that is found out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.refused = 0
        self.meanwhile: Callable[[], object] | None = None
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if not self.on:
                start(thread)
                return
            self.refused += 1
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                meanwhile()
            raise RuntimeError(NO_THREAD)

        monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> NoThreads:
    """Return the switch."""
    return NoThreads(monkeypatch)


def test_without_a_first_thread_submit_raises(no_threads: NoThreads) -> None:
    """Its token is not left behind, and once there are threads again it works."""
    with TokenGateExecutor(2) as executor:
        no_threads.on = True
        for submit in (executor.submit, executor.options(weight="heavy").submit):
            with pytest.raises(RuntimeError, match=NO_THREAD):
                submit(int)
        now = executor.statistics()
        assert (now.submitted, now.waiting, now.workers) == (0, 0, 0)
        assert executor._threads == set()
        no_threads.on = False
        assert executor.submit(pow, 2, 3).result(30) == 8
        assert executor.statistics().submitted == 1


def test_one_that_relied_on_anothers_thread_fails(no_threads: NoThreads) -> None:
    """A token that came while the first thread was being started fails instead of waiting for ever."""
    with TokenGateExecutor(1) as executor:
        relying: list[Token[int]] = []
        seen: list[Token[int]] = []

        def submit_another() -> None:
            relying.append(executor.submit(int))
            relying[0].add_done_callback(seen.append)

        no_threads.on = True
        no_threads.meanwhile = submit_another
        with pytest.raises(RuntimeError, match=NO_THREAD):
            executor.submit(int)
        assert str(relying[0].exception(0)) == NO_THREAD
        assert seen == relying
        now = executor.statistics()
        assert (now.submitted, now.failed, now.waiting) == (1, 1, 0)
        no_threads.on = False
        assert executor.submit(int).result(30) == 0


def test_the_workers_there_are_go_on(no_threads: NoThreads) -> None:
    """While one runs that may run a call, no second thread is needed for that."""
    with TokenGateExecutor(2, lanes=1) as executor:
        held = Held(executor)
        no_threads.on = True
        tokens = [executor.submit(threading.get_ident) for _ in range(3)]
        assert no_threads.refused == 3
        assert [token.state for token in tokens] == [TokenState.WAITING] * 3
        held.release.set()
        assert {token.result(30) for token in tokens} == {held.token.result(30)}


def test_a_weight_that_no_running_worker_may_run(no_threads: NoThreads) -> None:
    """Its submitter is told, though workers of other lanes are there; these go on."""
    policy = AffinityPolicy(lanes=2, heavy=(1,), medium=(1,), light=(2,))
    with TokenGateExecutor(2, lanes=2, policy=policy) as executor:
        heavy, light = executor.options(weight="heavy"), executor.options(weight="light")
        held = Held(heavy)
        no_threads.on = True
        waiting = heavy.submit(pow, 2, 3)
        with pytest.raises(RuntimeError, match=NO_THREAD):
            light.submit(int)
        assert waiting.state is TokenState.WAITING
        held.release.set()
        assert waiting.result(30) == 8
        no_threads.on = False
        assert light.submit(int).result(30) == 0


def test_a_call_that_needs_a_spare_is_told(no_threads: NoThreads, one: TokenGateExecutor) -> None:
    """It could wait for ever for what is queued behind it; what it did not wait for is run later."""

    def waits() -> None:
        no_threads.on = True
        child = one.submit(int)
        with pytest.raises(RuntimeError, match=NO_THREAD):
            wait([child])
        no_threads.on = False

    one.submit(waits).result(30)
    assert counts(one._crew) == [(1, 0, 0)]
    assert one.submit(lambda: wait([one.submit(int)]) and 5).result(30) == 5
    one.shutdown()
    assert one.statistics().completed == 4


def test_make_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon with an empty context; where daemons are forbidden, one that is none."""
    user: ContextVar[str] = ContextVar("user", default="nobody")
    user.set("alice")
    seen: list[tuple[str, str, bool]] = []

    def look() -> None:
        here = threading.current_thread()
        seen.append((here.name, user.get(), here.daemon))

    class NoDaemons(threading.Thread):
        """As in an interpreter that forbids them."""

        def __init__(self, *, daemon: bool, **options: Any) -> None:
            if daemon:
                raise RuntimeError("daemon thread are not supported in this interpreter")
            super().__init__(daemon=daemon, **options)

    for kind in (threading.Thread, NoDaemons):
        monkeypatch.setattr(threading, "Thread", kind)
        thread = make_thread(look, "made")
        thread.start()
        thread.join()
    assert seen == [("made", "nobody", True), ("made", "nobody", False)]


# -- hiring and letting go ------------------------------------------------------------------------


def test_workers_are_dealt_over_the_lanes() -> None:
    """In turn; all of them are idle and have no thread, the first one next."""
    with TokenGateExecutor(5, lanes=2) as executor:
        crew = executor._crew
        assert [worker.lane_number for worker in crew.regulars] == [1, 2, 1, 2, 1]
        assert [worker.number for worker in crew.router.idle] == [5, 4, 3, 2, 1]
        assert crew.threads == []


def test_resizing_keeps_the_lanes_even() -> None:
    """The fullest lane gives, the emptiest gets, and who left is taken on again with its counters."""
    with TokenGateExecutor(4, lanes=2) as executor:
        crew = executor._crew
        first = executor.submit(int)
        assert first.result(30) == 0
        executor.resize(2)
        assert [lane.regulars for lane in crew.gate.lanes] == [1, 1]
        assert len(crew.retired) == 2
        executor.resize(5)
        assert sorted(lane.regulars for lane in crew.gate.lanes) == [2, 3]
        assert (len(crew.regulars), crew.retired, crew._hired) == (5, [], 5)
        assert executor.statistics().completed == 1


def test_a_worker_too_many_ends_after_its_call() -> None:
    """It is none of the regulars at once, and its call is finished."""
    with TokenGateExecutor(2, lanes=1) as executor:
        crew = executor._crew
        first, second = Held(executor), Held(executor)
        threads = executor._threads
        executor.resize(1)
        assert (len(crew.regulars), len(crew.leavers)) == (1, 1)
        leaver = crew.leavers[0]
        first.release.set()
        second.release.set()
        assert {first.token.result(30), second.token.result(30)} == {t.ident for t in threads}
        assert leaver.thread is not None
        leaver.thread.join(30)
        assert (crew.leavers, crew.retired) == ([], [leaver])


def test_is_any_busy(one: TokenGateExecutor) -> None:
    """A worker is until it is idle; one that asks does not mean itself."""
    crew = one._crew
    assert not crew.is_any_busy()
    held = Held(one)
    assert crew.is_any_busy()
    held.release.set()
    assert not one.submit(crew.is_any_busy).result(30)


def test_is_own_worker(one: TokenGateExecutor) -> None:
    """A thread is one only of its own crew."""
    crew = one._crew
    assert not crew.is_own_worker()
    assert one.submit(crew.is_own_worker).result(30)
    with TokenGateExecutor(1) as other:
        assert not other.submit(crew.is_own_worker).result(30)


def test_guests_count_what_callers_run() -> None:
    """A call that its submitter runs is in the statistics; guests are used again, and have no thread."""
    with TokenGateExecutor(1, max_pending=1, on_full="caller_runs") as executor:
        held = Held(executor)
        queued = executor.submit(int)
        tokens = [executor.submit(pow, 2, number) for number in range(3)]
        assert [token.result(0) for token in tokens] == [1, 2, 4]
        crew = executor._crew
        assert len(crew.guests) == 1
        assert crew.guests[0].thread is None
        assert {token.id for token in tokens} == {f"{crew.guests[0].number}-{n}" for n in range(3)}
        now = executor.statistics()
        assert (now.completed, now.executing, now.workers) == (3, 1, 1)
        held.release.set()
        assert queued.result(30) == 0


def test_a_worker_that_submits_to_its_full_executor_is_no_guest() -> None:
    """It runs the call itself, inside the one that it runs, and counts it as its own."""
    with TokenGateExecutor(1, max_pending=1, on_full="caller_runs") as executor:

        def fills() -> tuple[list[int], list[Token[Any]]]:
            tokens = [executor.submit(threading.get_ident) for _ in range(3)]
            return [threading.get_ident(), *(token.result(0) for token in tokens[1:])], tokens

        idents, tokens = executor.submit(fills).result(30)
        assert len(set(idents)) == 1
        assert tokens[0].result(30) == idents[0]
        assert executor._crew.guests == []


def test_what_may_not_start_is_run_by_no_caller() -> None:
    """While something is paused the submitter is refused instead, and leaves no trace."""
    with TokenGateExecutor(1, max_pending=1, on_full="caller_runs") as executor:
        executor.pause()
        queued = executor.submit(int)
        ran: list[int] = []
        with pytest.raises(GateFullError):
            executor.submit(ran.append, 1)
        assert executor._crew.guests[0].current is None
        assert current_token() is None
        executor.resume()
        assert (queued.result(30), ran) == (0, [])


def test_an_interrupt_in_a_call_that_its_caller_runs_is_the_callers() -> None:
    """It was meant for that thread; other exceptions are the token's alone."""

    def throw(kind: type[BaseException]) -> None:
        raise kind

    with TokenGateExecutor(1, max_pending=1, on_full="caller_runs") as executor:
        held = Held(executor)
        executor.submit(int)
        assert isinstance(executor.submit(throw, SystemExit).exception(0), SystemExit)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(throw, KeyboardInterrupt)
        assert current_token() is None
        assert executor.statistics().failed == 2
        held.release.set()


def test_a_drain_waits_for_what_a_caller_runs() -> None:
    """It is told when that ends."""
    with TokenGateExecutor(1, max_pending=1, on_full="caller_runs") as executor:
        held = Held(executor)
        executor.submit(int)
        reports: list[bool] = []

        def drain() -> None:
            reports.append(executor.drain().is_complete)

        def stay() -> None:
            drainer.start()
            while not executor.statistics().is_draining:
                pass
            held.release.set()

        drainer = threading.Thread(target=drain)
        executor.submit(stay)
        drainer.join(30)
        assert reports == [True]
        executor.resume()


# -- ending ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["cancel", "break"])
def test_ending_what_waits(
    end: str, one: TokenGateExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything that waits is settled, once, also what a callback of another one settles first."""
    crew = one._crew
    held = Held(one)
    tokens = [one.submit(int) for _ in range(4)]
    tokens.append(one.options(key="k").submit(int))
    tokens[0].add_done_callback(lambda _: tokens[2].cancel())
    if end == "cancel":
        one._gate.close(AFTER_SHUTDOWN)
        crew.cancel_waiting()
    else:
        crew.break_down()
    kinds = [type(token.exception(0)) for token in tokens if not token.cancelled()]
    assert kinds == ([] if end == "cancel" else [BrokenThreadPool] * 4)
    assert all(token.done() for token in tokens)
    held.release.set()
    one.shutdown()
    now = one.statistics()
    assert (now.submitted, now.waiting, now.completed) == (6, 0, 1)
    assert (now.cancelled, now.failed) == ((5, 0) if end == "cancel" else (1, 4))
    assert caplog.records == []


def test_beginning_again() -> None:
    """As in a forked child: what waited has failed, and all workers are new and without threads."""
    with TokenGateExecutor(2, lanes=2, limits={"one": 1}) as executor:
        crew, gate = executor._crew, executor._gate
        gate.idle.clear()  # so that nobody is roused
        queued = [executor.submit(int), executor.options(weight="heavy").submit(int)]
        gate.lanes[0].mailbox.append(gate.routes[None].backlog.popleft())
        crew.begin_again()
        governed = executor.options(limits=("one",))
        gate.idle.clear()
        queued.append(governed.submit(int))
        executor.statistics()  # it is sorted in
        before = set(crew.regulars)
        crew._lock.acquire()
        crew.begin_again()
        assert [type(token.exception(0)) for token in queued] == [ForkedError] * 3
        assert before.isdisjoint(crew.regulars)
        assert set(crew.router.idle) == set(crew.regulars)
        assert crew.generation == 2
        assert governed.submit(pow, 2, 3).result(30) == 8
        assert executor.statistics().submitted == 1


# -- joining --------------------------------------------------------------------------------------


def test_join_waits_for_threads_that_start_meanwhile(one: TokenGateExecutor) -> None:
    """A spare that a last call needs is joined, too."""
    spares: list[threading.Thread] = []

    def waits() -> None:
        go.wait(30)
        wait([child])

    go = threading.Event()
    token = one.submit(waits)
    child = one.submit(lambda: spares.append(threading.current_thread()))
    one.shutdown(wait=False)
    go.set()
    one._crew.join()
    assert token.done()
    assert len(spares) == 1
    assert not any(thread.is_alive() for thread in one._threads | set(spares))


def test_join_waits_for_the_timers(one: TokenGateExecutor) -> None:
    """Their thread ends with the others."""
    assert one.options(queue_timeout=30).submit(int).result(30) == 0
    timers = one._gate.timers.thread
    assert timers is not None
    assert timers.is_alive()
    one.shutdown()
    assert not timers.is_alive()


def test_a_worker_that_joins_does_not_wait_for_itself(one: TokenGateExecutor) -> None:
    """It returns, and its thread goes on."""
    ident = one.submit(lambda: (one._crew.join(), threading.get_ident())[1]).result(30)
    assert one.submit(threading.get_ident).result(30) == ident


# -- ending beside something else -----------------------------------------------------------------

AGAIN = RetryPolicy(2, ValueError, delay=0.0, jitter=None, budget=None)


class Failing:
    """A call that stays until it is let go, and then fails, but only once and if it is told to."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()
        self.fails = False

    def __call__(self) -> None:
        """Stay, and fail."""
        self.started.set()
        self.release.wait(10)
        if self.fails:
            self.fails = False
            raise ValueError


def result_soon(token: Token[Any]) -> Any:
    """Return its result; one that was lost is cancelled, so that its executor can end."""
    try:
        return token.result(5)
    finally:
        token.cancel()


def end_of(worker: Worker) -> None:
    """Wait for the end of its thread."""
    assert worker.thread is not None
    worker.thread.join(10)
    assert not worker.thread.is_alive()


def test_the_last_worker_does_not_leave_because_it_is_a_spare(one: TokenGateExecutor) -> None:
    """While the executor ends, a call that it is to try again may need its thread."""
    call = Failing()
    call.fails = True
    tokens: list[Token[None]] = []

    def waits() -> None:
        with this_worker().lending(None, None):
            tokens.append(one.options(retry=AGAIN).submit(call))
            assert call.started.wait(10)

    one.submit(waits).result(10)
    one.shutdown(wait=False)
    end_of(one._crew.regulars[0])
    call.release.set()
    result_soon(tokens[0])
    assert tokens[0].attempts == 2


def test_the_last_worker_does_not_leave_because_it_was_let_go() -> None:
    """As a spare, one that `resize` has found dispensable ends with the others, not before."""
    with TokenGateExecutor(2, lanes=1, retry=AGAIN) as executor:
        crew = executor._crew
        calls = [Failing(), Failing()]
        tokens = [executor.submit(call) for call in calls]
        for call in calls:
            assert call.started.wait(10)
        executor.resize(1)
        (leaver,) = crew.leavers
        last, first = sorted(range(2), key=lambda number: tokens[number] is not leaver.current)
        calls[last].fails = True
        executor.shutdown(wait=False)
        calls[first].release.set()
        end_of(crew.regulars[0])
        calls[last].release.set()
        result_soon(tokens[last])
        assert tokens[last].attempts == 2


def test_the_executor_is_shut_down_as_a_spare_is_offered(
    one: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vacancy stays where it is, so the token that was found for it is run."""
    gate, idle = one._gate, one._crew.router.idle
    has_work = gate.has_work
    shut_down: list[bool] = []

    def look(lane: Lane) -> bool:
        found = has_work(lane)
        if found and not shut_down and any(worker.is_spare for worker in idle):
            shut_down.append(True)
            one.shutdown(wait=False)
        return found

    monkeypatch.setattr(gate, "has_work", look)

    def waits() -> int:
        child = one.options(timeout=1000).submit(int, "5")  # so that it is not run in place
        return cast("int", result_soon(child))

    assert one.submit(waits).result(10) == 5
    assert shut_down == [True]


def test_the_timers_go_on_for_one_that_comes_back_between_two_looks(
    one: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread ran when it was away, and it was not away any more when its thread ran."""
    gate, running = one._gate, one._crew._running
    closed: list[None] = []
    thread = threading.Thread()

    class Away(set[Token[Any]]):
        def __bool__(self) -> bool:
            running.add(thread)  # just before it was taken off this list
            return False

    gate.is_ending = True
    with monkeypatch.context() as context:
        context.setattr(gate.timers, "close", lambda: closed.append(None))
        context.setattr(gate, "away", Away())
        one._crew.end_timers()
        assert closed == []
        context.setattr(gate, "away", set())
        running.discard(thread)
        one._crew.end_timers()
        assert closed == [None]


def test_a_caller_shuts_down_in_the_call_that_it_runs() -> None:
    """As a worker does, it waits for all but itself, and the timers end afterwards."""
    executor = TokenGateExecutor(1, max_pending=1, on_full="caller_runs")
    executor.options(queue_timeout=1000).submit(int).result(10)  # so that there are timers
    timers = executor._gate.timers.thread
    assert timers is not None
    held = Held(executor)
    executor.submit(int)

    def end() -> None:
        held.release.set()
        executor.shutdown()

    caller = threading.Thread(target=lambda: executor.submit(end))
    caller.start()
    try:
        for thread in (caller, timers):
            thread.join(10)
            assert not thread.is_alive()
    finally:
        executor._gate.timers.close()  # or whoever waits for them would do so for ever


def test_a_call_of_a_callers_that_was_cut_off_is_not_waited_for() -> None:
    """Neither by `shutdown` nor by the timers, however long its caller is in it."""
    with TokenGateExecutor(1, max_pending=1, on_full="caller_runs") as executor:
        held = Held(executor)
        executor.submit(int)
        release = threading.Event()
        tokens: list[Token[Any] | None] = []

        def stay() -> None:
            tokens.append(current_token())
            started.set()
            release.wait(30)

        started = threading.Event()
        view = executor.options(timeout=0.001)
        caller = threading.Thread(target=lambda: view.submit(stay))
        caller.start()
        try:
            assert started.wait(10)
            (token,) = tokens
            assert token is not None
            assert isinstance(token.exception(10), TokenTimeoutError)
            held.release.set()
            stopper = threading.Thread(target=executor.shutdown)
            stopper.start()
            stopper.join(10)
            assert not stopper.is_alive()
            assert caller.is_alive()
        finally:
            release.set()
            held.release.set()
            caller.join(10)


def test_a_callers_call_is_tried_again_after_a_shutdown() -> None:
    """Shut down while its caller runs it, an executor keeps a worker for its next attempt."""
    executor = TokenGateExecutor(1, max_pending=1, on_full="caller_runs")
    held = Held(executor)
    executor.submit(int)
    runs: list[None] = []

    def call() -> int:
        runs.append(None)
        if len(runs) == 1:
            executor.shutdown(wait=False)
            held.release.set()
            while executor._crew.regulars[0] not in executor._gate.idle:
                pass  # it has nothing to do, and sees that it may not end
            raise ValueError
        return 5

    assert result_soon(executor.options(retry=AGAIN).submit(call)) == 5
    executor.shutdown()
