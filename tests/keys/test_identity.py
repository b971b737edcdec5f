"""Different functions never answer for each other, and equal ones do."""

from __future__ import annotations

import asyncio
import collections
import datetime as dt
import functools
import inspect
import json
import logging
import pathlib
import re
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from unittest import mock

import anthropic
import numpy as np
import openai
import pytest
import stamina
import tenacity
import wrapt

import llmcache
from keys import named
from llmcache import ConfigurationError, UncacheableArgument, UncacheableFunction, llm_cached
from llmcache.keys import objects, writers
from llmcache.keys.canonical import canonical

shared = functools.partial(llm_cached, backend="memory://identity", strict=True)


def factory(word: Any) -> Any:
    @shared
    def ask(prompt: str) -> Any:
        return word, prompt

    return ask


def test_two_methods_of_one_name_differ() -> None:
    class One:
        @shared
        def ask(self, prompt: str) -> str:
            return "one"

    class Other:
        @shared
        def ask(self, prompt: str) -> str:
            return "other"

    assert [One().ask("a"), Other().ask("a")] == ["one", "other"]


@pytest.mark.parametrize(
    "words", [("a", "b"), (1, 1.0, True, "1"), ([], None, {}), (named.Point(1), named.Spot(1))]
)
def test_two_closures_of_one_factory_differ(words: tuple[Any, ...]) -> None:
    asks = [factory(word) for word in words]
    assert [ask("p") for ask in asks] == [(word, "p") for word in words]
    assert [ask("p") for ask in asks[::-1]] == [(word, "p") for word in words[::-1]]


def test_equal_closures_are_one_function() -> None:
    assert factory(["a"]).cache.key("p") == factory(("a",)).cache.key("p")


def test_what_a_closure_closes_over_is_compared_with_nothing() -> None:
    # To ask whether an array is equal to something is an error.
    lengths = [0, 1, 3, 4]
    keys = {factory(np.arange(length)).cache.key("p") for length in lengths}
    assert len(keys) == len(lengths)


def test_what_a_closure_closes_over_counts() -> None:
    def made(word: str) -> Any:
        def inner() -> str:
            return word

        def outer() -> str:
            return inner()

        @shared
        def ask(prompt: str) -> str:
            return outer() + prompt

        return ask

    assert [made("a")("p"), made("b")("p")] == ["ap", "bp"]


def test_a_closure_counts_as_it_is_at_decoration() -> None:
    word = ["a"]
    ask = factory(word)
    key = ask.cache.key("p")
    word.append("b")
    assert ask.cache.key("p") == key
    assert factory(word).cache.key("p") != key


def test_what_is_closed_over_may_be_assigned_after_decoration() -> None:
    def late(word: str) -> Any:
        @shared
        def ask(prompt: str) -> str:
            return system + prompt

        system = word
        return ask

    asks = [late("a"), late("b")]
    assert [ask("p") for ask in asks] == ["ap", "bp"]


def test_a_closure_without_a_form_is_refused() -> None:
    @shared
    def ask(prompt: str) -> Any:
        return lock

    lock = threading.Lock()

    with pytest.raises(UncacheableFunction, match="functions: the closure variable word of"):
        factory(lock)("p")


class Bot:
    def __init__(self, **settings: Any) -> None:
        vars(self).update(settings)

    @shared
    def ask(self, prompt: str) -> Any:
        return repr(vars(self)) + prompt

    @shared
    async def aask(self, prompt: str) -> Any:
        return repr(vars(self)) + prompt

    @shared
    @classmethod
    def called(cls, prompt: str) -> str:
        return cls.__name__ + prompt

    @staticmethod
    @shared
    def plain(prompt: str) -> str:
        return prompt


class Loud(Bot):
    @shared
    def ask(self, prompt: str) -> Any:
        return super().ask(prompt) + "!"


class Louder(Loud):
    @shared
    def ask(self, prompt: str) -> Any:
        return super().ask(prompt) + "!"


def test_two_instances_with_other_settings_differ() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"model": "a"},
        {"model": "b"},
        {"model": "a", "temperature": 0},
        {"model": "a", "temperature": 0.0},
        {"other": "a"},
    ]
    bots = [Bot(**options) for options in settings]
    assert [bot.ask("p") for bot in bots] == [repr(options) + "p" for options in settings]
    keys = {bot.aask.cache.key("p") for bot in bots}
    assert len(keys) == len(bots)
    assert Bot(a=1, b=2).ask.cache.key("p") == Bot(b=2, a=1).ask.cache.key("p")


def test_an_instance_that_changes_is_another() -> None:
    bot = Bot(model="a", history=[])
    first = bot.ask("p")
    bot.history.append("x")
    second = bot.ask("p")
    assert first != second
    bot.history.clear()
    assert bot.ask("p") == first
    bot.model = "b"
    assert "'b'" in bot.ask("p")


