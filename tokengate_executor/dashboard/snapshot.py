"""What a dashboard shows of an executor, as one JSON value; gathered by public verbs only.

Nothing in it is ``None``: what is not there is left out, so that snapshots differ by merge patches.
Calls are told by their names and numbers; their arguments, and what their errors say, only if that was
allowed.
"""

from __future__ import annotations

import logging
import math
import os
import platform
from collections.abc import Callable
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor import __version__
from tokengate_executor.errors import QuarantineFileError
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.policies.breaker import CircuitState
from tokengate_executor.policies.complexity import ComplexityLevel
from tokengate_executor.policies.limits import RateLimit

if TYPE_CHECKING:
    from tokengate_executor.dashboard.launcher import Launcher
    from tokengate_executor.dashboard.patches import JsonObject
    from tokengate_executor.engine.pacer import ConvergenceReport
    from tokengate_executor.executor import TokenGateExecutor
    from tokengate_executor.guard.calls import QuarantinedCall
    from tokengate_executor.guard.house import GuardHouse
    from tokengate_executor.guard.quarantine import Quarantine
    from tokengate_executor.observe.history import TokenRecord
    from tokengate_executor.observe.live import LiveToken
    from tokengate_executor.observe.statistics import (
        ExecutorStatistics,
        LaneStatistics,
        LimitStatistics,
    )

__all__ = ["PROTOCOL", "Gatherer", "is_last"]

_LOGGER: Final = logging.getLogger("tokengate_executor.dashboard")

PROTOCOL: Final = 1
MOST_OPERATIONS: Final = 100
MOST_TOKENS: Final = 50
QUARANTINE_SECONDS: Final = 5.0

_TOKENS: Final = (
    "submitted",
    "rejected",
    "waiting",
    "parked",
    "executing",
    "retrying",
    "quarantined",
    "completed",
    "failed",
    "timed_out",
    "cancelled",
    "retries",
    "reviewed",
)
_WORKERS: Final = (
    "max_workers",
    "workers",
    "idle_workers",
    "busy_workers",
    "blocked_workers",
    "spare_workers",
    "abandoned",
)


def is_last(snapshot: JsonObject) -> bool:
    """Whether nothing will happen any more: the executor is shut down, and all its calls have ended."""
    tokens = snapshot["tokens"]
    is_left = tokens["waiting"] or tokens["executing"] or tokens["retrying"]
    return bool(snapshot["steering"]["is_shutdown"] and not is_left)


