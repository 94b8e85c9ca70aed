"""The feed: pacing, what is sent to whom, how readers come and go; on a clock that the tests move."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tokengate_executor.dashboard import feed as feeds
from tokengate_executor.dashboard.feed import Edition, Feed, Reason
from tokengate_executor.dashboard.patches import JsonObject, apply


class Channel:
    """A socket whose other side is the test."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.sent: list[JsonObject] = []
        self.news = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.closed: int | None = None
        self.is_gone = False

    async def receive(self) -> str | bytes | None:
        """What the client sent."""
        return await self.incoming.get()

    async def send(self, text: str) -> None:
        """Waits while the client does not read."""
        await self.reads.wait()
        if self.is_gone:
            raise ConnectionResetError
        self.sent.append(json.loads(text))
        self.news.set()

    async def close(self, code: int) -> None:
        """Waits likewise."""
        await self.reads.wait()
        self.closed = code
        self.news.set()

    async def has_sent(self, count: int) -> list[JsonObject]:
        """What the client was sent, once that is so many messages."""
        while len(self.sent) < count:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 10)
        return self.sent

    @property
    def seen(self) -> Any:
        """What the client knows."""
        known: Any = None
        for message in self.sent:
            if message["type"] == "snapshot":
                known = message["data"]
            elif message["type"] == "change":
                known = apply(known, message["data"])
        return known


class World:
    """A feed with a clock and a thing to look at, both moved by the test."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.value: JsonObject | None = {"n": 0}
        self.error: Exception | None = None
        self.gathered = 0
        self.takes = 0.0
        self.slept: list[float] = []
        self._tick = asyncio.Semaphore(0)
        self._asleep = asyncio.Event()
        self.feed = Feed(
            self.gather,
            lambda snapshot: "last" in snapshot,
            self.run,
            clock=lambda: self.now,
            sleep=self.sleep,
            **options,
        )

    def gather(self) -> JsonObject | None:
        """Takes so long."""
        self.gathered += 1
        self.now += self.takes
        if self.error is not None:
            raise self.error
        return None if self.value is None else dict(self.value)

    @staticmethod
    async def run(function: Callable[[], Edition | None]) -> Edition | None:
        """Beside the loop, which goes on meanwhile."""
        await asyncio.sleep(0)
        return function()

    async def sleep(self, seconds: float) -> None:
        """Until the test lets that time pass."""
        self.slept.append(seconds)
        self._asleep.set()
        await self._tick.acquire()
        self.now += seconds

    async def next_round(self) -> None:
        """Let the time pass for which it sleeps, and then all happen that happens."""
        await self.rests()
        self._asleep.clear()
        self._tick.release()
        await self.rests()

    async def rests(self) -> None:
        """Wait until it sleeps, and all that was woken has done what it does."""
        await asyncio.wait_for(self._asleep.wait(), 10)
        await settled()

    def watch(
        self, channel: Channel, ending: Callable[[], Reason | None] = lambda: None
    ) -> asyncio.Task[None]:
        """Attend to a channel."""
        return asyncio.create_task(self.feed.attend(channel, ending))


async def settled() -> None:
    """Let all tasks do what they can do without the clock."""
    for _ in range(50):
        await asyncio.sleep(0)


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test that is a coroutine."""
    asyncio.run(scene())


def test_nothing_is_gathered_while_nobody_watches() -> None:
    """Neither before the first reader nor after the last."""

    async def scene() -> None:
        world, channel = World(), Channel()
        await settled()
        assert world.gathered == 0
        watching = world.watch(channel)
        await world.next_round()
        assert (world.gathered, world.feed.readers) == (2, 1)
        channel.incoming.put_nowait(None)
        await watching
        assert (world.gathered, world.feed.readers, channel.closed) == (2, 0, None)
        await settled()
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    run(scene)