def test_a_method_is_keyed_alike_however_it_is_called() -> None:
    bot = Bot(model="a")
    keys = {
        bot.ask.cache.key("p"),
        bot.ask.cache.key(prompt="p"),
        Bot(model="a").ask.cache.key("p"),
    }
    assert len(keys) == 1
    Bot.ask(bot, "p")
    assert bot.ask.cache.contains("p")


def test_a_class_and_its_subclass_differ() -> None:
    bots = [Louder(model="a"), Bot(model="a"), Loud(model="a")]
    answers = [bot.ask("p") for bot in bots]
    assert answers == ["{'model': 'a'}p!!", "{'model': 'a'}p", "{'model': 'a'}p!"]
    assert [bot.ask("p") for bot in bots[::-1]] == answers[::-1]


def test_a_class_method_knows_its_class() -> None:
    assert [kind.called("p") for kind in (Bot, Loud, Louder)] == ["Botp", "Loudp", "Louderp"]
    assert Loud().called.cache.key("p") == Loud.called.cache.key("p")
    assert Loud(model="a").plain.cache.key("p") == Bot.plain.cache.key("p")


def test_bound_methods_of_two_instances_differ() -> None:
    class Plain:
        def __init__(self, word: str) -> None:
            self.word = word

        def ask(self, prompt: str) -> str:
            return self.word + prompt

    one, other = shared(Plain("a").ask), shared(Plain("b").ask)
    assert [one("p"), other("p")] == ["ap", "bp"]


def test_slots_and_hidden_attributes_count() -> None:
    class Slim:
        __slots__ = ("__secret", "word")

        def __init__(self, word: str, secret: str) -> None:
            self.word, self.__secret = word, secret

        @shared
        def ask(self, prompt: str) -> str:
            return self.word + self.__secret + prompt

    bots = [Slim("a", "b"), Slim("a", "c"), Slim("b", "b")]
    assert [bot.ask("p") for bot in bots] == ["abp", "acp", "bbp"]


def test_properties_never_run() -> None:
    runs = []

    class Careful:
        def __init__(self) -> None:
            self.a = 1

        @property
        def costly(self) -> Any:
            runs.append("costly")
            return len(runs)

        def __getattr__(self, name: str) -> Any:
            runs.append(name)
            raise AttributeError(name)

        def __eq__(self, other: object) -> Any:
            runs.append("__eq__")

        def __hash__(self) -> int:
            runs.append("__hash__")
            return 1

        def __repr__(self) -> Any:
            runs.append("__repr__")

        def __bool__(self) -> bool:
            runs.append("__bool__")
            return True

        @shared(name="careful")
        def ask(self, prompt: str) -> str:
            return prompt

    assert [Careful().ask("p"), Careful().ask("p")] == ["p", "p"]
    assert runs == []


def test_an_instance_with_a_lock_is_refused_by_name(caplog: pytest.LogCaptureFixture) -> None:
    class Guarded:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        @shared
        def ask(self, prompt: str) -> str:
            return prompt

        @llm_cached
        def lenient(self, prompt: str) -> str:
            return prompt

    with pytest.raises(UncacheableArgument, match=r"Guarded\.lock is a _thread\.lock"):
        Guarded().ask("p")
    with caplog.at_level(logging.WARNING, "llmcache"):
        assert [Guarded().lenient("p"), Guarded().lenient("p")] == ["p", "p"]
    assert [record for record in caplog.messages if ".lock is a _thread.lock" in record] == [
        caplog.messages[0]
    ]
    assert Guarded.lenient.cache.stats().uncacheable == 2


class Prefix:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, prompt: str) -> str:
        return self.word + prompt


def test_callable_instances_are_their_settings() -> None:
    prefix = Prefix("a")
    asks = [shared(prefix), shared(Prefix("b"))]
    assert [ask("p") for ask in asks] == ["ap", "bp"]
    prefix.word = "c"
    assert asks[0]("p") == "cp"
    assert shared(Prefix("b")).cache.key("p") == asks[1].cache.key("p")


def joined(first: str, second: str = "", *, end: str = "") -> str:
    return first + second + end


def test_partial_objects_are_their_arguments() -> None:
    asks = {
        "ap": functools.partial(joined, "a"),
        "bp": functools.partial(joined, "b"),
        "pz": functools.partial(joined, end="z"),
        "p": joined,
        "apz": functools.partial(functools.partial(joined, "a"), end="z"),
    }
    cached = {answer: shared(ask) for answer, ask in asks.items()}
    assert [ask("p") for ask in cached.values()] == list(asks)
    assert [cached[answer]("p") for answer in reversed(cached)] == list(asks)[::-1]


def test_a_partial_argument_without_a_form_is_refused() -> None:
    with pytest.raises(UncacheableFunction):
        shared(functools.partial(joined, threading.Lock()))("p")


