"""``TokenGateExecutor``: wiring, and the verbs that users call."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from functools import update_wrapper
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, cast, overload

from typing_extensions import Unpack, override

from tokengate_executor import mapping
from tokengate_executor.engine.crew import Crew
from tokengate_executor.engine.gate import AFTER_SHUTDOWN, Gate, Profile, Route
from tokengate_executor.engine.lanes import Lane, check_pinning
from tokengate_executor.engine.process import look_after
from tokengate_executor.engine.router import Router
from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.observe.history import TokenRecord, merged
from tokengate_executor.observe.statistics import ExecutorStatistics, LaneStatistics
from tokengate_executor.options import OptionNames, TaskOptions, attached, attachments
from tokengate_executor.policies.topology import Topology, cpus_of_lanes, default_lanes
from tokengate_executor.policies.weights import WEIGHTS, AffinityPolicy, Weight
from tokengate_executor.token import Token

if TYPE_CHECKING:
    import threading

    from tokengate_executor.engine.workers import Worker

__all__ = ["ExecutorView", "TokenGateExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

_NOTHING_SAID: Final = TaskOptions()
_numbers: Final = count()


class _WorkQueue:
    """What monitoring code reads of ``ThreadPoolExecutor._work_queue``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def qsize(self) -> int:
        """How many calls wait; cancelled ones do not."""
        return self._gate.waiting

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._gate.waiting


