"""Lists of many unusual values of one class, written together.

A list of dates or of models costs a call for each of them otherwise, and that
is most of what it costs. Whatever cannot be written so is left to the walk.
"""

from __future__ import annotations

from cmath import isfinite
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta, timezone, tzinfo
from functools import partial
from itertools import chain, islice, repeat
from operator import attrgetter, is_
from typing import Any, Final

import orjson

from llmcache.attributes import reader_of
from llmcache.keys import objects, values
from llmcache.keys.canonical import write_float, write_mapping
from llmcache.keys.classes import class_name
from llmcache.keys.fit import are_texts, has_plain_value
from llmcache.keys.plain import floats, leaves, text
from llmcache.keys.walk import Walk
from llmcache.keys.writers import writes_rows

_dumps = orjson.dumps
_DATETIME: Final = b"!datetime"
_MINUTE: Final = timedelta(minutes=1)
_year_of: Final = attrgetter("year")
_zone_of: Final = attrgetter("tzinfo")
_fold_of: Final = attrgetter("fold")


def _between(head: bytes, forms: Iterable[bytes], tail: bytes) -> bytes:
    """Return each of *forms* between *head* and *tail*, one a line."""
    return head + (tail + b"\n" + head).join(forms) + tail


def _of_class(tag: bytes, kind: type, parts: list[Any], tail: bytes, walk: Walk) -> bytes:
    """Return each of *parts* between its class and *tail*; the first names it for all others."""
    first, again = (b"%b[%b," % (tag, class_name(kind, walk)) for _ in range(2))
    return first + _between(again, walk.forms(parts), tail).removeprefix(again)


def _dates(items: Sequence[Any], walk: Walk) -> bytes:
    return b"!date" + _dumps(items)[1:-1].replace(b",", b"\n!date")


def _moments(tag: bytes, items: Sequence[Any], walk: Walk) -> bytes | None:
    first = items[0].tzinfo
    is_one = all(map(is_, map(_zone_of, items), repeat(first)))
    zones = {id(zone): zone for zone in ([first] if is_one else map(_zone_of, items))}
    if not all(map(_is_settled, zones.values())):
        return None
    tails = {key: values.zone_form(zone, zone and zone.tzname(None)) for key, zone in zones.items()}
    # orjson leaves a zero out of the microseconds of some times.
    native = tag == _DATETIME and _are_spelled(zones.values(), items)
    texts = _dumps(items if native else [item.isoformat() for item in items])[1:-1]
    if is_one and not any(map(_fold_of, items)):
        head, tail = tag + b"[", b",0,%b]" % tails.popitem()[1]
        return head + texts.replace(b",", tail + b"\n" + head) + tail
    return b"\n".join(
        [
            b"%b[%b,%d,%b]" % (tag, text, item.fold, tails[id(item.tzinfo)])
            for text, item in zip(texts.split(b","), items, strict=True)
        ]
    )


def _is_settled(zone: Any) -> bool:
    """Say whether what names a zone is the same at all times."""
    return zone is None or type(zone) is timezone or values.is_zone_info(zone)


def _are_spelled(zones: Collection[Any], items: Sequence[Any]) -> bool:
    """Say whether orjson spells the offsets of moments in *zones*, which it rounds to minutes."""
    if all(zone is None or _is_of_minutes(zone) for zone in zones):
        return True
    # The last offset with seconds in the tz database, Liberia's, ended in January 1972.
    return min(map(_year_of, items)) > 1972 and all(
        zone is None or _is_of_minutes(zone) or _is_of_database(zone) for zone in zones
    )


def _is_of_minutes(zone: tzinfo) -> bool:
    return type(zone) is timezone and not zone.utcoffset(None) % _MINUTE


def _is_of_database(zone: tzinfo) -> bool:
    """Say whether a `ZoneInfo` is known by its key, and not read from a file of somebody's own."""
    # These have no other mark than that they cannot be pickled.
    with suppress(Exception):
        return values.is_zone_info(zone) and bool(zone.__reduce__())
    return False


def _timedeltas(items: Sequence[Any], walk: Walk) -> bytes:
    return "\n".join(
        [f"!timedelta[{item.days},{item.seconds},{item.microseconds}]" for item in items]
    ).encode()


def _decimals(items: Sequence[Any], walk: Walk) -> bytes:
    joined = '"\n!decimal"'.join(map(values.decimal_text, items))
    return f'!decimal"{joined}"'.encode()


