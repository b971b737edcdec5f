"""Canonical form of classes and functions that are arguments, and of classes' names."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import threading
import typing
from collections.abc import Callable
from enum import EnumMeta
from functools import partial
from inspect import Parameter
from types import (
    BuiltinFunctionType,
    FunctionType,
    GenericAlias,
    MethodType,
    ModuleType,
    UnionType,
)
from typing import Any, Final
from weakref import WeakKeyDictionary

from llmcache.attributes import NATIVE, inherits, is_heap_type
from llmcache.errors import UncacheableArgument
from llmcache.keys.canonical import Walk, Writer, describe, finds, text, writes
from llmcache.keys.identity import closure_form, function_form
from llmcache.keys.names import (
    full_name,
    functions,
    is_typed_dict,
    is_written_by_users,
    reachable,
)
from llmcache.keys.sources import class_source, docstring, function_source

_HOUSEKEEPING: Final = ("__module__", "__qualname__", "__firstlineno__")

_schemas: Final[WeakKeyDictionary[type, tuple[Any, bytes]]] = WeakKeyDictionary()
_schemas_lock: Final = threading.RLock()


def class_name(kind: type, walk: Walk) -> bytes:
    """Return the canonical name of a class.

    It is ``module:qualname`` where the module holds the class under that
    name. A generic model is its origin and its arguments. Any other class is
    its name, its source and what its methods close over.

    Raises:
        UncacheableArgument: if the class has neither a module that holds it
            nor a source.
    """
    if kind.__module__ == "builtins" and not is_heap_type(kind):
        return text(f"builtins:{kind.__qualname__}")
    generic = vars(kind).get("__pydantic_generic_metadata__") or {}
    if generic.get("origin"):
        arguments = [_type_argument(argument, walk) for argument in generic["args"]]
        return b"!generic[%b]" % b",".join([class_name(generic["origin"], walk), *arguments])
    module, qualname = full_name(kind)
    name = text(f"{module}:{qualname}")
    if reachable(module, qualname, kind):
        return name
    source = class_source(kind)
    if source is None:
        schema = _schema_of(kind, walk)
        if schema is None:
            raise UncacheableArgument(
                f"is or has {describe(kind)}, which no module holds and which has no source"
            )
        return b"!made[%b,%b,%b]" % (name, _made_of(kind, walk), schema)
    schema = _schema_of(kind, walk) or b"null"
    made = _made_of(kind, walk) if "<locals>" in kind.__qualname__ else b"[]"
    return b'!local[%b,"%b",%b,%b]' % (name, source.encode(), made, schema)


def _made_of(kind: type, walk: Walk) -> bytes:
    """Return a class's bases, its attributes, and what its methods close over.

    Its source says the rest, but not what it got from a function around it.
    """
    bases = [class_name(base, walk) for base in kind.__bases__]
    members = [
        b"%b:%b" % (text(name), _member_form(kind, name, member, walk))
        for name, member in sorted(vars(kind).items())
        if _counts(kind, name, member)
    ]
    return b"[%b,{%b}]" % (b",".join(bases), b",".join(members))


def _counts(kind: type, name: str, member: Any) -> bool:
    if isinstance(member, FunctionType):
        return is_written_by_users(member)
    if name in getattr(kind, "_fields", ()) or isinstance(member, NATIVE):
        return False
    if isinstance(kind, EnumMeta):
        return name in kind.__members__
    if not (name.startswith("__") and name.endswith("__")):
        return name != "_abc_impl"
    if name == "__doc__":
        return _own_doc(kind) is not None
    return isinstance(member, str | bytes | int | float) and name not in _HOUSEKEEPING


def _member_form(kind: type, name: str, member: Any, walk: Walk) -> bytes:
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if isinstance(member, property):
        parts = [_member_form(kind, name, f, walk) for f in (member.fget, member.fset, member.fdel)]
        return b"[%b]" % b",".join(parts)
    if isinstance(member, FunctionType):
        defaults = {str(i): value for i, value in enumerate(member.__defaults__ or ())}
        defaults |= member.__kwdefaults__ or {}
        source = function_source(member)
        if source is None:
            raise UncacheableArgument(f"is or has {describe(kind)}, whose {name} has no source")
        return b'["%b",%b,%b]' % (
            source.encode(),
            closure_form(member, walk),
            walk.object(defaults),
        )
    if isinstance(member, type):
        return class_name(member, walk)
    decorated = functions(member)
    if decorated:
        return b"[%b]" % b",".join([_member_form(kind, name, f, walk) for f in decorated])
    return walk.part(f".{name}", member)


def _class(value: type, walk: Walk) -> bytes:
    return b"!class[%b,%b]" % (class_name(value, walk), _schema_of(value, walk) or b"null")


def _schema_of(kind: type, walk: Walk) -> bytes | None:
    """Return the canonical JSON schema of a class, ``None`` for one that has none."""
    if isinstance(kind, EnumMeta):
        enumeration: Any = kind
        return walk.encode({name: enumeration[name].value for name in enumeration.__members__})
    build = _schema_builder(kind)
    if build is None:
        return None
    if build is _fields_schema:
        return _fields_schema(kind, walk)
    with _schemas_lock:
        known = _schemas.get(kind)
    # A model that is rebuilt gets a new validator, and may have a new schema.
    stamp = vars(kind).get("__pydantic_validator__")
    if known is not None and known[0] is stamp:
        return known[1]
    try:
        schema = build(kind)
    except Exception as error:  # noqa: BLE001
        raise UncacheableArgument(
            f"is {describe(kind)}, whose JSON schema cannot be made ({type(error).__name__})"
        ) from None
    form = walk.encode(schema)
    with _schemas_lock:
        _schemas[kind] = stamp, form
    return form


def _schema_builder(kind: type) -> Callable[..., Any] | None:
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic and inherits(kind, pydantic.BaseModel):
        return lambda model: typing.cast(Any, model).model_json_schema()
    msgspec: Any = sys.modules.get("msgspec")
    if msgspec and inherits(kind, msgspec.Struct):
        return msgspec.json.schema  # type: ignore[no-any-return]
    annotated = (
        dataclasses.is_dataclass(kind)
        or is_typed_dict(kind)
        or (inherits(kind, tuple) and hasattr(kind, "_fields"))
    )
    return _fields_schema if annotated else None


def _fields_schema(kind: type, walk: Walk) -> bytes:
    """Return the fields of a class with their types.

    It stands for a JSON schema where only an optional package could make
    one: whether that is installed must not change a key.
    """
    if again := walk.again(kind):
        return again
    walk.describing.append(kind)
    try:
        # A named tuple without annotations has names alone.
        hints: dict[str, Any] = dict.fromkeys(getattr(kind, "_fields", ()), Any)
        hints |= typing.get_type_hints(kind, include_extras=True)
        fields = [b"%b:%b" % (text(n), _type_argument(hints[n], walk)) for n in sorted(hints)]
        defaults = walk.object(_defaults_of(kind))
    except NameError as error:
        raise UncacheableArgument(f"is {describe(kind)}, whose fields name {error.name}") from None
    finally:
        walk.describing.pop()
    own = _own_doc(kind)
    doc = b"null" if own is None else text(own)
    required = walk.array(sorted(getattr(kind, "__required_keys__", ())))
    return b"!fields[%b,{%b},%b,%b]" % (doc, b",".join(fields), defaults, required)


def _own_doc(kind: type) -> str | None:
    """Return a class's docstring, unless Python wrote it, which spells types its own way."""
    own = docstring(kind)
    return None if own is None or own.startswith(f"{kind.__name__}(") else own


