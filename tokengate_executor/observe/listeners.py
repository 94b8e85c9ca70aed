"""A listener that is there already: it writes a line to a logger for each event."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Final

from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import (
    CircuitChanged,
    Event,
    TokenEvent,
    TokenQuarantined,
    TokenRejected,
    TokenRetrying,
    TokenSettled,
    WorkerAbandoned,
)
from tokengate_executor.policies.breaker import CircuitState

__all__ = ["LoggingListener"]

_GOOD_ENDS: Final = frozenset({TokenState.COMPLETED, TokenState.CANCELLED, TokenState.KILLED})


class LoggingListener:
    """Logs each event: names and numbers, never arguments, results or the texts of errors.

    ``TokenGateExecutor(listeners=[LoggingListener()])``. The record's ``tokengate_event`` is the event
    itself, for formatters that want its fields.

    Args:
        logger: where to; default: ``logging.getLogger("tokengate_executor.events")``.
        level: of what happens all the time.
        trouble_level: of what somebody may want to look at: calls that failed, timed out, were refused,
            are tried again or quarantined; abandoned workers; circuits that open.

    Raises:
        InvalidOptionError: a level is no int.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        level: int = logging.DEBUG,
        trouble_level: int = logging.WARNING,
    ) -> None:
        levels: dict[str, object] = {"level": level, "trouble_level": trouble_level}
        for argument, given in levels.items():
            if not isinstance(given, int) or isinstance(given, bool):
                raise InvalidOptionError(argument, given, "an int, as logging.INFO is one")
        self._logger = logger or logging.getLogger("tokengate_executor.events")
        self._level = level
        self._trouble_level = trouble_level

    def __call__(self, event: Event) -> None:
        """Log it."""
        level = self._trouble_level if _is_trouble(event) else self._level
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", _text(event), extra={"tokengate_event": event})


def _is_trouble(event: Event) -> bool:
    match event:
        case TokenSettled():
            return event.state not in _GOOD_ENDS
        case CircuitChanged():
            return event.after is CircuitState.OPEN
        case TokenRejected() | TokenRetrying() | TokenQuarantined() | WorkerAbandoned():
            return True
        case _:
            return False


def _text(event: Event) -> str:
    """``TokenSettled parse (3-17): state=COMPLETED …``, without what is not known."""
    said = [type(event).__name__]
    skipped = {"at"}
    if isinstance(event, TokenEvent):
        said.append(f"{event.operation} ({event.token_id}):")
        skipped |= {"operation", "token_id"}
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name not in skipped and value is not None:
            said.append(f"{field.name}={_value(value)}")
    return " ".join(said)


def _value(value: object) -> str:
    match value:
        case float():
            return f"{value:.6f}"
        case TokenState() | CircuitState():
            return value.name
        case _:
            return str(value)