class TokenGateExecutor(ThreadPoolExecutor):
    """A ``ThreadPoolExecutor`` whose calls are tokens, run by weighted lanes of workers.

    Args:
        max_workers: how many calls may run at a time; default as in the standard library.
        thread_name_prefix: of the worker threads' names.
        initializer: called in each worker thread before its first call.
        initargs: its arguments.
        lanes: how many lanes; default: the physical cores this process may use, at most
            ``max_workers``.
        policy: which weights may use which lanes; default: ``AffinityPolicy.staggered(lanes)``.
        pin_lanes: keep each lane's threads on the CPUs of its core.
        mailbox_size: how many tokens a lane may take from the gate beyond those it runs.
        history_size: how many finished tokens ``history`` remembers.
        max_spare_workers: how many threads may stand in for workers that wait for tokens.
        log_unread_exceptions: log what a call raised when its token is gone and nobody read it.
        exit_policy: ``"wait"``: pending calls are finished before the interpreter ends, as in the
            standard library; ``"abandon"``: they are cancelled, and the stacks of running ones are
            logged.

    Raises:
        ValueError: ``max_workers`` is not positive (with the standard library's text).
        InvalidOptionError: another argument has a value that is not allowed.
        TypeError: ``initializer`` is not callable.
    """

    def __init__(  # noqa: C901  each argument is checked in turn
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        *,
        lanes: int | None = None,
        policy: AffinityPolicy | None = None,
        pin_lanes: bool = False,
        mailbox_size: int = 32,
        history_size: int = 256,
        max_spare_workers: int = 256,
        log_unread_exceptions: bool = True,
        exit_policy: Literal["wait", "abandon"] = "wait",
    ) -> None:
        # The parent's __init__ is not run: it would build machinery that is never used.
        if max_workers is None:
            count_cpus: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
            max_workers = min(32, (count_cpus() or 1) + 4)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        _check_count("mailbox_size", mailbox_size, least=1)
        _check_count("history_size", history_size, least=0)
        _check_count("max_spare_workers", max_spare_workers, least=0)
        if exit_policy not in ("wait", "abandon"):
            raise InvalidOptionError("exit_policy", exit_policy, "'wait' or 'abandon'")
        if policy is not None and not isinstance(cast("object", policy), AffinityPolicy):
            raise InvalidOptionError("policy", policy, "an AffinityPolicy or None")
        if lanes is not None:
            _check_count("lanes", lanes, least=1, most=max_workers)

        self._topology = Topology.detect()
        if lanes is None:
            lanes = policy.lanes if policy else default_lanes(self._topology, max_workers)
        if policy is None:
            policy = AffinityPolicy.staggered(lanes)
        if policy.lanes != lanes or lanes > max_workers:
            raise InvalidOptionError(
                "policy",
                policy,
                f"a policy for {lanes} lanes, at most one for each of {max_workers} workers",
            )
        self._policy = policy
        cpus_by_lane = cpus_of_lanes(self._topology, lanes)
        if pin_lanes:
            check_pinning(cpus_by_lane)

        plain = Route(0, None, None)
        routes = [plain]
        routes += [Route(i, w, policy.lanes_for(w)) for i, w in enumerate(WEIGHTS, start=1)]
        router = Router()
        gate = Gate(routes, mailbox_size, max_workers, router)
        gate.lanes = tuple(
            Lane(number, cpus_by_lane[number - 1], plain) for number in range(1, lanes + 1)
        )
        self._gate = gate
        self._log_unread_exceptions = log_unread_exceptions
        self._profiles: dict[TaskOptions, Profile] = {}
        self._plain = self._profile(_NOTHING_SAID)
        self._thread_name_prefix = thread_name_prefix or f"{type(self).__name__}-{next(_numbers)}"
        self._max_workers = max_workers
        self._crew = Crew(
            gate=gate,
            router=router,
            max_workers=max_workers,
            max_spare_workers=max_spare_workers,
            name_prefix=self._thread_name_prefix,
            initializer=initializer,
            initargs=initargs,
            pin_lanes=pin_lanes,
            history_size=history_size,
        )
        look_after(self._crew, wait_at_exit=exit_policy == "wait")
        # The workers hold the crew, not the executor: they end when the last reference goes.
        weakref.finalize(self, self._crew.close, AFTER_SHUTDOWN).atexit = False

    # -- calls ------------------------------------------------------------------------------------

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Run ``fn(*args, **kwargs)`` in a copy of the caller's context; returns its token.

        Takes no lock: it may be called from signal handlers, finalisers and callbacks.

        Raises:
            RuntimeError: the executor or the interpreter is shut down.
            BrokenThreadPool: an initializer failed.
        """
        gate = self._gate
        if gate.closed is not None:
            raise gate.refusal()
        profile = self._plain
        if attachments and (said := attached(fn)) is not None:
            profile = self._profile(said)
        token = Token(fn, args, kwargs or None, copy_context(), profile)
        gate.admit(token, profile.route)
        return token

    @override
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """``map(fn, *iterables)`` with the calls run by the executor; results in order.

        Args:
            timeout: for all results, in seconds from this call; ``None``: as long as it takes.
            chunksize: accepted and without effect, as in ``ThreadPoolExecutor``.
            buffersize: how many calls may be in flight; input is then taken as results are.
                ``None``: all input is taken at once. On every Python, as in 3.14.

        Raises:
            TimeoutError: from the iterator, when a result is not there in time.
        """
        return _map(self, fn, iterables, timeout, buffersize)

    def options(self, **said: Unpack[OptionNames]) -> ExecutorView:
        """This executor with options for the calls made through the view.

        Args:
            weight: ``"heavy"``, ``"medium"`` or ``"light"``.
            operation: the name under which the calls are counted.

        Raises:
            UnknownOptionError: a name is not an option.
            InvalidOptionError: a value is not allowed.
        """
        return ExecutorView(self, TaskOptions.of(said))

    @overload
    def task(self, fn: Callable[P, T], /) -> Callable[P, Token[T]]: ...
    @overload
    def task(
        self, **said: Unpack[OptionNames]
    ) -> Callable[[Callable[P, T]], Callable[P, Token[T]]]: ...
    def task(  # type: ignore[misc]  # mypy does not see **said: Any accept the options
        self, fn: Any = None, /, **said: Any
    ) -> Any:
        """Decorate a function so that calling it submits it and returns the token.

        With or without options: ``@executor.task`` or ``@executor.task(weight="heavy")``.
        """
        view = self.options(**said)

        def decorate(function: Callable[P, T]) -> Callable[P, Token[T]]:
            def submit(*args: P.args, **kwargs: P.kwargs) -> Token[T]:
                return view.submit(function, *args, **kwargs)

            return update_wrapper(submit, function)

        return decorate if fn is None else decorate(fn)

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; finish, or with ``cancel_futures`` cancel, those that wait.

        Args:
            wait: return only when the worker threads have ended. A worker that shuts down its own
                executor does not wait for itself.
            cancel_futures: cancel the calls that have not started.
        """
        self._crew.close(AFTER_SHUTDOWN)
        if cancel_futures:
            self._crew.cancel_waiting()
        if wait:
            self._crew.join()

    # -- what is seen -----------------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        """The CPUs of the machine and of this process, when the executor was made."""
        return self._topology

    @property
    def policy(self) -> AffinityPolicy:
        """Which weights may use which lanes."""
        return self._policy

    def history(self) -> tuple[TokenRecord, ...]:
        """The last finished tokens, oldest first: names and numbers, never arguments."""
        return merged(self._crew.workers, self._crew.history_size)

    def statistics(self) -> ExecutorStatistics:
        """What the executor has done and is doing; see ``ExecutorStatistics``."""
        gate, crew = self._gate, self._crew
        workers = crew.workers
        idle = crew.router.idle.copy()
        running = [w for w in workers if w.thread is not None and w.thread.is_alive()]
        names = [route.weight or "unweighted" for route in gate.routes.values()]
        lanes: list[LaneStatistics] = []
        for lane in gate.lanes:
            own = [worker for worker in workers if worker.lane is lane]
            completed = sum(worker.completed for worker in own)
            failed = sum(worker.failed for worker in own)
            lanes.append(
                LaneStatistics(
                    number=lane.number,
                    cpus=lane.cpus,
                    workers=sum(worker.lane is lane for worker in running),
                    depth=len(lane.mailbox),
                    executing=max(0, sum(worker.started for worker in own) - completed - failed),
                    completed=completed,
                    failed=failed,
                    stolen=lane.stolen,
                    started_by_weight=_by_weight(own, names),
                    busy_seconds=sum(worker.busy_seconds for worker in own),
                    waited_seconds=sum(worker.waited_seconds for worker in own),
                )
            )
        waiting = gate.waiting
        executing = sum(lane.executing for lane in lanes)
        completed = sum(lane.completed for lane in lanes)
        failed = gate.failed_unstarted + sum(lane.failed for lane in lanes)
        cancelled = gate.cancelled_and_gone + len(gate.cancelled_shells)
        cancelled += sum(worker.cancelled for worker in workers)
        return ExecutorStatistics(
            submitted=waiting + executing + completed + failed + cancelled,
            waiting=waiting,
            executing=executing,
            completed=completed,
            failed=failed,
            cancelled=cancelled,
            workers=len(running),
            idle_workers=sum(worker.thread is not None for worker in idle),
            spare_workers=sum(worker.is_spare for worker in running),
            max_workers=self._max_workers,
            lanes=tuple(lanes),
        )

    # -- what monitoring code reads of the standard library's class --------------------------------

    @property
    def _threads(self) -> set[threading.Thread]:  # type: ignore[override]
        return set(self._crew.threads)

    @property
    def _work_queue(self) -> _WorkQueue:  # type: ignore[override]
        return _WorkQueue(self._gate)

    @property
    def _shutdown(self) -> bool:  # type: ignore[override]
        return self._gate.closed is not None

    @property
    def _broken(self) -> str | bool:  # type: ignore[override]
        closed = self._gate.closed
        return closed[1] if closed is not None and closed[0] is not RuntimeError else False

    # -- for views --------------------------------------------------------------------------------

    def _profile(self, options: TaskOptions) -> Profile:
        profile = self._profiles.get(options)
        if profile is None:
            weight: Weight | None = options.weight
            route = self._gate.routes[weight]
            self._gate.use(route)
            profile = self._profiles[options] = Profile(
                self._gate, route, options.operation, self._log_unread_exceptions
            )
        return profile

    def submit_with(
        self, options: TaskOptions, fn: Callable[..., T], args: Any, kwargs: Any
    ) -> Token[T]:
        """Submit with options that are checked already: what a view's ``submit`` does."""
        gate = self._gate
        if gate.closed is not None:
            raise gate.refusal()
        said = attached(fn)
        profile = self._profile(options if said is None else options.over(said))
        token = Token(fn, args, kwargs, copy_context(), profile)
        gate.admit(token, profile.route)
        return token


