"""A store that fails costs nothing for a while, and is found to be back by a probe."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest
from stand_ins import FakeClock

from llmcache import breaker as module
from llmcache.breaker import FIRST_PAUSE, LONGEST_PAUSE, STEADY, Breaker
from llmcache.errors import StoreUnusable


class Probed:
    """A probe that is run by hand, and what it finds."""

    def __init__(self) -> None:
        self.fails = True
        self.error: type[BaseException] = ConnectionError
        self.waiting: list[Callable[[], None]] = []
        self.runs = 0

    def __call__(self) -> None:
        self.runs += 1
        if self.fails:
            raise self.error("redis://:hunter2@host")

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop()()


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probed:
    probe = Probed()

    class Thread:
        def __init__(self, *, target: Callable[[], None], name: str, daemon: bool) -> None:
            assert daemon
            self.target = target

        def start(self) -> None:
            probe.waiting.append(self.target)

    monkeypatch.setattr(module.threading, "Thread", Thread)
    return probe


@pytest.fixture
def breaker(clock: FakeClock, probe: Probed) -> Breaker:
    return Breaker("reading from X", limit=0.1, monotonic=lambda: clock.now, probe=probe)


def fail(breaker: Breaker, times: int = 3, seconds: float = 0.001) -> None:
    for _ in range(times):
        breaker.failed(ConnectionError("hunter2"), seconds)


def test_it_is_closed_at_first(breaker: Breaker) -> None:
    assert not breaker.turns_away()


def test_three_failures_on_end_open_it(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert not breaker.turns_away()
    fail(breaker, 1)
    assert breaker.turns_away()


def test_failures_that_are_not_on_end_do_not(breaker: Breaker) -> None:
    for _ in range(10):
        fail(breaker, 2)
        breaker.worked()
    assert not breaker.turns_away()


def test_one_failure_that_takes_the_time_of_a_call_opens_it(breaker: Breaker) -> None:
    fail(breaker, 1, seconds=0.1)
    assert breaker.turns_away()


def test_it_is_slow_while_it_is_open_and_failures_took_the_time_of_a_call(
    breaker: Breaker, probe: Probed, clock: FakeClock
) -> None:
    fail(breaker)
    assert breaker.is_open
    assert not breaker.is_slow
    fail(breaker, 1, seconds=0.1)
    assert breaker.is_slow
    probe.fails = False
    clock.advance(FIRST_PAUSE)
    breaker.turns_away()
    probe.run()
    assert not breaker.is_slow


def test_the_time_of_failures_on_end_adds_up(breaker: Breaker) -> None:
    fail(breaker, 1, seconds=0.06)
    breaker.worked()
    fail(breaker, 1, seconds=0.06)
    assert not breaker.turns_away()
    fail(breaker, 1, seconds=0.06)
    assert breaker.turns_away()


def test_each_change_is_logged_once(
    breaker: Breaker, probe: Probed, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    fail(breaker, 50)
    for _ in range(20):
        clock.advance(5)
        breaker.turns_away()
        probe.run()
    assert caplog.messages == [
        "reading from X failed (ConnectionError): calls go through until it is back"
    ]
    probe.fails = False
    clock.advance(5)
    breaker.turns_away()
    probe.run()
    assert caplog.messages[1:] == ["reading from X is back"]
    assert "hunter2" not in caplog.text


def test_what_fails_again_and_again_is_restless(
    breaker: Breaker, probe: Probed, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    probe.fails = False
    pauses = []
    for _ in range(8):
        fail(breaker)
        began = clock.now
        while breaker.turns_away():
            clock.advance(0.05)
            breaker.turns_away()
            probe.run()
        pauses.append(clock.now - began)
        breaker.worked()
        clock.advance(STEADY / 3)
    assert pauses[0] < pauses[1] < pauses[2] <= pauses[-1] < LONGEST_PAUSE * 1.2
    failed = "reading from X failed (ConnectionError): calls go through until it is back"
    assert caplog.messages == [failed, "reading from X is back", failed]
    for _ in range(5):
        clock.advance(STEADY)
        breaker.worked()
    assert caplog.messages[3:] == ["reading from X is back"]
    fail(breaker)
    clock.advance(FIRST_PAUSE)
    breaker.turns_away()
    probe.run()
    assert not breaker.is_open
    assert caplog.messages[4:] == [failed, "reading from X is back"]


def test_what_works_while_it_is_restless_and_open_settles_nothing(
    breaker: Breaker, probe: Probed, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    probe.fails = False
    fail(breaker)
    clock.advance(FIRST_PAUSE)
    breaker.turns_away()
    probe.run()
    fail(breaker)
    clock.advance(STEADY)
    breaker.worked()
    assert breaker.is_open
    assert len(caplog.messages) == 3


def test_an_error_of_ours_says_why(breaker: Breaker, caplog: pytest.LogCaptureFixture) -> None:
    breaker.failed(StoreUnusable("a.db is of version 9"), 1.0)
    assert "(StoreUnusable: a.db is of version 9)" in caplog.text


def test_a_probe_that_works_closes_it(breaker: Breaker, probe: Probed, clock: FakeClock) -> None:
    fail(breaker)
    probe.fails = False
    clock.advance(FIRST_PAUSE)
    assert breaker.turns_away()
    probe.run()
    assert not breaker.turns_away()
    fail(breaker, 2)
    assert not breaker.turns_away()


def test_there_is_one_probe_at_a_time(breaker: Breaker, probe: Probed, clock: FakeClock) -> None:
    fail(breaker)
    clock.advance(FIRST_PAUSE / 2)
    breaker.turns_away()
    assert not probe.waiting
    clock.advance(FIRST_PAUSE / 2)
    for _ in range(10):
        breaker.turns_away()
    assert len(probe.waiting) == 1


def test_pauses_grow(breaker: Breaker, probe: Probed, clock: FakeClock) -> None:
    fail(breaker)
    for _ in range(600):
        clock.advance(0.1)
        breaker.turns_away()
        probe.run()
    assert 60 / LONGEST_PAUSE <= probe.runs <= 60 / (LONGEST_PAUSE * 0.7) + 4


@pytest.mark.parametrize("error", [ConnectionError, SystemExit, asyncio.CancelledError])
def test_a_probe_that_fails_in_any_way_is_followed_by_a_pause(
    breaker: Breaker, probe: Probed, clock: FakeClock, error: type[BaseException]
) -> None:
    fail(breaker)
    probe.error = error
    clock.advance(FIRST_PAUSE)
    breaker.turns_away()
    probe.run()
    breaker.turns_away()
    assert not probe.waiting


def test_pauses_are_short_again_the_next_time(
    breaker: Breaker, probe: Probed, clock: FakeClock
) -> None:
    for _ in range(2):
        probe.fails = True
        fail(breaker)
        for pause in (FIRST_PAUSE, LONGEST_PAUSE):
            assert breaker.turns_away()
            assert not probe.waiting
            clock.advance(pause)
            breaker.turns_away()
            assert len(probe.waiting) == 1
            probe.fails = pause is FIRST_PAUSE
            probe.run()
        assert not breaker.is_open
        clock.advance(STEADY)


def test_it_is_back_within_the_longest_pause(
    breaker: Breaker, probe: Probed, clock: FakeClock
) -> None:
    fail(breaker)
    for _ in range(100):
        clock.advance(0.1)
        breaker.turns_away()
        probe.run()
    probe.fails = False
    clock.advance(LONGEST_PAUSE)
    breaker.turns_away()
    probe.run()
    assert not breaker.is_open


def test_no_thread_at_the_end_of_the_interpreter_is_no_error(
    breaker: Breaker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, probe: Probed
) -> None:
    class Late:
        def __init__(self, **options: object) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

    fail(breaker)
    thread = module.threading.Thread
    monkeypatch.setattr(module.threading, "Thread", Late)
    clock.advance(FIRST_PAUSE)
    assert breaker.turns_away()
    monkeypatch.setattr(module.threading, "Thread", thread)
    assert breaker.turns_away()
    assert len(probe.waiting) == 1


def test_a_fork_has_probes_of_its_own(
    breaker: Breaker, probe: Probed, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(breaker)
    clock.advance(FIRST_PAUSE)
    breaker.turns_away()
    breaker._lock.acquire()
    parent = os.getpid()
    monkeypatch.setattr(module.os, "getpid", lambda: parent + 1)
    breaker.turns_away()
    assert len(probe.waiting) == 2


def test_a_probe_runs_in_a_thread_of_its_own(clock: FakeClock) -> None:
    threads: list[threading.Thread] = []
    done = threading.Event()

    def probe() -> None:
        threads.append(threading.current_thread())
        done.set()

    breaker = Breaker("X", limit=0.1, monotonic=lambda: clock.now, probe=probe)
    fail(breaker)
    clock.advance(FIRST_PAUSE)
    breaker.turns_away()
    assert done.wait(10)
    threads[0].join(10)
    assert threads[0] is not threading.current_thread()
    assert not breaker.is_open
