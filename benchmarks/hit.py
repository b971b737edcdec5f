"""What a hit in memory costs, in multiples of the least that any cache must do for it.

That least, the floor, is the digest of the request as sorted JSON, one look-up
in a dict, and the value made of its bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MethodType
from typing import Any

import openai
import orjson

from benchmarks import cases, peers, recorded
from benchmarks.check import faults, function
from benchmarks.contest import asking, enter
from benchmarks.floor import FLOOR, floor
from benchmarks.tables import Table, amount, budget, duration, ratio
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached

TEXT_BUDGET = 3.0
OBJECT_BUDGET = 2.0
THREADS = 8
TASKS = 1000
TEXT = cases.prose(600, seed=1)

_REQUEST = cases.TWO_MESSAGES


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    completion = cases.typical_completion(quick=effort.quick)
    body = orjson.dumps(completion.body)
    return [
        _one("Hit: 2 messages, a text", TEXT, orjson.dumps(TEXT), orjson.loads, effort),
        _one(
            f"Hit: 2 messages, a ChatCompletion of {amount(len(body))} bytes",
            completion.answer,
            body,
            type(completion.answer).model_validate_json,
            effort,
        ),
        recorded.table(effort),
        _together(effort),
    ]


def _one(
    title: str, answer: Any, data: bytes, read: Callable[[bytes], Any], effort: Effort
) -> Table:
    most = TEXT_BUDGET if isinstance(answer, str) else OBJECT_BUDGET
    rows = [Row(name=FLOOR, call=floor(_REQUEST, data, read)), *_ours(answer)]
    contest = enter(peers.PEERS, answer, asking(_REQUEST))
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


def _together(effort: Effort) -> Table:
    """Many hits at once, each row against the floor in the same setting."""

    async def afloor() -> Any:
        return least()

    @llm_cached(name="threads", strict=True)
    def complete(messages: Any, model: str, temperature: float) -> Any:
        return TEXT

    @llm_cached(name="tasks", strict=True)
    async def acomplete(messages: Any, model: str, temperature: float) -> Any:
        return TEXT

    least = floor(_REQUEST, orjson.dumps(TEXT), orjson.loads)
    complete(**_REQUEST), asyncio.run(acomplete(**_REQUEST))
    body = []
    with ThreadPoolExecutor(THREADS) as pool:
        for setting, rows in {
            "awaited one after another": [
                Row(name=FLOOR, call=afloor, awaited=True),
                Row(name="llmcache", call=partial(acomplete, **_REQUEST), awaited=True),
            ],
            f"{THREADS} threads": [
                _threads(FLOOR, pool, least),
                _threads("llmcache", pool, partial(complete, **_REQUEST)),
            ],
            f"{TASKS} tasks": [
                _tasks(FLOOR, afloor),
                _tasks("llmcache", partial(acomplete, **_REQUEST)),
            ],
        }.items():
            for name, timing in compare(rows, base=FLOOR, effort=effort).items():
                note = "" if name == FLOOR else budget(timing.ratio, TEXT_BUDGET)
                body.append([setting, name, duration(timing.seconds), ratio(timing.ratio), note])
    return Table(
        title="Hit: 2 messages, a text, many at once",
        text="Seconds of the clock per hit.",
        head=["setting", "cache", "time", "ratio", "note"],
        rows=body,
    )


def _threads(name: str, pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Row:
    each = 250

    def work(_: int) -> None:
        for _ in range(each):
            call()

    return Row(
        name=name,
        call=lambda: list(pool.map(work, range(THREADS))),
        operations=THREADS * each,
    )


def _tasks(name: str, call: Callable[[], Any]) -> Row:
    return Row(
        name=name,
        call=lambda: asyncio.gather(*(call() for _ in range(TASKS))),
        awaited=True,
        operations=TASKS,
    )
