"""What a hit in memory costs, in multiples of the least that any cache must do for it.

That least, the floor, is the digest of the request as sorted JSON, one look-up
in a dict, and the value made of its bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import openai
import orjson

from benchmarks import cases, lengths, peers, recorded, together
from benchmarks.asking import again
from benchmarks.check import faults, function
from benchmarks.contest import enter
from benchmarks.floor import FLOOR, floor
from benchmarks.tables import Table, amount, budget
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached

TEXT_BUDGET = 3.0
OBJECT_BUDGET = 2.0

_REQUEST = cases.TWO_MESSAGES


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    completion = cases.typical_completion(quick=effort.quick)
    body = orjson.dumps(completion.body)
    return [
        _one("Hit: 2 messages, a text", cases.TEXT, orjson.dumps(cases.TEXT), orjson.loads, effort),
        _one(
            f"Hit: 2 messages, a ChatCompletion of {amount(len(body))} bytes",
            completion.answer,
            body,
            type(completion.answer).model_validate_json,
            effort,
        ),
        recorded.table(effort),
        lengths.table(effort),
        together.table(effort),
    ]


def _one(
    title: str, answer: Any, data: bytes, read: Callable[[bytes], Any], effort: Effort
) -> Table:
    most = TEXT_BUDGET if isinstance(answer, str) else OBJECT_BUDGET
    rows = [Row(name=FLOOR, call=floor(_REQUEST, data, read)), *_ours(answer)]
    contest = enter(peers.PEERS, answer, again(_REQUEST))
    found = compare(rows + contest.rows, base=FLOOR, effort=effort)
    wrong = {
        "llmcache": faults(llm_cached(strict=True), answer, awaited=False),
        "llmcache (async)": faults(llm_cached(strict=True), answer, awaited=True),
    }
    for row in rows[1:]:
        within = budget(found[row.name].ratio, most)
        contest.notes[row.name] = "; ".join([within, *wrong.get(row.name, [])])
    return Table(title=title, head=["cache", "time", "ratio", "note"], rows=contest.cells(found))


class Client:
    """Has a method that asks a model."""

    def __init__(self, region: str) -> None:
        self.region = region

    @llm_cached(name="method", strict=True)
    def complete(self, messages: Any, model: str, temperature: float) -> Any:
        return _answers["method"]


_answers: dict[str, Any] = {}


def _ours(answer: Any) -> list[Row]:
    """Return llmcache on each kind of callable."""
    plain, coroutine = function(answer, awaited=False), function(answer, awaited=True)
    completions = openai.OpenAI(api_key="none").chat.completions
    _answers["method"] = answer
    Client.complete.cache.clear()
    callables: dict[str, Any] = {
        "llmcache": llm_cached(strict=True)(plain),
        "llmcache, a method": Client("eu").complete,
        "llmcache, a method of an OpenAI client": llm_cached(strict=True)(
            MethodType(lambda self, **request: plain(**request), completions)
        ),
    }
    acomplete = llm_cached(strict=True)(coroutine)
    asyncio.run(acomplete(**_REQUEST))
    for complete in callables.values():
        complete(**_REQUEST)
    return [
        *(Row(name=name, call=partial(call, **_REQUEST)) for name, call in callables.items()),
        Row(name="llmcache (async)", call=partial(acomplete, **_REQUEST), awaited=True),
    ]
