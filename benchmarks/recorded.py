"""Hits of what providers really answered, each against the floor for that very object."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median, quantiles
from typing import Any

import orjson

from benchmarks import cases
from benchmarks.check import new_name
from benchmarks.floor import FLOOR, floor
from benchmarks.nearest import nearest
from benchmarks.tables import Table, amount, budget, ratio
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached

BUDGET = 2.0


def table(effort: Effort) -> Table:
    """Every recorded answer, against pydantic, which has a valid body to read where it refuses."""
    effort = replace(effort, rounds=max(15, effort.rounds // 4), slot=effort.slot / 2)
    rows = []
    for kind in cases.SDK_KINDS:
        answered = cases.of_kind(cases.exchanges(quick=effort.quick), kind)
        for lenient in (False, True):
            chosen = [e for e in answered if cases.validates(e) is not lenient]
            bodies = [nearest(type(e.answer), e.body) if lenient else e.body for e in chosen]
            ratios = sorted(
                _against_floor(exchange, body, effort=effort)
                for exchange, body in zip(chosen, bodies, strict=True)
                if body is not None
            )
            if not ratios:
                continue
            left_out = bodies.count(None)
            high = quantiles(ratios, n=10, method="inclusive")[-1] if len(ratios) > 1 else ratios[0]
            rows.append(
                [
                    kind,
                    "made valid" if lenient else "as it came",
                    amount(len(ratios)),
                    amount(left_out),
                    ratio(median(ratios)),
                    ratio(high),
                    ratio(ratios[-1]),
                    budget(ratios[-1], BUDGET),
                ]
            )
    return Table(
        title="Hit: every recorded answer",
        text="Ratios to a floor that reads the body with its class's model_validate_json. Where\n"
        "that refuses the body that came, it gets the nearest that it takes, if there is one.",
        head=["answers", "body", "number", "left out", "median", "90 % below", "worst", "note"],
        rows=rows,
    )


def _against_floor(exchange: cases.Exchange, body: dict[str, Any], *, effort: Effort) -> float:
    """Return how many times the floor for *body* a hit takes."""

    @llm_cached(name=new_name(), strict=True)
    def create(**request: Any) -> Any:
        return exchange.answer

    kind = type(exchange.answer)
    create(**exchange.request)
    if type(create(**exchange.request)) is not kind or create.cache.stats().hits != 1:
        raise RuntimeError("no hit")
    least = floor(exchange.request, orjson.dumps(body), kind.model_validate_json)
    rows = [
        Row(name=FLOOR, call=least),
        Row(name="llmcache", call=partial(create, **exchange.request)),
    ]
    return compare(rows, base=FLOOR, effort=effort)["llmcache"].ratio
