"""Who writes the values of which class in canonical form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from llmcache.attributes import describe, per_class
from llmcache.errors import UncacheableArgument

Writer: TypeAlias = "Callable[[Any, Any], bytes]"
"""Writes a value on a `Walk`, through which its parts go."""

Rows: TypeAlias = "Callable[[Sequence[Any], Any], bytes | None]"
"""Writes many values of one class on a `Walk`, one a line; returns ``None`` if it cannot."""

# By their addresses: a class may have a metaclass with a __hash__ of its own.
WRITERS: Final[dict[int, Writer]] = {}
LEAVES: Final[dict[int, Writer]] = {}
_KINDS: Final[dict[int, type]] = {}
ROWS: Final[dict[Writer | None, Rows]] = {}
_FINDERS: Final[list[Callable[[type], Writer | None]]] = []
_CHANGING: Final[list[Callable[[type], Writer | None]]] = []


def writes(kind: type, writer: Writer, *, leaf: bool = False) -> None:
    """Let *writer* write the values whose class is exactly *kind*.

    Args:
        kind: the class.
        writer: writes one of its values.
        leaf: whether these have no parts, of which the walk must keep count.
    """
    _KINDS[id(kind)] = kind
    WRITERS[id(kind)] = writer
    if leaf:
        LEAVES[id(kind)] = writer
    else:
        LEAVES.pop(id(kind), None)


def writes_rows(writer: Writer, rows: Rows) -> None:
    """Let *rows* write what there are many of that *writer* writes one by one."""
    ROWS[writer] = rows


def finds(finder: Callable[[type], Writer | None]) -> None:
    """Ask *finder* for the writer of a class that no writer names, after those before."""
    _FINDERS.append(finder)


def finds_first(finder: Callable[[type], Writer | None]) -> None:
    """Ask *finder* before all others, once in each walk: its answer may change."""
    _CHANGING.append(finder)


def writer_or_none(kind: type) -> Writer | None:
    """Return what writes the values of a class that no writer names, ``None`` for nothing."""
    for finder in _CHANGING:
        if writer := finder(kind):
            return writer
    return _found_writer(kind)


def writer_for(kind: type) -> Writer:
    """Do as `writer_or_none`.

    Raises:
        UncacheableArgument: if there is nothing.
    """
    found = writer_or_none(kind)
    if found is None:
        raise UncacheableArgument(f"is {describe(kind)}, which has no canonical form")
    return found


@per_class
def _found_writer(kind: type) -> Writer | None:
    for finder in _FINDERS:
        if writer := finder(kind):
            return writer
    return None
