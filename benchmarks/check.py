"""What is wrong with the answers of a cache, found out by asking it."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Callable
from typing import Any

from benchmarks.cases import TWO_MESSAGES, chat

_MARK = "changed by a caller"
_numbers = itertools.count()


def new_name() -> str:
    """Return a name that no function has had."""
    return f"complete_{next(_numbers)}"


def function(
    answer: Any,
    *,
    awaited: bool,
    copied: bool = True,
    tools: bool = False,
    ran: list[str] | None = None,
) -> Any:
    """Return a function that answers a request, of a name that no other has.

    Args:
        answer: what it returns.
        awaited: whether it is a coroutine function.
        copied: whether each call returns an object of its own, as functions do.
        tools: whether it takes tools too.
        ran: gets an item with each call.
    """

    def complete(messages: Any, model: str, temperature: float) -> Any:
        if ran is not None:
            ran.append(model)
        return copy.deepcopy(answer) if copied else answer

    async def acomplete(messages: Any, model: str, temperature: float) -> Any:
        return complete(messages, model, temperature)

    def use(messages: Any, model: str, temperature: float, tools: Any) -> Any:
        return complete(messages, model, temperature)

    async def ause(messages: Any, model: str, temperature: float, tools: Any) -> Any:
        return complete(messages, model, temperature)

    made = (ause if awaited else use) if tools else (acomplete if awaited else complete)
    made.__name__ = made.__qualname__ = new_name()
    return made


def faults(wrap: Callable[[Any], Any], answer: Any, *, awaited: bool) -> list[str]:
    """Return what is wrong with the hits of a cache, in a few words each.

    Args:
        wrap: puts a function behind the cache.
        answer: what the function returns.
        awaited: whether *wrap* takes and makes coroutine functions.
    """
    ran: list[str] = []
    complete = function(answer, awaited=awaited, ran=ran)
    cached = wrap(complete)

    def ask(cached: Any = cached, request: dict[str, Any] = TWO_MESSAGES) -> Any:
        return asyncio.run(cached(**request)) if awaited else cached(**request)

    first, hit = ask(), ask()
    if len(ran) != 1:
        return [f"no hit: {len(ran)} calls for one request"]
    found = _differences(hit, answer)
    if not found and not isinstance(answer, str):
        _spoil(first)
        if _differences(after := ask(), answer):
            found.append("all callers share one object")
        else:
            _spoil(after)
            if _differences(ask(), answer):
                found.append("callers who hit share one object")
    ask(cached, chat("another question"))
    if len(ran) != 2:
        found.append("answers another request with it")
    namesake = function(_MARK, awaited=awaited)
    namesake.__name__, namesake.__qualname__ = complete.__name__, complete.__qualname__
    namesake.__module__ = "elsewhere"
    if ask(wrap(namesake)) != _MARK:
        found.append("answers for another module's function of this name")
    return found


def _differences(hit: Any, answer: Any) -> list[str]:
    if type(hit) is not type(answer):
        return [f"a {type(hit).__name__} comes back"]
    if isinstance(answer, str):
        return [] if hit == answer else ["another text comes back"]
    found = [
        f"{name} is lost or changed"
        for name, value in vars(answer).items()
        if getattr(hit, name, None) != value
    ]
    found += [f"{name} is added" for name in vars(hit).keys() - vars(answer).keys()]
    if not found and hit.model_dump_json(warnings=False) != answer.model_dump_json(warnings=False):
        found.append("it is another JSON")
    if not found and hit.model_fields_set != answer.model_fields_set:
        found.append("the fields set are others")
    return found


def _spoil(answer: Any) -> None:
    """Do what a caller may do with an object that is its own."""
    answer.choices[0].message.content = _MARK
