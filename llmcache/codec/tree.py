"""Values as JSON: plain where they are plain, tagged where JSON has no word for them.

A payload is a list of shapes and how the root is read, a line end, and the
tree. In the tree a mapping with the member ``!`` is a tag, and everything else
is itself; a mapping that has such a member of its own is written as a tag too.
Models in which nothing is tagged are written as records instead.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from math import copysign, isnan
from typing import Any, Final

import orjson

from llmcache.codec import models, records
from llmcache.codec.kinds import BY_NAME, class_of, kind_of
from llmcache.codec.models import Reader, is_model
from llmcache.codec.plans import Plan, Plans
from llmcache.codec.records import NoRecord
from llmcache.codec.shapes import Build, Read, Shape
from llmcache.codec.ways import MODEL, Ways
from llmcache.codec.words import BY_TAG, Word
from llmcache.codec.writer import EXACT, ROOT, TAG, TreeWriter
from llmcache.errors import UncacheableValue

PLAIN: Final = 0
TREE: Final = 1
TEXT: Final = 2
RECORD: Final = 3

_dumps = orjson.dumps
_loads = orjson.loads


def encode(value: Any) -> tuple[int, bytes]:
    """Return how *value* is written, and its bytes.

    Raises:
        UncacheableValue: if some part of it is of no kind that would come
            back as it was; the message names the class.
    """
    if type(value) is str:
        with suppress(UnicodeEncodeError):
            return TEXT, value.encode()
    ways = Ways()
    try:
        with suppress(NoRecord):
            return RECORD, records.write(value, ways)
        writer = TreeWriter(ways)
        readers: dict[str, Reader] = {}
        tree = writer.field(ROOT, value, readers)
        if not readers:
            return PLAIN, _dumps(tree)
        return TREE, _dumps([*writer.shapes, readers[ROOT]]) + b"\n" + _dumps(tree)
    except UncacheableValue:
        raise
    except (RecursionError, orjson.JSONEncodeError):
        raise UncacheableValue(
            "the result nests too deep, contains itself, or holds a name that is no Unicode"
        ) from None


def decode(codec: int, data: bytes, start: int = 0) -> Any:
    """Return the value of a payload, a new one at each call.

    Args:
        codec: how it is written.
        data: bytes that end with it.
        start: where it starts in them.

    Raises:
        ClassGone: if a class is gone or has changed.
        Exception: of any other kind if the payload is none.
    """
    if codec == TEXT:
        return data[start:].decode()
    if codec == PLAIN:
        return _loads(data[start:])
    plan, start = _plan_for(codec, data, start)
    return plan.read(data[start:])


def reader(codec: int, data: bytes, start: int) -> tuple[Read, int]:
    """Return what makes the values of `decode` again and again, and from where on in *data*."""
    if codec == TEXT:
        return bytes.decode, start
    if codec == PLAIN:
        return _loads, start
    plan, start = _plan_for(codec, data, start)
    return plan.read_again, start


def _plan_for(codec: int, data: bytes, start: int) -> tuple[Plan, int]:
    """Return what makes the value of a payload with shapes, and where its tree starts."""
    if codec not in _PLANS:
        raise ValueError("a payload of an unknown codec")
    end = data.index(b"\n", start)
    return _PLANS[codec].find(data[start:end]), end + 1


def check_comes_back(value: Any, codec: int, payload: bytes) -> None:
    """Read *payload*, which `encode` made of *value*, and see that it is the same.

    Raises:
        UncacheableValue: if it is not, or cannot be read; the message names
            classes and repeats nothing of the value.
    """
    try:
        returns = same(value, decode(codec, payload))
    except UncacheableValue:
        raise
    except Exception as error:  # noqa: BLE001
        kind, raised = type(value), type(error).__qualname__
        raise UncacheableValue(
            f"the result, a {kind.__module__}.{kind.__qualname__}, cannot be read again: {raised}"
        ) from None
    if not returns:
        raise UncacheableValue("the result would not come back as it was")


def same(a: Any, b: Any) -> bool:
    """Say whether two values are structurally the same.

    They are if they have the same class and the same content at every depth;
    `nan` is the same as `nan`, mappings have the same order, and sets have
    none. No ``__eq__`` of theirs is asked.
    """
    return _Comparison().same(a, b)


class _Comparison:
    def __init__(self) -> None:
        self._ways = Ways()

    def same(self, a: Any, b: Any) -> bool:
        kind = type(a)
        if kind is not type(b):
            return False
        if kind in EXACT:
            return bool(a == b)
        if kind is float:
            return (a == b and copysign(1, a) == copysign(1, b)) or (isnan(a) and isnan(b))
        if kind is list or kind is tuple:
            return _are_equal(a, b) or self._all_same(a, b)
        if kind is dict:
            return self._all_same(a, b) and self._all_same(a.values(), b.values())
        if kind is set or kind is frozenset:
            return _bag(a) == _bag(b)
        way = self._ways[kind]
        if type(way) is Word:
            return bool(way.write(a) == way.write(b))
        if way is MODEL:
            return models.fields_set_of(a) == models.fields_set_of(b) and all(
                map(self.same, models.parts_of(a), models.parts_of(b))
            )
        if way is None or way.shape(a) != way.shape(b):
            return False
        return self._all_same(way.parts(a), way.parts(b))

    def _all_same(self, some: Collection[Any], others: Collection[Any]) -> bool:
        return len(some) == len(others) and all(map(self.same, some, others))


def _are_equal(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Say at once of two lists of texts or numbers that they are the same; else say nothing."""
    kinds = set(map(type, some))
    if len(kinds) != 1 or kinds != set(map(type, others)):
        return False
    if float in kinds:
        return array("d", some).tobytes() == array("d", others).tobytes()
    return kinds <= EXACT and bool(some == others)


