"""What reads a tree: made of its shapes once, and kept while their classes stay what they were."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import orjson

from llmcache.codec.classes import Step, steps_to
from llmcache.codec.shapes import Build, Read, Shape

_MOST: Final = 512


class Plans:
    """What reads a tree, by the bytes of its head: a list of shapes, and a reader for the root.

    A plan is made again when one of its classes is not found under its name
    any more: what was stored as one class never comes back as another's.

    Args:
        builder_for: makes the builder of one shape, given those before it.
        reader_for: makes what a reader says, given all builders.
    """

    def __init__(
        self,
        builder_for: Callable[[Shape, list[Build]], Build],
        reader_for: Callable[[Any, list[Build]], Read],
    ) -> None:
        self._builder_for = builder_for
        self._reader_for = reader_for
        self._plans: dict[bytes, _Plan] = {}
        self._lock = threading.RLock()

    def read(self, head: bytes) -> Read:
        """Return what makes the value of a tree.

        Raises:
            ClassGone: if a class is gone, has changed, or is of another kind.
        """
        plan = self._plans.get(head)
        if plan is None or not plan.holds():
            plan = self._make(head)
        return plan.read

    def _make(self, head: bytes) -> _Plan:
        shapes: list[Shape]
        *shapes, root = orjson.loads(head)
        # Before the classes are looked for: what is replaced meanwhile is seen at the next reading.
        steps = [step for shape in shapes for step in steps_to(shape[1])]
        builders: list[Build] = []
        for shape in shapes:
            builders.append(self._builder_for(shape, builders))
        plan = _Plan(self._reader_for(root, builders), steps)
        with self._lock:
            if len(self._plans) >= _MOST:
                self._plans.clear()
            self._plans[head] = plan
        return plan


class _Plan:
    __slots__ = ("_steps", "read")

    def __init__(self, read: Read, steps: list[Step]) -> None:
        self.read = read
        self._steps = tuple(
            {(id(names), name): (names, name, it) for names, name, it in steps}.values()
        )

    def holds(self) -> bool:
        """Say whether every class is still what its name finds."""
        try:
            for names, name, found in self._steps:
                if names[name] is not found:
                    return False
        except KeyError:
            return False
        return True