def test_two_lambdas_on_one_line_differ() -> None:
    one, other = shared(lambda p: p + "1"), shared(lambda p: p + "2")
    assert [one("p"), other("p")] == ["p1", "p2"]
    both = [shared(lambda p, n=n: p + n) for n in "ab"] + [shared(lambda p, n="a": n + p)]
    assert [ask("p") for ask in both] == ["pa", "pb", "ap"]


def test_two_lambdas_of_one_factory_differ() -> None:
    def prefixed(word: str) -> Any:
        return shared(lambda prompt: word + prompt)

    assert [prefixed("a")("p"), prefixed("b")("p")] == ["ap", "bp"]


def test_two_local_functions_of_one_name_differ() -> None:
    def one() -> Any:
        @shared
        def ask(prompt: str) -> str:
            return "one"

        return ask

    def other() -> Any:
        @shared
        def ask(prompt: str) -> str:
            return "other"

        return ask

    assert [one()("p"), other()("p")] == ["one", "other"]


@pytest.mark.parametrize("branch", [True, False])
def test_two_local_functions_of_one_name_in_one_function_differ(branch: bool) -> None:
    def made(branch: bool) -> Any:
        if branch:

            @shared
            def ask(prompt: str) -> bool:
                return True
        else:

            @shared
            def ask(prompt: str) -> bool:
                return False

        return ask

    assert [made(branch)("p"), made(not branch)("p")] == [branch, not branch]


def prefixing(word: str) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return word + function(*args, **kwargs)

        return wrapper

    return decorate


def nameless(word: str) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return word + function(*args, **kwargs)

        return wrapper

    return decorate


class Prefixing:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, function: Any) -> Any:
        return _Prefixed(function, self.word)


class _Prefixed:
    def __init__(self, function: Any, word: str) -> None:
        functools.update_wrapper(self, function)
        self.word = word

    def __call__(self, prompt: str) -> str:
        return self.word + self.__wrapped__(prompt)


def same(prompt: str) -> str:
    return prompt


@shared
@prefixing("m")
def decorated(prompt: str) -> str:
    return prompt


@shared
@prefixing("n")
@prefixing("m")
def decorated_twice(prompt: str) -> str:
    return prompt


@pytest.mark.parametrize("prefix", [prefixing, nameless, Prefixing])
def test_decorators_below_are_part_of_a_function(prefix: Any) -> None:
    def local(word: str) -> Any:
        @shared
        @prefix(word)
        def ask(prompt: str) -> str:
            return prompt

        return ask

    assert [local("a")("p"), local("b")("p")] == ["ap", "bp"]
    asks = [shared(prefix(word)(same)) for word in "ab"] + [shared(same)]
    assert [ask("p") for ask in asks] == ["ap", "bp", "p"]
    assert shared(prefix("a")(same)).cache.key("p") == asks[0].cache.key("p")


def test_decorated_functions_of_a_module_are_their_names() -> None:
    assert [decorated("p"), decorated_twice("p"), decorated("p")] == ["mp", "nmp", "mp"]
    raw = decorated.__wrapped__.__wrapped__
    assert [shared(prefixing("z")(raw))("p"), shared(raw)("p")] == ["zp", "p"]


def test_a_cache_of_the_standard_library_below_is_no_obstacle() -> None:
    def made(word: str) -> Any:
        @shared
        @functools.lru_cache
        def ask(prompt: str) -> str:
            return word + prompt

        return ask

    assert [made("a")("p"), made("b")("p")] == ["ap", "bp"]


RETRIES = {
    "tenacity": lambda: tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=True),
    "stamina": lambda: stamina.retry(on=ValueError, attempts=2),
}


@pytest.mark.parametrize("retry", RETRIES.values(), ids=RETRIES.keys())
def test_retry_decorators_below_change_nothing(retry: Callable[[], Any]) -> None:
    calls: list[str] = []

    def made(word: str) -> Any:
        @shared
        @retry()
        def ask(prompt: str) -> str:
            calls.append(prompt)
            return word + prompt

        return ask

    asks = [made("a"), made("b")]
    assert [ask("p") for ask in asks * 2] == ["ap", "bp"] * 2
    assert calls == ["p", "p"]


@pytest.mark.parametrize("retry", RETRIES.values(), ids=RETRIES.keys())
def test_retry_decorators_below_change_nothing_for_coroutines(retry: Callable[[], Any]) -> None:
    calls: list[str] = []

    def made(word: str) -> Any:
        @shared
        @retry()
        async def ask(prompt: str) -> str:
            calls.append(prompt)
            return word + prompt

        return ask

    async def main() -> list[str]:
        asks = [made("a"), made("b")]
        return [await ask("p") for ask in asks * 2]

    assert asyncio.run(main()) == ["ap", "bp"] * 2
    assert calls == ["p", "p"]


