"""Tests of tokengate_executor.policies.weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.policies.weights import WEIGHTS, AffinityPolicy, unknown_weight_message

lane_counts = st.integers(min_value=1, max_value=300)


def policy_of_four(**changes: Any) -> AffinityPolicy:
    """Return the staggered policy of four lanes, but for `changes`."""
    arguments: dict[str, Any] = {
        "lanes": 4,
        "heavy": (1, 2, 3, 4),
        "medium": (2, 3, 4),
        "light": (3, 4),
    }
    return AffinityPolicy(**(arguments | changes))


@pytest.mark.parametrize(
    ("lanes", "heavy", "medium", "light"),
    [
        (1, (1,), (1,), (1,)),
        (2, (1, 2), (2,), (2,)),
        (3, (1, 2, 3), (2, 3), (3,)),
        (4, (1, 2, 3, 4), (2, 3, 4), (3, 4)),
        (8, (1, 2, 3, 4, 5, 6, 7, 8), (2, 3, 4, 5, 6, 7, 8), (3, 4, 5, 6, 7, 8)),
    ],
)
def test_staggered_gives_the_lanes_of_the_seed(
    lanes: int, heavy: tuple[int, ...], medium: tuple[int, ...], light: tuple[int, ...]
) -> None:
    """The default policy equals the seed's table, small machines included."""
    expected = AffinityPolicy(lanes=lanes, heavy=heavy, medium=medium, light=light)
    assert AffinityPolicy.staggered(lanes) == expected


@given(lane_counts)
def test_staggered_gives_every_weight_lanes_in_ascending_order(lanes: int) -> None:
    """Every weight has a lane, and its preference ascends to the last lane without a gap."""
    policy = AffinityPolicy.staggered(lanes)
    for weight in WEIGHTS:
        allowed = policy.lanes_for(weight)
        assert allowed == tuple(range(allowed[0], lanes + 1))


@given(lane_counts)
def test_staggered_narrows_from_heavy_to_light(lanes: int) -> None:
    """A lighter weight uses no lane that a heavier one may not use."""
    policy = AffinityPolicy.staggered(lanes)
    assert set(policy.light) <= set(policy.medium) <= set(policy.heavy)


@given(st.integers(min_value=3, max_value=300))
def test_staggered_keeps_cheap_work_out_of_the_first_lanes(lanes: int) -> None:
    """With 3 lanes or more, lane 1 is for heavy work alone and lane 2 is never for light work."""
    policy = AffinityPolicy.staggered(lanes)
    assert policy.weights_of(1) == ("heavy",)
    assert policy.weights_of(2) == ("heavy", "medium")
    assert policy.weights_of(3) == ("heavy", "medium", "light")


@given(lane_counts)
def test_unweighted_calls_use_every_lane(lanes: int) -> None:
    """None means no restriction, in lane order."""
    assert AffinityPolicy.staggered(lanes).lanes_for(None) == tuple(range(1, lanes + 1))


@given(
    st.integers(min_value=1, max_value=12).flatmap(
        lambda lanes: st.tuples(
            st.just(lanes),
            *[st.lists(st.integers(1, lanes), min_size=1, unique=True).map(tuple) for _ in WEIGHTS],
        )
    )
)
def test_weights_of_is_the_inverse_of_lanes_for(
    drawn: tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]],
) -> None:
    """For any valid policy a lane lists a weight exactly if the weight lists the lane."""
    lanes, heavy, medium, light = drawn
    policy = AffinityPolicy(lanes=lanes, heavy=heavy, medium=medium, light=light)
    for lane in range(1, lanes + 1):
        expected = tuple(weight for weight in WEIGHTS if lane in policy.lanes_for(weight))
        assert policy.weights_of(lane) == expected


def test_custom_policy_keeps_its_order_of_preference() -> None:
    """A preference that does not ascend is kept as given."""
    policy = policy_of_four(heavy=(4, 1), light=(2,))
    assert policy.lanes_for("heavy") == (4, 1)
    assert policy.lanes_for("medium") == (2, 3, 4)
    assert policy.lanes_for("light") == (2,)


def test_lane_of_no_weight_lists_none() -> None:
    """A lane that no weight names is left to unweighted calls."""
    policy = AffinityPolicy(lanes=2, heavy=(1,), medium=(1,), light=(1,))
    assert policy.weights_of(2) == ()


