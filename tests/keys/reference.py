"""The canonical form as docs/canonical-form.rst specifies it, slowly and on its own.

Functions, clients and the schemas of classes are left out.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import pathlib
import re
import sys
import uuid
from collections import defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from types import MemberDescriptorType
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pydantic

SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
BASES = (str, bytes, int, float, tuple, list, dict, set, frozenset)
PATHS = (
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.WindowsPath,
    pathlib.PureWindowsPath,
)
SDKS = ("openai", "anthropic")
SENTINELS = ("NotGiven", "Omit")
PYTHON_CLASS = 1 << 9


class Refused(Exception):
    """The value has no canonical form, or one that is not covered here."""


def reference(value: Any) -> bytes:
    """Return the canonical bytes of *value*."""
    return spell(value, ()).encode()


def spell(value: Any, within: tuple[int, ...]) -> str:
    kind = type(value)
    if kind in ATOMS:
        return ATOMS[kind](value)
    if isinstance(value, enum.Enum):
        return spell(value._value_, within)
    if isinstance(value, np.generic):
        return scalar(value)
    if isinstance(value, type):
        return class_(value, within)
    if id(value) in within:
        raise Refused("contains itself")
    inside = (*within, id(value))
    if kind in NESTS:
        return NESTS[kind](value, inside)
    return instance(value, kind, inside)


def tag(name: str, value: str) -> str:
    return f"!{name}{value}"


def sha256(data: bytes) -> str:
    return quoted(hashlib.sha256(data).hexdigest())


def integer(value: int) -> str:
    if -(2**63) <= value < 2**64:
        return str(value)
    return tag("int", quoted(f"{value:x}"))


def number(value: float) -> str:
    if value != value:
        return tag("float", quoted("nan"))
    if value in (float("inf"), float("-inf")):
        return tag("float", quoted("inf" if value > 0 else "-inf"))
    text = float.__repr__(value)
    sign = "-" if text.startswith("-") else ""
    mantissa, _, exponent = text.removeprefix("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0.0"
    if 0 < point <= 16:
        return sign + digits[:point].ljust(point, "0") + "." + (digits[point:] or "0")
    if -5 < point <= 0:
        return sign + "0." + "0" * -point + digits
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"


def text(value: str) -> str:
    if lone(value):
        return tag("text", quoted(value.encode("utf-8", "surrogatepass").hex()))
    return quoted(value)


def lone(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


def quoted(value: str) -> str:
    return '"' + "".join(map(escaped, value)) + '"'


def escaped(character: str) -> str:
    if character in SHORT:
        return SHORT[character]
    return f"\\u{ord(character):04x}" if character < " " else character


def listed(items: Any, within: tuple[int, ...]) -> str:
    return "[" + ",".join([spell(item, within) for item in items]) + "]"


def sorted_(items: Any, within: tuple[int, ...]) -> str:
    return "[" + ",".join(sorted([spell(item, within) for item in items], key=str.encode)) + "]"


def plain(key: Any) -> Any:
    while isinstance(key, enum.Enum):
        key = key._value_
    return str(key) if type(key) is uuid.UUID else key


def mapping(value: dict[Any, Any], within: tuple[int, ...]) -> str:
    pairs = [(plain(key), spell(item, within)) for key, item in dict.items(value)]
    keys = [key for key, _ in pairs]
    if all(type(key) is str and not lone(key) for key in keys) and len(set(keys)) == len(keys):
        return "{" + ",".join(f"{quoted(key)}:{item}" for key, item in sorted(pairs)) + "}"
    spelt = [f"[{spell(key, within)},{item}]" for key, item in pairs]
    return tag("map", "[" + ",".join(sorted(spelt, key=str.encode)) + "]")


def view(value: memoryview) -> str:
    try:
        parts = [text(value.format), listed(value.shape, ()), sha256(value.tobytes())]
    except ValueError as error:
        raise Refused("released") from error
    return tag("memoryview", "[" + ",".join(parts) + "]")


def zone(value: dt.time | dt.datetime) -> str:
    if value.tzinfo is None:
        return "null"
    if type(value.tzinfo) is dt.timezone:
        return listed(["timezone", value.tzname()], ())
    if type(value.tzinfo) is ZoneInfo:
        return listed(["ZoneInfo", value.tzinfo.key], ())
    kind = type(value.tzinfo)
    return listed([f"{kind.__module__}.{kind.__qualname__}", value.tzname()], ())


def moment(value: dt.time | dt.datetime) -> str:
    return tag(type(value).__name__, f"[{text(value.isoformat())},{value.fold},{zone(value)}]")


def path(value: pathlib.PurePath) -> str:
    return tag("path", listed([type(value).__name__, str(value)], ()))


def array(value: np.ndarray, within: tuple[int, ...]) -> str:
    shape = listed(value.shape, ())
    if value.dtype.names is not None:
        fields = [f"[{text(name)},{array(value[name], within)}]" for name in value.dtype.names]
        return tag("record", f"[{shape},[{','.join(fields)}]]")
    last = spell(value.tolist(), within) if value.dtype == object else sha256(value.tobytes())
    return tag("ndarray", f"[{text(value.dtype.str)},{shape},{last}]")


def scalar(value: np.generic) -> str:
    if value.dtype.names is not None:
        raise Refused("holds others")
    return tag("numpy", f"[{text(value.dtype.str)},{sha256(value.tobytes())}]")


def importable(kind: type) -> bool:
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found is kind


def name(kind: type) -> str:
    generic = vars(kind).get("__pydantic_generic_metadata__") or {}
    if generic.get("args"):
        arguments = [spell(argument, ()) for argument in generic["args"]]
        return tag("generic", "[" + ",".join([name(generic["origin"]), *arguments]) + "]")
    if kind.__flags__ & PYTHON_CLASS and not importable(kind):
        raise Refused("a class that its module does not hold")
    return text(f"{kind.__module__.removesuffix('._local')}:{kind.__qualname__}")


def class_(kind: type, within: tuple[int, ...]) -> str:
    schema = "null"
    if issubclass(kind, enum.Enum):
        schema = mapping(dict(kind.__members__), within)
    elif issubclass(kind, pydantic.BaseModel):
        schema = spell(kind.model_json_schema(), within)
    elif issubclass(kind, msgspec.Struct):
        schema = spell(msgspec.json.schema(kind), within)
    elif any(hasattr(kind, mark) for mark in ("__dataclass_fields__", "_fields", "__total__")):
        raise Refused("not covered")
    return tag("class", f"[{name(kind)},{schema}]")


def attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        for attribute, slot in vars(base).items():
            if isinstance(slot, MemberDescriptorType) and hasattr(value, attribute):
                found[attribute] = getattr(value, attribute)
    return found


def instance(value: Any, kind: type, within: tuple[int, ...]) -> str:
    if hasattr(kind, "__llmcache_key__"):
        return tag("keyed", f"[{name(kind)},{spell(value.__llmcache_key__(), within)}]")
    if kind.__name__ in SENTINELS and kind.__module__.partition(".")[0] in SDKS:
        return tag("sentinel", f"[{name(kind)}]")
    if isinstance(value, pydantic.BaseModel):
        own = {field: vars(value)[field] for field in kind.model_fields if field in vars(value)}
        parts = [own, value.__pydantic_extra__ or {}, value.__pydantic_private__ or {}]
        spelt = [name(kind), *(mapping(part, within) for part in parts)]
        return tag("model", "[" + ",".join(spelt) + "]")
    own = attributes(value)
    for base in BASES:
        if isinstance(value, base):
            if isinstance(value, defaultdict):
                own["default_factory"] = value.default_factory
            fields = getattr(kind, "_fields", None) if base is tuple else None
            whole = (
                mapping(dict(zip(fields, tuple(value), strict=True)), within)
                if fields
                else as_base(value, base, within)
            )
            return tag("as", f"[{name(kind)},{whole},{mapping(own, within)}]")
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names or not own:
        raise Refused("only its address tells it apart")
    if isinstance(value, BaseException) or not all(map(written_in_python, kind.__mro__)):
        raise Refused("has state in another language")
    return tag("object", f"[{name(kind)},{mapping(own, within)}]")


def written_in_python(kind: type) -> bool:
    stateless = kind is object or kind in msgspec.Struct.__mro__
    return stateless or bool(kind.__flags__ & PYTHON_CLASS)


def as_base(value: Any, base: type, within: tuple[int, ...]) -> str:
    if base in ATOMS:
        return ATOMS[base](base.__getnewargs__(value)[0])
    return NESTS[base](value, within)


def collection(name: str) -> Any:
    return lambda value, within: tag(name, sorted_(base_iter(value), within))


def base_iter(value: Any) -> Any:
    for base in (list, tuple, set, frozenset):
        if isinstance(value, base):
            return base.__iter__(value)
    raise Refused("no collection")


ATOMS: dict[type, Any] = {
    type(None): lambda value: "null",
    bool: lambda value: "true" if value else "false",
    int: integer,
    float: number,
    str: text,
    uuid.UUID: lambda value: text(str(value)),
    bytes: lambda value: tag("bytes", sha256(value)),
    bytearray: lambda value: tag("bytearray", sha256(bytes(value))),
    memoryview: view,
    dt.date: lambda value: tag("date", text(value.isoformat())),
    dt.time: moment,
    dt.datetime: moment,
    dt.timedelta: lambda value: tag(
        "timedelta", f"[{value.days},{value.seconds},{value.microseconds}]"
    ),
    Decimal: lambda value: tag("decimal", text(str(value))),
    Fraction: lambda value: tag("fraction", listed([value.numerator, value.denominator], ())),
    complex: lambda value: tag("complex", listed([value.real, value.imag], ())),
    range: lambda value: tag("range", listed([value.start, value.stop, value.step], ())),
    re.Pattern: lambda value: tag("pattern", listed([value.pattern, value.flags], ())),
    type(...): lambda value: tag("constant", text("Ellipsis")),
    type(NotImplemented): lambda value: tag("constant", text("NotImplemented")),
    **dict.fromkeys(PATHS, path),
}

NESTS: dict[type, Any] = {
    list: lambda value, within: listed(list.__iter__(value), within),
    tuple: lambda value, within: listed(tuple.__iter__(value), within),
    dict: mapping,
    set: collection("set"),
    frozenset: collection("frozenset"),
    deque: lambda value, within: tag(
        "deque", f"[{spell(value.maxlen, ())},{listed(value, within)}]"
    ),
    slice: lambda value, within: tag(
        "slice", listed([value.start, value.stop, value.step], within)
    ),
    np.ndarray: array,
}
