"""Which values orjson writes in canonical form by itself."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum, EnumMeta, EnumType
from gc import get_referents
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
# So many are looked at together.
_BATCH: Final = 1 << 10
# Fewer are looked at one by one, or without counting what they hold.
_FEW: Final = 32
# Stands where a nest ends.
_END: Final = object()
UNFIT: Final = -1
# With more unusual parts than these, orjson would come back too often.
SOME: Final = 16

# By their addresses: a class may have a metaclass with a __hash__ of its own.
_FLOATS: Final = {id(float)}
_LEAVES: Final = {id(str), id(int), id(bool), id(type(None))}
_CONTAINERS: Final = (dict, list, tuple)
# Another class may say that it is one of these, if its metaclass does: orjson
# hands on what it has made.
_PLAIN: Final = frozenset({str, int, bool, type(None), list, tuple, dict})
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
    if len(value) == 1 and type(rest := value.get("**")) is dict:
        # All that **kwargs took, of a function that has no more parameters.
        value, room = rest, room - 1
    found = 0
    # Most of a request are texts, and messages whose members are texts.
    others: list[Any] = []
    for part in value.values():
        kind = type(part)
        if kind is str:
            continue
        if kind is list:
            if len(part) > _FEW:
                others += _members(part)
            else:
                for item in part:
                    if type(item) is dict:
                        for member in item.values():
                            if type(member) is not str:
                                others.append(member)
                    else:
                        others.append(item)
            if len(others) > _MANY:
                return _count_many([[value]], room + 1, most)
        elif kind is float:
            if not isfinite(part):
                return UNFIT
        elif kind is dict and room == MAX_DEPTH:
            # What **kwargs took beside others.
            count = unusual(part, room - 1, most)
            if count == UNFIT:
                return UNFIT
            found += count
        elif kind is not int and kind is not bool and part is not None:
            others.append(part)
    if not others or _are_plain(others, room - 3):
        return found
    count = _count(others, room - 3, most)
    return count if count == UNFIT else found + count


def _members(items: list[Any]) -> list[Any]:
    """Return what may be unusual among many *items* and the members of the mappings there."""
    found: list[Any] = []
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        if _are_all(str, batch) or _are_texts_by_name(batch):
            continue
        mappings = batch
        if not _are_all(dict, batch):
            mappings = [item for item in batch if type(item) is dict]
            found += [item for item in batch if type(item) is not dict] if mappings else batch
        parts = get_referents(*mappings)
        if not _are_all(str, parts):
            found += [part for part in parts if type(part) is not str]
        if len(found) > _MANY:
            break
    return found


def _are_texts_by_name(values: list[Any]) -> bool:
    """Say whether all of *values* are members of one enum, and texts to whoever asks them."""
    kind = type(values[0])
    return (
        type(kind) is EnumType
        and has_plain_value(kind)
        and _are_all(kind, values)
        and _are_all(str, [member._value_ for member in values])
    )


def _are_all(kind: type, values: list[Any]) -> bool:
    """Say whether all of *values* are of the class *kind*."""
    # Those of one other class are not compared one by one.
    if values and type(values[0]) is not kind:
        return False
    # An __eq__ of a metaclass may fail.
    with suppress(Exception):
        return [*map(type, values)].count(kind) == len(values)
    return False


def _are_plain(parts: list[Any], room: int) -> bool:
    """Say whether *parts*, and all that they hold, are known to be plain JSON without floats.

    The collector says what many of them hold at once, but for leaves.
    """
    level = parts
    # suppress() would cost as much as a nest.
    try:
        for _ in range(room):
            if len(level) > _FEW and not _are_countable(level):
                return False
            level = get_referents(*level)
            if not level:
                return _PLAIN.issuperset(map(type, parts))
            if len(level) <= _FEW:
                parts = parts + level
    except Exception:  # noqa: BLE001
        # A __hash__ of a metaclass failed.
        return False
    return False


def _are_countable(level: list[Any]) -> bool:
    """Say whether *level* holds plain JSON, and not so much that it should be counted first."""
    return (
        len(level) <= _BATCH
        and _PLAIN.issuperset(map(type, level))
        and sum([len(part) for part in level if type(part) in _CONTAINERS]) <= _MANY
    )


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
