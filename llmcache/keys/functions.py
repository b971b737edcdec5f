"""Canonical form of functions that are arguments, and of what wraps them."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from functools import partial
from inspect import Parameter
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import wrapt

from llmcache.attributes import dictionary_of, inherits, module_of
from llmcache.errors import UncacheableArgument
from llmcache.keys.binding import signature_of
from llmcache.keys.identity import function_form
from llmcache.keys.names import is_transparent, layers
from llmcache.keys.plain import text
from llmcache.keys.sources import docstring
from llmcache.keys.walk import Walk
from llmcache.keys.writers import Writer, finds, writes

_LRU_CACHE: Final = type(functools.lru_cache(len))


def _function(value: FunctionType, walk: Walk) -> bytes:
    if again := walk.again(value):
        return again
    doc = docstring(value)
    return b"!tool[%b,%b,%b,%b,%b]" % (
        text(value.__name__),
        function_form(value, walk),
        _signature(value, walk),
        b"null" if doc is None else text(doc),
        walk.object(_attributes_of(value)),
    )


def _attributes_of(function: FunctionType) -> dict[str, Any]:
    """Return what was set on a function, but for what its decorators keep there."""
    kept = {"__wrapped__", "__signature__"}
    for layer, below in itertools.pairwise(layers(function)):
        if type(layer) is _LRU_CACHE or (type(layer) is FunctionType and is_transparent(layer)):
            kept.update(dictionary_of(layer).keys() - dictionary_of(below).keys())
    return {name: value for name, value in vars(function).items() if name not in kept}


def _signature(function: Callable[..., Any], walk: Walk) -> bytes:
    """Return the parameters of a function: names, kinds, annotations and defaults."""
    signature = signature_of(function)
    if signature is None:
        raise UncacheableArgument("is a function without a signature")
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
    return b"!empty" if annotation is Parameter.empty else walk.encode(annotation)


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
    if owner is not None and not inherits(type(owner), ModuleType):
        return b"!method[%b,%b]" % (text(value.__name__), walk.encode(owner))
    return b"!builtin[%b,%b]" % (text(value.__module__ or ""), text(value.__qualname__))


def _module(value: ModuleType, walk: Walk) -> bytes:
    if sys.modules.get(value.__name__) is not value:
        raise UncacheableArgument("is a module that cannot be imported by its name")
    return b"!module[%b]" % text(value.__name__)


def _lru_cache(value: Any, walk: Walk) -> bytes:
    return b"!wrapped[%b]" % walk.encode(value.__wrapped__)


def _decorated(value: Any, walk: Walk) -> bytes:
    """Write what a decorator made with wrapt returns: it and the function below."""
    wrapper, enabled = (
        object.__getattribute__(value, name) for name in ("_self_wrapper", "_self_enabled")
    )
    parts = (_wrapped_by(value), wrapper, enabled)
    return b"!decorated[%b,%b,%b]" % tuple(map(walk.encode, parts))


def _wrapped_by(proxy: Any) -> Any:
    """Return what is below a proxy of wrapt's: of a class method or a static one its function."""
    wrapped = object.__getattribute__(proxy, "__wrapped__")
    return wrapped.__func__ if type(wrapped) in (staticmethod, classmethod) else wrapped


def _cached(kind: type) -> Writer | None:
    """Find functions that have a cache themselves."""
    return _cached_parts if module_of(kind) == "llmcache.decorator" else None


def _cached_parts(value: Any, walk: Walk) -> bytes:
    decorated = object.__getattribute__(value, "_self_parent") or value
    declared = object.__getattribute__(decorated, "_self_declared")
    return b"!cached[%b,%b]" % (walk.encode(_wrapped_by(value)), walk.encode(declared))


_writers: Final[dict[type, Writer]] = {
    FunctionType: _function,
    MethodType: _method,
    partial: _partial,
    BuiltinFunctionType: _builtin,
    ModuleType: _module,
    _LRU_CACHE: _lru_cache,
    wrapt.FunctionWrapper: _decorated,
    wrapt.BoundFunctionWrapper: _decorated,
}
for _kind, _writer in _writers.items():
    writes(_kind, _writer)
finds(_cached)