class ExecutorView(Executor):
    """A ``TokenGateExecutor`` with options: what ``executor.options(...)`` returns.

    It has no life of its own: ``shutdown``, and leaving its ``with`` block, shut the executor down.
    """

    def __init__(self, executor: TokenGateExecutor, options: TaskOptions) -> None:
        self._executor = executor
        self._options = options

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """As ``TokenGateExecutor.submit``, with the view's options."""
        return self._executor.submit_with(self._options, fn, args, kwargs)

    @override
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As ``TokenGateExecutor.map``, with the view's options."""
        return _map(self, fn, iterables, timeout, buffersize)

    def options(self, **said: Unpack[OptionNames]) -> ExecutorView:
        """A view with further options; those said here win over this view's."""
        return ExecutorView(self._executor, TaskOptions.of(said).over(self._options))

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As ``TokenGateExecutor.shutdown``: it is the executor that shuts down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


def _map(
    executor: TokenGateExecutor | ExecutorView,
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[T]:
    mapping.check_buffersize(buffersize)
    deadline = mapping.deadline_after(timeout)
    arguments = zip(*iterables, strict=False)
    if buffersize is None:
        # The iterator must not hold the executor: it ends when its last user lets go of it.
        submit = executor.submit
        return mapping.eager([submit(fn, *given) for given in arguments], deadline)
    return mapping.lazy(lambda given: executor.submit(fn, *given), arguments, deadline, buffersize)


def _by_weight(workers: Iterable[Worker], names: Sequence[str]) -> Mapping[str, int]:
    """How many calls the workers started, by weight; unweighted ones are the rest."""
    started = {
        name: sum(worker.started_by_weight[index] for worker in workers)
        for index, name in enumerate(names)
    }
    started[names[0]] = sum(worker.started for worker in workers) - sum(started.values())
    return MappingProxyType(started)


def _check_count(argument: str, given: object, *, least: int, most: int | None = None) -> None:
    allowed = f"an int of at least {least}" + ("" if most is None else f" and at most {most}")
    if not isinstance(given, int) or isinstance(given, bool):
        raise InvalidOptionError(argument, given, allowed)
    if given < least or (most is not None and given > most):
        raise InvalidOptionError(argument, given, allowed)
