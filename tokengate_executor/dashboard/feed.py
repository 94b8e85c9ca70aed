"""The live feed: one gathering for all who watch, and to each what has changed since it was last sent.

Guarantees
    * Nothing is gathered while nobody watches; never more often than every 0.25 s, and never so often
      that gathering takes more than a twentieth of the time.
    * At most one message is on its way to each reader. One that is slow gets fewer, larger changes, and
      after ``stall_seconds`` with one message is dropped; the others do not notice.
    * After a goodbye because a session has ended nothing else is sent.

Assumes
    * All of it is called on one event loop, except ``gather``, which runs off it, one at a time.
    * ``gather`` returns a new value each time, which nobody changes afterwards.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, Literal, Protocol

from tokengate_executor.dashboard.patches import JsonObject, diff

__all__ = ["Channel", "Edition", "Feed", "Reason", "as_json"]

Reason = Literal["shutdown", "expired", "logout"]

_LOGGER: Final = logging.getLogger("tokengate_executor.dashboard")

SHORTEST_INTERVAL_SECONDS: Final = 0.25
REST_PER_WORK: Final = 20
AFTER_ERROR_SECONDS: Final = 5.0
STALL_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
MOST_READERS: Final = 500
PING_SECONDS: Final = 1.0
LONGEST_FRAME_BYTES: Final = 1024

GOING_AWAY: Final = 1001
NOT_JSON: Final = 1007
POLICY: Final = 1008
TOO_LONG: Final = 1009


class Channel(Protocol):
    """A WebSocket that was accepted, as the feed sees it."""

    async def receive(self) -> str | bytes | None:
        """The next frame; ``None``: the client is gone."""
        ...

    async def send(self, text: str) -> None:
        """Send a text frame; waits as long as too much is on its way.

        Raises:
            ConnectionError: the client is gone.
        """
        ...

    async def close(self, code: int) -> None:
        """Close it. Raises as ``send``."""
        ...


@dataclass(slots=True, eq=False)
class Edition:
    """One snapshot and how it is told.

    Attributes:
        snapshot: what was gathered.
        changes: earlier edition, by number → the message that leads from it to this one; ``None``: what
            had changed meanwhile is again as it was then.
        number: one more than that of the edition before; the first is 1.
    """

    snapshot: JsonObject
    number: int = 1
    changes: dict[int, str | None] = field(default_factory=dict[int, str | None])
    _whole: str | None = None

    def followed_by(self, snapshot: JsonObject) -> Edition:
        """The edition after this one; this one itself, if nothing has changed."""
        patch = diff(self.snapshot, snapshot)
        if not patch:
            return self
        return Edition(snapshot, self.number + 1, {self.number: _as_change(patch)})

    def message_after(self, sent: Edition | None) -> str | None:
        """What to send to somebody who was last sent that edition; ``None``: nothing."""
        if sent is None:
            if self._whole is None:
                self._whole = as_json({"type": "snapshot", "data": self.snapshot})
            return self._whole
        if sent.number not in self.changes:
            patch = diff(sent.snapshot, self.snapshot)
            self.changes[sent.number] = _as_change(patch) if patch else None
        return self.changes[sent.number]


class _Reader:
    """One who watches.

    Attributes:
        ending: asks why the reader may not go on; ``None``: it may.
        wake: set when one of the others was changed.
        bye: why to say goodbye.
        owes_pong: whether a ping is to be answered.
        sent: what it was sent last.
    """

    def __init__(self, ending: Callable[[], Reason | None]) -> None:
        self.ending = ending
        self.wake = asyncio.Event()
        self.bye: Reason | None = None
        self.owes_pong = False
        self.sent: Edition | None = None

    def say_bye(self, reason: Reason) -> None:
        self.bye = self.bye or reason
        self.wake.set()


class Feed:
    """Serves the readers of one executor.

    Args:
        gather: makes a snapshot; ``None``: there will be none any more.
        is_last: whether nothing will come after a snapshot.
        run_off_loop: runs a function elsewhere and returns what it returns.
        clock: in seconds.
        sleep: as ``asyncio.sleep``.
        stall_seconds: for how long one message may be on its way.
        on_over: called when nothing more will come.
    """

    def __init__(
        self,
        gather: Callable[[], JsonObject | None],
        is_last: Callable[[JsonObject], bool],
        run_off_loop: Callable[[Callable[[], Edition | None]], Awaitable[Edition | None]],
        *,
        clock: Callable[[], float] = perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        stall_seconds: float = STALL_SECONDS,
        on_over: Callable[[], None] | None = None,
    ) -> None:
        self._gather = gather
        self._is_last = is_last
        self._run_off_loop = run_off_loop
        self._clock = clock
        self._sleep = sleep
        self._stall_seconds = stall_seconds
        self.on_over = on_over
        self._readers: dict[_Reader, asyncio.Task[object] | None] = {}
        self._current: Edition | None = None
        self._due = -math.inf
        self._took = 0.0
        self._gathering: asyncio.Task[Edition | None] | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def readers(self) -> int:
        """How many watch."""
        return len(self._readers)

    @property
    def is_full(self) -> bool:
        """Whether no more may watch."""
        return len(self._readers) >= MOST_READERS

    async def latest(self) -> Edition | None:
        """The newest edition that the pace allows; ``None``: there will be none any more.

        Whatever ``gather`` raises is raised to each who asks.
        """
        if self._current is not None and self._clock() < self._due:
            return self._current
        if not _is_running_here(self._gathering):
            self._gathering = asyncio.create_task(self._renew())
        assert self._gathering is not None
        # Others wait for it, too.
        return await asyncio.shield(self._gathering)

    async def attend(self, channel: Channel, ending: Callable[[], Reason | None]) -> None:
        """Serve a reader until it, or the feed, or its leave to read has ended; closes the channel.

        Args:
            channel: to the reader.
            ending: asks why it may not go on; ``None``: it may.
        """
        reader = _Reader(ending)
        self._readers[reader] = asyncio.current_task()
        if self._current is not None and self._clock() < self._due:
            reader.wake.set()
        if not _is_running_here(self._pump):
            self._pump = asyncio.create_task(self._run())
        sides = [
            asyncio.create_task(self._write(reader, channel)),
            asyncio.create_task(self._listen(reader, channel)),
        ]
        try:
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
            code = next(side.result() for side in sides if side.done())
            if code is not None:
                with suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await channel.close(code)
        finally:
            del self._readers[reader]
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, return_exceptions=True)
            if not self._readers and self._pump is not None:
                self._pump.cancel()

    def look(self) -> None:
        """Say goodbye to those who may not go on."""
        for reader in self._readers:
            reason = reader.ending()
            if reason is not None:
                reader.say_bye(reason)

    async def end(self, seconds: float) -> None:
        """Say goodbye to all, as the executor ends, and wait until they are gone.

        Args:
            seconds: for how long to wait at most.
        """
        for reader in self._readers:
            reader.say_bye("shutdown")
        attending = [task for task in self._readers.values() if task is not None]
        if attending:
            await asyncio.wait(attending, timeout=seconds)

    # -- gathering --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                edition = await self.latest()
            except Exception:
                _LOGGER.exception("cannot gather what the dashboard shows")
            else:
                self.look()
                is_over = edition is None or self._is_last(edition.snapshot)
                for reader in self._readers:
                    if is_over:
                        reader.say_bye("shutdown")
                    elif reader.sent is not edition:
                        reader.wake.set()
                if is_over:
                    if self.on_over is not None:
                        self.on_over()
                    return
            await self._sleep(max(0.0, self._due - self._clock()))

    async def _renew(self) -> Edition | None:
        try:
            self._current = await self._run_off_loop(self._make_edition)
        except Exception:
            self._due = self._clock() + AFTER_ERROR_SECONDS
            raise
        self._due = self._clock() + max(SHORTEST_INTERVAL_SECONDS, REST_PER_WORK * self._took)
        return self._current

    def _make_edition(self) -> Edition | None:
        """Runs off the loop: what it takes to tell of a change is part of the work."""
        began = self._clock()
        snapshot = self._gather()
        edition = None
        if snapshot is not None:
            before = self._current
            edition = Edition(snapshot) if before is None else before.followed_by(snapshot)
        self._took = self._clock() - began
        return edition

    # -- the two sides of a channel; each returns the code to close it with, None to let it go -------

    async def _write(self, reader: _Reader, channel: Channel) -> int | None:
        try:
            while True:
                await reader.wake.wait()
                reader.wake.clear()
                if reader.bye not in ("expired", "logout"):
                    await self._write_news(reader, channel)
                if reader.bye is not None:
                    await self._send(channel, as_json({"type": "bye", "reason": reader.bye}))
                    return GOING_AWAY if reader.bye == "shutdown" else POLICY
        except TimeoutError:
            _LOGGER.info("a reader of the dashboard has stalled and is dropped")
            return None
        except ConnectionError:
            return None

    async def _write_news(self, reader: _Reader, channel: Channel) -> None:
        current = self._current
        if current is not None and current is not reader.sent:
            message = current.message_after(reader.sent)
            reader.sent = current
            if message is not None:
                await self._send(channel, message)
        if reader.owes_pong:
            reader.owes_pong = False
            await self._send(channel, '{"type":"pong"}')

    async def _send(self, channel: Channel, text: str) -> None:
        async with asyncio.timeout(self._stall_seconds):
            await channel.send(text)

    async def _listen(self, reader: _Reader, channel: Channel) -> int | None:
        pinged_at = -math.inf
        while True:
            frame = await channel.receive()
            if frame is None:
                return None
            problem = _problem_of(frame)
            if problem is not None:
                return problem
            now = self._clock()
            if now - pinged_at < PING_SECONDS:
                return POLICY
            pinged_at = now
            reader.owes_pong = True
            reader.wake.set()


def _problem_of(frame: str | bytes) -> int | None:
    """With which code a frame is answered that is not a ping."""
    if len(frame if isinstance(frame, bytes) else frame.encode()) > LONGEST_FRAME_BYTES:
        return TOO_LONG
    if isinstance(frame, bytes):
        return POLICY
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        return NOT_JSON
    return None if message == {"type": "ping"} else POLICY


def _as_change(patch: JsonObject) -> str:
    return as_json({"type": "change", "data": patch})


def as_json(value: JsonObject) -> str:
    """As short as it gets; ASCII, so that no name of an operation can be what UTF-8 cannot write."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _is_running_here(task: asyncio.Task[object] | asyncio.Task[None] | None) -> bool:
    """Whether a task has not ended; one of a loop that was dropped never will."""
    return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()
