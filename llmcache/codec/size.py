"""How large a value is, roughly, before anything is spent on encoding it."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any, Final

from llmcache.codec.models import parts_of
from llmcache.codec.ways import MODEL, Ways
from llmcache.codec.words import Word
from llmcache.errors import UncacheableValue

_EACH: Final = 8
_AT_ONCE: Final = 4096
_SMALL: Final = frozenset({type(None), bool, int, float, complex, type(...)})
_TEXTS: Final = frozenset({str, bytes, bytearray})
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset, dict})
_STRINGS: Final = {str}


class _End:
    """Stands behind the contents of a value that are yet to be counted."""

    def __init__(self, value: Any) -> None:
        self.value = value


def exceeds(value: Any, limit: int) -> bool:
    """Say whether *value* would take more than about *limit* bytes.

    It counts each value as a few bytes, and text and bytes also by their
    length, and stops counting as soon as it knows. It does not look into what
    no entry can hold.

    Raises:
        UncacheableValue: if it comes upon a value that contains itself.
    """
    ways = Ways()
    size = _EACH
    waiting = [value]
    # By their ids. Parts that were made for the counting live as long as theirs are counted.
    around: dict[int, Any] = {}
    while waiting and size <= limit:
        value = waiting.pop()
        kind = type(value)
        if kind in _TEXTS:
            size += len(value)
        elif kind is _End:
            del around[id(value.value)]
        elif kind in _SMALL:
            continue
        elif kind not in _CONTAINERS and type(ways[kind]) is Word:
            size += getattr(value, "nbytes", 0)
        else:
            if id(value) in around:
                raise UncacheableValue("the result contains itself")
            around[id(value)] = value
            waiting.append(_End(value))
            for items in _contents(value, kind, ways):
                size += _EACH * len(items)
                rest = iter(items)
                while size <= limit and (some := list(islice(rest, _AT_ONCE))):
                    kinds = set(map(type, some))
                    if kinds == _STRINGS:
                        size += sum(map(len, some))
                    elif not kinds <= _SMALL:
                        waiting.extend(some)
    return size > limit


def _contents(value: Any, kind: type, ways: Ways) -> Collection[Collection[Any]]:
    """Return what is inside of a value, in one or two collections."""
    if kind is dict:
        return value.keys(), value.values()
    if kind in _CONTAINERS:
        return (value,)
    way = ways[kind]
    if way is MODEL:
        return (parts_of(value),)
    return () if way is None else (way.parts(value),)
