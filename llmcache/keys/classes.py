"""Canonical names of classes: where a name is not enough, all that a class is made of."""

from __future__ import annotations

import functools
import typing
from types import FunctionType
from typing import Any, Final

from llmcache.attributes import (
    NATIVE,
    bases_of,
    class_attribute,
    describe,
    inherits,
    is_heap_type,
    module_of,
    namespace_of,
    qualname_of,
)
from llmcache.errors import UncacheableArgument
from llmcache.keys import annotations as _annotations  # noqa: F401
from llmcache.keys.fit import is_enum
from llmcache.keys.identity import closure_form, defaults_of
from llmcache.keys.names import (
    full_name,
    functions,
    holds,
    is_transparent,
    layers,
)
from llmcache.keys.plain import text
from llmcache.keys.schemas import members_of, own_doc, schema_of
from llmcache.keys.sources import (
    class_source,
    function_source,
    is_made_by_library,
    is_written_by_users,
)
from llmcache.keys.walk import Walk
from llmcache.keys.writers import Writer, finds

# What Python and the makers of classes note for themselves, some versions of
# them only. All of it follows from what else is written of a class.
_HOUSEKEEPING: Final = frozenset(
    {
        *("__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__"),
        *("__annotations_cache__", "__class_vars__", "__closed__", "__dict__"),
        *("__dataclass_fields__", "__dataclass_params__", "__extra_items__", "__firstlineno__"),
        *("__hash__", "__match_args__", "__module__", "__mutable_keys__", "__optional_keys__"),
        *("__orig_bases__", "__parameters__", "__protocol_attrs__"),
        *("__callable_proto_members_only__", "__non_callable_proto_members__", "__qualname__"),
        *("__readonly_keys__", "__required_keys__", "__signature__", "__slotnames__"),
        *("__slots__", "__static_attributes__", "__total__", "__weakref__"),
        *("_abc_impl", "_is_protocol", "_is_runtime_protocol"),
    }
)
_METHODS: Final = (staticmethod, classmethod)
_HOUSEKEEPERS: Final = ("__attrs_", "__pydantic_", "__struct_")


def class_name(kind: type, walk: Walk) -> bytes:
    """Return the canonical name of a class.

    It is ``module:qualname`` where the module holds the class under that
    name. A generic model is its origin and its arguments. Any other class is
    its name, its source and what it is made of.

    Raises:
        UncacheableArgument: if the class has neither a module that holds it
            nor a source.
    """
    if name := walk.names.get(id(kind)) or walk.again(kind):
        return name
    if _is_built_in(kind):
        return text(f"builtins:{qualname_of(kind)}")
    generic = _parameters_of(kind)
    if generic.get("origin"):
        arguments = [walk.encode(argument) for argument in generic["args"]]
        return b"!generic[%b]" % b",".join([class_name(generic["origin"], walk), *arguments])
    if name := _held_name(kind, walk):
        return name
    module, qualname = full_name(kind)
    name = text(f"{module}:{qualname}")
    walk.number(kind)
    source = class_source(kind)
    schema = schema_of(kind, walk)
    made = _made_of(kind, walk, annotated=schema is None)
    if source is not None:
        return b'!local[%b,"%b",%b,%b]' % (name, source.encode(), made, schema or b"null")
    if schema is None:
        raise UncacheableArgument(
            f"is or has {describe(kind)}, which no module holds and which has no source"
        )
    return b"!made[%b,%b,%b]" % (name, made, schema)


def _is_built_in(kind: type) -> bool:
    return module_of(kind) == "builtins" and not is_heap_type(kind)


def _parameters_of(kind: type) -> dict[str, Any]:
    """Return what pydantic notes of a parametrised model: its origin and its arguments."""
    return namespace_of(kind).get("__pydantic_generic_metadata__") or {}


def _held_name(kind: type, walk: Walk) -> bytes | None:
    """Return the name under which a module holds a class, ``None`` if none does."""
    module, qualname = full_name(kind)
    if not holds(module, qualname, kind):
        return None
    walk.hold(kind)
    name = walk.names[id(kind)] = text(f"{module}:{qualname}")
    return name