def agent_by_attribute(word: str) -> Any:
    class Agent:
        system = word

        @shared
        def ask(self, prompt: str) -> str:
            return self.system + prompt

    return Agent()


def agent_by_base(word: str) -> Any:
    class Base:
        system = word

    class Agent(Base):
        @shared
        def ask(self, prompt: str) -> str:
            return super().system + prompt

    return Agent()


def agent_by_property(word: str) -> Any:
    class Agent:
        @property
        def system(self) -> str:
            return word

        @shared
        def ask(self, prompt: str) -> str:
            return self.system + prompt

    return Agent()


def agent_by_static_method(word: str) -> Any:
    class Agent:
        @staticmethod
        def system() -> str:
            return word

        @shared
        def ask(self, prompt: str) -> str:
            return self.system() + prompt

    return Agent()


def agent_by_method(word: str) -> Any:
    class Agent:
        def system(self) -> str:
            return word

        @shared
        def ask(self, prompt: str) -> str:
            return self.system() + prompt

    return Agent()


def agent_by_closure(word: str) -> Any:
    class Agent:
        @shared
        def ask(self, prompt: str) -> str:
            return word + prompt

    return Agent()


def agent_by_class_method(word: str) -> Any:
    class Agent:
        system = word

        @shared
        @classmethod
        def ask(cls, prompt: str) -> str:
            return cls.system + prompt

    return Agent


def agent_by_docstring(word: str) -> Any:
    class Agent:
        __doc__ = word

        @llm_cached(backend="memory://identity")
        def ask(self, prompt: str) -> str:
            return str(self.__doc__) + prompt

    return Agent()


def agent_by_itself(word: str) -> Any:
    class Agent:
        system = word

        @llm_cached(backend="memory://identity")
        def ask(self, prompt: str) -> str:
            return Agent.system + prompt

    return Agent()


@pytest.mark.parametrize(
    "made",
    [
        agent_by_attribute,
        agent_by_base,
        agent_by_property,
        agent_by_static_method,
        agent_by_class_method,
        agent_by_method,
        agent_by_closure,
        agent_by_docstring,
        agent_by_itself,
    ],
)
def test_methods_of_two_local_classes_differ(made: Callable[[str], Any]) -> None:
    assert [made("a").ask("p"), made("b").ask("p")] == ["ap", "bp"]


def test_a_local_function_may_call_itself() -> None:
    calls = []

    @shared
    def factorial(n: int) -> int:
        calls.append(n)
        return n * factorial(n - 1) if n else 1

    assert [factorial(3), factorial(3), factorial(2)] == [6, 6, 2]
    assert calls == [3, 2, 1, 0]


def test_two_local_functions_may_call_each_other() -> None:
    @shared
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    @shared
    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    assert [even(4), odd(4), even(3), odd(3)] == [True, False, False, True]


def test_a_function_that_changes_its_arguments_is_found_again() -> None:
    calls = []

    @shared(name="changing")
    def ask(messages: list[Any], *, options: dict[str, Any]) -> str:
        calls.append(len(messages))
        messages.append("answer")
        options.clear()
        return "answered"

    for _ in range(3):
        assert ask(["question"], options={"a": 1}) == "answered"
    assert calls == [1]


def test_one_name_is_one_function() -> None:
    words = iter("abc")
    asks = []
    for word in words:

        @shared(name="one")
        def ask(prompt: str, word: str = word) -> str:
            return word + prompt

        asks.append(ask)
    assert [ask("p", "x") for ask in asks] == ["xp"] * 3
    assert len({ask.cache.key("p", "x") for ask in asks}) == 1


def test_a_name_replaces_neither_version_nor_arguments_nor_owner() -> None:
    class Agent:
        def __init__(self, word: str) -> None:
            self.word = word

        def ask(self, first: str, second: str = "", *, end: str = "") -> str:
            return self.word + first + second + end

    agents = [Agent("a").ask, Agent("b").ask]
    asks = [
        *(shared(name="agent")(ask) for ask in agents),
        *(shared(name="agent", version=2)(ask) for ask in agents),
        shared(name="agent", version=2)(functools.partial(agents[0], end="z")),
        shared(name="agent", version=3)(functools.partial(agents[0], end="y")),
    ]
    assert len({ask.cache.key("p") for ask in asks}) == len(asks)


def test_functions_of_one_name_must_agree_in_their_parameters() -> None:
    @shared(name="agreed")
    def one(prompt: str) -> str:
        return prompt

    with pytest.raises(ConfigurationError, match="agreed"):

        @shared(name="agreed")
        def other(question: str) -> str:
            return question


@pytest.mark.parametrize("name", [None, "versions", "no \ud800 unicode"])
def test_each_version_is_another_function(name: str | None) -> None:
    versions: list[Any] = [None, 0, 1, 1.0, True, "1", (1,), {"a": 1}, named.Point(1), b"1", int]
    versions += [10**5000, -(10**5000), "\ud800"]
    keys = {shared(name=name, version=version)(same).cache.key("p") for version in versions}
    assert len(keys) == len(versions)
    again = [shared(name=name, version=version)(same) for version in ([1], (1,))]
    assert again[0].cache.key("p") == again[1].cache.key("p")


