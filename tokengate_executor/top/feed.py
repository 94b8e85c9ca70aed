"""Follows a dashboard on a thread of its own, and goes on trying when it is gone.

Guarantees
    * ``wake`` is called after each change of ``state``, which is a whole at any moment.
    * After ``stop`` the thread ends, at the latest when a connection that is just being made is there or
      has failed. It keeps no interpreter alive.

Assumes
    * Assigning an attribute is atomic. Only the feed's thread assigns ``state``.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from tokengate_executor.top.client import DashboardClient, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokengate_executor.dashboard.patches import JsonObject

__all__ = ["Feed", "FeedState", "delays"]

_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 10.0


@dataclass(frozen=True, slots=True)
class FeedState:
    """What is known.

    Attributes:
        snapshot: the last one; ``None``: none came yet.
        trouble: why no further ones come now; empty: they do.
        retry_at: when it is tried again, on the monotonic clock; ``None``: it is being tried.
        ended: why it has given up; ``None``: it has not.
    """

    snapshot: JsonObject | None = None
    trouble: str = ""
    retry_at: float | None = None
    ended: BaseException | None = None


def delays() -> Iterator[float]:
    """Seconds before each further try: twice as long each time, up to a bound, and never quite equal.

    Where many look at one server, they shall not all come back at the same moment.
    """
    delay = _FIRST_DELAY
    while True:
        yield delay * random.uniform(0.75, 1.0)
        delay = min(2 * delay, _LONGEST_DELAY)


class Feed:
    """Follows one dashboard.

    Args:
        client: that was let in already; from here on it is the feed's.
        wake: called on the feed's thread when something has changed.
        delays: makes the seconds before each further try.
    """

    def __init__(
        self,
        client: DashboardClient,
        wake: Callable[[], None],
        delays: Callable[[], Iterator[float]] = delays,
    ) -> None:
        self.state = FeedState()
        self._client = client
        self._wake = wake
        self._delays = delays
        self._has_begun = threading.Event()
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tokengate-top", daemon=True)

    def start(self) -> None:
        """Connect; returns when the first snapshot is there, or none will come."""
        self._thread.start()
        self._has_begun.wait()

    def stop(self) -> None:
        """Go away; returns at once."""
        self._is_stopped.set()
        self._client.close()

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # whoever looks at the state raises it, or says it
            self._become(replace(self.state, ended=error))

    def _follow(self) -> None:
        waits = self._delays()
        while not self._is_stopped.is_set():
            try:
                if self.state.trouble:
                    self._client.enter()
                for snapshot in self._client.snapshots():
                    self._become(FeedState(snapshot))
                    waits = self._delays()
            except UnreachableError as error:
                if self.state.snapshot is None:
                    raise
                delay = next(waits)
                self._become(replace(self.state, trouble=str(error), retry_at=monotonic() + delay))
                self._is_stopped.wait(delay)
                self._become(replace(self.state, retry_at=None))

    def _become(self, state: FeedState) -> None:
        self.state = state
        self._has_begun.set()
        self._wake()
