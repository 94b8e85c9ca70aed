"""Options said at the function: ``@gated``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import Unpack

from tokengate_executor.options import OptionNames, TaskOptions, attach

__all__ = ["gated"]

AnyCallable = TypeVar("AnyCallable", bound=Callable[..., Any])


def gated(**said: Unpack[OptionNames]) -> Callable[[AnyCallable], AnyCallable]:
    """Say options at a function: they hold whenever it is submitted to a ``TokenGateExecutor``.

    The function itself is returned; called directly, it runs as before. Options said on a view
    (``executor.options(...)``) win over those said here.

    Args:
        weight: ``"heavy"``, ``"medium"`` or ``"light"``.
        operation: the name under which its calls are counted.

    Raises:
        UnknownOptionError: a name is not an option.
        InvalidOptionError: a value is not allowed.
        TypeError: the callable takes no attributes.
    """
    options = TaskOptions.of(said)

    def decorate(fn: AnyCallable) -> AnyCallable:
        return attach(fn, options)

    return decorate
