"""How a function behind a cache is asked: the same again, something new, in turn, at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from benchmarks.cases import chat
from benchmarks.timing import Row

REQUESTS = [chat(f"question {number}") for number in range(1_000)]

PATTERNS = {"one request again and again": REQUESTS[:1], f"{len(REQUESTS):,} in turn": REQUESTS}
"""What is asked in turn, by its description."""


def again(request: dict[str, Any]) -> Callable[[Any], Callable[[], Any]]:
    """Return what makes calls with *request*, one after another the same."""
    return lambda cached: partial(cached, **request)


def anew(cached: Callable[..., Any]) -> Callable[[], Any]:
    """Return a function that asks another question each time."""
    numbers = itertools.count()
    return lambda: cached(**chat(f"another question {next(numbers)}"))


def in_turn(cached: Callable[..., Any], requests: Iterable[dict[str, Any]]) -> Callable[[], Any]:
    """Return a function that asks one of *requests* after the other, and the first again."""
    turns = itertools.cycle(requests)
    return lambda: cached(**next(turns))


def at_once(name: str, call: Callable[[], Any], tasks: int) -> Row:
    """Return a row of so many tasks that make *call* together."""
    return Row(
        name=name,
        call=lambda: asyncio.gather(*(call() for _ in range(tasks))),
        awaited=True,
        operations=tasks,
    )


def question(request: dict[str, Any]) -> str:
    """Return the text that tells a request from others."""
    text: str = request["messages"][1]["content"]
    return text
