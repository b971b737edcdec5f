"""Models that pydantic makes of their records, without asking any of their classes.

That is for values that are models and plain JSON all through. A record is a
mapping of the fields and the extra values; fields that are ``None`` and were
not given are left out. The validator is made of the shapes in the entry, not
of the classes' schemas: it takes every value as it is, and so makes models
that never were valid as well, and runs no code of theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice, takewhile
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from llmcache.attributes import class_attribute, lineage, namespace_of
from llmcache.codec import models
from llmcache.codec.kinds import class_of
from llmcache.codec.models import Reader
from llmcache.codec.plans import Plans
from llmcache.codec.shapes import Read, Shape, check_fields
from llmcache.codec.ways import Ways
from llmcache.codec.writer import ROOT, TAG, TreeWriter

_SLOTS: Final = (
    "__dict__",
    "__pydantic_extra__",
    "__pydantic_fields_set__",
    "__pydantic_private__",
)
_MOST: Final = 64
"""Validators of more models than this take long to make: what is shared is made again."""
_MOST_FIELDS: Final = 4096
"""Likewise of more fields altogether."""
_FEW: Final = 64
"""Plain values that cannot nest as deep as pydantic stops reading."""
_SLOW: Final = b"\\" + bytes(range(0x80, 0x100))
"""Bytes in texts, escapes and parts of letters, over which orjson is quicker than pydantic."""

_dumps = orjson.dumps
_loads = orjson.loads

_Schema: TypeAlias = "dict[str, Any]"
_ANY: Final[_Schema] = {"type": "any"}
_GIVEN: Final[_Schema] = {"type": "model-field", "schema": _ANY}
_MAYBE: Final[_Schema] = {
    "type": "model-field",
    "schema": {"type": "default", "schema": _ANY, "default": None},
}


class NoRecord(Exception):
    """A value that is not models and plain JSON all through."""


def is_record(kind: type) -> bool:
    """Say whether pydantic can make instances of a class that know nothing of it."""
    return models.is_model(kind) and _is_bare(kind)


def _is_bare(kind: type) -> bool:
    """Say whether a model's class has no part in how instances come to be and hold their state."""
    base = sys.modules["pydantic"].BaseModel
    return (
        type(kind) is type(base)
        and class_attribute(kind, "__new__") is object.__new__
        and not any(
            slot in namespace_of(one)
            for one in takewhile(lambda one: one is not base, lineage(kind))
            for slot in _SLOTS
        )
        # Without that option the classes' own validators stand in for those of their schemas.
        and "_use_prebuilt" in (_core().SchemaValidator.__text_signature__ or "")
    )


def _core() -> Any:
    return sys.modules["pydantic_core"]


def write(value: Any, ways: Ways) -> bytes:
    """Return the payload of *value*.

    Raises:
        NoRecord: if it has no record.
        UncacheableValue: as `tree.encode` does.
    """
    writer = _RecordWriter(ways)
    first = value[0] if type(value) is list and value else value
    if not writer.is_model(type(first)):
        raise NoRecord
    readers: dict[str, Reader] = {}
    tree = _dumps(writer.field(ROOT, value, readers))
    return _dumps([*writer.shapes, [readers[ROOT], writer.is_quick(tree)]]) + b"\n" + tree


