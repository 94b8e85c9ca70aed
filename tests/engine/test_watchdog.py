"""The watchdog: when it looks, at what, and that it does not look more often than it must."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from tokengate_executor import Token, TokenGateExecutor
from tokengate_executor.engine.watchdog import Watchdog, live_stack


class Worker:
    """A worker, as far as the watchdog sees one."""

    def __init__(self, name: str = "worker") -> None:
        self.name = name
        self.tokens: list[Token[Any]] = []

    def executing(self) -> list[Token[Any]]:
        """The tokens whose calls are on its thread."""
        return self.tokens.copy()


class Post:
    """A watchdog with a clock, timers, workers and a master of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.workers: list[Worker] = [Worker()]
        self.seen: list[tuple[float, str, Token[Any]]] = []
        self.answers: list[float | BaseException] = []
        self.dog = Watchdog(self, lambda: self.workers, self.look_after)  # type: ignore[arg-type, return-value]

    def set(self, when: float, action: Callable[[], object]) -> None:
        """Be the timers."""
        self.timers.append((when, action))

    def look_after(self, worker: Any, token: Token[Any], now: float) -> float:
        """Note who it is, and answer as the test says: by default, never again."""
        self.seen.append((now, worker.name, token))
        answer = self.answers.pop(0) if self.answers else inf
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def start(self, seconds: float, worker: int = 0) -> Token[Any]:
        """Have a worker run a token that is to be looked at in so many seconds."""
        token = Token[Any]()
        token._host = self.workers[worker]  # type: ignore[assignment]
        self.workers[worker].tokens.append(token)
        self.dog.mind(token, self.now + seconds)
        return token

    def end(self, token: Token[Any]) -> None:
        """Have the token's call end."""
        for worker in self.workers:
            if token in worker.tokens:
                worker.tokens.remove(token)

    def pass_time(self, until: float) -> None:
        """Let time go on, and the timers fire, in their order."""
        while due := [timer for timer in self.timers if timer[0] <= until]:
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1]()
        self.now = until


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    """Return a watchdog under a clock of the test's own."""
    post = Post()
    monkeypatch.setattr("tokengate_executor.engine.watchdog.perf_counter", lambda: post.now)
    yield post
    assert post.dog.next_look == min((when for when, _ in post.timers), default=inf)


def test_looks_at_the_moment(post: Post) -> None:
    """Not before it, and once."""
    token = post.start(5.0)
    post.pass_time(4.999)
    assert not post.seen
    post.pass_time(100.0)
    assert post.seen == [(5.0, "worker", token)]
    assert not post.timers


def test_a_call_that_ends_in_time_is_not_looked_at(post: Post) -> None:
    """The timer comes, and finds nobody."""
    post.end(post.start(5.0))
    post.pass_time(100.0)
    assert not post.seen
    assert not post.timers


def test_later_moments_set_no_timer(post: Post) -> None:
    """As long as there is one, calls that start later cost nothing; each is looked at in its time."""
    tokens = []
    for _ in range(100):
        tokens.append(post.start(5.0))
        post.now += 0.01
    assert len(post.timers) == 1
    post.pass_time(100.0)
    assert [token for _, _, token in post.seen] == tokens
    assert [round(now, 2) for now, _, _ in post.seen] == [
        round(5 + number / 100, 2) for number in range(100)
    ]


def test_an_earlier_moment_sets_another(post: Post) -> None:
    """Whatever is minded first, the nearest is looked at first."""
    late, soon = post.start(5.0), post.start(1.0)
    post.pass_time(2.0)
    assert post.seen == [(1.0, "worker", soon)]
    post.pass_time(6.0)
    assert post.seen[1:] == [(5.0, "worker", late)]


def test_looks_again_when_it_is_told_to(post: Post) -> None:
    """Who looks after a call says when to do so again."""
    post.answers = [3.0, 4.5, inf]
    post.start(1.0)
    post.pass_time(100.0)
    assert [now for now, _, _ in post.seen] == [1.0, 3.0, 4.5]


