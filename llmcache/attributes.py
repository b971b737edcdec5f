"""What an instance holds, read without running any code of its class or of its metaclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final, Generic, TypeVar
from weakref import ref

T = TypeVar("T")

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
    # A loop: any() would take three times as long, and `in` would ask for equality.
    for ancestor in _lineage(kind):  # noqa: SIM110
        if ancestor is base:
            return True
    return False


def lineage(kind: type) -> tuple[type, ...]:
    """Return a class and its ancestors, in the order in which they are asked."""
    return _lineage(kind)  # type: ignore[no-any-return]


_lineage: Final[Any] = vars(type)["__mro__"].__get__
_class_name: Final[Any] = vars(type)["__name__"].__get__
_qualified_class_name: Final[Any] = vars(type)["__qualname__"].__get__
_class_module: Final[Any] = vars(type)["__module__"].__get__
_class_bases: Final[Any] = vars(type)["__bases__"].__get__
_class_names: Final[Any] = vars(type)["__dict__"].__get__
_dictionary_place: Final[Any] = vars(type)["__dictoffset__"].__get__
_flags: Final[Any] = vars(type)["__flags__"].__get__
_module_names: Final[Any] = vars(ModuleType)["__dict__"].__get__


def module_of(kind: type) -> str:
    """Return the name of the module that a class says it is of."""
    module = _class_module(kind)
    return module if type(module) is str else ""


def name_of(kind: type) -> str:
    """Return a class's name."""
    return _class_name(kind)  # type: ignore[no-any-return]


def qualname_of(kind: type) -> str:
    """Return a class's qualified name."""
    return _qualified_class_name(kind)  # type: ignore[no-any-return]


def bases_of(kind: type) -> tuple[type, ...]:
    """Return the classes that a class was made from."""
    return _class_bases(kind)  # type: ignore[no-any-return]


def describe(kind: type) -> str:
    """Return a class's name with its article, for a message."""
    name = qualname_of(kind) if module_of(kind) == "builtins" else qualified(kind)
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def qualified(kind: type) -> str:
    """Return ``module.qualname`` of a class."""
    return f"{module_of(kind)}.{qualname_of(kind)}"


def per_class(function: Callable[[type], T]) -> Callable[[type], T]:
    """Let *function*, whose answers never change, be asked once for each class.

    Classes are known by their addresses, as long as they live: a metaclass may
    have a ``__hash__`` of its own.
    """
    known: dict[int, tuple[ref[type], T]] = {}

    @wraps(function)
    def look_up(kind: type) -> T:
        entry = known.get(id(kind))
        if entry is not None and entry[0]() is kind:
            return entry[1]
        answer = function(kind)
        known[id(kind)] = ref(kind, partial(_forget, known, id(kind))), answer
        return answer

    return look_up


def _forget(known: dict[int, Any], address: int, gone: ref[type]) -> None:
    # It is called before another class can have the address.
    known.pop(address, None)


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
        _is_native(item, kind) and name not in {"__dict__", "__weakref__"} and name not in slots
        for name, item in _class_names(kind).items()
    )


def _is_native(item: Any, kind: type) -> bool:
    """Say whether *item* is a part of *kind* in another language: its ``__new__``, for one."""
    if type(item) is BuiltinFunctionType:
        return item.__self__ is kind
    return type(item) in NATIVE and item.__objclass__ is kind


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
    return reader_of(type(value))(value)


def reader_of(kind: type) -> Callable[[Any], dict[str, Any]]:
    """Return what reads the attributes of a class's instances, as `attributes_of` does.

    It holds the class: keep it no longer than an instance.
    """
    own = dictionary_reader(kind)
    if not (slots := _slots(kind)):
        return lambda value: own(value).copy()
    ancestors = lineage(kind)
    members = [
        (
            slot,
            f"{_qualified_class_name(ancestors[place])}.{slot}",
            _class_names(ancestors[place])[slot].__get__,
        )
        for place, slot in slots
    ]

    def read(value: Any) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for name, hidden, get in members:
            try:
                state[hidden if name in state else name] = get(value, kind)
            except AttributeError:
                continue
        for name, item in own(value).items():
            state[f"__dict__.{name}" if name in state else name] = item
        return state

    return read


def dictionary_reader(kind: type) -> Callable[[Any], dict[str, Any]]:
    """Return what reads the ``__dict__`` of a class's instances, empty if they have none.

    It holds the class: keep it no longer than an instance.
    """
    place = _place_of_dictionary(kind)
    if place is None:
        return lambda value: {}
    get = _class_names(lineage(kind)[place])["__dict__"].__get__

    return lambda value: _plain(get(value, kind))


# What is kept for a class must not keep the class: descriptors would.


@per_class
def _slots(kind: type) -> list[tuple[int, str]]:
    """Return the slots of a class's instances: their owner's place in its lineage, and names."""
    return [
        (place, slot)
        for place, ancestor in enumerate(lineage(kind))
        for slot in slots_of(ancestor)
        if type(_class_names(ancestor).get(slot)) is MemberDescriptorType
    ]


@per_class
def _place_of_dictionary(kind: type) -> int | None:
    """Return the place of the class in the lineage that gives instances their ``__dict__``."""
    for place, ancestor in enumerate(lineage(kind)):
        if type(_class_names(ancestor).get("__dict__")) is GetSetDescriptorType:
            return place
    return None


def dictionary_of(value: Any) -> dict[str, Any]:
    """Return the ``__dict__`` of an instance, empty if it has none."""
    kind = type(value)
    place = _place_of_dictionary(kind)
    if place is None:
        return {}
    return _plain(_class_names(lineage(kind)[place])["__dict__"].__get__(value, kind))


def _plain(state: Any) -> dict[str, Any]:
    """Return what a ``__dict__`` holds: itself, or a copy if it is of a class of somebody's own."""
    if type(state) is dict:
        return state
    # What looks attributes up does not ask that class either.
    return dict(dict.items(state)) if inherits(type(state), dict) else {}