class _RecordWriter(TreeWriter):
    def __init__(self, ways: Ways) -> None:
        super().__init__(ways)
        self._models = 0
        self._items = 0
        self._sizes: dict[int, tuple[int, int]] = {}

    def is_quick(self, tree: bytes) -> bool:
        """Say whether pydantic reads *tree* quicker than orjson: while it is mostly models."""
        few = min(5 * self._models, _FEW)
        slow = len(tree) - len(tree.translate(None, _SLOW))
        return self._items <= few and 24 * slow <= len(tree) + 1024 * self._models

    def _tag(self, tag: str | int, *content: Any) -> dict[str, Any]:
        raise NoRecord

    def _container(self, value: Any, kind: type) -> Any:
        if kind is list or kind is dict:
            self._items += len(value)
        return super()._container(value, kind)

    def _model(self, model: Any) -> tuple[int, Any]:
        attributes, extra, private = models.parts_of(model)
        given = models.fields_set_of(model)
        if not _is_bare(type(model)) or TAG in attributes:
            raise NoRecord
        readers: dict[str, Reader] = {}
        record = {
            name: self.field(name, item, readers)
            for name, item in attributes.items()
            if item is not None or name in given
        }
        if extra:
            if not extra.keys().isdisjoint(attributes):
                raise NoRecord
            record |= self.write(extra)
        shape = models.shape_of(model, [extra is not None, private is not None], readers)
        if private is not None:
            record[TAG] = self.write(private)
        elif record.keys() == given:
            shape[3] = None
        places = [_place_of(reader) for reader in readers.values()]
        size = 1 + sum(self._sizes[place][0] for place in places)
        count = len(attributes) + sum(self._sizes[place][1] for place in places)
        if size > _MOST or count > _MOST_FIELDS:
            raise NoRecord
        place = self._place(shape)
        self._sizes[place] = size, count
        self._models += 1
        return place, record


class _Part(NamedTuple):
    """What pydantic makes the models of one shape by, and how many models and fields it has."""

    schema: _Schema
    size: int
    fields: int


def _part_for(shape: Shape, parts: list[_Part]) -> _Part:
    _, name, mark, given, (common, *others), has_extra, has_private, readers = shape
    kind = class_of(shape, is_record)
    check_fields(name, mark, models.names_of(kind))
    names = [*islice(models.fields_of(kind), common), *others]
    nested = {field: _part_of(reader, parts) for field, reader in readers.items()}
    size = 1 + sum(part.size for part in nested.values())
    count = len(names) + sum(part.fields for part in nested.values())
    if size > _MOST or count > _MOST_FIELDS:
        raise ValueError("too many models or fields in one another")
    fields = dict.fromkeys(names, _MAYBE)
    for field, part in nested.items():
        fields[field] = {"type": "model-field", "schema": part.schema}
    if has_private:
        fields[TAG] = _GIVEN
    record = {"type": "model-fields", "fields": fields}
    if has_extra:
        record["extra_behavior"] = "allow"
    schema: _Schema = {"type": "model", "cls": kind, "schema": record}
    if given is not None:
        finish = _finisher(
            {names[one] if type(one) is int else one for one in given}, has_private=has_private
        )
        function = {"type": "no-info", "function": finish}
        schema = {"type": "function-after", "function": function, "schema": schema}
    return _Part(schema, size, count)


def _part_of(reader: Reader, parts: list[_Part]) -> _Part:
    part = parts[_place_of(reader)]
    if isinstance(reader, list):
        return part._replace(schema={"type": "list", "items_schema": part.schema})
    return part


def _place_of(reader: Reader) -> int:
    place = reader[0] if isinstance(reader, list) else reader
    if place is None or place < 0:
        raise ValueError("no shape")
    return place


def _finisher(given: set[str], *, has_private: bool) -> Callable[[Any], Any]:
    """Return what sets the state of a model that its record does not say."""
    copy_fields = given.copy
    members = models.common_members()
    dictionary = members["__dict__"].__get__
    set_fields = members["__pydantic_fields_set__"].__set__
    set_private = members["__pydantic_private__"].__set__

    def finish(model: Any) -> Any:
        set_fields(model, copy_fields())
        return model

    def finish_with_private(model: Any) -> Any:
        private = dictionary(model).pop(TAG)
        if type(private) is not dict:
            raise ValueError("no values by name")
        set_private(model, private)
        set_fields(model, copy_fields())
        return model

    return finish_with_private if has_private else finish


def _reader_for(root: Any, parts: list[_Part]) -> Read:
    reader, is_quick = root
    schema = _part_of(reader, parts).schema
    validator = _core().SchemaValidator(schema, _use_prebuilt=False)
    if is_quick:
        return validator.validate_json  # type: ignore[no-any-return]
    make = validator.validate_python
    return lambda tree: make(_loads(tree))


PLANS: Final = Plans(_part_for, _reader_for)
