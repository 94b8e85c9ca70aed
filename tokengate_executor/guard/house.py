"""The guard house: how each operation is doing, and whether its calls are let in.

Guarantees
    * A call of an operation whose circuit is closed passes without a lock.
    * Who tells how a call ended never waits, so it may be told from anywhere.

Assumes
    * As ``engine.waiting_room``. How an outcome is posted, and why none is lost, is as there.

Only who asks to enter a circuit that is not closed waits for the lock, and not for ever: whoever cannot
have it soon is refused. So a finaliser that submits in the midst of our own work is refused, too, at
worst, and never hangs.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from tokengate_executor.errors import InvalidOptionError, OperationBlockedError
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.history import ByOperation
from tokengate_executor.options import OperationName, joined
from tokengate_executor.policies.breaker import (
    BreakerPolicy,
    Circuit,
    CircuitReport,
    CircuitState,
    Ticket,
)
from tokengate_executor.policies.health import OperationHealth, Outcome, assess, report
from tokengate_executor.policies.spikes import CostHistory, Finding, SpikePolicy, Verdict

if TYPE_CHECKING:
    from tokengate_executor.engine.workers import Worker

__all__ = ["GuardHouse", "OperationKey", "OperationRecord"]

OperationKey = str | OperationName
"""An operation by the name that was said, or by its function's."""

_WINDOW_SECONDS: Final = 300.0
_LONGEST_WAIT_SECONDS: Final = 0.1
_MOST_OPERATIONS: Final = 4096
_COSTS_AT_A_TIME: Final = 8

_KINDS: Final = {TokenState.FAILED: "failure", TokenState.TIMEOUT: "timeout"}


class OperationRecord:
    """What the guard house keeps of one operation.

    Attributes:
        name: its full name.
        circuit: guarded by the house's lock.
        costs: of its calls that ran; guarded by the house's lock.
        new_costs: those that are still to be added.
    """

    __slots__ = ("circuit", "costs", "name", "new_costs")

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.name = name
        self.circuit = Circuit(policy)
        self.costs: CostHistory | None = None
        self.new_costs: deque[float] = deque()


