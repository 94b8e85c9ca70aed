"""What a caller may say about a call besides its arguments.

Options never ride in the callee's keyword arguments: they are said on a view
(``executor.options(weight="heavy")``) or at the function (``@gated(weight="heavy")``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, Literal, TypedDict, TypeVar, cast

from tokengate_executor.errors import InvalidOptionError, UnknownOptionError
from tokengate_executor.policies.limits import STORAGE_TIERS
from tokengate_executor.policies.retry import RetryPolicy, TenacityRetrying
from tokengate_executor.policies.spikes import SpikePolicy
from tokengate_executor.policies.weights import WEIGHTS, Weight

__all__ = [
    "OperationName",
    "OptionNames",
    "TaskOptions",
    "attach",
    "attached",
    "attachments",
    "is_duration",
    "joined",
    "name_of",
]

_ATTRIBUTE: Final = "__tokengate_options__"

attachments: Final[set[TaskOptions]] = set()
"""All options that were ever said at a function: while it is empty, nobody need look at one."""

OperationName = tuple[str | None, str]
"""Module and qualified name: two references, joined to a string only when somebody asks."""

AnyCallable = TypeVar("AnyCallable", bound=Callable[..., Any])


class OptionNames(TypedDict, total=False):
    """The options by name, for type checkers: ``def options(self, **said: Unpack[OptionNames])``."""

    weight: Weight | None
    operation: str | None
    priority: int | None
    key: Hashable | None
    sticky: Literal["lane"] | None
    tenant: Hashable | None
    limits: tuple[str, ...] | None
    storage: str | None
    queue_timeout: float | None
    retry: RetryPolicy | TenacityRetrying | None
    timeout: float | None
    slow_after: float | None
    spikes: SpikePolicy | None


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Options of a call. ``None`` means that nothing was said of that option.

    Attributes:
        weight: ``"heavy"``, ``"medium"`` or ``"light"``: which lanes may run the call, and in which
            order of preference. ``None``: any lane.
        operation: the name under which the call is counted; ``None``: ``module.qualname`` of the
            function.
        priority: higher goes first, ``None`` is 0. A call gains a level for every
            ``TokenGateExecutor(ageing=...)`` seconds that it waits, so none waits for ever.
        key: calls of equal keys run one at a time, in the order of their submission.
        sticky: ``"lane"``: they stay on the lane of the first one while any of them waits.
        tenant: who the call is for; tenants are served in turn, one call each.
        limits: names of the executor's limits; the call starts when it has a permit of each.
        storage: ``"slow"``, ``"moderate"``, ``"fast"`` or ``"insane"``, in any letter case: at most
            10, 25, 50 or 70 such calls run at once.
        queue_timeout: a call that has not started after so many seconds never does, and its
            token fails with ``TokenTimeoutError``.
        retry: when a call that failed is tried again: a ``RetryPolicy``, or a ``tenacity.Retrying``.
        timeout: for how long the call may run, in seconds; then the token fails with
            ``TokenTimeoutError``, or is tried again. The thread cannot be stopped: what it comes to
            is dropped, and another worker stands in for it.
        slow_after: after how many seconds the stack of a running call is logged, once.
        spikes: what is done when the arguments are much larger than the operation's usual ones.
    """

    weight: Weight | None = None
    operation: str | None = None
    priority: int | None = None
    key: Hashable | None = None
    sticky: Literal["lane"] | None = None
    tenant: Hashable | None = None
    limits: tuple[str, ...] | None = None
    storage: str | None = None
    queue_timeout: float | None = None
    retry: RetryPolicy | TenacityRetrying | None = None
    timeout: float | None = None
    slow_after: float | None = None
    spikes: SpikePolicy | None = None

    def __post_init__(self) -> None:  # noqa: C901, PLR0912  each option is checked in turn
        if self.weight is not None and self.weight not in WEIGHTS:
            allowed = ", ".join(repr(weight) for weight in WEIGHTS)
            raise InvalidOptionError("weight", self.weight, f"one of {allowed} or None")
        operation = cast("object", self.operation)
        if operation is not None and (not isinstance(operation, str) or not operation):
            raise InvalidOptionError("operation", operation, "a non-empty string or None")
        priority = cast("object", self.priority)
        if priority is not None and (not isinstance(priority, int) or isinstance(priority, bool)):
            raise InvalidOptionError("priority", priority, "an int or None")
        for name in ("key", "tenant"):
            try:
                hash(getattr(self, name))
            except TypeError:
                raise InvalidOptionError(name, getattr(self, name), "hashable") from None
        if self.sticky not in (None, "lane"):
            raise InvalidOptionError("sticky", self.sticky, "'lane' or None")
        if self.sticky is not None and self.key is None:
            raise InvalidOptionError("sticky", self.sticky, "None where there is no key")
        limits = cast("object", self.limits)
        if limits is not None and not _is_tuple_of_names(limits):
            raise InvalidOptionError("limits", limits, "a tuple of names of limits or None")
        storage = cast("object", self.storage)
        if storage is not None and (
            not isinstance(storage, str) or storage.lower() not in STORAGE_TIERS
        ):
            allowed = ", ".join(repr(tier) for tier in STORAGE_TIERS)
            raise InvalidOptionError("storage", storage, f"one of {allowed} or None")
        for name in ("queue_timeout", "timeout", "slow_after"):
            seconds = cast("object", getattr(self, name))
            if seconds is not None and not is_duration(seconds):
                raise InvalidOptionError(name, seconds, "seconds, at least 0, or None")
        retry = cast("object", self.retry)
        if retry is not None and not isinstance(retry, RetryPolicy | TenacityRetrying):
            raise InvalidOptionError("retry", retry, "a RetryPolicy, a tenacity.Retrying or None")
        spikes = cast("object", self.spikes)
        if spikes is not None and not isinstance(spikes, SpikePolicy):
            raise InvalidOptionError("spikes", spikes, "a SpikePolicy or None")

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> TaskOptions:
        """The options that a caller said by name.

        Raises:
            UnknownOptionError: a name is not an option.
            InvalidOptionError: a value is not allowed.
        """
        known = tuple(field.name for field in fields(cls))
        for name in said:
            if name not in known:
                raise UnknownOptionError(name, known)
        return cls(**said)

    def over(self, other: TaskOptions) -> TaskOptions:
        """These options, and where they say nothing, the other's."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: given for name, given in said.items() if given is not None})

    @property
    def need_order(self) -> bool:
        """Whether the call may have to wait for something else than a free worker."""
        return any(getattr(self, name) is not None for name in _ORDERING)

    @property
    def need_care(self) -> bool:
        """Whether something is to be done about failures of the call."""
        return any(getattr(self, name) is not None for name in _CARING)


_ORDERING: Final = ("priority", "key", "sticky", "tenant", "limits", "storage", "queue_timeout")
_CARING: Final = ("retry", "timeout", "slow_after", "spikes")


def is_duration(given: object) -> bool:
    """Whether it is a number of seconds: finite and at least 0."""
    return (
        isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < float("inf")
    )


def _is_tuple_of_names(given: object) -> bool:
    return isinstance(given, tuple) and all(
        isinstance(name, str) and name for name in cast("tuple[object, ...]", given)
    )


def attach(fn: AnyCallable, options: TaskOptions) -> AnyCallable:
    """Say the options at the function itself; returns the same function.

    Raises:
        TypeError: the callable takes no attributes (a builtin, say).
    """
    try:
        setattr(fn, _ATTRIBUTE, options)
    except AttributeError:
        raise TypeError(
            f"cannot attach options to {fn!r}: it takes no attributes; "
            "wrap it in a function, or say the options on a view: executor.options(...)"
        ) from None
    attachments.add(options)
    return fn


def attached(fn: object) -> TaskOptions | None:
    """The options said at the function, if any.

    A ``functools.partial`` of the function and a bound method of it carry them too. User code is
    never run to find out: a lazy proxy is asked past its own ``__getattr__``.
    """
    kind = type(fn)
    if kind is FunctionType or kind is MethodType:
        return getattr(fn, _ATTRIBUTE, None)
    if kind is BuiltinFunctionType:
        return None
    if isinstance(fn, partial):
        return attached(fn.func)
    try:
        options: TaskOptions = object.__getattribute__(fn, _ATTRIBUTE)
    except AttributeError:
        return None
    return options


def name_of(fn: Callable[..., Any]) -> OperationName:
    """Under which name a callable is counted when no operation was said.

    A partial goes by its function, any other object by its class. No code of the user's is run.
    """
    kind = type(fn)
    if kind is FunctionType or kind is BuiltinFunctionType or kind is MethodType:
        return fn.__module__, fn.__qualname__
    if isinstance(fn, partial):
        return name_of(fn.func)
    cls = fn if isinstance(fn, type) else kind
    return cls.__module__, cls.__qualname__


def joined(name: OperationName) -> str:
    """An operation's name in one string."""
    module, qualified = name
    return qualified if module is None else f"{module}.{qualified}"
