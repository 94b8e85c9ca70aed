"""What a coordinator is made with: the executor's arguments, checked before there is an executor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from tokengate_executor.errors import UnknownOptionError
from tokengate_executor.executor import TokenGateExecutor
from tokengate_executor.guard.store import QuarantineStore
from tokengate_executor.options import TaskOptions

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from tokengate_executor.engine.assembly import ExitPolicy, MaxPending
    from tokengate_executor.engine.bounded import OnFull
    from tokengate_executor.observe.events import Listener
    from tokengate_executor.policies.breaker import BreakerPolicy
    from tokengate_executor.policies.convergence import ConvergencePolicy
    from tokengate_executor.policies.limits import LimitSpec
    from tokengate_executor.policies.retry import RetryPolicy, TenacityRetrying
    from tokengate_executor.policies.spikes import SpikePolicy
    from tokengate_executor.policies.weights import AffinityPolicy

__all__ = ["ExecutorOptions", "checked"]

_CARE: Final = ("retry", "timeout", "slow_after", "spikes")


class ExecutorOptions(TypedDict, total=False):
    """The arguments of ``TokenGateExecutor``, which tells what they mean."""

    max_workers: int | None
    thread_name_prefix: str
    initializer: Callable[..., object] | None
    initargs: Sequence[Any]
    lanes: int | None
    policy: AffinityPolicy | None
    pin_lanes: bool
    mailbox_size: int
    max_pending: MaxPending | None
    on_full: OnFull
    submit_timeout: float | None
    limits: Mapping[str, LimitSpec] | None
    ageing: float
    keep_alive: float | None
    convergence: ConvergencePolicy | None
    history_size: int
    max_spare_workers: int
    retry: RetryPolicy | TenacityRetrying | None
    timeout: float | None
    slow_after: float | None
    breaker: BreakerPolicy | None
    spikes: SpikePolicy | None
    quarantine: str | os.PathLike[str] | QuarantineStore | bool | None
    listeners: Iterable[Listener]
    log_unread_exceptions: bool
    exit_policy: ExitPolicy


def checked(options: ExecutorOptions) -> ExecutorOptions:
    """The options, as they are now and in a form that an executor can be made of again and again.

    Starts no thread and opens no file.

    Raises:
        UnknownOptionError: a name is not an argument of the executor.
        ValueError, TypeError: as the executor raises them.
    """
    known = tuple(signature(TokenGateExecutor).parameters)
    kept: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise UnknownOptionError(name, known)
        kept[name] = _kept(name, value)
    # These are looked at apart: an executor would start a thread for the ones, and open the other.
    TaskOptions(**{name: kept[name] for name in _CARE if name in kept})
    quarantine = kept.get("quarantine")
    if not isinstance(quarantine, bool | QuarantineStore | None):
        QuarantineStore(quarantine)
    rest = {name: kept[name] for name in kept if name not in (*_CARE, "quarantine")}
    rest["thread_name_prefix"] = "checked"  # else it would take the next number
    TokenGateExecutor(**rest).shutdown()
    return cast("ExecutorOptions", kept)


def _kept(name: str, value: object) -> object:
    """What is changed later must not be what is started; and an iterator can be read once."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    if name in ("initargs", "listeners") and isinstance(value, Iterable):
        return tuple(cast("Iterable[object]", value))
    return value
