"""``task_token_guard``: calls of a decorated function are submitted to the running coordinator.

The tags are the seed's: ``weight``, ``storage_speed``, ``sticky_anchor``; and every option of
``TaskOptions`` is one by its own name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial, update_wrapper
from reprlib import repr as shortened
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast, overload

from tokengate_executor.coordinator_runs import run_here
from tokengate_executor.errors import InvalidOptionError, UnguardableError, UnknownOptionError
from tokengate_executor.options import OperationName, TaskOptions, joined, name_of
from tokengate_executor.policies.weights import WEIGHTS

if TYPE_CHECKING:
    from tokengate_executor.token import Token

__all__ = ["task_token_guard"]

P = ParamSpec("P")
T = TypeVar("T")

_OPTION_OF_TAG: Final = {"storage_speed": "storage", "sticky_anchor": "key"}
"""The tags that are not called what the option is."""

_TAGS: Final = (*_OPTION_OF_TAG, *(field.name for field in fields(TaskOptions)))


@overload
def task_token_guard(operation_type: Callable[P, T], /) -> Callable[P, Token[T]]: ...
@overload
def task_token_guard(
    operation_type: str | None = None, tags: Mapping[str, Any] | None = None
) -> Callable[[Callable[P, T]], Callable[P, Token[T]]]: ...
def task_token_guard(operation_type: Any = None, tags: Mapping[str, Any] | None = None) -> Any:
    """Decorate a function so that calling it submits it to the running coordinator.

    The call returns its token at once; the plain function is ``__wrapped__``. See
    ``OperationsCoordinator`` for which one it goes to. With or without parentheses.

    What is decorated may be any callable: a function, a method (before or after ``staticmethod`` and
    ``classmethod``), a lambda, a partial, a builtin, a class, an object with ``__call__``. Not a
    coroutine function: decorate a plain one, and await the token.

    Args:
        operation_type: the name under which calls are counted, paused and killed; ``None``:
            ``module.qualname`` of the function.
        tags: ``weight``: ``"heavy"``, ``"medium"`` or ``"light"``, in any letter case.
            ``storage_speed``: the option ``storage``. ``sticky_anchor``: calls of equal anchors run one
            at a time, in order, on one lane: the option ``key``, with ``sticky="lane"``. And the
            options of ``TaskOptions`` by name.

    Raises:
        UnknownOptionError: there is no such tag.
        InvalidOptionError: a value is not allowed, or the same is said twice.
        UnguardableError: this cannot be decorated. It is a ``TypeError``.
    """
    if _is_to_be_called(operation_type):
        if tags is not None:
            raise InvalidOptionError("operation_type", operation_type, "a non-empty string or None")
        return _guarded(operation_type, TaskOptions())
    return partial(_guarded, options=_options_of(operation_type, {} if tags is None else tags))


def _guarded(fn: Any, options: TaskOptions) -> Any:
    if isinstance(fn, staticmethod | classmethod):
        method = cast("staticmethod[..., Any] | classmethod[Any, ..., Any]", fn)
        return type(method)(_guarded(method.__func__, options))
    if not callable(fn):
        raise UnguardableError(shortened(fn), "it is not callable")
    _refuse_async(fn)
    name = _name_of(fn)
    if options.operation is None and name != name_of(fn):
        options = replace(options, operation=joined(name))
    operation = options.operation or joined(name)

    def submit(*args: Any, **kwargs: Any) -> Token[Any]:
        while True:
            run = run_here(operation)
            try:
                return run.view(options).submit(fn, *args, **kwargs)
            except RuntimeError as error:
                # If it was stopped since we found it, there may be another; what we raise is not that.
                if type(error) is not RuntimeError or run.takes_calls:
                    raise

    # For those that have no names of their own. Of a class or an object no further attributes are taken
    # over: they are not about the calls.
    submit.__module__, submit.__qualname__ = name[0] or submit.__module__, name[1]
    submit.__name__ = name[1].rpartition(".")[2]
    return update_wrapper(submit, fn, updated=("__dict__",) if type(fn) is FunctionType else ())


def _name_of(fn: Any) -> OperationName:
    """As ``name_of``; and what a function that wraps another, such as a cached one, is called."""
    qualified: object = getattr(fn, "__qualname__", None)
    module: object = getattr(fn, "__module__", None)
    if isinstance(qualified, str) and isinstance(module, str | None):
        return module, qualified
    return name_of(fn)


def _refuse_async(fn: Any) -> None:
    inner: Any = fn
    while isinstance(inner, partial):
        inner = inner.func  # pyright: ignore[reportUnknownMemberType]
    call: object = getattr(cast("object", type(inner)), "__call__", None)  # noqa: B004  is it async?
    for asked in (inner, call):
        if inspect.iscoroutinefunction(asked):
            what, instead = "a coroutine function", "await the token that a call of it returns"
        elif inspect.isasyncgenfunction(asked):
            what, instead = "an async generator function", "await the token of each of its steps"
        else:
            continue
        because = f"it is {what}: decorate a plain function (def), and {instead}"
        raise UnguardableError(joined(_name_of(fn)), because)


def _is_to_be_called(given: object) -> bool:
    # A class method is not callable before its class is made.
    return callable(given) or isinstance(given, classmethod)


def _options_of(operation_type: object, tags: object) -> TaskOptions:
    if operation_type is not None and (not isinstance(operation_type, str) or not operation_type):
        raise InvalidOptionError("operation_type", operation_type, "a non-empty string or None")
    if not isinstance(tags, Mapping):
        raise InvalidOptionError("tags", tags, "a mapping from tags to values, or None")
    said: dict[str, Any] = {}
    tag_of: dict[str, str] = {}
    if operation_type is not None:
        said["operation"], tag_of["operation"] = operation_type, "operation_type"
    for tag, value in cast("Mapping[str, Any]", tags).items():
        if tag not in _TAGS:
            raise UnknownOptionError(tag, _TAGS)
        option = _OPTION_OF_TAG.get(tag, tag)
        if option in tag_of:
            raise InvalidOptionError(tag, value, f"left out where {tag_of[option]} is given")
        said[option], tag_of[option] = value, tag
    weight = said.get("weight")
    if isinstance(weight, str) and weight.lower() in WEIGHTS:
        said["weight"] = weight.lower()
    if tag_of.get("key") == "sticky_anchor" and said["key"] is not None:
        said.setdefault("sticky", "lane")
    try:
        return TaskOptions(**said)
    except InvalidOptionError as error:
        name = tag_of.get(error.option, error.option)
        raise InvalidOptionError(name, error.given, error.allowed) from None
