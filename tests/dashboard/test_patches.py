"""Merge patches: what they say, and that they lead from one value to the other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.dashboard.patches import apply, diff

scalars = st.one_of(
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.text("ab", max_size=2),
)
names = st.text("xyz", max_size=2)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=12,
)
objects = st.dictionaries(names, values, max_size=4)


def text(value: Any) -> str:
    """As JSON, which tells 1 from 1.0 and from true."""
    return json.dumps(value, sort_keys=True)


@given(objects, objects)
def test_a_patch_leads_from_one_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Also as a client does it, who has read all of it from JSON; and it changes neither."""
    was, becomes = text(before), text(after)
    patch = diff(before, after)
    assert text(apply(before, patch)) == becomes
    assert text(apply(json.loads(was), json.loads(json.dumps(patch)))) == becomes
    assert (text(before), text(after)) == (was, becomes)
    assert (patch == {}) is (was == becomes)


@given(objects, objects, objects)
def test_patches_in_a_row(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    """Two small ones come to what a large one does."""
    small = apply(apply(one, diff(one, two)), diff(two, three))
    assert text(small) == text(apply(one, diff(one, three))) == text(three)


def test_only_what_changed_is_said() -> None:
    """Members that are the same are left out, on each level; those that are gone are null."""
    before = {"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 5, "f": {"g": 1}}
    after = {"a": {"b": 1, "c": 3}, "d": [1], "f": {"g": 1}}
    assert diff(before, after) == {"a": {"c": 3}, "d": [1], "e": None}


def test_kinds_differ_where_python_sees_none() -> None:
    """True, 1 and 1.0 are three things in JSON, in lists and objects in them, too."""
    for old, new in ((True, 1), (1, 1.0), (0, False)):
        assert diff({"a": old}, {"a": new}) == {"a": new}
        assert diff({"a": [old]}, {"a": [new]}) == {"a": [new]}
        assert diff({"a": [{"b": old}]}, {"a": [{"b": new}]}) == {"a": [{"b": new}]}


@pytest.mark.parametrize("before", [{}, {"a": {}}, {"a": {"b": {"c": 1}}}, {"a": 1}])
def test_a_value_that_cannot_be_set_is_refused(before: dict[str, Any]) -> None:
    """None would delete, wherever it is."""
    with pytest.raises(ValueError, match="'c' is None, which a merge patch cannot set"):
        diff(before, {"a": {"b": {"c": None}}})


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_standard(target: Any, patch: Any, result: Any) -> None:
    """Appendix A of RFC 7396."""
    assert apply(target, patch) == result
