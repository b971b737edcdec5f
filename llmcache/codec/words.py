"""Values of one piece that JSON has no word for, each as a tag and some JSON.

Two are the same if they are written the same: `nan` is `nan`, ``-0.0`` is not
``0.0``, and a date is never its text.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, NamedTuple
from uuid import UUID, SafeUUID

from llmcache.attributes import inherits, namespace_of
from llmcache.codec.classes import ClassGone
from llmcache.errors import UncacheableValue


class Word(NamedTuple):
    """How the values of exactly one class are written and read.

    Args:
        tag: names the class in entries.
        write: returns JSON.
        read: returns the value of that JSON; raises for anything else.
    """

    tag: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _module(name: str) -> Any:
    if name not in sys.modules:
        raise ClassGone(f"{name} is not loaded here")
    return sys.modules[name]


@cache
def _zones() -> frozenset[str]:
    """Return the names that `ZoneInfo` may be asked for: it imports packages by their parts."""
    return frozenset(_module("zoneinfo").available_timezones())


def _zone(zone: tzinfo | None) -> Any:
    kind = type(zone)
    if zone is None:
        return None
    if kind is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return ["utc"] if zone is UTC else ["timezone", _timedelta(offset), *name]
    zones = sys.modules.get("zoneinfo")
    if zones is not None and kind is zones.ZoneInfo and getattr(zone, "key", None) in _zones():
        return ["zone", zone.key]  # type: ignore[attr-defined]
    core = sys.modules.get("pydantic_core")
    if core is not None and kind is core.TzInfo:
        return ["pydantic", (zone.utcoffset(None) or timedelta()).total_seconds()]
    raise UncacheableValue(
        f"the result has a time in a {kind.__qualname__}, which would not come back as it was"
    )


def _read_zone(written: Any) -> tzinfo | None:
    if written is None:
        return None
    tag, *content = written
    if tag == "utc":
        return UTC
    if tag == "timezone":
        return timezone(timedelta(*content[0]), *content[1:])
    if tag == "zone":
        if content[0] not in _zones():
            raise ClassGone("no time zone of that name here")
        return _module("zoneinfo").ZoneInfo(content[0])  # type: ignore[no-any-return]
    if tag == "pydantic":
        return _module("pydantic_core").TzInfo(content[0])  # type: ignore[no-any-return]
    raise ValueError("no time zone")


def _datetime(value: datetime) -> Any:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)]


def _read_datetime(written: Any) -> datetime:
    text, fold, zone = written
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=_read_zone(zone))


def _time(value: time) -> Any:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)]


def _read_time(written: Any) -> time:
    text, fold, zone = written
    return time.fromisoformat(text).replace(fold=fold, tzinfo=_read_zone(zone))


def _timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


def _read_base64(written: str) -> bytes:
    return base64.b64decode(written, validate=True)


_DIGITS: Final = 8192
"""Numbers of more digits take long to do anything with, once they are read."""

_FEW: Final = 512
"""The like where several integers are divided by one another at once."""


def _integer(value: int, digits: int = _DIGITS) -> str:
    if value.bit_length() > 4 * digits:
        raise _too_long(value)
    return f"{value:x}"


def _read_integer(written: str, digits: int = _DIGITS) -> int:
    _check_length(written, digits)
    return int(written, 16)


def _integers(*values: int) -> list[str]:
    return [_integer(value, _FEW) for value in values]


def _read_integers(written: list[str]) -> list[int]:
    return [_read_integer(each, _FEW) for each in written]


def _read_fraction(written: Any) -> Any:
    numerator, denominator = _read_integers(written)
    return _module("fractions").Fraction(numerator, denominator)


def _read_range(written: Any) -> range:
    start, stop, step = _read_integers(written)
    return range(start, stop, step)


def _decimal(value: Decimal) -> str:
    written = str(value)
    if len(written) > _DIGITS:
        raise _too_long(value)
    return written


def _read_decimal(written: str) -> Decimal:
    _check_length(written, _DIGITS)
    return Decimal(written)


def _read_float(written: str) -> float:
    _check_length(written, _DIGITS)
    return float(written)


def _check_length(written: str, digits: int) -> None:
    # One more for the sign.
    if len(written) > digits + 1:
        raise ValueError("a number of too many digits")


def _too_long(value: Any) -> UncacheableValue:
    return UncacheableValue(f"the result has a {type(value).__name__} of too many digits")


_DTYPE: Final = r"[<>|=]?(?:[?biufcSU]\d{0,9}|[mM]8(?:\[\w+\])?)"


def _array(value: Any) -> Any:
    spelled = value.dtype.str
    if not re.fullmatch(_DTYPE, spelled) or not value.dtype.itemsize:
        raise UncacheableValue(f"the result holds a numpy {value.dtype.kind!r} array")
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    return [spelled, list(value.shape), order, _base64(value.tobytes(order))]


def _read_array(written: Any) -> Any:
    spelled, shape, order, data = written
    if not re.fullmatch(_DTYPE, spelled) or order not in {"C", "F"}:
        raise ValueError("no array")
    numpy = _module("numpy")
    flat = numpy.frombuffer(bytearray(_read_base64(data)), dtype=spelled)
    return flat.reshape(shape, order=order)


def _scalar(value: Any) -> Any:
    spelled = value.dtype.str
    if not re.fullmatch(_DTYPE, spelled) or not value.dtype.itemsize:
        raise UncacheableValue(f"the result holds a numpy {value.dtype.kind!r} scalar")
    return [spelled, _base64(value.tobytes())]


def _read_scalar(written: Any) -> Any:
    spelled, data = written
    return _read_array([spelled, [1], "C", data])[0]


# Those of stores and brokers have passwords in them.
_URLS: Final = frozenset(
    {
        *("AnyUrl", "AnyHttpUrl", "HttpUrl", "AnyWebsocketUrl", "WebsocketUrl"),
        *("FileUrl", "FtpUrl"),
    }
)


def _read_url(written: Any) -> Any:
    name, text = written
    if name not in _URLS:
        raise ValueError("no URL")
    url = object.__new__(namespace_of(_module("pydantic.networks"))[name])
    url._url = _module("pydantic_core").Url(text)
    return url


WORDS: Final[dict[type, Word]] = {
    int: Word("int", _integer, _read_integer),
    float: Word("float", repr, _read_float),
    str: Word(
        "text",
        lambda value: value.encode("utf-8", "surrogatepass").hex(),
        lambda written: bytes.fromhex(written).decode("utf-8", "surrogatepass"),
    ),
    bytes: Word("bytes", _base64, _read_base64),
    bytearray: Word("bytearray", _base64, lambda written: bytearray(_read_base64(written))),
    complex: Word(
        "complex",
        lambda value: [repr(value.real), repr(value.imag)],
        lambda written: complex(_read_float(written[0]), _read_float(written[1])),
    ),
    date: Word("date", date.isoformat, date.fromisoformat),
    time: Word("time", _time, _read_time),
    datetime: Word("datetime", _datetime, _read_datetime),
    timedelta: Word("timedelta", _timedelta, lambda written: timedelta(*written)),
    Decimal: Word("decimal", _decimal, _read_decimal),
    UUID: Word(
        "uuid",
        lambda value: [value.hex, value.is_safe.value],
        lambda written: UUID(hex=written[0], is_safe=SafeUUID(written[1])),
    ),
    range: Word(
        "range",
        lambda value: _integers(value.start, value.stop, value.step),
        _read_range,
    ),
    type(...): Word("ellipsis", lambda value: 0, lambda written: ...),
    PurePosixPath: Word("pureposixpath", str, PurePosixPath),
    PureWindowsPath: Word("purewindowspath", str, PureWindowsPath),
    type(Path()): Word("path", str, Path),
}
_FRACTION: Final = Word(
    "fraction",
    lambda value: _integers(value.numerator, value.denominator),
    _read_fraction,
)
_ARRAY: Final = Word("ndarray", _array, _read_array)
_SCALAR: Final = Word("numpy", _scalar, _read_scalar)
_UNSET: Final = Word("unset", lambda value: 0, lambda written: _module("msgspec").UNSET)
_URL: Final = Word("url", lambda value: [type(value).__name__, str(value)], _read_url)

_LATE: Final = (_FRACTION, _ARRAY, _SCALAR, _UNSET, _URL)
"""Words of classes that are there only if somebody has imported them."""

BY_TAG: Final = {word.tag: word for word in (*WORDS.values(), *_LATE)}


def word_for(kind: type) -> Word | None:
    """Return the word for the values of a class, ``None`` if there is none."""
    if word := WORDS.get(kind):
        return word
    loaded = sys.modules.get
    if (fractions := loaded("fractions")) and kind is fractions.Fraction:
        return _FRACTION
    if (numpy := loaded("numpy")) and kind is numpy.ndarray:
        return _ARRAY
    if numpy and inherits(kind, numpy.generic):
        return _SCALAR
    if (msgspec := loaded("msgspec")) and kind is msgspec.UnsetType:
        return _UNSET
    if (networks := loaded("pydantic.networks")) and kind.__name__ in _URLS:
        return _URL if namespace_of(networks).get(kind.__name__) is kind else None
    return None
