"""Which idle worker is roused for a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokengate_executor.engine.routes import Route
    from tokengate_executor.engine.workers import Worker

__all__ = ["Router"]


class Router:
    """The idle workers, last in first out, so that those one could do without stay idle.

    A worker whose thread was never started is idle too: rousing it starts the thread. Such vacancies
    lie at the bottom, so no thread is started while a running one is idle.

    Whoever takes a worker off the list must rouse it, and nobody else may: the list is what makes a
    wake-up happen once. No lock: ``append``, ``insert``, ``pop`` and ``remove`` are atomic.
    """

    __slots__ = ("idle",)

    def __init__(self) -> None:
        self.idle: list[Worker] = []

    def rouse(self, route: Route) -> None:
        """Rouse one idle worker that may run the route's tokens, if there is one.

        Raises:
            RuntimeError: no thread can be started, and none that runs could serve the route.
        """
        if route.rank is None:
            try:
                worker = self.idle.pop()
            except IndexError:
                return  # others were quicker, so others are awake
            worker.rouse(route)
            return
        while (choice := self._preferred(route.rank)) is not None:
            try:
                self.idle.remove(choice)
            except ValueError:
                continue  # roused by somebody else meanwhile: choose again
            choice.rouse(route)
            return

    def _preferred(self, rank: dict[int, int]) -> Worker | None:
        """Started before vacant, then in the policy's order of lanes, then the last one in."""
        allowed = [worker for worker in self.idle[::-1] if worker.lane_number in rank]
        return min(
            allowed,
            key=lambda worker: (worker.thread is None, rank[worker.lane_number]),
            default=None,
        )
