"""Running a function that may block beside an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["run_off_loop"]

T = TypeVar("T")


async def run_off_loop(function: Callable[[], T]) -> T:
    """Call a function on a thread of its own; returns or raises what it does.

    Not on the loop's default executor, which may be the very one that is looked at, and paused; nor on a
    pool that calls of the application may fill. The thread does not keep the interpreter alive, and a
    cancelled waiter does not wait for it.

    Raises:
        RuntimeError: the system gives no thread.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:  # it is raised where it is waited for
            tell(outcome.set_exception, error)
        else:
            tell(outcome.set_result, result)

    def tell(settle: Callable[..., None], what: object) -> None:
        def settle_if_awaited() -> None:
            if not outcome.done():
                settle(what)

        try:
            loop.call_soon_threadsafe(settle_if_awaited)
        except RuntimeError:
            if not loop.is_closed():
                raise

    threading.Thread(target=work, name="tokengate_dashboard_work", daemon=True).start()
    return await outcome
