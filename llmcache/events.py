"""What a process tells those who want to know of each call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from llmcache.closing import Closing
from llmcache.policy import Clock

logger: Final = logging.getLogger("llmcache")

Outcome: TypeAlias = Literal["hit", "miss", "bypassed", "uncacheable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The outcome of one call of a decorated function.

    Args:
        function: its name, or its ``name=``.
        outcome: ``"hit"``, ``"miss"``, ``"bypassed"`` or ``"uncacheable"``, as
            `Stats` counts them.
        key: 64 hex digits, ``None`` for a call that has none.
        age: seconds since the answer was stored, ``None`` unless it is a hit.
        duration: seconds that the caller waited, also if the function failed.
        saved: seconds that the answer took when it was made, for a hit; ``0.0``
            otherwise.
    """

    function: str
    outcome: Outcome
    key: str | None
    age: float | None
    duration: float
    saved: float


Callback: TypeAlias = "Callable[[Event], object]"


class Listeners:
    """Those who are told.

    Attributes:
        callbacks: all of them, a new tuple after each change.
    """

    def __init__(self) -> None:
        self.callbacks: tuple[Callback, ...] = ()
        self._lock = threading.Lock()

    def add(self, callback: Callback) -> None:
        """Tell *callback* from now on."""
        with self._lock:
            self.callbacks = (*self.callbacks, callback)

    def remove(self, callback: Callback) -> None:
        """Tell *callback* no more; it may be gone already."""
        with self._lock:
            self.callbacks = tuple(known for known in self.callbacks if known is not callback)

    def tell(self, event: Event) -> None:
        """Tell all of them; one that raises is told nothing more."""
        for callback in self.callbacks:
            try:
                callback(event)
            except Exception as error:  # noqa: BLE001
                self.remove(callback)
                name = getattr(callback, "__qualname__", type(callback).__qualname__)
                logger.warning(
                    "on_event: %s raised %s and is told nothing more",
                    name,
                    type(error).__qualname__,
                )


class Reports:
    """What is told of the calls of one function.

    Args:
        function: its name, as events have it.
        listeners: those who are told.
    """

    def __init__(self, function: str, listeners: Listeners) -> None:
        self._function = function
        self._listeners = listeners

    def begin(self, clock: Clock) -> float | None:
        """Return when a call begins, ``None`` if nobody listens."""
        return clock.monotonic() if self._listeners.callbacks else None

    def tell(
        self,
        outcome: Outcome,
        asked: float | None,
        clock: Clock,
        digest: bytes | None = None,
        *,
        age: float | None = None,
        saved: float = 0.0,
    ) -> None:
        """Tell the outcome of a call that began when it was *asked*, if anybody listened then."""
        if asked is not None:
            event = Event(
                function=self._function,
                outcome=outcome,
                key=None if digest is None else digest.hex(),
                age=age,
                duration=max(clock.monotonic() - asked, 0.0),
                saved=saved,
            )
            self._listeners.tell(event)


class Subscription(Closing):
    """What `on_event` returns: leaving its ``with`` block, or `close`, ends it."""

    def __init__(self, listeners: Listeners, callback: Callback) -> None:
        self._listeners = listeners
        self._callback = callback

    def close(self) -> None:
        """Tell the callback no more."""
        self._listeners.remove(self._callback)
