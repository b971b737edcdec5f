"""Function identity: no two functions that could answer differently have the same."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any, Final
from weakref import WeakValueDictionary

from llmcache.errors import UncacheableArgument
from llmcache.keys.canonical import Walk, text
from llmcache.keys.names import (
    EMPTY,
    cells,
    full_name,
    functions,
    is_transparent,
    layers,
    reachable,
)
from llmcache.keys.sources import function_source

_unique: Final = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
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
        describing: the functions and classes that it is a part of.

    Raises:
        UncacheableArgument: if a closure variable, a partial argument or the
            version has no canonical form, or the function no name.
    """

    def __init__(
        self,
        function: Any,
        *,
        name: str | None = None,
        version: Any = None,
        describing: Sequence[Any] = (),
    ) -> None:
        self._name = name
        self._function = function
        self._target = target = _target_of(function)
        stack = functions(target)
        self._describing = [*describing, *stack[-1:]]
        walk = Walk(self._describing)
        self._version = walk.part("version", version)
        self._partials = _partials(function, walk)
        if name is None:
            self._module, self._qualname = full_name(target)
            self._late = [f for f in stack if EMPTY in cells(f).values()]
            self._stack = stack
            self._inner = [closure_form(f, walk, stack) for f in stack[-1:]]
            self._wrappers = [f for f in stack if not is_transparent(f)]
            self._outer: list[bytes] | UncacheableArgument
            try:
                self._outer = [closure_form(f, walk, stack) for f in self._wrappers]
            except UncacheableArgument as error:
                self._outer = error

    def identity(self) -> Identity:
        """Return the function's identity, now that its module is complete.

        Raises:
            UncacheableArgument: if the function cannot be found by its name
                and a decorator below closes over what has no canonical form.
        """
        form, portable = self.form()
        return Identity(digest=hashlib.sha256(form).hexdigest(), portable=portable)

    def form(self) -> tuple[bytes, bool]:
        """Return the canonical identity, and whether other processes can tell it."""
        parts = {b"version": self._version, b"partial": self._partials}
        portable = True
        if self._name is not None:
            parts[b"name"] = text(self._name)
        else:
            parts[b"module"] = text(self._module)
            parts[b"qualname"] = text(self._qualname)
            if self._late:
                walk = Walk(self._describing)
                late = [closure_form(f, walk, self._stack) for f in self._late]
                parts[b"late"] = b"[%b]" % b",".join(late)
            if _holds(self._module, self._qualname, self._target):
                parts[b"cells"] = b"[%b]" % b",".join(self._inner)
            else:
                if isinstance(self._outer, UncacheableArgument):
                    raise self._outer
                parts[b"cells"] = b"[%b]" % b",".join(self._outer)
                sources = [function_source(f) for f in self._wrappers]
                portable = bool(sources) and None not in sources
                parts[b"source"] = (
                    b"[%b]" % b",".join(text(source or "") for source in sources)
                    if portable
                    else b"!unique%d" % next(_unique)
                )
        members = b",".join(b'"%b":%b' % (key, parts[key]) for key in sorted(parts))
        return b"!function{%b}" % members, portable


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


def closure_form(
    function: FunctionType, walk: Walk, apart_from: Collection[FunctionType] = ()
) -> bytes:
    """Return the canonical form of what *function* closes over.

    Args:
        function: whose closure it is.
        walk: writes the values.
        apart_from: functions that are left out, since they are there already.

    Raises:
        UncacheableArgument: if a closure variable has no canonical form.
    """
    free = {
        name: value
        for name, value in cells(function).items()
        if value is not EMPTY and not _is_one_of(value, apart_from)
    }
    try:
        return walk.object(free)
    except UncacheableArgument as error:
        path = f"the closure variable {error.path.lstrip('.')}"
        raise UncacheableArgument(error.reason, path=path) from None


def _is_one_of(value: Any, functions: Collection[FunctionType]) -> bool:
    return any(layer is function for layer in layers(value) for function in functions)


# A name is its first function's as long as that lives: what was found under it
# earlier must not answer for what is found there now.
_holders: Final[WeakValueDictionary[str, Any]] = WeakValueDictionary()
_holding: Final = threading.RLock()


def _holds(module: str, qualname: str, target: Any) -> bool:
    """Say whether a module holds *target* under its name, and no other function before it."""
    if not reachable(module, qualname, target):
        return False
    with _holding:
        return _holders.setdefault(f"{module}:{qualname}", target) is target


def function_form(function: Callable[..., Any], describing: Sequence[Any] = ()) -> bytes:
    """Return the canonical identity of a function that is an argument.

    Args:
        function: the argument.
        describing: the functions and classes that it is a part of.

    Raises:
        UncacheableArgument: if it cannot be told apart in other processes.
    """
    form, portable = Capture(function, describing=describing).form()
    if not portable:
        raise UncacheableArgument("is a function without a source and without a module of its own")
    return form
