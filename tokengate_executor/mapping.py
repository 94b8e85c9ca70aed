"""``map`` for executors: eager, or lazy with a bound on what is in flight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, TypeVar, cast

__all__ = ["check_buffersize", "eager", "lazy"]

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


def eager(futures: Sequence[Future[T]], timeout: float | None) -> Iterator[T]:
    """The results of futures that are all submitted, in order."""
    return _results(deque(futures), iter(()), _nothing, _deadline(timeout))


def lazy(
    submit: Callable[[tuple[Any, ...]], Future[T]],
    arguments: Iterable[tuple[Any, ...]],
    timeout: float | None,
    buffersize: int,
) -> Iterator[T]:
    """The results in order; input is taken when there is room for it among ``buffersize``."""
    end = _deadline(timeout)
    rest = iter(arguments)
    futures = deque(submit(given) for given in islice(rest, buffersize))
    return _results(futures, rest, submit, end)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else timeout + time.monotonic()


def _nothing(_: tuple[Any, ...]) -> Future[Any]:
    raise AssertionError("an eager map has no further input")


def _results(
    futures: deque[Future[T]],
    rest: Iterator[tuple[Any, ...]],
    submit: Callable[[tuple[Any, ...]], Future[T]],
    end: float | None,
) -> Iterator[T]:
    refused: RuntimeError | None = None
    try:
        while futures:
            # The queue lets go of the future, and we of its result, before the consumer has it.
            result = [_result(futures.popleft(), end)]
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


def _result(future: Future[T], end: float | None) -> T:
    try:
        try:
            return future.result(None if end is None else end - time.monotonic())
        finally:
            future.cancel()
    finally:
        # The traceback of what is raised here holds this frame: break the ring.
        del future
