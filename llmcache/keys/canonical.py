"""Canonical form: equal requests become equal bytes, others never do.

The plain JSON values are spelled as JSON, members sorted and without spaces.
Every other value is an exclamation mark, a tag and one canonical value, which
no JSON value can spell and no string can contain outside its quotes: no data
can forge a tag. ``docs/canonical-form.rst`` specifies each byte.

orjson writes whatever it can and hands the rest to `Walk`, which can write
everything. Both write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum, EnumMeta, EnumType
from math import isfinite
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson

from llmcache.errors import UncacheableArgument

MAX_DEPTH: Final = 200
# More than any request has: what contains itself has no end of parts.
_MOST_PARTS: Final = 1 << 20
# So few containers nest no deeper than they may, wherever they are.
_FEW: Final = 190
# How far down a walk tries orjson on the lists and mappings that it comes by.
_TRIES: Final = 4

_OPTIONS: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_dumps = orjson.dumps

Writer: TypeAlias = "Callable[[Any, Walk], bytes]"
"""Writes one value; its parts go through the walk."""


def canonical(value: Any) -> bytes:
    """Return the canonical bytes of *value*.

    Raises:
        UncacheableArgument: if some part of it has no canonical form; its
            ``path`` says which.
    """
    if _is_fit(value, MAX_DEPTH):
        try:
            return _dumps(value, _unusual, _OPTIONS)
        except orjson.JSONEncodeError as error:
            cause = error.__cause__
            if cause is not None and not isinstance(cause, Exception):
                # It is no fault of the value: an interrupt, for one.
                raise cause from None
    return Walk().encode(value)


def _unusual(value: Any) -> orjson.Fragment:
    return orjson.Fragment(Walk().encode(value))


def _is_fit(value: Any, room: int) -> bool:
    """Say whether orjson may be trusted with *value*, which may nest *room* deep.

    It writes ``null`` for a ``nan`` or an infinity, loses count of how deep
    tuples nest, and asks enum members for a value that they may refuse.
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
        if containers == _FEW:
            return _is_large_and_fit(value, room)
    return True


def _is_large_and_fit(value: Any, room: int) -> bool:
    """Say as `_is_fit` does, level by level, so that it knows how deep it is."""
    level = [value]
    parts = 0
    for _ in range(room):
        below: list[Any] = []
        for part in [part for part in level if type(part) is not str]:
            kind = type(part)
            if kind is dict:
                below += part.values()
            elif kind is list or kind is tuple:
                below += part
            elif kind is float:
                if not isfinite(part):
                    return False
            elif type(kind) is EnumType:
                if not _has_plain_value(kind):
                    return False
                below.append(part._value_)
        if not below:
            return True
        parts += len(below)
        if parts > _MOST_PARTS:
            return False
        level = below
    return False


def _has_plain_value(kind: type) -> bool:
    """Say whether the members of an enum have the value that they were given."""
    return next(base for base in kind.__mro__ if "value" in vars(base)) is Enum


class Walk:
    """One walk over a value, writing its canonical form part by part.

    Args:
        describing: the functions and classes that the value is a part of.
    """

    __slots__ = ("_depth", "describing")

    def __init__(self, describing: Sequence[Any] = ()) -> None:
        self._depth = 0
        self.describing = [*describing]

    def encode(self, value: Any) -> bytes:
        """Return the canonical bytes of *value*, of any kind.

        Raises:
            UncacheableArgument: if some part of it has no canonical form.
        """
        writer = _WRITERS.get(id(type(value))) or _writer_for(value)
        if self._depth >= MAX_DEPTH:
            raise UncacheableArgument("nests too deep, or contains itself")
        self._depth += 1
        try:
            return writer(value, self)
        except RecursionError:
            raise UncacheableArgument("nests too deep, or contains itself") from None
        finally:
            self._depth -= 1

    def again(self, thing: Any) -> bytes | None:
        """Return the mark for a function or class that is being described already."""
        for place, known in enumerate(self.describing):
            if known is thing:
                return b"!again%d" % place
        return None

    def part(self, segment: str, value: Any) -> bytes:
        """Return the canonical bytes of *value*, a part that *segment* leads to."""
        try:
            kind = type(value)
            if self._depth <= _TRIES and (kind is dict or kind is list) and not self.describing:
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
    return f".{key}" if type(key) is str and key.isidentifier() and len(key) <= 40 else "[…]"


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
    pairs = [
        b"[%b,%b]" % (walk.part("[…]", k), walk.part(key_segment(k), v)) for k, v in value.items()
    ]
    return b"!map[%b]" % b",".join(sorted(pairs))


def _member_name(key: Any) -> Any:
    """Return the text that *key* is on the wire, if it is one that JSON can spell."""
    while isinstance(type(key), EnumMeta):
        key = key.value
    if type(key) is UUID:
        return str(key)
    if type(key) is str and (key.isascii() or not any("\ud800" <= c <= "\udfff" for c in key)):
        return key
    return None


def _member(value: Enum, walk: Walk) -> bytes:
    return walk.encode(value.value)


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
_FINDERS: Final[list[Callable[[Any], Writer | None]]] = []


def writes(kind: type, writer: Writer) -> None:
    """Let *writer* write the values whose class is exactly *kind*."""
    _KINDS[kind] = writer
    _WRITERS[id(kind)] = writer


def finds(finder: Callable[[Any], Writer | None]) -> None:
    """Ask *finder* for the writer of a value whose class no writer names, after those before."""
    _FINDERS.append(finder)


def _writer_for(value: Any) -> Writer:
    if isinstance(type(value), EnumMeta):
        return _member
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
