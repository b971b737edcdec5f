"""Lists of shapes, made into builders once and kept while their classes stay what they were."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import orjson

from llmcache.attributes import namespace_of
from llmcache.codec import classes
from llmcache.codec.kinds import Build, Shape

_MOST: Final = 512


class Plans:
    """Builders by the bytes of their shapes.

    A plan is made again when one of its classes is not found under its name
    any more: what was stored as one class never comes back as another's.

    Args:
        builder_for: makes the builder of one shape, given those before it, and
            says its class.
    """

    def __init__(self, builder_for: Callable[[Shape, list[Build]], tuple[type, Build]]) -> None:
        self._builder_for = builder_for
        self._plans: dict[bytes, _Plan] = {}
        self._lock = threading.RLock()

    def builders(self, shapes: bytes) -> list[Build]:
        """Return a builder for each shape of a JSON list.

        Raises:
            ClassGone: if a class is gone, has changed, or is of another kind.
        """
        plan = self._plans.get(shapes)
        if plan is None or not plan.holds():
            plan = self._make(shapes)
        return plan.builders

    def _make(self, shapes: bytes) -> _Plan:
        listed: list[Shape] = orjson.loads(shapes)
        plan = _Plan()
        for shape in listed:
            kind, build = self._builder_for(shape, plan.builders)
            plan.add(shape[1], kind, build)
        with self._lock:
            if len(self._plans) >= _MOST:
                self._plans.clear()
            self._plans[shapes] = plan
        return plan


class _Plan:
    def __init__(self) -> None:
        self.builders: list[Build] = []
        self._simple: dict[tuple[str, str], type] = {}
        self._others: list[tuple[Any, type]] = []

    def add(self, name: Any, kind: type, build: Build) -> None:
        """Add the builder of the next shape, whose class has this name."""
        self.builders.append(build)
        module, _, qualname = name.partition(":") if isinstance(name, str) else ("", "", "")
        if module in sys.modules and "." not in qualname:
            self._simple[module, qualname] = kind
        else:
            self._others.append((name, kind))

    def holds(self) -> bool:
        """Say whether every class is still what its name finds."""
        modules, names_of = sys.modules, namespace_of
        try:
            for (module, name), kind in self._simple.items():
                if names_of(modules[module])[name] is not kind:
                    return False
        except KeyError:
            return False
        return all(classes.find(name) is kind for name, kind in self._others)
