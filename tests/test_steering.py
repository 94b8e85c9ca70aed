"""Pause, resume, drain, purge, kill, resize: while calls come, wait and run."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tokengate_executor import (
    InvalidOptionError,
    Token,
    TokenGateExecutor,
    TokenKilledError,
    TokenState,
    current_token,
)


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


class Held:
    """A call that has started and stays until it is let go."""

    def __init__(self, executor: TokenGateExecutor) -> None:
        self.release = threading.Event()
        started = threading.Event()

        def stay() -> int:
            started.set()
            self.release.wait(30)
            return 7

        self.token = executor.submit(stay)
        assert started.wait(30)


def test_pause_lets_nothing_through_after_it_returns() -> None:
    """With producers that never stop, no call starts between the end of `pause` and `resume`."""
    with TokenGateExecutor(4, lanes=2) as executor:
        starts: list[float] = []
        done = threading.Event()

        def produce() -> None:
            while not done.is_set():
                executor.submit(lambda: starts.append(time.perf_counter()))
                if executor._work_queue.qsize() > 500:
                    time.sleep(0)

        producers = [threading.Thread(target=produce) for _ in range(2)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for producer in producers:
                producer.start()
            for _ in range(60):
                executor.pause()
                running = executor.statistics().executing
                before = len(starts)
                executor.statistics()  # some time passes, and many are submitted
                # Those that had started by then may still come to their first line.
                assert len(starts) - before <= running
                executor.resume()
            done.set()
            for producer in producers:
                producer.join(30)
        finally:
            done.set()
            sys.setswitchinterval(interval)
    now = executor.statistics()
    assert now.completed == now.submitted == len(starts)


def test_pause_one_operation(one: TokenGateExecutor) -> None:
    """Calls of its name wait, others pass; resuming by name lets them go."""
    one.pause("red")
    red = one.options(operation="red").submit(int)
    assert one.options(operation="blue").submit(int).result(30) == 0
    now = one.statistics()
    assert (now.paused_operations, now.parked, now.is_paused) == (("red",), 1, False)
    assert not red.done()
    one.resume()  # of everything, which does not name it
    assert one.submit(int).result(30) == 0
    assert not red.done()
    one.resume("red")
    assert red.result(30) == 0
    assert one.statistics().paused_operations == ()


def test_pause_by_the_functions_own_name(one: TokenGateExecutor) -> None:
    """Without an `operation`, it is the module and qualified name."""
    one.pause("builtins.int")
    token = one.submit(int)
    assert one.submit(float).result(30) == 0.0
    assert not token.done()
    one.resume("builtins.int")
    assert token.result(30) == 0


def test_pause_and_resume_give_the_speed_back(one: TokenGateExecutor) -> None:
    """After the last `resume` nothing is left of what pausing needs, and the order is kept."""
    order: list[int] = []
    one.pause()
    tokens = [one.submit(order.append, number) for number in range(100)]
    assert one.gate.governor is not None
    one.resume()
    for token in tokens:
        token.result(30)
    assert order == list(range(100))
    assert one.gate.governor is None


def test_nested_wait_respects_a_pause(one: TokenGateExecutor) -> None:
    """A worker that waits for a paused child does not run it in place."""
    one.pause("builtins.int")
    child_ran: list[bool] = []

    def parent() -> int:
        child = one.submit(int)
        child_ran.append(child.done())
        return child.result(30)

    token = one.submit(parent)
    while one.statistics().parked != 1:
        time.sleep(0)
    assert not token.done()
    one.resume("builtins.int")
    assert token.result(30) == 0


def test_drain_finishes_and_reopens(one: TokenGateExecutor) -> None:
    """Everything that is there is finished; outsiders are refused meanwhile; `resume` reopens."""
    held = Held(one)
    child: list[int] = []

    def parent() -> None:
        child.append(one.submit(int, "5").result(30))  # part of what is there

    tokens = [one.submit(parent), one.submit(int)]
    releaser = threading.Thread(target=held.release.set)
    releaser.start()
    report = one.drain()
    releaser.join()
    assert report.is_complete
    assert report.left == ()
    assert all(token.done() for token in tokens)
    assert child == [5]
    assert one.statistics().is_draining
    with pytest.raises(RuntimeError, match=r"while the executor is drained: resume\(\) opens it"):
        one.submit(int)
    one.resume()
    assert one.submit(int, "3").result(30) == 3


def test_drain_reports_what_is_left(one: TokenGateExecutor) -> None:
    """When the time is over it says what runs and what waits, oldest first."""
    held = Held(one)
    waiting = one.options(operation="waits").submit(int)
    report = one.drain(timeout=0.01)
    assert not report.is_complete
    assert report.seconds >= 0.01
    assert [left.state for left in report.left] == [TokenState.EXECUTING, TokenState.WAITING]
    assert [left.token_id for left in report.left] == [held.token.id, waiting.id]
    assert report.left[1].operation == "waits"
    held.release.set()
    assert one.drain(timeout=30).is_complete


def test_drain_inside_a_call_does_not_wait_for_it(one: TokenGateExecutor) -> None:
    """A call may drain its own executor."""
    assert one.submit(lambda: one.drain(timeout=30).is_complete).result(30)


def test_drain_sees_what_is_cancelled_meanwhile(one: TokenGateExecutor) -> None:
    """A paused token that is cancelled is done, and ends the drain without a worker's help."""
    one.pause()
    token = one.submit(int)
    canceller = threading.Thread(target=token.cancel)
    canceller.start()
    assert one.drain(timeout=30).is_complete
    canceller.join()


