"""The asyncio verbs: waiting for room and for results without blocking the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextvars import copy_context
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tokengate_executor.following import TokenFuture, future_of
from tokengate_executor.token import Token
from tokengate_executor.waiting import Audience

if TYPE_CHECKING:
    from tokengate_executor.engine.routes import Profile
    from tokengate_executor.executor import TokenGateExecutor

__all__ = ["AsyncioVerbs"]

T = TypeVar("T")


class _Knock:
    """A coroutine that waits for a place, as ``engine.bounds`` sees it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def release(self) -> bool:
        """Wake it up, from any thread; false: its loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            return False
        return True

    async def wait(self) -> None:
        """Until somebody wakes it up; the next time until somebody does so again."""
        await self._event.wait()
        self._event.clear()


class AsyncioVerbs:
    """What executors and views have for asyncio: one name, so that they can import it late."""

    @staticmethod
    async def submit(
        profile: Profile, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Token[T]:
        """Submit once there is room for one more call. See ``TokenGateExecutor.asubmit``."""
        gate, route = profile.gate, profile.route
        knock = _Knock()
        again = False
        while True:
            if gate.closed is not None:
                gate.check_open()
            if gate.enter_or_list(route, knock, again=again):
                return _admit(profile, fn, args, kwargs)
            again = True
            bound = route.bound
            assert bound is not None
            if gate.is_refusing():
                _leave_line(profile, knock)
                raise gate.refusal()
            try:
                await knock.wait()
            except asyncio.CancelledError:
                _leave_line(profile, knock)
                raise

    @staticmethod
    def run(
        profile: Profile, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> asyncio.Future[T]:
        """Submit, now if there is room, and follow the token. See ``TokenGateExecutor.arun``."""
        gate, route = profile.gate, profile.route
        if gate.closed is not None:
            gate.check_open()
        loop = asyncio.get_running_loop()
        if route.bound is not None and not route.bound.try_enter():
            return loop.create_task(_run_later(profile, fn, args, kwargs))
        future: TokenFuture[T] = TokenFuture(loop=loop)
        # Followed before anybody else can see the token: no lock, no question whether it has settled.
        token: Token[T] = Token(
            fn, args, kwargs or None, copy_context(), profile, Audience([future])
        )
        future.follow(token)
        try:
            profile.admit_entered(token, route)
        except RuntimeError:
            future.token = None  # the caller is told right here
            raise
        return future

    @staticmethod
    async def map_results(
        profile: Profile,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        buffersize: int | None,
    ) -> AsyncGenerator[T, None]:
        """The results in order. See ``TokenGateExecutor.amap``."""
        arguments = zip(*iterables, strict=False)
        tokens: deque[Token[T]] = deque()
        try:
            for given in islice(arguments, buffersize):
                tokens.append(await AsyncioVerbs.submit(profile, fn, given, {}))
            while tokens:
                result = await future_of(tokens.popleft())
                for given in islice(arguments, 1):
                    tokens.append(await AsyncioVerbs.submit(profile, fn, given, {}))
                yield result
                del result
        finally:
            for token in tokens:
                token.cancel()

    @staticmethod
    async def shut_down(executor: TokenGateExecutor) -> None:
        """``executor.shutdown()``, on a thread of its own, as no executor may be left to ask."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            executor.shutdown()
            try:
                loop.call_soon_threadsafe(set_done)
            except RuntimeError:
                if not loop.is_closed():
                    raise

        def set_done() -> None:
            if not done.done():
                done.set_result(None)

        thread = threading.Thread(target=finish, name="tokengate_shutdown", daemon=True)
        thread.start()
        try:
            await done
        finally:
            if done.done() and not done.cancelled():
                thread.join()


async def _run_later(
    profile: Profile, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    return await future_of(await AsyncioVerbs.submit(profile, fn, args, kwargs))


def _leave_line(profile: Profile, knock: _Knock) -> None:
    bound = profile.route.bound
    if bound is not None and not bound.withdraw(knock):
        bound.pass_on()


def _admit(
    profile: Profile, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Token[T]:
    token: Token[T] = Token(fn, args, kwargs or None, copy_context(), profile)
    profile.admit_entered(token, profile.route)
    return token
