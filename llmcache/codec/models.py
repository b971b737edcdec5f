"""pydantic models, which most answers are: written as records, and read by their shapes.

A record is a mapping of the fields that are not ``None``. Where a field holds
models, the shape says which, so that nothing in the record needs a tag and
nothing has to be looked for when it is read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from llmcache.attributes import class_attribute, dictionary_of, inherits, lineage, slots_of
from llmcache.codec import classes
from llmcache.codec.kinds import (
    Build,
    Shape,
    acts_when_gone,
    check_fields,
    fingerprint,
    is_registered,
)
from llmcache.errors import UncacheableValue

NAME: Final = "pydantic"

Reader: TypeAlias = "int | list[int] | None"
"""JSON: a model of this shape, a list of them, or anything that may hold tags."""

Read: TypeAlias = "Callable[[Any], Any]"

# How a model's extra or private values are: not there, none, or some.
_NOT: Final = 0
_EMPTY: Final = 1
_SOME: Final = 2


def is_model(kind: type) -> bool:
    """Say whether a class is a pydantic model whose whole state pydantic knows."""
    pydantic = sys.modules.get("pydantic")
    return (
        pydantic is not None
        and inherits(kind, pydantic.BaseModel)
        and all(base is pydantic.BaseModel or not slots_of(base) for base in lineage(kind))
        and not acts_when_gone(kind)
        and not is_registered(kind)
    )


def parts_of(model: Any) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any] | None]:
    """Return a model's attributes, extra values and private values.

    Raises:
        UncacheableValue: if pydantic has not finished it.
    """
    return (
        dictionary_of(model),
        _slot(model, "__pydantic_extra__"),
        _slot(model, "__pydantic_private__"),
    )


def fields_set_of(model: Any) -> set[str]:
    """Return the names of the fields that a model was given.

    Raises:
        UncacheableValue: if pydantic has not finished it.
    """
    return _slot(model, "__pydantic_fields_set__")  # type: ignore[no-any-return]


def _slot(model: Any, name: str) -> Any:
    descriptor = _members()[name]
    try:
        return descriptor.__get__(model)
    except AttributeError:
        # A RootModel has some of them in its class, for all its instances.
        shared = class_attribute(type(model), name)
        if shared is not descriptor:
            return shared
        raise _unfinished(model) from None


def _unfinished(model: Any) -> UncacheableValue:
    return UncacheableValue(f"the result holds an unfinished {type(model).__qualname__}")


def _members() -> Mapping[str, Any]:
    return vars(sys.modules["pydantic"].BaseModel)  # type: ignore[no-any-return]


def shape_of(model: Any, readers: dict[str, Reader]) -> Shape:
    """Return what *model* shares with others, given how its fields are read."""
    kind = type(model)
    attributes, extra, private = parts_of(model)
    return [
        NAME,
        classes.name_of(kind),
        fingerprint(_names(kind)),
        sorted(fields_set_of(model)),
        list(attributes),
        _form(extra),
        _form(private),
        readers,
    ]


def builder(kind: Any, shape: Shape, reads: dict[str, Read], read_others: Read) -> Build:
    """Return what makes a model of *shape* from its record, and then its extra and private values.

    Args:
        kind: the class.
        shape: as `shape_of` made it.
        reads: what reads the fields that are not plain.
        read_others: what reads extra and private values.

    Raises:
        ClassGone: if the class has changed.
    """
    _, name, mark, names_set, names, extra_form, private_form, _ = shape
    check_fields(name, mark, _names(kind))
    new = object.__new__
    members = _members()
    set_dict = members["__dict__"].__set__
    set_fields = members["__pydantic_fields_set__"].__set__
    set_extra = members["__pydantic_extra__"].__set__
    set_private = members["__pydantic_private__"].__set__
    fields_set, blank = set(names_set), dict.fromkeys(names)
    nested = list(reads.items())
    has_extra, some_extra = extra_form != _NOT, extra_form == _SOME
    has_private, some_private = private_form != _NOT, private_form == _SOME

    def build(parts: list[Any]) -> Any:
        record = parts[0]
        for field, read in nested:
            record[field] = read(record[field])
        state = blank.copy()
        state.update(record)
        model = new(kind)
        set_dict(model, state)
        set_fields(model, fields_set.copy())
        set_extra(model, read_others(parts[1]) if some_extra else {} if has_extra else None)
        set_private(model, read_others(parts[-1]) if some_private else {} if has_private else None)
        return model

    return build


def _names(kind: Any) -> list[str]:
    return [*kind.__pydantic_fields__, *kind.__private_attributes__]


def _form(values: dict[str, Any] | None) -> int:
    return _NOT if values is None else _SOME if values else _EMPTY
