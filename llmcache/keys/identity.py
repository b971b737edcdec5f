"""Function identity: no two functions that could answer differently have the same."""

from __future__ import annotations

import hashlib
import itertools
from functools import partial
from types import FunctionType
from typing import Any, Final, NamedTuple

from llmcache.attributes import inherits
from llmcache.errors import UncacheableArgument
from llmcache.keys.binding import signature_of
from llmcache.keys.names import (
    EMPTY,
    PROXY,
    cells,
    full_name,
    functions,
    holds,
    is_transparent,
    layers,
)
from llmcache.keys.plain import text
from llmcache.keys.sources import function_source
from llmcache.keys.walk import Walk

_unique: Final = itertools.count()


class Identity(NamedTuple):
    """Who answers.

    Args:
        digest: SHA-256 in hex over the canonical identity.
        portable: false where other processes cannot tell this function from
            others, so that its answers stay in this one's memory.
    """

    digest: str
    portable: bool


class Capture:
    """What tells a function apart that must be read when it is decorated.

    Its closure may change later, and a module holds it under its name only
    when its own decoration is over: so cells are read now, and the name is
    looked up at `identity`.

    Args:
        function: as given to the decorator.
        name: replaces module, qualified name, source and cells.
        version: any value with a canonical form.

    Raises:
        UncacheableArgument: if a closure variable, a partial argument or the
            version has no canonical form, or the function no name.
    """

    def __init__(self, function: Any, *, name: str | None = None, version: Any = None) -> None:
        self._name = name
        self._function = function
        self._target = _target_of(function)
        walk = Walk()
        self._version = walk.part("version", version)
        self._partials = _partials(function, walk)
        if name is None:
            self._module, self._qualname = full_name(self._target)
            self._held, self._late = self._read(held=True)
            self._made: bytes | UncacheableArgument
            try:
                self._made, late = self._read(held=False)
                self._late = self._late or late
            except UncacheableArgument as error:
                self._made = error

    def _read(self, *, held: bool) -> tuple[bytes, bool]:
        """Return the cells of the function, and whether some have no value yet."""
        walk = Walk()
        form = _cells_form(self._function, self._target, walk, held=held)
        return form, walk.unfinished

    def identity(self) -> Identity:
        """Return the function's identity, now that its module is complete.

        Raises:
            UncacheableArgument: if the function cannot be found by its name
                and a decorator below closes over what has no canonical form.
        """
        parts = {b"version": self._version, b"partial": self._partials}
        portable = True
        if self._name is not None:
            parts[b"name"] = text(self._name)
        else:
            held = holds(self._module, self._qualname, self._target)
            if not held and isinstance(self._made, UncacheableArgument):
                raise self._made
            parts[b"cells"] = self._held if held else self._made  # type: ignore[assignment]
            if self._late:
                parts[b"late"] = self._read(held=held)[0]
            portable = _add_name(self._target, parts, held=held)
        form = _function_form(parts)
        return Identity(digest=hashlib.sha256(form).hexdigest(), portable=portable)


def function_form(function: FunctionType, walk: Walk) -> bytes:
    """Return the canonical identity of a function that is an argument.

    Raises:
        UncacheableArgument: if it cannot be told apart in other processes.
    """
    held = holds(*full_name(function), function)
    parts = {b"cells": _cells_form(function, function, walk, held=held)}
    parts[b"partial"] = _partials(function, walk)
    if not _add_name(function, parts, held=held):
        raise UncacheableArgument("is a function without a source and without a module of its own")
    return _function_form(parts)


def _function_form(parts: dict[bytes, bytes]) -> bytes:
    return b"!function{%b}" % b",".join(b'"%b":%b' % (key, parts[key]) for key in sorted(parts))


def _add_name(target: Any, parts: dict[bytes, bytes], *, held: bool) -> bool:
    """Add what names *target*, and say whether other processes can tell it by that."""
    module, qualname = full_name(target)
    parts[b"module"], parts[b"qualname"] = text(module), text(qualname)
    if held:
        return True
    sources = [function_source(f) for f in functions(target) if not is_transparent(f)]
    portable = bool(sources) and None not in sources
    listed = b",".join([text(source or "") for source in sources])
    parts[b"source"] = b"[%b]" % listed if portable else b"!unique%d" % next(_unique)
    return portable


def name_of(function: Any) -> str:
    """Return ``module.qualname`` of *function*, or of what it is made of, for messages."""
    target = _target_of(function)
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', '?')}"


def _target_of(function: Any) -> Any:
    """Return what has the name: the function below partials, bindings and callable instances."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, staticmethod | classmethod):
        return function.__func__
    if hasattr(function, "__self__") and hasattr(function, "__func__"):
        return function.__func__
    if not isinstance(getattr(function, "__qualname__", None), str):
        return type(function).__call__
    return function


def _partials(function: Any, walk: Walk) -> bytes:
    """Return the canonical form of the arguments that partial objects add."""
    found = []
    for layer in layers(function):
        if isinstance(layer, partial):
            args = walk.array(layer.args)
            found.append(b"[%b,%b]" % (args, walk.object(layer.keywords)))
    return b"[%b]" % b",".join(found)


def _cells_form(function: Any, target: Any, walk: Walk, *, held: bool) -> bytes:
    """Return what the layers of a function hold: of one that a module holds, the innermost.

    Args:
        function: as its callers have it, whose signature counts.
        target: what has the name.
        walk: writes the values.
        held: whether a module holds *target* under its name.
    """
    stack = functions(target)
    new = [f for f in stack if walk.number(f)]
    if held:
        return b"[%b]" % b",".join([closure_form(f, walk) for f in stack[-1:]])
    signature = signature_of(function)
    shown = {} if signature is None else signature.parameters
    forms = []
    for layer in layers(target):
        if type(layer) is not FunctionType:
            if _adds_state(layer, target):
                forms.append(walk.encode(layer))
        elif not is_transparent(layer):
            if not any(layer is f for f in new):
                forms.append(walk.encode(layer))
                continue
            hidden = {
                name: value
                for name, value in defaults_of(layer).items()
                if name not in shown or shown[name].default is not value
            }
            forms.append(b"[%b,%b]" % (closure_form(layer, walk), walk.object(hidden)))
    return b"[%b]" % b",".join(forms)


def _adds_state(layer: Any, target: Any) -> bool:
    """Say whether a layer that is no function tells its function from others by what it holds.

    A partial's arguments have their own place in the identity, and what an
    instance that is decorated has is read at each call.
    """
    if layer is target:
        return inherits(type(layer), PROXY)
    return not isinstance(layer, partial | staticmethod | classmethod | type)


def defaults_of(function: FunctionType) -> dict[str, Any]:
    """Return the default values of a function's parameters by their names."""
    code = function.__code__
    values = function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount][code.co_argcount - len(values) :]
    return dict(zip(names, values, strict=True)) | (function.__kwdefaults__ or {})


def closure_form(function: FunctionType, walk: Walk) -> bytes:
    """Return the canonical form of what *function* closes over.

    Raises:
        UncacheableArgument: if a closure variable has no canonical form.
    """
    found = cells(function)
    if any(value is EMPTY for value in found.values()):
        walk.unfinished = True
    where = f", the closure variable %s of {function.__qualname__}"
    free = [
        b"%b:%b" % (text(name), walk.part(where % name, value))
        for name, value in sorted(found.items())
        if value is not EMPTY
    ]
    return b"{%b}" % b",".join(free)