class Gatherer:
    """Gathers snapshots of one executor, which it does not hold. Not for several threads at once.

    Args:
        executor: a weak reference to it.
        launcher: what may be launched.
        show_arguments: whether arguments of quarantined calls, and what their errors say, are shown.
    """

    def __init__(
        self,
        executor: Callable[[], TokenGateExecutor | None],
        launcher: Launcher,
        *,
        show_arguments: bool,
    ) -> None:
        self._executor = executor
        self._launcher = launcher
        self._quarantine = _QuarantineReader(show_arguments=show_arguments)
        self._ago = time() - perf_counter()
        self._started_at: float | None = None

    def gather(self) -> JsonObject | None:
        """The executor now; ``None``: it is gone."""
        executor = self._executor()
        if executor is None:
            return None
        self._set_clock()
        statistics = executor.statistics()
        live = executor.tokens(statistics.executing + MOST_TOKENS)
        operations, left_out = _operations(executor.guard_house, statistics.paused_operations)
        snapshot: JsonObject = {
            "protocol": PROTOCOL,
            "executor": self._of_executor(statistics),
            "system": _system(executor, statistics),
            "tokens": {name: getattr(statistics, name) for name in _TOKENS},
            "queue": _queue(statistics),
            "steering": {
                "is_paused": statistics.is_paused,
                "is_draining": statistics.is_draining,
                "is_shutdown": statistics.is_shutdown,
                "paused_operations": dict.fromkeys(statistics.paused_operations, True),
            },
            "lanes": {str(lane.number): _lane(lane) for lane in statistics.lanes},
            "operations": operations,
            "operations_left_out": left_out,
            "limits": {name: _limit(limit) for name, limit in statistics.limits.items()},
            "running": self._running(live),
            "waiting": self._waiting(live),
            "recent": {one.token_id: self._recent(one) for one in executor.history(MOST_TOKENS)},
            "quarantine": self._quarantine.read(executor.quarantine),
            "launcher": self._launcher.describe(),
        }
        report = executor.convergence
        if report is not None:
            snapshot["adaptive"] = _adaptive(report)
        return snapshot

    def look_again(self) -> None:
        """Something in the quarantine was decided: read it the next time."""
        self._quarantine.decisions += 1

    def _set_clock(self) -> None:
        """Tokens have the times of a clock that stands still in a machine that sleeps."""
        ago = time() - perf_counter()
        if abs(ago - self._ago) > 1.0:
            self._ago = ago

    def _at(self, moment: float) -> float:
        return round(moment + self._ago, 3)

    def _of_executor(self, statistics: ExecutorStatistics) -> JsonObject:
        if self._started_at is None:
            self._started_at = round(time() - statistics.uptime_seconds, 3)
        return {
            "name": statistics.name,
            "state": _state(statistics),
            "version": __version__,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "started_at": self._started_at,
        }

    def _running(self, live: tuple[LiveToken, ...]) -> JsonObject:
        running = [token for token in live if token.state is TokenState.EXECUTING]
        return {
            token.token_id: _present(
                operation=token.operation,
                lane=token.lane,
                worker=token.worker,
                started_at=None if token.started_at is None else self._at(token.started_at),
                attempt=token.attempts,
                kill_requested=token.kill_requested,
            )
            for token in running[:MOST_TOKENS]
        }

    def _waiting(self, live: tuple[LiveToken, ...]) -> JsonObject:
        waiting = [token for token in live if token.state is not TokenState.EXECUTING]
        return {
            token.token_id: _present(
                operation=token.operation,
                weight=token.weight,
                submitted_at=self._at(token.submitted_at),
                state=str(token.state),
                attempts=token.attempts,
            )
            for token in waiting[:MOST_TOKENS]
        }

    def _recent(self, record: TokenRecord) -> JsonObject:
        complexity = record.complexity
        is_known = complexity.level is not ComplexityLevel.UNKNOWN
        return _present(
            operation=record.operation,
            weight=record.weight,
            lane=record.lane,
            worker=record.worker,
            state=record.state.name,
            error=record.error,
            waited_seconds=round(record.waited_seconds, 6),
            run_seconds=round(record.run_seconds, 6),
            settled_at=self._at(record.settled_at),
            attempts=record.attempts,
            complexity=str(complexity.level),
            score=complexity.score if is_known else None,
        )


class _QuarantineReader:
    """Reads the rows of the quarantine only when something tells of a change, or after some seconds.

    Attributes:
        decisions: how many were made; who makes one counts it here.
    """

    def __init__(self, *, show_arguments: bool) -> None:
        self._show_arguments = show_arguments
        self.decisions = 0
        self._read_at = -math.inf
        self._read_for: tuple[int, dict[Any, int]] = (0, {})
        self._calls: JsonObject = {}

    def read(self, quarantine: Quarantine) -> JsonObject:
        now = monotonic()
        try:
            counts = quarantine.counts()
            reason = (self.decisions, dict(counts))
            if reason != self._read_for or now - self._read_at >= QUARANTINE_SECONDS:
                entries = (*quarantine.pending(), *quarantine.store.entries("approved"))
                self._calls = {one.id: self._call(one) for one in entries[:MOST_TOKENS]}
                self._read_for, self._read_at = reason, now
        except QuarantineFileError:
            # The text names a path, which is not for everybody who may read.
            _LOGGER.exception("the dashboard cannot read the quarantine")
            problem = "the quarantine cannot be read; the log says why"
            return {"counts": {}, "held": quarantine.held, "calls": {}, "problem": problem}
        return {"counts": dict(counts), "held": quarantine.held, "calls": self._calls}

    def _call(self, call: QuarantinedCall) -> JsonObject:
        return _present(
            operation=call.operation,
            reason=call.reason,
            status=call.status,
            attempts=call.attempts,
            error_type=call.error_type or None,
            added_at=round(call.quarantined_at, 3),
            replayable=call.replayable,
            call=call.summary if self._show_arguments else None,
            error=call.error_text if self._show_arguments and call.error_text else None,
        )


