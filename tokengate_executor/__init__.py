"""A drop-in for ``concurrent.futures.ThreadPoolExecutor``: faster, with weighted lanes and tokens."""

from __future__ import annotations

from tokengate_executor.decorators import gated
from tokengate_executor.errors import (
    DeadlockError,
    ForkedError,
    InvalidOptionError,
    TokenGateError,
    UnknownOptionError,
)
from tokengate_executor.executor import ExecutorView, TokenGateExecutor
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.history import TokenRecord
from tokengate_executor.observe.statistics import ExecutorStatistics, LaneStatistics
from tokengate_executor.options import TaskOptions
from tokengate_executor.policies.topology import Topology
from tokengate_executor.policies.weights import AffinityPolicy
from tokengate_executor.token import Token

__all__ = [
    "AffinityPolicy",
    "DeadlockError",
    "ExecutorStatistics",
    "ExecutorView",
    "ForkedError",
    "InvalidOptionError",
    "LaneStatistics",
    "TaskOptions",
    "Token",
    "TokenGateError",
    "TokenGateExecutor",
    "TokenRecord",
    "TokenState",
    "Topology",
    "UnknownOptionError",
    "gated",
]

__version__ = "0.1.0"
