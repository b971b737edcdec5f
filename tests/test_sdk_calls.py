"""The real SDKs, over HTTP, answered with what providers really sent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anthropic
import openai
import pytest
from loopback import LoopbackProvider, load_recordings
from sdk import acall, call

import llmcache
from llmcache import llm_cached
from llmcache.codec.tree import same

HERE = Path(__file__).parent
OWN = load_recordings(HERE / "recordings.jsonl")
ALL_FILE = HERE.parents[1] / "shared" / "recordings" / "recordings.jsonl"
ALL = load_recordings(ALL_FILE) if ALL_FILE.exists() else OWN
SETS = [
    pytest.param(OWN, id="own"),
    pytest.param(ALL, id="all", marks=pytest.mark.slow),
]
CHAT = next(r for r in OWN if r.kind == "openai.chat" and r.status == 200 and not r.stream)

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")


def answered(recordings, kind):
    return [r for r in recordings if r.kind == kind and r.status == 200 and not r.stream]


def check_same(first, second):
    assert second is not first
    assert type(second) is type(first)
    assert same(first, second)
    assert second.model_dump_json(warnings=False) == first.model_dump_json(warnings=False)
    assert second.model_fields_set == first.model_fields_set
    assert second.model_extra == first.model_extra
    assert second.__dict__.keys() == first.__dict__.keys()
    assert getattr(second, "_request_id", None) == getattr(first, "_request_id", None)


@pytest.mark.parametrize(
    "kind", ["openai.chat", "openai.responses", "anthropic.messages", "google.generate"]
)
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("recordings", SETS)
def test_every_recorded_answer_comes_back_the_same(recordings, kind, mode):
    by_id = {"key": lambda recording, provider: recording.id, "strict": True}
    cached = llm_cached(**by_id)(call) if mode == "sync" else llm_cached(**by_id)(acall)

    def ask(recording):
        result = cached(recording, provider)
        return asyncio.run(result) if mode == "async" else result

    with LoopbackProvider(recordings) as provider:
        for recording in answered(recordings, kind):
            before = provider.calls
            first, second = ask(recording), ask(recording)
            assert provider.calls == before + 1
            check_same(first, second)


def test_the_clients_own_methods_can_be_decorated():
    with LoopbackProvider(OWN) as provider:
        client = openai.OpenAI(api_key="sk-1", base_url=provider.url + "/v1", max_retries=0)
        create = llm_cached(client.chat.completions.create)
        request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"x-record": CHAT.id}
        first = create(**request, extra_headers=headers)
        second = create(**request, extra_headers=headers)
        assert provider.calls == 1
        check_same(first, second)
        rotated = client.with_options(api_key="sk-2", timeout=3)
        again = llm_cached(backend="memory://c")(rotated.chat.completions.create)
        assert create.cache.key(**request) == again.cache.key(**request)
        elsewhere = client.with_options(base_url="http://127.0.0.1:1/v1")
        other = llm_cached(elsewhere.chat.completions.create)
        assert create.cache.key(**request) != other.cache.key(**request)


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_an_async_clients_methods_are_known_to_be_asynchronous(sdk):
    async def scenario():
        with LoopbackProvider(OWN) as provider:
            if sdk == "openai":
                client = openai.AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0)
                create, kind = client.chat.completions.create, "openai.chat"
            else:
                client = anthropic.AsyncAnthropic(api_key="k", base_url=provider.url, max_retries=0)
                create, kind = client.messages.create, "anthropic.messages"
            recording = next(r for r in OWN if r.kind == kind and r.status == 200 and not r.stream)
            cached = llm_cached(create)
            request = {
                "model": "m",
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 9,
                "extra_headers": {"x-record": recording.id},
            }
            first = await cached(**request)
            second = await cached(**request)
            waiting = cached(**request)
            assert asyncio.iscoroutine(waiting)
            await waiting
            await client.close()
            assert provider.calls == 1
            assert await cached.cache.contains(**request)
            check_same(first, second)

    asyncio.run(scenario())


def test_a_function_that_takes_a_client_answers_by_its_endpoint():
    @llm_cached
    def complete(client, text):
        return client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": text}],
            extra_headers={"x-record": CHAT.id},
        )

    with LoopbackProvider(OWN) as one, LoopbackProvider(OWN) as two:
        first = openai.OpenAI(api_key="k", base_url=one.url)
        for client in (first, openai.OpenAI(api_key="j", base_url=one.url)):
            complete(client, "hi")
        complete(openai.OpenAI(api_key="k", base_url=two.url), "hi")
        assert (one.calls, two.calls) == (1, 1)
    assert llmcache.stats().hits == 1


def test_an_error_of_the_provider_is_the_callers_and_is_not_kept():
    with LoopbackProvider(OWN) as provider:
        cached = llm_cached(key=lambda recording, provider: recording.id)(call)
        provider.fail(times=2, status=503)
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                cached(CHAT, provider)
        check_same(cached(CHAT, provider), cached(CHAT, provider))
        assert provider.calls == 3
        assert cached.cache.stats().failed == 2


def test_a_raw_response_is_returned_uncached():
    with LoopbackProvider(OWN) as provider:
        client = openai.OpenAI(api_key="k", base_url=provider.url)
        create = llm_cached(name="raw")(client.chat.completions.with_raw_response.create)
        for _ in range(2):
            raw = create(model="m", messages=[], extra_headers={"x-record": CHAT.id})
            assert raw.parse().id == CHAT.response["id"]
        assert provider.calls == 2
        assert create.cache.stats().rejected == 2
