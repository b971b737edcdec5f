"""What a hit in memory costs for short and for long requests."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from benchmarks import cases, peers
from benchmarks.asking import again
from benchmarks.check import function
from benchmarks.contest import enter
from benchmarks.floor import FLOOR, floor
from benchmarks.tables import Table, amount, duration, ratio
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached

SIZES = ("2 messages", "20 messages, 8 tools", "one text", "4,000 messages")


def table(effort: Effort) -> Table:
    """A row for each cache, a column for each size of request."""
    effort = replace(effort, rounds=max(7, effort.rounds // 4))
    requests = {size: {"tools": [], **cases.requests()[size]} for size in SIZES}
    columns = {size: _column(request, effort) for size, request in requests.items()}
    names = dict.fromkeys(name for cells, _ in columns.values() for name in cells)
    notes = {name: note for _, notes in columns.values() for name, note in notes.items()}
    bodies = {size: len(orjson.dumps(request)) for size, request in requests.items()}
    return Table(
        title="Hit: four sizes of request, a text",
        text="The time of a hit, and the ratio to the floor for the same request.",
        head=["cache", *(f"{size}, {amount(bodies[size])} bytes" for size in SIZES), "note"],
        rows=[
            [name, *(columns[size][0].get(name, "") for size in SIZES), notes.get(name, "")]
            for name in names
        ],
    )


def _column(request: dict[str, Any], effort: Effort) -> tuple[dict[str, str], dict[str, str]]:
    """Return the cells of one size, and the notes, both by the names of the rows."""
    contest = enter(peers.PEERS, cases.TEXT, again(request), tools=True)
    complete = llm_cached(strict=True)(function(cases.TEXT, awaited=False, tools=True))
    complete(**request)
    rows = [
        Row(name=FLOOR, call=floor(request, orjson.dumps(cases.TEXT), orjson.loads)),
        Row(name="llmcache", call=partial(complete, **request)),
        *contest.rows,
    ]
    found = compare(rows, base=FLOOR, effort=effort)
    cells = {name: f"{duration(t.seconds)}, {ratio(t.ratio)}" for name, t in found.items()}
    return cells | dict.fromkeys(contest.refused, ""), contest.notes | contest.refused
