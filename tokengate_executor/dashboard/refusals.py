"""What a client is told when what it asked for is not done."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import Final

from tokengate_executor.errors import (
    InvalidOptionError,
    NotReplayableError,
    TokenGateError,
    UnknownQuarantineIdError,
)

__all__ = ["Refusal", "refusal_of"]

BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
GONE: Final = 410
TOO_LARGE: Final = 413
NOT_JSON: Final = 415
TOO_MANY: Final = 429


class Refusal(Exception):  # noqa: N818  it is an answer, and nobody's fault but the client's
    """An answer of the 4xx kind.

    Attributes:
        status: of HTTP.
        message: for the person who reads it.
        retry_after: in how many seconds to try again; ``None``: that would not help.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        self.status = status
        self.message = message
        self.retry_after = retry_after
        super().__init__(status, message, retry_after)


def refusal_of(error: Exception, *, show_texts: bool) -> Refusal | None:
    """The answer to what one of the executor's verbs raised; ``None``: it was not to be expected.

    Args:
        error: that was raised.
        show_texts: whether the client may see what the errors of calls say.
    """
    if isinstance(error, UnknownQuarantineIdError):
        return Refusal(NOT_FOUND, str(error))
    if isinstance(error, InvalidOptionError):
        return Refusal(BAD_REQUEST, str(error))
    if isinstance(error, NotReplayableError) and not show_texts:
        # Its text may quote what unpickling raised, and that the arguments.
        return Refusal(CONFLICT, f"quarantined call {error.id} cannot be replayed here")
    # A plain RuntimeError is what a closed executor raises; its other subclasses are accidents.
    if isinstance(error, TokenGateError | BrokenExecutor) or type(error) is RuntimeError:
        return Refusal(CONFLICT, str(error))
    return None