def test_first_all_of_it_and_then_what_changed() -> None:
    """And nothing at all while nothing does."""

    async def scene() -> None:
        world, channel = World(), Channel()
        watching = world.watch(channel)
        await world.rests()
        assert channel.sent == [{"type": "snapshot", "data": {"n": 0}}]
        await world.next_round()
        assert len(channel.sent) == 1
        world.value = {"n": 1, "m": "x"}
        await world.next_round()
        world.value = {"m": "x"}
        await world.next_round()
        assert channel.sent[1:] == [
            {"type": "change", "data": {"n": 1, "m": "x"}},
            {"type": "change", "data": {"n": None}},
        ]
        watching.cancel()

    run(scene)


@pytest.mark.parametrize(("takes", "rests"), [(0.0, 0.25), (0.01, 0.25), (0.1, 2.0), (3.0, 60.0)])
def test_gathering_is_paced(takes: float, rests: float) -> None:
    """At most every quarter of a second, and a twentieth of the time."""

    async def scene() -> None:
        world, channel = World(), Channel()
        world.takes = takes
        watching = world.watch(channel)
        for _ in range(3):
            await world.next_round()
        assert world.slept == pytest.approx([rests] * 4)
        assert world.gathered == 4
        watching.cancel()

    run(scene)


def test_coming_and_going_does_not_hurry_it() -> None:
    """Whoever comes again and again, or asks for snapshots, gets the same one until it is time."""

    async def scene() -> None:
        world = World()
        for _ in range(20):
            channel = Channel()
            watching = world.watch(channel)
            await channel.has_sent(1)
            channel.incoming.put_nowait(None)
            await watching
            await world.feed.latest()
        assert world.gathered == 1
        world.now += 0.25
        await asyncio.gather(*(world.feed.latest() for _ in range(20)))
        assert world.gathered == 2

    run(scene)


def test_one_gathering_serves_all() -> None:
    """However many there are, and whenever they came; all know the same in the end."""

    async def scene() -> None:
        world = World()
        channels = [Channel() for _ in range(10)]
        watching = [world.watch(channel) for channel in channels[:5]]
        await world.rests()
        world.value = {"n": 1}
        await world.next_round()
        watching += [world.watch(channel) for channel in channels[5:]]
        world.value = {"n": 2}
        await world.next_round()
        assert world.gathered == 3
        assert [channel.seen for channel in channels] == [{"n": 2}] * 10
        for task in watching:
            task.cancel()

    run(scene)


def test_changes_for_a_slow_reader_are_merged() -> None:
    """While one message is on its way nothing is added; then one change leads to what is so now."""

    async def scene() -> None:
        world, slow, quick = World(), Channel(), Channel()
        tasks = [world.watch(slow), world.watch(quick)]
        await world.rests()
        slow.reads.clear()
        for n in range(1, 6):
            world.value = {"n": n, f"k{n}": n}
            await world.next_round()
        assert (len(slow.sent), len(quick.sent)) == (1, 6)
        slow.reads.set()
        await settled()
        # One that was on its way, and one for the other four.
        assert [message["data"] for message in slow.sent[1:]] == [
            {"n": 1, "k1": 1},
            {"n": 5, "k1": None, "k5": 5},
        ]
        assert slow.seen == quick.seen == world.value
        for task in tasks:
            task.cancel()

    run(scene)


def test_what_came_and_went_again_is_not_told() -> None:
    """To a reader who was slow meanwhile."""

    async def scene() -> None:
        world, slow, other = World(), Channel(), Channel()
        tasks = [world.watch(slow), world.watch(other)]
        await world.rests()
        slow.reads.clear()
        for n in (1, 2, 1):
            world.value = {"n": n}
            await world.next_round()
        slow.reads.set()
        await settled()
        assert len(slow.sent) == 2
        assert len(other.sent) == 4
        for task in tasks:
            task.cancel()

    run(scene)