@pytest.mark.parametrize(
    ("version", "shown"),
    [("1", "1"), (-2, "-2"), (2**64, "0x10000000000000000"), ("\ud800", r"\ud800"), (1.5, None)],
)
def test_entries_say_whose_they_are(version: Any, shown: str | None) -> None:
    ask = shared(name="agent", version=version)(same)
    runtime = ask._self_engine._resolved()  # type: ignore[attr-defined]
    said = {"function": "agent"} | ({} if shown is None else {"version": shown})
    assert json.loads(runtime.entries.metadata) == said


def test_a_version_without_a_form_is_refused() -> None:
    with pytest.raises(UncacheableFunction, match="version"):
        shared(version=threading.Lock())(same)("p")


def test_globals_are_for_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = shared(same)("unchanged")
    monkeypatch.setitem(globals(), "CHANGED", 1)
    assert shared(same)("unchanged") == before


class Tool:
    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()

    @shared
    def ask(self, prompt: str) -> str:
        return self.name + prompt


class Keyed(Tool):
    def __llmcache_key__(self) -> Any:
        return self.name


class KeyedToo(Keyed):
    pass


class Overridden(Keyed):
    def __llmcache_key__(self) -> Any:
        return [self.name]


class Broken(Tool):
    def __llmcache_key__(self) -> Any:
        raise LookupError


@shared
def use(tool: Any) -> str:
    return tool.name


def test_a_class_may_say_what_counts() -> None:
    assert [use(Keyed("a")), use(Keyed("b")), use(Keyed("a"))] == ["a", "b", "a"]
    kinds = (Keyed, KeyedToo, Overridden)
    assert len({use.cache.key(kind("a")) for kind in kinds}) == len(kinds)
    assert [Keyed(word).ask("p") for word in "abab"] == ["ap", "bp"] * 2
    with pytest.raises(LookupError):
        use(Broken("a"))


def test_a_class_may_be_told_what_counts() -> None:
    class Foreign(Tool):
        pass

    class Child(Foreign):
        pass

    with pytest.raises(UncacheableArgument):
        use(Foreign("a"))
    llmcache.register_key(Foreign, lambda tool: tool.name)
    assert [use(Foreign("a")), use(Foreign("b")), use(Child("c"))] == ["a", "b", "c"]
    assert use.cache.key(Foreign("a")) == use.cache.key(Foreign("a"))
    assert use.cache.key(Foreign("a")) != use.cache.key(Child("a"))
    llmcache.register_key(Child, lambda tool: [tool.name])
    assert len({use.cache.key(kind("a")) for kind in (Foreign, Child, Keyed)}) == 3


@pytest.mark.parametrize("kind", [str, int, dict, list, type(None), named.Color, "text"])
def test_what_the_wire_has_a_word_for_is_given_no_other(kind: Any) -> None:
    with pytest.raises(ConfigurationError):
        llmcache.register_key(kind, str)


REGISTRABLE = [
    *(dt.datetime(2026, 1, 1), dt.date(2026, 1, 1), Decimal(1), b"a", {1}, frozenset([1])),
    *(re.compile("a"), pathlib.PurePosixPath("a"), collections.deque([1]), range(2), same),
    *(functools.partial(same), named.Point(1), collections.OrderedDict(a=1), Bot(a=1)),
]


