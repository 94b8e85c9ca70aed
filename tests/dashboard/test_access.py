"""Access: attempts, sessions and CSRF tokens, on a clock that the tests move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.dashboard import access
from tokengate_executor.dashboard.access import Access, Attempts


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """As ``time.monotonic``."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def guarded(clock: Clock) -> Access:
    """Access with a password and nothing public."""
    return Access(has_password=True, public_read=False, clock=clock)


# attempts


def test_one_address_gets_five_attempts_and_then_one_every_half_minute(clock: Clock) -> None:
    """The sixth is refused, and told for how long; after that time there is one."""
    attempts = Attempts(clock)
    assert [attempts.try_from("1.2.3.4") for _ in range(5)] == [0.0] * 5
    assert attempts.try_from("1.2.3.4") == pytest.approx(30.0)
    clock.now += 29.0
    assert attempts.try_from("1.2.3.4") == pytest.approx(1.0)
    clock.now += 1.0
    assert attempts.try_from("1.2.3.4") == 0.0
    assert attempts.try_from("1.2.3.4") > 0.0


def test_others_do_not_suffer_from_one_address(clock: Clock) -> None:
    """However long it goes on."""
    attempts = Attempts(clock)
    for _ in range(1000):
        attempts.try_from("1.2.3.4")
    assert attempts.try_from("5.6.7.8") == 0.0


def test_all_together_are_limited(clock: Clock) -> None:
    """A thousand addresses get fifty attempts, and then one every two seconds."""
    attempts = Attempts(clock)
    made = sum(attempts.try_from(f"10.0.{n // 250}.{n % 250}") == 0.0 for n in range(1000))
    assert made == 50
    clock.now += 2.0
    assert attempts.try_from("10.1.1.1") == 0.0
    assert attempts.try_from("10.1.1.2") > 0.0


def test_the_right_password_makes_up_for_the_wrong_ones(clock: Clock) -> None:
    """Whoever mistypes it now and then is not shut out."""
    attempts = Attempts(clock)
    for _ in range(8):
        assert attempts.try_from("1.2.3.4") == 0.0
        assert attempts.try_from("1.2.3.4") == 0.0
        attempts.succeeded("1.2.3.4")


def test_a_network_is_one_address_where_addresses_are_plenty(clock: Clock) -> None:
    """Of IPv6 everybody has 2**64; of IPv4 in IPv6 one. An odd address counts as itself."""
    attempts = Attempts(clock)
    for host in range(5):
        assert attempts.try_from(f"2001:db8::{host}") == 0.0
    assert attempts.try_from("2001:db8::ffff") > 0.0
    assert attempts.try_from("2001:db8:0:1::1") == 0.0
    for _ in range(5):
        attempts.try_from("::ffff:1.2.3.4")
    assert attempts.try_from("::ffff:1.2.3.5") == 0.0
    for _ in range(5):
        attempts.try_from("unknown")
    assert attempts.try_from("unknown") > 0.0


def test_memory_for_addresses_is_bounded(clock: Clock) -> None:
    """The ones that were seen least recently are forgotten."""
    attempts = Attempts(clock)
    for n in range(3 * access.MOST_ADDRESSES):
        attempts.try_from(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}")
    assert len(attempts._each) == access.MOST_ADDRESSES


# sessions


def test_a_session_may_read_and_control(guarded: Access) -> None:
    """Its id is long, in no way that of another, and known only to its owner."""
    one, two = guarded.begin(), guarded.begin()
    assert one != two
    assert len(one) == 43
    visitor = guarded.visitor([one])
    assert (visitor.id, visitor.may_read, visitor.may_control) == (one, True, True)
    assert one not in repr(vars(guarded)), "what is kept does not tell the ids"


@pytest.mark.parametrize("public", [True, False])
def test_who_has_no_session_may_read_what_is_public(clock: Clock, *, public: bool) -> None:
    """With nothing, a pre-session, or rubbish for an id; and never control."""
    access_ = Access(has_password=True, public_read=public, clock=clock)
    early = access_.new_id()
    for ids, known in (([], None), ([early], early), (["x", "é" * 43, "a" * 10_000], None)):
        visitor = access_.visitor(ids)
        assert (visitor.id, visitor.session) == (known, None)
        assert (visitor.may_read, visitor.may_control) == (public, False)


