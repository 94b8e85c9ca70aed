"""Supervision: what is done about the failures of one profile's calls.

A profile without it costs nothing for it: its ``attempt`` is settlement's own. With it, it is the
supervisor's, which decides after each attempt whether the token settles or is tried again. What is
looked at before a call is let in: see ``guard.screening``.

Guarantees
    * An attempt ends once: by its own thread, or because its time is over (``_end``).
    * A token that is tried again waits in no queue and holds nothing but its key; see ``engine.claims``.

The steps of ``attempt`` are those of ``engine.settlement.attempt``, which says why they are in this
order.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
from math import inf
from time import perf_counter
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.engine.claims import fail_waiting, kill_waiting, put_away
from tokengate_executor.engine.gate import BROKEN
from tokengate_executor.engine.settlement import fail, state_after
from tokengate_executor.engine.watchdog import live_stack
from tokengate_executor.errors import TokenTimeoutError
from tokengate_executor.guard.reviewer import Reviewer
from tokengate_executor.guard.screening import Screen
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import TokenRetrying
from tokengate_executor.options import name_of
from tokengate_executor.policies.breaker import CircuitState
from tokengate_executor.policies.complexity import code_of, complexity_of_code
from tokengate_executor.policies.retry import RetryPolicy, asks_to_end
from tokengate_executor.token import EarlierAttempts

if TYPE_CHECKING:
    from tokengate_executor.engine.routes import Profile
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.guard.recovery import Recovery
    from tokengate_executor.options import TaskOptions
    from tokengate_executor.token import Token

__all__ = ["Supervisor"]

_LOGGER: Final = logging.getLogger("tokengate_executor")

_LONGEST_ERROR_TEXT: Final = 200
_MOST_NOTES: Final = 100

_COMPLETED: Final = TokenState.COMPLETED


class Supervisor:
    """Looks after the calls of one profile."""

    def __init__(self, recovery: Recovery, profile: Profile, options: TaskOptions) -> None:
        """From here on the profile's calls are run by this."""
        self._recovery = recovery
        self._profile = profile
        self._gate = profile.gate
        self._retry = options.retry
        self._timeout = options.timeout
        self._slow_after = options.slow_after
        self.screen: Final = Screen(recovery, profile, options.spikes)
        moments = [one for one in (options.timeout, options.slow_after) if one is not None]
        self._first_look = min(moments) if moments else None
        self._watchdog = recovery.watchdog
        self._reviewer = None
        if self._retry is not None and not isinstance(self._retry, RetryPolicy):
            self._reviewer = Reviewer(self._retry)
        profile.steps.attempt = self.attempt
        profile.look_after = self.look_after
        profile.is_in_place = options.timeout is None and options.retry is None

    # -- an attempt -------------------------------------------------------------------------------

    def attempt(self, worker: Worker, token: Token[Any]) -> None:  # noqa: C901, PLR0912, PLR0915
        """As ``engine.settlement.attempt``; but afterwards the token may be tried again."""
        profile = self._profile
        if profile.weight_index:
            # Before it counts as started: what has no weight is the rest.
            worker.started_by_weight[profile.weight_index] += 1
        serial = worker.started
        worker.started = serial + 1
        token._serial = serial
        token._host = worker
        token._lane = worker.lane_number
        fn: Any = token._fn
        notes = worker.notes
        code: CodeType | None
        if (
            type(fn) is FunctionType
            and fn.__qualname__ is notes.qualname
            and fn.__module__ is notes.module
            and profile is notes.profile
        ):  # as the last one
            code = fn.__code__
        else:
            code = code_of(fn)
            notes = worker.note(fn, profile)
        token._name = name = notes.name
        lock = token._lock
        attempts = 1
        earlier = token._earlier
        if earlier is None:
            token._ended_attempt = 0.0
        else:
            earlier.started = attempts = earlier.started + 1
        error: BaseException | None = None
        result: Any = None
        # Taken before it can be cut off: then the token has another context, or nothing any more. And
        # the arguments so that they are here no longer than until the call has them.
        context: Any = token._context
        call = [token._args]
        kwargs = token._kwargs
        token._started_at = started_at = perf_counter()
        if self._first_look is not None:
            # `Watchdog.mind`, written out.
            token._look_at = look_at = started_at + self._first_look
            if look_at < self._watchdog.next_look:
                self._watchdog.mind(token, look_at)
        try:
            if kwargs:  # noqa: SIM108  as in settlement
                result = context.run(fn, *call.pop(), **kwargs)
            else:
                result = context.run(fn, *call.pop())
        except BaseException as raised:  # as in settlement
            error = raised
            here = raised.__traceback__
            # Not by assignment: a frozen error's class forbids that.
            BaseException.with_traceback(raised, here.tb_next if here is not None else None)
            here = None
        ended_at = perf_counter()
        kwargs = context = None
        worker.current = None
        if not worker.outer:
            worker.busy_seconds += ended_at - started_at
        if attempts == 1:
            worker.waited_seconds += started_at - token.submitted_at
        if self._timeout is not None:
            # `_end`, written out.
            lock.acquire()
            if token._started_at != started_at or token._ended_attempt == started_at:
                lock.release()
                fn = result = error = None
                self._come_late(worker, token, started_at)
                return
            token._ended_attempt = started_at
            lock.release()
        state = _COMPLETED if error is None else state_after(token, error)
        record = (
            token._id,
            serial,
            name,
            profile,
            None if error is None else (state, type(error).__name__),
            token.submitted_at if earlier is None else started_at - earlier.waited_seconds,
            started_at,
            ended_at,
            code,
            attempts,
        )
        fn = None
        notes.records.append(record)
        if self._recovery.is_guarded and (error is not None or token._ticket is not None):
            self._tell(worker, token, state, ended_at)
        if self._retry is not None and (error is not None or self._reviewer is not None):
            again = self._is_tried_again(token, attempts, error, result, ended_at)
            if again is not None:
                worker.current = token  # so that whoever looks for it meanwhile finds it here
                self._tell_retrying(token, error, again)
                worker.current = None
                worker.retried += 1
                self._try_again(token, error, result, again, ended_at)
                error = result = None
                return
        if error is None:
            worker.completed += 1
        elif state is TokenState.FAILED:
            worker.failed += 1
            self._give_up(token, error)
        else:
            worker.killed += 1
        worker.keep(record)
        token._fn = token._kwargs = token._context = None
        token._args = ()
        token._settled_at = ended_at
        if profile.is_ordered:
            profile.gate.post(token, held=True)
        if error is not None:
            fail(token, error)
            del token, error  # as in settlement
            return
        token._result = result
        token._exception = None
        lock.acquire()
        token._phase = _COMPLETED
        audience = token._audience
        if audience is None:
            lock.release()
            return
        try:
            callbacks = audience.tell(token, _COMPLETED)
        finally:
            lock.release()
        if callbacks:
            token._call_back(callbacks, BaseException)

    def _end(self, token: Token[Any], started_at: float) -> bool:
        """End the attempt that began then; false: it has been ended. Of two who try, one does it."""
        with token._lock:
            # Settled tokens have ended, too: whoever settles one has ended its attempt before.
            if token._started_at != started_at or token._ended_attempt == started_at:
                return False
            token._ended_attempt = started_at
            return True

    def _come_late(self, worker: Worker, token: Token[Any], started_at: float) -> None:
        """The attempt was given up while it ran: its token may be anywhere by now."""
        worker.late += 1
        _LOGGER.info(
            "a call of %s ended after its time; what it came to is dropped", token.operation
        )
        if self._profile.is_ordered:
            # What the call used is free only now; its key is kept if it is to be tried again. Noted
            # first, and then looked whether the token is done: see `_cut_off`.
            token._late_attempt = started_at
            self._gate.post(token, held=True, stays=not token.done())
        self._recovery.crew.come_back(worker)

    def _tell(
        self, worker: Worker | None, token: Token[Any], state: TokenState, now: float
    ) -> None:
        """Tell the guard house of an attempt that was a trial, or has failed, and is noted."""
        given = token._ticket
        failed = state is not _COMPLETED
        if given is not None:
            if state is not TokenState.KILLED:
                self._recovery.house.tell(*given, now, failed=failed)
                token._ticket = None
        elif failed and state is not TokenState.KILLED:
            key = self._profile.operation or token._name
            assert key is not None  # its attempt has begun
            self._recovery.house.note_failure(key, now, worker)

    # -- again, or not ------------------------------------------------------------------------------

    def _is_tried_again(
        self,
        token: Token[Any],
        attempts: int,
        error: BaseException | None,
        result: object,
        now: float,
    ) -> float | None:
        """After how many seconds the token is tried again; ``None``: it is not."""
        if (
            self._gate.is_final
            or token.kill_requested
            or (error is not None and asks_to_end(error))
        ):
            return None
        try:
            if self._reviewer is not None:
                delay = self._reviewer.delay_after(token, attempts, error, result, now)
            elif error is not None:
                delay = self._delay_after(token, attempts, error, now)
            else:
                return None
        except BaseException:  # or the token would never settle
            _LOGGER.exception("the retry policy of %s failed: not tried again", token.operation)
            return None
        if delay is not None and self._is_blocked(token):
            _note(error, "not tried again: the operation is blocked")
            return None
        return delay

    def _delay_after(
        self, token: Token[Any], attempts: int, error: BaseException, now: float
    ) -> float | None:
        policy = self._retry
        assert isinstance(policy, RetryPolicy)
        if not policy.is_worth_it(error):
            return None
        code = code_of(token._fn)
        if attempts >= policy.attempts_for(lambda: complexity_of_code(code).level):
            return None
        delay = policy.delay_after(attempts, self._recovery.draw())
        if policy.timeout is not None and now + delay > token.submitted_at + policy.timeout:
            _note(error, f"not tried again: {policy.timeout:g} s (timeout) would be over")
            return None
        if policy.budget is not None and not self._recovery.spend(policy.budget, now):
            _note(error, "not tried again: the executor's retry budget is spent")
            return None
        return delay

    def _is_blocked(self, token: Token[Any]) -> bool:
        house = self._recovery.house
        if not house.is_anything_blocked:
            return False
        # Half-open, it is for new calls to try.
        return self.screen.record_of(token).circuit.state is not CircuitState.CLOSED

    def _tell_retrying(self, token: Token[Any], error: BaseException | None, delay: float) -> None:
        """Before it is put away, so that nobody has told of its end."""
        announce = self._gate.announce
        if announce is None or token.done():  # its call has settled it by hand
            return
        announce(
            TokenRetrying(
                at=perf_counter(),
                token_id=token.id,
                operation=token.operation,
                weight=token.weight,
                attempt=token.attempts,
                delay_seconds=delay,
                error=None if error is None else type(error).__name__,
            )
        )

    def _try_again(
        self,
        token: Token[Any],
        error: BaseException | None,
        result: object,
        delay: float,
        ended_at: float,
        *,
        is_cut_off: bool = False,
    ) -> None:
        gate = self._gate
        started_at = token._started_at or 0.0
        earlier = token._earlier
        if earlier is None:
            earlier = token._earlier = EarlierAttempts(started_at, token.submitted_at)
        earlier.last_host, earlier.last_run_seconds = token._host, ended_at - started_at
        if is_cut_off and token._context is not None:
            token._context = token._context.copy()  # the attempt that was cut off is still in it
        outcome = f"returned {type(result).__name__}" if error is None else _told(error)
        earlier.errors.append(f"attempt {earlier.started}: {outcome}")
        # Whoever claims it next is its host only a moment later; until then it is not the old one.
        token._host = None
        if self._first_look is not None:
            token._look_at = inf  # nor is it slow before it has begun
        if not put_away(token, TokenState.RETRYING):  # its call has settled it by hand
            if self._profile.is_ordered and not is_cut_off:
                gate.post(token, held=True)
            return
        if self._profile.is_ordered and not is_cut_off:
            gate.post(token, held=True, stays=True)
        gate.timers.set(perf_counter() + delay, lambda: gate.readmit(token), token.done)
        # Cancelled, killed, or broken down, since we looked: who did that did not see it.
        if gate.is_final:
            token.cancel()
        elif token._kill_requested:
            kill_waiting(token)
        elif gate.closed is BROKEN and fail_waiting(token, gate.refusal()):
            gate.count_failed()

    def _give_up(self, token: Token[Any], error: BaseException) -> None:
        earlier = token._earlier
        if earlier is not None:
            for line in earlier.errors:
                _note(error, line)
            earlier.tenacity = None
        if self._retry is not None and self._recovery.is_quarantining and not asks_to_end(error):
            identifier = self._recovery.quarantine.take_in(token, "given up", error)
            if identifier is not None:
                _note(error, f"the call is in quarantine, id {identifier}")

    # -- while it runs, on the timers' thread -------------------------------------------------------

    def look_after(self, worker: Worker, token: Token[Any], now: float) -> float:
        """It may have run for too long; returns when to look again, in ``perf_counter`` seconds."""
        started_at = token.started_at or now
        next_look = inf
        if self._slow_after is not None and token._logged_attempt != started_at:
            if now >= started_at + self._slow_after:
                token._logged_attempt = started_at
                _LOGGER.warning(
                    "%s has been running for %.1f s\n%s",
                    token.operation,
                    now - started_at,
                    live_stack(worker),
                )
            else:
                next_look = started_at + self._slow_after
        if self._timeout is not None:
            if now >= started_at + self._timeout:
                self._cut_off(worker, token, started_at, now)
                return inf
            next_look = min(next_look, started_at + self._timeout)
        return next_look

    def _cut_off(self, worker: Worker, token: Token[Any], started_at: float, now: float) -> None:
        """End the attempt that runs for too long, unless it ends by itself this very moment."""
        stack = live_stack(worker)
        gate, crew = self._gate, self._recovery.crew

        def end() -> bool:
            if not self._end(token, started_at):
                return False
            gate.away.add(token)  # so that nothing ends before it is known what becomes of it
            return True

        if crew.abandon(worker, token, end):
            try:
                is_away = self._settle_cut_off(worker, token, started_at, now, stack)
                if not is_away:
                    gate.away.discard(token)
                    if gate.is_ending:
                        gate.end_if_over()
            finally:
                crew.tell_ended()

    def _settle_cut_off(
        self, worker: Worker, token: Token[Any], started_at: float, now: float, stack: str
    ) -> bool:
        """Time the token out, or have it tried again; true: the latter."""
        assert self._timeout is not None
        recovery, gate, profile = self._recovery, self._gate, self._profile
        error = TokenTimeoutError(token.operation, timeout=self._timeout)
        _LOGGER.warning("%s; its thread goes on, unheard\n%s", error, stack)
        fn: Any = token._fn
        name = name_of(fn)
        attempts = token.attempts
        earlier = token._earlier
        state = TokenState.TIMEOUT
        outcome = state, type(error).__name__
        record = (
            token._id,
            token._serial or 0,
            name,
            profile,
            outcome,
            token.submitted_at if earlier is None else started_at - earlier.waited_seconds,
            started_at,
            now,
            code_of(fn),
            attempts,
        )
        recovery.house.cut_off[profile.operation or name].append(record)
        if recovery.is_guarded:
            self._tell(None, token, state, now)
        if self._retry is not None:
            again = self._is_tried_again(token, attempts, error, None, now)
            if again is not None:
                self._tell_retrying(token, error, again)
                recovery.retried_after_timeout += 1
                self._try_again(token, error, None, again, now, is_cut_off=True)
                return not token.done()
        self._give_up(token, error)
        token._kill_requested = True  # for a call that heeds it
        token._settled_at = now
        gate.timed_out += 1
        worker.ring.append(record)  # appending is atomic, though the ring is another thread's
        recovery.count_cut_off(worker, record)
        fail(token, error, state)
        if profile.is_ordered and token._late_attempt == started_at:
            gate.post(token, held=False)  # the call ended meanwhile, and kept the key for us
        return False


def _told(error: BaseException) -> str:
    """The error in a line. Its text is the user's code."""
    try:
        text = str(error)
    except BaseException:  # or the token would never settle
        text = "(its text cannot be had)"
    if len(text) > _LONGEST_ERROR_TEXT:
        text = f"{text[:_LONGEST_ERROR_TEXT]}…"
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def _note(error: BaseException | None, text: str) -> None:
    if error is None:
        return
    try:
        if not hasattr(error, "__notes__"):
            object.__setattr__(error, "__notes__", [])  # its class may forbid it, as a frozen one
        if len(error.__notes__) < _MOST_NOTES:  # one error may be raised again and again
            BaseException.add_note(error, text)
    except Exception:
        _LOGGER.debug("%s takes no note: %s", type(error).__name__, text)
