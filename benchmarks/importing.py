"""How long ``import llmcache`` takes, next to what it cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from statistics import median

from benchmarks.cases import ROOT
from benchmarks.tables import Table, budget, duration, ratio
from benchmarks.timing import Effort

NEEDED = "import wrapt, cachetools, orjson"
OURS = "import llmcache"
BUDGET = 1.5
STATEMENTS = (NEEDED, OURS, "import pydantic", "import openai")

_TIMED = """\
from time import perf_counter as now
started = now()
{statement}
print(now() - started)"""


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(4 if effort.quick else 22):
            first = number % len(STATEMENTS)
            turns = STATEMENTS[first:] + STATEMENTS[:first]
            rounds.append({statement: _seconds(statement, compiled) for statement in turns})
    del rounds[0]
    rows = []
    for statement in STATEMENTS:
        times = median(found[statement] / found[NEEDED] for found in rounds)
        note = budget(times, BUDGET) if statement == OURS else ""
        seconds = median(found[statement] for found in rounds)
        rows.append([statement, duration(seconds), ratio(times), note])
    return [
        Table(
            title="Import",
            text="In a new interpreter each, from files that were compiled and read before.",
            head=["statement", "time", "ratio", "note"],
            rows=rows,
        )
    ]


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
