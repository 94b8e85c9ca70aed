"""``map`` for executors: eager, or lazy with a bound on what is in flight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any, TypeVar, cast

__all__ = ["check_buffersize", "deadline_after", "eager", "lazy"]

T = TypeVar("T")


def check_buffersize(buffersize: int | None) -> None:
    """The standard library's own checks and texts (3.14).

    Raises:
        TypeError, ValueError: it is not a positive integer or ``None``.
    """
    if buffersize is not None and not isinstance(cast("object", buffersize), int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


def deadline_after(timeout: float | None) -> float | None:
    """The moment, in seconds of ``time.monotonic``, at which the time for all results is over."""
    return None if timeout is None else timeout + time.monotonic()


def eager(futures: list[Future[T]], deadline: float | None) -> Iterator[T]:
    """The results of futures that are all submitted, in order; takes the list for its own."""
    futures.reverse()
    try:
        while futures:
            # Popped first: neither the list nor this frame holds what the consumer has.
            yield _result(futures.pop(), deadline)
    finally:
        for future in futures:
            future.cancel()


def lazy(
    submit: Callable[[tuple[Any, ...]], Future[T]],
    arguments: Iterable[tuple[Any, ...]],
    deadline: float | None,
    buffersize: int,
) -> Iterator[T]:
    """The results in order; input is taken when there is room for it among ``buffersize``."""
    rest = iter(arguments)
    futures = deque(submit(given) for given in islice(rest, buffersize))
    return _refilled(futures, rest, submit, deadline)


def _refilled(
    futures: deque[Future[T]],
    rest: Iterator[tuple[Any, ...]],
    submit: Callable[[tuple[Any, ...]], Future[T]],
    deadline: float | None,
) -> Iterator[T]:
    refused: RuntimeError | None = None
    try:
        while futures:
            result = [_result(futures.popleft(), deadline)]
            if refused is None:
                for given in islice(rest, 1):
                    try:
                        futures.append(submit(given))
                    except RuntimeError as error:
                        refused = error  # what is in flight is still handed out; then it is said
            yield result.pop()
        if refused is not None:
            raise refused
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[T], deadline: float | None) -> T:
    try:
        return future.result(None if deadline is None else deadline - time.monotonic())
    except BaseException:
        future.cancel()  # nobody can ask for it any more
        raise
    finally:
        # The traceback of what is raised here holds this frame: break the ring.
        del future
