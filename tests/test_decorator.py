from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import pickle
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context

import pytest
import stamina
import tenacity
from twins import worlds

import llmcache
from llmcache import ConfigurationError, llm_cached
from llmcache.backends.memory import MemoryStore


class Body:
    """Counts its calls and returns a new object for each."""

    def __init__(self):
        self.calls = []

    def __llmcache_key__(self):
        return "body"

    def complete(self, model, messages=(), temperature=0.0, **extra):
        self.calls.append((model, messages, temperature, extra))
        return {"model": model, "choices": [{"n": len(self.calls)}]}


@pytest.fixture
def body():
    return Body()


def plain(text, temperature=0.0):
    return [text, temperature]


@llm_cached
def decorated(text, temperature=0.0):
    """What it does."""
    return [text, temperature]


@llm_cached
async def decorated_async(text, temperature=0.0):
    return [text, temperature]


class Bot:
    def __init__(self, prefix):
        self.prefix = prefix

    @llm_cached
    def ask(self, text):
        return [self.prefix, text]

    @llm_cached
    async def aask(self, text):
        return [self.prefix, text]

    @llm_cached
    @classmethod
    def of_class(cls, text):
        return [cls.__name__, text]

    @classmethod
    @llm_cached
    def in_class(cls, text):
        return [cls.__name__, text]

    @llm_cached
    @staticmethod
    def of_static(text):
        return ["static", text]

    @staticmethod
    @llm_cached
    def in_static(text):
        return ["static", text]


class Child(Bot):
    @llm_cached
    def ask(self, text):
        return ["child", *super().ask(text)]


@pytest.mark.parametrize(
    "form",
    [llm_cached, llm_cached(), llm_cached(ttl=3600, backend="memory")],
    ids=["bare", "called", "options"],
)
def test_every_form_of_the_decorator_caches(form):
    calls = []

    def ask(text):
        calls.append(text)
        return {"text": text}

    ask = form(ask)
    assert ask("hi") == ask(text="hi") == {"text": "hi"}
    assert calls == ["hi"]


@worlds
def test_a_second_call_answers_from_the_cache_with_an_equal_object_of_its_own(world, body):
    ask = world.cached(body.complete)
    first = world.run(ask("m", [{"role": "user", "content": "hi"}]))
    second = world.run(ask(model="m", messages=[{"content": "hi", "role": "user"}]))
    assert first == second == {"model": "m", "choices": [{"n": 1}]}
    second["choices"].clear()
    first["choices"].clear()
    assert world.run(ask("m", [{"role": "user", "content": "hi"}])) == {
        "model": "m",
        "choices": [{"n": 1}],
    }
    assert len(body.calls) == 1


@worlds
@pytest.mark.parametrize("answer", [None, False, 0, "", [], {}, 0.0, float("inf"), "x" * 10_000])
def test_every_json_answer_is_kept(world, answer):
    calls = []

    def ask(text):
        calls.append(text)
        return answer

    ask = world.cached(ask)
    for _ in range(3):
        got = world.run(ask("hi"))
        assert got == answer
        assert type(got) is type(answer)
    assert len(calls) == 1


@worlds
def test_other_arguments_are_other_calls(world, body):
    ask = world.cached(body.complete)
    variants = [
        {"model": "m"},
        {"model": "n"},
        {"model": "m", "temperature": 0},
        {"model": "m", "temperature": 1.0},
        {"model": "m", "messages": [{"role": "user", "content": "1"}]},
        {"model": "m", "messages": [{"role": "user", "content": 1}]},
        {"model": "m", "seed": 1},
        {"model": "m", "seed": True},
        {"model": "m", "seed": "1"},
    ]
    answers = [world.run(ask(**variant)) for variant in variants]
    assert len({answer["choices"][0]["n"] for answer in answers}) == len(variants)
    assert len(body.calls) == len(variants)


@worlds
def test_exceptions_pass_through_and_are_not_kept(world):
    calls = []

    def ask(text):
        calls.append(text)
        if len(calls) < 3:
            raise OSError(f"attempt {len(calls)}")
        return "answer"

    ask = world.cached(ask)
    for attempt in (1, 2):
        with pytest.raises(OSError, match=f"attempt {attempt}"):
            world.run(ask("hi"))
    assert world.run(ask("hi")) == world.run(ask("hi")) == "answer"
    assert len(calls) == 3
    assert ask.cache.stats().failed == 2


