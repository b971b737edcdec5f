"""Those who listen are told the outcome of every call, and can break none."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from stand_ins import FakeClock
from twins import World, worlds

import llmcache
from llmcache import ConfigurationError, Event, configure, llm_cached, on_event
from llmcache.process import Process


@pytest.fixture
def heard() -> list[Event]:
    return []


@worlds
def test_a_miss_and_a_hit_are_told(world: World, heard: list[Event], clock: FakeClock) -> None:
    def ask(text: str) -> str:
        clock.advance(2)
        return text

    ask = world.cached(ask, name="ask")
    with configure(clock=clock.clock), on_event(heard.append):
        world.run(ask("hi"))
        clock.advance(10)
        world.run(ask("hi"))
        key = ask.cache.key("hi")
    assert heard == [
        Event(function="ask", outcome="miss", key=key, age=None, duration=2.0, saved=0.0),
        Event(function="ask", outcome="hit", key=key, age=10.0, duration=0.0, saved=2.0),
    ]


@worlds
def test_every_outcome_is_told_as_it_is_counted(world: World, heard: list[Event]) -> None:
    def ask(text: object, stream: bool = False) -> str:
        return "answer"

    ask = world.cached(ask)
    with on_event(heard.append):
        world.run(ask("hi"))
        world.run(ask("hi"))
        world.run(ask("hi", stream=True))
        world.run(ask(object()))
    assert [event.outcome for event in heard] == ["miss", "hit", "bypassed", "uncacheable"]
    assert [event.key is None for event in heard] == [False, False, True, True]
    assert [event.age is None for event in heard] == [True, False, True, True]
    assert all(event.function.endswith("ask") for event in heard)
    stats = ask.cache.stats()
    assert (stats.misses, stats.hits, stats.bypassed, stats.uncacheable) == (1, 1, 1, 1)


@worlds
def test_a_call_that_fails_is_told(world: World, heard: list[Event], clock: FakeClock) -> None:
    def ask(text: str) -> str:
        clock.advance(3)
        raise LookupError(text)

    ask = world.cached(ask, name="ask")
    with (
        configure(clock=clock.clock),
        on_event(heard.append),
        pytest.raises(LookupError, match="hi"),
    ):
        world.run(ask("hi"))
    assert [(event.outcome, event.duration) for event in heard] == [("miss", 3.0)]


def test_a_generator_function_is_told(heard: list[Event]) -> None:
    @llm_cached
    def tokens(text: str):
        yield text

    with on_event(heard.append):
        assert list(tokens("hi")) == ["hi"]
    assert [event.outcome for event in heard] == ["bypassed"]


def test_a_coroutine_of_a_plain_function_is_told_when_it_ends(heard: list[Event]) -> None:
    async def upstream(text: str) -> str:
        return text

    @llm_cached
    def ask(text: str):
        return upstream(text)

    async def scenario() -> None:
        waiting = ask("hi")
        assert not heard
        await waiting
        assert [event.outcome for event in heard] == ["miss"]
        await ask("hi")

    with on_event(heard.append):
        asyncio.run(scenario())
    assert [event.outcome for event in heard] == ["miss", "hit"]


def test_nobody_is_told_while_the_cache_is_off(heard: list[Event]) -> None:
    ask = llm_cached(lambda text: text)
    with on_event(heard.append), configure(enabled=False):
        ask("hi")
    assert not heard


def test_who_has_left_is_told_nothing(heard: list[Event], process: Process) -> None:
    ask = llm_cached(lambda text: text)
    first = on_event(heard.append)
    others: list[Event] = []
    on_event(others.append)
    ask("hi")
    first.close()
    first.close()
    ask("hi")
    assert (len(heard), len(others)) == (1, 2)
    assert len(process.listeners.callbacks) == 1


def test_a_callback_that_raises_is_switched_off(
    heard: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    def grumble(event: Event) -> None:
        raise ValueError(f"a secret: {event}")

    ask = llm_cached(lambda text: text)
    with on_event(grumble), on_event(heard.append):
        assert [ask("hi") for _ in range(3)] == ["hi"] * 3
    assert len(heard) == 3
    assert len(caplog.records) == 1
    assert "grumble raised ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_an_interrupt_in_a_callback_is_the_callers() -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    ask = llm_cached(lambda text: text)
    with on_event(interrupt), pytest.raises(KeyboardInterrupt):
        ask("hi")


def test_an_event_is_a_value() -> None:
    event = Event(function="f", outcome="hit", key="k", age=1.0, duration=0.1, saved=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.saved = 0.0  # type: ignore[misc]
    assert event == dataclasses.replace(event)


def test_a_callback_must_be_callable() -> None:
    with pytest.raises(ConfigurationError, match="on_event: a str cannot be called"):
        on_event("print")  # type: ignore[arg-type]


def test_the_public_name_is_the_one_of_the_process() -> None:
    assert llmcache.on_event is on_event
