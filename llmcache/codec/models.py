"""pydantic models, which most answers are: written as records, and read by their shapes.

A record is a mapping of the fields that are not ``None``. Where a field holds
models, the shape says which, so that nothing in the record needs a tag and
nothing has to be looked for when it is read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

from llmcache.attributes import class_attribute, dictionary_of, inherits, lineage, slots_of
from llmcache.codec import classes
from llmcache.codec.kinds import acts_when_gone, is_registered
from llmcache.codec.shapes import Build, Read, Shape, check_fields, fingerprint
from llmcache.errors import UncacheableValue

NAME: Final = "pydantic"

Reader: TypeAlias = "int | list[int] | None"
"""JSON: a model of this shape, a list of them, or anything that may hold tags."""

# How a model's extra or private values are: not there, none, plain, or with tags in them.
_NOT: Final = 0
_EMPTY: Final = 1
_PLAIN: Final = 2
_TAGGED: Final = 3


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
    descriptor = common_members()[name]
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


def common_members() -> Mapping[str, Any]:
    """Return what pydantic has for all models, the descriptors of their state among it."""
    return vars(sys.modules["pydantic"].BaseModel)  # type: ignore[no-any-return]


def form_of(values: Any, *, tagged: bool) -> int:
    """Return how a model's extra or private values are."""
    return _NOT if values is None else _EMPTY if not values else _TAGGED if tagged else _PLAIN


def shape_of(model: Any, forms: Sequence[int], readers: dict[str, Reader]) -> Shape:
    """Return what *model* shares with others.

    Args:
        model: the model.
        forms: how its extra and its private values are.
        readers: how its fields are read that are not plain.
    """
    kind = type(model)
    names = list(dictionary_of(model))
    fields_set = fields_set_of(model)
    if any(type(name) is not str for name in fields_set):
        raise UncacheableValue("the result is a model with fields set that are no names")
    places = {name: place for place, name in enumerate(names)}
    given = [places.get(name, name) for name in fields_set]
    common = _common(names, fields_of(kind))
    return [
        NAME,
        classes.name_of(kind),
        fingerprint(names_of(kind)),
        sorted(given, key=str),
        [common, *names[common:]],
        *forms,
        readers,
    ]


def builder(kind: Any, shape: Shape, reads: dict[str, Read], read_others: Read) -> Build:
    """Return what makes a model of *shape* from its record, and then its extra and private values.

    Args:
        kind: the class.
        shape: as `shape_of` made it.
        reads: what reads the fields that are not plain.
        read_others: what reads extra and private values that are not plain.

    Raises:
        ClassGone: if the class has changed.
    """
    _, name, mark, given, (common, *others), extra_form, private_form, _ = shape
    check_fields(name, mark, names_of(kind))
    names = [*islice(fields_of(kind), common), *others]
    blank = dict.fromkeys(names)
    copy_fields = {names[one] if type(one) is int else one for one in given}.copy
    nested = tuple(reads.items())
    has_extra, has_private = extra_form > _NOT, private_form > _NOT
    some_extra, some_private = extra_form > _EMPTY, private_form > _EMPTY
    tagged_extra, tagged_private = extra_form == _TAGGED, private_form == _TAGGED
    new = object.__new__
    members = common_members()
    set_dict = members["__dict__"].__set__
    set_fields = members["__pydantic_fields_set__"].__set__
    set_extra = members["__pydantic_extra__"].__set__
    set_private = members["__pydantic_private__"].__set__

    def build(parts: list[Any]) -> Any:
        record = parts[0]
        for field, read in nested:
            record[field] = read(record[field])
        model = new(kind)
        set_dict(model, blank | record)
        set_fields(model, copy_fields())
        set_extra(model, {} if has_extra else None)
        set_private(model, {} if has_private else None)
        return model

    # Two of a kind: one more call, or what few models need, is a good part of the time.
    def build_with_others(parts: list[Any]) -> Any:
        record = parts[0]
        for field, read in nested:
            record[field] = read(record[field])
        extra = parts[1] if some_extra else {} if has_extra else None
        if tagged_extra:
            extra = read_others(extra)
        private = parts[-1] if some_private else {} if has_private else None
        if tagged_private:
            private = read_others(private)
        if (some_extra and type(extra) is not dict) or (some_private and type(private) is not dict):
            raise ValueError("no values by name")
        model = new(kind)
        set_dict(model, blank | record)
        set_fields(model, copy_fields())
        set_extra(model, extra)
        set_private(model, private)
        return model

    return build_with_others if some_extra or some_private else build


def names_of(kind: Any) -> list[str]:
    """Return the names of a class's fields and private attributes, by which it is known again."""
    return [*fields_of(kind), *class_attribute(kind, "__private_attributes__")]


def fields_of(kind: type) -> dict[str, Any]:
    """Return the fields of a class by name."""
    return class_attribute(kind, "__pydantic_fields__")  # type: ignore[no-any-return]


def _common(names: Iterable[Any], others: Iterable[Any]) -> int:
    """Return how many names both begin with."""
    number = 0
    for name, other in zip(names, others, strict=False):
        if name != other:
            break
        number += 1
    return number
