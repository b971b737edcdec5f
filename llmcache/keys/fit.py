"""Which values orjson writes in canonical form by itself."""

from __future__ import annotations

from enum import Enum, EnumMeta, EnumType
from itertools import chain
from math import isfinite
from typing import Any, Final
from uuid import UUID

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
# More than these are not put into one list only to look at them.
_MANY: Final = 1 << 16
# Stands where a nest ends.
_END: Final = object()
UNFIT: Final = -1
# With more unusual parts than these, orjson would come back too often.
SOME: Final = 16

# By their addresses: a class may have a metaclass with a __hash__ of its own.
_FLOATS: Final = {id(float)}
_LEAVES: Final = {id(str), id(int), id(bool), id(type(None))}
# Who asks a member for its value gets what it was given if these are as they were.
_PLAIN_NAMES: Final = (("value", Enum), ("__llmcache_key__", None), ("__getattr__", None))


def unusual(value: Any, room: int, most: int = SOME) -> int:  # noqa: PLR0912
    """Return how many parts of *value* orjson hands on; `UNFIT` where it may not be trusted.

    It writes ``null`` for a ``nan`` or an infinity, loses count of how deep
    tuples nest, asks enum members for a value that they may refuse, and takes
    a fragment for what it says.

    Args:
        value: anything.
        room: how deep it may nest.
        most: the number after which nobody looks further.

    Raises:
        UncacheableArgument: if it has more parts than any request.
    """
    if type(value) is not dict:
        return _count([value], room, most)
    found = 0
    # Most of a request are texts, and messages whose members are texts.
    others: list[Any] = []
    for part in value.values():
        kind = type(part)
        if kind is str:
            continue
        if kind is list:
            for item in part:
                if type(item) is dict:
                    for member in item.values():
                        if type(member) is not str:
                            others.append(member)
                            if len(others) > _MANY:
                                return _count_many([[value]], room + 1, most)
                else:
                    others.append(item)
        elif kind is float:
            if not isfinite(part):
                return UNFIT
        elif kind is dict and room == MAX_DEPTH:
            # What **kwargs took.
            count = unusual(part, room - 1, most)
            if count == UNFIT:
                return UNFIT
            found += count
        else:
            others.append(part)
    if not others:
        return found
    count = _count(others, room - 3, most)
    return count if count == UNFIT else found + count


def _count(values: list[Any], room: int, most: int) -> int:  # noqa: PLR0912
    """Count as `unusual` does among all *values*, to which it adds what they hold, nest by nest."""
    found = 0
    plain = None
    top = len(values)
    values.append(_END)
    for part in values:
        kind = type(part)
        if kind is str:
            continue
        if kind is dict:
            values += part.values()
        elif kind is list or kind is tuple:
            values += part
        elif kind is int or kind is bool or part is None:
            continue
        elif kind is float:
            if not isfinite(part):
                return UNFIT
            continue
        elif part is _END:
            if part is not values[-1]:
                if not room:
                    return UNFIT
                room -= 1
                values.append(part)
            continue
        elif kind is UUID:
            continue
        elif kind is plain or (type(kind) is EnumType and has_plain_value(kind)):
            plain = kind
            values.append(part._value_)
        elif type(kind) is EnumType or kind is Fragment:
            return UNFIT
        else:
            found += 1
            if found > most:
                return found
            continue
        if len(values) > _MANY:
            return _count_many([values[:top]], room + 1, most)
    return found


def _count_many(level: list[Any], room: int, most: int) -> int:
    """Count as `unusual` does among the items of *level*, without a list of all of them."""
    found = containers = parts = 0
    while room:
        room -= 1
        containers += len(level)
        holders = [holder.values() if type(holder) is dict else holder for holder in level]
        parts += sum(map(len, holders))
        if containers > MOST_PARTS or parts > _MOST_LEAVES:
            raise UncacheableArgument(ENDLESS)
        kinds = set(map(id, map(type, chain.from_iterable(holders)))) - _LEAVES
        if not kinds:
            return found
        level = []
        for part in chain.from_iterable(holders):
            kind = type(part)
            if kind is str:
                continue
            if kind is dict or kind is list or kind is tuple:
                level.append(part)
            elif id(kind) not in _LEAVES:
                count = _count([part], room, most)
                if count == UNFIT:
                    return UNFIT
                found += count
                if found > most:
                    return found
        if not level:
            return found
    return UNFIT


def is_sure(value: Any, room: int) -> bool:  # noqa: PLR0912
    """Say whether orjson writes *value* without fail, but for parts that it hands on.

    It is slower than `unusual`, and says no to what has many containers.
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


def are_floats(values: Any) -> bool:
    """Say whether all of *values* are floats."""
    return all(type(value) is float for value in values)


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
