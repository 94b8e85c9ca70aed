"""Exceptions that nobody reads: they are logged when their token is gone."""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["Unread"]

_LOGGER: Final = logging.getLogger("tokengate_executor")


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
