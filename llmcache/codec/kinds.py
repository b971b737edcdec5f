"""The kinds of objects that an entry can hold: a shape, which many share, and parts.

A kind takes an object apart without asking it, and puts it together without
running its constructor. Two objects are the same if their shapes are equal
and their parts are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import MemberDescriptorType
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from weakref import ref

from llmcache.attributes import (
    attributes_of,
    class_attribute,
    dictionary_of,
    has_dictionary,
    inherits,
    is_plain,
    lineage,
    namespace_of,
    slots_of,
)
from llmcache.codec import classes
from llmcache.codec.classes import ClassGone
from llmcache.codec.enums import EnumMembers
from llmcache.codec.shapes import Build, Shape, check_fields, fingerprint
from llmcache.errors import ConfigurationError, UncacheableValue

T = TypeVar("T")

_new: Final = object.__new__
_ATTRS_HASH: Final = "_attrs_cached_hash"


class Kind(Protocol):
    """How the objects of one kind are taken apart and put together."""

    @property
    def name(self) -> str:
        """The kind's name in shapes."""
        ...

    def claims(self, kind: type) -> bool:
        """Say whether instances of the class *kind* are of this kind."""
        ...

    def shape(self, value: Any) -> Shape:
        """Return what *value* shares with others of its class."""
        ...

    def parts(self, value: Any) -> Sequence[Any]:
        """Return the values that *value* is made of."""
        ...

    def builder(self, kind: Any, shape: Shape) -> Build:
        """Return what makes an object of *shape* and of the class *kind* from its parts.

        Raises:
            ClassGone: if the class has changed.
        """
        ...


def acts_when_gone(kind: type) -> bool:
    """Say whether instances of a class do something when they go, as copies would do again."""
    return class_attribute(kind, "__del__") is not None


def _is_copyable(kind: type, *bases: type) -> bool:
    return is_plain(kind, *bases) and not acts_when_gone(kind)


def _state(value: Any) -> dict[str, Any]:
    """Return what an instance holds, but for what is noted there of this process alone.

    That is by which alias of `typing` it was made, and its hash in attrs' keeping.
    """
    state = attributes_of(value)
    state.pop("__orig_class__", None)
    if _ATTRS_HASH in state:
        state[_ATTRS_HASH] = None
    return state


def _check_bare(value: Any) -> None:
    if _state(value):
        name = type(value).__qualname__
        raise UncacheableValue(f"the result holds a {name} with attributes of its own")


class PlainObject:
    """Dataclasses and attrs classes whose whole state is in their attributes."""

    name = "object"

    def claims(self, kind: type) -> bool:
        made = class_attribute(kind, "__dataclass_fields__") is not None
        return (made or "__attrs_attrs__" in namespace_of(kind)) and _is_copyable(kind)

    def shape(self, value: Any) -> Shape:
        kind = type(value)
        mark = fingerprint(self._fields(kind))
        return [self.name, classes.name_of(kind), mark, list(_state(value))]

    def parts(self, value: Any) -> Sequence[Any]:
        return list(_state(value).values())

    def builder(self, kind: Any, shape: Shape) -> Build:
        _, name, mark, names = shape
        check_fields(name, mark, self._fields(kind))
        known = {
            slot: namespace_of(ancestor)[slot].__set__
            for ancestor in reversed(lineage(kind))
            for slot in slots_of(ancestor)
            if type(namespace_of(ancestor).get(slot)) is MemberDescriptorType
        }
        setters = {attribute: known[attribute] for attribute in names if attribute in known}
        others = [attribute for attribute in names if attribute not in known]
        if others and not has_dictionary(kind):
            raise ClassGone(f"{name} has other fields now")

        def build(parts: list[Any]) -> Any:
            state = dict(zip(names, parts, strict=True))
            value = _new(kind)
            for slot, setter in setters.items():
                setter(value, state[slot])
            if others:
                dictionary_of(value).update((name, state[name]) for name in others)
            return value

        return build

    @staticmethod
    def _fields(kind: Any) -> list[str]:
        fields = class_attribute(kind, "__dataclass_fields__")
        if fields is None:
            return [field.name for field in class_attribute(kind, "__attrs_attrs__")]
        return list(fields)


class NamedTuples:
    """Named tuples, whether they were made by a call or by a class."""

    name = "namedtuple"

    def claims(self, kind: type) -> bool:
        named = isinstance(class_attribute(kind, "_fields"), tuple)
        return named and inherits(kind, tuple) and _is_copyable(kind, tuple)

    def shape(self, value: Any) -> Shape:
        kind = type(value)
        _check_bare(value)
        return [self.name, classes.name_of(kind), fingerprint(class_attribute(kind, "_fields"))]

    def parts(self, value: Any) -> Sequence[Any]:
        return list(tuple.__iter__(value))

    def builder(self, kind: Any, shape: Shape) -> Build:
        _, name, mark = shape
        check_fields(name, mark, class_attribute(kind, "_fields"))
        return lambda parts: tuple.__new__(kind, parts)


