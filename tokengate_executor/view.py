"""Views: an executor with options, and what both of them have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import cache
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from typing_extensions import Unpack, override

from tokengate_executor import mapping
from tokengate_executor.options import OptionNames, TaskOptions, attached, attachments

if TYPE_CHECKING:
    import asyncio

    from tokengate_executor.aio import AsyncioVerbs
    from tokengate_executor.engine.routes import Profile
    from tokengate_executor.executor import TokenGateExecutor
    from tokengate_executor.token import Token

__all__ = ["ExecutorView", "asyncio_verbs", "map_over"]

P = ParamSpec("P")
T = TypeVar("T")


class ExecutorView(Executor):
    """A ``TokenGateExecutor`` with options: what ``executor.options(...)`` returns.

    It has no life of its own: ``shutdown``, and leaving its ``with`` block, shut the executor down.
    """

    def __init__(self, executor: TokenGateExecutor, options: TaskOptions) -> None:
        self._executor = executor
        self._options = options
        self._profile = executor.profile_of(options)
        # For functions with options of their own, by these.
        self._profiles: dict[TaskOptions, Profile] = {}

    def profile_for(self, fn: object) -> Profile:
        """What the view's options, and those said at the function, come to."""
        if not attachments or (said := attached(fn)) is None:
            return self._profile
        profile = self._profiles.get(said)
        if profile is None:
            profile = self._executor.profile_of(self._options.over(said))
            self._profiles[said] = profile
        return profile

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """As ``TokenGateExecutor.submit``, with the view's options."""
        return self._executor.submit_as(self.profile_for(fn), fn, args, kwargs)

    @override
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As ``TokenGateExecutor.map``, with the view's options."""
        return map_over(self, fn, iterables, timeout, buffersize)

    async def asubmit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """As ``TokenGateExecutor.asubmit``, with the view's options."""
        return await asyncio_verbs().submit(self.profile_for(fn), fn, args, kwargs)

    def arun(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As ``TokenGateExecutor.arun``, with the view's options."""
        return asyncio_verbs().run(self.profile_for(fn), fn, args, kwargs)

    def amap(
        self, fn: Callable[..., T], *iterables: Iterable[Any], buffersize: int | None = None
    ) -> AsyncGenerator[T, None]:
        """As ``TokenGateExecutor.amap``, with the view's options."""
        mapping.check_buffersize(buffersize)
        return asyncio_verbs().map_results(self.profile_for(fn), fn, iterables, buffersize)

    def options(self, **said: Unpack[OptionNames]) -> ExecutorView:
        """A view with further options; those said here win over this view's."""
        return ExecutorView(self._executor, TaskOptions.of(said).over(self._options))

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As ``TokenGateExecutor.shutdown``: it is the executor that shuts down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


@cache
def asyncio_verbs() -> type[AsyncioVerbs]:
    """Imported late, as asyncio is slow to import and many programs do without."""
    from tokengate_executor.aio import AsyncioVerbs  # noqa: PLC0415

    return AsyncioVerbs


def map_over(
    executor: TokenGateExecutor | ExecutorView,
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[T]:
    """What ``map`` of executors and of views does."""
    mapping.check_buffersize(buffersize)
    deadline = mapping.deadline_after(timeout)
    arguments = zip(*iterables, strict=False)
    if buffersize is None:
        # The iterator must not hold the executor: it ends when its last user lets go of it.
        submit = executor.submit
        return mapping.eager([submit(fn, *given) for given in arguments], deadline)
    return mapping.lazy(lambda given: executor.submit(fn, *given), arguments, deadline, buffersize)