def test_policy_is_plain_frozen_data() -> None:
    """Equal policies are equal and hash alike, and none can be changed."""
    policy = policy_of_four()
    assert policy == AffinityPolicy.staggered(4)
    assert hash(policy) == hash(AffinityPolicy.staggered(4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.lanes = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"lanes": 0}, ValueError, "lanes must be at least 1, got 0"),
        ({"lanes": True}, TypeError, "lanes must be an int of at least 1, got True"),
        ({"lanes": 2.0}, TypeError, "lanes must be an int of at least 1, got 2.0"),
        ({"lanes": None}, TypeError, "lanes must be an int of at least 1, got None"),
        (
            {"heavy": [1, 2]},
            TypeError,
            "heavy must be a tuple of lane numbers from 1 to 4, got [1, 2]",
        ),
        (
            {"medium": 2},
            TypeError,
            "medium must be a tuple of lane numbers from 1 to 4, got 2",
        ),
        (
            {"light": "34"},
            TypeError,
            "light must be a tuple of lane numbers from 1 to 4, got '34'",
        ),
        ({"light": ()}, ValueError, "light must name at least one lane from 1 to 4, got ()"),
        (
            {"heavy": (1, True)},
            TypeError,
            "heavy must hold ints from 1 to 4, got True in (1, True)",
        ),
        (
            {"medium": ("2",)},
            TypeError,
            "medium must hold ints from 1 to 4, got '2' in ('2',)",
        ),
        (
            {"medium": (2, 5)},
            ValueError,
            "medium must hold lanes from 1 to 4, got 5 in (2, 5)",
        ),
        ({"light": (0,)}, ValueError, "light must hold lanes from 1 to 4, got 0 in (0,)"),
        ({"heavy": (1, 2, 1)}, ValueError, "heavy must name each lane once, got (1, 2, 1)"),
    ],
)
def test_wrong_policy_names_the_argument_what_was_given_and_what_is_allowed(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    """Each wrong argument has its own message."""
    with pytest.raises(error) as caught:
        policy_of_four(**changes)
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("lanes", "error", "message"),
    [
        (0, ValueError, "lanes must be at least 1, got 0"),
        (-3, ValueError, "lanes must be at least 1, got -3"),
        (True, TypeError, "lanes must be an int of at least 1, got True"),
        ("4", TypeError, "lanes must be an int of at least 1, got '4'"),
    ],
)
def test_staggered_refuses_what_is_not_a_number_of_lanes(
    lanes: Any, error: type[Exception], message: str
) -> None:
    """The classmethod checks before it computes."""
    with pytest.raises(error) as caught:
        AffinityPolicy.staggered(lanes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("lane", "error", "message"),
    [
        (0, ValueError, "lane must be from 1 to 4, got 0"),
        (5, ValueError, "lane must be from 1 to 4, got 5"),
        (True, TypeError, "lane must be an int from 1 to 4, got True"),
    ],
)
def test_weights_of_refuses_what_is_not_a_lane(
    lane: int, error: type[Exception], message: str
) -> None:
    """A lane number outside the policy is an error, not an empty answer."""
    with pytest.raises(error) as caught:
        AffinityPolicy.staggered(4).weights_of(lane)
    assert str(caught.value) == message


@pytest.mark.parametrize("weight", ["huge", "HEAVY", "", 1, True, ["heavy"]])
def test_unknown_weight_names_what_was_given_and_what_is_allowed(weight: Any) -> None:
    """An unknown weight is an error at the call that names it, whatever its type."""
    with pytest.raises(ValueError, match="weight must be one of") as caught:
        AffinityPolicy.staggered(4).lanes_for(weight)
    message = f"weight must be one of 'heavy', 'medium', 'light' or None, got {weight!r}"
    assert str(caught.value) == message == unknown_weight_message(weight)


def test_str_shows_one_line_per_weight() -> None:
    """The printed policy shows lanes and the preferred lane of each weight."""
    assert str(AffinityPolicy.staggered(4)) == (
        "Affinity policy for 4 lanes:\n"
        "  heavy:  [1, 2, 3, 4] (preferred: 1)\n"
        "  medium: [2, 3, 4] (preferred: 2)\n"
        "  light:  [3, 4] (preferred: 3)"
    )
    assert str(AffinityPolicy.staggered(1)).startswith("Affinity policy for 1 lane:\n")
