"""The canonical form as docs/canonical-form.rst specifies it, slowly and on its own."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import hashlib
import pathlib
import re
import sys
import types
import uuid
from collections import defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from operator import itemgetter
from types import MemberDescriptorType
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pydantic

from keys.reference_classes import Names
from keys.reference_functions import LRU, PROXY, Place, Refused

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
SDK_KINDS = {
    (f"{sdk}.{module}", kind)
    for sdk in SDKS
    for module, kind in (
        ("_base_client", "BaseClient"),
        ("_resource", "SyncAPIResource"),
        ("_resource", "AsyncAPIResource"),
    )
}
names = Names(sys.modules[__name__])
PYTHON_CLASS = 1 << 9


def reference(value: Any) -> bytes:
    """Return the canonical bytes of *value*."""
    return spell(value, Place()).encode()


def spell(value: Any, place: Place) -> str:
    kind = type(value)
    if kind in ATOMS:
        return ATOMS[kind](value)
    if issubclass(kind, enum.Enum):
        return spell(value._value_, place)
    if issubclass(kind, np.generic):
        return scalar(value)
    if kind is types.FunctionType:
        return names.function(value, place)
    if issubclass(kind, type):
        return names.class_(value, place)
    inside = place.inside(value)
    if issubclass(kind, PROXY):
        return names.proxy(value, inside)
    if kind in NESTS:
        return NESTS[kind](value, inside)
    if is_type(value):
        return names.type(value, place)
    return instance(value, kind, inside)


def is_type(value: Any) -> bool:
    kind = type(value)
    known = (types.GenericAlias, types.UnionType, dataclasses.InitVar)
    return isinstance(value, known) or kind.__module__ in ("typing", "typing_extensions")


def tag(name: str, value: str) -> str:
    return f"!{name}{value}"


def in_hex(data: bytes) -> str:
    return quoted(data.hex() if len(data) <= 31 else hashlib.sha256(data).hexdigest())


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


def listed(items: Any, place: Place) -> str:
    return "[" + ",".join([spell(item, place) for item in items]) + "]"


def alone(items: Any, place: Place) -> list[str]:
    """Spell what has no order, each item with numbers of its own."""
    return sorted([spell(item, place.apart()) for item in items], key=str.encode)


def sorted_(items: Any, place: Place) -> str:
    return "[" + ",".join(alone(items, place)) + "]"


def plain(key: Any) -> Any:
    while isinstance(key, enum.Enum):
        key = key._value_
    return str(key) if type(key) is uuid.UUID else key


def mapping(value: dict[Any, Any], place: Place) -> str:
    pairs = [(plain(key), item) for key, item in dict.items(value)]
    keys = [key for key, _ in pairs]
    if all(type(key) is str and not lone(key) for key in keys) and len(set(keys)) == len(keys):
        members = [f"{quoted(k)}:{spell(v, place)}" for k, v in sorted(pairs, key=itemgetter(0))]
        return "{" + ",".join(members) + "}"
    spelt = [(spell(key, place.apart()), item) for key, item in pairs]
    if len({key for key, _ in spelt}) == len(spelt):
        spelt.sort(key=lambda pair: pair[0].encode())
        forms = [f"[{key},{spell(item, place)}]" for key, item in spelt]
    else:
        both = [(key.encode(), spell(item, place.apart()).encode()) for key, item in spelt]
        forms = [f"[{key.decode()},{item.decode()}]" for key, item in sorted(both)]
    return tag("map", "[" + ",".join(forms) + "]")


def view(value: memoryview) -> str:
    try:
        parts = [text(value.format), listed(value.shape, Place()), in_hex(value.tobytes())]
    except ValueError as error:
        raise Refused("released") from error
    return tag("memoryview", "[" + ",".join(parts) + "]")


def zone(value: dt.time | dt.datetime) -> str:
    if value.tzinfo is None:
        return "null"
    if type(value.tzinfo) is dt.timezone:
        return listed(["timezone", value.tzname()], Place())
    if type(value.tzinfo) is ZoneInfo:
        if type(value.tzinfo.key) is not str:
            raise Refused("a zone without a key")
        return listed(["ZoneInfo", value.tzinfo.key], Place())
    kind = type(value.tzinfo)
    return listed([f"{kind.__module__}.{kind.__qualname__}", value.tzname()], Place())


def moment(value: dt.time | dt.datetime) -> str:
    return tag(type(value).__name__, f"[{text(value.isoformat())},{value.fold},{zone(value)}]")


def path(value: pathlib.PurePath) -> str:
    return tag("path", listed([type(value).__name__, str(value)], Place()))


def array(value: np.ndarray, place: Place) -> str:
    shape = listed(value.shape, Place())
    if value.dtype.names is not None:
        fields = [f"[{text(name)},{array(value[name], place)}]" for name in value.dtype.names]
        return tag("record", f"[{shape},[{','.join(fields)}]]")
    last = spell(value.tolist(), place) if value.dtype == object else in_hex(value.tobytes())
    return tag("ndarray", f"[{text(value.dtype.str)},{shape},{last}]")


def scalar(value: np.generic) -> str:
    if value.dtype.names is not None:
        raise Refused("holds others")
    return tag("numpy", f"[{text(value.dtype.str)},{in_hex(value.tobytes())}]")


def attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        for attribute, slot in vars(base).items():
            if isinstance(slot, MemberDescriptorType) and hasattr(value, attribute):
                found[attribute] = getattr(value, attribute)
    return found


def instance(value: Any, kind: type, place: Place) -> str:
    if hasattr(kind, "__llmcache_key__"):
        name = names.name(kind, place)
        return tag("keyed", f"[{name},{spell(value.__llmcache_key__(), place)}]")
    if kind.__name__ in SENTINELS and kind.__module__.partition(".")[0] in SDKS:
        return tag("sentinel", f"[{names.name(kind, place)}]")
    if not SDK_KINDS.isdisjoint((base.__module__, base.__name__) for base in kind.__mro__):
        return names.client(value, place)
    if isinstance(value, pydantic.BaseModel):
        own = {field: vars(value)[field] for field in kind.model_fields if field in vars(value)}
        parts = [own, value.__pydantic_extra__ or {}, value.__pydantic_private__ or {}]
        spelt = [names.name(kind, place), *(mapping(part, place) for part in parts)]
        return tag("model", "[" + ",".join(spelt) + "]")
    own = attributes(value)
    dataclass = hasattr(kind, "__dataclass_fields__")
    for base in BASES:
        if isinstance(value, base):
            if isinstance(value, defaultdict):
                own["default_factory"] = value.default_factory
            name = names.name(kind, place)
            fields = getattr(kind, "_fields", None) if base is tuple else None
            whole = (
                mapping(dict(zip(fields, tuple(value), strict=True)), place)
                if fields
                else as_base(value, base, place)
            )
            return tag("as", f"[{name},{whole},{mapping(own, place)}]")
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names or not (own or dataclass):
        raise Refused("only its address tells it apart")
    if isinstance(value, BaseException) or not all(map(written_in_python, kind.__mro__)):
        raise Refused("has state in another language")
    return tag("object", f"[{names.name(kind, place)},{mapping(own, place)}]")


def written_in_python(kind: type) -> bool:
    stateless = kind is object or kind in msgspec.Struct.__mro__
    return stateless or bool(kind.__flags__ & PYTHON_CLASS)


def as_base(value: Any, base: type, place: Place) -> str:
    if base in ATOMS:
        return ATOMS[base](base.__getnewargs__(value)[0])
    return NESTS[base](value, place)


def collection(name: str) -> Any:
    return lambda value, place: tag(name, sorted_(base_iter(value), place))


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
    bytes: lambda value: tag("bytes", in_hex(value)),
    bytearray: lambda value: tag("bytearray", in_hex(bytes(value))),
    memoryview: view,
    dt.date: lambda value: tag("date", text(value.isoformat())),
    dt.time: moment,
    dt.datetime: moment,
    dt.timedelta: lambda value: tag(
        "timedelta", f"[{value.days},{value.seconds},{value.microseconds}]"
    ),
    Decimal: lambda value: tag("decimal", text(str(value))),
    Fraction: lambda value: tag("fraction", listed([value.numerator, value.denominator], Place())),
    complex: lambda value: tag("complex", listed([value.real, value.imag], Place())),
    range: lambda value: tag("range", listed([value.start, value.stop, value.step], Place())),
    re.Pattern: lambda value: tag("pattern", listed([value.pattern, value.flags], Place())),
    type(...): lambda value: tag("constant", text("Ellipsis")),
    type(NotImplemented): lambda value: tag("constant", text("NotImplemented")),
    **dict.fromkeys(PATHS, path),
}

NESTS: dict[type, Any] = {
    list: lambda value, place: listed(list.__iter__(value), place),
    tuple: lambda value, place: listed(tuple.__iter__(value), place),
    dict: mapping,
    set: collection("set"),
    frozenset: collection("frozenset"),
    deque: lambda value, place: tag(
        "deque", f"[{spell(value.maxlen, Place())},{listed(value, place)}]"
    ),
    slice: lambda value, place: tag("slice", listed([value.start, value.stop, value.step], place)),
    np.ndarray: array,
    types.MethodType: names.method,
    types.BuiltinFunctionType: names.builtin,
    types.ModuleType: lambda value, place: tag("module", f"[{text(value.__name__)}]"),
    functools.partial: names.partial,
    LRU: lambda value, place: tag("wrapped", f"[{spell(value.__wrapped__, place)}]"),
}
