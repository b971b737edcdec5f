"""What a hit in memory costs when many threads or tasks ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from benchmarks import cases, peers
from benchmarks.asking import again, at_once
from benchmarks.check import function
from benchmarks.contest import enter
from benchmarks.floor import FLOOR, floor
from benchmarks.tables import Table, budget, duration, ratio
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached

BUDGET = 3.0
THREADS = 8
EACH = 100
TASKS = 1000
LLMCACHE = "llmcache"

_REQUEST = cases.TWO_MESSAGES


def table(effort: Effort) -> Table:
    """Each row is against the floor in the same setting."""
    effort = replace(effort, rounds=max(5, effort.rounds // 4))
    contest = enter(peers.PEERS, cases.TEXT, again(_REQUEST))
    least = floor(_REQUEST, orjson.dumps(cases.TEXT), orjson.loads)

    async def afloor() -> Any:
        return least()

    plain = {FLOOR: least, LLMCACHE: _asked(awaited=False)}
    awaited: dict[str, Callable[[], Any]] = {FLOOR: afloor, LLMCACHE: _asked(awaited=True)}
    for row in contest.rows:
        (awaited if row.awaited else plain)[row.name] = row.call
    body = []
    with ThreadPoolExecutor(THREADS) as pool:
        for setting, rows in {
            f"{THREADS} threads": [_threads(name, pool, call) for name, call in plain.items()],
            "awaited one after another": [
                Row(name=name, call=call, awaited=True) for name, call in awaited.items()
            ],
            f"{TASKS} tasks": [at_once(name, call, TASKS) for name, call in awaited.items()],
        }.items():
            for name, timing in compare(rows, base=FLOOR, effort=effort).items():
                note = contest.notes.get(name, "")
                if name == LLMCACHE:
                    note = budget(timing.ratio, BUDGET)
                body.append([setting, name, duration(timing.seconds), ratio(timing.ratio), note])
    body += [["", name, "", "", why] for name, why in contest.refused.items()]
    return Table(
        title="Hit: 2 messages, a text, many at once",
        text="Seconds of the clock per hit.",
        head=["setting", "cache", "time", "ratio", "note"],
        rows=body,
    )


def _asked(*, awaited: bool) -> Callable[[], Any]:
    """Return what hits."""
    complete = partial(llm_cached(strict=True)(function(cases.TEXT, awaited=awaited)), **_REQUEST)
    asyncio.run(complete()) if awaited else complete()
    return complete


def _threads(name: str, pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Row:
    def work(_: int) -> None:
        for _ in range(EACH):
            call()

    return Row(
        name=name,
        call=lambda: list(pool.map(work, range(THREADS))),
        operations=THREADS * EACH,
    )
