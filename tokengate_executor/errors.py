"""Every exception that this package raises of its own.

    TokenGateError
    ├── UnknownOptionError   (TypeError)      an option name that does not exist
    ├── InvalidOptionError   (ValueError)     an option or argument with a value that is not allowed
    ├── GateFullError        (RuntimeError)   a call that was refused because too many wait already
    ├── TokenTimeoutError    (TimeoutError)   a call that did not start, or end, in time
    ├── TokenQuarantinedError (RuntimeError)  a call that is too large for its operation, and was not run
    ├── TokenKilledError     (CancelledError) a token that was killed
    ├── DeadlockError        (RuntimeError)   a wait that could never end, refused
    ├── ForkedError          (RuntimeError)   a token that the process's parent still runs
    ├── OperationBlockedError (RuntimeError)  a call of an operation that is blocked
    ├── QuarantineFileError  (RuntimeError)   a file that is no quarantine, is damaged, or cannot be used
    ├── QuarantineFullError  (RuntimeError)   a call that the quarantine has no room for
    ├── QuarantineStateError (RuntimeError)   a quarantined call that was decided otherwise already
    ├── NotReplayableError   (RuntimeError)   a quarantined call that cannot be had back here
    ├── CoordinatorNotRunningError (RuntimeError) a guarded call that no coordinator is there for
    ├── UnguardableError     (TypeError)      something that cannot be decorated with task_token_guard
    └── UnknownQuarantineIdError (KeyError)   an id that no quarantined call has

Whatever ``ThreadPoolExecutor`` raises, ``TokenGateExecutor`` raises too, with the same type and text:
``RuntimeError`` after shutdown, ``BrokenThreadPool`` after a failed initializer, ``CancelledError``
and ``TimeoutError`` from a token's ``result``.
"""

from __future__ import annotations

from concurrent.futures import CancelledError