@pytest.mark.parametrize("error", [StopIteration(3), KeyboardInterrupt(), SystemExit(2)])
def test_even_unusual_exceptions_reach_the_caller_as_they_are(error):
    @llm_cached
    def ask(text):
        raise error

    with pytest.raises(type(error)) as caught:
        ask("hi")
    assert caught.value is error


def test_a_cancelled_call_is_cancelled_and_not_kept():
    calls = []

    @llm_cached
    async def ask(text):
        calls.append(text)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return "answer"

    async def scenario():
        task = asyncio.create_task(ask("hi"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await ask("hi"), await ask("hi")

    assert asyncio.run(scenario()) == ("answer", "answer")
    assert len(calls) == 2
    assert ask.cache.stats().failed == 0


def test_wrong_arguments_raise_what_the_function_raises():
    @llm_cached
    def ask(text, *, temperature=0.0):
        return text

    ask("hi")
    for args, kwargs in [
        ((), {}),
        (("hi", 1), {}),
        (("hi",), {"top_p": 1}),
        (("a",), {"text": "b"}),
    ]:
        with pytest.raises(TypeError, match="ask"):
            ask(*args, **kwargs)
    assert ask.cache.stats().uncacheable == 4
    with pytest.raises(TypeError):
        ask.cache.key()


class TestWhatIsDecorated:
    def test_methods_answer_by_class_and_settings(self):
        one, two = Bot("one"), Bot("two")
        for _ in range(2):
            assert one.ask("hi") == ["one", "hi"]
            assert two.ask("hi") == ["two", "hi"]
            assert Bot.ask(one, "hi") == ["one", "hi"]
            assert Child("one").ask("hi") == ["child", "one", "hi"]
        assert Bot("one").ask("hi") == ["one", "hi"]
        one.prefix = "changed"
        assert one.ask("hi") == ["changed", "hi"]
        assert asyncio.run(one.aask("hi")) == asyncio.run(one.aask(text="hi")) == ["changed", "hi"]

    @pytest.mark.parametrize("name", ["of_class", "in_class"])
    def test_class_methods_answer_by_class(self, name):
        for _ in range(2):
            assert getattr(Bot, name)("hi") == getattr(Bot("x"), name)("hi") == ["Bot", "hi"]
            assert getattr(Child, name)("hi") == ["Child", "hi"]
        assert getattr(Bot, name).cache.stats().hits >= 4

    @pytest.mark.parametrize("name", ["of_static", "in_static"])
    def test_static_methods_answer(self, name):
        for owner in (Bot, Bot("x"), Child):
            assert getattr(owner, name)("hi") == ["static", "hi"]
        assert getattr(Bot, name).cache.stats().hits >= 2

    @worlds
    def test_partial_objects_differ_by_what_they_add(self, world, body):
        low = llm_cached(functools.partial(world.twin(body.complete), temperature=0.1))
        high = llm_cached(functools.partial(world.twin(body.complete), temperature=0.9))
        assert world.run(low("m"))["choices"] == world.run(low(model="m"))["choices"]
        assert world.run(high("m"))["choices"] == [{"n": 2}]
        assert low.cache.key("m") != high.cache.key("m")

    def test_callable_objects_answer_by_their_settings(self):
        class Completer:
            def __init__(self, prefix):
                self.prefix = prefix

            def __call__(self, text):
                return [self.prefix, text]

        class AsyncCompleter(Completer):
            async def __call__(self, text):
                return [self.prefix, text]

        one, two = llm_cached(Completer("one")), llm_cached(Completer("two"))
        assert one("hi") == one(text="hi") == ["one", "hi"]
        assert two("hi") == ["two", "hi"]
        assert one.cache.stats().hits == 1
        three = llm_cached(AsyncCompleter("three"))
        assert asyncio.run(three("hi")) == asyncio.run(three("hi")) == ["three", "hi"]
        assert three.cache.stats().hits == 1

    def test_a_bound_method_answers_for_its_own_object(self):
        class Plain:
            def __init__(self, prefix):
                self.prefix = prefix

            def ask(self, text):
                return [self.prefix, text]

        shared = "memory://bound"
        one = llm_cached(backend=shared)(Plain("one").ask)
        two = llm_cached(backend=shared, key=lambda text: text)(Plain("two").ask)
        three = llm_cached(backend=shared, key=lambda text: text)(Plain("three").ask)
        assert one("hi") == one("hi") == ["one", "hi"]
        assert two("hi") == ["two", "hi"]
        assert three("hi") == ["three", "hi"]
        partial = llm_cached(backend=shared)(functools.partial(Plain("four").ask, "hi"))
        assert partial() == ["four", "hi"]
        other = llm_cached(backend=shared)(functools.partial(Plain("five").ask, "hi"))
        assert other() == ["five", "hi"]

    def test_what_cannot_be_called_cannot_be_decorated(self):
        with pytest.raises(ConfigurationError, match="int"):
            llm_cached(3)


class TestWhatShowsThrough:
    def test_name_doc_signature_and_kind_are_the_functions(self):
        assert decorated.__name__ == "decorated"
        assert decorated.__doc__ == "What it does."
        assert inspect.signature(decorated) == inspect.signature(plain)
        assert not inspect.iscoroutinefunction(decorated)
        assert inspect.iscoroutinefunction(decorated_async)
        assert inspect.iscoroutinefunction(Bot.aask)
        assert inspect.signature(Bot("x").ask) == inspect.signature(lambda text: None)
        assert decorated.__wrapped__ is decorated.cache.function

    def test_retry_decorators_stack_below_and_above(self):
        attempts = []

        def flaky(text):
            attempts.append(text)
            if len(attempts) % 2:
                raise OSError(text)
            return {"text": text}

        retried = tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
        below = llm_cached(retried(flaky))
        assert below("hi") == below("hi") == {"text": "hi"}
        assert len(attempts) == 2
        assert below.retry.stop.max_attempt_number == 3
        assert below.statistics["attempt_number"] == 2
        above = retried(llm_cached(flaky))
        assert above("hi") == above("hi") == {"text": "hi"}
        assert len(attempts) == 4

    def test_stamina_stacks_with_a_coroutine_function(self):
        attempts = []

        @llm_cached
        @stamina.retry(on=OSError, wait_initial=0, wait_jitter=0, wait_max=0)
        async def ask(text):
            attempts.append(text)
            if len(attempts) == 1:
                raise OSError
            return text

        assert asyncio.run(ask("hi")) == asyncio.run(ask("hi")) == "hi"
        assert len(attempts) == 2

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_decorated_functions_pickle_by_name(self, protocol):
        for function in (decorated, decorated_async, Bot.of_static, Bot.in_static):
            again = pickle.loads(pickle.dumps(function, protocol))
            assert again.cache.function is function.cache.function
        assert pickle.loads(pickle.dumps(decorated, protocol)) is decorated

    def test_they_reduce_to_their_names(self):
        assert decorated.__reduce__() == "decorated"
        bot = Bot("x")
        assert bot.ask.__reduce__() == (getattr, (bot, "ask"))

    def test_a_bound_method_pickles_with_its_object(self):
        again = pickle.loads(pickle.dumps(Bot("one").ask))
        assert again("hi") == ["one", "hi"]
        assert pickle.loads(pickle.dumps(Bot.ask))(Bot("two"), "hi") == ["two", "hi"]
        assert pickle.loads(pickle.dumps(Bot.in_class))("hi") == ["Bot", "hi"]

    def test_a_process_pool_runs_a_decorated_function(self):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            assert list(pool.map(decorated, ["a", "b", "a"])) == [
                ["a", 0.0],
                ["b", 0.0],
                ["a", 0.0],
            ]

    def test_copies_are_the_function_itself(self):
        assert copy.copy(decorated) is copy.deepcopy(decorated) is decorated
        ask = Bot("x").ask
        assert copy.copy(ask) is ask
        assert copy.deepcopy({"tool": decorated})["tool"] is decorated

    def test_a_deep_copy_of_a_method_is_bound_to_a_copy(self):
        bot = Bot("x")
        bot.held = bot.ask
        other = copy.deepcopy(bot)
        assert other.held.__wrapped__.__self__ is other
        assert copy.deepcopy(Bot.of_class).__wrapped__.__self__ is Bot

    def test_what_has_no_name_cannot_be_pickled(self):
        class Tool:
            def __call__(self):
                return "hi"

        for nameless in (functools.partial(print, 1), Tool()):
            with pytest.raises(TypeError, match="has no name to be pickled by"):
                pickle.dumps(llm_cached(nameless))


class TestAwaitables:
    def test_a_plain_function_that_returns_an_awaitable_answers_with_one(self):
        calls = []

        async def upstream(text):
            calls.append(text)
            return {"text": text}

        @llm_cached
        def ask(text):
            return upstream(text)

        async def scenario():
            first = ask("hi")
            assert inspect.isawaitable(first)
            value = await first
            second = ask("hi")
            assert inspect.isawaitable(second)
            return value, await second

        assert asyncio.run(scenario()) == ({"text": "hi"}, {"text": "hi"})
        assert calls == ["hi"]
        assert (ask.cache.stats().hits, ask.cache.stats().misses) == (1, 1)

    def test_each_result_decides_for_itself(self):
        @llm_cached
        def ask(text, later):
            async def wait():
                return text

            return wait() if later else text

        for _ in range(2):
            assert ask("hi", later=False) == "hi"
            assert asyncio.run(ask("hi", later=True)) == "hi"
        assert ask.cache.stats().hits == 2

    def test_a_coroutine_that_a_coroutine_function_returns_is_not_kept(self, caplog):
        @llm_cached
        async def ask(text):
            async def wait():
                return text

            return wait()

        async def scenario():
            return [await (await ask("hi")) for _ in range(2)]

        assert asyncio.run(scenario()) == ["hi", "hi"]
        assert ask.cache.stats().rejected == 2
        assert len(caplog.records) == 1

    def test_an_awaitable_that_is_more_than_a_coroutine_stays_what_it_is(self):
        @llm_cached
        def start(text):
            return asyncio.get_running_loop().run_in_executor(None, str.upper, text)

        async def scenario():
            for _ in range(2):
                future = start("hi")
                assert isinstance(future, asyncio.Future)
                assert await future == "HI"

        asyncio.run(scenario())
        assert start.cache.stats().rejected == 2

    def test_the_time_before_a_coroutine_is_awaited_is_not_saved(self, clock):
        async def upstream(text):
            clock.advance(1)
            return text

        @llm_cached(name="ask")
        def ask(text):
            return upstream(text)

        async def scenario():
            waiting = ask("hi")
            clock.advance(100)
            return await waiting, await ask("hi")

        with llmcache.configure(clock=clock.clock):
            assert asyncio.run(scenario()) == ("hi", "hi")
        assert ask.cache.stats().time_saved == 1.0

    def test_a_failing_awaitable_is_not_kept(self):
        @llm_cached
        def ask(text):
            async def wait():
                raise OSError(text)

            return wait()

        for _ in range(2):
            with pytest.raises(OSError, match="hi"):
                asyncio.run(ask("hi"))
        assert (ask.cache.stats().failed, ask.cache.stats().stored) == (2, 0)


class TestStreams:
    @worlds
    def test_a_stream_passes_through_and_is_counted(self, world):
        calls = []

        def ask(text, stream=False):
            calls.append(stream)
            return {"n": len(calls)}

        ask = world.cached(ask)
        assert world.run(ask("hi", stream=True)) != world.run(ask("hi", stream=True))
        assert world.run(ask("hi")) == world.run(ask("hi", stream=False))
        assert world.run(ask("hi", stream=1)) == world.run(ask("hi", stream=1))
        stats = ask.cache.stats()
        assert (stats.bypassed, stats.misses, stats.hits, stats.calls) == (2, 2, 2, 6)

    def test_streams_and_plain_calls_never_share_a_key(self):
        @llm_cached(key=lambda text, **_: text)
        def ask(text, **extra):
            return text

        @llm_cached(ignore=("stream",))
        def tell(text, stream=False):
            return text

        assert ask.cache.key("hi") != ask.cache.key("hi", stream=True)
        assert tell.cache.key("hi") != tell.cache.key("hi", stream=True)

    def test_generator_functions_pass_through(self):
        @llm_cached
        def tokens(text):
            yield from text

        @llm_cached
        async def atokens(text):
            for token in text:
                yield token

        async def collect():
            return [token async for token in atokens("ab")]

        for _ in range(2):
            assert list(tokens("ab")) == ["a", "b"]
            assert asyncio.run(collect()) == ["a", "b"]
        assert tokens.cache.stats().bypassed == atokens.cache.stats().bypassed == 2
        assert inspect.isgeneratorfunction(tokens)
        assert inspect.isasyncgenfunction(atokens)


class TestOptions:
    @worlds
    @pytest.mark.parametrize(
        ("ttl", "seconds"), [(90, 90), ("2m", 120), (timedelta(hours=1), 3600), ("1d", 86400)]
    )
    def test_an_answer_lives_for_its_ttl(self, world, clock, body, ttl, seconds):
        with llmcache.configure(clock=clock.clock):
            ask = world.cached(body.complete, ttl=ttl)
            first = world.run(ask("m"))
            clock.advance(seconds - 1)
            assert world.run(ask("m")) == first
            clock.advance(1)
            assert world.run(ask("m")) != first
            assert ask.cache.stats().expired == 1

    def test_the_ttl_is_an_hour_unless_said_otherwise(self, clock, body):
        with llmcache.configure(clock=clock.clock):
            ask = llm_cached(body.complete)
            first = ask("m")
            clock.advance(3599)
            assert ask("m") == first
            clock.advance(1)
            assert ask("m") != first

    @worlds
    def test_none_never_expires_and_zero_stores_nothing(self, world, clock, body):
        with llmcache.configure(clock=clock.clock):
            for_ever = world.cached(body.complete, ttl=None)
            never = world.cached(body.complete, ttl=0)
            first = world.run(for_ever("m"))
            clock.advance(10 * 365 * 86400)
            assert world.run(for_ever("m")) == first
            assert world.run(never("m")) != world.run(never("m"))
            assert (never.cache.stats().stored, never.cache.stats().misses) == (0, 2)

    def test_a_shorter_ttl_takes_effect_on_entries_that_are_there(self, clock, body):
        with llmcache.configure(clock=clock.clock):
            ask = llm_cached(body.complete)
            first = ask("m")
            clock.advance(60)
            with llmcache.configure(ttl=30):
                assert ask("m") != first

    @pytest.mark.parametrize(
        "options",
        [
            {"ttl": "soon"},
            {"ttl": -1},
            {"ttl": True},
            {"max_size": 0},
            {"max_size": None},
            {"max_bytes": 1.5},
            {"max_value_bytes": -1},
            {"backend": "postgres://host"},
            {"backend": 7},
            {"ignore": "text"},
            {"ignore": ("prompt",)},
            {"ignore": (1,)},
            {"ignore": ("text", "request_id")},
            {"name": ""},
            {"name": 3},
            {"key": "text"},
            {"strict": "yes"},
        ],
        ids=str,
    )
    def test_what_cannot_be_meant_is_an_error_at_decoration(self, options):
        with pytest.raises(ConfigurationError) as caught:
            llm_cached(**options)(lambda text, request_id=None: text)
        assert isinstance(caught.value, ValueError)
        assert next(iter(options)) in str(caught.value)

    def test_ignoring_the_only_parameter_by_default_is_an_error_too(self):
        with pytest.raises(ConfigurationError, match="request_id"):
            llm_cached(lambda request_id: request_id)
        assert llm_cached(ignore=())(lambda request_id: request_id)("a") == "a"

    def test_ignored_parameters_make_no_difference(self):
        @llm_cached(ignore=("timeout", "trace"))
        def ask(text, timeout=None, **extra):
            return [text, timeout, extra]

        first = ask("hi", timeout=1, trace="a", user="u")
        assert ask("hi", timeout=2, trace="b", user="u") == first
        assert ask("hi", timeout=1, trace="a", user="v") != first
        assert ask("hi", 1, trace="a", user="u", request_id="r") != first

    def test_request_id_is_ignored_unless_told_otherwise(self):
        def ask(text, request_id=None):
            return [text, request_id]

        assert llm_cached(ask)("hi", "1") == ["hi", "1"]
        lax, exact = llm_cached(ask), llm_cached(ignore=())(ask)
        assert lax("hi", "1") == lax("hi", request_id="2") == ["hi", "1"]
        assert exact("hi", "1") != exact("hi", "2")

    def test_the_most_entries_and_bytes_are_kept_to(self, body):
        few = llm_cached(max_size=2)(body.complete)
        for model in "abcab":
            few(model)
        assert (few.cache.stats().size, few.cache.stats().evicted) == (2, 3)
        small = llm_cached(max_bytes=1200)(lambda text: text * 300)
        for text in "abc":
            small(text)
        assert small.cache.stats().size == 2

    @worlds
    def test_a_value_that_is_too_large_is_returned_uncached(self, world, caplog):
        ask = world.cached(lambda n: "x" * n, max_value_bytes=1000)
        for _ in range(2):
            assert len(world.run(ask(2000))) == 2000
            assert len(world.run(ask(10))) == 10
        stats = ask.cache.stats()
        assert (stats.too_large, stats.stored, stats.hits) == (2, 1, 1)
        tiny = world.cached(lambda n: "x" * n, max_bytes=100)
        assert len(world.run(tiny(500))) == 500
        assert tiny.cache.stats().too_large == 1

    def test_name_joins_functions_and_version_parts_them(self):
        def twin(answer, **options):
            return llm_cached(**options)(lambda text: answer)

        one, two = twin("one", name="ask"), twin("two", name="ask")
        assert (one("hi"), two("hi")) == ("one", "one")
        other = twin("other", name="ask", version=2)
        assert other("hi") == "other"
        assert twin("last", name="ask", version="2")("hi") == "last"

    def test_functions_of_one_name_must_agree(self):
        keep = llm_cached(name="ask")(lambda text: text)
        with pytest.raises(ConfigurationError, match="ask"):
            llm_cached(name="ask")(lambda text, temperature=0: text)
        with pytest.raises(ConfigurationError, match="ask"):
            llm_cached(name="ask", ignore=())(lambda text: text)
        llm_cached(name="ask", backend="memory://elsewhere")(lambda other: other)
        assert keep("hi") == "hi"

    def test_a_key_function_says_what_counts(self):
        seen = []

        def key(*args, **kwargs):
            seen.append((args, kwargs))
            return kwargs["text"].lower()

        class Asker:
            def __init__(self):
                self.lock = object()

            @llm_cached(key=key)
            def ask(self, *, text):
                return text

        asker = Asker()
        assert (asker.ask(text="Hi"), asker.ask(text="HI")) == ("Hi", "Hi")
        assert seen[0] == ((asker,), {"text": "Hi"})
        assert Asker().ask(text="hi") == "Hi"

    def test_a_key_function_never_meets_plain_arguments(self):
        store = "memory://keys"
        plain = llm_cached(name="ask", backend=store)(lambda text: text)
        with pytest.raises(ConfigurationError, match="key function"):
            llm_cached(name="ask", backend=store, key=lambda text: {"text": text})(lambda text: 0)
        assert plain("hi") == "hi"


class TestUncacheableCalls:
    @worlds
    def test_they_go_through_are_counted_and_logged_once(self, world, caplog):
        def ask(text, tool):
            return {"text": text}

        ask = world.cached(ask)
        secret = "sk-canary"
        for _ in range(3):
            assert world.run(ask(secret, [{"call": object()}])) == {"text": secret}
        assert ask.cache.stats().uncacheable == 3
        [record] = [r for r in caplog.records if r.name == "llmcache"]
        assert "ask" in record.getMessage()
        assert "tool[0].call" in record.getMessage()
        assert secret not in caplog.text

    @worlds
    def test_strict_raises_and_names_the_culprit(self, world):
        ask = world.cached(lambda text: text, strict=True)
        with pytest.raises(llmcache.UncacheableArgument, match=r"text\[1\]") as caught:
            world.run(ask([1, object()]))
        assert caught.value.path == "text[1]"
        assert isinstance(caught.value, TypeError)

    @worlds
    def test_a_result_that_would_not_come_back_is_returned_uncached(self, world, caplog):
        class Strange:
            pass

        ask = world.cached(lambda text: Strange())
        for _ in range(2):
            assert type(world.run(ask("hi"))) is Strange
        stats = ask.cache.stats()
        assert (stats.rejected, stats.stored, stats.misses) == (2, 0, 2)
        assert caplog.text.count("Strange") == 1
        strict = world.cached(lambda text: Strange(), strict=True)
        with pytest.raises(llmcache.UncacheableValue, match="Strange"):
            world.run(strict("hi"))

    @worlds
    def test_a_key_function_that_fails_lets_the_call_through(self, world, caplog):
        def key(text):
            raise ValueError(f"secret {text}")

        ask = world.cached(lambda text: text, key=key)
        assert world.run(ask("hi")) == world.run(ask("hi")) == "hi"
        stats = ask.cache.stats()
        assert (stats.errors, stats.uncacheable) == (2, 2)
        assert len(caplog.records) == 1
        assert "secret" not in caplog.text
        strict = world.cached(lambda text: text, key=key, strict=True)
        with pytest.raises(ValueError, match="secret"):
            world.run(strict("hi"))

    def test_a_closure_that_has_no_canonical_form(self, caplog):
        thing = object()

        @llm_cached
        def ask(text):
            return [text, str(type(thing))]

        assert ask("hi") == ask("hi")
        assert ask.cache.stats().uncacheable == 2
        assert "closure variable thing" in caplog.text
        with pytest.raises(llmcache.UncacheableFunction):
            ask.cache.key("hi")
        named = llm_cached(name="ask")(ask.cache.function)
        assert named("hi") == named("hi")
        assert named.cache.stats().hits == 1


class TestHandle:
    @worlds
    def test_contains_invalidate_and_clear(self, world, body):
        ask = world.cached(body.complete)
        assert world.run(ask.cache.contains("m")) is False
        assert world.run(ask.cache.invalidate("m")) is False
        first = world.run(ask("m"))
        world.run(ask("n"))
        before = ask.cache.stats()
        assert world.run(ask.cache.contains(model="m")) is True
        assert world.run(ask.cache.invalidate("m")) is True
        assert world.run(ask.cache.contains("m")) is False
        assert ask.cache.stats().calls == before.calls
        assert world.run(ask("m")) != first
        world.run(ask.cache.clear())
        assert ask.cache.stats().size == 0
        assert world.run(ask.cache.contains("n")) is False

    def test_what_touches_the_store_is_a_coroutine_on_a_coroutine_function(self):
        assert inspect.iscoroutinefunction(decorated_async.cache.contains)
        assert inspect.iscoroutinefunction(decorated_async.cache.invalidate)
        assert inspect.iscoroutinefunction(decorated_async.cache.clear)

    def test_the_key_is_64_hex_digits(self):
        key = decorated.cache.key("hi")
        assert len(key) == 64
        assert set(key) <= set("0123456789abcdef")
        assert key == decorated.cache.key(text="hi", temperature=0.0)
        assert key != decorated_async.cache.key("hi")

    def test_a_bound_method_has_its_objects_keys(self):
        one = Bot("one")
        assert one.ask.cache.key("hi") == Bot.ask.cache.key(one, "hi")
        assert one.ask.cache.key("hi") != Bot("two").ask.cache.key("hi")
        assert Child.of_class.cache.key("hi") != Bot.of_class.cache.key("hi")
        one.ask("hi")
        assert one.ask.cache.contains("hi")
        assert Bot.ask.cache.invalidate(one, "hi")
        assert one.ask.cache.function("hi") == ["one", "hi"]

    def test_cache_info_and_cache_clear_do_what_functools_does(self):
        @llm_cached(max_size=5)
        def ask(text):
            return text

        ask("a"), ask("a"), ask("b")
        assert tuple(ask.cache_info()) == (1, 2, 5, 2)
        assert ask.cache_info()._fields == functools.lru_cache(lambda: 0).cache_info()._fields
        assert ask.cache_clear() is None
        assert tuple(ask.cache_info()) == (0, 0, 5, 0)
        decorated_async.cache_clear()
        bot = Bot("cleared")
        bot.ask("hi")
        assert bot.ask.cache_info().misses >= 1
        bot.ask.cache_clear()
        assert not bot.ask.cache.contains("hi")


class TestOff:
    @worlds
    def test_disabled_means_no_key_no_count_and_no_entry(self, world, body):
        def key(*args, **kwargs):
            raise AssertionError("a key was computed")

        ask = world.cached(body.complete, key=key)
        with llmcache.configure(enabled=False):
            assert world.run(ask("m")) != world.run(ask("m"))
        assert ask.cache.stats().calls == 0

    @pytest.mark.parametrize("word", ["1", "true", "YES", "on"])
    def test_the_environment_disables(self, monkeypatch, body, word):
        monkeypatch.setenv("LLMCACHE_DISABLED", word)
        ask = llm_cached(body.complete)
        assert ask("m") != ask("m")

    def test_a_bad_environment_breaks_no_call(self, monkeypatch, body, caplog):
        monkeypatch.setenv("LLMCACHE_TTL", "soon")
        ask = llm_cached(body.complete)
        assert ask("m") != ask("m")
        assert caplog.text.count("LLMCACHE_TTL") == 1
        strict = llm_cached(strict=True)(body.complete)
        with pytest.raises(llmcache.UncacheableFunction, match="LLMCACHE_TTL"):
            strict("m")


def test_the_time_saved_is_the_original_duration(clock):
    with llmcache.configure(clock=clock.clock):

        @llm_cached(name="ask")
        def ask(text):
            clock.advance(2.5)
            return text

        for _ in range(4):
            ask("hi")
        assert ask.cache.stats().time_saved == 7.5
        assert llmcache.stats().time_saved == 7.5


def test_the_logger_has_no_handler():
    assert logging.getLogger("llmcache").handlers == []


class TestBuiltins:
    def test_what_a_builtin_method_is_bound_to_is_part_of_the_key(self):
        prices = {"gpt": 1}
        price = llm_cached(prices.get)
        assert (price("gpt"), price("gpt")) == (1, 1)
        prices["gpt"] = 2
        assert price("gpt") == 2
        assert price.cache.stats().hits == 1

    def test_a_function_of_a_builtin_module_is_bound_to_nothing(self):
        joined = llm_cached(" ".join)
        assert (joined(["a", "b"]), joined(["a", "b"])) == ("a b", "a b")
        assert joined.cache.stats().hits == 1


class TestPartialStreams:
    def test_a_partial_may_ask_for_a_stream(self):
        def create(**request):
            return "tokens" if request.get("stream") is True else "answer"

        ask = llm_cached(functools.partial(create, stream=True))
        assert [ask(q=1), ask(q=1)] == ["tokens", "tokens"]
        assert [ask(q=1, stream=False), ask(q=1, stream=False)] == ["answer", "answer"]
        assert (ask.cache.stats().bypassed, ask.cache.stats().hits) == (2, 1)

    def test_a_partial_may_leave_no_choice(self):
        def create(prompt, stream=False):
            return "tokens" if stream else "answer"

        ask = llm_cached(functools.partial(create, "p", True))
        assert [ask(), ask()] == ["tokens", "tokens"]
        assert ask.cache.stats().bypassed == 2

    def test_a_partial_of_what_has_no_signature_asks_for_none(self):
        most = llm_cached(functools.partial(max, 3))
        assert (most(5), most(5)) == (5, 5)
        assert most.cache.stats().bypassed == 0

    def test_a_partial_that_fits_no_signature_is_left_to_fail(self):
        ask = llm_cached(functools.partial(lambda prompt: prompt, 1, 2))
        with pytest.raises(TypeError):
            ask()


class TestWherePortabilityEnds:
    def test_what_other_processes_cannot_tell_apart_stays_in_memory(self):
        store = MemoryStore()
        namespace = {}
        exec("def ask(text): return text", namespace)
        ask = llm_cached(backend=store)(namespace["ask"])
        assert (ask("hi"), ask("hi")) == ("hi", "hi")
        assert ask.cache.stats().hits == 1
        assert not store._entries
