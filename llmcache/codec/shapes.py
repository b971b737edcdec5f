"""What objects of one class have in common, as an entry says it once for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from llmcache.codec.classes import ClassGone

Shape: TypeAlias = "list[Any]"
"""JSON: the kind's name, the class's name, and what else instances share."""

Build: TypeAlias = "Callable[[list[Any]], Any]"
"""Makes an object of its parts."""

Read: TypeAlias = "Callable[[Any], Any]"
"""Makes a value of a part of a tree."""


def fingerprint(names: Iterable[str]) -> str:
    """Return a short mark that changes when a class's fields do."""
    return hashlib.sha256(",".join(names).encode()).hexdigest()[:16]


def check_fields(name: Any, mark: str, names: Iterable[str]) -> None:
    """Raise `ClassGone` unless *mark* is the fingerprint of *names*."""
    if fingerprint(names) != mark:
        raise ClassGone(f"{name} has other fields now")
