"""Canonical form: equal requests become equal bytes, others never do.

The plain JSON values are spelled as JSON, members sorted and without spaces.
Every other value is an exclamation mark, a tag and one canonical value, which
no JSON value can spell and no string can contain outside its quotes: no data
can forge a tag. ``docs/canonical-form.rst`` specifies each byte.

orjson writes whatever it can and hands the rest to `Walk`, which can write
everything. Both write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import Enum, EnumMeta, EnumType
from functools import partial
from itertools import chain
from math import isfinite
from operator import itemgetter
from typing import Any, Final, TypeAlias
from uuid import UUID
from weakref import ref

import orjson

from llmcache.attributes import dictionary_of, inherits, is_heap_type, lineage
from llmcache.errors import UncacheableArgument

MAX_DEPTH: Final = 200
# More than any request has: what contains itself has no end of parts.
_MOST_PARTS: Final = 1 << 20
_MOST_LEAVES: Final = 1 << 24
_ENDLESS: Final = "has too many parts, or contains itself"
# So few containers nest no deeper than they may, wherever they are.
_FEW: Final = 190
_FEW_PARTS: Final = 2000
# How far down a walk tries orjson on the lists and mappings that it comes by.
_TRIES: Final = 4

_OPTIONS: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_dumps = orjson.dumps

# By their addresses: a class may have a metaclass with a __hash__ of its own.
_FLOATS: Final = {id(float)}
_LEAVES: Final = {id(str), id(int), id(bool), id(type(None))}

# Who asks a member for its value gets what it was given if these are as they were.
_PLAIN_NAMES: Final = (("value", Enum), ("__llmcache_key__", None), ("__getattr__", None))

Writer: TypeAlias = "Callable[[Any, Walk], bytes]"
"""Writes one value; its parts go through the walk."""


def canonical(value: Any) -> bytes:
    """Return the canonical bytes of *value*.

    Raises:
        UncacheableArgument: if some part of it has no canonical form; its
            ``path`` says which.
    """
    if _is_fit(value, MAX_DEPTH):
        with suppress(orjson.JSONEncodeError):
            return _dumps(value, None, _OPTIONS)
        try:
            return _dumps(value, Walk().fragment, _OPTIONS)
        except orjson.JSONEncodeError as error:
            cause = error.__cause__
            if cause is not None and not isinstance(cause, Exception):
                # It is no fault of the value: an interrupt, for one.
                raise cause from None
    return Walk().encode(value)


def _is_fit(value: Any, room: int) -> bool:
    """Say whether orjson may be trusted with *value*, which may nest *room* deep.

    It writes ``null`` for a ``nan`` or an infinity, loses count of how deep
    tuples nest, and asks enum members for a value that they may refuse.

    Raises:
        UncacheableArgument: if it has more parts than any request.
    """
    waiting = [value]
    containers = 0
    for part in waiting:
        kind = type(part)
        if kind is str:
            continue
        if kind is dict:
            waiting += part.values()
        elif kind is list or kind is tuple:
            waiting += part
        elif kind is float:
            if not isfinite(part):
                return False
            continue
        elif type(kind) is EnumType:
            if not _has_plain_value(kind):
                return False
            waiting.append(part._value_)
        else:
            continue
        containers += 1
        if containers == _FEW or len(waiting) > _FEW_PARTS:
            return _is_large_and_fit([[value]], room + 1)
    return True


def _is_large_and_fit(level: list[Any], room: int) -> bool:
    """Say as `_is_fit` does of the items of *level*: nest by nest, so that it knows how deep."""
    containers = parts = 0
    while room:
        room -= 1
        containers += len(level)
        holders = [holder.values() if type(holder) is dict else holder for holder in level]
        parts += sum(map(len, holders))
        if containers > _MOST_PARTS or parts > _MOST_LEAVES:
            raise UncacheableArgument(_ENDLESS)
        kinds = set(map(id, map(type, chain.from_iterable(holders)))) - _LEAVES
        if not kinds:
            return True
        items = chain.from_iterable(holders)
        if kinds == _FLOATS:
            return all(map(isfinite, items))
        level = []
        for part in items:
            kind = type(part)
            if kind is str:
                continue
            if kind is dict or kind is list or kind is tuple:
                level.append(part)
            elif kind is float:
                if not isfinite(part):
                    return False
            elif type(kind) is EnumType:
                if not _has_plain_value(kind):
                    return False
                level.append([part._value_])
        if not level:
            return True
    return False


# The enums that are known to have it, by their addresses.
_plain: Final[dict[int, ref[type]]] = {}


def _has_plain_value(kind: type) -> bool:
    """Say whether the members of an enum are, to whoever asks them, what they were given."""
    known = _plain.get(id(kind))
    if known is not None and known() is kind:
        return True
    plain = all(
        next((base for base in lineage(kind) if name in vars(base)), None) is owner
        for name, owner in _PLAIN_NAMES
    ) and not any("__getattribute__" in vars(base) and is_heap_type(base) for base in lineage(kind))
    if plain:
        _plain[id(kind)] = ref(kind)
    return plain


class Walk:
    """One walk over a value, writing its canonical form part by part.

    Functions and classes that are written out get a number each, in the order
    in which they begin: where they are met again the number stands for them,
    so that they may contain one another.
    """

    __slots__ = ("_depth", "_numbered", "_numbers", "_parts", "unfinished")

    def __init__(self) -> None:
        self._depth = 0
        self._parts = 0
        self._numbers: dict[tuple[int, str], int] = {}
        self._numbered: list[Any] = []
        self.unfinished = False
        """Whether a closure variable had no value yet."""

    def encode(self, value: Any) -> bytes:
        """Return the canonical bytes of *value*, of any kind.

        Raises:
            UncacheableArgument: if some part of it has no canonical form.
        """
        writer = _WRITERS.get(id(type(value))) or _writer_for(value)
        if self._depth >= MAX_DEPTH:
            raise UncacheableArgument("nests too deep, or contains itself")
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise UncacheableArgument(_ENDLESS)
        self._depth += 1
        try:
            return writer(value, self)
        except RecursionError:
            raise UncacheableArgument("nests too deep, or contains itself") from None
        finally:
            self._depth -= 1

    def fragment(self, value: Any) -> orjson.Fragment:
        """Return `encode` of a *value* for orjson."""
        return orjson.Fragment(self.encode(value))

    def number(self, thing: Any, role: str = "") -> bool:
        """Give a function or class the next number, and say whether it had none.

        Args:
            thing: the function or class.
            role: what is written of it, if there is more than one thing to write.
        """
        if (id(thing), role) in self._numbers:
            return False
        self._numbers[id(thing), role] = len(self._numbers)
        # An address is a name only as long as the thing lives.
        self._numbered.append(thing)
        return True

    def again(self, thing: Any, role: str = "") -> bytes | None:
        """Return the mark for a function or class that has a number already."""
        number = self._numbers.get((id(thing), role))
        return None if number is None else b"!again%d" % number

    def apart(self, form: Callable[[], bytes]) -> bytes:
        """Return *form*, and forget the numbers that it gave.

        What has no order must not be numbered in the order in which it happens to come.
        """
        before = self._numbers
        self._numbers = before.copy()
        try:
            return form()
        finally:
            self._numbers = before

    def part(self, segment: str, value: Any) -> bytes:
        """Return the canonical bytes of *value*, a part that *segment* leads to."""
        try:
            kind = type(value)
            if self._depth <= _TRIES and (kind is dict or kind is list):
                return self._quick(value)
            return self.encode(value)
        except UncacheableArgument as error:
            raise error.within(segment) from None

    def _quick(self, value: Any) -> bytes:
        """Return the same as `encode`, by orjson if the reason for this walk is elsewhere."""
        if _is_fit(value, MAX_DEPTH - self._depth):
            # What is unusual is not handed on: each level would try it again.
            with suppress(orjson.JSONEncodeError):
                return _dumps(value, None, _OPTIONS)
        return self.encode(value)

    def array(self, values: Iterable[Any]) -> bytes:
        """Return ``[…]`` of *values*, in their order."""
        encode = self.part
        return b"[%b]" % b",".join([encode(f"[{i}]", v) for i, v in enumerate(values)])

    def object(self, members: Mapping[str, Any]) -> bytes:
        """Return ``{…}`` of *members*, whose names are text without lone surrogates."""
        encode = self.part
        return b"{%b}" % b",".join(
            [b"%b:%b" % (_dumps(k), encode(key_segment(k), members[k])) for k in sorted(members)]
        )

    def tagged(self, tag: bytes, *values: Any) -> bytes:
        """Return ``!tag[…]`` of *values*."""
        return b"!%b%b" % (tag, b"[%b]" % b",".join([self.encode(value) for value in values]))


def key_segment(key: Any) -> str:
    """Return the step of a path into a mapping; only a name is shown, since others are data."""
    if type(key) is not str or len(key) > 40 or not key.replace("-", "_").isidentifier():
        return "[…]"
    return f".{key}" if key.isidentifier() else f"[{key!r}]"


def text(value: str) -> bytes:
    """Return the canonical bytes of a text."""
    try:
        return _dumps(value)
    except orjson.JSONEncodeError:
        return b'!text"%b"' % value.encode("utf-8", "surrogatepass").hex().encode()


def _constant(value: Any, walk: Walk) -> bytes:
    return _dumps(value)


def _text(value: str, walk: Walk) -> bytes:
    return text(value)


def _integer(value: int, walk: Walk) -> bytes:
    if -(2**63) <= value < 2**64:
        return _dumps(value)
    return b'!int"%x"' % value


def _float(value: float, walk: Walk) -> bytes:
    if isfinite(value):
        return _dumps(value)
    return b'!float"%b"' % str(value).encode()


def _array(value: Iterable[Any], walk: Walk) -> bytes:
    return walk.array(value)


def _mapping(value: Mapping[Any, Any], walk: Walk) -> bytes:
    names = [_member_name(key) for key in value]
    if None not in names and len(set(names)) == len(names):
        return walk.object(dict(zip(names, value.values(), strict=True)))
    keys = [walk.apart(partial(walk.part, "[…]", key)) for key in value]
    if len(set(keys)) == len(keys):
        items = sorted(zip(keys, value.items(), strict=True), key=itemgetter(0))
        pairs = [(key, walk.part(key_segment(k), item)) for key, (k, item) in items]
    else:
        pairs = [
            (key, walk.apart(partial(walk.part, key_segment(k), item)))
            for key, (k, item) in zip(keys, value.items(), strict=True)
        ]
    return b"!map[%b]" % b",".join([b"[%b,%b]" % pair for pair in sorted(pairs)])


def _member_name(key: Any) -> Any:
    """Return the text that *key* is on the wire, if it is one that JSON can spell."""
    for _ in range(MAX_DEPTH):
        if not is_member(key):
            break
        key = member_value(key)
    if type(key) is UUID:
        return str(key)
    if type(key) is str and (key.isascii() or not any("\ud800" <= c <= "\udfff" for c in key)):
        return key
    return None


def is_member(value: Any) -> bool:
    """Say whether *value* is a member of an enum."""
    return inherits(type(type(value)), EnumMeta)


def member_value(member: Any) -> Any:
    """Return the value of an enum member, as it is on the wire."""
    return dictionary_of(member)["_value_"] if _has_plain_value(type(member)) else member.value


def _member(value: Enum, walk: Walk) -> bytes:
    return walk.encode(member_value(value))


def _uuid(value: UUID, walk: Walk) -> bytes:
    return text(str(value))


_KINDS: Final[dict[type, Writer]] = {
    type(None): _constant,
    bool: _constant,
    str: _text,
    int: _integer,
    float: _float,
    list: _array,
    tuple: _array,
    dict: _mapping,
    UUID: _uuid,
}
# By their addresses: a class may have a metaclass with a __hash__ of its own.
_WRITERS: Final = {id(kind): writer for kind, writer in _KINDS.items()}
_FINDERS: Final[list[Callable[[Any], Writer | None]]] = [
    lambda value: _member if is_member(value) else None
]


def writes(kind: type, writer: Writer) -> None:
    """Let *writer* write the values whose class is exactly *kind*."""
    _KINDS[kind] = writer
    _WRITERS[id(kind)] = writer


def finds(finder: Callable[[Any], Writer | None], *, first: bool = False) -> None:
    """Ask *finder* for the writer of a value whose class no writer names.

    Args:
        finder: answers ``None`` if it knows none.
        first: ask it before those that are there already, otherwise after them.
    """
    _FINDERS.insert(0 if first else len(_FINDERS), finder)


def _writer_for(value: Any) -> Writer:
    for finder in _FINDERS:
        if writer := finder(value):
            return writer
    raise UncacheableArgument(f"is {describe(type(value))}, which has no canonical form")


def describe(kind: type) -> str:
    """Return a class's name with its article, for a message."""
    name = kind.__qualname__ if kind.__module__ == "builtins" else qualified(kind)
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def qualified(kind: type) -> str:
    """Return ``module.qualname`` of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"
