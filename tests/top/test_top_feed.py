"""Following a dashboard from a thread of its own, also over the times at which it is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from queue import Queue
from typing import Any, Self, cast

import pytest

from tokengate_executor.top.client import DashboardClient, RefusedError, UnreachableError
from tokengate_executor.top.feed import Feed, FeedState, delays


class ScriptedClient:
    """Plays what a dashboard does: snapshots, errors, and holds until it is closed.

    Args:
        connections: what each connection comes to, one after the other; the last one holds.
        entries: what ``enter`` raises, one after the other, if anything.
    """

    def __init__(self, *connections: list[Any], entries: tuple[Exception | None, ...] = ()) -> None:
        self.connections = list(connections)
        self.entries = list(entries)
        self.entered = 0
        self.closed = threading.Event()

    def enter(self) -> None:
        """Count it, and raise what is next."""
        self.entered += 1
        error = self.entries.pop(0) if self.entries else None
        if error is not None:
            raise error

    def snapshots(self) -> Iterator[Any]:
        """Play the next connection."""
        for step in self.connections.pop(0):
            if isinstance(step, BaseException):
                raise step
            yield step
        self.closed.wait(30)

    def close(self) -> None:
        """Let go of what holds."""
        self.closed.set()


class Following:
    """A feed that is started, and the states that it had when it woke us."""

    def __init__(
        self, client: ScriptedClient, delays: Callable[[], Iterator[float]] | None = None
    ) -> None:
        self.states: Queue[FeedState] = Queue()
        self.feed = Feed(
            cast("DashboardClient", client),
            lambda: self.states.put(self.feed.state),
            delays or (lambda: iter([0.0] * 50)),
        )

    def __enter__(self) -> Self:
        self.feed.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.feed.stop()

    def next(self) -> FeedState:
        """Return the state at the next waking."""
        return self.states.get(timeout=30)


LOST = UnreachableError("lost")


def test_start_waits_for_the_first_snapshot() -> None:
    """Then there is something to be shown."""
    with Following(ScriptedClient([{"a": 1}, {"a": 2}])) as following:
        assert following.feed.state.snapshot in ({"a": 1}, {"a": 2})
        assert following.next() == FeedState({"a": 1})
        assert following.next() == FeedState({"a": 2})


@pytest.mark.parametrize("error", [LOST, RefusedError("no"), MemoryError("odd")])
def test_no_first_snapshot(error: Exception) -> None:
    """It gives up, whatever the reason, and says so."""
    client = ScriptedClient([error])
    with Following(client) as following:
        assert following.feed.state == FeedState(ended=error)
        assert client.entered == 0


def test_a_dashboard_that_is_gone_for_a_while() -> None:
    """The last snapshot stays, with what is wrong, until there is another one."""
    client = ScriptedClient([{"a": 1}, LOST], [LOST], [{"a": 2}])
    with Following(client) as following:
        seen = [following.next() for _ in range(6)]
    assert [state.snapshot for state in seen] == [{"a": 1}] * 5 + [{"a": 2}]
    assert [state.trouble for state in seen] == ["", "lost", "lost", "lost", "lost", ""]
    assert [state.retry_at is None for state in seen] == [True, False, True, False, True, True]
    assert client.entered == 2


def test_who_is_not_let_in_again_gives_up() -> None:
    """A password that has changed will not be right the next time."""
    refused = RefusedError("the password is wrong")
    client = ScriptedClient([{"a": 1}, LOST], [], entries=(LOST, refused))
    with Following(client) as following:
        while (state := following.next()).ended is None:
            assert state.snapshot == {"a": 1}
    assert state.ended is refused
    assert client.entered == 2


def test_a_fault_of_our_own_is_not_swallowed() -> None:
    """Whoever looks gets it."""
    fault = ZeroDivisionError("ours")
    with Following(ScriptedClient([{"a": 1}, fault])) as following:
        assert following.next().ended is None
        assert following.next().ended is fault


def test_delays_begin_anew_after_success() -> None:
    """A server that is back is trusted again."""
    made: list[list[float]] = []

    def waits() -> Iterator[float]:
        taken: list[float] = []
        made.append(taken)
        while True:
            taken.append(0.0)
            yield 0.0

    client = ScriptedClient([{}, LOST], [LOST], [LOST], [{}, LOST], [{}])
    with Following(client, waits) as following:
        while client.connections or following.feed.state.trouble:
            following.next()
    assert [len(taken) for taken in made if taken] == [3, 1]


def test_stop_ends_a_long_wait() -> None:
    """Nobody waits for a server any more that nobody looks at."""
    following = Following(ScriptedClient([{}, LOST], []), lambda: iter([3600.0]))
    with following:
        assert following.next().trouble == ""
        assert following.next().retry_at is not None
    following.feed._thread.join(30)
    assert not following.feed._thread.is_alive()


def test_delays() -> None:
    """Each is up to twice the one before, up to ten seconds, and they are never quite equal."""
    found = list(islice(delays(), 40))
    for index, delay in enumerate(found):
        longest = min(0.5 * 2**index, 10.0)
        assert 0.75 * longest <= delay <= longest
    assert len(set(found)) == 40
