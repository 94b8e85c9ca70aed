"""Settlement: the one place where an attempt to run a token begins and ends."""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from time import perf_counter
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.errors import TokenKilledError
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.policies.complexity import code_of
from tokengate_executor.unread import Unread, has_reader

if TYPE_CHECKING:
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.token import Token

__all__ = ["attempt", "fail", "state_after"]

_COMPLETED: Final = TokenState.COMPLETED
_FAILED: Final = TokenState.FAILED


def attempt(worker: Worker, token: Token[Any]) -> None:  # noqa: C901, PLR0912, PLR0915
    """Run the call of a token that was claimed for this worker, on its thread, and settle it.

    The counters and the history are written before the token settles, so whoever has its result
    finds it counted. They are the worker's own; nobody else writes to them.

    Our own references to the call are dropped before anybody can see the token settled, and the
    traceback begins in the user's code: it holds no frame of ours, and our frames hold no error.

    One long function and not six short ones: every call passes here, and at this size each call of
    a function of our own would cost three per cent of the whole.
    """
    profile: Any = token._profile  # whatever is queued has one
    if profile.weight_index:
        # Before it counts as started: what has no weight is the rest.
        worker.started_by_weight[profile.weight_index] += 1
    serial = worker.started
    worker.started = serial + 1
    token._serial = serial  # before the host: whoever finds that has the number, too
    token._host = worker
    token._lane = worker.lane_number
    fn: Any = token._fn
    kwargs = token._kwargs
    notes = worker.notes
    code: CodeType | None
    if (
        type(fn) is FunctionType
        and fn.__qualname__ is notes.qualname
        and fn.__module__ is notes.module
        and profile is notes.profile
    ):  # as the last one
        code = fn.__code__
    else:
        code = code_of(fn)
        notes = worker.note(fn, profile)
    token._name = name = notes.name
    error: BaseException | None = None
    result: Any = None
    token._started_at = started_at = perf_counter()
    try:
        # Not one copy of the arguments outlives the call: the callee may free them.
        if kwargs:
            result = token._context.run(fn, *token._args, **kwargs)  # type: ignore[union-attr]
        else:
            result = token._context.run(fn, *token._args)  # type: ignore[union-attr]
    except BaseException as raised:  # the future's, whatever it is: as in the standard library
        ended_at = perf_counter()
        error = raised
        here = raised.__traceback__
        # Not by assignment: a frozen error's class forbids that.
        BaseException.with_traceback(raised, here.tb_next if here is not None else None)
        here = None
        if state_after(token, raised) is _FAILED:
            worker.failed += 1
        else:
            worker.killed += 1
    else:
        ended_at = perf_counter()
        worker.completed += 1
    token._fn = fn = token._kwargs = kwargs = token._context = None
    token._args = ()
    worker.current = None
    submitted_at = token.submitted_at
    worker.waited_seconds += started_at - submitted_at
    if not worker.outer:
        worker.busy_seconds += ended_at - started_at
    record = (
        token._id,
        serial,
        name,
        profile,
        None if error is None else (state_after(token, error), type(error).__name__),
        submitted_at,
        started_at,
        ended_at,
        code,
        1,
    )
    worker.keep(record)
    notes.records.append(record)
    token._settled_at = ended_at
    if profile.is_ordered:
        profile.gate.post(token, held=True)  # what it held is free before anybody sees it settled
    if error is not None:
        fail(token, error)
        # The error's traceback leads to this frame by way of the call's: break the ring.
        del token, error
        return
    token._result = result
    token._exception = None
    lock = token._lock
    lock.acquire()
    token._phase = _COMPLETED
    audience = token._audience
    if audience is None:
        lock.release()
        return
    try:
        callbacks = audience.tell(token, _COMPLETED)
    finally:
        lock.release()
    if callbacks:
        token._call_back(callbacks, BaseException)


def fail(token: Token[Any], error: BaseException, state: TokenState | None = None) -> None:
    """Settle a token whose call raised, or has come to ``state`` otherwise."""
    if state is None:
        state = state_after(token, error)
    with token._lock:
        if token._phase.settled:
            return  # by hand, before it began
        call = token._call
        callbacks = token._settle(state, None, error, token._settled_at or 0.0)
        profile = token._profile
        is_logged = state is _FAILED and profile and profile.log_unread_exceptions
        if is_logged and not has_reader(callbacks):
            token._unread = Unread(error, token.operation)
    del call
    token._call_back(callbacks, BaseException)


def state_after(token: Token[Any], error: BaseException) -> TokenState:
    """What a call that raised has come to: it has heeded a kill, or it has failed."""
    heeded = token._kill_requested and isinstance(error, TokenKilledError)
    return TokenState.KILLED if heeded else _FAILED
