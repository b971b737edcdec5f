"""Canonical form of instances: the class, and every attribute.

What says itself how it is keyed comes first, then the known SDKs' clients and
sentinels, then the kinds of classes whose whole state is known, and last any
instance of a class that is written in Python throughout, so that no state can
hide in another language.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from enum import Enum
from functools import cached_property, partial
from pathlib import PurePath
from types import FunctionType, MemberDescriptorType
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

from llmcache import clients
from llmcache.attributes import (
    attributes_of,
    class_attribute,
    describe,
    dictionary_reader,
    inherits,
    is_plain,
    lineage,
    module_of,
    name_of,
    namespace_of,
    per_class,
    qualified,
    reader_of,
    slots_of,
)
from llmcache.errors import ConfigurationError, UncacheableArgument
from llmcache.keys.classes import class_name
from llmcache.keys.fit import is_enum, member_value
from llmcache.keys.plain import text
from llmcache.keys.sources import sets_attributes
from llmcache.keys.values import data_form, is_path_class, path_form, shape_form
from llmcache.keys.walk import Walk
from llmcache.keys.writers import Writer, finds, finds_first, writes

T = TypeVar("T")

_Reader: TypeAlias = Callable[[Any], dict[str, Any]]

_JSON_KINDS: Final = (type(None), bool, int, float, str, list, tuple, dict)
_CONTAINERS: Final = (OrderedDict, defaultdict, Counter)

# By their addresses, which live as long as they are held here.
_registered: Final[dict[int, tuple[type, Callable[[Any], Any]]]] = {}
_registering: Final = threading.RLock()


def register_key(kind: type[T], function: Callable[[T], Any]) -> None:
    """Say how instances of a class count in keys: by what *function* returns for them.

    It holds for instances of subclasses, too, unless they are registered
    themselves; the class stays part of the key. A method ``__llmcache_key__``
    on a class of your own does the same.

    Args:
        kind: a class, but none that JSON has a word for, no enum and no `UUID`.
        function: gets an instance and returns any value with a canonical form.

    Raises:
        ConfigurationError: if *kind* is no such class.

    Example:
        >>> import llmcache
        >>> class Tool:
        ...     def __init__(self, name: str) -> None:
        ...         self.name, self.lock = name, object()
        >>> llmcache.register_key(Tool, lambda tool: tool.name)
    """
    if not isinstance(kind, type) or kind in _JSON_KINDS or issubclass(kind, Enum | UUID):
        raise ConfigurationError(f"{kind!r} cannot be given a key of its own")
    with _registering:
        _registered[id(kind)] = kind, function
        writes(kind, _keyed)


def subject(owner: Any) -> bytes:
    """Return the canonical form of what a function is bound to: an instance or a class.

    An instance without attributes is its class: there is nothing else that a
    method could answer from.
    """
    walk = Walk()
    if isinstance(owner, type):
        return b"!owner[%b]" % class_name(owner, walk)
    kind = type(owner)
    if _own_key(kind) is None and _is_askable(kind) and not state_reader(kind)(owner):
        return b"!object[%b,{}]" % class_name(kind, walk)
    return walk.encode(owner)


def _own_key(kind: type) -> Writer | None:
    return _keyed if any(map(_says_its_key, lineage(kind))) else None


def _keyed(value: Any, walk: Walk) -> bytes:
    kind = type(value)
    key = _key_function(kind)(value)
    return b"!keyed[%b,%b]" % (class_name(kind, walk), walk.encode(key))


def _key_function(kind: type) -> Callable[[Any], Any]:
    """Return what says how instances of a class are keyed, without asking a metaclass."""
    base = next(base for base in lineage(kind) if _says_its_key(base))
    known = _registered.get(id(base))
    if known is not None:
        return known[1]
    held = namespace_of(base)["__llmcache_key__"]
    get = class_attribute(type(held), "__get__")
    return held if get is None else get(held, None, kind)  # type: ignore[no-any-return]


def _says_its_key(kind: type) -> bool:
    return id(kind) in _registered or "__llmcache_key__" in namespace_of(kind)


def _enum(kind: type) -> Writer | None:
    return write_member if is_enum(kind) else None


def write_member(value: Enum, walk: Walk) -> bytes:
    return walk.encode(member_value(value))


def _client(kind: type) -> Writer | None:
    return _client_settings if clients.is_known(kind) else None


def _client_settings(value: Any, walk: Walk) -> bytes:
    client = clients.client_of(value)
    if client is None:
        raise UncacheableArgument(f"is {describe(type(value))} without a client")
    return b"!client[%b,%b,%b,%b]" % (
        class_name(type(value), walk),
        class_name(type(client), walk),
        walk.encode(clients.settings(client)),
        walk.encode(clients.own_attributes(client)),
    )


def _sentinel(kind: type) -> Writer | None:
    return _sentinel_class if clients.is_sentinel(kind) else None


def _sentinel_class(value: Any, walk: Walk) -> bytes:
    return b"!sentinel[%b]" % class_name(type(value), walk)


def _model(kind: type) -> Writer | None:
    pydantic = sys.modules.get("pydantic")
    return write_model if pydantic and inherits(kind, pydantic.BaseModel) else None


def write_model(value: Any, walk: Walk) -> bytes:
    kind = type(value)
    known, fields_of, extra_of, private_of = walk.plan(kind, model_plan)
    fields = fields_of(value)
    if fields.keys() != known.keys():
        fields = {name: item for name, item in fields.items() if name in known}
    try:
        extra, private = extra_of(value), private_of(value)
    except AttributeError:
        raise UncacheableArgument(f"is an unfinished {qualified(kind)}") from None
    return b"!model[%b,%b,%b,%b]" % (
        class_name(kind, walk),
        walk.record(fields),
        walk.record(extra) if extra else b"{}",
        walk.record(private) if private else b"{}",
    )


def model_plan(kind: type) -> tuple[dict[str, Any], _Reader, _Reader, _Reader]:
    """Return a model's fields, and what reads their values, the extra and the private ones."""
    fields: dict[str, Any] = class_attribute(kind, "__pydantic_fields__")
    extra_of, private_of = _slot(kind, "__pydantic_extra__"), _slot(kind, "__pydantic_private__")
    return fields, dictionary_reader(kind), extra_of, private_of


