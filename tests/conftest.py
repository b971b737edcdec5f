"""Each test has a process of its own: no functions, no settings, no environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from stand_ins import FakeClock

from llmcache.process import Process

settings.register_profile("llmcache", deadline=None)
settings.load_profile("llmcache")


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    for variable in os.environ:
        if variable.startswith("LLMCACHE_"):
            monkeypatch.delenv(variable)
    process = Process()
    monkeypatch.setattr("llmcache.process.current", process)
    return process


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
