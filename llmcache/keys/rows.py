"""Lists of many unusual values of one class, written together.

A list of dates or of models costs a call for each of them otherwise, and that
is most of what it costs. Whatever cannot be written so is left to the walk.
"""

from __future__ import annotations

import hashlib
from cmath import isfinite
from collections.abc import Iterable, Sequence
from datetime import timedelta, timezone
from functools import partial
from typing import Any, Final

import orjson

from llmcache.attributes import reader_of
from llmcache.keys import objects, values
from llmcache.keys.classes import held_name
from llmcache.keys.fit import has_plain_value, member_value
from llmcache.keys.plain import text
from llmcache.keys.walk import Walk, writes_rows

_dumps = orjson.dumps
_sha256 = hashlib.sha256
_MINUTE: Final = timedelta(minutes=1)


def _between(head: bytes, forms: Iterable[bytes], tail: bytes) -> bytes:
    """Return each of *forms* between *head* and *tail*, and commas between them."""
    return head + (tail + b"," + head).join(forms) + tail


def _dates(items: Sequence[Any], walk: Walk) -> bytes:
    return b"!date" + _dumps(items)[1:-1].replace(b",", b",!date")


def _moments(tag: bytes, items: Sequence[Any], walk: Walk) -> bytes | None:
    """Write times that have the same zone, which orjson must not round."""
    zone = items[0].tzinfo
    if zone is not None and (type(zone) is not timezone or zone.utcoffset(None) % _MINUTE):
        return None
    for item in items:
        if item.fold or item.tzinfo is not zone:
            return None
    tail = b",0,%b]" % values.zone_form(zone, zone and zone.tzname(None))
    return _between(tag + b"[", _dumps(items)[1:-1].split(b","), tail)


def _timedeltas(items: Sequence[Any], walk: Walk) -> bytes:
    return ",".join(
        [f"!timedelta[{item.days},{item.seconds},{item.microseconds}]" for item in items]
    ).encode()


def _decimals(items: Sequence[Any], walk: Walk) -> bytes:
    joined = '",!decimal"'.join(map(values.decimal_text, items))
    return f'!decimal"{joined}"'.encode()


def _digests(tag: str, items: Sequence[Any], walk: Walk) -> bytes:
    joined = f'",{tag}"'.join([_sha256(item).hexdigest() for item in items])
    return f'{tag}"{joined}"'.encode()


def _complexes(items: Sequence[Any], walk: Walk) -> bytes | None:
    if not all(map(isfinite, items)):
        return None
    return _tagged(b"!complex[", [(item.real, item.imag) for item in items])


def _tagged(tag: bytes, pairs: list[tuple[Any, Any]]) -> bytes:
    return _dumps(pairs)[1:-1].replace(b"[", tag)


def _paths(items: Sequence[Any], walk: Walk) -> bytes:
    head = values.path_form(type(items[0]), "")[: -len(b'""]')]
    return _between(head, walk.forms([str(item) for item in items]), b"]")


def _members(items: Sequence[Any], walk: Walk) -> bytes | None:
    if not has_plain_value(type(items[0])):
        return None
    return b",".join(walk.forms([member_value(item) for item in items]))


def _instances(items: Sequence[Any], walk: Walk) -> bytes | None:
    kind = type(items[0])
    read = walk.plan(kind, objects.state_reader)
    states = [read(item) for item in items]
    if not all(states) or not (name := held_name(kind, walk)):
        return None
    return _between(b"!object[%b," % name, walk.forms(states), b"]")


def _structs(items: Sequence[Any], walk: Walk) -> bytes | None:
    kind = type(items[0])
    if not (name := held_name(kind, walk)):
        return None
    states = list(map(walk.plan(kind, reader_of), items))
    return _between(b"!object[%b," % name, walk.forms(states), b"]")


def _models(items: Sequence[Any], walk: Walk) -> bytes | None:
    kind = type(items[0])
    known, fields_of, extra_of, private_of = walk.plan(kind, objects.model_plan)
    fields = [fields_of(item) for item in items]
    try:
        more = any(map(extra_of, items)) or any(map(private_of, items))
    except AttributeError:
        return None
    if more or any(own.keys() != known.keys() for own in fields):
        return None
    if not (name := held_name(kind, walk)):
        return None
    return _between(b"!model[%b," % name, walk.forms(fields), b",{},{}]")


def _subclasses(items: Sequence[Any], walk: Walk) -> bytes | None:
    kind = type(items[0])
    whole_of, attributes_of = walk.plan(kind, objects.subclass_plan)
    if any(map(attributes_of, items)) or not (name := held_name(kind, walk)):
        return None
    return _between(b"!as[%b," % name, walk.forms([whole_of(item) for item in items]), b",{}]")


def _scalars(items: Sequence[Any], walk: Walk) -> bytes | None:
    # Those of other types have as many bytes as they need.
    if items[0].dtype.kind not in "biufc":
        return None
    digests = [b'"%b"' % _sha256(item.tobytes()).hexdigest().encode() for item in items]
    return _between(b"!numpy[%b," % text(items[0].dtype.str), digests, b"]")


for _writer, _rows in (
    (values.write_date, _dates),
    (values.write_time, partial(_moments, b"!time")),
    (values.write_datetime, partial(_moments, b"!datetime")),
    (values.write_timedelta, _timedeltas),
    (values.write_decimal, _decimals),
    (values.write_complex, _complexes),
    (values.write_bytes, partial(_digests, "!bytes")),
    (values.write_bytearray, partial(_digests, "!bytearray")),
    (values.write_path, _paths),
    (objects.write_member, _members),
    (objects.write_instance, _instances),
    (objects.write_struct, _structs),
    (objects.write_model, _models),
    (objects.write_subclass, _subclasses),
    (objects.write_scalar, _scalars),
):
    writes_rows(_writer, _rows)
