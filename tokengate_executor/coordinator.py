"""``OperationsCoordinator``: an executor with a start and a stop, and the seed's verbs.

The seed's programs have one, and decorate what it is to run with ``task_token_guard``, which is in
``tokengate_executor.token_guard``. Which coordinator a call goes to is decided in ``coordinator_runs``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final, Self, cast

from typing_extensions import Unpack

from tokengate_executor.coordinator_options import ExecutorOptions, checked
from tokengate_executor.coordinator_runs import CoordinatorRuns
from tokengate_executor.errors import CoordinatorNotRunningError, InvalidOptionError
from tokengate_executor.executor import TokenGateExecutor
from tokengate_executor.options import is_duration
from tokengate_executor.view import asyncio_verbs

if TYPE_CHECKING:
    import os

    from tokengate_executor.engine.steering import DrainReport
    from tokengate_executor.guard.house import GuardHouse
    from tokengate_executor.guard.quarantine import Quarantine
    from tokengate_executor.observe.statistics import ExecutorStatistics
    from tokengate_executor.policies.topology import Topology
    from tokengate_executor.policies.weights import AffinityPolicy

__all__ = ["OperationsCoordinator"]


class OperationsCoordinator:
    """Runs the calls of functions that are decorated with ``task_token_guard``.

    Each ``start`` makes a ``TokenGateExecutor``, and ``stop`` shuts it down. While several coordinators
    run, a call goes to the one that runs the call which makes it; elsewhere to the one that was started
    last in the same context (thread, or task of asyncio), else to the one started last in the process.

    It is a context manager, also in asyncio, where leaving it does not block the event loop.

    Args:
        options: the arguments of ``TokenGateExecutor``, by name.

    Raises:
        UnknownOptionError: it has no such argument.
        ValueError, TypeError: as ``TokenGateExecutor`` raises them for its arguments,
            ``InvalidOptionError`` among them.
    """

    def __init__(self, **options: Unpack[ExecutorOptions]) -> None:
        self._options: Final = checked(options)
        self._runs: Final = CoordinatorRuns()

    def __repr__(self) -> str:
        run = self._runs.last
        if run is None:
            state = "not started"
        else:
            state = f"{'running' if run.is_alive else 'stopped'} {run.executor.name}"
        return f"<{type(self).__name__} {state}>"

    # -- start, stop ------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin to take calls, with a new executor; and be the one that calls from this context go to.

        If it runs already, only the second is new. No thread starts before there is a call.

        Raises:
            QuarantineFileError: the file of ``quarantine=`` cannot be used.
        """
        self._runs.begin(lambda: TokenGateExecutor(**self._options))
        return self

    def stop(
        self, wait: bool = True, *, timeout: float | None = None, cancel_futures: bool = False
    ) -> bool:
        """Take no more calls, and finish those that are there; as ``TokenGateExecutor.shutdown``.

        Calls that these would still make are refused; ``drain_pool`` beforehand finishes them, too.
        One that was stopped already is waited for all the same. Called inside a call that it runs, it
        does not wait, as that call would wait for itself.

        Args:
            wait: return only when the worker threads have ended.
            timeout: wait no longer than that, in seconds; what is left then goes on. ``None``: as
                long as it takes.
            cancel_futures: cancel the calls that have not started.

        Returns:
            whether it has waited until all had ended; ``True``, too, if it was never started.

        Raises:
            InvalidOptionError: ``timeout`` is no number of seconds, or there is one and no ``wait``.
        """
        if timeout is not None and (not wait or not is_duration(timeout)):
            allowed = "seconds, at least 0, or None" if wait else "None unless there is a wait"
            raise InvalidOptionError("timeout", timeout, allowed)
        run = self._runs.end()
        if run is None:
            return True
        executor = run.executor
        executor.shutdown(wait=False, cancel_futures=cancel_futures)
        if not wait or run.gate.is_own_worker():
            return False
        if timeout is None:
            executor.shutdown()
            return True
        # A wait of ours could end in time; that of the executor, which knows what is still to come, has
        # no timeout.
        waiter = threading.Thread(
            target=executor.shutdown, name=f"{executor.name}_stop", daemon=True
        )
        waiter.start()
        waiter.join(min(timeout, threading.TIMEOUT_MAX))
        return not waiter.is_alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        """Stop and wait, without blocking the event loop."""
        run = self._runs.end()
        if run is None:
            return
        if run.gate.is_own_worker():  # the loop runs inside a call of ours, which it would wait for
            run.executor.shutdown(wait=False)
        else:
            await asyncio_verbs().shut_down(run.executor)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped since nor broken by a failed initializer."""
        run = self._runs.last
        return run is not None and run.is_alive

    # -- what it has ------------------------------------------------------------------------------

    @property
    def executor(self) -> TokenGateExecutor:
        """The executor, for all that is not told here; after a stop, the last one.

        Raises:
            CoordinatorNotRunningError: it was never started.
        """
        run = self._runs.last
        if run is None:
            raise CoordinatorNotRunningError(None, False)
        return run.executor

    @property
    def topology(self) -> Topology:
        """The CPUs of the machine and of this process; ``print`` it."""
        return self.executor.topology

    @property
    def policy(self) -> AffinityPolicy:
        """Which weights may use which lanes; ``print`` it."""
        return self.executor.policy

    @property
    def guard_house(self) -> GuardHouse:
        """How each operation is doing, and what is blocked; ``print`` it for a report."""
        return self.executor.guard_house

    @property
    def quarantine(self) -> Quarantine:
        """Calls that wait for a person's decision."""
        return self.executor.quarantine

    def statistics(self) -> ExecutorStatistics:
        """As ``TokenGateExecutor.statistics``."""
        return self.executor.statistics()

    def get_stats(self) -> dict[str, Any]:
        """``statistics`` as plain dicts, lists, strings and numbers: what ``json.dumps`` takes."""
        stats: dict[str, Any] = _as_plain(self.executor.statistics())
        return stats

    def dump_execution_history(self, path: str | os.PathLike[str]) -> int:
        """Write the last finished tokens to a file, as JSON; returns how many are in it.

        Raises:
            OSError: the file cannot be written; what was there before is still there.
        """
        return self.executor.dump_history(path)

    # -- the admin verbs --------------------------------------------------------------------------
    # Each raises CoordinatorNotRunningError if the coordinator was never started.

    def pause_admission(self) -> None:
        """Let nothing start until ``resume_admission``; calls are still accepted, and wait.

        Raises:
            RuntimeError: it was stopped.
        """
        self.executor.pause()

    def resume_admission(self) -> None:
        """Undo ``pause_admission``, and ``drain_pool``. Operations that are paused stay so."""
        self.executor.resume()

    def pause_operation(self, name: str) -> None:
        """Let nothing of one operation start until ``resume_operation``.

        Raises:
            RuntimeError: it was stopped.
            InvalidOptionError: ``name`` is no name.
        """
        self.executor.pause(_checked_name(name))

    def resume_operation(self, name: str) -> None:
        """Undo ``pause_operation``."""
        self.executor.resume(_checked_name(name))

    def drain_pool(self, timeout: float | None = None) -> DrainReport:
        """Accept no more calls, finish those that are there, and stay closed until ``resume_admission``.

        Nothing is cancelled; calls that run may still make others. See ``TokenGateExecutor.drain``.

        Args:
            timeout: for how long to wait, in seconds; ``None``: as long as it takes. What is paused
                does not finish, so give one then.

        Returns:
            what was left when the time was over; it goes on all the same.

        Raises:
            RuntimeError: it was stopped.
        """
        return self.executor.drain(timeout)

    def purge_pool(self) -> int:
        """Cancel everything that waits; returns how many calls that were."""
        return self.executor.purge()

    def purge_operation(self, name: str) -> int:
        """Cancel what waits of one operation; returns how many calls that were."""
        return self.executor.purge(_checked_name(name))

    def kill_token(self, token_id: str) -> bool:
        """End a token; returns whether there was one to end. See ``TokenGateExecutor.kill``.

        One that waits is ``KILLED`` at once; one that runs is asked to end.
        """
        return self.executor.kill(_checked_name(token_id, "token_id")) > 0

    def kill_operation(self, name: str) -> int:
        """End all tokens of one operation; returns how many that were."""
        return self.executor.kill(operation=_checked_name(name))


def _checked_name(given: str, argument: str = "name") -> str:
    """None would mean all operations."""
    if not isinstance(cast("object", given), str) or not given:
        raise InvalidOptionError(argument, given, "a non-empty string")
    return given


def _as_plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _as_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(name): _as_plain(one) for name, one in items}
    if isinstance(value, tuple):
        return [_as_plain(one) for one in cast("tuple[object, ...]", value)]
    return value
