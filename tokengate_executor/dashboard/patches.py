"""JSON merge patches (RFC 7396): what has changed between two values, and putting it in.

In a patch ``null`` deletes; so no value that is patched may hold one, and ``diff`` refuses it.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

__all__ = ["Json", "JsonObject", "apply", "diff"]

Json: TypeAlias = Any
"""What ``json`` writes and reads: the type checkers have no better word for it that is as short."""

JsonObject: TypeAlias = dict[str, Json]


def diff(before: JsonObject, after: JsonObject) -> JsonObject:
    """The patch that makes ``before`` into ``after``; empty if they are the same.

    Raises:
        ValueError: ``after`` has a ``None`` where a patch would have to delete.
    """
    patch: JsonObject = {name: None for name in before if name not in after}
    for name, value in after.items():
        if value is None:
            raise ValueError(f"{name!r} is None, which a merge patch cannot set: leave it out")
        old = before.get(name)
        if isinstance(value, dict):
            # Also against nothing, to find every None in it.
            inner = diff(_members(old), cast("JsonObject", value))
            if inner or not isinstance(old, dict):
                patch[name] = inner
        elif not _is_same(old, value):
            patch[name] = value
    return patch


def apply(target: Json, patch: Json) -> Json:
    """Return ``target`` with the patch put in; neither is changed, parts of them are shared."""
    if not isinstance(patch, dict):
        return patch
    result = dict(_members(target))
    for name, value in cast("JsonObject", patch).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply(result.get(name), value)
    return result


def _members(value: Json) -> JsonObject:
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def _is_same(old: Any, new: Any) -> bool:
    """Equal also in kind: to Python ``True == 1`` and ``1 == 1.0``, in lists, too."""
    if type(old) is not type(new):
        return False
    kind: object = old.__class__
    if kind is list:
        return len(old) == len(new) and all(map(_is_same, old, new))
    if kind is dict:  # in a list
        return old.keys() == new.keys() and all(_is_same(old[name], new[name]) for name in new)
    return bool(old == new)
