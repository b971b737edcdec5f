"""Canonical form: equal requests become equal bytes, others never do.

The plain JSON values are spelled as JSON, members sorted and without spaces.
Every other value is an exclamation mark, a tag and one canonical value, which
no JSON value can spell and no string can contain outside its quotes: no data
can forge a tag. ``docs/canonical-form.rst`` specifies each byte.

orjson writes whatever it can and hands the rest to `Walk`, which can write
everything. Both write the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import orjson

from llmcache.keys import fit
from llmcache.keys.fit import MAX_DEPTH, SOME, is_enum, member_value, unusual
from llmcache.keys.plain import integer, number, spelled, text
from llmcache.keys.walk import OPTIONS as _OPTIONS
from llmcache.keys.walk import Walk, check_interrupt, key_segment
from llmcache.keys.writers import Writer, writes

_dumps = orjson.dumps


def canonical(value: Any) -> bytes:
    """Return the canonical bytes of *value*.

    Raises:
        UncacheableArgument: if some part of it has no canonical form; its
            ``path`` says which.
    """
    count = unusual(value, MAX_DEPTH)
    if 0 <= count <= SOME:
        # suppress() would cost a quarter of a small key.
        try:
            return _dumps(value, Walk().fragment if count else None, _OPTIONS)
        except orjson.JSONEncodeError as error:
            check_interrupt(error)
    # What **kwargs took is a mapping in the mapping.
    return Walk(first=2 if count > SOME else 1).encode(value)


def _constant(value: Any, walk: Walk) -> bytes:
    return spelled(value)


def _text(value: str, walk: Walk) -> bytes:
    return text(value)


def _integer(value: int, walk: Walk) -> bytes:
    return integer(value)


def write_float(value: float, walk: Walk) -> bytes:
    return number(value)


def _array(value: Sequence[Any], walk: Walk) -> bytes:
    # A key of somebody's own may change the list while it is written.
    items = [*value]
    return walk.rows(items) or walk.groups(items) or walk.tried(items) or walk.array(items)


def write_mapping(value: Mapping[Any, Any], walk: Walk) -> bytes:
    if fit.are_texts(value):
        return walk.tried(value, walk.first) or walk.object(value)
    leaves = fit.are_leaves(value)
    if leaves and (form := _pairs(value, walk)):
        return form
    names = [] if leaves else [_member_name(key) for key in value]
    if names and None not in names and len(set(names)) == len(names):
        return walk.object(dict(zip(names, value.values(), strict=True)))
    keys = walk.unordered(value)
    if len(set(keys)) == len(keys):
        items = sorted(zip(keys, value.items(), strict=True), key=itemgetter(0))
        forms = walk.parts([item for _, (_, item) in items], lambda i: key_segment(items[i][1][0]))
        pairs = list(zip([key for key, _ in items], forms, strict=True))
    else:
        pairs = sorted(
            (key, walk.apart(key_segment(k), item))
            for key, (k, item) in zip(keys, value.items(), strict=True)
        )
    return b"!map[%b]" % b",".join([b"[%b,%b]" % pair for pair in pairs])


def _pairs(value: Mapping[Any, Any], walk: Walk) -> bytes | None:
    """Return a mapping of plain keys as orjson writes its pairs, if it is sure to."""
    if not fit.are_sure_leaves(value):
        return None
    with suppress(orjson.JSONEncodeError):
        pairs = sorted(value.items(), key=_key_bytes)
        if form := walk.tried(pairs):
            return b"!map" + form
    return None


def _key_bytes(item: tuple[Any, Any]) -> bytes:
    return _dumps(item[0])


def _member_name(key: Any) -> Any:
    """Return the text that *key* is on the wire, if it is one that JSON can spell."""
    for _ in range(MAX_DEPTH):
        if type(key) is str or not is_enum(type(key)):
            break
        key = member_value(key)
    if type(key) is UUID:
        return str(key)
    if type(key) is str and (key.isascii() or not any("\ud800" <= c <= "\udfff" for c in key)):
        return key
    return None


def _uuid(value: UUID, walk: Walk) -> bytes:
    return text(str(value))


_writers: Final[dict[type, Writer]] = {
    type(None): _constant,
    bool: _constant,
    str: _text,
    int: _integer,
    float: write_float,
    list: _array,
    tuple: _array,
    dict: write_mapping,
    UUID: _uuid,
}
for _kind, _writer in _writers.items():
    writes(_kind, _writer)
