"""Canonical form of the values that Python has and JSON has not."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import deque
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context, Decimal
from pathlib import PurePath
from typing import Any, Final

import orjson

from llmcache.attributes import inherits, module_of, name_of, qualified
from llmcache.errors import UncacheableArgument
from llmcache.keys.plain import integer, number, text
from llmcache.keys.walk import Walk
from llmcache.keys.writers import Writer, finds, writes

_dumps = orjson.dumps

# str() asks the current context how to write the exponent.
decimal_text: Final = Context(capitals=1).to_sci_string
_DIGEST: Final = 32
_PATHS: Final = ("PurePosixPath", "PosixPath", "PureWindowsPath", "WindowsPath")
_CONSTANTS: Final = {
    type(...): b'!constant"Ellipsis"',
    type(NotImplemented): b'!constant"NotImplemented"',
}


def hex_of(data: bytes | bytearray) -> str:
    """Return *data* in hex where that is shorter than its SHA-256, else that."""
    return data.hex() if len(data) < _DIGEST else hashlib.sha256(data).hexdigest()


def data_form(data: bytes | bytearray) -> bytes:
    """Return the canonical text that stands for *data*."""
    return b'"%b"' % hex_of(data).encode()


def write_bytes(value: bytes, walk: Walk) -> bytes:
    return b"!bytes" + data_form(value)


def write_bytearray(value: bytearray, walk: Walk) -> bytes:
    return b"!bytearray" + data_form(value)


def _memoryview(value: memoryview, walk: Walk) -> bytes:
    try:
        shape, data = shape_form(value.shape or ()), value.tobytes()
    except ValueError:
        raise UncacheableArgument("is a memoryview that was released") from None
    return b"!memoryview[%b,%b,%b]" % (text(value.format), shape, data_form(data))


def shape_form(shape: Iterable[int]) -> bytes:
    """Return the canonical form of the lengths of an array."""
    return b"[%b]" % b",".join([b"%d" % length for length in shape])


def write_set(value: Iterable[Any], walk: Walk) -> bytes:
    return b"!set" + _unordered(value, walk)


def write_frozenset(value: Iterable[Any], walk: Walk) -> bytes:
    return b"!frozenset" + _unordered(value, walk)


def _unordered(value: Iterable[Any], walk: Walk) -> bytes:
    return b"[%b]" % b",".join(sorted(walk.unordered(value)))


def write_date(value: date, walk: Walk) -> bytes:
    return b"!date" + _dumps(value)


def write_time(value: time, walk: Walk) -> bytes:
    return b"!time" + _moment(value)


def write_datetime(value: datetime, walk: Walk) -> bytes:
    zone = value.tzinfo
    if zone is None:
        return b"!datetime[%b,%d,null]" % (_dumps(value), value.fold)
    if zone is UTC:
        return b'!datetime[%b,%d,["timezone","UTC"]]' % (_dumps(value), value.fold)
    return b"!datetime" + _moment(value)


def _moment(value: time | datetime) -> bytes:
    try:
        spelled, name = text(value.isoformat()), value.tzname()
    except Exception as error:  # noqa: BLE001
        raised = type(error).__qualname__
        raise UncacheableArgument(f"has a time zone that raises {raised}") from None
    return b"[%b,%d,%b]" % (spelled, value.fold, zone_form(value.tzinfo, name))


def zone_form(zone: Any, name: str | None) -> bytes:
    """Return what a zone is besides the offset, which the ISO text has already."""
    if zone is None:
        return b"null"
    if type(zone) is timezone:
        return b'["timezone",%b]' % text(name or "")
    if is_zone_info(zone):
        if type(zone.key) is not str:
            raise UncacheableArgument("has a time zone without a key")
        return b'["ZoneInfo",%b]' % text(zone.key)
    return b"[%b,%b]" % (text(qualified(type(zone))), b"null" if name is None else text(name))


def is_zone_info(zone: Any) -> bool:
    """Say whether a zone is one of the standard library's, by its key."""
    zones: Any = sys.modules.get("zoneinfo")
    return zones is not None and type(zone) is zones.ZoneInfo


def write_timedelta(value: timedelta, walk: Walk) -> bytes:
    return b"!timedelta[%d,%d,%d]" % (value.days, value.seconds, value.microseconds)


def write_decimal(value: Decimal, walk: Walk) -> bytes:
    return b'!decimal"%b"' % decimal_text(value).encode()


def _fraction(value: Any, walk: Walk) -> bytes:
    return b"!fraction[%b,%b]" % (integer(value.numerator), integer(value.denominator))


def write_complex(value: complex, walk: Walk) -> bytes:
    return b"!complex[%b,%b]" % (number(value.real), number(value.imag))


def _range(value: range, walk: Walk) -> bytes:
    return walk.tagged(b"range", value.start, value.stop, value.step)


def _slice(value: slice, walk: Walk) -> bytes:
    return walk.tagged(b"slice", value.start, value.stop, value.step)


def _pattern(value: re.Pattern[Any], walk: Walk) -> bytes:
    return walk.tagged(b"pattern", value.pattern, value.flags)


def _deque(value: deque[Any], walk: Walk) -> bytes:
    return b"!deque[%b,%b]" % (walk.encode(value.maxlen), walk.array(value))


def _constant(value: Any, walk: Walk) -> bytes:
    return _CONSTANTS[type(value)]


def path_form(kind: type, path: str) -> bytes:
    """Return the canonical form of a path of one of the standard library's classes."""
    return b"!path[%b,%b]" % (text(name_of(kind)), text(path))


def is_path_class(kind: type) -> bool:
    """Say whether a class is one of the standard library's for paths."""
    # They moved between modules from one Python to the next.
    ours = module_of(kind).partition(".")[0] == "pathlib" and name_of(kind) in _PATHS
    return ours and inherits(kind, PurePath)


def write_path(value: PurePath, walk: Walk) -> bytes:
    return path_form(type(value), str(value))


def _find_path(kind: type) -> Writer | None:
    return write_path if is_path_class(kind) else None


def _find_fraction(kind: type) -> Writer | None:
    fractions = sys.modules.get("fractions")
    return _fraction if fractions is not None and kind is fractions.Fraction else None


_leaves: Final[dict[type, Writer]] = {
    bytes: write_bytes,
    bytearray: write_bytearray,
    date: write_date,
    time: write_time,
    datetime: write_datetime,
    timedelta: write_timedelta,
    Decimal: write_decimal,
    complex: write_complex,
    memoryview: _memoryview,
}
_writers: Final[dict[type, Writer]] = {
    set: write_set,
    frozenset: write_frozenset,
    range: _range,
    slice: _slice,
    re.Pattern: _pattern,
    deque: _deque,
    type(...): _constant,
    type(NotImplemented): _constant,
}
for _kind, _writer in _leaves.items():
    writes(_kind, _writer, leaf=True)
for _kind, _writer in _writers.items():
    writes(_kind, _writer)
finds(_find_path)
finds(_find_fraction)
