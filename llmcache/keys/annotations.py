"""Canonical form of the types that are no classes, as they stand in annotations."""

from __future__ import annotations

import dataclasses
import typing
from types import GenericAlias, UnionType
from typing import Any, Final

from llmcache.attributes import inherits, module_of
from llmcache.errors import UncacheableArgument
from llmcache.keys.plain import text
from llmcache.keys.walk import Walk
from llmcache.keys.writers import Writer, finds

_MODULES: Final = ("typing", "typing_extensions")


def _type(value: Any, walk: Walk) -> bytes:
    kind = type(value).__name__
    if kind == "ForwardRef":
        return text(value.__forward_arg__)
    if kind == "NewType":
        name = text(f"{value.__module__}:{value.__qualname__}")
        return b"!newtype[%b,%b]" % (name, walk.encode(value.__supertype__))
    if kind in {"TypeVar", "ParamSpec", "TypeVarTuple"}:
        return _variable(value, walk)
    if kind == "InitVar":
        return b'!generic["dataclasses:InitVar",%b]' % walk.encode(value.type)
    if kind in {"_SpecialForm", "_TypedCacheSpecialForm"}:
        return _special(value)
    return _alias(value, walk)


def _special(value: Any) -> bytes:
    return text(f"typing:{value._name}")


def _variable(value: Any, walk: Walk) -> bytes:
    """Write a type variable: its kind, its name, and which types it stands for."""
    if again := walk.again(value):
        return again
    walk.number(value)
    bound = walk.encode(getattr(value, "__bound__", None))
    constraints = walk.array(getattr(value, "__constraints__", ()))
    kind = text(type(value).__name__)
    return b"!typevar[%b,%b,%b,%b]" % (kind, text(value.__name__), bound, constraints)


def _alias(value: Any, walk: Walk) -> bytes:
    origin: Any = typing.get_origin(value)
    arguments: tuple[Any, ...] = typing.get_args(value)
    if origin is typing.Union or origin is UnionType:
        forms = [walk.apart("", argument) for argument in arguments]
        return b"!union[%b]" % b",".join(sorted(forms))
    if origin is typing.Literal:
        return b"!literal" + walk.array(arguments)
    if origin is typing.Annotated:
        return b"!annotated" + walk.array((value.__origin__, *value.__metadata__))
    if isinstance(origin, type):
        if not hasattr(value, "__args__"):
            # typing.List is list; but typing.Tuple is not tuple[()].
            return walk.encode(origin)
        name = walk.encode(origin)
    elif type(origin).__name__ in {"_SpecialForm", "_TypedCacheSpecialForm"}:
        name = _special(origin)
    else:
        raise UncacheableArgument("is a type that has no canonical form")
    form = b"!generic[%b]" % b",".join([name, *map(walk.encode, arguments)])
    if getattr(value, "__unpacked__", False):
        return b'!generic["typing:Unpack",%b]' % form
    return form


def _find_type(kind: type) -> Writer | None:
    if inherits(kind, type):
        return None
    known = (
        inherits(kind, GenericAlias)
        or kind is UnionType
        or kind is dataclasses.InitVar
        or module_of(kind) in _MODULES
    )
    return _type if known else None


finds(_find_type)
