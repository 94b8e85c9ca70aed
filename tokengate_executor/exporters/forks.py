"""What is remembered of executors and tokens is forgotten in a forked child, where all begins anew.

Guarantees
    * ``renew`` of whatever is still there is called in each child, before anything else runs in it.

Assumes
    * Only the thread that forked is there, so locks that others held are replaced, not waited for.
"""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Renewable", "renew_in_children"]


class Renewable(Protocol):
    """Something with a memory."""

    def renew(self) -> None:
        """Begin with nothing, and with free locks."""
        ...


_renewables: Final[WeakSet[Renewable]] = WeakSet()


def renew_in_children(renewable: Renewable) -> None:
    """Have it renewed in each child that is forked while it is there."""
    _renewables.add(renewable)


def _renew_all() -> None:
    for renewable in list(_renewables):
        renewable.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
