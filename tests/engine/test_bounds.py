"""Places: never one too many, and none left free while somebody waits."""

from __future__ import annotations

import threading
from _thread import allocate_lock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tokengate_executor.engine.bounds import Bound


class Bell:
    """A waiter that remembers how often it was woken, and may have gone away."""

    def __init__(self, *, gone: bool = False) -> None:
        self.rung = 0
        self.gone = gone

    def release(self) -> bool:
        """Wake it."""
        self.rung += 1
        return not self.gone


def test_one_who_has_gone_away_passes_the_wake_up_on() -> None:
    """A waiter whose loop is closed does not swallow a place."""
    bound = Bound(1)
    assert bound.try_enter()
    gone, here = Bell(gone=True), Bell()
    assert not bound.enter_or_list(gone, again=False)
    assert not bound.enter_or_list(here, again=False)
    bound.leave()
    assert (gone.rung, here.rung, bound.waiters) == (1, 1, 0)


def test_one_that_was_woken_in_vain_goes_to_the_front() -> None:
    """Who lost its place to a newcomer is woken before those who came later."""
    bound = Bound(1)
    assert bound.try_enter()
    first, second = Bell(), Bell()
    bound.enter_or_list(first, again=False)
    bound.enter_or_list(second, again=False)
    bound.leave()
    assert first.rung == 1
    assert bound.try_enter()  # the newcomer
    assert not bound.enter_or_list(first, again=True)
    bound.leave()
    assert (first.rung, second.rung) == (2, 0)


def test_who_does_not_use_its_place_passes_it_on() -> None:
    """One that was woken and gives up, as after an interrupt, has the next one woken."""
    bound = Bound(1)
    assert bound.try_enter()
    first, second = Bell(), Bell()
    bound.enter_or_list(first, again=False)
    bound.enter_or_list(second, again=False)
    bound.leave()
    assert not bound.withdraw(first)
    bound.pass_on()
    assert second.rung == 1


def test_wake_all_and_renew() -> None:
    """Everybody is woken once; after a fork all places are free and nobody waits."""
    bound = Bound(2)
    bells = [Bell() for _ in range(3)]
    assert bound.try_enter()
    assert bound.try_enter()
    for bell in bells:
        bound.enter_or_list(bell, again=False)
    bound.wake_all()
    assert [bell.rung for bell in bells] == [1, 1, 1]
    bound.renew()
    assert (bound.pending, bound.waiters) == (0, 0)


def test_many_threads_never_exceed_the_bound() -> None:
    """Eight threads go in and out, waiting when it is full; all get through, none too many."""
    bound, rounds = Bound(3), 300
    most: list[int] = []

    def come_and_go() -> None:
        for _ in range(rounds):
            bell, again = allocate_lock(), False
            bell.acquire()
            while not bound.enter_or_list(bell, again=again):
                again = True
                assert bell.acquire(timeout=30)
            most.append(bound.pending)
            bound.leave()

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 8 * rounds
    assert max(most) <= 3
    assert (bound.pending, bound.waiters) == (0, 0)


class BoundMachine(RuleBasedStateMachine):
    """Some inside, some in line, in any order of coming, going and giving up."""

    def __init__(self) -> None:
        super().__init__()
        self.bound = Bound(2)
        self.inside = 0
        self.line: list[Bell] = []

    @rule()
    def come(self) -> None:
        """Take a place, or stand in line."""
        bell = Bell()
        if self.bound.enter_or_list(bell, again=False):
            self.inside += 1
        else:
            self.line.append(bell)

    @precondition(lambda self: self.inside)
    @rule()
    def go(self) -> None:
        """Leave; the first in line is woken and comes in."""
        self.bound.leave()
        self.inside -= 1
        for bell in [bell for bell in self.line if bell.rung]:
            self.line.remove(bell)
            assert self.bound.enter_or_list(bell, again=True)
            self.inside += 1

    @precondition(lambda self: self.line)
    @rule(choice=st.randoms())
    def give_up(self, choice: object) -> None:
        """One in line goes away."""
        bell = choice.choice(self.line)  # type: ignore[attr-defined]
        self.line.remove(bell)
        assert self.bound.withdraw(bell)

    @invariant()
    def adds_up(self) -> None:
        """The counters are the model's, and nobody stands in line before a free place."""
        assert self.bound.pending == self.inside <= 2
        assert self.bound.waiters == len(self.line)
        assert not self.line or self.inside == 2


TestBoundMachine = BoundMachine.TestCase
TestBoundMachine.settings = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize("size", [1, 5])
def test_all_places_can_be_had(size: int) -> None:
    """As many as its size, and not one more."""
    bound = Bound(size)
    assert [bound.try_enter() for _ in range(size + 1)] == [True] * size + [False]
