"""Settlement: the one place where an attempt to run a token begins and ends."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from tokengate_executor.options import name_of
from tokengate_executor.token import call_of, complete, early_id, fail

if TYPE_CHECKING:
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.token import Token

__all__ = ["attempt"]


def attempt(worker: Worker, token: Token[Any]) -> None:
    """Run the call of a token that this worker has claimed, on this thread, and settle it.

    The counters and the history are written before the token settles, so whoever has its result
    finds it counted. They are the worker's own; nobody else writes to them.

    Our own references to the call are dropped before anybody can see the token settled, and the
    traceback begins in the user's code: it holds no frame of ours, and our frames hold no error.
    """
    serial = worker.started
    worker.started = serial + 1
    outer = worker.current
    worker.current = token
    fn, args, kwargs, context, profile = call_of(token)
    name = name_of(fn)
    worker.started_by_weight[profile.weight_index] += 1
    error: BaseException | None = None
    result: Any = None
    token.started_at = started_at = perf_counter()
    try:
        result = context.run(fn, *args, **kwargs) if kwargs else context.run(fn, *args)
    except BaseException as raised:  # the future's, whatever it is: as in the standard library
        ended_at = perf_counter()
        error = raised
        here = raised.__traceback__
        raised.__traceback__ = here.tb_next if here is not None else None
        here = None
        worker.failed += 1
    else:
        ended_at = perf_counter()
        worker.completed += 1
    fn = args = kwargs = context = None  # type: ignore[assignment]
    worker.current = outer
    submitted_at = token.submitted_at
    worker.waited_seconds += started_at - submitted_at
    if outer is None:
        worker.busy_seconds += ended_at - started_at
    worker.ring.append(
        (
            early_id(token),
            serial,
            name,
            profile,
            None if error is None else type(error).__name__,
            submitted_at,
            started_at,
            ended_at,
        )
    )
    if error is None:
        complete(token, result, name, ended_at)
    else:
        fail(token, error, name, ended_at)
        error = None
