"""What reads a tree: made of its shapes once, and kept while their classes stay what they were."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import orjson

from llmcache.codec.classes import ClassGone, Step, steps_to
from llmcache.codec.shapes import Read, Shape

Part = TypeVar("Part")

_MOST: Final = 512


class Plans(Generic[Part]):
    """What reads a tree, by the bytes of its head: a list of shapes, and a reader for the root.

    A plan is made again when one of its classes is not found under its name
    any more: what was stored as one class never comes back as another's.

    Args:
        part_for: makes what stands for one shape, given the parts for those before it.
        reader_for: makes what a reader says, given all parts.
    """

    def __init__(
        self,
        part_for: Callable[[Shape, list[Part]], Part],
        reader_for: Callable[[Any, list[Part]], Read],
    ) -> None:
        self._part_for = part_for
        self._reader_for = reader_for
        self._plans: dict[bytes, Plan] = {}
        self._lock = threading.RLock()

    def find(self, head: bytes) -> Plan:
        """Return what makes the value of a tree.

        Raises:
            ClassGone: if a class is gone, has changed, or is of another kind.
        """
        plan = self._plans.get(head)
        if plan is None or not plan.holds():
            plan = self._make(head)
        return plan

    def _make(self, head: bytes) -> Plan:
        shapes: list[Shape]
        *shapes, root = orjson.loads(head)
        # Before the classes are looked for: what is replaced meanwhile is seen at the next reading.
        steps = [step for shape in shapes for step in steps_to(shape[1])]
        parts: list[Part] = []
        for shape in shapes:
            parts.append(self._part_for(shape, parts))
        plan = Plan(self._reader_for(root, parts), steps)
        with self._lock:
            if len(self._plans) >= _MOST:
                self._plans.clear()
            self._plans[head] = plan
        return plan


class Plan:
    """What makes the values of trees, as long as it holds.

    Args:
        read: makes the value of a tree.
        steps: the look-ups by which its classes were found.
    """

    __slots__ = ("_steps", "read")

    def __init__(self, read: Read, steps: list[Step]) -> None:
        self.read = read
        self._steps = tuple(
            {(id(names), name): (names, name, it) for names, name, it in steps}.values()
        )

    def read_again(self, tree: bytes) -> Any:
        """Return the value of *tree*, if it still holds.

        Raises:
            ClassGone: if it does not.
        """
        # As `holds` does it: to call that would cost a quarter of it.
        try:
            for names, name, found in self._steps:
                if names[name] is not found:
                    raise ClassGone
        except KeyError:
            raise ClassGone from None
        return self.read(tree)

    def holds(self) -> bool:
        """Say whether every class is still what its name finds."""
        try:
            for names, name, found in self._steps:
                if names[name] is not found:
                    return False
        except KeyError:
            return False
        return True
