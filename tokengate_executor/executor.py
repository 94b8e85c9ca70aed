"""``TokenGateExecutor``: wiring, and the verbs that users call."""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial, update_wrapper
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, overload

from typing_extensions import Unpack, override

from tokengate_executor import mapping
from tokengate_executor.engine.assembly import (
    ExitPolicy,
    MaxPending,
    Plan,
    assemble,
    check_count,
    most_workers,
    pace,
)
from tokengate_executor.engine.bounded import OnFull
from tokengate_executor.engine.gate import AFTER_SHUTDOWN, Gate
from tokengate_executor.engine.limits import Bucket, limits_of
from tokengate_executor.engine.pacer import ConvergenceReport
from tokengate_executor.engine.process import look_after
from tokengate_executor.engine.routes import Profile
from tokengate_executor.engine.steering import DrainReport, Steering
from tokengate_executor.guard.house import GuardHouse
from tokengate_executor.guard.quarantine import Quarantine, Replay, store_of
from tokengate_executor.guard.recovery import Recovery
from tokengate_executor.guard.store import QuarantineStore
from tokengate_executor.observe.dump import history_as_json, write_atomically
from tokengate_executor.observe.events import Listener, announcer_for
from tokengate_executor.observe.herald import Herald
from tokengate_executor.observe.histograms import LaneHistograms, histograms_of
from tokengate_executor.observe.history import TokenRecord, merged
from tokengate_executor.observe.live import LiveToken, live_tokens
from tokengate_executor.observe.statistics import ExecutorStatistics, gather
from tokengate_executor.options import OptionNames, TaskOptions, attached, attachments
from tokengate_executor.policies.breaker import BreakerPolicy
from tokengate_executor.policies.convergence import ConvergencePolicy
from tokengate_executor.policies.limits import LimitSpec
from tokengate_executor.policies.retry import RetryPolicy, TenacityRetrying
from tokengate_executor.policies.spikes import SpikePolicy
from tokengate_executor.policies.topology import Topology
from tokengate_executor.policies.weights import AffinityPolicy
from tokengate_executor.token import Token
from tokengate_executor.view import ExecutorView, asyncio_verbs, map_over

if TYPE_CHECKING:
    import asyncio
    import threading

    from tokengate_executor.dashboard import DashboardServer

