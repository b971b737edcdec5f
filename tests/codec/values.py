"""Hypothesis strategies for everything that an entry can hold, and what differs in one place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic_core import TzInfo

from codec import samples
from codec.samples import (
    Access,
    Answer,
    Bits,
    Box,
    Choice,
    Color,
    DeepPoint,
    DictShape,
    Finish,
    FrozenPoint,
    FrozenSlottedPoint,
    Level,
    Node,
    Pair,
    Point,
    Role,
    Shape,
    SlottedPoint,
    Span,
    Tags,
    Usage,
)

any_text = st.text(st.characters(), max_size=8)
names = st.text("abc!é\0", max_size=3)
numbers = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(2**62, 2**66),
    st.integers(-(2**66), -(2**62)),
    st.floats(),
    st.sampled_from([0.0, -0.0, 2**63 - 1, 2**64 - 1, -(2**63), 10**400]),
)
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
zones = st.one_of(
    st.none(),
    st.just(UTC),
    offsets.map(timezone),
    st.builds(timezone, offsets, st.text("xyz", min_size=1, max_size=3)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]).map(ZoneInfo),
    st.integers(-86399, 86399).map(TzInfo),
)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=zones)
paths = st.lists(st.text("ab.", min_size=1, max_size=3), max_size=3).map("/".join)
parts = st.integers() | st.integers(2**64, 2**80)

words = st.one_of(
    st.none(),
    numbers,
    any_text,
    st.binary(max_size=8),
    st.complex_numbers(),
    st.decimals().filter(lambda value: not value.is_snan()),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.builds(lambda time, zone: time.replace(tzinfo=zone), st.times(), zones),
    moments,
    st.builds(lambda moment: moment.replace(fold=1), moments),
    st.timedeltas(),
    st.builds(range, parts, parts, parts.filter(bool)),
    st.just(...),
    paths.map(Path),
    paths.map(PurePosixPath),
    paths.map(PureWindowsPath),
    st.sampled_from([*Color, *Level, *Role, *Finish, *samples.Rich]),
    st.integers(0, 3).map(Access),
    st.integers(0, 15).map(Bits),
)
scalars = st.one_of(
    words,
    st.binary(max_size=8).map(bytearray),
    st.just(Decimal("sNaN")),
    arrays.arrays(
        st.one_of(
            arrays.boolean_dtypes(),
            arrays.integer_dtypes(),
            arrays.floating_dtypes(),
            arrays.complex_number_dtypes(),
            arrays.datetime64_dtypes(),
            arrays.byte_string_dtypes(min_len=1, max_len=4),
        ),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
    st.floats().map(np.float64),
    st.floats(width=32).map(np.float32),
    st.booleans().map(np.bool_),
    st.integers(-100, 100).map(np.int8),
)
keys = st.recursive(
    words,
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.builds(FrozenPoint, inner, inner),
        st.builds(FrozenSlottedPoint, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=3,
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few = st.lists(inner, max_size=3)
    return st.one_of(
        few,
        few.map(tuple),
        st.dictionaries(names, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.builds(_answer, inner, few, st.dictionaries(names, inner, max_size=2)),
        st.builds(_node, inner, few),
        st.builds(Tags.model_construct, few),
        st.builds(_box, inner),
        st.builds(Point, inner, inner),
        st.builds(DeepPoint, inner, inner, inner),
        st.builds(SlottedPoint, inner, inner),
        st.builds(FrozenPoint, inner, inner),
        st.builds(_loose_point, inner, st.dictionaries(st.sampled_from("pq"), inner, max_size=2)),
        st.builds(Pair, inner, inner),
        st.builds(Span, inner, inner),
        st.builds(Shape, inner, few),
        st.builds(DictShape, inner),
    )


def _answer(content: Any, others: list[Any], extra: dict[str, Any]) -> Answer:
    answer = Answer.model_construct(
        id="answer",
        choices=[Choice(index=n) for n in range(len(others))],
        usage=Usage.model_construct(details=content) if others else None,
        content=content,
    )
    answer.__pydantic_extra__ = extra
    answer.__pydantic_private__ = {"_request_id": others or None}
    return answer


def _node(content: Any, others: list[Any]) -> Node:
    children = [Node.model_construct(name=item) for item in others]
    return Node.model_construct(name=content, children=children)


def _box(content: Any) -> Any:
    kind = Box[int] if type(content) is int else Box[Box[int]]
    return kind.model_construct(item=content)


def _loose_point(content: Any, others: dict[str, Any]) -> Point:
    point = Point(content)
    vars(point).update(others)
    return point


ordered = st.recursive(scalars, _containers, max_leaves=8)
"""Values without sets, which are written in the order that they happen to have."""

values = st.recursive(
    st.one_of(scalars, st.sets(keys, max_size=3), st.frozensets(keys, max_size=3)),
    _containers,
    max_leaves=8,
)
"""Values of every kind."""

TWINS = {
    samples.Usage: samples.OtherUsage,
    samples.Point: samples.OtherPoint,
    samples.Pair: samples.OtherPair,
    samples.Shape: samples.OtherShape,
    samples.Box[int]: samples.Box[str],
}
"""Classes that have equal fields with others."""


def changes(value: Any) -> Iterator[Any]:
    """Return copies of *value*, each of which differs in one place."""
    kind = type(value)
    if kind in _LIKE:
        yield from (like for like in _LIKE[kind](value) if type(like) is not kind)
    elif kind is list or kind is tuple:
        yield (tuple if kind is list else list)(value)
        yield kind([*value, None])
        yield from (kind(items) for items in _changed_items(list(value)))
    elif kind is set or kind is frozenset:
        yield (frozenset if kind is set else set)(value)
        yield value | {"another"}
    elif kind is dict:
        yield value | {"another": None}
        if len(value) > 1:
            yield dict(reversed(value.items()))
        yield from (
            dict(zip(value, items, strict=False)) for items in _changed_items(list(value.values()))
        )
    elif isinstance(value, samples.BaseModel):
        yield from _changed_models(value)
    elif isinstance(value, tuple):
        yield tuple(value)
        yield from (tuple.__new__(kind, items) for items in _changed_items(list(value)))
        if kind in TWINS:
            yield tuple.__new__(TWINS[kind], value)
    elif hasattr(kind, "__dataclass_fields__") or attrs.has(kind):
        yield from _changed_objects(value)
    else:
        yield ("not", "this")


def _changed_items(items: list[Any]) -> Iterator[list[Any]]:
    for place, item in enumerate(items):
        for change in changes(item):
            yield [*items[:place], change, *items[place + 1 :]]


def _changed_models(model: Any) -> Iterator[Any]:
    def twin() -> Any:
        found = object.__new__(type(model))
        object.__setattr__(found, "__dict__", dict(model.__dict__))
        for slot in ("fields_set", "extra", "private"):
            held = copy.copy(getattr(model, f"__pydantic_{slot}__"))
            object.__setattr__(found, f"__pydantic_{slot}__", held)
        return found

    for name, item in vars(model).items():
        for change in changes(item):
            changed = twin()
            changed.__dict__[name] = change
            yield changed
        changed = twin()
        del changed.__dict__[name]
        yield changed
    for slot, empty in (("extra", {}), ("private", {})):
        changed = twin()
        held = getattr(changed, f"__pydantic_{slot}__")
        other = empty if held is None else held | {"another": 1}
        object.__setattr__(changed, f"__pydantic_{slot}__", other)
        yield changed
        for items in _changed_items(list((held or {}).values())):
            changed = twin()
            other = dict(zip(held, items, strict=False))
            object.__setattr__(changed, f"__pydantic_{slot}__", other)
            yield changed
    changed = twin()
    changed.__pydantic_fields_set__ ^= {next(iter(type(model).model_fields))}
    yield changed
    if type(model) in TWINS:
        changed = twin()
        object.__setattr__(changed, "__class__", TWINS[type(model)])
        yield changed


def _changed_objects(value: Any) -> Iterator[Any]:
    state = {name: getattr(value, name) for name in _attributes(value)}

    def twin(kind: Any, attributes: dict[str, Any]) -> Any:
        found = object.__new__(kind)
        for name, item in attributes.items():
            object.__setattr__(found, name, item)
        return found

    for items in _changed_items(list(state.values())):
        yield twin(type(value), dict(zip(state, items, strict=False)))
    for name in state:
        yield twin(type(value), {other: state[other] for other in state if other != name})
    if type(value) in TWINS and hasattr(value, "__dict__"):
        yield twin(TWINS[type(value)], state)


def _attributes(value: Any) -> list[str]:
    kind = type(value)
    slots = {slot for base in kind.__mro__ for slot in getattr(base, "__slots__", ())}
    names = [*sorted(slots - {"__weakref__"}), *getattr(value, "__dict__", ())]
    return [name for name in names if hasattr(value, name)]


_LIKE: dict[type, Any] = {
    type(None): lambda value: [0, False, "", "None", [], {}],
    bool: lambda value: [int(value), float(value), str(value)],
    int: lambda value: [value + 1.5 if abs(value) < 2**60 else None, str(value % 10), value == 1],
    float: lambda value: [0, 1, str(value), Decimal(value), complex(value)],
    str: lambda value: [value.encode("utf-8", "replace"), [value], None],
    bytes: lambda value: [bytearray(value), value.hex(), list(value)],
    bytearray: lambda value: [bytes(value)],
}
