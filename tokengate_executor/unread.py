"""Exceptions that nobody reads: they are logged when their token is gone. And who counts as a reader."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

__all__ = ["Onlooker", "Unread", "has_reader"]

_LOGGER: Final = logging.getLogger("tokengate_executor")


class Onlooker:
    """A done-callback of our own that only looks on: it reads no exception for the user."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[Any], object]) -> None:
        self._call = call

    def __call__(self, token: Any) -> object:
        """The token has settled."""
        return self._call(token)


def has_reader(callbacks: Iterable[Callable[[Any], object]]) -> bool:
    """Whether one of these callbacks may read the exception of their token."""
    return any(not isinstance(callback, Onlooker) for callback in callbacks)


class Unread:
    """Stays with a failed token until somebody reads the exception; logs it when nobody did."""

    __slots__ = ("exception", "operation")

    def __init__(self, exception: BaseException, operation: str) -> None:
        self.exception: BaseException | None = exception
        self.operation = operation

    def __del__(self) -> None:
        # Straight from the finaliser, as asyncio does for its futures. It takes no lock of ours.
        exception = self.exception
        if exception is not None:
            _LOGGER.error(
                "exception in %s was never retrieved",
                self.operation,
                exc_info=(type(exception), exception, exception.__traceback__),
            )
