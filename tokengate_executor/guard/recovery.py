"""Recovery: what an executor has for failures, shared by all its calls."""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import random
from _thread import allocate_lock
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import WeakSet, WeakValueDictionary

from tokengate_executor.engine.routes import profile_of
from tokengate_executor.engine.watchdog import Watchdog
from tokengate_executor.guard.house import GuardHouse
from tokengate_executor.guard.quarantine import Quarantine
from tokengate_executor.guard.store import QuarantineStore
from tokengate_executor.guard.supervision import Supervisor
from tokengate_executor.observe.histograms import Meter
from tokengate_executor.options import TaskOptions
from tokengate_executor.policies.retry import BudgetAccount, RetryBudget

if TYPE_CHECKING:
    from typing import Any

    from tokengate_executor.engine.crew import Crew
    from tokengate_executor.engine.routes import Profile
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.guard.quarantine import Replay
    from tokengate_executor.observe.history import RawRecord
    from tokengate_executor.policies.breaker import BreakerPolicy
    from tokengate_executor.token import Token

__all__ = ["Recovery"]

_LONGEST_WAIT_SECONDS: Final = 0.1


class Recovery:
    """The guard house, the quarantine, the retry budgets and the watchdog of one executor.

    Attributes:
        defaults: the options that hold where a call says nothing.
        is_guarded: whether calls ask the guard house.
        is_quarantining: whether calls that are given up are stored.
        reviewed: an entry for each call that was unusually large, and let in.
        retried_after_timeout: how many calls are tried again that were cut off. Only the timers' thread
            writes to it.
        draw: random numbers from 0 to below 1, for jitter.
    """

    def __init__(
        self,
        crew: Crew,
        *,
        defaults: TaskOptions,
        breaker: BreakerPolicy | None,
        store: QuarantineStore | None,
        replay: Replay,
    ) -> None:
        self.crew: Final = crew
        self.defaults: Final = defaults
        self.is_guarded = breaker is not None
        self.is_quarantining: Final = store is not None
        self.house: Final = GuardHouse(
            lambda: crew.workers,
            breaker,
            crew.attempts_noted,
            arm=self._arm,
            screen=self._screen,
            announce=crew.gate.announce,
        )
        self.quarantine: Final = Quarantine(store or QuarantineStore(), crew.gate, replay)
        self.watchdog: Final = Watchdog(crew.gate.timers, lambda: crew.workers, _look_after)
        self.draw = random.random
        # Of profiles that need no care; and the supervisors of those that do.
        self._profiles: WeakSet[Profile] = WeakSet()
        self._supervisors: WeakValueDictionary[int, Supervisor] = WeakValueDictionary()
        self._accounts: dict[RetryBudget, _Account] = {}
        self.renew()
        crew.at_fork.append(self.begin_again)
        crew.gate.at_close.append(self.quarantine.let_go)

    def renew(self) -> None:
        """Begin with nothing: at first, and in a forked child."""
        # Guards the accounts, and what is in them. Taken by workers only, after an attempt.
        self._lock = allocate_lock()
        self._accounts.clear()
        self.reviewed: deque[None] = deque()
        # By lane, of calls that were cut off, if the crew is measured. Only the timers' thread writes.
        self.meters: dict[int, Meter] = {}
        self.retried_after_timeout = 0

    def begin_again(self) -> None:
        """In a forked child."""
        self.renew()
        self.house.renew()
        self.quarantine.renew()
        self.watchdog.renew()

    def supervise(self, profile: Profile, said: TaskOptions) -> None:
        """Look after the calls of a new profile, if there is anything to be done for them.

        Raises:
            RuntimeError: the system gives no thread for timers.
        """
        options = said.over(self.defaults)
        if options.need_care:
            self._engage(profile, options)
            self.crew.gate.timers.start()  # last: nobody would end it for an executor that is not made
            return
        self._profiles.add(profile)
        if self.is_guarded:  # looked at only now: who arms meanwhile may not have seen this one
            self._arm()

    def _engage(self, profile: Profile, options: TaskOptions) -> None:
        supervisor = Supervisor(self, profile, options)
        self._supervisors[id(supervisor)] = supervisor
        is_anything_blocked = None
        while is_anything_blocked is not self.house.is_anything_blocked:
            is_anything_blocked = self.house.is_anything_blocked
            supervisor.screen.place(is_anything_blocked=is_anything_blocked)

    def _arm(self) -> None:
        """Have calls of profiles that need no care otherwise ask the guard house, too."""
        self.is_guarded = True
        while self._profiles:
            try:
                profile = self._profiles.pop()
            except KeyError:
                break  # somebody else arms, too, or the last one is gone
            self._engage(profile, self.defaults)

    def _screen(self) -> None:
        """Something is blocked, or nothing is any more."""
        # Not a loop over the dictionary itself: others make profiles meanwhile.
        for reference in self._supervisors.valuerefs():
            supervisor = reference()
            if supervisor is not None:
                supervisor.screen.place(is_anything_blocked=self.house.is_anything_blocked)

    def count_cut_off(self, worker: Worker, record: RawRecord) -> None:
        """On the timers' thread: a call was cut off for good, and its worker does not count it."""
        if self.crew.is_measured:
            self.meters.setdefault(worker.lane_number, Meter(worker.ring)).count(record)

    # -- budgets ----------------------------------------------------------------------------------

    def spend(self, budget: RetryBudget, now: float) -> bool:
        """Pay for a retry with what has succeeded lately; false: it must not be made.

        A success costs nothing for this: workers count theirs anyhow. What came since the last retry is
        credited at the next; if that is long ago, as if it had come evenly.
        """
        successes = sum(worker.completed for worker in self.crew.workers)
        if not self._lock.acquire(timeout=_LONGEST_WAIT_SECONDS):
            return False  # we are inside our own work: a finaliser ran a call, and it failed
        try:
            account = self._accounts.get(budget)
            if account is None:
                account = self._accounts[budget] = _Account(budget, now)
            return account.spend(now, successes)
        finally:
            self._lock.release()


class _Account:
    """One budget's account, and how many successes it has been credited with."""

    def __init__(self, budget: RetryBudget, now: float) -> None:
        self._account = BudgetAccount(budget)
        self._window = budget.window
        self._credited = 0
        self._credited_at = now - budget.window

    def spend(self, now: float, successes: int) -> bool:
        new = successes - self._credited
        seconds = now - self._credited_at
        if seconds > self._window:
            new = int(new * self._window / seconds)
        self._account.earn(now, max(0, new))
        self._credited, self._credited_at = (
            max(successes, self._credited),
            max(now, self._credited_at),
        )
        return self._account.spend(now)


def _look_after(worker: Worker, token: Token[Any], now: float) -> float:
    return profile_of(token).look_after(worker, token, now)
