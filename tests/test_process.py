"""What the functions of one process have in common: defaults, numbers, names."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from stand_ins import FakeClock, in_threads

import llmcache
from llmcache import ConfigurationError, Stats, configure, llm_cached, reset_stats, stats
from llmcache.backends.base import Usage
from llmcache.backends.memory import MemoryStore
from llmcache.codec.encryption import Keyring
from llmcache.process import Process
from llmcache.settings import Settings


def shout(**options: Any) -> Any:
    """Return a new function, decorated with these options."""

    @llm_cached(**options)
    def shout(text: str) -> str:
        return text.upper()

    return shout


class Upstream:
    """Answers with the number of the call."""

    def __init__(self, **options: Any) -> None:
        self.calls = 0

        def ask(prompt: str) -> int:
            self.calls += 1
            return self.calls

        self.ask = llm_cached(name="ask", **options)(ask)


class Unscanned(MemoryStore):
    def usage(self, group: str) -> Usage:
        return Usage(None, None)


def test_what_is_configured_is_parsed(process: Process, clock: FakeClock) -> None:
    store = MemoryStore()
    configure(
        enabled=False,
        ttl=None,
        backend=store,
        max_size=5,
        max_bytes=None,
        max_value_bytes=7,
        strict=True,
        compress="zlib",
        encrypt=[bytes(32)],
        secret=bytes(16),
        clock=clock.clock,
    )
    assert process.settings == Settings(
        enabled=False,
        ttl=inf,
        backend=store,
        max_size=5,
        max_bytes=None,
        max_value_bytes=7,
        strict=True,
        compress="zlib",
        encrypt=Keyring([bytes(32)]),
        secret=bytes(16),
        clock=clock.clock,
    )


def test_options_that_are_left_out_stay(process: Process) -> None:
    configure(ttl="1h", strict=True)
    configure(ttl="2h", max_size=5)
    assert process.settings == Settings(ttl=7200.0, max_size=5, strict=True)


@pytest.mark.parametrize(
    "option", [{"ttl": "1w"}, {"max_size": 0}, {"backend": "nowhere"}], ids=str
)
def test_an_option_that_cannot_be_meant_changes_nothing(
    process: Process, option: dict[str, Any]
) -> None:
    configure(ttl=5)
    with pytest.raises(ConfigurationError):
        configure(strict=True, **option)
    assert process.settings == Settings(ttl=5.0)


def test_a_block_restores_what_was_before(process: Process) -> None:
    configure(ttl=5)
    before = process.settings
    with configure(ttl=6, strict=True):
        with configure(ttl=7):
            assert process.settings == Settings(ttl=7.0, strict=True)
        assert process.settings == Settings(ttl=6.0, strict=True)
    assert process.settings is before


def test_a_block_restores_it_after_an_exception_too(process: Process) -> None:
    with pytest.raises(KeyError, match="mine"), configure(ttl=6):
        raise KeyError("mine")
    assert process.settings == Settings()


def test_functions_that_are_decorated_already_follow() -> None:
    upstream = Upstream()
    assert [upstream.ask("hi"), upstream.ask("hi")] == [1, 1]
    configure(enabled=False)
    assert [upstream.ask("hi"), upstream.ask("hi")] == [2, 3]
    assert upstream.ask.cache.stats().calls == 2
    configure(enabled=True)
    assert upstream.ask("hi") == 1


def test_functions_that_are_decorated_but_not_called_yet_follow() -> None:
    upstream = Upstream()
    configure(enabled=False)
    assert [upstream.ask("hi"), upstream.ask("hi")] == [1, 2]


def test_answers_are_still_there_after_a_block(clock: FakeClock) -> None:
    upstream = Upstream()
    upstream.ask("hi")
    with configure(clock=clock.clock, max_size=5):
        assert upstream.ask("hi") == 2
    assert upstream.ask("hi") == 1


def test_a_shorter_ttl_holds_for_older_answers(clock: FakeClock) -> None:
    configure(clock=clock.clock)
    upstream = Upstream()
    upstream.ask("hi")
    clock.advance(60)
    assert upstream.ask("hi") == 1
    with configure(ttl="1m"):
        assert upstream.ask("hi") == 2


def test_what_is_declared_goes_before_what_is_configured(clock: FakeClock) -> None:
    configure(clock=clock.clock, ttl=10)
    upstream = Upstream(ttl=20)
    upstream.ask("hi")
    clock.advance(15)
    assert upstream.ask("hi") == 1
    clock.advance(5)
    assert upstream.ask("hi") == 2


def test_a_configured_backend_is_shared() -> None:
    store = MemoryStore()
    configure(backend=store)
    first, second = Upstream(), Upstream()
    assert (first.ask("hi"), second.ask("hi")) == (1, 1)
    assert second.calls == 0


def test_the_process_counts_what_its_functions_do() -> None:
    assert stats() == Stats()
    first, second = shout(), shout()
    for function in (first, first, first, second):
        function("hi")
    total = stats()
    assert (total.calls, total.hits, total.misses, total.stored) == (4, 2, 2, 2)
    assert total.size == 2
    assert total.time_saved == first.cache.stats().time_saved


def test_functions_that_are_gone_still_count() -> None:
    function = shout()
    function("hi")
    function("hi")
    saved = stats().time_saved
    del function
    gc.collect()
    for _ in range(2):
        assert stats() == Stats(hits=1, misses=1, stored=1, size=0, time_saved=saved)
    other = shout()
    other("hi")
    size = other.cache.stats().bytes
    assert stats() == Stats(hits=1, misses=2, stored=2, size=1, bytes=size, time_saved=saved)


def test_functions_that_go_at_once_still_count() -> None:
    functions = [shout() for _ in range(3)]
    assert [function("hi") for function in functions] == ["HI"] * 3
    functions.clear()
    gc.collect()
    assert stats().misses == 3


def test_a_reset_sets_everything_to_zero_and_keeps_answers() -> None:
    gone, function = shout(), shout()
    gone("hi")
    function("hi")
    del gone
    gc.collect()
    reset_stats()
    assert stats() == function.cache.stats() == Stats(size=1, bytes=stats().bytes)
    function("hi")
    assert (stats().hits, stats().misses) == (1, 0)


def test_a_function_that_goes_after_a_reset_counts_from_there() -> None:
    function = shout()
    function("hi")
    reset_stats()
    function("hi")
    del function
    gc.collect()
    assert (stats().hits, stats().misses) == (1, 0)


def test_nothing_is_lost_while_functions_come_and_go() -> None:
    def work(_: int) -> None:
        for _ in range(10):
            function = shout(name="shout")
            function("hi")
            del function
            stats()

    in_threads(work, threads=4)
    gc.collect()
    assert stats().calls == 40


@pytest.mark.parametrize("kind", ["name", "url", "store"])
def test_the_size_of_a_shared_store_counts_once(kind: str) -> None:
    shared = {"name": "shout"} if kind == "name" else {"backend": "memory://team"}
    options: dict[str, Any] = {"backend": MemoryStore()} if kind == "store" else shared
    first, second = shout(**options), shout(**options)
    first("hi")
    second("hi")
    second("ho")
    assert stats().size == first.cache.stats().size == second.cache.stats().size == 2
    first.cache.clear()
    assert stats().size == 0


def test_each_function_has_its_share_of_a_store() -> None:
    store = MemoryStore()
    first, second = shout(backend=store, version=1), shout(backend=store, version=2)
    first("hi")
    second("hi")
    second("ho")
    assert (first.cache.stats().size, second.cache.stats().size, stats().size) == (1, 2, 3)


def test_a_size_that_only_a_scan_could_tell_is_unknown() -> None:
    first, second = shout(), shout(backend=Unscanned())
    first("hi")
    assert stats().size == 1
    second("hi")
    assert (second.cache.stats().size, second.cache.stats().bytes) == (None, None)
    assert (stats().size, stats().bytes) == (None, None)
    assert stats().stored == 2


def test_what_a_shared_store_drops_is_counted_whoever_is_gone() -> None:
    first, second = shout(name="shout", max_size=1), shout(name="shout", max_size=1)
    first("hi")
    second("hi")
    del second
    gc.collect()
    assert stats().evicted == 0
    first("ho")
    assert stats().evicted == 1


def test_a_url_is_one_store() -> None:
    first, other = Upstream(backend="memory://one"), Upstream(backend="memory://two")
    again = Upstream(backend="memory://one")
    assert (first.ask("hi"), other.ask("hi")) == (1, 1)
    assert again.ask("hi") == 1
    assert (first.calls, other.calls, again.calls) == (1, 1, 0)


def test_a_private_store_is_one_function_s() -> None:
    first, second = shout(), shout()
    first("hi")
    second("hi")
    assert (first.cache.stats().hits, second.cache.stats().hits) == (0, 0)


def plain(prompt: str) -> str: ...
def longer(prompt: str, user: str = "") -> str: ...
def renamed(question: str) -> str: ...
def by_length(*args: Any, **kwargs: Any) -> int: ...
def by_first(*args: Any, **kwargs: Any) -> int: ...


Declared = tuple[Callable[..., Any], dict[str, Any]]
DISAGREEING: dict[str, tuple[Declared, Declared]] = {
    "parameters": ((plain, {}), (longer, {})),
    "names": ((plain, {}), (renamed, {})),
    "ignore": ((longer, {}), (longer, {"ignore": ("user",)})),
    "key": ((plain, {}), (plain, {"key": by_length})),
    "keys": ((plain, {"key": by_first}), (plain, {"key": by_length})),
}
disagreeing = pytest.mark.parametrize(
    ("one", "other"), DISAGREEING.values(), ids=DISAGREEING.keys()
)


def named(declared: Declared, **more: Any) -> Any:
    """Return a new function with this signature, decorated as it is declared."""
    example, options = declared

    def ask(*args: Any, **kwargs: Any) -> str:
        return "answer"

    ask.__signature__ = inspect.signature(example)  # type: ignore[attr-defined]
    return llm_cached(name="ask", **options, **more)(ask)


@disagreeing
def test_functions_of_one_name_must_agree(one: Declared, other: Declared) -> None:
    living = named(one)
    with pytest.raises(ConfigurationError, match=r"^name='ask'"):
        named(other)
    named(one)
    living.cache.clear()


@disagreeing
def test_a_disagreeing_function_may_follow(one: Declared, other: Declared) -> None:
    living = named(one)
    follower = named(one)
    del living
    gc.collect()
    with pytest.raises(ConfigurationError):
        named(other)
    del follower
    gc.collect()
    named(other)


@disagreeing
def test_functions_of_one_name_may_disagree_in_different_stores(
    one: Declared, other: Declared
) -> None:
    kept = [
        named(one),
        named(other, backend="memory://one"),
        named(one, backend="memory://two"),
        named(other, backend=MemoryStore()),
        named(one, backend=MemoryStore()),
    ]
    assert len({id(function) for function in kept}) == 5


@disagreeing
@pytest.mark.parametrize("kind", ["memory", "url", "store"])
def test_functions_of_one_name_must_agree_in_any_store(
    one: Declared, other: Declared, kind: str
) -> None:
    backends: dict[str, Any] = {"memory": "memory", "url": "memory://team", "store": MemoryStore()}
    living = named(one, backend=backends[kind])
    with pytest.raises(ConfigurationError, match=r"^name='ask'"):
        named(other, backend=backends[kind])
    living.cache.clear()


@disagreeing
def test_the_store_is_the_same_said_or_unsaid(one: Declared, other: Declared) -> None:
    living = named(one)
    with pytest.raises(ConfigurationError):
        named(other, backend="memory")
    living.cache.clear()


def test_a_bad_environment_does_not_hide_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCACHE_URL", "nowhere")
    living = named((plain, {}))
    with pytest.raises(ConfigurationError, match=r"^name='ask'"):
        named((longer, {}))
    monkeypatch.delenv("LLMCACHE_URL")
    assert living("hi") == "answer"


def test_functions_of_different_names_need_not_agree() -> None:
    kept = [llm_cached(name="one")(plain), llm_cached(name="two")(longer), llm_cached(renamed)]
    assert len(kept) == 3


def test_agreeing_functions_share_answers() -> None:
    first, second = Upstream(), Upstream()
    assert (first.ask("hi"), second.ask(prompt="hi")) == (1, 1)
    assert (second.ask("ho"), first.ask("ho")) == (1, 1)
    assert (first.calls, second.calls) == (1, 1)


def test_a_name_begins_anew_when_all_its_functions_are_gone() -> None:
    first = Upstream()
    first.ask("hi")
    del first
    gc.collect()
    second = Upstream()
    second.ask("hi")
    assert second.calls == 1


def test_one_function_decorated_twice_must_agree_with_itself() -> None:
    living = llm_cached(name="ask", key=by_length)(plain)
    with pytest.raises(ConfigurationError, match=r"^name='ask'"):
        llm_cached(name="ask", key=by_first)(plain)
    living.cache.clear()


def define(source: str) -> Any:
    """Return what a module that is executed again holds under the name ``function``."""
    namespace = {"__name__": "reloaded", "cached": llm_cached(name="ask")}
    exec(source, namespace)
    return namespace["function"]


def test_a_new_definition_replaces_the_old_one() -> None:
    old = define("@cached\ndef function(prompt): return 'old'")
    new = define("@cached\ndef function(prompt, user=''): return 'new'")
    assert new("hi") == "new"
    with pytest.raises(ConfigurationError):
        define("@cached\ndef another(prompt): ...")
    define("@cached\ndef another(prompt, user): ...\nfunction = another")
    assert old.cache.function is not new.cache.function


def test_a_new_definition_must_agree_with_all_others() -> None:
    old = define("@cached\ndef function(prompt): return 'old'")
    other = define("@cached\ndef another(prompt): return 'another'\nfunction = another")
    del old
    gc.collect()
    with pytest.raises(ConfigurationError):
        define("@cached\ndef function(prompt, user=''): return 'new'")
    assert other("hi") == "another"


def test_a_new_definition_does_not_speak_for_the_others() -> None:
    old = define("@cached\ndef function(prompt): return 'old'")
    other = define("@cached\ndef another(prompt): return 'another'\nfunction = another")
    new = define("@cached\ndef function(prompt): return 'new'")
    del old, new
    gc.collect()
    with pytest.raises(ConfigurationError):
        named((longer, {}))
    assert other("hi") == "another"


def test_the_process_is_reached_by_the_package(process: Process) -> None:
    shout()("hi")
    assert llmcache.stats() == process.stats()
    llmcache.reset_stats()
    assert process.stats().calls == 0


def test_two_definitions_at_one_place_that_both_live_do_not_answer_for_each_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A registry may hold the first definition when a second one takes its place."""
    namespace: dict[str, Any] = {"__name__": "handlers", "cached": llm_cached(name="event")}
    exec("@cached\ndef handle(a): return f'one:{a}'", namespace)
    first = namespace["handle"]
    assert first("x") == "one:x"
    namespace["cached"] = llm_cached(name="event", ignore=("b",))
    exec("@cached\ndef handle(a, b=0): return f'two:{a},{b}'", namespace)
    second = namespace["handle"]
    assert [second("y", 5), first("y"), second("y", 6)] == ["two:y,5", "one:y", "two:y,5"]
    assert first("y") == "one:y"
    assert first.cache.stats().uncacheable == 2
    assert "another function's" in caplog.text
