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
from typing import TYPE_CHECKING, Any, Final, TypeVar

from typing_extensions import override

from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from tokengate_executor.token import Token

__all__ = ["TokenFuture", "future_of"]

T = TypeVar("T")

_COMPLETED: Final = TokenState.COMPLETED


class _Inbox:
    """What has settled for one loop and has not reached it."""

    __slots__ = ("_loop", "bell", "settled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self.settled: deque[TokenFuture[Any]] = deque()
        # Its one item is the bell: whoever takes it out wakes the loop. That is atomic.
        self.bell: deque[None] = deque([None])

    def wake_loop(self) -> None:
        """Called by whoever took the bell."""
        loop = self._loop()
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._empty)
        except RuntimeError:
            if not loop.is_closed():
                raise
            # Nobody can wait for it any more, as in `run_in_executor`.

    def _empty(self) -> None:
        """Called on the loop."""
        self.bell.append(None)
        settled = self.settled
        while settled:
            settled.popleft().take_over()


class _Here(threading.local):
    """The inbox of the loop that ran last on this thread."""

    inbox: tuple[Callable[[], object], _Inbox | None] = (lambda: None, None)


_here: Final = _Here()


def _inbox_of(loop: asyncio.AbstractEventLoop) -> _Inbox:
    reference, inbox = _here.inbox
    if inbox is None or reference() is not loop:
        inbox = _Inbox(loop)
        _here.inbox = weakref.ref(loop), inbox
    return inbox


class TokenFuture(asyncio.Future[T]):
    """An asyncio future that follows a token; cancelling it cancels a token that has not started.

    It is itself the done-callback of its token. ``token`` is set once by whoever makes it, and let go of
    when the outcome is taken over.
    """

    __slots__ = ("_inbox", "token")

    token: Token[T] | None
    _inbox: _Inbox

    def follow(self, token: Token[T]) -> None:
        """Called on the loop, once, before the token can call back."""
        self.token = token
        self._inbox = _inbox_of(self.get_loop())

    def __call__(self, _: Token[T]) -> None:
        """The token has settled. Called on the thread that settled it."""
        inbox = self._inbox
        inbox.settled.append(self)
        try:
            inbox.bell.pop()
        except IndexError:
            return  # the loop has been woken, and has not looked yet
        inbox.wake_loop()

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
    future: TokenFuture[T] = TokenFuture(loop=asyncio.get_running_loop())
    future.follow(token)
    token.add_done_callback(future)
    return future