@pytest.mark.parametrize("value", REGISTRABLE, ids=lambda value: type(value).__name__)
def test_any_other_class_may_be_given_a_key(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = canonical(value)
    monkeypatch.setattr(objects, "_registered", {})
    with mock.patch.dict(writers.WRITERS), mock.patch.dict(writers.LEAVES):
        llmcache.register_key(type(value), lambda value: "mine")
        assert canonical(value).endswith(b',"mine"]')
        assert canonical([{"a": value}]) == canonical(value).join((b'[{"a":', b"}]"))
    monkeypatch.undo()
    assert canonical(value) == before


CLIENTS: dict[Any, list[dict[str, Any]]] = {
    openai.OpenAI: [
        {},
        {"base_url": "http://b/v1"},
        {"base_url": "http://a/v2"},
        {"organization": "o"},
        {"organization": "p"},
        {"project": "o"},
        {"default_query": {"q": "1"}},
        {"default_query": {"q": "2"}},
        {"default_headers": {"X-Extra": "1"}},
        {"default_headers": {"X-Extra": "2"}},
        {"default_headers": {"OpenAI-Beta": "assistants=v2"}},
    ],
    anthropic.Anthropic: [
        {},
        {"base_url": "http://b/v1"},
        {"default_query": {"q": "1"}},
        {"default_headers": {"anthropic-beta": "a"}},
        {"default_headers": {"anthropic-beta": "b"}},
        {"default_headers": {"anthropic-version": "2020-01-01"}},
    ],
    openai.AzureOpenAI: [
        {"azure_endpoint": "http://a", "api_version": "1", "base_url": None},
        {"azure_endpoint": "http://b", "api_version": "1", "base_url": None},
        {"azure_endpoint": "http://a", "api_version": "2", "base_url": None},
        {
            "azure_endpoint": "http://a",
            "azure_deployment": "d",
            "api_version": "1",
            "base_url": None,
        },
        {
            "azure_endpoint": "http://a",
            "azure_deployment": "e",
            "api_version": "1",
            "base_url": None,
        },
        {"api_version": "1"},
    ],
}
CLIENTS[openai.AsyncOpenAI] = CLIENTS[openai.OpenAI]
CLIENTS[anthropic.AsyncAnthropic] = CLIENTS[anthropic.Anthropic]
CLIENTS[openai.AsyncAzureOpenAI] = CLIENTS[openai.AzureOpenAI]

INDIFFERENT: list[dict[str, Any]] = [
    {},
    {"api_key": "another"},
    {"timeout": 1.0},
    {"max_retries": 9},
    {"default_headers": {"Authorization": "Bearer another"}},
    {"default_headers": {"X-Request-Id": "1"}},
    {"default_headers": {"User-Agent": "a"}},
]


def client(kind: Any, options: dict[str, Any]) -> Any:
    settings = {"api_key": "k", "base_url": "http://a/v1", **options}
    return kind(**{name: value for name, value in settings.items() if value is not None})


@shared
def ask_client(client: Any, prompt: str) -> str:
    return prompt


class Holder:
    def __init__(self, client: Any) -> None:
        self.client = client

    @shared
    def ask(self, prompt: str) -> str:
        return prompt


@pytest.mark.parametrize("kind", CLIENTS)
def test_clients_are_their_endpoints(kind: Any) -> None:
    clients = [client(kind, options) for options in CLIENTS[kind]]
    assert len({ask_client.cache.key(each, "p") for each in clients}) == len(clients)
    assert len({Holder(each).ask.cache.key("p") for each in clients}) == len(clients)


@pytest.mark.parametrize("kind", CLIENTS)
def test_clients_are_not_their_secrets(kind: Any) -> None:
    clients = [client(kind, {**CLIENTS[kind][0], **options}) for options in INDIFFERENT]
    clients.append(clients[0].with_options(timeout=3))
    assert len({ask_client.cache.key(each, "p") for each in clients}) == 1
    assert len({Holder(each).ask.cache.key("p") for each in clients}) == 1


def test_clients_of_different_classes_differ() -> None:
    clients = [client(kind, options[0]) for kind, options in CLIENTS.items()]
    keys = {ask_client.cache.key(each, "p") for each in clients}
    assert len(keys) == len(clients)


@pytest.mark.parametrize(
    ("header", "keys"),
    [
        *((name, 2) for name in ("X-Max-Tokens", "X-Tokenizer", "X-Author", "X-Keywords")),
        *((name, 2) for name in ("X-Traceability", "Accept-Language", "X-Agent", "X-Agent-Id")),
        *((name, 2) for name in ("X-Host", "X-Session-Mode", "X-Token-Limit", "X-Model-Key")),
        *((name, 1) for name in ("X-Api-Key", "X_API_KEY", "Ocp-Apim-Subscription-Key")),
        *((name, 1) for name in ("Cookie", "X-Auth-Token", "X-Signature", "X-Client-Secret")),
        *((name, 1) for name in ("X-Stainless-Lang", "Traceparent", "Request-Id", "Accept")),
    ],
)
def test_only_secrets_and_the_transports_headers_are_left_out(header: str, keys: int) -> None:
    clients = [client(openai.OpenAI, {"default_headers": {header: value}}) for value in ("1", "2")]
    assert len({ask_client.cache.key(each, "p") for each in clients}) == keys


class Persona(openai.OpenAI):
    def __init__(self, system: str) -> None:
        super().__init__(api_key="k", base_url="http://a/v1")
        self.system = system

    @shared
    def ask(self, prompt: str) -> str:
        return self.system + prompt


class PrivateHolder:
    def __init__(self, system: str) -> None:
        self._client = client(openai.OpenAI, {})
        self.system = system

    @shared
    def ask(self, prompt: str) -> str:
        return self.system + prompt


@pytest.mark.parametrize("kind", [Persona, PrivateHolder])
def test_what_a_client_or_its_holder_has_besides_counts(kind: Any) -> None:
    assert [kind("a").ask("p"), kind("b").ask("p"), kind("a").ask("p")] == ["ap", "bp", "ap"]
    assert ask_client.cache.key(kind("a"), "p") != ask_client.cache.key(kind("b"), "p")
    assert ask_client.cache.key(kind("a"), "p") == ask_client.cache.key(kind("a"), "p")


def test_a_resource_is_part_of_its_client() -> None:
    creates = [shared(Persona(system).chat.completions.create) for system in ("a", "b", "a")]
    assert len({create.cache.key(model="m", messages=[]) for create in creates}) == 2


def test_methods_of_clients_are_told_apart() -> None:
    clients = [client(openai.OpenAI, options) for options in CLIENTS[openai.OpenAI]]
    creates = [shared(each.chat.completions.create) for each in clients]
    creates.append(shared(clients[0].responses.create))
    creates.append(shared(clients[0].chat.completions.parse))
    keys = {create.cache.key(model="m", messages=[]) for create in creates[:-2]}
    assert len(keys) == len(clients)
    assert creates[-1].cache.key(model="m", messages=[]) not in keys
    again = shared(client(openai.OpenAI, {"api_key": "another"}).chat.completions.create)
    assert again.cache.key(model="m", messages=[]) in keys


def test_a_client_that_changes_is_another() -> None:
    one = client(openai.OpenAI, {})
    key = ask_client.cache.key(one, "p")
    one.base_url = "http://b/v1"
    assert ask_client.cache.key(one, "p") != key


def test_generators_are_no_functions_to_tell_apart() -> None:
    @shared
    def ask(prompt: str) -> Iterator[str]:
        yield prompt

    assert [list(ask("p")), list(ask("p"))] == [["p"], ["p"]]
    assert ask.cache.stats().bypassed == 2


class Speaker:
    def __init__(self, word: str) -> None:
        self.word = word

    def ask(self, prompt: str) -> str:
        return self.word + prompt


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def asking(word: str) -> Callable[[str], str]:
    return Speaker(word).ask


def wrapped_partial(word: str) -> Any:
    def inner(prompt: str, word: str = "") -> str:
        return word + prompt

    bound = functools.partial(inner, word=word)

    @functools.wraps(inner)
    def ask(prompt: str) -> str:
        return bound(prompt)

    return ask


def wrapped_decorated(word: str) -> Any:
    decorated = prefixing(word)(same)

    @functools.wraps(same)
    def ask(prompt: str) -> Any:
        return decorated(prompt)

    return ask


def hidden_default(word: str) -> Any:
    def inner(prompt: str, word: str = word) -> str:
        return word + prompt

    wrapper = logged(inner)
    wrapper.__signature__ = inspect.signature(same)
    return wrapper


@wrapt.decorator
def passing(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


def by_wrapt(word: str) -> Any:
    @wrapt.decorator
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return word + wrapped(*args, **kwargs)

    def ask(prompt: str) -> str:
        return prompt

    return wrapper(ask)


BELOW: dict[str, Callable[[str], Any]] = {
    "a decorator over a method": lambda word: logged(asking(word)),
    "two decorators over a method": lambda word: logged(logged(asking(word))),
    "tenacity over a method": lambda word: RETRIES["tenacity"]()(asking(word)),
    "stamina over a method": lambda word: RETRIES["stamina"]()(asking(word)),
    "a cache over a method": lambda word: functools.lru_cache(asking(word)),
    "a partial over a decorator over a method": lambda w: functools.partial(logged(asking(w))),
    "a decorator over a partial over a method": lambda w: logged(functools.partial(asking(w))),
    "a partial of the function below": wrapped_partial,
    "a decorated form of the function below": wrapped_decorated,
    "a cached form of a decorated one": lambda w: functools.lru_cache(wrapped_decorated(w)),
    "a default that no signature shows": hidden_default,
    "a decorator of wrapt": by_wrapt,
    "a decorator over one of wrapt": lambda word: logged(by_wrapt(word)),
    "a decorator of wrapt over a method": lambda word: passing(asking(word)),
    "a retry over one of wrapt": lambda word: RETRIES["tenacity"]()(by_wrapt(word)),
}


@shared
def call(tool: Any, prompt: str) -> Any:
    return tool(prompt)


@pytest.mark.parametrize("made", BELOW.values(), ids=BELOW.keys())
def test_what_is_below_a_decorator_counts(made: Callable[[str], Any]) -> None:
    asks = [shared(made(word)) for word in "aba"]
    assert [ask("p") for ask in asks] == ["ap", "bp", "ap"]
    assert [call(made(word), "p") for word in "ab"] == ["ap", "bp"]


def test_a_decorator_in_a_module_named_like_a_retry_library_counts() -> None:
    source = inspect.getsource(prefixing)
    for name in ("retry", "backoff", "tenacity", "stamina", "stamina._core"):
        scope: dict[str, Any] = {**globals(), "__name__": name}
        exec(compile(source, __file__, "exec"), scope)
        asks = [llm_cached(backend="memory://below")(scope["prefixing"](w)(same)) for w in "ab"]
        assert [ask("p") for ask in asks] == ["ap", "bp"]


class Proxy(wrapt.ObjectProxy):
    def __init__(self, wrapped: Any, word: str) -> None:
        super().__init__(wrapped)
        self._self_word = word

    def __call__(self, prompt: str) -> str:
        return self._self_word + self.__wrapped__(prompt)


def test_a_proxy_with_a_state_of_its_own_is_refused() -> None:
    with pytest.raises(UncacheableFunction):
        shared(Proxy(same, "a"))("p")
    with pytest.raises(UncacheableArgument):
        call(Proxy(same, "a"), "p")


def test_a_chain_of_functions_is_written_once() -> None:
    for decorate in (logged, nameless("a")):
        chain = same
        for _ in range(60):
            chain = decorate(chain)
        assert shared(chain).cache.key("p") != shared(decorate(chain)).cache.key("p")
        assert call.cache.key(chain, "p") != call.cache.key(decorate(chain), "p")


def test_functions_may_close_over_the_registry_that_holds_them() -> None:
    def made(number: int) -> Any:
        registry: dict[Any, Any] = {}

        def tool(name: Any) -> Any:
            def use(prompt: str) -> Any:
                return registry, name, prompt

            return use

        for name in range(number):
            registry[name] = tool(name)
        return registry

    keys = {shared(made(number)[0]).cache.key("p") for number in (1, 2, 30)}
    assert len(keys) == 3
    assert shared(made(30)[0]).cache.key("p") in keys
    assert shared(made(30)[1]).cache.key("p") not in keys


def test_what_a_closure_of_a_closure_holds_may_be_assigned_after_decoration() -> None:
    def late(word: str) -> Any:
        def inner() -> str:
            return system

        @shared
        def ask(prompt: str) -> str:
            return inner() + prompt

        system = word
        return ask

    assert [late("a")("p"), late("b")("p")] == ["ap", "bp"]


def tool_named(name: str) -> Any:
    def tool(city: str) -> str:
        """Tell the weather."""
        return city

    tool.__name__ = name
    return tool


def test_the_name_of_a_tool_and_what_was_set_on_it_count() -> None:
    tools = [tool_named("weather"), tool_named("time"), *(tool_named("x") for _ in range(2))]
    tools[2].schema, tools[3].schema = {"a": 1}, {"a": 2}
    assert len({call.cache.key(tool, "p") for tool in tools}) == 4
    assert call.cache.key(tool_named("time"), "p") == call.cache.key(tools[1], "p")


def test_the_version_of_a_cached_tool_counts() -> None:
    tools = [llm_cached(version=version)(same) for version in (None, 1, 2)]
    tools.append(llm_cached(name="same")(same))
    assert len({call.cache.key(tool, "p") for tool in tools}) == 4
    assert len({shared(logged(tool)).cache.key("p") for tool in tools}) == 4

    class Kitchen:
        @llm_cached(version=1)
        def cook(self, dish: str) -> str:
            return dish

        @llm_cached(version=2)
        def bake(self, dish: str) -> str:
            return dish

        bake.__wrapped__.__name__ = "cook"

    assert call.cache.key(Kitchen.cook, "p") != call.cache.key(Kitchen.bake, "p")


@pytest.mark.parametrize("retry", RETRIES.values(), ids=RETRIES.keys())
def test_a_retry_around_a_tool_is_no_obstacle(retry: Callable[[], Any]) -> None:
    tools = [retry()(prefixing(word)(same)) for word in "aba"]
    assert len({call.cache.key(tool, "p") for tool in tools}) == 2
    assert len({call.cache.key(logged(tool), "p") for tool in tools}) == 2
    decorated = [tool_named("x"), tool_named("x")]
    for word, tool in zip("ab", decorated, strict=True):
        tool.schema = word
    assert len({call.cache.key(logged(retry()(tool)), "p") for tool in decorated}) == 2
    cached = [logged(functools.lru_cache(tool)) for tool in decorated]
    assert len({call.cache.key(tool, "p") for tool in cached}) == 2
    before = call.cache.key(tools[0], "p")
    tools[0]("p")
    assert call.cache.key(tools[0], "p") == before


def test_a_tool_whose_signature_is_none_is_refused() -> None:
    tool = tool_named("tool")
    tool.__signature__ = "none"
    with pytest.raises(UncacheableArgument, match="without a signature"):
        call(tool, "p")


def test_methods_below_decorators_count_in_a_class_of_a_function() -> None:
    def made(word: str) -> Any:
        class Agent:
            speak = logged(asking(word))
            again = RETRIES["tenacity"]()(prefixing(word)(same))

        Agent.other = Agent.__dict__["speak"]
        return Agent

    assert call.cache.key(made("a"), "p") == call.cache.key(made("a"), "p")
    assert call.cache.key(made("a"), "p") != call.cache.key(made("b"), "p")