__all__ = [
    "CoordinatorNotRunningError",
    "DeadlockError",
    "ForkedError",
    "GateFullError",
    "InvalidOptionError",
    "NotReplayableError",
    "OperationBlockedError",
    "QuarantineFileError",
    "QuarantineFullError",
    "QuarantineStateError",
    "TokenGateError",
    "TokenKilledError",
    "TokenQuarantinedError",
    "TokenTimeoutError",
    "UnguardableError",
    "UnknownOptionError",
    "UnknownQuarantineIdError",
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
    """A call did not start within its ``queue_timeout``, or did not end within its ``timeout``.

    Attributes:
        operation: the name under which the call is counted.
        queue_timeout: for how long it was to wait at most, in seconds; ``None``: it has started.
        timeout: for how long it was to run at most, in seconds; ``None``: it has not started, and
            never will.
    """

    def __init__(
        self, operation: str, queue_timeout: float | None = None, timeout: float | None = None
    ) -> None:
        self.operation = operation
        self.queue_timeout = queue_timeout
        self.timeout = timeout
        super().__init__(operation, queue_timeout, timeout)

    def __str__(self) -> str:
        if self.timeout is not None:
            return f"{self.operation} ran for longer than {self.timeout:g} s (timeout)"
        return f"{self.operation} did not start within {self.queue_timeout:g} s (queue_timeout)"


class TokenQuarantinedError(TokenGateError, RuntimeError):
    """A call was not run, because it is much larger than its operation's usual ones.

    Attributes:
        operation: the name under which the call is counted.
        because: what was found, and what was decided.
        quarantine_id: of the call in the quarantine; ``None``: it is not there.
    """

    def __init__(self, operation: str, because: str, quarantine_id: str | None = None) -> None:
        self.operation = operation
        self.because = because
        self.quarantine_id = quarantine_id
        super().__init__(operation, because, quarantine_id)

    def __str__(self) -> str:
        where = "" if self.quarantine_id is None else f" (quarantine id {self.quarantine_id})"
        return f"{self.operation} was not run: {self.because}{where}"


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


class OperationBlockedError(TokenGateError, RuntimeError):
    """A call was refused because its operation is blocked: it failed too often, or a person blocked it.

    Attributes:
        operation: the name under which the call is counted.
        failure_rate: the share of calls that failed, from 0 to 1.
        calls: of how many calls.
        retry_after: in how many seconds it may be tried again; 0: as soon as the trial calls that are
            on their way have succeeded; ``None``: not before it is unblocked by hand.
    """

    def __init__(
        self, operation: str, failure_rate: float, calls: int, retry_after: float | None
    ) -> None:
        self.operation = operation
        self.failure_rate = failure_rate
        self.calls = calls
        self.retry_after = retry_after
        super().__init__(operation, failure_rate, calls, retry_after)

    def __str__(self) -> str:
        if self.retry_after is None:
            when = "it stays so until it is unblocked by hand"
        elif self.retry_after > 0:
            when = f"it may be tried again in {self.retry_after:.1f} s"
        else:
            when = "it may be tried again when its trial calls have succeeded"
        if not self.calls:
            return f"{self.operation} is blocked: {when}"
        calls = "1 call" if self.calls == 1 else f"{self.calls} calls"
        rate = f"{self.failure_rate * 100:.4g} %"
        return f"{self.operation} is blocked, {rate} of {calls} failed: {when}"


class DeadlockError(TokenGateError, RuntimeError):
    """A worker asked to wait for something that could then never happen.

    Raised inside the call that waits, instead of a hang: either the tokens wait for each other in a
    ring, or every worker of a lane waits already and ``max_spare_workers`` are lent.
    """


class ForkedError(TokenGateError, RuntimeError):
    """A token was inherited over ``fork()``; its call runs in the parent process, not in this one."""


class QuarantineFileError(TokenGateError, RuntimeError):
    """A quarantine cannot be used: it is foreign, damaged, out of reach, or busy for too long.

    A file that is foreign or damaged is left as it is.

    Attributes:
        path: of the file; ``:memory:`` for a quarantine without one.
        problem: what is wrong, in words.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(path, problem)

    def __str__(self) -> str:
        return f"quarantine {self.path}: {self.problem}"


class QuarantineFullError(TokenGateError, RuntimeError):
    """A call was not quarantined, because as many are there already as may.

    Attributes:
        path: of the quarantine's file; ``:memory:`` if it has none.
        entries: how many calls are there.
        max_entries: how many may.
    """

    def __init__(self, path: str, entries: int, max_entries: int) -> None:
        self.path = path
        self.entries = entries
        self.max_entries = max_entries
        super().__init__(path, entries, max_entries)

    def __str__(self) -> str:
        return (
            f"quarantine {self.path} is full: {self.entries} calls of at most {self.max_entries} "
            "(max_entries): purge what is decided"
        )


class QuarantineStateError(TokenGateError, RuntimeError):
    """A quarantined call cannot go from its status to the one asked for.

    Attributes:
        id: of the call.
        status: that it has.
        wanted: the status that it was to get.
    """

    def __init__(self, id: str, status: str, wanted: str) -> None:  # noqa: A002  as the attribute
        self.id = id
        self.status = status
        self.wanted = wanted
        super().__init__(id, status, wanted)

    def __str__(self) -> str:
        return f"quarantined call {self.id} is {self.status} and cannot become {self.wanted}"


class NotReplayableError(TokenGateError, RuntimeError):
    """A quarantined call cannot be had back in this process.

    Attributes:
        id: of the call.
        because: why not.
    """

    def __init__(self, id: str, because: str) -> None:  # noqa: A002  as the attribute
        self.id = id
        self.because = because
        super().__init__(id, because)

    def __str__(self) -> str:
        return f"quarantined call {self.id} cannot be replayed here: {self.because}"


class CoordinatorNotRunningError(TokenGateError, RuntimeError):
    """A guarded call found no coordinator that runs, or a coordinator was asked before its start.

    Attributes:
        operation: the name under which the call would be counted; ``None``: it was no call.
        was_stopped: whether there was one, and it was stopped.
    """

    def __init__(self, operation: str | None, was_stopped: bool) -> None:
        self.operation = operation
        self.was_stopped = was_stopped
        super().__init__(operation, was_stopped)

    def __str__(self) -> str:
        if self.was_stopped:
            text = "the coordinator was stopped: call its start() again first"
        else:
            text = "no coordinator is running: call start() of an OperationsCoordinator first"
        return text if self.operation is None else f"{self.operation} was not submitted: {text}"


class UnguardableError(TokenGateError, TypeError):
    """Something was decorated with ``task_token_guard`` whose calls cannot be tokens.

    Attributes:
        name: of what was decorated.
        because: why not, and the way out.
    """

    def __init__(self, name: str, because: str) -> None:
        self.name = name
        self.because = because
        super().__init__(name, because)

    def __str__(self) -> str:
        return f"{self.name} cannot be guarded: {self.because}"


class UnknownQuarantineIdError(TokenGateError, KeyError):
    """The quarantine has no call of that id: it never had, or the call was purged.

    Attributes:
        id: that was asked for.
    """

    def __init__(self, id: str) -> None:  # noqa: A002  as the attribute
        self.id = id
        super().__init__(id)

    def __str__(self) -> str:
        return f"no quarantined call has the id {self.id!r}"
