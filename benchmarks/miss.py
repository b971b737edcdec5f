"""What a miss adds to the time that the function takes: the key, the bytes, their proof, the store.

The floor is what any cache must do: the digest of the request as sorted JSON,
the value as bytes, and both in a dict.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from benchmarks import cases, peers
from benchmarks.check import function, new_name
from benchmarks.contest import enter
from benchmarks.floor import FLOOR, digest
from benchmarks.tables import Table, amount, duration
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached
from llmcache.codec.frame import Entry, Frame
from llmcache.codec.size import exceeds
from llmcache.codec.tree import decode, encode, same

ALONE = "the function alone"
TEXT = cases.prose(600, seed=1)


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    completion = cases.typical_completion(quick=effort.quick)
    size = amount(len(orjson.dumps(completion.body)))
    dump = type(completion.answer).model_dump_json
    cases_of = {
        "a text": (TEXT, orjson.dumps),
        f"a ChatCompletion of {size} bytes": (completion.answer, lambda a: dump(a).encode()),
    }
    return [
        *(
            _added(f"Miss: 2 messages, {what}", answer, write, effort)
            for what, (answer, write) in cases_of.items()
        ),
        _parts({what: answer for what, (answer, _) in cases_of.items()}, effort),
    ]


def _added(title: str, answer: Any, write: Callable[[Any], bytes], effort: Effort) -> Table:
    alone = function(answer, awaited=False, copied=False)
    store: dict[bytes, bytes] = {}

    def floor(**request: Any) -> Any:
        value = alone(**request)
        store[digest(request)] = write(value)
        return value

    rows = [
        Row(name=ALONE, call=_asking(alone)),
        Row(name=FLOOR, call=_asking(floor)),
        Row(name="llmcache", call=_asking(_llmcache(alone))),
        Row(
            name="llmcache (async)",
            call=_asking(_llmcache(function(answer, awaited=True, copied=False))),
            awaited=True,
        ),
    ]
    contest = enter(peers.PEERS, answer, _asking, needs_hit=False)
    found = compare(rows + contest.rows, base=ALONE, effort=effort)
    del found[ALONE]
    least = found[FLOOR].added
    return Table(
        title=title,
        text="What a call takes longer than the function alone.",
        head=["cache", "added", "ratio", "note"],
        rows=contest.cells(
            {
                name: replace(timing, seconds=timing.added, ratio=timing.added / least)
                for name, timing in found.items()
            }
        ),
    )


def _llmcache(function: Any) -> Any:
    return llm_cached(name=new_name(), max_size=peers.MAX_SIZE, strict=True)(function)


def _asking(cached: Callable[..., Any]) -> Callable[[], Any]:
    """Return a function that asks another question each time."""
    numbers = itertools.count()
    return lambda: cached(**cases.chat(f"question {next(numbers)}"))


def _parts(answers: dict[str, Any], effort: Effort) -> Table:
    """What of it the steps after the key take; the store itself is the rest."""
    body = []
    for what, answer in answers.items():
        codec, payload = encode(answer)
        entry = Entry(0.0, 1.0, 1.0, 0.0, 0, codec, b"{}")
        frame = Frame(max_plain=1 << 23)
        parts: dict[str, Callable[[], Any]] = {
            "encode": partial(encode, answer),
            "measure": partial(exceeds, answer, 1 << 23),
            "decode": partial(decode, codec, payload),
            "compare": partial(same, answer, decode(codec, payload)),
            "seal": partial(frame.seal, entry, payload, bytes(32)),
        }
        rows = [Row(name=name, call=call) for name, call in parts.items()]
        found = compare(rows, base="encode", effort=effort)
        body.append([what, *(duration(found[name].seconds) for name in parts)])
    return Table(
        title="Miss: the steps of llmcache after the key",
        head=["value", "encode", "measure", "decode", "compare", "seal"],
        rows=body,
    )
