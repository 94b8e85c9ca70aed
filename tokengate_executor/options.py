"""What a caller may say about a call besides its arguments.

Options never ride in the callee's keyword arguments: they are said on a view
(``executor.options(weight="heavy")``) or at the function (``@gated(weight="heavy")``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, TypedDict, TypeVar, cast

from tokengate_executor.errors import InvalidOptionError, UnknownOptionError
from tokengate_executor.policies.weights import WEIGHTS, Weight

__all__ = [
    "OperationName",
    "OptionNames",
    "TaskOptions",
    "attach",
    "attached",
    "attachments",
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


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Options of a call. ``None`` means that nothing was said of that option.

    Attributes:
        weight: ``"heavy"``, ``"medium"`` or ``"light"``: which lanes may run the call, and in which
            order of preference. ``None``: any lane.
        operation: the name under which the call is counted; ``None``: ``module.qualname`` of the
            function.
    """

    weight: Weight | None = None
    operation: str | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and self.weight not in WEIGHTS:
            allowed = ", ".join(repr(weight) for weight in WEIGHTS)
            raise InvalidOptionError("weight", self.weight, f"one of {allowed} or None")
        operation = cast("object", self.operation)
        if operation is not None and (not isinstance(operation, str) or not operation):
            raise InvalidOptionError("operation", operation, "a non-empty string or None")

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
        return TaskOptions(
            weight=self.weight if self.weight is not None else other.weight,
            operation=self.operation if self.operation is not None else other.operation,
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