def _slot(kind: type, name: str) -> Callable[[Any], Any]:
    """Return what reads a slot of pydantic's, or what a class has for all its instances."""
    held = class_attribute(kind, name)
    return held.__get__ if type(held) is MemberDescriptorType else lambda model: held


def _struct(kind: type) -> Writer | None:
    msgspec = sys.modules.get("msgspec")
    return write_struct if msgspec and inherits(kind, msgspec.Struct) else None


def write_struct(value: Any, walk: Walk) -> bytes:
    kind = type(value)
    state = walk.plan(kind, reader_of)(value)
    return b"!object[%b,%b]" % (class_name(kind, walk), walk.record(state))


def _array(kind: type) -> Writer | None:
    numpy = sys.modules.get("numpy")
    if numpy and kind is numpy.ndarray:
        return _array_parts
    scalar = numpy and inherits(kind, numpy.generic) and module_of(kind) == "numpy"
    return write_scalar if scalar and vars(numpy).get(name_of(kind)) is kind else None


def _array_parts(value: Any, walk: Walk) -> bytes:
    kind = value.dtype
    if kind.names is not None:
        return _record_parts(value, walk)
    if kind.type.__module__ != "numpy":
        # Others may have the same name, or hold addresses.
        raise UncacheableArgument("is an array of a type that is not numpy's own")
    shape, dtype = shape_form(value.shape), text(kind.str)
    if kind.hasobject:
        return b"!ndarray[%b,%b,%b]" % (dtype, shape, walk.encode(value.tolist()))
    return b"!ndarray[%b,%b,%b]" % (dtype, shape, data_form(value.tobytes()))


def write_scalar(value: Any, walk: Walk) -> bytes:
    if value.dtype.names is not None:
        raise UncacheableArgument("is a structured numpy scalar")
    return b"!numpy[%b,%b]" % (text(value.dtype.str), data_form(value.tobytes()))


def _record_parts(value: Any, walk: Walk) -> bytes:
    """Return the fields of a structured array, without the bytes between them."""
    fields = [b"[%b,%b]" % (text(n), walk.encode(value[n])) for n in value.dtype.names]
    return b"!record[%b,[%b]]" % (shape_form(value.shape), b",".join(fields))


def _path(kind: type) -> Writer | None:
    return _path_parts if inherits(kind, PurePath) else None


def _path_parts(value: Any, walk: Walk) -> bytes:
    """Write an instance of a subclass of a path, without what the path keeps for later."""
    kind = type(value)
    base = next(base for base in lineage(kind) if is_path_class(base))
    kept = {slot for ancestor in lineage(base) for slot in slots_of(ancestor)}
    own = {name: item for name, item in attributes_of(value).items() if name not in kept}
    path = path_form(base, PurePath.__str__(value))
    return b"!as[%b,%b,%b]" % (class_name(kind, walk), path, walk.encode(own))


