"""Futures of an event loop that follow a token: what ``await token`` waits for.

Completions reach a loop in batches. Each loop has one ``_Inbox``; a worker that settles a token puts its
future there and wakes the loop only if nobody has since the loop last looked. So a burst of completions
costs one wake-up, where ``loop.run_in_executor`` makes one for each.

Why no completion is lost: the worker puts the future in and *then* tries to take the bell; the loop
puts the bell back and *then* looks for futures.

This file is imported when the first token is awaited, as asyncio is slow to import.
"""

# A settled token's outcome is read without its lock and without a wait.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from typing_extensions import override

from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from tokengate_executor.token import Token

__all__ = ["future_of"]

T = TypeVar("T")

_COMPLETED: Final = TokenState.COMPLETED


class _Inbox:
    """What has settled for one loop and has not reached it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._settled: deque[_TokenFuture[Any]] = deque()
        # Its one item is the bell: whoever takes it out wakes the loop. That is atomic.
        self._bell: deque[None] = deque([None])

    def put(self, future: _TokenFuture[Any], _: Token[Any]) -> None:
        """Called on the thread that settled the future's token: its done-callback."""
        self._settled.append(future)
        try:
            self._bell.pop()
        except IndexError:
            return  # the loop has been woken, and has not looked yet
        try:
            self._loop.call_soon_threadsafe(self._empty)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            # Nobody can wait for it any more, as in `run_in_executor`.

    def _empty(self) -> None:
        """Called on the loop."""
        self._bell.append(None)
        settled = self._settled
        while settled:
            try:
                future = settled.popleft()
            except IndexError:
                return
            future.take_over()


class _Here(threading.local):
    """The inbox of the loop that ran last on this thread."""

    loop: Callable[[], asyncio.AbstractEventLoop | None] = staticmethod(lambda: None)
    inbox: _Inbox | None = None


_here: Final = _Here()


def _inbox_of(loop: asyncio.AbstractEventLoop) -> _Inbox:
    inbox = _here.inbox
    if inbox is None or _here.loop() is not loop:
        inbox = _here.inbox = _Inbox(loop)
        _here.loop = weakref.ref(loop)
    return inbox


class _TokenFuture(asyncio.Future[T]):
    """An asyncio future that follows a token; cancelling it cancels a token that has not started."""

    __slots__ = ("token",)

    token: Token[T] | None

    @override
    def cancel(self, msg: Any | None = None) -> bool:
        token = self.token
        cancelled = super().cancel(msg)
        if cancelled and token is not None:
            token.cancel()
        return cancelled

    def take_over(self) -> None:
        """On the loop: take the outcome of the settled token over, and let go of it."""
        token, self.token = self.token, None
        if token is None or self.done():
            return
        if token._phase is _COMPLETED:
            self.set_result(token._result)  # type: ignore[arg-type]
        elif token.cancelled():
            super().cancel()
        else:
            error = token.exception(0)
            assert error is not None
            try:
                self.set_exception(error)
            except TypeError:  # no coroutine may raise StopIteration
                replacement = RuntimeError(f"the call raised {type(error).__name__}")
                replacement.__cause__ = error
                self.set_exception(replacement)


def future_of(token: Token[T]) -> asyncio.Future[T]:
    """A future of the running loop that follows the token."""
    loop = asyncio.get_running_loop()
    future: _TokenFuture[T] = _TokenFuture(loop=loop)
    future.token = token
    token.add_done_callback(partial(_inbox_of(loop).put, future))
    return future