def test_who_fails_to_look_after_one(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    """That is logged; the others are looked after, and that one is left alone."""
    post.answers = [LookupError("no")]
    first, second = post.start(1.0), post.start(1.0)
    post.pass_time(100.0)
    assert [token for _, _, token in post.seen] == [first, second]
    assert "cannot look after unnamed" in caplog.text
    assert "LookupError: no" in caplog.text


def test_a_call_inside_another(post: Post) -> None:
    """Both are on the same thread, and each has its moment."""
    outer, inner = post.start(2.0), post.start(1.0)
    post.pass_time(100.0)
    assert [(now, token) for now, _, token in post.seen] == [(1.0, inner), (2.0, outer)]


def test_only_at_its_host(post: Post) -> None:
    """A token that is tried again is still on the thread where an attempt of it was given up."""
    post.workers.append(Worker("stand-in"))
    token = post.start(1.0)
    post.pass_time(1.0)
    token._host = post.workers[1]  # type: ignore[assignment]
    post.workers[1].tokens.append(token)
    post.dog.mind(token, 3.0)
    post.pass_time(100.0)
    assert post.seen == [(1.0, "worker", token), (3.0, "stand-in", token)]


def test_not_before_its_attempt_has_begun(post: Post) -> None:
    """Claimed again, but not yet started, it has nothing but the moment of its last attempt."""
    token = post.start(1.0)
    token._host = None
    post.pass_time(2.0)
    assert not post.seen


def test_timers_do_not_pile_up(post: Post) -> None:
    """One call that is looked at late, and many that are looked at soon: a timer or two, not many."""
    post.start(1000.0)
    for second in range(500):
        post.end(post.start(0.5))
        post.pass_time(second + 1.0)
    assert len(post.timers) <= 2
    post.pass_time(2000.0)
    assert len(post.seen) == 1
    assert not post.timers


def test_in_a_forked_child(post: Post) -> None:
    """It begins with nothing, and sets a timer for the first call."""
    post.start(1000.0)
    post.end(post.start(0.5))
    post.pass_time(1.0)
    post.timers.clear()
    post.workers[0].tokens.clear()
    post.dog.renew()
    assert post.dog.next_look == inf
    token = post.start(999.0)
    post.pass_time(2000.0)
    assert post.seen == [(1000.0, "worker", token)]


@pytest.mark.timeout(60)
def test_none_is_missed() -> None:
    """Minded by many threads at a tiny switch interval, each call is looked at, and not too soon."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    seen: list[Token[Any]] = []
    try:
        with TokenGateExecutor(8) as executor:
            dog = executor._recovery.watchdog
            all_seen = threading.Event()

            def look_after(_: Any, token: Token[Any], now: float) -> float:
                assert now >= token._look_at
                seen.append(token)
                if len(seen) == 200:
                    all_seen.set()
                return inf

            dog._look_after = look_after

            def mind(number: int) -> None:
                from time import perf_counter

                worker: Any = Worker()
                workers.append(worker)
                for step in range(50):
                    token = Token[Any]()
                    token._host = worker
                    worker.tokens.append(token)
                    dog.mind(token, perf_counter() + ((number + step) % 7) / 1000)

            workers: list[Any] = []
            dog._workers = lambda: list(workers)
            threads = [threading.Thread(target=mind, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert all_seen.wait(30)
    finally:
        sys.setswitchinterval(interval)
    assert len(set(seen)) == len(seen) == 200


def test_live_stack() -> None:
    """Where the thread is, by names of functions; no stack of one that has not started or has ended."""
    inside, release = threading.Event(), threading.Event()

    def wait_here() -> None:
        inside.set()
        release.wait(30)

    thread = threading.Thread(target=wait_here)
    worker: Any = SimpleNamespace(thread=thread)
    assert live_stack(worker) == "(no stack)\n"
    thread.start()
    assert inside.wait(30)
    assert "in wait_here" in live_stack(worker)
    release.set()
    thread.join(30)
    assert live_stack(worker) == "(no stack)\n"
    worker.thread = None
    assert live_stack(worker) == "(no stack)\n"


def test_one_that_begins_again_while_it_is_looked_after(post: Post) -> None:
    """The moment of its next attempt is not overwritten with that of the one that was looked at."""
    token = post.start(1.0)
    token._started_at = 0.0

    def begin_again(worker: Any, token: Token[Any], now: float) -> float:
        post.dog._look_after = post.look_after
        token._started_at = now
        post.dog.mind(token, now + 5.0)
        post.seen.append((now, worker.name, token))
        return inf

    post.dog._look_after = begin_again
    post.answers = [6.0]  # asked at once, as its moment is not known for sure
    post.pass_time(100.0)
    assert [now for now, _, _ in post.seen] == [1.0, 1.0, 6.0]


def test_looks_do_not_multiply(post: Post) -> None:
    """Quick calls beside slow ones that take turns: a look or two for each, however long it goes on."""
    looks: list[float] = []
    look = post.dog._look

    def look_and_count() -> None:
        looks.append(post.now)
        look()

    post.dog._look = look_and_count  # type: ignore[method-assign]
    slow = [post.start(16.0), post.start(16.0)]
    for second in range(300):
        post.end(post.start(0.5))
        if second % 3 == 0:
            post.end(slow.pop(0))
            slow.append(post.start(16.0))
        post.pass_time(second + 1.0)
    first, last = (sum(from_ <= now < from_ + 100 for now in looks) for from_ in (0, 200))
    assert last <= first + 10 <= 200
    assert len(post.timers) <= 5
    post.pass_time(1000.0)