def _bag(items: Iterable[Any]) -> list[bytes]:
    return sorted(_dumps(_Speller().write(item)) for item in items)


class _Speller(TreeWriter):
    """Writes what is the same the same way, in whatever order its sets are."""

    def _place(self, shape: Shape) -> Any:
        return hashlib.sha256(_dumps(shape)).hexdigest()


def _builder_for(shape: Shape, builders: list[Build]) -> Build:
    """Return what makes the objects of a shape from their parts as they are in the tree.

    Args:
        shape: one of a list.
        builders: those of the shapes before it; the others will follow.

    Raises:
        ClassGone: if the class is gone, has changed, or is of another kind.
    """
    if shape[0] != models.NAME:
        kind = BY_NAME[shape[0]]
        # Of several that claim a class, the first is the one that writes it.
        found = class_of(shape, lambda found: kind_of(found) is kind)
        build = kind.builder(found, shape)
        return lambda parts: build(_read(parts, builders))
    found = class_of(shape, is_model)
    reads = {name: _reader_for(reader, builders) for name, reader in shape[-1].items()}
    return models.builder(found, shape, reads, _reader_for(None, builders))


def _reader_for(reader: Reader, builders: list[Build]) -> Read:
    """Return what makes the value of a part of the tree."""
    if reader is None:
        return lambda node: _read(node, builders) if type(node) in _NESTS else node
    if isinstance(reader, list):
        one = builders[_place(reader[0])]
        return lambda nodes: [one(node) for node in nodes]
    return builders[_place(reader)]


def _tree_reader_for(root: Reader, builders: list[Build]) -> Read:
    read = _reader_for(root, builders)
    return lambda tree: read(_loads(tree))


_PLANS: Final[dict[int, Plans[Any]]] = {
    TREE: Plans(_builder_for, _tree_reader_for),
    RECORD: records.PLANS,
}


def _read(node: Any, builders: list[Build]) -> Any:
    """Return the value of a list or mapping of the tree, which it may become itself."""
    if type(node) is list:
        for place, item in enumerate(node):
            if type(item) in _NESTS:
                node[place] = _read(item, builders)
        return node
    if TAG not in node:
        for key, item in node.items():
            if type(item) in _NESTS:
                node[key] = _read(item, builders)
        return node
    tag, *parts = node[TAG]
    if type(tag) is int:
        return builders[_place(tag)](parts)
    if tag in _BUILDERS:
        return _BUILDERS[tag](_read(parts, builders))
    return BY_TAG[tag].read(parts[0])


def _place(place: int) -> int:
    if place < 0:
        raise ValueError("no shape")
    return place


def _read_dict(pairs: list[Any]) -> dict[Any, Any]:
    _keys([key for key, _ in pairs])
    return dict(pairs)


def _keys(items: list[Any]) -> list[Any]:
    """Refuse items many of which have one hash: in a set each is compared with all others."""
    if len(items) > _ALIKE and len(items) - len(set(map(hash, items))) > _ALIKE:
        raise ValueError("too many items of one hash")
    return items


_ALIKE: Final = 32
_NESTS: Final = frozenset({list, dict})
_BUILDERS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "dict": _read_dict,
    "tuple": tuple,
    "set": lambda items: set(_keys(items)),
    "frozenset": lambda items: frozenset(_keys(items)),
}
