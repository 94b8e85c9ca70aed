"""The quarantine of one executor: its store, and the tokens that are held until somebody decides.

Guarantees
    * A held token is settled or let go exactly once, however many decide at once: here, or in another
      process that has the same file.
    * ``shutdown`` leaves none unresolved: who is still held then fails, and its call stays in the store.

Assumes
    * ``dict.pop`` and item assignment are atomic, as are ``append`` and ``remove`` of a list. Who marks
      a call as replayed in the store may run it; who pops a held token decides on that.

Between the two, others see a token that is held for a call that is replayed, as if another process had
taken it. So whoever takes a call here is listed in ``_taking`` from before the mark until after the pop.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from tokengate_executor.engine.claims import fail_waiting, put_away
from tokengate_executor.errors import (
    QuarantineFileError,
    QuarantineStateError,
    TokenQuarantinedError,
    UnknownQuarantineIdError,
)
from tokengate_executor.guard.calls import Call, QuarantinedCall, Reason, Status
from tokengate_executor.guard.store import QuarantineStore
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import TokenQuarantined

if TYPE_CHECKING:
    from tokengate_executor.engine.gate import Gate
    from tokengate_executor.token import Token

__all__ = ["Quarantine", "Replay", "store_of"]

_LOGGER: Final = logging.getLogger("tokengate_executor")

_LOOK_EVERY_SECONDS: Final = 1.0

_IS_REPLAY: Final = "_tokengate_is_replay"


class Replay(Protocol):
    """Submits a call that came out of the quarantine."""

    def __call__(
        self, operation: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Token[Any]:
        """Its arguments are not judged again."""
        ...


class _Held(NamedTuple):
    """A token that waits for a decision, and who is told if that is that it may run."""

    token: Token[Any]
    approved: Callable[[], object]


class Quarantine:
    """Calls that must not run again, or at all, before a person has looked at them.

    A call comes here when its retry policy gives up, or when its arguments are a spike. Those of spikes
    are *held*: their tokens wait for the decision. Everything is in ``store``, which other processes
    and the command line may share; what they decide is heeded within a second.
    """

    def __init__(self, store: QuarantineStore, gate: Gate, replay: Replay) -> None:
        self.store: Final = store
        self._gate = gate
        self._replay = replay
        self.renew()

    def renew(self) -> None:
        """Hold nobody: at first, and in a forked child."""
        self._held: dict[str, _Held] = {}
        self._taking: list[str] = []
        self._is_looking = False

    # -- for people -------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """How many tokens of this executor wait for a decision."""
        # One that was cancelled or killed is taken out when we look next.
        return sum(not held.token.done() for held in self._held.copy().values())

    def pending(self) -> tuple[QuarantinedCall, ...]:
        """What nobody has decided on, in the order of arrival. Nothing is unpickled.

        Raises:
            QuarantineFileError: the file cannot be used.
        """
        return self.store.pending()

    def get(self, id: str) -> QuarantinedCall:  # noqa: A002  the word of the command line, too
        """What is known of one call. Nothing is unpickled.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
        """
        return self.store.get(id)

    def counts(self) -> dict[Status, int]:
        """How many calls are in each status."""
        return self.store.counts()

    def approve(self, id: str) -> None:  # noqa: A002
        """Say that the call may run. If a token is held for it, it runs now, and resolves that.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
            QuarantineStateError: it is approved or replayed already.
        """
        self.store.approve(id)
        self._follow(id)

    def reject(self, id: str) -> None:  # noqa: A002
        """Say that the call shall not run. A token that is held for it fails.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
            QuarantineStateError: it is rejected or replayed already.
        """
        self.store.reject(id)
        self._follow(id)

    def replay(self, id: str) -> Token[Any]:  # noqa: A002
        """Run a call that is pending or approved; returns the token held for it, or a new one.

        It is unpickled here, and that runs what the file says: use only files that nobody else can
        write. If it fails again, it is pending again.

        Raises:
            UnknownQuarantineIdError: there is none of that id.
            QuarantineStateError: it is rejected, or somebody else has taken it.
            NotReplayableError: it was never pickled, and kept by another process.
            RuntimeError: the executor is shut down.
        """
        held = self._take(id)
        token: Token[Any] | None = None
        if held is not None:
            with held.token._lock:
                if held.token._fn is not None:
                    held.token._fn = _as_replay(held.token._fn)
            token = held.token if self._let_run(held) else None
        if token is None:
            try:
                found = self.store.get(id)
                fn, args, kwargs = self.store.load(id)
                token = self._replay(found.operation, _as_replay(fn), args, kwargs)
            except BaseException:
                self.store.give_back(id)
                raise
        token.add_done_callback(lambda settled: self._note_replayed(id, settled))
        return token

    def purge(self, status: Status | None = None, older_than: float | None = None) -> int:
        """Delete calls for good; returns how many. Tokens that are held for them fail.

        Args:
            status: only those of this status. ``None``: of any, also those that nobody has seen.
            older_than: only those that came here more than so many seconds ago.
        """
        gone = self.store.purge(status, older_than)
        self.look()
        return gone

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        return f"quarantine {self.store.path}: {counts}; {self.held} tokens held"

    def _note_replayed(self, identifier: str, token: Token[Any]) -> None:
        if token.cancelled() or token.exception() is not None:
            self._give_back(identifier)

    def _give_back(self, identifier: str) -> None:
        # Unless somebody purged it meanwhile, or gave it back.
        with suppress(UnknownQuarantineIdError, QuarantineStateError):
            self.store.give_back(identifier)

    # -- for the engine ---------------------------------------------------------------------------

    def take_in(self, token: Token[Any], reason: Reason, error: BaseException | None) -> str | None:
        """Store the call of a token that still has it; returns its id.

        ``None``: it cannot be stored, which is logged with everything that is known of it; or it is a
        replay, and is there already.
        """
        fn = token._fn
        assert fn is not None
        if type(fn) is partial and _IS_REPLAY in vars(fn):
            return None
        call = Call(
            operation=token.operation,
            fn=fn,
            args=token._args,
            kwargs=token._kwargs or {},
            reason=reason,
            error=error,
            attempts=token.attempts,
            submitted_at=time() - (perf_counter() - token.submitted_at),
        )
        try:
            identifier = self.store.add(call)
        except Exception:
            _LOGGER.exception("cannot quarantine a call of %s (%s)", token.operation, reason)
            return None
        if self._gate.announce is not None:
            self._gate.announce(
                TokenQuarantined(
                    at=perf_counter(),
                    token_id=token.id,
                    operation=token.operation,
                    weight=token.weight,
                    quarantine_id=identifier,
                    reason=reason,
                )
            )
        return identifier

    def hold(self, token: Token[Any], finding: str, approved: Callable[[], object]) -> None:
        """Keep a token that was not queued until somebody has decided on its call.

        Args:
            token: that its submitter has made.
            finding: why.
            approved: called if it may run after all. Must not wait.

        Raises:
            TokenQuarantinedError: it cannot be stored, and so it is refused.
        """
        identifier = self.take_in(token, "spike", TokenQuarantinedError(token.operation, finding))
        if identifier is None:
            self._gate.rejected.add("spike")
            raise TokenQuarantinedError(token.operation, f"{finding}; it could not be stored")
        put_away(token, TokenState.QUARANTINED)
        self._held[identifier] = _Held(token, approved)
        if self._gate.is_ending:
            self.let_go()
        else:
            self._look_later()
            # Somebody may have decided already. If we cannot see that now, we look again later.
            with suppress(QuarantineFileError):
                self._follow(identifier)

    def let_go(self) -> None:
        """The executor is shut down: who is held fails, and its call stays in the store."""
        for identifier in list(self._held):
            self._fail(identifier, "the executor was shut down before anybody decided")

    def look(self) -> None:
        """See what others have decided on those that are held."""
        for identifier in self._held.copy():
            self._follow(identifier)

    def _look_later(self) -> None:
        """Who decides in the store itself cannot tell us: look every second while somebody is held."""
        if not self._is_looking:
            self._is_looking = True
            self._gate.timers.set(perf_counter() + _LOOK_EVERY_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._is_looking = False
        try:
            self.look()
        except Exception:
            _LOGGER.exception("cannot look into %s", self.store.path)
        if self._held:
            self._look_later()

    def _take(self, identifier: str) -> _Held | None:
        """Take a call to run it; of all who try, in whatever process, one gets it.

        Returns whom we held for it, if anybody, and it was not cancelled.

        Raises:
            UnknownQuarantineIdError: the call was purged.
            QuarantineStateError: it is rejected, or somebody else has taken it.
        """
        self._taking.append(identifier)
        try:
            self.store.mark_replayed(identifier)
            held = self._held.pop(identifier, None)
        finally:
            self._taking.remove(identifier)
        return None if held is None or held.token.done() else held

    def _let_run(self, held: _Held) -> bool:
        """Queue a token that was held; false: it has been settled meanwhile."""
        if not self._gate.readmit(held.token):
            return False
        held.approved()
        return True

    def _follow(self, identifier: str) -> None:
        """Do with a held token what was decided on its call."""
        held = self._held.get(identifier)
        if held is None:
            return
        if held.token.done():
            self._held.pop(identifier, None)  # cancelled or killed: the call itself may still run
            return
        try:
            status = self.store.get(identifier).status
            if status == "approved":
                taken = self._take(identifier)
                if taken is None or not self._let_run(taken):
                    self._give_back(identifier)  # settled this very moment: it has not run
        except UnknownQuarantineIdError:
            self._fail(identifier, "it was purged from the quarantine")
        except QuarantineStateError:
            self._follow(identifier)  # decided otherwise this very moment
        else:
            if status == "rejected":
                self._fail(identifier, "it was rejected")
            elif status == "replayed" and identifier not in self._taking:
                self._fail(identifier, "another process runs it instead")

    def _fail(self, identifier: str, because: str) -> None:
        held = self._held.pop(identifier, None)
        if held is not None:
            error = TokenQuarantinedError(held.token.operation, because, identifier)
            if fail_waiting(held.token, error):
                self._gate.count_failed()


def _as_replay(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, so that a call of it is known to be in the store; any other may be stored anew."""
    replay = partial(fn)
    setattr(replay, _IS_REPLAY, True)
    return replay


def store_of(
    given: str | os.PathLike[str] | QuarantineStore | bool | None,
) -> QuarantineStore | None:
    """The store that ``quarantine=`` means."""
    if given is None or given is False:
        return None
    if isinstance(given, QuarantineStore):
        return given
    store = QuarantineStore(None if given is True else given)
    store.open()
    return store
