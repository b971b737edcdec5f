"""One thread does in order what tasks write, and ends when there is nothing to do."""

from __future__ import annotations

import os
import threading

import pytest

from llmcache.backends.lone_thread import LoneThread


def test_a_lone_thread_works_in_order_and_ends() -> None:
    thread = LoneThread("test")
    done: list[int] = []
    for number in range(20):
        last = thread.submit(lambda number=number: done.append(number))
    last.result()
    assert done == list(range(20))
    worker = thread._thread
    assert worker is not None
    assert not worker.daemon
    thread.stop(10)
    assert not worker.is_alive()
    thread.stop(10)
    assert thread.submit(lambda: 5).result() == 5
    thread.stop(10)


def test_an_idle_lone_thread_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmcache.backends.lone_thread.LINGER", 0.0)
    thread = LoneThread("test")
    assert thread.submit(lambda: 5).result() == 5
    if worker := thread._thread:
        worker.join(10)
    assert thread._thread is None


def test_a_lone_thread_hands_errors_over_and_goes_on() -> None:
    thread = LoneThread("test")
    with pytest.raises(ZeroDivisionError):
        thread.submit(lambda: 1 // 0).result()
    held, entered = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        held.wait()

    thread.submit(wait)
    entered.wait()
    unwanted = thread.submit(lambda: pytest.fail("was cancelled"))
    assert unwanted.cancel()
    held.set()
    assert thread.submit(lambda: thread.stop(10)).result() is None


def test_where_no_thread_can_start_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = LoneThread("test")

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            thread.submit(lambda: 5)
    assert thread.submit(lambda: 5).result() == 5
    thread.stop(10)


def test_a_forked_lone_thread_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = LoneThread("test")
    thread.submit(lambda: 5).result()
    worker = thread._thread
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: 1)
        thread.stop(10)
        assert thread._thread is worker
        assert thread.submit(lambda: 5).result() == 5
        assert thread._thread is not worker
        thread.stop(10)
