"""Which function or class this is, in every process: its name, and where that is not enough more.

What a module holds under its own name is told apart by that name. What it
does not (a local function, a lambda, anything of ``__main__``) also needs its
source, and both need the variables they close over.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Final
from weakref import WeakValueDictionary

import wrapt

from llmcache.attributes import (
    class_attribute,
    dictionary_of,
    inherits,
    lineage,
    module_of,
    namespace_of,
    qualname_of,
)
from llmcache.keys.sources import without_comprehensions

# Where retry decorators define their wrappers, which do not change answers; what
# they close over (counters, locks) has no canonical form. A module of the
# user's own that only has such a name has no such functions.
_TRANSPARENT: Final = {
    "backoff._async": "retry_",
    "backoff._sync": "retry_",
    "stamina._core": "retry.",
    "tenacity": "BaseRetrying.wraps.",
    "tenacity._asyncio": "AsyncRetrying.wraps.",
    "tenacity.asyncio": "AsyncRetrying.wraps.",
}

PROXY: Final = lineage(wrapt.FunctionWrapper)[-2]
"""What all of wrapt's proxies are, which have the attributes of what they wrap."""

EMPTY: Final = object()
"""Stands where a closure variable has no value yet."""


def reachable(module: str | None, qualname: str, wanted: Any) -> bool:
    """Say whether *module* holds *wanted*, or a wrapper of it, under *qualname*."""
    if module is None or module == "__main__" or "<" in qualname:
        return False
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = namespace_of(found).get(name)
    return any(layer is wanted for layer in layers(found))


# A name is its first function's or class's as long as that lives: what was
# found under it earlier must not answer for what is found there now.
_holders: Final[WeakValueDictionary[str, Any]] = WeakValueDictionary()
_holding: Final = threading.RLock()


def holds(module: str, qualname: str, wanted: Any) -> bool:
    """Say whether *module* holds *wanted* under its name, and held nothing else there before."""
    if not reachable(module, qualname, wanted):
        return False
    with _holding:
        return _holders.setdefault(f"{module}:{qualname}", wanted) is wanted


def layers(function: Any) -> Iterator[Any]:
    """Yield *function* and what it wraps, outermost first, without running any code of theirs."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        kind = type(function)
        if inherits(kind, partial):
            function = function.func
        elif any(inherits(kind, binding) for binding in (staticmethod, classmethod, MethodType)):
            function = function.__func__
        elif inherits(kind, PROXY):
            function = object.__getattribute__(function, "__wrapped__")
        else:
            function = dictionary_of(function).get("__wrapped__")


def functions(function: Any) -> list[FunctionType]:
    """Return the plain functions among the layers of *function*, outermost first."""
    return [layer for layer in layers(function) if type(layer) is FunctionType]


def is_transparent(function: FunctionType) -> bool:
    """Say whether *function* is a retry decorator's wrapper, which answers nothing itself."""
    prefix = _TRANSPARENT.get(str(function.__globals__.get("__name__")))
    return prefix is not None and function.__code__.co_qualname.startswith(prefix)


def cells(function: FunctionType) -> dict[str, Any]:
    """Return the variables that *function* closes over, as they are now.

    Those that have no value yet are `EMPTY`, and ``__class__`` is left out.
    """
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name == "__class__":
            continue
        try:
            found[name] = cell.cell_contents
        except ValueError:
            found[name] = EMPTY
    return found


def is_typed_dict(kind: type) -> bool:
    """Say whether *kind* is a `TypedDict`."""
    return inherits(kind, dict) and class_attribute(kind, "__total__") is not None


def public_module(module: str, qualname: str, thing: Any) -> str:
    """Return the module under which other versions of Python know a standard library's class."""
    public = module.partition("._")[0]
    if public == module or public.partition(".")[0] not in sys.stdlib_module_names:
        return module
    return public if reachable(public, qualname, thing) else module


def full_name(thing: Any) -> tuple[str, str]:
    """Return the module and the qualified name of a function or class."""
    if inherits(type(thing), type):
        module, qualname = module_of(thing), qualname_of(thing)
    else:
        module, qualname = getattr(thing, "__module__", None) or "", thing.__qualname__
    return public_module(module, qualname, thing), without_comprehensions(qualname)