class GuardHouse:
    """How the operations of one executor are doing. ``print`` it for a report.

    It only watches, unless the executor was given a ``BreakerPolicy``: then it refuses calls of an
    operation that fails too often, for a while. Anyone may block an operation by hand.
    """

    def __init__(
        self,
        workers: Callable[[], Iterable[Worker]],
        policy: BreakerPolicy | None,
        arm: Callable[[], None],
    ) -> None:
        """``arm``: have every call of the executor ask here, from now on."""
        self.policy: Final = policy
        self._workers = workers
        self._arm = arm
        self._policy = policy or BreakerPolicy()
        self.renew()

    def renew(self) -> None:
        """Begin with nothing known: at first, and in a forked child."""
        # Guards _records, _by_key, and the circuits and costs in them.
        self._lock = allocate_lock()
        self._records: dict[str, OperationRecord] = {}
        self._by_key: dict[OperationKey, OperationRecord] = {}
        self._posts: deque[tuple[OperationRecord, Ticket, bool, float]] = deque()
        # Attempts that were cut off, which no worker of theirs has noted. The timers' thread writes.
        self.cut_off = ByOperation()

    # -- what is seen -----------------------------------------------------------------------------

    def health(self, operation: str) -> OperationHealth:
        """How one operation is doing; ``UNKNOWN`` if nothing is known of it."""
        now = perf_counter()
        found = self._outcomes().get(operation, [])
        return assess(operation, found, now, self._window, self._policy.quick_failure)

    def operations(self) -> tuple[OperationHealth, ...]:
        """How each operation is doing that had calls lately, by name."""
        now = perf_counter()
        return tuple(
            assess(name, outcomes, now, self._window, self._policy.quick_failure)
            for name, outcomes in sorted(self._outcomes().items())
        )

    def circuits(self) -> Mapping[str, CircuitReport]:
        """Operation → its circuit, as far as there are any."""
        now = perf_counter()
        with self._lock:
            self._do_posts()
            reports = {name: one.circuit.describe(now) for name, one in self._records.items()}
        return MappingProxyType(dict(sorted(reports.items())))

    def __str__(self) -> str:
        lines = [str(self.policy) if self.policy else "Breaker: none, operations are only watched"]
        lines += [
            f"{name}: {circuit}"
            for name, circuit in self.circuits().items()
            if circuit.state is not CircuitState.CLOSED
        ]
        return "\n".join([*lines, report(self.operations())])

    @property
    def _window(self) -> float:
        return _WINDOW_SECONDS if self.policy is None else self.policy.window

    def _outcomes(self) -> dict[str, list[Outcome]]:
        found: dict[str, list[Outcome]] = {}
        for operation, outcomes in self._noted():
            name = operation if isinstance(operation, str) else joined(operation)
            found.setdefault(name, []).extend(outcomes)
        return found

    def _noted(self) -> Iterator[tuple[OperationKey, list[Outcome]]]:
        for notes in (self.cut_off, *(worker.by_operation for worker in self._workers())):
            for operation, records in notes.copy().items():
                # Copies: whoever writes goes on writing.
                yield (
                    cast("OperationKey", operation),
                    [
                        (record[7], record[7] - record[6], _kind_of(record[4]))
                        for record in records.copy()
                    ],
                )

    # -- by hand ----------------------------------------------------------------------------------

    def open(self, operation: str, seconds: float | None = None) -> None:
        """Block an operation: its calls are refused with ``OperationBlockedError``.

        Args:
            operation: its full name, also one of which nothing is known yet.
            seconds: for how long, above 0; then trial calls decide. ``None``: until ``close``.

        Raises:
            InvalidOptionError: the name is empty, or the time is not above 0.
        """
        self._arm()
        self._steer(operation, lambda circuit, now: circuit.open(now, seconds))

    def close(self, operation: str) -> None:
        """Let an operation's calls in again.

        Raises:
            InvalidOptionError: the name is empty.
        """
        self._steer(operation, lambda circuit, now: circuit.close(now))

    def reset(self, operation: str) -> None:
        """As ``close``; and forget how often it was blocked.

        Raises:
            InvalidOptionError: the name is empty.
        """
        self._steer(operation, lambda circuit, now: circuit.reset(now))

    def _steer(self, operation: str, act: Callable[[Circuit, float], None]) -> None:
        name = cast("object", operation)
        if not isinstance(name, str) or not name:
            raise InvalidOptionError("operation", name, "a non-empty string")
        record = self.record_of(operation)
        with self._lock:
            self._do_posts()
            act(record.circuit, perf_counter())
        self._tend()

    # -- for who submits and who runs ---------------------------------------------------------------

    def record_of(self, key: OperationKey) -> OperationRecord:
        """What is kept of the operation; nothing, if it is new."""
        record = self._by_key.get(key)
        if record is not None:
            return record
        name = key if isinstance(key, str) else joined(key)
        policy = self._policy if self.policy is not None else _NEVER
        if not self._lock.acquire(timeout=_LONGEST_WAIT_SECONDS):
            return OperationRecord(name, policy)  # we are inside our own work: not kept
        try:
            if len(self._by_key) >= _MOST_OPERATIONS:
                self._forget_some()
            record = self._records.get(name)
            if record is None:
                record = self._records[name] = OperationRecord(name, policy)
            self._by_key[key] = record
        finally:
            self._lock.release()
        self._tend()
        return record

    def _forget_some(self) -> None:
        """Names may be made up per call: keep those that are blocked. Called with the lock held."""
        self._by_key.clear()
        self._records = {
            name: record
            for name, record in self._records.items()
            if record.circuit.state is not CircuitState.CLOSED
        }

    def enter(self, record: OperationRecord) -> Ticket:
        """Leave to make a call of this operation.

        Raises:
            OperationBlockedError: it is blocked.
        """
        circuit = record.circuit
        ticket = circuit.standing
        if ticket is not None:
            return ticket
        now = perf_counter()
        facts = None
        if self._lock.acquire(timeout=_LONGEST_WAIT_SECONDS):
            try:
                self._do_posts()
                ticket = circuit.may_enter(now)
                facts = circuit.describe(now)
            finally:
                self._lock.release()
            self._tend()
        if ticket is not None:
            return ticket
        if facts is None:
            raise OperationBlockedError(record.name, 0.0, 0, _LONGEST_WAIT_SECONDS)
        raise OperationBlockedError(record.name, facts.failure_rate, facts.calls, facts.retry_after)

    def tell(self, record: OperationRecord, ticket: Ticket, now: float, *, failed: bool) -> None:
        """How a call that had leave has ended. Never waits."""
        self._posts.append((record, ticket, failed, now))
        self._tend()

    def forgo(self, record: OperationRecord, ticket: Ticket) -> None:
        """A call that had leave will have no outcome."""
        if ticket.trial and self._lock.acquire(timeout=_LONGEST_WAIT_SECONDS):
            try:
                record.circuit.forgo(ticket)
            finally:
                self._lock.release()
            self._tend()

    def judge(self, record: OperationRecord, cost: float, policy: SpikePolicy) -> Verdict:
        """Compare what a call costs with the operation's usual."""
        if not self._lock.acquire(timeout=_LONGEST_WAIT_SECONDS):
            return Verdict(Finding.NORMAL, 0.0, cost, None)  # we are inside our own work
        try:
            costs = record.costs
            if costs is None:
                costs = record.costs = CostHistory(policy.samples)
            # Not each at once: after each the usual has to be worked out again.
            if len(record.new_costs) >= _COSTS_AT_A_TIME or len(costs) < 2 * policy.min_samples:
                while record.new_costs:
                    costs.add(record.new_costs.popleft())
            return costs.judge(cost, policy)
        finally:
            self._lock.release()

    def _tend(self) -> None:
        """Do what was posted, unless somebody else has the lock, who then does it."""
        while self._posts and self._lock.acquire(blocking=False):
            try:
                self._do_posts()
            finally:
                self._lock.release()

    def _do_posts(self) -> None:
        """Called with the lock held."""
        while self._posts:
            record, ticket, failed, now = self._posts.popleft()
            if failed:
                record.circuit.failed(ticket, now)
            else:
                record.circuit.succeeded(ticket, now)


_NEVER: Final = BreakerPolicy(failure_rate=0.999999, min_calls=10**9)
"""For circuits that are opened by hand only."""


def _kind_of(error: tuple[TokenState, str] | None) -> str:
    return "success" if error is None else _KINDS.get(error[0], "killed")