def _defaults_of(kind: type) -> dict[str, Any]:
    """Return the defaults of a class's fields, or what makes them, by name."""
    if not dataclasses.is_dataclass(kind):
        return dict(getattr(kind, "_field_defaults", {}))
    return {
        field.name: field.default if field.default is not dataclasses.MISSING else made
        for field in dataclasses.fields(kind)
        if (made := field.default_factory) is not dataclasses.MISSING
        or field.default is not dataclasses.MISSING
    }


def _type_argument(argument: Any, walk: Walk) -> bytes:
    """Return the canonical form of something that stands in an annotation."""
    if isinstance(argument, typing.TypeVar):
        return b"!typevar" + text(argument.__name__)
    if argument is Any:
        return b'!typevar"Any"'
    if isinstance(argument, typing.ForwardRef):
        return text(argument.__forward_arg__)
    return walk.encode(argument)


def _alias(value: Any, walk: Walk) -> bytes:
    origin = typing.get_origin(value)
    arguments = [_type_argument(argument, walk) for argument in typing.get_args(value)]
    if origin is typing.Union or origin is UnionType:
        return b"!union[%b]" % b",".join(sorted(arguments))
    if origin is typing.Literal:
        return b"!literal[%b]" % b",".join(arguments)
    if origin is typing.Annotated:
        return b"!annotated[%b]" % b",".join(
            [_type_argument(item, walk) for item in (value.__origin__, *value.__metadata__)]
        )
    if not isinstance(origin, type):
        raise UncacheableArgument("is a type that has no canonical form")
    return b"!generic[%b]" % b",".join([walk.encode(origin), *arguments])