class MsgspecStruct:
    """Structs of msgspec, which only their constructor can make: it runs no code of theirs."""

    name = "msgspec"

    def claims(self, kind: type) -> bool:
        msgspec = sys.modules.get("msgspec")
        return (
            msgspec is not None
            and inherits(kind, msgspec.Struct)
            and type(kind) is type(msgspec.Struct)
            and class_attribute(kind, "__post_init__") is None
            and not acts_when_gone(kind)
        )

    def shape(self, value: Any) -> Shape:
        kind = type(value)
        mark = fingerprint(kind.__struct_fields__)
        others = [list(dictionary_of(value))] if has_dictionary(kind) else []
        return [self.name, classes.name_of(kind), mark, *others]

    def parts(self, value: Any) -> Sequence[Any]:
        kind = type(value)
        fields = [class_attribute(kind, n).__get__(value, kind) for n in kind.__struct_fields__]
        return [*fields, *dictionary_of(value).values()]

    def builder(self, kind: Any, shape: Shape) -> Build:
        _, name, mark, *others = shape
        names = kind.__struct_fields__
        check_fields(name, mark, names)
        if bool(others) is not has_dictionary(kind):
            raise ClassGone(f"{name} has other fields now")
        if not others:
            return lambda parts: kind(**dict(zip(names, parts, strict=True)))

        def build(parts: list[Any]) -> Any:
            value = kind(**dict(zip(names, parts[: len(names)], strict=True)))
            dictionary_of(value).update(zip(others[0], parts[len(names) :], strict=True))
            return value

        return build


class Subclass:
    """Classes below a built-in one that add behaviour and no state.

    Args:
        base: the built-in class.
        content: returns what an instance holds, of exactly the class *base*.
    """

    def __init__(self, base: Any, content: Callable[[Any], Any]) -> None:
        self.name: str = base.__name__
        self._base = base
        self._content = content

    def claims(self, kind: type) -> bool:
        return inherits(kind, self._base) and _is_copyable(kind, self._base)

    def shape(self, value: Any) -> Shape:
        _check_bare(value)
        return [self.name, classes.name_of(type(value))]

    def parts(self, value: Any) -> Sequence[Any]:
        return [self._content(value)]

    def builder(self, kind: Any, shape: Shape) -> Build:
        base = self._base

        def build(parts: list[Any]) -> Any:
            [content] = parts
            if type(content) is not base:
                # It would be asked how it converts.
                raise ValueError("no content of that class")
            value = base.__new__(kind, content)
            if base.__init__ is not object.__init__:
                base.__init__(value, content)
            return value

        return build


class Registration(NamedTuple):
    """How a user's class is taken apart and put together."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class RegisteredTypes:
    """Classes that the user has said how to keep."""

    name = "registered"

    def __init__(self) -> None:
        # By their ids: a metaclass may have a hash of its own.
        self._types: dict[int, tuple[ref[type], Registration]] = {}

    def register(self, kind: type, registration: Registration) -> None:
        place = id(kind)
        self._types[place] = ref(kind, lambda _: self._types.pop(place)), registration

    def claims(self, kind: type) -> bool:
        return id(kind) in self._types

    def shape(self, value: Any) -> Shape:
        return [self.name, classes.name_of(type(value))]

    def parts(self, value: Any) -> Sequence[Any]:
        kind = type(value)
        try:
            return [self._types[id(kind)][1].encode(value)]
        except UncacheableValue:
            raise
        except Exception as error:  # noqa: BLE001
            # Its text may repeat what the value holds.
            name, raised = f"{kind.__module__}.{kind.__qualname__}", type(error).__qualname__
            raise UncacheableValue(f"encode= of {name} raises {raised}") from None

    def builder(self, kind: Any, shape: Shape) -> Build:
        return lambda parts: self._types[id(kind)][1].decode(parts[0])


_registered: Final = RegisteredTypes()

KINDS: Final[tuple[Kind, ...]] = (
    _registered,
    EnumMembers(),
    NamedTuples(),
    PlainObject(),
    MsgspecStruct(),
    Subclass(str, str.__str__),
    Subclass(int, int.__int__),
    Subclass(float, float.__float__),
    Subclass(bytes, bytes.__bytes__),
    Subclass(list, list.copy),
    Subclass(dict, lambda value: dict(dict.items(value))),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}


def register_type(kind: type[T], *, encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
    """Say how results of a class are kept, if llmcache does not know it.

    It holds for instances of exactly this class. A result is kept only if
    what *decode* makes is encoded to the same again.

    Args:
        kind: the class.
        encode: gets an instance and returns any value that llmcache can keep.
        decode: gets such a value and returns an instance.

    Raises:
        ConfigurationError: if *kind* is no class.

    Example:
        >>> import llmcache
        >>> class Answer:
        ...     def __init__(self, text: str) -> None:
        ...         self.text = text
        >>> llmcache.register_type(Answer, encode=lambda a: a.text, decode=Answer)
    """
    if not isinstance(kind, type):
        raise ConfigurationError(f"{kind!r} is no class")
    _registered.register(kind, Registration(encode, decode))


def is_registered(kind: type) -> bool:
    """Say whether the user has said how instances of a class are kept."""
    return _registered.claims(kind)


def kind_of(kind: type) -> Kind | None:
    """Return the kind that instances of a class are of, ``None`` if no kind claims it."""
    for candidate in KINDS:
        if candidate.claims(kind):
            return candidate
    return None


def class_of(shape: Shape, claims: Callable[[type], bool]) -> Any:
    """Return the class of a shape.

    Raises:
        ClassGone: if the class is gone, or of another kind.
    """
    found = classes.find(shape[1])
    if found is None or not claims(found):
        raise ClassGone(f"no class {shape[1]} of kind {shape[0]} here")
    return found