def test_drain_under_load() -> None:
    """Producers run into the closed gate; whatever was accepted is finished when it returns."""
    with TokenGateExecutor(3, lanes=2) as executor:
        accepted: list[Token[int]] = []
        refused = threading.Semaphore(0)

        def produce() -> None:
            try:
                while True:
                    accepted.append(executor.submit(int))
            except RuntimeError:
                refused.release()

        producers = [threading.Thread(target=produce) for _ in range(3)]
        for producer in producers:
            producer.start()
        assert executor.drain(timeout=60).is_complete
        for producer in producers:
            producer.join(30)
        assert all(token.done() for token in accepted)
        assert executor.statistics().completed == len(accepted)


def test_purge(one: TokenGateExecutor) -> None:
    """What waits is cancelled, all of it or one operation's, and counted; what runs goes on."""
    held = Held(one)
    red = [one.options(operation="red").submit(int) for _ in range(5)]
    blue = [one.submit(int) for _ in range(3)]
    assert one.purge("red") == 5
    assert all(token.cancelled() for token in red)
    assert not any(token.done() for token in blue)
    assert one.purge() == 3
    assert one.purge() == 0
    held.release.set()
    assert held.token.result(30) == 7
    now = one.statistics()
    assert (now.cancelled, now.completed, now.failed) == (8, 1, 0)


def test_kill_a_waiting_token(one: TokenGateExecutor) -> None:
    """By its id: it is settled at once, as cancelled, with an error of its own."""
    held = Held(one)
    token, other = one.submit(int), one.submit(int)
    assert one.kill(token.id) == 1
    assert token.state is TokenState.KILLED
    assert token.cancelled()
    with pytest.raises(TokenKilledError, match=r"builtins\.int was killed"):
        token.result()
    assert one.kill(token.id) == 0
    held.release.set()
    assert other.result(30) == 0