def test_who_stalls_is_dropped_and_the_others_go_on() -> None:
    """After so many seconds with one message; it is not even closed, as that would wait, too."""

    async def scene() -> None:
        world, stalled, other = World(stall_seconds=0.05), Channel(), Channel()
        tasks = [world.watch(stalled), world.watch(other)]
        await world.rests()
        stalled.reads.clear()
        world.value = {"n": 1}
        await world.next_round()
        assert other.seen == {"n": 1}
        await asyncio.wait_for(tasks[0], 10)
        assert (len(stalled.sent), stalled.closed, world.feed.readers) == (1, None, 1)
        world.value = {"n": 2}
        await world.next_round()
        assert other.seen == {"n": 2}
        tasks[1].cancel()

    run(scene)


def test_who_is_gone_is_let_go() -> None:
    """A connection that breaks while something is sent ends quietly."""

    async def scene() -> None:
        world, channel = World(), Channel()
        channel.is_gone = True
        await asyncio.wait_for(world.watch(channel), 10)
        assert (channel.sent, channel.closed) == ([], None)

    run(scene)


def test_the_last_of_it_and_goodbye() -> None:
    """The executor is shut down: what it came to, and why nothing more comes."""

    async def scene() -> None:
        over: list[int] = []
        world, channel = World(on_over=lambda: over.append(1)), Channel()
        watching = world.watch(channel)
        await world.rests()
        world.value = {"n": 9, "last": True}
        world._tick.release()
        await asyncio.wait_for(watching, 10)
        assert channel.sent[1:] == [
            {"type": "change", "data": {"n": 9, "last": True}},
            {"type": "bye", "reason": "shutdown"},
        ]
        assert (channel.closed, over) == (1001, [1])
        late = Channel()
        await asyncio.wait_for(world.watch(late), 10)
        assert [message["type"] for message in late.sent] == ["snapshot", "bye"]

    run(scene)


def test_goodbye_when_there_is_nothing_any_more() -> None:
    """The executor is gone."""

    async def scene() -> None:
        world, channel = World(), Channel()
        watching = world.watch(channel)
        await world.rests()
        world.value = None
        world._tick.release()
        await asyncio.wait_for(watching, 10)
        assert channel.sent[1:] == [{"type": "bye", "reason": "shutdown"}]
        world.now += 1
        assert await world.feed.latest() is None
        late = Channel()
        await asyncio.wait_for(world.watch(late), 10)
        assert late.sent == [{"type": "bye", "reason": "shutdown"}]

    run(scene)


@pytest.mark.parametrize("reason", ["expired", "logout"])
def test_whose_leave_has_ended_is_sent_nothing_more(reason: Reason) -> None:
    """Not even what changed in the same moment; the others are."""

    async def scene() -> None:
        world, channel, other = World(), Channel(), Channel()
        endings: list[Reason] = []
        watching = world.watch(channel, lambda: endings[0] if endings else None)
        watching_too = world.watch(other)
        await world.rests()
        endings.append(reason)
        world.value = {"n": "secret"}
        if reason == "logout":
            world.feed.look()
            await asyncio.wait_for(watching, 10)
        await world.next_round()
        await asyncio.wait_for(watching, 10)
        assert channel.sent[1:] == [{"type": "bye", "reason": reason}]
        assert channel.closed == 1008
        assert other.seen == {"n": "secret"}
        watching_too.cancel()

    run(scene)


