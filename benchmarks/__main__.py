"""Run the benchmarks: ``python -m benchmarks [key hit …] [--quick] [--write]``."""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version

from benchmarks import peers
from benchmarks.cases import ROOT
from benchmarks.tables import Table
from benchmarks.timing import FULL, QUICK, Effort

QUESTIONS = ("key", "hit", "path", "miss", "size", "importing", "scale", "sqlite", "redis")
PAGE = ROOT / "docs" / "benchmarks.rst"
OURS = ("llmcache", "orjson", "wrapt", "pydantic", "openai", "anthropic")


def main() -> None:
    """Answer the questions that the command line names, all of them if it names none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="a rough look, in seconds")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)} too")
    arguments = parser.parse_args()
    if unknown := set(arguments.questions) - set(QUESTIONS):
        parser.error(f"no question {', '.join(sorted(unknown))}: there is {', '.join(QUESTIONS)}")
    if arguments.write and (arguments.quick or arguments.questions):
        parser.error("--write is for all questions, and not for a quick look")
    print(f"{_machine()}; {_versions()}")
    answers: list[Table] = []
    try:
        for question in arguments.questions or QUESTIONS:
            answers += _answer(question, QUICK if arguments.quick else FULL)
    finally:
        peers.close()
    if arguments.write:
        PAGE.write_text(_page(answers), encoding="utf-8")


def _answer(question: str, effort: Effort) -> list[Table]:
    """Return the tables of a question, which are printed as well."""
    started = time.perf_counter()
    tables: list[Table] = import_module(f"benchmarks.{question}").tables(effort)
    for table in tables:
        print(f"\n{table.plain()}", flush=True)
    print(f"\n({question}: {time.perf_counter() - started:.0f} s)", flush=True)
    return tables


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{datetime.now(UTC).date()}, {python}, {os.cpu_count()} cores"


def _versions() -> str:
    named = {package: version(package) for package in OURS} | peers.versions()
    return ", ".join(f"{package} {number}" for package, number in named.items())


def _page(answers: list[Table]) -> str:
    head = f"""\
Benchmarks
==========

What ``python -m benchmarks --write`` measured: {_machine()}.

All rows of a table are timed in one run. They take turns in {FULL.rounds} rounds, in another order
each; a time is the median over the rounds, and a ratio the median of the ratios to the base in the
same round. A budget stands beside the ratio that it is for. Nothing asserts a time.

The other caches are those that ``pip install "llmcache[bench]"`` pins, each used as its own
documentation says, and each checked in the same run: a note says where one answers with something
else than the function did, or where callers share one object.

Versions: {_versions()}.
"""
    return "\n".join([head, *(table.rst() for table in answers)])


if __name__ == "__main__":
    main()
