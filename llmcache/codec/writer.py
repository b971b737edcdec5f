"""Writes values as JSON: plain where they are plain, tagged where JSON has no word for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any, Final

import orjson

from llmcache.codec import models
from llmcache.codec.models import Reader
from llmcache.codec.shapes import Shape
from llmcache.codec.ways import MODEL, Ways
from llmcache.codec.words import WORDS, Word
from llmcache.errors import UncacheableValue

TAG: Final = "!"
ROOT: Final = "root"
EXACT: Final = frozenset({type(None), bool, int, str})

_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset})
_PLAIN: Final = _CONTAINERS | EXACT | {float}
_dumps = orjson.dumps


class TreeWriter:
    """Writes one value; the shapes of its objects are in `shapes` then."""

    def __init__(self, ways: Ways | None = None) -> None:
        self.shapes: list[Shape] = []
        self.tags = 0
        self._ways = Ways() if ways is None else ways
        self._places: dict[bytes, int] = {}
        self._open: set[int] = set()

    def write(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return value if _is_unicode(value) else self._word(WORDS[str], value)
        if kind is int:
            return value if -(2**63) <= value < 2**64 else self._word(WORDS[int], value)
        if kind is float:
            return value if isfinite(value) else self._word(WORDS[float], value)
        if kind not in _CONTAINERS and type(way := self._ways[kind]) is Word:
            return self._word(way, value)
        with self._inside(value):
            return self._container(value, kind)

    def _container(self, value: Any, kind: type) -> Any:
        write = self.write
        if kind is list:
            return value if _is_plain(value) else [write(item) for item in value]
        if kind is dict:
            if all(type(key) is str and _is_unicode(key) for key in value) and TAG not in value:
                return {key: write(item) for key, item in value.items()}
            return self._tag("dict", *[[write(k), write(v)] for k, v in value.items()])
        if kind is set or kind is frozenset:
            return self._tag(kind.__name__, *sorted(map(write, value), key=_dumps))
        if kind is tuple:
            return self._tag(kind.__name__, *map(write, value))
        way = self._ways[kind]
        if way is MODEL:
            place, parts = self._model(value)
            return self._tag(place, *parts)
        if way is None:
            raise UncacheableValue(
                f"the result holds a {kind.__module__}.{kind.__qualname__}, "
                "which would not come back as it was; llmcache.register_type() says how it can"
            )
        return self._tag(self._place(way.shape(value)), *map(write, way.parts(value)))

    def _model(self, model: Any) -> tuple[int, list[Any]]:
        """Return the place of a model's shape, and its record and other values."""
        attributes, extra, private = models.parts_of(model)
        readers: dict[str, Reader] = {}
        record: dict[str, Any] = {}
        for name, item in attributes.items():
            if item is not None:
                record[name] = self.field(name, item, readers)
        parts, forms = [record], []
        for values in (extra, private):
            tags = self.tags
            if values:
                parts.append(self.write(values))
            forms.append(models.form_of(values, tagged=self.tags > tags))
        return self._place(models.shape_of(model, forms, readers)), parts

    def field(self, name: str, item: Any, readers: dict[str, Reader]) -> Any:
        """Return the field of a record, and note how to read it unless it is plain."""
        kind = type(item)
        if self.is_model(kind):
            with self._inside(item):
                place, parts = self._model(item)
            readers[name] = place
            return parts
        if kind is list and item and all(self.is_model(type(one)) for one in item):
            with self._inside(item):
                written = [self._element(one) for one in item]
            places = {place for place, _ in written}
            if len(places) == 1:
                readers[name] = [*places]
                return [parts for _, parts in written]
            readers[name] = None
            return [self._tag(place, *parts) for place, parts in written]
        tags = self.tags
        plain = self.write(item)
        if self.tags > tags:
            readers[name] = None
        return plain

    def is_model(self, kind: type) -> bool:
        """Say whether values of a class are written as models."""
        return kind not in _PLAIN and self._ways[kind] is MODEL

    def _element(self, model: Any) -> tuple[int, list[Any]]:
        with self._inside(model):
            return self._model(model)

    @contextmanager
    def _inside(self, value: Any) -> Iterator[None]:
        """Refuse a value that is inside of itself."""
        if id(value) in self._open:
            raise UncacheableValue("the result contains itself")
        self._open.add(id(value))
        try:
            yield
        finally:
            self._open.discard(id(value))

    def _tag(self, tag: str | int, *content: Any) -> dict[str, Any]:
        self.tags += 1
        return {TAG: [tag, *content]}

    def _word(self, word: Word, value: Any) -> dict[str, Any]:
        return self._tag(word.tag, word.write(value))

    def _place(self, shape: Shape) -> int:
        spelled = _dumps(shape)
        if spelled not in self._places:
            self._places[spelled] = len(self.shapes)
            self.shapes.append(shape)
        return self._places[spelled]


def _is_plain(items: list[Any]) -> bool:
    """Say of a list of texts or numbers that JSON has words for all of them."""
    kinds = set(map(type, items))
    if kinds == {str}:
        return _is_unicode("".join(items))
    if kinds == {int}:
        return bool(min(items) >= -(2**63) and max(items) < 2**64)
    return kinds == {float} and all(map(isfinite, items))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
