"""Hits of what providers really answered, each against the floor for that very object."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from statistics import median, quantiles
from typing import Any

import orjson

from benchmarks import cases
from benchmarks.check import new_name
from benchmarks.floor import FLOOR, floor
from benchmarks.tables import Table, amount, budget, ratio
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached

BUDGET = 2.0


def table(effort: Effort) -> Table:
    """Every recorded answer, against pydantic or, where that refuses, against the SDK itself."""
    effort = Effort(rounds=max(15, effort.rounds // 4), slot=effort.slot / 2, quick=effort.quick)
    rows = []
    for kind in cases.SDK_KINDS:
        answered = cases.of_kind(cases.exchanges(quick=effort.quick), kind)
        for lenient in (False, True):
            chosen = [e for e in answered if cases.validates(e) is not lenient]
            ratios = sorted(_against_floor(e, lenient=lenient, effort=effort) for e in chosen)
            if not ratios:
                continue
            high = quantiles(ratios, n=10, method="inclusive")[-1] if len(ratios) > 1 else ratios[0]
            rows.append(
                [
                    kind,
                    "the SDK's construct_type" if lenient else "model_validate_json",
                    amount(len(ratios)),
                    ratio(median(ratios)),
                    ratio(high),
                    ratio(ratios[-1]),
                    budget(ratios[-1], BUDGET),
                ]
            )
    return Table(
        title="Hit: every recorded answer",
        text="Ratios to a floor that makes the object with what the second column says.",
        head=["answers", "floor", "number", "median", "90 % below", "worst", "note"],
        rows=rows,
    )


def _against_floor(exchange: cases.Exchange, *, lenient: bool, effort: Effort) -> float:
    """Return how many times the floor a hit takes."""

    @llm_cached(name=new_name(), strict=True)
    def create(**request: Any) -> Any:
        return exchange.answer

    kind = type(exchange.answer)
    create(**exchange.request)
    if type(create(**exchange.request)) is not kind or create.cache.stats().hits != 1:
        raise RuntimeError("no hit")
    read: Callable[[bytes], Any] = kind.model_validate_json
    if lenient:
        models = import_module(f"{kind.__module__.partition('.')[0]}._models")
        read = lambda data: models.construct_type(type_=kind, value=orjson.loads(data))  # noqa: E731
    rows = [
        Row(name=FLOOR, call=floor(exchange.request, orjson.dumps(exchange.body), read)),
        Row(name="llmcache", call=partial(create, **exchange.request)),
    ]
    return compare(rows, base=FLOOR, effort=effort)["llmcache"].ratio
