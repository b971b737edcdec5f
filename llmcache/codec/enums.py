"""Members of enums, those included that a class makes of a value that is new to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, EnumMeta, Flag
from typing import Any, Final

from llmcache.attributes import class_attribute, dictionary_of, inherits
from llmcache.codec import classes
from llmcache.codec.classes import ClassGone
from llmcache.codec.shapes import Build, Shape, fingerprint
from llmcache.errors import UncacheableValue

_FLAG_MISSING: Final = class_attribute(Flag, "_missing_")


def _members(kind: type) -> dict[str, Any]:
    return class_attribute(kind, "_member_map_")  # type: ignore[no-any-return]


class EnumMembers:
    """Members of enums, by name; others by value, which a class may make of what is new to it."""

    name = "enum"

    def claims(self, kind: type) -> bool:
        return inherits(type(kind), EnumMeta)

    def shape(self, value: Any) -> Shape:
        kind = type(value)
        name = value._name_ if self._is_listed(value) else None
        return [self.name, classes.name_of(kind), self._mark(kind), name]

    def parts(self, value: Any) -> Sequence[Any]:
        if self._is_listed(value):
            return []
        if inherits(type(value), Flag):
            return [value._value_]
        state = dictionary_of(value)
        is_text = inherits(type(value), str) and str.__str__(value) == state.get("_value_")
        if not is_text or set(state) != {"_name_", "_value_"}:
            name = type(value).__qualname__
            raise UncacheableValue(f"the result holds a member that {name} does not list")
        return [state["_value_"], state["_name_"]]

    @staticmethod
    def _is_listed(value: Any) -> bool:
        return _members(type(value)).get(value._name_) is value

    def builder(self, kind: Any, shape: Shape) -> Build:
        _, name, mark, member = shape
        if self._mark(kind) != mark:
            raise ClassGone(f"{name} has other members now")
        members = _members(kind)
        if member in members:
            found = members[member]
            return lambda parts: found
        if member is None and not inherits(kind, Flag):
            return self._unlisted(kind)
        combines = member is None and type(kind) is EnumMeta
        if not combines or class_attribute(kind, "_missing_") is not _FLAG_MISSING:
            raise ClassGone(f"{name} has no member {member}")
        return lambda parts: kind(parts[0])

    @staticmethod
    def _unlisted(kind: Any) -> Build:
        """Return what makes a member as a class's ``_missing_`` does: of a text, in no list."""
        listed = class_attribute(kind, "_value2member_map_")

        def build(parts: list[Any]) -> Any:
            content, label = parts
            if type(content) is not str or type(label) is not str or content in listed:
                raise ValueError("no member")
            value = str.__new__(kind, content)
            dictionary_of(value).update(_name_=label, _value_=content)
            return value

        return build

    @staticmethod
    def _mark(kind: Any) -> str:
        members: Iterable[tuple[str, Enum]] = _members(kind).items()
        plain = (str, int, float, bytes, bool)
        return fingerprint(
            f"{name}={member._value_!r}" if type(member._value_) in plain else name
            for name, member in members
        )
