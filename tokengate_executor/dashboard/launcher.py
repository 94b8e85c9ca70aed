"""The calls that a dashboard may start, by name."""

from __future__ import annotations

import asyncio
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from tokengate_executor.errors import InvalidOptionError

if TYPE_CHECKING:
    from tokengate_executor.dashboard.patches import JsonObject
    from tokengate_executor.executor import TokenGateExecutor

__all__ = ["Launched", "Launcher"]

WAIT_SECONDS: Final = 2.0
_LONGEST_DESCRIPTION: Final = 200


class Launched(NamedTuple):
    """How many calls were submitted, and whether there was no room for more."""

    times: int
    was_full: bool


class Launcher:
    """What may be launched, and how often it was.

    Args:
        calls: name → what is submitted, without arguments.

    Raises:
        InvalidOptionError: it is no mapping from non-empty strings to callables.
    """

    def __init__(self, calls: Mapping[str, Callable[[], object]] | None) -> None:
        if calls is not None and not _is_right(calls):
            raise InvalidOptionError("launch", calls, "a mapping from names to callables, or None")
        self._calls: dict[str, Callable[[], object]] = dict(calls or {})
        # Guards the numbers: people may launch at the same time.
        self._lock = allocate_lock()
        self._launched = dict.fromkeys(self._calls, 0)

    def __contains__(self, name: str) -> bool:
        return name in self._calls

    def launch(self, executor: TokenGateExecutor, name: str, times: int) -> Launched:
        """Submit a call so many times. Waits for room, but not for ever. Not on an event loop.

        Raises:
            RuntimeError: the executor is shut down, drained, or does not let it in.
        """
        # ``submit`` may wait for room for ever; ``asubmit`` can be told to wait no longer. The context
        # is empty, as the calls have nothing to do with the request that asks for them.
        submitting = partial(self._submit, executor, name, times)
        return Context().run(lambda: asyncio.run(submitting()))

    async def _submit(self, executor: TokenGateExecutor, name: str, times: int) -> Launched:
        launched = 0
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while launched < times:
                    await executor.asubmit(self._calls[name])
                    launched += 1
        except TimeoutError:
            return Launched(launched, was_full=True)
        finally:
            with self._lock:
                self._launched[name] += launched
        return Launched(launched, was_full=False)

    def describe(self) -> JsonObject:
        """Name → what it is, and how often it was launched."""
        return {name: self._described(name, call) for name, call in self._calls.items()}

    def _described(self, name: str, call: Callable[[], object]) -> JsonObject:
        function = call.func if isinstance(call, partial) else call
        documentation = getattr(function, "__doc__", None)
        lines = documentation.strip().splitlines() if isinstance(documentation, str) else []
        described: JsonObject = {"launched": self._launched[name]}
        if lines:
            described["description"] = lines[0][:_LONGEST_DESCRIPTION]
        return described


def _is_right(given: object) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(name, str) and name and callable(call)
        for name, call in cast("Mapping[object, object]", given).items()
    )
