"""There and back again: through bytes, and what is the same after it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType
from typing import Any

from codec import samples
from llmcache.codec.tree import decode, encode, same


def back(value: Any) -> Any:
    """Return *value* as it comes back from its bytes, and check that it is the same."""
    written = encode(value)
    found = decode(*written)
    assert type(found) is type(value)
    assert same(value, found)
    assert same(found, value)
    return found


def back_to_the_byte(value: Any) -> Any:
    """Do as `back`, and check that what comes back is written the same way."""
    found = back(value)
    assert encode(found) == encode(value)
    return found


@contextmanager
def no_code_of(*belongs: Callable[[CodeType], bool]) -> Iterator[None]:
    """Check that no Python function runs whose code one of *belongs* says is foreign."""
    ran: list[str] = []

    def watch(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and any(ours(frame.f_code) for ours in belongs):
            ran.append(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
    assert ran == []


def of_samples(code: CodeType) -> bool:
    """Say whether code is of `samples`, or was generated for one of its classes."""
    return code.co_filename == samples.__file__ or code in _generated()


@functools.cache
def _generated() -> frozenset[CodeType]:
    kinds = [kind for kind in vars(samples).values() if isinstance(kind, type)]
    held = [item for kind in kinds for item in vars(kind).values()]
    functions = [getattr(item, "__func__", item) for item in held]
    codes = [item.__code__ for item in functions if isinstance(item, FunctionType)]
    return frozenset(code for code in codes if code.co_filename.startswith("<"))


@contextmanager
def no_import() -> Iterator[None]:
    """Check that nothing is looked for to be imported, and nothing is."""
    finder = _Finder()
    before = set(sys.modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
    assert finder.wanted == []
    assert set(sys.modules) == before


class _Finder:
    def __init__(self) -> None:
        self.wanted: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        self.wanted.append(name)