def test_kill_a_running_token(one: TokenGateExecutor) -> None:
    """Its call is asked to end, and does so at its next checkpoint; that is no failure."""
    started = threading.Event()

    def work() -> None:
        token = current_token()
        assert token is not None
        assert not token.kill_requested
        started.set()
        while True:
            token.checkpoint()
            time.sleep(0)

    token = one.submit(work)
    assert started.wait(30)
    assert one.kill(token.id) == 1
    assert one.kill(token.id) == 0  # it has been asked
    with pytest.raises(TokenKilledError):
        token.result(30)
    assert token.state is TokenState.KILLED
    now = one.statistics()
    assert (now.failed, now.cancelled, now.executing) == (0, 1, 0)
    assert one.history()[-1].state is TokenState.KILLED


def test_a_call_may_ignore_a_kill(one: TokenGateExecutor) -> None:
    """One that does not ask ends as it would have."""
    held = Held(one)
    assert one.kill(held.token.id) == 1
    held.release.set()
    assert held.token.result(30) == 7
    assert held.token.state is TokenState.COMPLETED


def test_kill_an_operation(one: TokenGateExecutor) -> None:
    """What waits and what runs of it, nested calls included."""
    inside = threading.Event()
    release = threading.Event()

    def child() -> None:
        inside.set()
        release.wait(30)

    def parent() -> None:
        one.options(operation="red").submit(child).result(30)

    one.options(operation="red").submit(parent)
    waiting = one.options(operation="red").submit(int)
    assert inside.wait(30)
    assert one.kill(operation="red") == 3
    assert waiting.state is TokenState.KILLED
    release.set()


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        (lambda one: one.kill(), "token_id must be given, or operation instead"),
        (lambda one: one.kill("0-1", operation="x"), "token_id must be given, or operation"),
        (lambda one: one.kill(7), "token_id must be a non-empty string or None, not 7"),
        (lambda one: one.pause(""), "operation must be a non-empty string or None, not ''"),
        (lambda one: one.resume(3), "operation must be a non-empty string or None, not 3"),
        (lambda one: one.purge(int), "operation must be a non-empty string or None, not <class"),
        (lambda one: one.drain(-1), "timeout must be seconds, at least 0, or None, not -1"),
        (lambda one: one.resize(0), "max_workers must be an int of at least 1, not 0"),
        (lambda one: one.resize(1.5), "max_workers must be an int of at least 1, not 1.5"),
    ],
)
def test_wrong_arguments(
    one: TokenGateExecutor, verb: Callable[[TokenGateExecutor], object], text: str
) -> None:
    """The error names the argument, what is allowed and what was given."""
    with pytest.raises(InvalidOptionError, match=text):
        verb(one)


def test_after_shutdown() -> None:
    """Pausing and draining are refused with the standard library's text; the rest finds nothing."""
    executor = TokenGateExecutor(1)
    executor.shutdown()
    for verb in (executor.pause, executor.drain):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            verb()
    executor.resume()
    assert (executor.purge(), executor.kill("1-0")) == (0, 0)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(int)


def meet(executor: TokenGateExecutor, number: int) -> None:
    """So many calls run at once."""
    everyone = threading.Barrier(number)
    for token in [executor.submit(everyone.wait, 30) for _ in range(number)]:
        token.result(30)


def started_threads(executor: TokenGateExecutor) -> int:
    """How many worker threads live."""
    return sum(thread.is_alive() for thread in executor._threads)


def test_resize_up_and_down() -> None:
    """More workers count at once, also for what waits; surplus ones end; counters are kept."""
    with TokenGateExecutor(2, lanes=2) as executor:
        everyone = threading.Barrier(6)
        tokens = [executor.submit(everyone.wait, 30) for _ in range(6)]
        executor.resize(6)
        for token in tokens:
            token.result(30)
        assert executor._max_workers == 6
        for _ in range(3):
            executor.resize(3)
            while started_threads(executor) > 3:
                time.sleep(0)
            meet(executor, 3)
            executor.resize(8)
            meet(executor, 8)
        with pytest.raises(InvalidOptionError, match="max_workers must be an int of at least 2"):
            executor.resize(1)
    now = executor.statistics()
    assert now.completed == now.submitted == 6 + 3 * 11


