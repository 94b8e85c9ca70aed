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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from tokengate_executor.errors import InvalidOptionError, OperationBlockedError
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import CircuitChanged
from tokengate_executor.observe.history import ByOperation, RawRecord
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
    from tokengate_executor.observe.events import Announcer

__all__ = ["GuardHouse", "OperationKey", "OperationRecord"]

OperationKey = str | OperationName
"""An operation by the name that was said, or by its function's."""

_WINDOW_SECONDS: Final = 300.0
_LONGEST_WAIT_SECONDS: Final = 0.1
_MOST_OPERATIONS: Final = 4096
_MOST_PATIENCE: Final = 256

_NO_RECORDS: Final[deque[RawRecord]] = deque(maxlen=0)

_KINDS: Final = {TokenState.FAILED: "failure", TokenState.TIMEOUT: "timeout"}


class OperationRecord:
    """What the guard house keeps of one operation.

    Attributes:
        name: its full name.
        keys: what workers note it under: the name, its function's, or both. Only ever grows.
        circuit: guarded by the house's lock.
        costs: of its calls that were let in; guarded by the house's lock.
        new_costs: those that are still to be added.
        told_state: the circuit's state as it was told last; guarded by the house's lock.
        usual: the usual cost; negative while too few are known.
        patience: at so many new costs the usual is to be worked out again; the more often it was, the
            more there may be, up to a bound.
    """

    __slots__ = ("circuit", "costs", "keys", "name", "new_costs", "patience", "told_state", "usual")

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.name = name
        self.keys: list[OperationKey] = []
        self.circuit = Circuit(policy)
        self.told_state = CircuitState.CLOSED
        self.costs: CostHistory | None = None
        self.new_costs: deque[float] = deque()
        self.usual = -1.0
        self.patience = 1