def test_the_end_waits_for_those_who_read() -> None:
    """All are told; who does not read is waited for only so long."""

    async def scene() -> None:
        world, quick, stuck = World(), Channel(), Channel()
        tasks = [world.watch(quick), world.watch(stuck)]
        await world.rests()
        stuck.reads.clear()
        await asyncio.wait_for(world.feed.end(0.05), 10)
        assert quick.sent[-1] == {"type": "bye", "reason": "shutdown"}
        assert (tasks[0].done(), tasks[1].done()) == (True, False)
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        await asyncio.wait_for(world.feed.end(10), 10)

    run(scene)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("x" * 1025, 1009),
        ("é" * 513, 1009),
        (b"x" * 1025, 1009),
        (b'{"type":"ping"}', 1008),
        ("", 1007),
        ("ping", 1007),
        ('{"type":"ping"', 1007),
        ("[" * 1000, 1007),
        ("null", 1008),
        ('{"type":"pong"}', 1008),
        ('{"type":"ping","x":1}', 1008),
        ('["ping"]', 1008),
    ],
)
def test_frames_that_nobody_asked_for(frame: str | bytes, code: int) -> None:
    """Too long, no text, no JSON, no ping: each ends the connection, and no other."""

    async def scene() -> None:
        world, channel, other = World(), Channel(), Channel()
        watching, watching_too = world.watch(channel), world.watch(other)
        channel.incoming.put_nowait(frame)
        await asyncio.wait_for(watching, 10)
        assert channel.closed == code
        await world.rests()
        assert not watching_too.done()
        watching_too.cancel()

    run(scene)


def test_pings_are_answered_once_a_second() -> None:
    """More often is refused."""

    async def scene() -> None:
        world, channel = World(), Channel()
        watching = world.watch(channel)
        await world.rests()
        for _ in range(3):
            channel.incoming.put_nowait('{"type": "ping"}')
            await settled()
            world.now += 1.0
        assert channel.sent[1:] == [{"type": "pong"}] * 3
        channel.incoming.put_nowait('{"type":"ping"}')
        await settled()
        world.now += 0.9
        channel.incoming.put_nowait('{"type":"ping"}')
        await asyncio.wait_for(watching, 10)
        assert channel.closed == 1008

    run(scene)


def test_a_client_that_cannot_be_told_why_is_left() -> None:
    """Closing waits only so long for one that does not read."""

    async def scene() -> None:
        world, channel = World(), Channel()
        watching = world.watch(channel)
        await world.rests()
        channel.reads.clear()
        channel.incoming.put_nowait("rubbish")
        await asyncio.wait_for(watching, 10)
        assert channel.closed is None

    assert feeds.CLOSE_SECONDS < 10
    run(scene)


def test_what_cannot_be_gathered_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not at once, and the readers stay."""

    async def scene() -> None:
        world, channel = World(), Channel()
        world.error = ValueError("broken")
        watching = world.watch(channel)
        await world.next_round()
        assert world.slept == [5.0, 5.0]
        assert channel.sent == []
        world.error = None
        await world.next_round()
        assert channel.seen == {"n": 0}
        world.error, world.now = ValueError("broken"), world.now + 1
        with pytest.raises(ValueError, match="broken"):
            await world.feed.latest()
        watching.cancel()

    with caplog.at_level(logging.ERROR, logger="tokengate_executor.dashboard"):
        run(scene)
    assert caplog.text.count("cannot gather what the dashboard shows") == 2


def test_it_is_full_when_it_is() -> None:
    """So many may watch and no more."""

    async def scene() -> None:
        world = World()
        tasks = [world.watch(Channel()) for _ in range(feeds.MOST_READERS)]
        await settled()
        assert world.feed.is_full
        tasks[0].cancel()
        await settled()
        assert not world.feed.is_full
        for task in tasks:
            task.cancel()

    run(scene)


def test_one_loop_after_the_other() -> None:
    """An app may outlive the loop that it was served on, even one that was just dropped."""
    worlds: list[World] = []

    async def first() -> None:
        worlds.append(World())
        channel = Channel()
        watching = worlds[0].watch(channel)
        await channel.has_sent(1)
        watching.cancel()

    async def second() -> None:
        worlds[0].feed._sleep = asyncio.sleep
        worlds[0].now += 10
        worlds[0].value = {"n": 5}
        channel = Channel()
        watching = worlds[0].watch(channel)
        await channel.has_sent(1)
        assert channel.seen == {"n": 5}
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    run(first)
    run(second)
