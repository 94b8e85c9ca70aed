"""A synthetic load for an executor to be watched at: the back office of a shop, made up.

Which calls come, with which arguments and in what order, depends on a seed only, and so does which of
them fail; when they come and how long they take is up to the machine. Calls that take time wait for
something that is not there, and use no CPU; the few that compute are short.

Guarantees
    * After ``stop`` nothing is submitted any more, and no call of the load waits for its time to pass.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, Self

from tokengate_executor import (
    BreakerPolicy,
    QuarantineStore,
    RateLimit,
    RetryPolicy,
    SpikePolicy,
    TokenGateExecutor,
    current_token,
)
from tokengate_executor.options import OptionNames

__all__ = ["KINDS", "LAUNCHES", "Job", "Kind", "Load", "jobs", "shop_executor"]

_LANES: Final = 4
_MOST_WAITING: Final = 400
_KEPT_IN_QUARANTINE: Final = 40

_OUTAGE_EVERY: Final = 40
_OUTAGE: Final = 24
"""Of so many calls of a feed, so many in a row fail: enough for its circuit to open."""

_RUSH_EVERY: Final = 300
_RUSH: Final = 60
"""Of so many calls, so many come at once."""

# The context of a call is its submitter's: so each load's calls know when theirs is stopped.
_stopped: ContextVar[threading.Event | None] = ContextVar("stopped", default=None)


# -- the calls --------------------------------------------------------------------------------------


def resize_photo(rounds: int) -> str:
    """Heavy: some milliseconds of hashing, outside of the interpreter lock."""
    return hashlib.pbkdf2_hmac("sha256", b"photo", b"shop", rounds).hex()


def render_page(articles: int) -> int:
    """Medium: a millisecond of Python."""
    page = [{"article": number, "tags": [str(number)] * 5} for number in range(articles)]
    return len(json.dumps(page))


def look_up_price(article: int) -> float:
    """Light: next to nothing."""
    return (article * 7919 % 10_000) / 100


def query_database(seconds: float) -> str:
    """Waits for a database, of which only so many connections may be used at once."""
    return _waited(seconds)


def charge_card(seconds: float) -> str:
    """Waits for a payment service, which takes only so many calls per second."""
    return _waited(seconds)


def call_partner(seconds: float) -> str:
    """Waits for a partner, and now and then for too long."""
    return _waited(seconds)


def send_mail(failing_attempts: int) -> str:
    """Fails so many times before it succeeds.

    Raises:
        ConnectionError: it fails.
    """
    token = current_token()
    attempt = 1 if token is None else token.attempts
    if attempt <= failing_attempts:
        raise ConnectionError(f"attempt {attempt}: the mail server hung up")
    return _waited(0.02)


def import_feed(is_up: bool) -> str:
    """Fails as long as the supplier is down.

    Raises:
        ValueError: it is.
    """
    if not is_up:
        raise ValueError("the feed ends in the middle")
    return _waited(0.05)


def export_report(lines: list[int]) -> int:
    """Does what it is told; but some reports are suspiciously long."""
    return sum(lines)


def _waited(seconds: float) -> str:
    # One that was launched or replayed belongs to no load.
    stopped = _stopped.get() or threading.Event()
    return "cut short" if stopped.wait(seconds) else "done"


LAUNCHES: Final[Mapping[str, Callable[[], object]]] = {
    "resize a photo": partial(resize_photo, 40_000),
    "query the database": partial(query_database, 0.5),
    "import a feed": partial(import_feed, is_up=True),
}
"""What may be launched from the dashboard."""


# -- what comes when --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """One operation.

    Attributes:
        function: that is called.
        share: how often, against the others.
        arguments: makes those of the nth call, from a source of random numbers.
        options: of its calls.
    """

    function: Callable[..., object]
    share: int
    arguments: Callable[[random.Random, int], tuple[Any, ...]]
    options: OptionNames = field(default_factory=OptionNames)


class Job(NamedTuple):
    """A call that is to be submitted.

    Attributes:
        operation: a key of ``KINDS``.
        arguments: of the call.
        gap: how long to wait before, where 1.0 is the mean.
    """

    operation: str
    arguments: tuple[Any, ...]
    gap: float


def _mail(source: random.Random, _number: int) -> tuple[int]:
    return (source.choices((0, 1, 2, 3), (75, 15, 5, 5))[0],)


def _partner(source: random.Random, _number: int) -> tuple[float]:
    return (3.0 if source.random() < 0.2 else round(source.uniform(0.1, 0.6), 3),)


def _report(source: random.Random, number: int) -> tuple[list[int]]:
    length = 400 if number % 10 == 9 else 35 if number % 10 == 6 else 20
    return ([source.randrange(100) for _ in range(length)],)


KINDS: Final[Mapping[str, Kind]] = {
    "shop.prices.look_up": Kind(
        look_up_price, 30, lambda source, _: (source.randrange(10_000),), {"weight": "light"}
    ),
    "shop.pages.render": Kind(
        render_page, 20, lambda source, _: (source.randrange(50, 300),), {"weight": "medium"}
    ),
    "shop.photos.resize": Kind(
        resize_photo, 8, lambda source, _: (source.randrange(5_000, 30_000),), {"weight": "heavy"}
    ),
    "shop.database.query": Kind(
        query_database,
        16,
        lambda source, _: (round(source.uniform(0.05, 0.4), 3),),
        {"limits": ("database",)},
    ),
    "shop.payments.charge": Kind(
        charge_card,
        8,
        lambda source, _: (round(source.uniform(0.1, 0.5), 3),),
        {"limits": ("payments",), "priority": 1},
    ),
    "shop.mail.send": Kind(
        send_mail, 8, _mail, {"retry": RetryPolicy(attempts=3, on=ConnectionError, delay=0.5)}
    ),
    "shop.feeds.import": Kind(
        import_feed, 6, lambda _, number: (number % _OUTAGE_EVERY >= _OUTAGE,)
    ),
    "shop.reports.export": Kind(export_report, 4, _report, {"spikes": SpikePolicy()}),
    "shop.partners.call": Kind(call_partner, 3, _partner, {"timeout": 1.0}),
}
"""Operation → what its calls are."""


def jobs(seed: int) -> Iterator[Job]:
    """The calls of a load, without end; the same for the same seed."""
    source = random.Random(seed)
    operations = tuple(KINDS)
    shares = [kind.share for kind in KINDS.values()]
    numbers = dict.fromkeys(operations, 0)
    number = 0
    while True:
        (operation,) = source.choices(operations, shares)
        arguments = KINDS[operation].arguments(source, numbers[operation])
        gap = min(source.expovariate(1.0), 4.0)
        is_rush = number % _RUSH_EVERY >= _RUSH_EVERY - _RUSH
        numbers[operation] += 1
        number += 1
        yield Job(operation, arguments, 0.0 if is_rush else gap)


# -- the executor, and who keeps it busy ------------------------------------------------------------


def shop_executor(workers: int) -> TokenGateExecutor:
    """An executor with everything on that there is something to be seen of."""
    return TokenGateExecutor(
        workers,
        "shop",
        lanes=min(_LANES, workers),
        max_pending=_MOST_WAITING,
        on_full="raise",
        limits={"database": 3, "payments": RateLimit(3, per=1.0, burst=3)},
        breaker=BreakerPolicy(failure_rate=0.5, min_calls=8, window=10.0, open_for=6.0),
        quarantine=QuarantineStore(max_entries=_KEPT_IN_QUARANTINE, on_full="discard_oldest"),
        log_unread_exceptions=False,  # nobody reads any: that they fail is part of the show
    )


class Load:
    """Submits the calls of ``jobs`` to an executor, for as long as the ``with`` block lasts.

    Args:
        executor: from ``shop_executor``, or one with limits of the same names.
        rate: calls per second, on average.
        seed: which calls.
    """

    def __init__(self, executor: TokenGateExecutor, *, rate: float, seed: int) -> None:
        self._views = {
            operation: executor.options(operation=operation).options(**kind.options)
            for operation, kind in KINDS.items()
        }
        self._rate = rate
        self._jobs = jobs(seed)
        self._stopped = threading.Event()
        context = copy_context()
        context.run(_stopped.set, self._stopped)
        self._thread = threading.Thread(
            target=context.run, args=(self._submit_all,), name="tokengate-load"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Submit no more, and let the calls that wait for their time to pass return."""
        self._stopped.set()
        self._thread.join()

    def _submit_all(self) -> None:
        for job in self._jobs:
            if self._stopped.wait(job.gap / self._rate):
                return
            # Refused, as it is blocked or too many wait; or the executor is drained just now, and may
            # be opened again. It counts them.
            with suppress(RuntimeError):
                kind = KINDS[job.operation]
                self._views[job.operation].submit(kind.function, *job.arguments)
