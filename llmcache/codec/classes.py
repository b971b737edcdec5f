"""The names of classes in entries, and the classes of names: nothing is imported or run.

A class that its module holds under its own name is found by that name, in
`sys.modules` and `vars`. A parametrised pydantic model is found by its origin
and its arguments, which are classes or type variables. Any other class, and
any of a script, is known in this process alone, by a name that no other process
can make.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from operator import is_
from typing import Any, Final, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from llmcache.attributes import class_attribute, inherits, is_heap_type, namespace_of


class ClassGone(LookupError):
    """An entry's class is not here any more, or has changed."""


Name: TypeAlias = "str | list[Any]"
"""JSON: ``module:qualname``, or a list of the origin's name and the arguments'."""


def lookup(name: str) -> Any:
    """Return what the module holds under ``module:qualname``, ``None`` for nothing."""
    steps = _steps(name)
    return steps[-1][2] if steps else None


Step: TypeAlias = "tuple[Mapping[str, Any], str, Any]"


def steps_to(name: Name) -> list[Step]:
    """Return the look-ups by which `find` finds a class, and what each finds.

    While all of them find the same, so does `find`. There are none for a
    class that is known in this process alone, and whoever has it keeps it.
    """
    if isinstance(name, list):
        return [step for part in name for step in steps_to(part)]
    return _steps(name)


def _steps(name: str) -> list[Step]:
    module, _, qualname = name.partition(":")
    if module in _SCRIPTS:
        return []
    steps: list[Step] = []
    names: Mapping[str, Any] = sys.modules
    for attribute in (module, *qualname.split(".")):
        found = names.get(attribute)
        if found is None:
            return []
        steps.append((names, attribute, found))
        names = namespace_of(found)
    return steps


# What one script calls by a name is not what another does.
_SCRIPTS: Final = frozenset({"__main__", "__mp_main__"})


class LocalClasses:
    """The classes that no module holds under their names, and those of scripts."""

    def __init__(self) -> None:
        self._process = os.urandom(8).hex()
        self._names: WeakKeyDictionary[type, str] = WeakKeyDictionary()
        self._classes: WeakValueDictionary[str, type] = WeakValueDictionary()
        self._lock = threading.RLock()
        self._made = 0

    def name_of(self, kind: type) -> str:
        """Return the name of *kind*, the same as long as it lives, and never another's."""
        with self._lock:
            name = self._names.get(kind)
            if name is None:
                self._made += 1
                name = f"{self._process}-{os.getpid()}:{self._made}"
                self._names[kind] = name
                self._classes[name] = kind
            return name

    def find(self, name: str) -> type | None:
        """Return the class of a name, ``None`` if it is gone or another process's."""
        return self._classes.get(name)


_local: Final = LocalClasses()


def name_of(kind: type) -> Name:
    """Return the name by which `find` finds *kind*."""
    metadata = vars(kind).get("__pydantic_generic_metadata__") or {}
    origin = metadata.get("origin")
    if origin is not None:
        # pydantic names these by the bare names of their arguments, which many share.
        parts = (origin, *metadata["args"])
        named = [_name_of_part(part) for part in parts]
        found = None if None in named else find(named)
        return named if found is kind else _local.name_of(kind)
    if kind is _NONE_TYPE:
        return "builtins:NoneType"
    name = f"{kind.__module__}:{kind.__qualname__}"
    return name if find(name) is kind else _local.name_of(kind)


def _name_of_part(part: Any) -> Name | None:
    if type(part) is TypeVar:
        name = f"{part.__module__}:{part.__name__}"
        return name if _find_part(name) is part else None
    return name_of(part) if isinstance(part, type) else None


def find(name: Name) -> type | None:
    """Return the class of a name that `name_of` gave, ``None`` if there is none here."""
    if isinstance(name, list):
        origin, *arguments = name or [""]
        made: type | None = _find_generic(find(origin), tuple(map(_find_part, arguments)))
        return made
    found = _NONE_TYPE if name == "builtins:NoneType" else lookup(name) or _local.find(name)
    return found if inherits(type(found), type) else None


def _find_part(name: Name) -> type | TypeVar | None:
    """Return the class, or the type variable, of the name of an argument."""
    found = lookup(name) if isinstance(name, str) else None
    return found if type(found) is TypeVar else find(name)


_NONE_TYPE: Final = type(None)


def _find_generic(origin: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the pydantic model of an origin and its arguments.

    pydantic knows those that were made here. It makes what is missing, if no
    code of the origin or the arguments has a part in that.
    """
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or origin is None or any(argument is None for argument in arguments):
        return None
    base = pydantic.BaseModel
    if not inherits(origin, base):
        return None
    for made in type.__subclasses__(origin):
        metadata = namespace_of(made).get("__pydantic_generic_metadata__") or {}
        if metadata.get("origin") is origin and _are(metadata["args"], arguments):
            return made
    metadata = class_attribute(origin, "__pydantic_generic_metadata__")
    as_pydantic_does = (
        type(origin) is type(base)
        and all(class_attribute(origin, hook) is class_attribute(base, hook) for hook in _HOOKS)
        and class_attribute(origin, "__init_subclass__") in _PLAIN_INIT_SUBCLASS
        and len(metadata["parameters"]) == len(arguments)
        and all(_has_plain_schema(argument, base) for argument in arguments)
    )
    return origin[arguments] if as_pydantic_does else None


def _are(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


# What pydantic asks a model when it makes another of it, or gives it a schema.
_HOOKS: Final = (
    "__class_getitem__",
    "__get_pydantic_core_schema__",
    "__pydantic_init_subclass__",
    "__pydantic_on_complete__",
    "model_parametrized_name",
)
_PLAIN_INIT_SUBCLASS: Final = [vars(kind)["__init_subclass__"] for kind in (object, Generic)]


def _has_plain_schema(kind: Any, base: type) -> bool:
    if type(kind) is TypeVar:
        default = getattr(kind, "__default__", None)
        has_default = default is not None and type(default).__name__ != "NoDefaultType"
        return not (kind.__bound__ or kind.__constraints__ or has_default)
    if inherits(kind, base):
        own = class_attribute(kind, "__get_pydantic_core_schema__")
        return own is class_attribute(base, "__get_pydantic_core_schema__")
    return not is_heap_type(kind)