def _find_alias(value: Any) -> Writer | None:
    kind = type(value)
    if inherits(kind, type):
        return None
    known = inherits(kind, GenericAlias) or kind is UnionType or kind.__module__ == "typing"
    return _alias if known else None


def _find_class(value: Any) -> Writer | None:
    return _class if inherits(type(value), type) else None


def _function(value: FunctionType, walk: Walk) -> bytes:
    if again := walk.again(value):
        return again
    doc = docstring(value)
    return b"!tool[%b,%b,%b]" % (
        function_form(value, walk.describing),
        _signature(value, walk),
        b"null" if doc is None else text(doc),
    )


def _signature(function: Callable[..., Any], walk: Walk) -> bytes:
    """Return the parameters of a function: names, kinds, annotations and defaults."""
    signature = inspect.signature(function)
    parameters = [
        b"[%b,%d,%b,%b]"
        % (
            text(parameter.name),
            parameter.kind,
            _annotation(parameter.annotation, walk),
            b"!empty"
            if parameter.default is Parameter.empty
            else walk.part(f".{parameter.name}", parameter.default),
        )
        for parameter in signature.parameters.values()
    ]
    return b"[%b,[%b]]" % (_annotation(signature.return_annotation, walk), b",".join(parameters))


def _annotation(annotation: Any, walk: Walk) -> bytes:
    return b"!empty" if annotation is Parameter.empty else _type_argument(annotation, walk)


def _method(value: MethodType, walk: Walk) -> bytes:
    return b"!method[%b,%b]" % (walk.encode(value.__func__), walk.encode(value.__self__))


def _partial(value: partial[Any], walk: Walk) -> bytes:
    return b"!partial[%b,%b,%b]" % (
        walk.encode(value.func),
        walk.array(value.args),
        walk.encode(value.keywords),
    )


def _builtin(value: BuiltinFunctionType, walk: Walk) -> bytes:
    owner = value.__self__
    if owner is not None and not isinstance(owner, ModuleType):
        return b"!method[%b,%b]" % (text(value.__name__), walk.encode(owner))
    return b"!builtin[%b,%b]" % (text(value.__module__ or ""), text(value.__qualname__))


def _module(value: ModuleType, walk: Walk) -> bytes:
    if sys.modules.get(value.__name__) is not value:
        raise UncacheableArgument("is a module that cannot be imported by its name")
    return b"!module[%b]" % text(value.__name__)


def _wrapped(value: Any) -> Writer | None:
    """Find decorated functions, which wrap one that has an identity."""
    transparent = type(value).__module__ in {"functools", "llmcache.decorator"}
    return _unwrap if transparent and hasattr(value, "__wrapped__") else None


def _unwrap(value: Any, walk: Walk) -> bytes:
    return b"!wrapped[%b]" % walk.encode(value.__wrapped__)


_writers: Final[dict[type, Writer]] = {
    FunctionType: _function,
    MethodType: _method,
    partial: _partial,
    BuiltinFunctionType: _builtin,
    ModuleType: _module,
}
for _kind, _writer in _writers.items():
    writes(_kind, _writer)
for _finder in (_find_alias, _find_class, _wrapped):
    finds(_finder)