def test_of_several_ids_the_one_of_a_session_counts(guarded: Access) -> None:
    """A browser may send cookies of other paths and ports along."""
    mine = guarded.begin()
    assert guarded.visitor([guarded.new_id(), mine]).id == mine


def test_idle_sessions_expire(guarded: Access, clock: Clock) -> None:
    """An hour after the last request; each request puts that off."""
    one = guarded.begin()
    for _ in range(3):
        clock.now += access.IDLE_SECONDS - 1
        assert guarded.visitor([one]).may_control
    clock.now += access.IDLE_SECONDS
    assert not guarded.visitor([one]).may_read


def test_sessions_expire_whatever_happens(guarded: Access, clock: Clock) -> None:
    """Twelve hours after their beginning, however busy they are."""
    one = guarded.begin()
    began = clock.now
    while clock.now + 600 < began + access.LONGEST_SECONDS:
        clock.now += 600
        assert guarded.visitor([one]).may_control
    clock.now = began + access.LONGEST_SECONDS
    assert not guarded.visitor([one]).may_control


def test_looking_at_a_session_does_not_keep_it(guarded: Access, clock: Clock) -> None:
    """An open page, which asks on its own, does not stand for a person."""
    session = guarded.visitor([guarded.begin()]).session
    for _ in range(7):
        clock.now += access.IDLE_SECONDS / 8
        assert guarded.ending(session) is None
    clock.now += access.IDLE_SECONDS / 8
    assert guarded.ending(session) == "expired"
    assert guarded.ending(None) is None, "who has no session has none that ends"


def test_logout_ends_one_session(guarded: Access) -> None:
    """And says so to whoever has it; the others go on. Twice is as good as once."""
    one, two = guarded.begin(), guarded.begin()
    session = guarded.visitor([one]).session
    assert session is not None
    guarded.end(session)
    guarded.end(session)
    assert guarded.ending(session) == "logout"
    assert not guarded.visitor([one]).may_control
    assert guarded.visitor([two]).may_control


def test_the_number_of_sessions_is_bounded(guarded: Access) -> None:
    """One more than that ends the one that was seen least recently."""
    ids = [guarded.begin() for _ in range(access.MOST_SESSIONS)]
    sessions = [guarded.visitor([one]).session for one in ids]
    assert guarded.visitor([ids[0]]).may_read
    guarded.begin()
    assert guarded.visitor([ids[0]]).may_read
    assert not guarded.visitor([ids[1]]).may_read
    assert guarded.ending(sessions[1]) == "expired"
    assert len(guarded._sessions) == access.MOST_SESSIONS


def test_without_a_password_nobody_controls(clock: Clock) -> None:
    """Who may read is another question."""
    access_ = Access(has_password=False, public_read=True, clock=clock)
    visitor = access_.visitor([access_.new_id()])
    assert (visitor.may_read, visitor.may_control) == (True, False)


# CSRF


def test_a_token_is_right_for_its_own_session_only(guarded: Access) -> None:
    """Not for another, not for a pre-session, not for none."""
    one, two, early = guarded.begin(), guarded.begin(), guarded.new_id()
    tokens = {identifier: guarded.csrf_of(identifier) for identifier in (one, two, early)}
    assert len(set(tokens.values())) == 3
    for identifier in tokens:
        visitor = guarded.visitor([identifier])
        right = [guarded.is_csrf_right(visitor, token) for token in tokens.values()]
        assert right == [other == identifier for other in tokens]
    assert not guarded.is_csrf_right(guarded.visitor([]), tokens[one])


@given(st.one_of(st.none(), st.text()))
def test_nothing_else_is_a_token(given: str | None) -> None:
    """Whatever a client sends, it is compared, and not raised about."""
    access_ = Access(has_password=True, public_read=False, clock=Clock())
    assert not access_.is_csrf_right(access_.visitor([access_.new_id()]), given)


def test_a_token_is_no_good_elsewhere(guarded: Access, clock: Clock) -> None:
    """Each dashboard has a secret of its own."""
    identifier = guarded.new_id()
    other = Access(has_password=True, public_read=False, clock=clock)
    assert not other.is_csrf_right(other.visitor([identifier]), guarded.csrf_of(identifier))
