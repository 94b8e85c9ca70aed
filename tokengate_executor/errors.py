"""Every exception that this package raises of its own.

    TokenGateError
    ├── UnknownOptionError   (TypeError)      an option name that does not exist
    ├── InvalidOptionError   (ValueError)     an option or argument with a value that is not allowed
    ├── DeadlockError        (RuntimeError)   a wait that could never end, refused
    └── ForkedError          (RuntimeError)   a token that the process's parent still runs

Whatever ``ThreadPoolExecutor`` raises, ``TokenGateExecutor`` raises too, with the same type and text:
``RuntimeError`` after shutdown, ``BrokenThreadPool`` after a failed initializer, ``CancelledError``
and ``TimeoutError`` from a token's ``result``.
"""

from __future__ import annotations

__all__ = [
    "DeadlockError",
    "ForkedError",
    "InvalidOptionError",
    "TokenGateError",
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


class DeadlockError(TokenGateError, RuntimeError):
    """A worker asked to wait for something that could then never happen.

    Raised inside the call that waits, instead of a hang: either the tokens wait for each other in a
    ring, or every worker of a lane waits already and ``max_spare_workers`` are lent.
    """


class ForkedError(TokenGateError, RuntimeError):
    """A token was inherited over ``fork()``; its call runs in the parent process, not in this one."""
