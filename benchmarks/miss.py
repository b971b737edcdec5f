"""What a miss adds to the time that the function takes: the key, the bytes, their proof, the store.

The floor is what any cache must do: the digest of the request as sorted JSON,
the value as bytes, and both in a dict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from benchmarks import cases, peers
from benchmarks.asking import anew
from benchmarks.bare import ALONE
from benchmarks.check import function, new_name
from benchmarks.contest import enter
from benchmarks.floor import FLOOR, digest
from benchmarks.tables import Table, duration
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached
from llmcache.codec.frame import Entry, Frame
from llmcache.codec.size import exceeds
from llmcache.codec.tree import decode, encode, same


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    answers = cases.answers(quick=effort.quick)
    added = [_added(what, answer, effort) for what, answer in answers.items()]
    return [*added, _parts(answers, effort)]


def _added(what: str, answer: Any, effort: Effort) -> Table:
    alone = function(answer, awaited=False, copied=False)
    write = _writer(answer)
    store: dict[bytes, bytes] = {}

    def floor(**request: Any) -> Any:
        value = alone(**request)
        store[digest(request)] = write(value)
        return value

    rows = [
        Row(name=ALONE, call=anew(alone)),
        Row(name=FLOOR, call=anew(floor)),
        Row(name="llmcache", call=anew(_llmcache(alone))),
        Row(
            name="llmcache (async)",
            call=anew(_llmcache(function(answer, awaited=True, copied=False))),
            awaited=True,
        ),
    ]
    contest = enter(peers.PEERS, answer, anew, needs_hit=False)
    found = compare(rows + contest.rows, base=ALONE, effort=effort)
    del found[ALONE]
    least = found[FLOOR].added
    return Table(
        title=f"Miss: 2 messages, {what}",
        text="What a call takes longer than the function alone.",
        head=["cache", "added", "ratio", "note"],
        rows=contest.cells(
            {
                name: replace(timing, seconds=timing.added, ratio=timing.added / least)
                for name, timing in found.items()
            }
        ),
    )


def _writer(answer: Any) -> Callable[[Any], bytes]:
    """Return what makes bytes of such answers."""
    if isinstance(answer, str):
        return orjson.dumps
    dump = type(answer).model_dump_json
    return lambda answer: dump(answer).encode()


def _llmcache(function: Any) -> Any:
    return llm_cached(name=new_name(), max_size=peers.MAX_SIZE, strict=True)(function)


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
