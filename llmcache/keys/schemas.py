"""Canonical form of what a class looks like to a model: its JSON schema, or its fields."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any

from llmcache.attributes import (
    class_attribute,
    describe,
    inherits,
    name_of,
    namespace_of,
    per_class,
)
from llmcache.errors import UncacheableArgument
from llmcache.keys.fit import is_enum, member_value
from llmcache.keys.names import is_typed_dict
from llmcache.keys.plain import text
from llmcache.keys.sources import docstring
from llmcache.keys.walk import Walk


@per_class
def _made(kind: type) -> list[tuple[Any, bytes]]:
    """Return where the schema of a class is kept, and what it was made from."""
    return []


def schema_of(kind: type, walk: Walk) -> bytes | None:
    """Return the canonical JSON schema of a class, ``None`` for one that has none."""
    if is_enum(kind):
        members = members_of(kind)
        return walk.encode({name: member_value(member) for name, member in members.items()})
    build = _schema_builder(kind)
    if build is None:
        return None
    if build is _fields_schema:
        return _fields_schema(kind, walk)
    made = _made(kind)
    # A model that is rebuilt gets a new validator, and may have a new schema.
    stamp = namespace_of(kind).get("__pydantic_validator__")
    for known, form in made:
        if known is stamp:
            return form
    try:
        schema = build(kind)
    except Exception as error:  # noqa: BLE001
        raise UncacheableArgument(
            f"is {describe(kind)}, whose JSON schema cannot be made ({type(error).__name__})"
        ) from None
    form = walk.encode(schema)
    made[:] = [(stamp, form)]
    return form


def members_of(kind: type) -> dict[str, Any]:
    """Return the members of an enum by their names, aliases too, and none of another class."""
    return namespace_of(kind)["_member_map_"] if is_enum(kind) else {}


def _schema_builder(kind: type) -> Callable[..., Any] | None:
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic and inherits(kind, pydantic.BaseModel):
        return lambda model: typing.cast(Any, model).model_json_schema()
    msgspec: Any = sys.modules.get("msgspec")
    if msgspec and inherits(kind, msgspec.Struct):
        return _struct_schema
    annotated = (
        class_attribute(kind, "__dataclass_fields__") is not None
        or is_typed_dict(kind)
        or (inherits(kind, tuple) and class_attribute(kind, "_fields") is not None)
        or _attributes_of(kind) is not None
    )
    return _fields_schema if annotated else None


def _struct_schema(kind: type) -> Any:
    """Return the JSON schema of a struct, its docstrings without indentation."""
    schema = sys.modules["msgspec"].json.schema(kind)
    for definition in schema.get("$defs", {}).values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    return schema


def _fields_schema(kind: type, walk: Walk) -> bytes:
    """Return the fields of a class with their types.

    It stands for a JSON schema where only an optional package could make
    one: whether that is installed must not change a key.
    """
    if again := walk.again(kind, "fields"):
        return again
    walk.number(kind, "fields")
    own = own_doc(kind)
    doc = b"null" if own is None else text(own)
    fields, defaults = walk.object(_types_of(kind)), walk.object(_defaults_of(kind))
    required = walk.array(sorted(class_attribute(kind, "__required_keys__") or ()))
    metadata = walk.object(_metadata_of(kind))
    return b"!fields[%b,%b,%b,%b,%b]" % (doc, fields, defaults, required, metadata)


def own_doc(kind: type) -> str | None:
    """Return a class's docstring, unless Python wrote it, which spells types its own way."""
    own = docstring(kind)
    return None if own is None or own.startswith(f"{name_of(kind)}(") else own


def _types_of(kind: type) -> dict[str, Any]:
    """Return the types of a class's fields by name; a field without has any."""
    names = [field.name for field in _attributes_of(kind) or ()]
    types: dict[str, Any] = dict.fromkeys((*(class_attribute(kind, "_fields") or ()), *names), Any)
    try:
        return types | typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise UncacheableArgument(f"is {describe(kind)}, whose fields name {error.name}") from None
    except Exception as error:  # noqa: BLE001
        raise UncacheableArgument(
            f"is {describe(kind)}, whose annotations cannot be read ({type(error).__name__})"
        ) from None


def _attributes_of(kind: type) -> Any:
    """Return what attrs knows of the fields of a class, ``None`` if it did not make it."""
    return class_attribute(kind, "__attrs_attrs__")


def _defaults_of(kind: type) -> dict[str, Any]:
    """Return the defaults of a class's fields, or what makes them, by name."""
    if attributes := _attributes_of(kind):
        nothing = sys.modules["attr"].NOTHING
        return {field.name: field.default for field in attributes if field.default is not nothing}
    if class_attribute(kind, "__dataclass_fields__") is None:
        return dict(class_attribute(kind, "_field_defaults") or {})
    return {
        field.name: field.default if field.default is not dataclasses.MISSING else made
        for field in class_attribute(kind, "__dataclass_fields__").values()
        if (made := field.default_factory) is not dataclasses.MISSING
        or field.default is not dataclasses.MISSING
    }


def _metadata_of(kind: type) -> dict[str, Any]:
    """Return what else a class says of its fields, or does with them, by name."""
    found: dict[str, Any] = {
        field.name: {"converter": field.converter, "validator": field.validator}
        for field in _attributes_of(kind) or ()
        if field.converter is not None or field.validator is not None
    }
    fields = _attributes_of(kind) or (class_attribute(kind, "__dataclass_fields__") or {}).values()
    for field in fields:
        if field.metadata:
            found.setdefault(field.name, {})["metadata"] = dict(field.metadata)
    return found
