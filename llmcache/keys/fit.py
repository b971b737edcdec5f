"""Which values orjson writes in canonical form by itself."""

from __future__ import annotations

from enum import Enum, EnumMeta, EnumType
from itertools import chain
from math import isfinite
from typing import Any, Final

from orjson import Fragment

from llmcache.attributes import (
    dictionary_of,
    inherits,
    is_heap_type,
    lineage,
    namespace_of,
    per_class,
)
from llmcache.errors import UncacheableArgument

MAX_DEPTH: Final = 200
# More than any request has: what contains itself has no end of parts.
MOST_PARTS: Final = 1 << 20
_MOST_LEAVES: Final = 1 << 24
ENDLESS: Final = "has too many parts, or contains itself"
# So few containers nest no deeper than they may, wherever they are.
_FEW: Final = 190
_FEW_PARTS: Final = 2000
_FEW_MEMBERS: Final = 16

# By their addresses: a class may have a metaclass with a __hash__ of its own.
_FLOATS: Final = {id(float)}
_LEAVES: Final = {id(str), id(int), id(bool), id(type(None))}
# Who asks a member for its value gets what it was given if these are as they were.
_PLAIN_NAMES: Final = (("value", Enum), ("__llmcache_key__", None), ("__getattr__", None))


def is_fit(value: Any, room: int) -> bool:  # noqa: PLR0912
    """Say whether orjson may be trusted with *value*, which may nest *room* deep.

    It writes ``null`` for a ``nan`` or an infinity, whatever a fragment says,
    loses count of how deep tuples nest, and asks enum members for a value that
    they may refuse.

    Raises:
        UncacheableArgument: if it has more parts than any request.
    """
    if type(value) is not dict:
        return _are_fit([value], room)
    # Most of a request are texts, and messages whose members are texts.
    others = []
    for part in value.values():
        kind = type(part)
        if kind is str:
            continue
        if kind is list and len(part) < _FEW:
            for item in part:
                if type(item) is dict and len(item) < _FEW_MEMBERS:
                    for member in item.values():
                        if type(member) is not str:
                            others.append(member)
                else:
                    others.append(item)
        elif kind is float:
            if not isfinite(part):
                return False
        elif kind is dict and room == MAX_DEPTH:
            # What **kwargs took.
            if not is_fit(part, room - 1):
                return False
        else:
            others.append(part)
    return not others or _are_fit(others, room - 3)


def _are_fit(values: list[Any], room: int) -> bool:  # noqa: PLR0912
    """Say as `is_fit` does of all *values*, to which it adds what they hold."""
    top = len(values)
    containers = 0
    for part in values:
        kind = type(part)
        if kind is str:
            continue
        if kind is dict:
            values += part.values()
        elif kind is list or kind is tuple:
            values += part
            if len(values) > _FEW_PARTS:
                return _is_large_and_fit([values[:top]], room + 1)
        elif kind is int or kind is bool or part is None:
            continue
        elif kind is float:
            if not isfinite(part):
                return False
            continue
        elif type(kind) is EnumType:
            if not has_plain_value(kind):
                return False
            values.append(part._value_)
        elif kind is Fragment:
            return False
        else:
            continue
        containers += 1
        if containers == _FEW:
            return _is_large_and_fit([values[:top]], room + 1)
    return True


def _is_large_and_fit(level: list[Any], room: int) -> bool:
    """Say as `is_fit` does of the items of *level*: nest by nest, so that it knows how deep."""
    containers = parts = 0
    while room:
        room -= 1
        containers += len(level)
        holders = [holder.values() if type(holder) is dict else holder for holder in level]
        parts += sum(map(len, holders))
        if containers > MOST_PARTS or parts > _MOST_LEAVES:
            raise UncacheableArgument(ENDLESS)
        kinds = set(map(id, map(type, chain.from_iterable(holders)))) - _LEAVES
        if not kinds:
            return True
        if id(Fragment) in kinds:
            return False
        level = []
        for part in chain.from_iterable(holders):
            kind = type(part)
            if kind is str:
                continue
            if kind is dict or kind is list or kind is tuple:
                level.append(part)
            elif kind is float:
                if not isfinite(part):
                    return False
            elif type(kind) is EnumType:
                if not has_plain_value(kind):
                    return False
                level.append([part._value_])
        if not level:
            return True
    return False


def is_sure(value: Any, room: int) -> bool:  # noqa: PLR0912
    """Say whether orjson writes *value* without fail, but for parts that it hands on.

    It is slower than `is_fit`, and says no to what has many containers.
    """
    waiting = [value]
    for part in waiting:
        kind = type(part)
        if kind is str:
            if not part.isascii() and not _is_text(part):
                return False
        elif kind is int:
            if not -(2**63) <= part < 2**64:
                return False
        elif kind is float:
            if not isfinite(part):
                return False
        elif kind is dict or kind is list or kind is tuple:
            room -= 1
            if kind is dict and not are_texts(part):
                return False
            waiting += part.values() if kind is dict else part
        elif type(kind) is EnumType:
            room -= 1
            if not has_plain_value(kind):
                return False
            waiting.append(part._value_)
        elif kind is Fragment:
            return False
        if room < 0:
            return False
    return True


def are_texts(values: Any) -> bool:
    """Say whether all of *values* are texts without lone surrogates."""
    return all(type(v) is str and (v.isascii() or _is_text(v)) for v in values)


def are_sure_leaves(values: Any) -> bool:
    """Say whether orjson writes *values* that are leaves right, or not at all."""
    return all(map(isfinite, [value for value in values if type(value) is float]))


def are_leaves(values: Any) -> bool:
    """Say whether none of *values* holds others, and all are plain JSON."""
    return set(map(id, map(type, values))) <= _LEAVES | _FLOATS


def _is_text(value: str) -> bool:
    """Say whether a text has no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@per_class
def has_plain_value(kind: type) -> bool:
    """Say whether the members of an enum are, to whoever asks them, what they were given."""
    return all(
        next((base for base in lineage(kind) if name in namespace_of(base)), None) is owner
        for name, owner in _PLAIN_NAMES
    ) and not any(
        "__getattribute__" in namespace_of(base) and is_heap_type(base) for base in lineage(kind)
    )


def is_enum(kind: type) -> bool:
    """Say whether a class is an enum."""
    return inherits(type(kind), EnumMeta)


def member_value(member: Any) -> Any:
    """Return the value of an enum member, as it is on the wire."""
    return dictionary_of(member)["_value_"] if has_plain_value(type(member)) else member.value
