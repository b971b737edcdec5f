"""What an instance holds, read without running any code of its class or of its metaclass."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import (
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final, Generic

# Py_TPFLAGS_HEAPTYPE: set for classes made by a class statement, among others.
_HEAP_TYPE: Final = 1 << 9
NATIVE: Final = (
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)


def inherits(kind: type, base: type) -> bool:
    """Say whether *kind* is *base* or a subclass, without asking a metaclass of either."""
    return any(ancestor is base for ancestor in lineage(kind))


def lineage(kind: type) -> tuple[type, ...]:
    """Return a class and its ancestors, in the order in which they are asked."""
    return _lineage(kind)  # type: ignore[no-any-return]


_lineage: Final[Any] = vars(type)["__mro__"].__get__
_class_name: Final[Any] = vars(type)["__name__"].__get__
_class_names: Final[Any] = vars(type)["__dict__"].__get__
_dictionary_place: Final[Any] = vars(type)["__dictoffset__"].__get__
_flags: Final[Any] = vars(type)["__flags__"].__get__
_module_names: Final[Any] = vars(ModuleType)["__dict__"].__get__


def class_attribute(kind: type, name: str) -> Any:
    """Return what a class or an ancestor holds under *name*, ``None`` for nothing."""
    for ancestor in lineage(kind):
        names = _class_names(ancestor)
        if name in names:
            return names[name]
    return None


def namespace_of(holder: Any) -> Mapping[str, Any]:
    """Return the names that a module or class holds, empty for anything else."""
    kind = type(holder)
    if inherits(kind, ModuleType):
        return _module_names(holder)  # type: ignore[no-any-return]
    return _class_names(holder) if inherits(kind, type) else {}


def has_dictionary(kind: type) -> bool:
    """Say whether the instances of a class have a ``__dict__``."""
    return bool(_dictionary_place(kind))


def is_heap_type(kind: type) -> bool:
    """Say whether a class was made while the program ran, as those of Python code are."""
    return bool(_flags(kind) & _HEAP_TYPE)


def is_written_in_python(kind: type) -> bool:
    """Say whether a class itself adds no state in another language."""
    if kind is Generic:
        return True
    slots = set(slots_of(kind))
    return is_heap_type(kind) and not any(
        type(item) in NATIVE
        and item.__objclass__ is kind
        and name not in {"__dict__", "__weakref__"}
        and name not in slots
        for name, item in _class_names(kind).items()
    )


def is_plain(kind: type, *bases: type) -> bool:
    """Say whether all state of a class's instances is in their attributes, and in *bases*."""
    known = (object, *bases)
    return not any(kind is base for base in known) and all(
        any(ancestor is base for base in known) or is_written_in_python(ancestor)
        for ancestor in lineage(kind)
    )


def slots_of(kind: type) -> list[str]:
    """Return the names under which a class's own slots are attributes."""
    slots: Any = _class_names(kind).get("__slots__", ())
    return [
        f"_{_class_name(kind).lstrip('_')}{slot}"
        if slot.startswith("__") and not slot.endswith("__")
        else slot
        for slot in ((slots,) if isinstance(slots, str) else slots)
        if slot not in {"__dict__", "__weakref__"}
    ]


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an instance by name, slots first.

    An attribute that another of the same name hides has before its name where it is.
    """
    kind = type(value)
    state: dict[str, Any] = {}
    for ancestor in lineage(kind):
        for slot in slots_of(ancestor):
            descriptor = _class_names(ancestor).get(slot)
            if type(descriptor) is MemberDescriptorType:
                with suppress(AttributeError):
                    name = f"{ancestor.__qualname__}.{slot}" if slot in state else slot
                    state[name] = descriptor.__get__(value, kind)
    for name, item in dictionary_of(value).items():
        state[f"__dict__.{name}" if name in state else name] = item
    return state


def dictionary_of(value: Any) -> dict[str, Any]:
    """Return the ``__dict__`` of an instance, empty if it has none."""
    kind = type(value)
    for ancestor in lineage(kind):
        descriptor = _class_names(ancestor).get("__dict__")
        if type(descriptor) is GetSetDescriptorType:
            state = descriptor.__get__(value, kind)
            return state if type(state) is dict else {}
    return {}
