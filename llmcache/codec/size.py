"""How large a value is, roughly, before anything is spent on encoding it."""

from __future__ import annotations

from typing import Any

from llmcache.codec.kinds import kind_of
from llmcache.codec.models import is_model, parts_of


def exceeds(value: Any, limit: int) -> bool:
    """Say whether *value* would take more than about *limit* bytes.

    It counts text and bytes by their length and everything else as a few
    bytes, and stops counting as soon as it knows: a value that contains
    itself exceeds every limit. It does not look into what no entry can hold.
    """
    size = 0
    waiting = [value]
    while waiting and size <= limit:
        value = waiting.pop()
        kind = type(value)
        if kind is str or kind is bytes or kind is bytearray:
            size += len(value) + 2
        elif kind is dict:
            size += 2 + len(value)
            waiting.extend(value.keys())
            waiting.extend(value.values())
        elif kind is list or kind is tuple or kind is set or kind is frozenset:
            size += 2 + len(value)
            waiting.extend(value)
        else:
            size += 8 + getattr(value, "nbytes", 0) if kind.__module__ == "numpy" else 8
            if is_model(kind):
                waiting.extend(parts_of(value))
            elif adapter := kind_of(kind):
                waiting.extend(adapter.parts(value))
    return size > limit