def test_resize_down_lets_calls_end() -> None:
    """A worker too many runs its present call to the end."""
    with TokenGateExecutor(2, lanes=1) as executor:
        first, second = Held(executor), Held(executor)
        executor.resize(1)
        third = executor.submit(int)
        second.release.set()
        first.release.set()
        assert [token.result(30) for token in (first.token, second.token, third)] == [7, 7, 0]


def test_idle_workers_end_and_come_back() -> None:
    """After `keep_alive` seconds without a call the threads end; the next call starts one."""
    with TokenGateExecutor(4, keep_alive=0.01) as executor:
        for _ in range(3):
            meet(executor, 4)
            while started_threads(executor):
                time.sleep(0)
            assert executor.statistics().workers == 0
        assert executor.submit(int).result(30) == 0


def test_keep_alive_loses_no_call() -> None:
    """Calls that come just as threads end are run all the same."""
    with TokenGateExecutor(3, lanes=2, keep_alive=0.0005) as executor:
        for number in range(300):
            tokens = [executor.submit(int) for _ in range(number % 4 + 1)]
            for token in tokens:
                assert token.result(30) == 0
            time.sleep(0.0005)  # about when they end: not to wait for anything
    now = executor.statistics()
    assert now.completed == now.submitted


def test_surplus_workers_become_idle_first() -> None:
    """One call after the other is run by one worker, whatever the others are there for."""
    with TokenGateExecutor(4) as executor:
        meet(executor, 4)
        names = {executor.submit(threading.current_thread).result(30).name for _ in range(50)}
        assert len(names) <= 2  # the one that was not yet idle again may be spared once


def draining(executor: TokenGateExecutor) -> tuple[threading.Thread, list[bool]]:
    """Return the thread that drains it and waits, and a list for whether all was finished."""
    reports: list[bool] = []
    drainer = threading.Thread(
        target=lambda: reports.append(executor.drain().is_complete), daemon=True
    )
    drainer.start()
    while not executor._gate.watchers:
        time.sleep(0)
    return drainer, reports


def test_drain_beside_a_resume_of_an_operation(one: TokenGateExecutor) -> None:
    """What `drain` needs to be told of the end stays as long as it waits."""
    held = Held(one)
    drainer, reports = draining(one)
    one.resume("anything")
    held.release.set()
    drainer.join(10)
    one._gate.tell_watchers()  # whoever has not been told ends with the test
    assert reports == [True]


def test_drain_beside_a_shutdown(one: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that end for good say so: one that was still there at the last look is the last."""
    crew = one._crew
    ends, has_looked = threading.Event(), threading.Event()
    note_ended, is_any_busy = crew.note_ended, crew.is_any_busy

    def note_ended_late(thread: threading.Thread) -> None:
        ends.set()
        one._gate.tell_watchers()  # so that it looks now
        assert has_looked.wait(10)
        note_ended(thread)

    def look() -> bool:
        is_busy = is_any_busy()
        if ends.is_set():
            has_looked.set()
        return is_busy

    monkeypatch.setattr(crew, "note_ended", note_ended_late)
    monkeypatch.setattr(crew, "is_any_busy", look)
    held = Held(one)
    drainer, reports = draining(one)
    one.shutdown(wait=False)
    held.release.set()
    drainer.join(10)
    one._gate.tell_watchers()
    assert reports == [True]


def test_drain_does_not_reopen_what_is_shut_down(
    one: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shut down just as it begins to drain, an executor stays so, and is no longer to be resumed."""
    module = "tokengate_executor.engine.steering.perf_counter"

    def shut_down() -> float:
        monkeypatch.setattr(module, time.perf_counter)
        one.shutdown()
        return time.perf_counter()

    monkeypatch.setattr(module, shut_down)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        one.drain(timeout=1)
    one.resume()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        one.submit(int)