def _data(tag: str, items: Sequence[Any], walk: Walk) -> bytes:
    joined = f'"\n{tag}"'.join([*map(values.hex_of, items)])
    return f'{tag}"{joined}"'.encode()


def _complexes(items: Sequence[Any], walk: Walk) -> bytes | None:
    if not all(map(isfinite, items)):
        return None
    pairs = _dumps([(item.real, item.imag) for item in items])[2:-2]
    return _between(b"!complex[", pairs.split(b"],["), b"]")


def _floats(items: Sequence[Any], walk: Walk) -> bytes:
    return floats(items)[1:-1].replace(b",", b"\n")


def _sets(tag: bytes, items: Sequence[Any], walk: Walk) -> bytes | None:
    # They may change while they are written.
    sets = [*map(list, items)]
    forms = leaves([*chain.from_iterable(sets)])
    if forms is None:
        return None
    form = iter(forms)
    return _between(tag, [b",".join(sorted(islice(form, len(item)))) for item in sets], b"]")


def _mappings(items: Sequence[Any], walk: Walk) -> bytes | None:
    if are_texts(items[0]):
        return None
    members = [[*item.items()] for item in items]
    keys = leaves([key for pairs in members for key, _ in pairs])
    forms = leaves([value for pairs in members for _, value in pairs])
    if keys is None or forms is None:
        return None
    pair = zip(keys, forms, strict=True)
    mappings = [sorted(islice(pair, len(pairs))) for pairs in members]
    # JSON spells what has but texts for keys: a quotation mark comes before all other keys.
    if not all(pairs and not pairs[-1][0].startswith(b'"') for pairs in mappings):
        return None
    spelled = [b"],[".join([b"%b,%b" % pair for pair in pairs]) for pairs in mappings]
    return _between(b"!map[[", spelled, b"]]")


def _paths(items: Sequence[Any], walk: Walk) -> bytes:
    head = values.path_form(type(items[0]), "")[: -len(b'""]')]
    return _between(head, walk.forms([str(item) for item in items]), b"]")


def _members(items: Sequence[Any], walk: Walk) -> bytes | None:
    if not has_plain_value(type(items[0])):
        return None
    return b"\n".join(walk.forms([item._value_ for item in items]))


def _instances(items: Sequence[Any], walk: Walk) -> bytes | None:
    kind = type(items[0])
    read = walk.plan(kind, objects.state_reader)
    states = [read(item) for item in items]
    return _of_class(b"!object", kind, states, b"]", walk) if all(states) else None


def _structs(items: Sequence[Any], walk: Walk) -> bytes:
    kind = type(items[0])
    states = list(map(walk.plan(kind, reader_of), items))
    return _of_class(b"!object", kind, states, b"]", walk)


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
    return _of_class(b"!model", kind, fields, b",{},{}]", walk)


def _subclasses(items: Sequence[Any], walk: Walk) -> bytes | None:
    kind = type(items[0])
    whole_of, attributes_of = walk.plan(kind, objects.subclass_plan)
    if any(map(attributes_of, items)):
        return None
    return _of_class(b"!as", kind, [whole_of(item) for item in items], b",{}]", walk)


def _scalars(items: Sequence[Any], walk: Walk) -> bytes | None:
    # Those of other types have as many bytes as they need.
    if items[0].dtype.kind not in "biufc":
        return None
    forms = [values.data_form(item.tobytes()) for item in items]
    return _between(b"!numpy[%b," % text(items[0].dtype.str), forms, b"]")


for _writer, _rows in (
    (values.write_date, _dates),
    (values.write_time, partial(_moments, b"!time")),
    (values.write_datetime, partial(_moments, _DATETIME)),
    (values.write_timedelta, _timedeltas),
    (values.write_decimal, _decimals),
    (values.write_complex, _complexes),
    (values.write_bytes, partial(_data, "!bytes")),
    (values.write_bytearray, partial(_data, "!bytearray")),
    (values.write_path, _paths),
    (values.write_set, partial(_sets, b"!set[")),
    (values.write_frozenset, partial(_sets, b"!frozenset[")),
    (write_mapping, _mappings),
    (write_float, _floats),
    (objects.write_member, _members),
    (objects.write_instance, _instances),
    (objects.write_struct, _structs),
    (objects.write_model, _models),
    (objects.write_subclass, _subclasses),
    (objects.write_scalar, _scalars),
):
    writes_rows(_writer, _rows)
