"""How long ``import llmcache`` takes, next to what it cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from statistics import median

from benchmarks.cases import ROOT
from benchmarks.tables import Table, budget, duration, ratio
from benchmarks.timing import Effort

NEEDED = "import wrapt, cachetools, orjson"
OURS = "import llmcache"
BUDGET = 1.5
STATEMENTS = (NEEDED, OURS, "import pydantic", "import openai")
OTHERS = (
    "import cachetools",
    "import dogpile.cache",
    "import diskcache",
    "import aiocache",
    "import cashews",
    "import cachu",
    "import joblib",
    "import dspy",
    "import langchain_core.caches, langchain_core.language_models.chat_models",
    "from litellm.caching.caching import Cache",
)

_TIMED = """\
from time import perf_counter as now
started = now()
{statement}
print(now() - started)"""


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    # Some of the others take seconds.
    found = _compare((NEEDED, *OTHERS), 2 if effort.quick else 4)
    found |= _compare(STATEMENTS, 4 if effort.quick else 22)
    rows = []
    for statement in STATEMENTS + OTHERS:
        seconds, times = found[statement]
        note = budget(times, BUDGET) if statement == OURS else ""
        rows.append([statement, duration(seconds), ratio(times), note])
    return [
        Table(
            title="Import",
            text="In a new interpreter each, from files that were compiled and read before.",
            head=["statement", "time", "ratio", "note"],
            rows=rows,
        )
    ]


def _compare(statements: Sequence[str], times: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each, and of the ratios to what is needed in the same round."""
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(times):
            first = number % len(statements)
            turns = [*statements[first:], *statements[:first]]
            rounds.append({statement: _seconds(statement, compiled) for statement in turns})
    del rounds[0]
    return {
        statement: (
            median(found[statement] for found in rounds),
            median(found[statement] / found[NEEDED] for found in rounds),
        )
        for statement in statements
    }


def _seconds(statement: str, compiled: str) -> float:
    """Return how long a new interpreter takes for *statement*; it keeps what it compiles."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    ran = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement=statement)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    return float(ran.stdout)