def _present(**facts: Any) -> JsonObject:
    return {name: fact for name, fact in facts.items() if fact is not None}


def _state(statistics: ExecutorStatistics) -> str:
    if statistics.is_shutdown:
        return "shutdown"
    if statistics.is_draining:
        return "draining"
    return "paused" if statistics.is_paused else "running"


def _system(executor: TokenGateExecutor, statistics: ExecutorStatistics) -> JsonObject:
    topology = executor.topology
    return {
        "physical_cores": topology.physical_cores,
        "logical_cpus": topology.logical_cpus,
        "usable_cpus": len(topology.usable_cpus),
        "lanes": len(statistics.lanes),
        "policy": str(executor.policy),
        **{name: getattr(statistics, name) for name in _WORKERS},
    }


def _adaptive(report: ConvergenceReport) -> JsonObject:
    return _present(
        current=report.current,
        wanted=report.wanted,
        reason=report.reason,
        min_workers=report.policy.min_workers,
        max_workers=report.policy.max_workers,
        by_lane={str(number): workers for number, workers in enumerate(report.by_lane, 1)},
    )


def _queue(statistics: ExecutorStatistics) -> JsonObject:
    return _present(
        pending=statistics.pending,
        capacity=statistics.capacity,
        blocked_producers=statistics.blocked_producers,
        oldest_wait_seconds=_tenths(statistics.oldest_wait_seconds),
        longest_running_seconds=_tenths(statistics.longest_running_seconds),
        unfinished_seconds=_tenths(statistics.unfinished_seconds),
    )


def _lane(lane: LaneStatistics) -> JsonObject:
    started = sum(lane.started_by_weight.values())
    return {
        "cpus": list(lane.cpus),
        "workers": lane.workers,
        "depth": lane.depth,
        "executing": lane.executing,
        "completed": lane.completed,
        "failed": lane.failed,
        "killed": lane.killed,
        "stolen": lane.stolen,
        "started_by_weight": dict(lane.started_by_weight),
        "busy_seconds": round(lane.busy_seconds, 3),
        "mean_wait_seconds": round(lane.waited_seconds / started, 6) if started else 0.0,
    }


def _limit(limit: LimitStatistics) -> JsonObject:
    if isinstance(limit.spec, RateLimit):
        return {
            "kind": "rate",
            "limit": limit.spec.rate,
            "per": limit.spec.per,
            "burst": limit.spec.capacity,
            "free": limit.free,
            "waiting": limit.waiting,
        }
    return {
        "kind": "permits",
        "limit": limit.spec,
        "used": limit.used,
        "free": limit.free,
        "waiting": limit.waiting,
    }


def _operations(house: GuardHouse, paused: tuple[str, ...]) -> tuple[JsonObject, int]:
    """The busiest, and whatever is blocked or paused; and how many others there are."""
    health = {one.operation: one for one in house.operations()}
    circuits = house.circuits()
    busiest = sorted(health.values(), key=lambda one: (-one.attempts, one.operation))
    stopped = [name for name, one in circuits.items() if one.state is not CircuitState.CLOSED]
    shown = dict.fromkeys(
        [*stopped, *paused, *(one.operation for one in busiest[:MOST_OPERATIONS])]
    )
    found: JsonObject = {}
    for name in shown:
        known, circuit = health.get(name), circuits.get(name)
        is_closed = circuit is None or circuit.state is CircuitState.CLOSED
        retry_after = None if circuit is None or is_closed else circuit.retry_after
        found[name] = _present(
            health="UNKNOWN" if known is None else known.health.name,
            calls=0 if known is None else known.attempts,
            success_rate=_rounded(None if known is None else known.success_rate, 4),
            mean_seconds=_rounded(None if known is None else known.mean_seconds, 6),
            failures=0 if known is None else known.failures,
            timeouts=0 if known is None else known.timeouts,
            circuit="closed" if circuit is None else circuit.state.name.lower(),
            retry_after_seconds=_rounded(retry_after, 1),
            paused=name in paused,
        )
    everything = health.keys() | circuits.keys() | set(paused)
    return found, len(everything) - len(found)


def _tenths(seconds: float) -> float:
    return round(float(seconds), 1)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
