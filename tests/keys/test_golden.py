"""Keys that were made once are made again, in every process and on every Python.

golden.jsonl has a line for each: an expression, and what it has to become.
"""

from __future__ import annotations

import collections
import datetime as dt
import functools
import hashlib
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, Union
from zoneinfo import ZoneInfo

import anthropic
import numpy as np
import openai
import pytest
from loopback import load_recordings

import llmcache
import llmcache.keys.request
from keys import named
from keys.reference import reference
from keys.reference_functions import Refused
from llmcache.keys.canonical import canonical

TESTS = pathlib.Path(__file__).parents[1]
ROOT = TESTS.parent
RECORDINGS = TESTS / "recordings.jsonl"
ALL_RECORDINGS = ROOT.parent / "shared" / "recordings" / "recordings.jsonl"
SPECIFICATION = ROOT / "docs" / "canonical-form.rst"

# What an evaluated expression may name.
NAMESPACE = (
    {
        module.__name__: module
        for module in (anthropic, collections, functools, math, openai, pathlib, re, uuid)
    }
    | {
        kind.__name__: kind
        for kind in (Counter, Decimal, Fraction, OrderedDict, ZoneInfo, defaultdict, deque)
    }
    | {
        "Annotated": Annotated,
        "Any": Any,
        "Literal": Literal,
        "Union": Union,
        "dt": dt,
        "named": named,
        "np": np,
    }
)


def golden(kind: str) -> list[dict[str, Any]]:
    lines = pathlib.Path(__file__).with_name("golden.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if kind in row]


def made(expression: str) -> Any:
    return eval(expression, dict(NAMESPACE))


def form(expression: str) -> bytes:
    try:
        return canonical(made(expression))
    except llmcache.UncacheableArgument:
        return b""


def recorded() -> dict[str, str]:
    return {
        recording.id: llmcache.generate_cache_key(recording.request)
        for recording in load_recordings(RECORDINGS)
    }


def everything() -> dict[str, str]:
    found = {row["value"]: form(row["value"]).hex() for row in golden("value")}
    for row in golden("request"):
        found[row["request"]] = llmcache.generate_cache_key(*made(row["request"]))
    for row in golden("call"):
        found[row["call"]] = made(row["call"])
    return found | recorded()


def each(kind: str) -> list[Any]:
    return [pytest.param(row, id=row[kind]) for row in golden(kind)]


@pytest.mark.parametrize("row", each("value"))
def test_a_value_has_its_bytes(row: dict[str, str]) -> None:
    found = form(row["value"])
    assert found.decode() == row.get("form", found.decode())
    assert hashlib.sha256(found).hexdigest() == row["sha256"]


@pytest.mark.parametrize("row", each("request"))
def test_a_request_has_its_key(row: dict[str, str]) -> None:
    assert llmcache.generate_cache_key(*made(row["request"])) == row["key"]


@pytest.mark.parametrize("row", each("call"))
def test_a_call_has_its_key(row: dict[str, str]) -> None:
    assert made(row["call"]) == row["key"]


def test_each_recorded_request_has_its_key() -> None:
    assert recorded() == {row["recording"]: row["key"] for row in golden("recording")}


@pytest.mark.skipif(not ALL_RECORDINGS.exists(), reason="a plain checkout has a part of them")
def test_all_recorded_requests_together_have_their_digest() -> None:
    [row] = golden("recordings")
    recordings = load_recordings(ALL_RECORDINGS)
    keys = [llmcache.generate_cache_key(recording.request) for recording in recordings]
    assert len(set(keys)) == row["different"]
    assert hashlib.sha256("".join(keys).encode()).hexdigest() == row["sha256"]


@pytest.mark.parametrize("row", each("value"))
def test_the_reference_has_the_same_bytes(row: dict[str, str]) -> None:
    value = made(row["value"])
    try:
        found = reference(value)
    except Refused:
        found = b""
    assert hashlib.sha256(found).hexdigest() == row["sha256"]


def test_every_tag_of_the_specification_has_a_vector() -> None:
    tags = set(re.findall("``!([a-z]+)", SPECIFICATION.read_text()))
    forms = b"".join(form(row["value"]) for row in golden("value"))
    assert tags - set(re.findall("!([a-z]+)", forms.decode())) == {"key", "owner"}


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_the_hash_seed_changes_nothing(seed: str) -> None:
    path = os.pathsep.join(map(str, (ROOT, TESTS, ROOT / "examples")))
    done = subprocess.run(
        [sys.executable, "-m", "keys.test_golden"],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == everything()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(everything()))
