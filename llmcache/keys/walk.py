"""The walk over a value that no JSON writer can write alone.

A writer writes the values of one class, and hands their parts back to the walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import orjson

from llmcache.errors import UncacheableArgument
from llmcache.keys import fit
from llmcache.keys.fit import MAX_DEPTH, UNFIT, is_sure, unusual
from llmcache.keys.plain import leaves, spelled
from llmcache.keys.writers import LEAVES, ROWS, WRITERS, Rows, Writer, writer_for, writer_or_none

# How far down a walk tries orjson on the lists and mappings that it comes by.
_TRIES: Final = 5
# So few items are written one by one.
_FEW: Final = 8
# So many are looked at for those of one class.
_MANY: Final = 32
_TOO_DEEP: Final = "nests too deep, or contains itself"

OPTIONS: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_dumps = orjson.dumps
_Fragment = orjson.Fragment
# Neither JSON nor any tag has a line's end in it.
_MARK: Final = _Fragment(b"\n")

T = TypeVar("T")


class Walk:
    """One walk over a value, writing its canonical form part by part.

    Functions and classes that are written out get a number each, in the order
    in which they begin: where they are met again the number stands for them,
    so that they may contain one another.
    """

    __slots__ = (
        "_depth",
        "_found",
        "_held",
        "_numbers",
        "_parts",
        "_plans",
        "_refused",
        "_ungrouped",
        "first",
        "names",
        "unfinished",
    )

    def __init__(self, first: int = 1) -> None:
        self.first = first
        """The last depth at which no mapping is tried: lists of many alike may be in them."""
        self._depth = 0
        self._parts = 0
        self._refused = False
        self._ungrouped = False
        self._found: dict[int, Writer] = {}
        self._plans: dict[int, Any] = {}
        self._numbers: dict[tuple[int, str], int] = {}
        # An address is a name only as long as the thing lives.
        self._held: list[Any] = []
        self.names: dict[int, bytes] = {}
        """The names of classes that have been looked up already, by their addresses."""
        self.unfinished = False
        """Whether a closure variable had no value yet."""

    def encode(self, value: Any) -> bytes:
        """Return the canonical bytes of *value*, of any kind.

        Raises:
            UncacheableArgument: if some part of it has no canonical form.
        """
        key = id(type(value))
        writer = WRITERS.get(key) or self._found.get(key) or self._find(value)
        depth = self._depth
        if depth >= MAX_DEPTH or self._parts >= fit.MOST_PARTS:
            self._enter(1)
        self._depth = depth + 1
        self._parts += 1
        try:
            return writer(value, self)
        except RecursionError:
            raise UncacheableArgument(_TOO_DEEP) from None
        finally:
            self._depth = depth

    def fragment(self, value: Any) -> orjson.Fragment:
        """Return `encode` of a *value* for orjson."""
        if (writer := LEAVES.get(id(type(value)))) is not None:
            return _Fragment(writer(value, self))
        return _Fragment(self.encode(value))

    def _enter(self, parts: int) -> None:
        """Go one level down, where so many *parts* are."""
        if self._depth >= MAX_DEPTH:
            raise UncacheableArgument(_TOO_DEEP)
        self._parts += parts
        if self._parts > fit.MOST_PARTS:
            raise UncacheableArgument(fit.ENDLESS)
        self._depth += 1

    def _find(self, value: Any) -> Writer:
        kind = type(value)
        writer = writer_for(kind)
        self.hold(kind)
        self._found[id(kind)] = writer
        return writer

    def plan(self, kind: type, make: Callable[[type], T]) -> T:
        """Return what *make* makes of the class of a value: once in this walk.

        It may hold the class, which nothing may that outlives the walk.
        """
        plan: T | None = self._plans.get(id(kind))
        if plan is None:
            plan = self._plans[id(kind)] = make(kind)
        return plan

    def hold(self, thing: Any) -> None:
        """Keep *thing* until the walk is over, so that its address is its own."""
        self._held.append(thing)

    def number(self, thing: Any, role: str = "") -> bool:
        """Give a function or class the next number, and say whether it had none.

        Args:
            thing: the function or class.
            role: what is written of it, if there is more than one thing to write.
        """
        if (id(thing), role) in self._numbers:
            return False
        self._numbers[id(thing), role] = len(self._numbers)
        self.hold(thing)
        return True

    def again(self, thing: Any, role: str = "") -> bytes | None:
        """Return the mark for a function or class that has a number already."""
        number = self._numbers.get((id(thing), role))
        return None if number is None else b"!again%d" % number

    def apart(self, segment: str, value: Any) -> bytes:
        """Return `part` of *value*, and forget the numbers that it gave.

        What has no order must not be numbered in the order in which it happens to come.
        """
        before = self._numbers
        self._numbers = before.copy()
        try:
            return self.part(segment, value)
        finally:
            self._numbers = before

    def part(self, segment: str, value: Any) -> bytes:
        """Return the canonical bytes of *value*, a part that *segment* leads to."""
        try:
            return self.encode(value)
        except UncacheableArgument as error:
            raise error.within(segment) from None

    def parts(self, values: Sequence[Any], segment: Callable[[int], str]) -> list[bytes]:
        """Return the canonical bytes of each of *values*, where *segment* of its index leads."""
        forms: list[bytes] = []
        self._enter(len(values))
        try:
            for value in values:
                key = id(type(value))
                writer = WRITERS.get(key) or self._found.get(key) or self._find(value)
                forms.append(writer(value, self))
        except UncacheableArgument as error:
            raise error.within(segment(len(forms))) from None
        except RecursionError:
            raise UncacheableArgument(_TOO_DEEP, path=segment(len(forms))) from None
        finally:
            self._depth -= 1
        return forms

    def quick(self, value: Any) -> bytes | None:
        """Return the canonical bytes of a list or mapping as orjson writes it, if it is sure to."""
        if self._refused or not is_sure(value, MAX_DEPTH - self._depth):
            return None
        numbers = len(self._numbers)
        try:
            return spelled(value, self.fragment, OPTIONS)
        except orjson.JSONEncodeError as error:
            check_interrupt(error)
            # Some part has no form: it is looked for once more, for its path.
            self._refused = True
            self._forget(numbers)
            return None

    def tried(self, value: Any, first: int = 1) -> bytes | None:
        """Return `quick` of *value* unless that has been tried often enough on what it is in."""
        return self.quick(value) if first < self._depth <= _TRIES else None

    def rows(self, values: list[Any]) -> bytes | None:
        """Return ``[…]`` of many values of one class that are quicker written together."""
        if len(values) <= _FEW or self._depth > _TRIES:
            return None
        kind = type(values[0])
        write = self._rows_for(kind)
        if write is None:
            return None
        for value in values:
            if type(value) is not kind:
                return None
        lines = self._lines(write, values)
        return None if lines is None else b"[%b]" % lines.replace(b"\n", b",")

    def groups(self, values: list[Any]) -> bytes | None:
        """Return ``[…]`` of many values of a few classes, those of each class written together."""
        if len(values) < _MANY or self._depth > _TRIES:
            return None
        if self._ungrouped or len(values) > fit.MOST_PARTS - self._parts:
            return None
        places: dict[int, list[int]] = {}
        for place, kind in enumerate(map(id, map(type, values))):
            places.setdefault(kind, []).append(place)
        if not 1 < len(places) <= len(values) // _FEW:
            return None
        numbers, parts = len(self._numbers), self._parts
        # What is in it is not grouped, nor anything else if this is in vain.
        self._ungrouped = True
        forms = [b""] * len(values)
        for group in places.values():
            written = self._written([values[place] for place in group])
            # What is numbered is so in the order in which it is met.
            if written is None or len(self._numbers) > numbers:
                self._forget(numbers)
                self._parts = parts
                return None
            for place, form in zip(group, written, strict=True):
                forms[place] = form
        self._ungrouped = False
        self._parts = parts + len(values)
        return b"[%b]" % b",".join(forms)

    def _written(self, values: list[Any]) -> list[bytes] | None:
        """Return the canonical bytes of each of many values of one class, if that is quick."""
        write = self._rows_for(type(values[0])) if len(values) > _FEW else None
        if write is not None and (lines := self._lines(write, values)) is not None:
            return lines.split(b"\n")
        try:
            return self.forms(values)
        except (orjson.JSONEncodeError, UncacheableArgument) as error:
            check_interrupt(error)
            return None

    def _rows_for(self, kind: type) -> Rows | None:
        key = id(kind)
        return ROWS.get(WRITERS.get(key) or self._found.get(key) or writer_or_none(kind))

    def _lines(self, write: Rows, values: list[Any]) -> bytes | None:
        numbers, parts, depth = len(self._numbers), self._parts, self._depth
        try:
            self._enter(len(values))
            lines = write(values, self)
        except (orjson.JSONEncodeError, UncacheableArgument) as error:
            check_interrupt(error)
            lines = None
        finally:
            self._depth = depth
        if lines is None:
            self._forget(numbers)
            self._parts = parts
        return lines

    def forms(self, values: list[Any]) -> list[bytes]:
        """Return the canonical bytes of each of *values*, which orjson writes at once.

        Raises:
            JSONEncodeError: if it cannot.
        """
        if unusual(values, MAX_DEPTH - self._depth, fit.MOST_PARTS) == UNFIT:
            raise orjson.JSONEncodeError
        marked = [_MARK] * (2 * len(values) - 1)
        marked[::2] = values
        return _dumps(marked, self.fragment, OPTIONS)[1:-1].split(b",\n,")

    def _forget(self, numbers: int) -> None:
        """Take all numbers back that were given after so many."""
        while len(self._numbers) > numbers:
            self._numbers.popitem()

    def array(self, values: Iterable[Any]) -> bytes:
        """Return ``[…]`` of *values*, in their order."""
        values = values if isinstance(values, list | tuple) else list(values)
        if len(values) > _FEW and fit.are_leaves(values) and fit.are_sure_leaves(values):
            with suppress(orjson.JSONEncodeError):
                return spelled(values)
        return b"[%b]" % b",".join(self.parts(values, "[{}]".format))

    def object(self, members: Mapping[str, Any]) -> bytes:
        """Return ``{…}`` of *members*, whose names are text without lone surrogates."""
        names = sorted(members)
        values = [members[name] for name in names]
        if len(names) > _FEW and fit.are_leaves(values) and fit.are_sure_leaves(values):
            with suppress(orjson.JSONEncodeError):
                return spelled(members, None, OPTIONS)
        forms = self.parts(values, lambda i: key_segment(names[i]))
        return b"{%b}" % b",".join(
            [b"%b:%b" % pair for pair in zip(map(_dumps, names), forms, strict=True)]
        )

    def unordered(self, values: Iterable[Any]) -> list[bytes]:
        """Return the canonical bytes of each of *values*, which have no order."""
        values = [*values]
        if fit.are_leaves(values):
            return (len(values) > 1 and leaves(values)) or self.parts(values, str)
        return [self.apart("[…]", value) for value in values]

    def record(self, members: Mapping[str, Any]) -> bytes:
        """Return the canonical bytes of a mapping, of which many have the same names."""
        for member in members.values():
            if type(member) is not str:
                break
        else:
            with suppress(orjson.JSONEncodeError):
                return spelled(members, None, OPTIONS)
        return self.quick(members) or self.encode(members)

    def tagged(self, tag: bytes, *values: Any) -> bytes:
        """Return ``!tag[…]`` of *values*."""
        return b"!%b%b" % (tag, b"[%b]" % b",".join([self.encode(value) for value in values]))


def key_segment(key: Any) -> str:
    """Return the step of a path into a mapping; only a name is shown, since others are data."""
    if type(key) is not str or len(key) > 40 or not key.replace("-", "_").isidentifier():
        return "[…]"
    return f".{key}" if key.isidentifier() else f"[{key!r}]"


def check_interrupt(error: Exception) -> None:
    """Raise what interrupted orjson, if that is why it failed."""
    cause = error.__cause__
    if cause is not None and not isinstance(cause, Exception):
        # It is no fault of the value: an interrupt, for one.
        raise cause from None
