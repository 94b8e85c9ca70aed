"""A drop-in for ``concurrent.futures.ThreadPoolExecutor``: faster, with weighted lanes and tokens."""

from __future__ import annotations

from tokengate_executor.coordinator import OperationsCoordinator
from tokengate_executor.decorators import gated
from tokengate_executor.engine.pacer import ConvergenceReport
from tokengate_executor.engine.steering import DrainReport, LeftToken
from tokengate_executor.errors import (
    CoordinatorNotRunningError,
    DeadlockError,
    ForkedError,
    GateFullError,
    InvalidOptionError,
    NotReplayableError,
    OperationBlockedError,
    QuarantineFileError,
    QuarantineFullError,
    QuarantineStateError,
    TokenGateError,
    TokenKilledError,
    TokenQuarantinedError,
    TokenTimeoutError,
    UnguardableError,
    UnknownOptionError,
    UnknownQuarantineIdError,
)
from tokengate_executor.executor import TokenGateExecutor
from tokengate_executor.guard.calls import QuarantinedCall
from tokengate_executor.guard.house import GuardHouse
from tokengate_executor.guard.quarantine import Quarantine
from tokengate_executor.guard.store import QuarantineStore
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import (
    CircuitChanged,
    Event,
    GateDrained,
    GatePaused,
    GateResumed,
    LimitChanged,
    TokenEvent,
    TokenQuarantined,
    TokenRejected,
    TokenRetrying,
    TokenSettled,
    TokenStarted,
    TokenSubmitted,
    WorkerAbandoned,
    WorkersAdapted,
    WorkerStarted,
    WorkerStopped,
)
from tokengate_executor.observe.histograms import Histogram, LaneHistograms
from tokengate_executor.observe.history import TokenRecord
from tokengate_executor.observe.listeners import LoggingListener
from tokengate_executor.observe.live import LiveToken
from tokengate_executor.observe.statistics import (
    ExecutorStatistics,
    LaneStatistics,
    LimitStatistics,
)
from tokengate_executor.options import TaskOptions
from tokengate_executor.policies.breaker import BreakerPolicy, CircuitReport, CircuitState
from tokengate_executor.policies.complexity import Complexity, ComplexityLevel, complexity_of
from tokengate_executor.policies.convergence import ConvergencePolicy
from tokengate_executor.policies.health import Health, OperationHealth
from tokengate_executor.policies.limits import RateLimit
from tokengate_executor.policies.retry import RetryBudget, RetryPolicy
from tokengate_executor.policies.spikes import SpikePolicy
from tokengate_executor.policies.topology import Topology
from tokengate_executor.policies.weights import AffinityPolicy
from tokengate_executor.token import Token
from tokengate_executor.token_guard import task_token_guard
from tokengate_executor.view import ExecutorView
from tokengate_executor.waiting import current_token

__all__ = [
    "AffinityPolicy",
    "BreakerPolicy",
    "CircuitChanged",
    "CircuitReport",
    "CircuitState",
    "Complexity",
    "ComplexityLevel",
    "ConvergencePolicy",
    "ConvergenceReport",
    "CoordinatorNotRunningError",
    "DeadlockError",
    "DrainReport",
    "Event",
    "ExecutorStatistics",
    "ExecutorView",
    "ForkedError",
    "GateDrained",
    "GateFullError",
    "GatePaused",
    "GateResumed",
    "GuardHouse",
    "Health",
    "Histogram",
    "InvalidOptionError",
    "LaneHistograms",
    "LaneStatistics",
    "LeftToken",
    "LimitChanged",
    "LimitStatistics",
    "LiveToken",
    "LoggingListener",
    "NotReplayableError",
    "OperationBlockedError",
    "OperationHealth",
    "OperationsCoordinator",
    "Quarantine",
    "QuarantineFileError",
    "QuarantineFullError",
    "QuarantineStateError",
    "QuarantineStore",
    "QuarantinedCall",
    "RateLimit",
    "RetryBudget",
    "RetryPolicy",
    "SpikePolicy",
    "TaskOptions",
    "Token",
    "TokenEvent",
    "TokenGateError",
    "TokenGateExecutor",
    "TokenKilledError",
    "TokenQuarantined",
    "TokenQuarantinedError",
    "TokenRecord",
    "TokenRejected",
    "TokenRetrying",
    "TokenSettled",
    "TokenStarted",
    "TokenState",
    "TokenSubmitted",
    "TokenTimeoutError",
    "Topology",
    "UnguardableError",
    "UnknownOptionError",
    "UnknownQuarantineIdError",
    "WorkerAbandoned",
    "WorkerStarted",
    "WorkerStopped",
    "WorkersAdapted",
    "complexity_of",
    "current_token",
    "gated",
    "task_token_guard",
]

__version__ = "0.1.0"