class GuardHouse:
    """How the operations of one executor are doing. ``print`` it for a report.

    It only watches, unless the executor was given a ``BreakerPolicy``: then it refuses calls of an
    operation that fails too often, for a while. Anyone may block an operation by hand.

    What it knows of an operation are the last attempts that each worker has noted of it: 64, or as
    many as the policy wants for a verdict.

    Attributes:
        is_anything_blocked: whether some circuit may not be closed. Read without the lock.
    """

    def __init__(
        self,
        workers: Callable[[], Iterable[Worker]],
        policy: BreakerPolicy | None,
        attempts_noted: int,
        *,
        arm: Callable[[], None],
        screen: Callable[[], None],
        announce: Announcer | None,
    ) -> None:
        """Watch what the workers note.

        Args:
            workers: all of the executor's.
            policy: when an operation is blocked; ``None``: only by hand.
            attempts_noted: how many of an operation each of these remembers.
            arm: have every attempt of the executor be told here, from now on.
            screen: have calls ask here as long as anything is blocked. Called with the lock held.
            announce: tells of circuits that changed; ``None``: nobody listens.
        """
        self.policy: Final = policy
        self._workers = workers
        self._attempts_noted = attempts_noted
        self._arm = arm
        self._screen = screen
        self._announce = announce
        self._policy = policy or BreakerPolicy()
        self.renew()

    def renew(self) -> None:
        """Begin with nothing known: at first, and in a forked child."""
        # Guards _records, _by_key, the circuits and costs in them, and is_anything_blocked.
        self._lock = allocate_lock()
        self._records: dict[str, OperationRecord] = {}
        self._by_key: dict[OperationKey, OperationRecord] = {}
        self._posts: deque[Callable[[], object]] = deque()
        # What is to be told when the lock is free. Appended to with the lock held.
        self._news: deque[CircuitChanged] = deque()
        # Held by whoever tells it, so that it is told in its order. Nobody waits for it.
        self._telling = allocate_lock()
        self.is_anything_blocked = False
        # Attempts that were cut off, which no worker of theirs has noted. The timers' thread writes.
        self.cut_off = ByOperation(self._attempts_noted)

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
            found = {name: (one, one.circuit.describe(now)) for name, one in self._records.items()}
        self._tend()
        reports: dict[str, CircuitReport] = {}
        for name, (record, described) in sorted(found.items()):
            if described.state is CircuitState.CLOSED:
                calls, failures = self._count(record, self._workers(), now)
                reports[name] = replace(described, calls=calls, failures=failures)
            else:
                reports[name] = described
        return MappingProxyType(reports)

    def states(self) -> Mapping[str, CircuitState]:
        """Operation → the state of its circuit, as far as there are any. ``circuits`` counts, too."""
        with self._lock:
            self._do_posts()
            found = {name: one.circuit.state for name, one in sorted(self._records.items())}
        self._tend()
        return MappingProxyType(found)

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
        for notes in self._all_notes(self._workers()):
            for operation, records in notes.copy().items():
                key = cast("OperationKey", operation)
                name = key if isinstance(key, str) else joined(key)
                found.setdefault(name, []).extend(
                    # A copy: whoever writes goes on writing.
                    (record[7], record[7] - record[6], _kind_of(record[4]))
                    for record in records.copy()
                )
        return found

    def _all_notes(self, workers: Iterable[Worker]) -> list[ByOperation]:
        return [self.cut_off, *(worker.by_operation for worker in workers)]

    def _count(
        self, record: OperationRecord, workers: Iterable[Worker], now: float
    ) -> tuple[int, int]:
        """Calls that count for a closed circuit, and how many of them failed."""
        calls = failures = 0
        ended_after, began_after = now - self._window, record.circuit.closed_since
        for notes in self._all_notes(workers):
            for key in record.keys:
                # Not `[key]`, which would make an entry in another thread's notes.
                for note in notes.get(key, _NO_RECORDS).copy():
                    error = note[4]
                    if note[7] >= ended_after and note[6] >= began_after:
                        if error is None:
                            calls += 1
                        elif error[0] in _KINDS:
                            calls += 1
                            failures += 1
        return calls, failures

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
        try:
            with self._lock:
                self._do_posts()
                act(self._recorded(operation).circuit, perf_counter())
                self._note_blocked()
        finally:
            self._tend()

    # -- for who submits and who runs ---------------------------------------------------------------

    def record_of(self, key: OperationKey) -> OperationRecord:
        """What is kept of the operation; nothing, if it is new."""
        record = self._by_key.get(key)
        if record is not None:
            return record
        if not self._lock.acquire(timeout=_LONGEST_WAIT_SECONDS):
            return self._new_record(key)  # we are inside our own work: not kept
        try:
            record = self._recorded(key)
        finally:
            self._lock.release()
        self._tend()
        return record

    def _recorded(self, key: OperationKey) -> OperationRecord:
        """Called with the lock held."""
        record = self._by_key.get(key)
        if record is None:
            if len(self._by_key) >= _MOST_OPERATIONS:
                self._forget_some()
            new = self._new_record(key)
            record = self._by_key[key] = self._records.setdefault(new.name, new)
            if key not in record.keys:
                record.keys.append(key)
        return record

    def _new_record(self, key: OperationKey) -> OperationRecord:
        name = key if isinstance(key, str) else joined(key)
        return OperationRecord(name, self._policy if self.policy is not None else _NEVER)

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
                self._note_change(record)
            finally:
                self._lock.release()
            try:
                self._tend()
            except BaseException:  # a listener was interrupted
                if ticket is not None:
                    self.forgo(record, ticket)
                raise
        if ticket is not None:
            return ticket
        if facts is None:
            raise OperationBlockedError(record.name, 0.0, 0, _LONGEST_WAIT_SECONDS)
        raise OperationBlockedError(record.name, facts.failure_rate, facts.calls, facts.retry_after)

    def tell(self, record: OperationRecord, ticket: Ticket, now: float, *, failed: bool) -> None:
        """How a trial call has ended. Never waits."""
        end = record.circuit.failed if failed else record.circuit.succeeded
        self._post(lambda: end(ticket, now))

    def forgo(self, record: OperationRecord, ticket: Ticket) -> None:
        """A call that had leave will have no outcome. Never waits."""
        if ticket.trial:
            self._post(lambda: record.circuit.forgo(ticket))

    def note_failure(self, key: OperationKey, now: float, worker: Worker | None) -> None:
        """A call failed that was no trial, and is noted: see whether that is one too many. Never waits.

        Successes are not told, and cost nothing: they are counted when one fails. If too many of all
        failed, then too many of some worker's own did; so who has had better luck need not count all.
        """
        record = self.record_of(key)
        circuit = record.circuit
        if circuit.standing is None:
            return
        if worker is not None:
            calls, failures = self._count(record, [worker], now)
            if failures <= self._policy.failure_rate * calls:
                return
        calls, failures = self._count(record, self._workers(), now)
        if self._policy.blocks(failures, calls):
            self._post(lambda: circuit.judge(now, calls, failures))

    def judge(self, record: OperationRecord, cost: float, policy: SpikePolicy) -> Verdict:
        """Compare what a call costs with the operation's usual, and remember it if it is let in."""
        if not self._lock.acquire(timeout=_LONGEST_WAIT_SECONDS):
            return Verdict(Finding.NORMAL, 0.0, cost, None)  # we are inside our own work
        try:
            costs = record.costs
            if costs is None:
                costs = record.costs = CostHistory(policy.samples)
            # Submitters go on appending; no more are remembered than these.
            for _ in range(len(record.new_costs) - policy.samples):
                record.new_costs.popleft()
            while record.new_costs:
                costs.add(record.new_costs.popleft())
            record.patience = min(2 * record.patience, _MOST_PATIENCE)
            verdict = costs.judge(cost, policy)
            if verdict.finding is not Finding.QUARANTINE:
                costs.add(cost)
            usual = costs.usual()
            if usual is not None and len(costs) >= policy.min_samples:
                record.usual = usual
        finally:
            self._lock.release()
        self._tend()
        return verdict

    def _post(self, act: Callable[[], object]) -> None:
        self._posts.append(act)
        self._tend()

    def _tend(self) -> None:
        """Do what was posted, unless somebody else has the lock, who then does it."""
        while self._posts and self._lock.acquire(blocking=False):
            try:
                self._do_posts()
            finally:
                self._lock.release()
        if self._news:
            self._tell_news()

    def _tell_news(self) -> None:
        """Called without the lock. Who comes while another tells leaves it to that one."""
        announce, telling = (
            self._announce,
            self._telling,
        )  # a listener may fork, and then it is another
        while announce is not None and self._news and telling.acquire(blocking=False):
            try:
                while self._news:
                    announce(self._news.popleft())
            finally:
                telling.release()

    def _note_change(self, record: OperationRecord) -> None:
        """Have it told if the circuit is not as it was when it was told last. With the lock held."""
        before, after = record.told_state, record.circuit.state
        if self._announce is None or before is after:
            return
        record.told_state = after
        facts = record.circuit.describe(perf_counter())
        self._news.append(
            CircuitChanged(
                at=perf_counter(),
                operation=record.name,
                before=before,
                after=after,
                calls=facts.calls,
                failures=facts.failures,
            )
        )

    def _do_posts(self) -> None:
        """Called with the lock held."""
        if not self._posts:
            return
        while self._posts:
            self._posts.popleft()()
        self._note_blocked()

    def _note_blocked(self) -> None:
        """Called with the lock held."""
        if self._announce is not None:
            for record in self._records.values():
                self._note_change(record)
        before = self.is_anything_blocked
        self.is_anything_blocked = any(
            record.circuit.state is not CircuitState.CLOSED for record in self._records.values()
        )
        if self.is_anything_blocked is not before:
            self._screen()


_NEVER: Final = BreakerPolicy(failure_rate=0.999999, min_calls=10**9)
"""For circuits that are opened by hand only."""


def _kind_of(error: tuple[TokenState, str] | None) -> str:
    return "success" if error is None else _KINDS.get(error[0], "killed")
