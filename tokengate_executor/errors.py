"""Every exception that this package raises of its own.

    TokenGateError
    ├── UnknownOptionError   (TypeError)      an option name that does not exist
    ├── InvalidOptionError   (ValueError)     an option or argument with a value that is not allowed
    ├── GateFullError        (RuntimeError)   a call that was refused because too many wait already
    ├── TokenTimeoutError    (TimeoutError)   a call that did not start in time
    ├── TokenKilledError     (CancelledError) a token that was killed
    ├── DeadlockError        (RuntimeError)   a wait that could never end, refused
    └── ForkedError          (RuntimeError)   a token that the process's parent still runs

Whatever ``ThreadPoolExecutor`` raises, ``TokenGateExecutor`` raises too, with the same type and text:
``RuntimeError`` after shutdown, ``BrokenThreadPool`` after a failed initializer, ``CancelledError``
and ``TimeoutError`` from a token's ``result``.
"""

from __future__ import annotations

from concurrent.futures import CancelledError

__all__ = [
    "DeadlockError",
    "ForkedError",
    "GateFullError",
    "InvalidOptionError",
    "TokenGateError",
    "TokenKilledError",
    "TokenTimeoutError",
    "UnknownOptionError",
]


class TokenGateError(Exception):
    """Base of this package's own exceptions."""


class UnknownOptionError(TokenGateError, TypeError):
    """An option was named that does not exist.

    Attributes:
        option: the name that was given.
        known: the names that exist.
    """

    def __init__(self, option: str, known: tuple[str, ...]) -> None:
        self.option = option
        self.known = known
        super().__init__(option, known)

    def __str__(self) -> str:
        return f"unknown option {self.option!r}: the options are {', '.join(self.known)}"


class InvalidOptionError(TokenGateError, ValueError):
    """An option or constructor argument has a value that is not allowed.

    Attributes:
        option: the name of the option or argument.
        given: the value that was given.
        allowed: what would have been right, in words.
    """

    def __init__(self, option: str, given: object, allowed: str) -> None:
        self.option = option
        self.given = given
        self.allowed = allowed
        super().__init__(option, given, allowed)

    def __str__(self) -> str:
        return f"{self.option} must be {self.allowed}, not {self.given!r}"


class GateFullError(TokenGateError, RuntimeError):
    """A call was refused because as many calls wait already as may.

    Attributes:
        pending: how many calls waited, of those that the bound counts.
        bound: how many may: ``max_pending``.
        lane: the lane that the call could have run on, if there is only one; ``None``: any of several.
        advice: what the caller can do about it; may be empty.
    """

    def __init__(self, pending: int, bound: int, lane: int | None, advice: str = "") -> None:
        self.pending = pending
        self.bound = bound
        self.lane = lane
        self.advice = advice
        super().__init__(pending, bound, lane, advice)

    def __str__(self) -> str:
        where = "" if self.lane is None else f" for lane {self.lane}"
        text = f"{self.pending} of at most {self.bound} calls wait{where} (max_pending)"
        return f"{text}: {self.advice}" if self.advice else text


class TokenTimeoutError(TokenGateError, TimeoutError):
    """A call did not start within its ``queue_timeout``, and never will.

    Attributes:
        operation: the name under which the call is counted.
        queue_timeout: for how long it was to wait at most, in seconds.
    """

    def __init__(self, operation: str, queue_timeout: float) -> None:
        self.operation = operation
        self.queue_timeout = queue_timeout
        super().__init__(operation, queue_timeout)

    def __str__(self) -> str:
        return f"{self.operation} did not start within {self.queue_timeout:g} s (queue_timeout)"


class TokenKilledError(TokenGateError, CancelledError):
    """A token was killed: before it started, or in ``checkpoint()`` of its running call.

    Attributes:
        operation: the name under which the call is counted.
    """

    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(operation)

    def __str__(self) -> str:
        return f"{self.operation} was killed"


class DeadlockError(TokenGateError, RuntimeError):
    """A worker asked to wait for something that could then never happen.

    Raised inside the call that waits, instead of a hang: either the tokens wait for each other in a
    ring, or every worker of a lane waits already and ``max_spare_workers`` are lent.
    """


class ForkedError(TokenGateError, RuntimeError):
    """A token was inherited over ``fork()``; its call runs in the parent process, not in this one."""
