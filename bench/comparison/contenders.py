"""The executors that are measured, reduced to the verbs that the workloads use.

All run the same workload functions, through their own ``submit`` and ``result``.
``multiprocessing.pool.ThreadPool`` has other verbs: ``apply_async`` and ``get`` stand in, and
its ``map`` cuts the input into chunks unasked. more-executors is its plain thread pool.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import importlib
import multiprocessing.pool
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import UsageError

REFERENCE = "ThreadPoolExecutor"
DEFAULT_CANDIDATE = "tokengate_executor:TokenGateExecutor"

Call = Callable[[], object]


@dataclass(frozen=True)
class Pool:
    """One running executor, reduced to the verbs that the workloads use."""

    raw: Any
    submit: Callable[[Call], Any]
    read_one: Callable[[Any], object]
    read_all: Callable[[list[Any]], list[object]]
    map_all: Callable[[Callable[[int], int], range], list[int]]
    stop: Callable[[], None]


@dataclass(frozen=True)
class Contender:
    """A name for a column, and how to start that executor with a number of workers."""

    name: str
    start: Callable[[int], Pool]
    is_executor: bool = True  # False: has no `submit`, so asyncio cannot use it


def results_of(futures: list[Any]) -> list[object]:
    """Read every future, in the order of submission."""
    return [future.result() for future in futures]


def gets_of(results: list[Any]) -> list[object]:
    """Read every ``AsyncResult``, in the order of submission."""
    return [result.get() for result in results]


def start_executor(factory: Callable[..., Any], workers: int) -> Pool:
    """Start anything with the interface of ``concurrent.futures.Executor``."""
    executor = factory(max_workers=workers)
    return Pool(
        raw=executor,
        submit=executor.submit,
        read_one=operator.methodcaller("result"),
        read_all=results_of,
        map_all=lambda function, items: list(executor.map(function, items)),
        stop=executor.shutdown,
    )


def start_multiprocessing_pool(workers: int) -> Pool:
    """Start a ``multiprocessing.pool.ThreadPool``."""
    pool = multiprocessing.pool.ThreadPool(workers)
    return Pool(
        raw=pool,
        submit=pool.apply_async,
        read_one=operator.methodcaller("get"),
        read_all=gets_of,
        map_all=pool.map,
        stop=functools.partial(close_and_join, pool),
    )


def start_pebble_pool(workers: int) -> Pool:
    """Start a ``pebble.ThreadPool``."""
    pool = importlib.import_module("pebble").ThreadPool(max_workers=workers)
    return Pool(
        raw=pool,
        submit=pool.submit,
        read_one=operator.methodcaller("result"),
        read_all=results_of,
        map_all=lambda function, items: list(pool.map(function, items).result()),
        stop=functools.partial(close_and_join, pool),
    )


def close_and_join(pool: Any) -> None:
    """Stop a pool that ends in two steps."""
    pool.close()
    pool.join()


def load_candidate(specification: str) -> Contender:
    """Import ``module:factory``; the factory is called with ``max_workers=N``."""
    module_name, _, factory_name = specification.partition(":")
    if not module_name or not factory_name:
        raise UsageError(f"--candidate: expected module:factory, got {specification!r}")
    try:
        factory = operator.attrgetter(factory_name)(importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--candidate {specification}: {error}") from error
    name = factory_name.rpartition(".")[2]
    # Measuring the reference against itself tests this script; its column needs its own name.
    return Contender(
        f"{name} (candidate)" if name == REFERENCE else name,
        functools.partial(start_executor, factory),
    )


def load_contenders(specification: str) -> tuple[Contender, ...]:
    """Return the reference, the candidate, then each further library that is installed."""
    stdlib_factory = concurrent.futures.ThreadPoolExecutor
    contenders = [
        Contender(REFERENCE, functools.partial(start_executor, stdlib_factory)),
        load_candidate(specification),
        Contender("multiprocessing", start_multiprocessing_pool, is_executor=False),
    ]
    with contextlib.suppress(ImportError):
        importlib.import_module("pebble")
        contenders.append(Contender("pebble", start_pebble_pool))
    with contextlib.suppress(ImportError):
        more_factory = importlib.import_module("more_executors").Executors.thread_pool
        contenders.append(
            Contender("more-executors", functools.partial(start_executor, more_factory))
        )
    return tuple(contenders)
