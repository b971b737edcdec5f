"""What the key of a request costs, in multiples of the bare SHA-256 of its canonical bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from math import nan
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
from pydantic import BaseModel

from benchmarks import cases, peers
from benchmarks.tables import Table, amount, budget, duration, ratio
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached
from llmcache.keys.canonical import canonical

BASE = "SHA-256 of the same bytes"
LLMCACHE = "llmcache, all of it"
UNUSUAL_BUDGET = 10.0
LARGE = 1_000_000
LARGE_BUDGET = 1.5

_sha256 = hashlib.sha256
_SORTED = orjson.OPT_SORT_KEYS


class Settings(BaseModel):
    """A model among the arguments."""

    effort: str = "low"
    seed: int = 7


class Pair(NamedTuple):
    """A named tuple among the arguments."""

    effort: str
    seed: int


@dataclass
class Turn:
    """A dataclass among the arguments."""

    effort: str
    seed: int


class Role(Enum):
    """An enum among the arguments."""

    USER = "user"


UNUSUAL: dict[str, Any] = {
    "a None": None,
    "a date": date(2026, 1, 31),
    "a nan": nan,
    "a pydantic model": Settings(),
}


COUNT = 1000


_BERLIN = ZoneInfo("Europe/Berlin")


def _noon(second: int) -> datetime:
    return datetime(2026, 1, 31, 12, tzinfo=UTC) + timedelta(seconds=second)


# Some values that JSON has no word for, and what they would be without.
LISTS: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "dates": (lambda i: date(2026, 1, 1 + i % 28), lambda i: f"2026-01-{1 + i % 28:02}"),
    "datetimes": (_noon, lambda i: _noon(i).isoformat()),
    "datetimes in Berlin": (
        lambda i: _noon(i).astimezone(_BERLIN),
        lambda i: _noon(i).astimezone(_BERLIN).isoformat(),
    ),
    "bytes": (lambda i: b"%010d" % i, lambda i: f"{i:010}"),
    "Decimals": (lambda i: Decimal(i) / 100, lambda i: str(i / 100)),
    "nan": (lambda i: nan, lambda i: i / 7),
    "enum members": (lambda i: Role.USER, lambda i: "user"),
    "sets": (lambda i: {i, i + 1}, lambda i: [i, i + 1]),
    "mappings with integer keys": (lambda i: {1: i, 2: i}, lambda i: {"1": i, "2": i}),
    "named tuples": (lambda i: Pair("high", i), lambda i: {"effort": "high", "seed": i}),
    "dataclasses": (lambda i: Turn("high", i), lambda i: {"effort": "high", "seed": i}),
    "pydantic models": (
        lambda i: Settings(effort="high", seed=i),
        lambda i: {"effort": "high", "seed": i},
    ),
}
_KINDS = [*LISTS.values()]
LISTS["all of these in turn"] = (
    lambda i: _KINDS[i % len(_KINDS)][0](i),
    lambda i: _KINDS[i % len(_KINDS)][1](i),
)


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    found = [
        _table(description, request, effort) for description, request in cases.requests().items()
    ]
    return [*found, _lists(effort)]


def _lists(effort: Effort) -> Table:
    """Compare lists of unusual values with lists of plain ones of about the same size."""
    body = []
    for name, (unusual, plain) in LISTS.items():
        slow, fast = ([make(i) for i in range(COUNT)] for make in (unusual, plain))
        rows = [
            Row(name="slow", call=_keyed({"items": slow})),
            Row(name="fast", call=_keyed({"items": fast})),
        ]
        found = compare(rows, base="fast", effort=effort)
        times = found["slow"].ratio
        seconds = [duration(found[row.name].seconds) for row in rows]
        body.append([name, *seconds, ratio(times), budget(times, UNUSUAL_BUDGET)])
    return Table(
        title=f"Key: {amount(COUNT)} unusual values",
        head=["values", "time", "plain ones", "ratio", "note"],
        rows=body,
        text="The whole key of a list, and of one of the plain values that stand for them.",
    )


def _table(description: str, request: dict[str, Any], effort: Effort) -> Table:
    plain = canonical(request)
    calls: dict[str, Callable[[], Any]] = {
        BASE: lambda: _sha256(plain).digest(),
        "orjson, sorted": lambda: _sha256(orjson.dumps(request, None, _SORTED)).digest(),
        "json, sorted": lambda: _sha256(json.dumps(request, sort_keys=True).encode()).digest(),
        "llmcache, form and digest": lambda: _sha256(canonical(request)).digest(),
        LLMCACHE: _keyed(request),
    }
    unusual = {f"{LLMCACHE}, with {name}": value for name, value in UNUSUAL.items()}
    for name, value in unusual.items():
        calls[name] = _keyed({**request, "extra": value})
    missing = []
    for name, key in (("DSPy", peers.dspy_key), ("LiteLLM", peers.litellm_key)):
        try:
            calls[name] = partial(key(), request)
        except ImportError as error:
            missing.append([name, "", "", f"not installed: {error.name}"])
    rows = [Row(name=name, call=call) for name, call in calls.items()]
    found = compare(rows, base=BASE, effort=effort)
    body = []
    for name, timing in found.items():
        note = ""
        if name == LLMCACHE and len(plain) > LARGE:
            note = budget(timing.ratio, LARGE_BUDGET)
        elif name in unusual:
            times = timing.ratio / found[LLMCACHE].ratio
            note = f"{ratio(times)} without it: {budget(times, UNUSUAL_BUDGET)}"
        body.append([name, duration(timing.seconds), ratio(timing.ratio), note])
    return Table(
        title=f"Key: {description}, {amount(len(plain))} bytes",
        head=["key", "time", "ratio", "note"],
        rows=body + missing,
    )


def _keyed(request: Mapping[str, Any]) -> Callable[[], Any]:
    """Return the key of a call as a call takes it: binding, canonical form, digest."""

    @llm_cached(name=f"keyed {len(request)}")
    def complete(**request: Any) -> str:
        raise NotImplementedError

    complete.cache.key(**request)
    keyer = complete._self_engine._resolved().free  # type: ignore[attr-defined]
    return partial(keyer.request, None, (), request)