__all__ = ["TokenGateExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

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
        max_pending: how many calls may wait; one number for all together, or a mapping from weights
            (``None``: no weight) to numbers, so that none takes the others' room. ``None``: any number.
        on_full: what ``submit`` does when that many wait: ``"block"`` until one starts, ``"raise"``
            ``GateFullError``, ``"caller_runs"`` the call itself before it returns, or
            ``"discard_oldest"`` or ``"discard_newest"``: cancel that one. A call of one of our own
            workers is run by that worker instead of blocking it.
        submit_timeout: for how long, in seconds, ``submit`` blocks at most before ``GateFullError``.
        limits: name → how many calls that name the limit may run at once (an int), or start in a
            time (a ``RateLimit``).
        ageing: a call that has waited for so many seconds goes as if its priority were one higher.
        keep_alive: after how many idle seconds a worker thread ends; ``None``: never.
        convergence: adapt the number of workers to the load, between bounds: see ``ConvergencePolicy``.
            ``max_workers`` is then how many there may be, and the executor begins with the policy's
            ``min_workers``, and without ``lanes=`` has no more lanes than that. ``None``: it stays.
        history_size: how many finished tokens ``history`` remembers.
        max_spare_workers: how many threads may stand in for workers that wait for tokens, or whose
            calls run for longer than their ``timeout``.
        retry: when calls that failed are tried again, unless they say otherwise; see ``RetryPolicy``.
        timeout: for how long calls may run, in seconds, unless they say otherwise.
        slow_after: after how many seconds the stack of a running call is logged, once.
        breaker: when an operation that fails too often is blocked, and for how long; ``None``: the
            guard house only watches.
        spikes: what is done about calls with unusually large arguments; ``None``: nothing.
        quarantine: where calls are kept that were given up, or held: the path of an SQLite file, a
            ``QuarantineStore``, or ``True``: in memory. ``None``: calls that were given up are not kept.
        listeners: called with each event, on the thread on which it happened; see
            ``tokengate_executor.observe.events``. With none, events cost nothing.
        log_unread_exceptions: log what a call raised when its token is gone and nobody read it.
        exit_policy: ``"wait"``: pending calls are finished before the interpreter ends, as in the
            standard library; ``"abandon"``: they are cancelled, and the stacks of running ones are
            logged.

    Raises:
        ValueError: ``max_workers`` is not positive (with the standard library's text).
        InvalidOptionError: another argument has a value that is not allowed.
        TypeError: ``initializer`` is not callable.
    """

    def __init__(
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
        max_pending: MaxPending | None = None,
        on_full: OnFull = "block",
        submit_timeout: float | None = None,
        limits: Mapping[str, LimitSpec] | None = None,
        ageing: float = 60.0,
        keep_alive: float | None = None,
        convergence: ConvergencePolicy | None = None,
        history_size: int = 256,
        max_spare_workers: int = 256,
        retry: RetryPolicy | TenacityRetrying | None = None,
        timeout: float | None = None,
        slow_after: float | None = None,
        breaker: BreakerPolicy | None = None,
        spikes: SpikePolicy | None = None,
        quarantine: str | os.PathLike[str] | QuarantineStore | bool | None = None,
        listeners: Iterable[Listener] = (),
        log_unread_exceptions: bool = True,
        exit_policy: ExitPolicy = "wait",
    ) -> None:
        # The parent's __init__ is not run: it would build machinery that is never used.
        care = TaskOptions(retry=retry, timeout=timeout, slow_after=slow_after, spikes=spikes)
        announce = announcer_for(listeners)
        store = store_of(quarantine)
        plan = Plan(
            max_workers=most_workers(max_workers, convergence),
            thread_name_prefix=thread_name_prefix or f"{type(self).__name__}-{next(_numbers)}",
            initializer=initializer,
            initargs=initargs,
            lanes=lanes,
            policy=policy,
            pin_lanes=pin_lanes,
            mailbox_size=mailbox_size,
            history_size=history_size,
            max_spare_workers=max_spare_workers,
            exit_policy=exit_policy,
            max_pending=max_pending,
            on_full=on_full,
            submit_timeout=submit_timeout,
            limits=limits,
            ageing=ageing,
            keep_alive=keep_alive,
            breaker=breaker,
            convergence=convergence,
        )
        self._crew, self._topology, self._policy = assemble(plan)
        self._pacer = pace(self._crew, plan, self._topology)
        self._gate = self._crew.gate
        self._gate.announce = announce
        self._recovery = Recovery(
            self._crew, defaults=care, breaker=breaker, store=store, replay=_replay_on(self)
        )
        self._steering = Steering(self._crew)
        self._dashboards: list[DashboardServer] = []
        self._crew.at_end.append(partial(_stop_each, self._dashboards))
        self._thread_name_prefix = plan.thread_name_prefix
        self._log_unread_exceptions = log_unread_exceptions
        self._plain = self.profile_of(TaskOptions())
        # For functions with options of their own, by these.
        self._profiles: dict[TaskOptions, Profile] = {}
        look_after(self._crew, wait_at_exit=exit_policy == "wait")
        # The workers hold the crew, not the executor: they end when the last reference goes.
        weakref.finalize(self, self._gate.close, AFTER_SHUTDOWN).atexit = False

    # -- calls ------------------------------------------------------------------------------------

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Run ``fn(*args, **kwargs)`` in a copy of the caller's context; returns its token.

        Takes no lock: it may be called from signal handlers, finalisers and callbacks. It waits only
        if ``max_pending`` is given, ``on_full`` is ``"block"``, and it is full.

        Raises:
            RuntimeError: the executor or the interpreter is shut down, or the executor is drained.
            BrokenThreadPool: an initializer failed.
            GateFullError: too many calls wait already, and ``on_full`` says so.
        """
        if self._gate.closed is not None:
            self._gate.check_open()
        profile = self.profile_for(fn) if attachments else self._plain
        token = Token(fn, args, kwargs or None, copy_context(), profile)
        profile.admit(token, profile.route)
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
        return map_over(self, fn, iterables, timeout, buffersize)

    def options(self, **said: Unpack[OptionNames]) -> ExecutorView:
        """This executor with options for the calls made through the view.

        Args:
            said: options by name; ``TaskOptions`` tells what they mean.

        Raises:
            UnknownOptionError: a name is not an option.
            InvalidOptionError: a value is not allowed, or a limit has no such name.
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
        self._gate.close(AFTER_SHUTDOWN)
        if cancel_futures:
            self._crew.cancel_waiting()
        if wait:
            self._crew.join()
            if not self._crew.is_own_worker():
                for dashboard in self._dashboards:
                    dashboard.stop()

    # -- calls from asyncio -----------------------------------------------------------------------
    async def asubmit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Wait until one more call may wait (``max_pending``), and submit it; returns its token.

        It waits for room, not for the result: await the token for that. Whatever ``on_full`` says,
        it waits, and never blocks the event loop.

        Raises:
            RuntimeError: the executor is shut down, or drained.
        """
        return await asyncio_verbs().submit(self.profile_for(fn), fn, args, kwargs)

    def arun(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """``await executor.arun(fn, ...)``: run the call, without blocking the event loop.

        Submitted at once if there is room, else when there is. Cancelling what it returns, or the
        task that awaits it, cancels the call if it has not started.

        Raises:
            RuntimeError: the executor is shut down, or drained; or no event loop runs here.
        """
        return asyncio_verbs().run(self.profile_for(fn), fn, args, kwargs)

    def amap(
        self, fn: Callable[..., T], *iterables: Iterable[Any], buffersize: int | None = None
    ) -> AsyncGenerator[T, None]:
        """``async for result in executor.amap(fn, *iterables)``: results in order.

        Args:
            buffersize: how many calls may be in flight; input is then taken as results are.
                ``None``: all input is taken first, as soon as there is room for the calls.
        """
        mapping.check_buffersize(buffersize)
        return asyncio_verbs().map_results(self.profile_for(fn), fn, iterables, buffersize)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Shut down and wait, without blocking the event loop."""
        await asyncio_verbs().shut_down(self)

    # -- steering ---------------------------------------------------------------------------------
    # Not for finalisers and signal handlers: these verbs wait for the gate's lock.

    def pause(self, operation: str | None = None) -> None:
        """Let nothing start, or nothing of one operation, until ``resume``.

        What runs goes on, and calls are still accepted. When this returns, no further call begins.
        ``shutdown`` resumes what is paused.

        Raises:
            RuntimeError: the executor is shut down.
        """
        self._steering.pause(operation)

    def resume(self, operation: str | None = None) -> None:
        """Undo ``pause()``, or ``pause(operation)``; and without an operation, ``drain``, too.

        An operation that was paused by name stays paused until it is resumed by name.
        """
        self._steering.resume(operation)

    def drain(self, timeout: float | None = None) -> DrainReport:
        """Accept no more calls, finish those that are there, and stay closed until ``resume``.

        Calls that run may still submit: what they need to finish is part of what is there. Called
        inside a call, it does not wait for that one.

        Args:
            timeout: for how long to wait, in seconds; ``None``: as long as it takes. What is paused
                does not finish, so give one then.

        Returns:
            what was left when the time was over; it goes on all the same.

        Raises:
            RuntimeError: the executor is shut down.
        """
        return self._steering.drain(timeout)

    def purge(self, operation: str | None = None) -> int:
        """Cancel what waits, or what waits of one operation; returns how many calls that were."""
        return self._steering.purge(operation)

    def kill(self, token_id: str | None = None, *, operation: str | None = None) -> int:
        """End a token, or all of an operation; returns how many that were.

        One that waits is ``KILLED`` at once, and its ``result`` raises ``TokenKilledError``. A thread
        cannot be stopped from outside: one that runs gets its ``kill_requested`` set, and ends
        where its call heeds that, see ``current_token``.

        Raises:
            InvalidOptionError: neither or both were named.
        """
        return self._steering.kill(token_id, operation)

    def set_limit(self, name: str, limit: LimitSpec) -> None:
        """Change a limit: more permits can be had at once, fewer as calls give theirs back.

        Args:
            name: of a limit of ``limits=``, or ``"storage:slow"`` and so on.
            limit: an int for an int, a ``RateLimit`` for a ``RateLimit``.

        Raises:
            InvalidOptionError: there is no such limit, or it is of the other kind.
        """
        self._steering.set_limit(name, limit)

    def resize(self, max_workers: int) -> None:
        """Let so many calls run at a time from now on. A worker too many ends after its call.

        With a ``ConvergencePolicy`` it goes on from there, and back within its bounds.

        Args:
            max_workers: at least one for each lane.

        Raises:
            InvalidOptionError: it is fewer, or no int.
            RuntimeError: the system gives no thread for a call that waits.
        """
        check_count("max_workers", max_workers, least=len(self._gate.lanes))
        self._crew.resize(max_workers)

    # -- what is seen -----------------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        """The CPUs of the machine and of this process, when the executor was made."""
        return self._topology

    @property
    def policy(self) -> AffinityPolicy:
        """Which weights may use which lanes."""
        return self._policy

    @property
    def name(self) -> str:
        """What its threads' names begin with: ``thread_name_prefix``, or one made for it."""
        return self._crew.name_prefix

    def history(self, last: int | None = None) -> tuple[TokenRecord, ...]:
        """The last finished tokens, oldest first: names and numbers, never arguments.

        Args:
            last: not more than so many. ``None``: as many as ``history_size`` says.

        Raises:
            InvalidOptionError: ``last`` is no int, or negative.
        """
        size = self._crew.history_size
        if last is not None:
            check_count("last", last, least=0)
            size = min(size, last)
        return merged(self._crew.workers, size)

    def dump_history(self, path: str | os.PathLike[str]) -> int:
        """Write the history to a file, as JSON; returns how many tokens are in it.

        The file is replaced in one go. ``tokengate_executor.observe.dump`` tells its fields.

        Raises:
            OSError: the file cannot be written; what was there before is still there.
        """
        records = self.history()
        write_atomically(path, history_as_json(records))
        return len(records)

    def tokens(self, most: int = 100) -> tuple[LiveToken, ...]:
        """Tokens that are not settled: those that run, then those that wait, the oldest first.

        Args:
            most: not more than so many. Of very many that wait, those at the heads of the queues.

        Raises:
            InvalidOptionError: ``most`` is no int, or negative.
        """
        check_count("most", most, least=0)
        return live_tokens(self._crew, most)

    def statistics(self) -> ExecutorStatistics:
        """What the executor has done and is doing; see ``ExecutorStatistics``."""
        return gather(self._crew, self._recovery)

    def measure(self) -> None:
        """From now on count how long tokens wait and run, for ``histograms``. Exporters call it."""
        self._crew.measure()

    def histograms(self) -> Mapping[int, LaneHistograms]:
        """How long tokens waited and ran since ``measure`` was called, by the number of their lane."""
        meters = [(worker.lane_number, worker.meter) for worker in self._crew.workers]
        counted = [(lane, meter) for lane, meter in meters if meter is not None]
        return histograms_of([*counted, *self._recovery.meters.copy().items()])

    @property
    def convergence(self) -> ConvergenceReport | None:
        """How the number of workers is adapted, and why; ``print`` it. ``None``: it is not."""
        return None if self._pacer is None else self._pacer.report()

    @property
    def guard_house(self) -> GuardHouse:
        """How each operation is doing, and what is blocked; ``print`` it for a report."""
        return self._recovery.house

    @property
    def quarantine(self) -> Quarantine:
        """Calls that wait for a person's decision."""
        return self._recovery.quarantine

    def serve_dashboard(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        password: str | None = None,
        launch: Mapping[str, Callable[[], object]] | None = None,
        show_arguments: bool = False,
        ssl_certfile: str | os.PathLike[str] | None = None,
        ssl_keyfile: str | os.PathLike[str] | None = None,
    ) -> DashboardServer:
        """Serve a live dashboard of this executor, from a thread, until the executor has ended.

        It needs the extra ``dashboard``. Without a password it can be read on this machine alone, and
        nothing can be controlled.

        Args:
            host: the address, or the name of it, at which to listen.
            port: at which; 0: any that is free, see ``port`` and ``url`` of what is returned.
            password: who knows it may read and control. Plain, or what
                ``tokengate_executor.dashboard.hash_password`` made of it.
            launch: name → what those who may control can submit from the dashboard.
            show_arguments: whether arguments of quarantined calls, and texts of errors, are shown.
            ssl_certfile: the path of a certificate; with it, https is spoken.
            ssl_keyfile: of its key, if that is not in the same file.

        Raises:
            ImportError: the extra is not installed.
            InvalidOptionError: others than this machine could reach it and there is no password, or an
                argument has a value that is not allowed.
            OSError: the address cannot be had, as the port is in use.
        """
        # The one door to a floor above this one, and only for who comes here: see decision 0011.
        dashboard = import_module("tokengate_executor.dashboard")
        server: DashboardServer = dashboard.serve(
            self,
            host=host,
            port=port,
            password=password,
            launch=launch,
            show_arguments=show_arguments,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
        )
        return server

    # -- what monitoring code reads of the standard library's class --------------------------------

    @property
    def _max_workers(self) -> int:  # type: ignore[override]
        return self._crew.max_workers

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

    # -- for views and for the asyncio verbs ---------------------------------------------------------

    @property
    def gate(self) -> Gate:
        """Where its tokens wait. Not for users."""
        return self._gate

    def add_dashboard(self, server: DashboardServer) -> None:
        """Stop it when everything has ended. Not for users."""
        self._dashboards[:] = [*(one for one in self._dashboards if one.is_running), server]
        if self._gate.is_ending:
            self._crew.end_timers()  # it may have ended before it had this one to stop

    def profile_of(self, options: TaskOptions) -> Profile:
        """Resolve options. Not for users.

        Raises:
            InvalidOptionError: a limit has no such name.
            RuntimeError: the system gives no thread for timers.
        """
        gate = self._gate
        limits = limits_of(options, gate.limits)
        if options.queue_timeout is not None or any(isinstance(one, Bucket) for one in limits):
            gate.timers.start()
        if options.need_order:
            gate.govern(for_good=True)
        route = gate.routes[options.weight]
        gate.use(route)
        profile = Profile(
            gate,
            route,
            options,
            limits,
            log_unread_exceptions=self._log_unread_exceptions,
        )
        if gate.announce is not None:
            Herald(gate.announce, profile)
        self._recovery.supervise(profile, options)
        return profile

    def profile_for(self, fn: object) -> Profile:
        """What the options said at the function come to. Not for users."""
        if not attachments or (said := attached(fn)) is None:
            return self._plain
        profile = self._profiles.get(said)
        if profile is None:
            profile = self._profiles[said] = self.profile_of(said)
        return profile

    def submit_as(
        self, profile: Profile, fn: Callable[..., T], args: Any, kwargs: dict[str, Any]
    ) -> Token[T]:
        """Submit with resolved options: what a view's ``submit`` does. Not for users."""
        if self._gate.closed is not None:
            self._gate.check_open()
        token = Token(fn, args, kwargs or None, copy_context(), profile)
        profile.admit(token, profile.route)
        return token


def _stop_each(dashboards: list[DashboardServer]) -> None:
    for dashboard in tuple(dashboards):
        dashboard.request_stop()


def _replay_on(executor: TokenGateExecutor) -> Replay:
    """Does not hold the executor, which ends when its last user lets go of it."""
    reference = weakref.ref(executor)

    def replay(
        operation: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Token[Any]:
        here = reference()
        if here is None:
            kind, text = AFTER_SHUTDOWN
            raise kind(text)
        here.gate.check_open()
        profile = here.profile_of(TaskOptions(operation=operation))
        token = Token(fn, args, kwargs or None, copy_context(), profile)
        if profile.herald is None:
            here.gate.admit(token, profile.route)
        else:
            profile.herald.let_in(here.gate.admit, token, profile.route)
        return token

    return replay
