"""A drop-in for ``concurrent.futures.ThreadPoolExecutor``: faster, with weighted lanes and tokens."""

from __future__ import annotations

from tokengate_executor.decorators import gated
from tokengate_executor.engine.steering import DrainReport, LeftToken
from tokengate_executor.errors import (
    DeadlockError,
    ForkedError,
    GateFullError,
    InvalidOptionError,
    TokenGateError,
    TokenKilledError,
    TokenTimeoutError,
    UnknownOptionError,
)
from tokengate_executor.executor import TokenGateExecutor
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.history import TokenRecord
from tokengate_executor.observe.statistics import (
    ExecutorStatistics,
    LaneStatistics,
    LimitStatistics,
)
from tokengate_executor.options import TaskOptions
from tokengate_executor.policies.limits import RateLimit
from tokengate_executor.policies.topology import Topology
from tokengate_executor.policies.weights import AffinityPolicy
from tokengate_executor.token import Token
from tokengate_executor.view import ExecutorView
from tokengate_executor.waiting import current_token

__all__ = [
    "AffinityPolicy",
    "DeadlockError",
    "DrainReport",
    "ExecutorStatistics",
    "ExecutorView",
    "ForkedError",
    "GateFullError",
    "InvalidOptionError",
    "LaneStatistics",
    "LeftToken",
    "LimitStatistics",
    "RateLimit",
    "TaskOptions",
    "Token",
    "TokenGateError",
    "TokenGateExecutor",
    "TokenKilledError",
    "TokenRecord",
    "TokenState",
    "TokenTimeoutError",
    "Topology",
    "UnknownOptionError",
    "current_token",
    "gated",
]

__version__ = "0.1.0"