def _made_of(kind: type, walk: Walk, *, annotated: bool) -> bytes:
    """Return a class's metaclass, its bases, its attributes and its annotations.

    Its source says the rest, but not what it got from a function around it,
    or from another turn of a loop. Its schema may say the annotations already.
    """
    metaclass = b"null" if is_made_by_library(type(kind)) else class_name(type(kind), walk)
    bases = [class_name(base, walk) for base in bases_of(kind)]
    bases += [
        walk.encode(b) for b in namespace_of(kind).get("__orig_bases__", ()) if typing.get_origin(b)
    ]
    members = [
        b"%b:%b" % (text(name), _member_form(kind, name, member, walk))
        for name, member in sorted(namespace_of(kind).items())
        if _counts(kind, name, member)
    ]
    annotations = namespace_of(kind).get("__annotations__", {}) if annotated else {}
    hints = walk.object(annotations)
    return b"[%b,[%b],{%b},%b]" % (metaclass, b",".join(bases), b",".join(members), hints)


def _counts(kind: type, name: str, member: Any) -> bool:
    if name in _HOUSEKEEPING or name.startswith(_HOUSEKEEPERS):
        return False
    if name == "__doc__":
        return own_doc(kind) is not None
    if name not in members_of(kind) and is_enum(kind) and _is_sunder(name):
        return False
    function: Any = member.__func__ if type(member) in _METHODS else member
    if type(function) is FunctionType:
        return any(is_written_by_users(layer) for layer in functions(function))
    return name not in (class_attribute(kind, "_fields") or ()) and type(member) not in NATIVE


def _is_sunder(name: str) -> bool:
    """Say whether a name is one of those that `enum` keeps for itself."""
    return (name[:1] == name[-1:] == "_" and name[1:2] != "_") or name == "__new_member__"


def _member_form(kind: type, name: str, member: Any, walk: Walk) -> bytes:
    """Return the canonical form of an attribute of a class."""
    if name in members_of(kind):
        return walk.part(f".{name}", members_of(kind)[name])
    if name == "__doc__":
        return walk.encode(own_doc(kind))
    if inherits(type(member), type):
        return class_name(member, walk)
    parts = _parts_of(member)
    if parts is not None:
        return b"[%b]" % b",".join([_member_form(kind, name, part, walk) for part in parts])
    stack = functions(member)
    if not stack:
        return walk.part(f".{name}", member)
    new = [function for function in stack if walk.number(function)]
    forms = []
    for layer in layers(member):
        if not any(layer is function for function in new):
            if type(layer) not in _METHODS:
                forms.append(walk.part(f".{name}", layer))
        elif not is_transparent(layer):
            forms.append(_method_form(kind, name, layer, walk))
    return b"[%b]" % b",".join(forms)


def _parts_of(member: Any) -> tuple[Any, ...] | None:
    """Return what a descriptor of the standard library is made of, ``None`` for anything else."""
    if type(member) is property:
        return member.fget, member.fset, member.fdel
    if type(member) is functools.cached_property:
        return (member.func,)
    if type(member) is functools.partialmethod:
        return member.func, member.args, member.keywords
    return None


def _method_form(kind: type, name: str, function: FunctionType, walk: Walk) -> bytes:
    source = function_source(function)
    if source is None:
        raise UncacheableArgument(f"is or has {describe(kind)}, whose {name} has no source")
    defaults = walk.object(defaults_of(function))
    return b'["%b",%b,%b]' % (source.encode(), closure_form(function, walk), defaults)


def _class(value: type, walk: Walk) -> bytes:
    if _is_built_in(value):
        return b"!class[%b,null]" % class_name(value, walk)
    return b"!class[%b,%b]" % (class_name(value, walk), schema_of(value, walk) or b"null")


def _find_class(kind: type) -> Writer | None:
    return _class if inherits(kind, type) else None


finds(_find_class)
