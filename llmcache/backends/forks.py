"""What begins anew in a process that was forked: it has its parent's state, but not its threads."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """What has locks, connections or copies that a fork cannot use."""

    def forget(self) -> None:
        """Begin anew, in a process that was forked while anybody did anything."""
        ...


def forget_after_fork(thing: Forgetful) -> None:
    """Call the ``forget`` of *thing* in every process that is forked as long as it lives."""
    _known.add(thing)


_known: Final[WeakSet[Forgetful]] = WeakSet()


def _after_fork_in_child() -> None:  # pragma: no cover - where nobody measures
    for thing in list(_known):
        thing.forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