def _builtin_subclass(kind: type) -> Writer | None:
    if any(kind is container for container in _CONTAINERS):
        return write_subclass
    plain = is_plain(kind, *_BASES, *_CONTAINERS)
    return write_subclass if plain and _base_of(kind) is not object else None


def write_subclass(value: Any, walk: Walk) -> bytes:
    kind = type(value)
    whole_of, attributes_of = walk.plan(kind, subclass_plan)
    return b"!as[%b,%b,%b]" % (
        class_name(kind, walk),
        walk.encode(whole_of(value)),
        walk.record(attributes_of(value)),
    )


def subclass_plan(kind: type) -> tuple[Callable[[Any], Any], _Reader]:
    """Return what reads the value of a subclass's instance as its base's, and its attributes."""
    _check_settled(kind)
    base, attributes_of = _base_of(kind), reader_of(kind)
    names = class_attribute(kind, "_fields")
    if base is tuple and isinstance(names, tuple):
        return partial(_items_by_name, names), attributes_of
    if not inherits(kind, defaultdict):
        return _BASES[base], attributes_of
    return _BASES[base], lambda value: {
        **attributes_of(value),
        "default_factory": _default_factory(value),
    }


def _items_by_name(names: tuple[str, ...], value: Any) -> dict[str, Any]:
    try:
        return dict(zip(names, tuple.__iter__(value), strict=True))
    except ValueError:
        raise UncacheableArgument("is a named tuple whose items are not its fields") from None


_default_factory: Final[Any] = vars(defaultdict)["default_factory"].__get__

_BASES: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    int: int.__index__,
    float: float.__float__,
    tuple: lambda value: list(tuple.__iter__(value)),
    list: lambda value: list(list.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


def _base_of(kind: type) -> type:
    """Return the JSON-like class that *kind* is a subclass of, `object` for none."""
    return next((base for base in _BASES if inherits(kind, base)), object)


def _instance(kind: type) -> Writer | None:
    return write_instance if _is_askable(kind) else None


def write_instance(value: Any, walk: Walk) -> bytes:
    kind = type(value)
    state = walk.plan(kind, state_reader)(value)
    if not state and class_attribute(kind, "__dataclass_fields__") is None:
        raise UncacheableArgument(
            f"is {describe(kind)} without attributes, which only its address tells from another"
        )
    return b"!object[%b,%b]" % (class_name(kind, walk), walk.record(state))


# Python asks for these by itself: whoever compares, sorts or prints.
_ASKED: Final = (
    *("__hash__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__repr__"),
    *("__str__", "__format__", "__bool__", "__len__", "__contains__", "__iter__"),
)


def _check_settled(kind: type) -> None:
    """Refuse instances that change when they are merely looked at: they would have two keys."""
    if name := _unsettling(kind):
        raise UncacheableArgument(f"is {describe(kind)}, whose {name} may change it")


@per_class
def _unsettling(kind: type) -> str | None:
    """Return the name of a method that Python itself calls, and that sets attributes."""
    for name in _ASKED:
        method = class_attribute(kind, name)
        if type(method) is FunctionType and sets_attributes(method):
            return name
    return None


def state_reader(kind: type) -> _Reader:
    """Return what reads the attributes of instances, but for what is computed and kept there."""
    _check_settled(kind)
    attributes_of, caches = reader_of(kind), _caches_of(kind)
    if not caches:
        return attributes_of
    return lambda value: {k: v for k, v in attributes_of(value).items() if k not in caches}


@per_class
def _caches_of(kind: type) -> set[str]:
    """Return the attributes in which the instances of a class keep what follows from others."""
    found: set[str] = set()
    for base in lineage(kind):
        own = namespace_of(base)
        found.update(name for name, item in own.items() if type(item) is cached_property)
        if "__attrs_attrs__" in own:
            fields = {field.name for field in own["__attrs_attrs__"]}
            found.update({"_attrs_cached_hash", *slots_of(base)} - fields)
    return found


def _is_askable(kind: type) -> bool:
    """Say whether instances of a class may count in a key by their attributes.

    What the standard library's classes hold (locks, queues, caches) is not
    what a caller asks for: those that are keyed are keyed by name.
    """
    return is_plain(kind) and module_of(kind).partition(".")[0] not in sys.stdlib_module_names


for _finder in (
    _enum,
    _client,
    _sentinel,
    _model,
    _struct,
    _array,
    _path,
    _builtin_subclass,
    _instance,
):
    finds(_finder)
finds_first(_own_key)
