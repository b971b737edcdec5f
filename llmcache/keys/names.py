"""Which function or class this is, in every process: its name, and where that is not enough more.

What a module holds under its own name is told apart by that name. What it
does not (a local function, a lambda, anything of ``__main__``) also needs its
source, and both need the variables they close over.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from functools import partial
from types import FunctionType
from typing import Any, Final

from llmcache.attributes import namespace_of
from llmcache.keys.sources import is_written, without_comprehensions

# Retry decorators do not change answers, and what they close over (counters,
# locks) has no canonical form.
_TRANSPARENT: Final = ("tenacity", "stamina", "backoff", "retrying", "retry", "llmcache", "wrapt")


# Packages that put functions of their own into classes.
_CLASS_MAKERS: Final = ("attr", "attrs", "msgspec", "pydantic")

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


def layers(function: Any) -> Iterator[Any]:
    """Yield *function* and what it wraps, outermost first."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, staticmethod | classmethod) or inspect.ismethod(function):
            function = function.__func__
        else:
            function = inspect.getattr_static(function, "__wrapped__", None) and getattr(
                function, "__wrapped__", None
            )


def functions(function: Any) -> list[FunctionType]:
    """Return the plain functions among the layers of *function*, outermost first."""
    return [layer for layer in layers(function) if type(layer) is FunctionType]


def is_transparent(function: FunctionType) -> bool:
    """Say whether *function* is a retry decorator's wrapper, which answers nothing itself."""
    return str(function.__globals__.get("__name__", "")).partition(".")[0] in _TRANSPARENT


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


def is_written_by_users(function: FunctionType) -> bool:
    """Say whether *function* stands in a source that is not of what makes classes."""
    package = str(function.__globals__.get("__name__", "")).partition(".")[0]
    made = package in sys.stdlib_module_names or package in _CLASS_MAKERS
    return is_written(function.__code__) and not made


def is_typed_dict(kind: type) -> bool:
    """Say whether *kind* is a `TypedDict`."""
    return issubclass(kind, dict) and hasattr(kind, "__total__")


def public_module(module: str, qualname: str, thing: Any) -> str:
    """Return the module under which other versions of Python know a standard library's class."""
    public = module.partition("._")[0]
    if public == module or public.partition(".")[0] not in sys.stdlib_module_names:
        return module
    return public if reachable(public, qualname, thing) else module


def full_name(thing: Any) -> tuple[str, str]:
    """Return the module and the qualified name of a function or class."""
    module, qualname = getattr(thing, "__module__", None) or "", thing.__qualname__
    return public_module(module, qualname, thing), without_comprehensions(qualname)
