from __future__ import annotations

import sys
from typing import Any

import anthropic
import openai
import pytest

from llmcache import UncacheableArgument, clients, llm_cached
from llmcache.keys.canonical import canonical


def test_a_client_is_known_whichever_sdks_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    client = openai.OpenAI(api_key="k", base_url="http://127.0.0.1:1/v1")
    assert clients.client_of(client.chat.completions) is client
    for module in ("_base_client", "_resource"):
        monkeypatch.delitem(sys.modules, f"anthropic.{module}", raising=False)
    assert clients.client_of(client) is client
    assert clients.client_of("client") is None
    for module in ("_base_client", "_resource"):
        monkeypatch.delitem(sys.modules, f"openai.{module}")
    assert clients.client_of(client) is None
    assert clients.client_of(client.chat) is None


def test_what_only_has_a_client_is_none() -> None:
    class Bot:
        def __init__(self) -> None:
            self._client = openai.OpenAI(api_key="k")

    class Completions(openai.resources.chat.Completions):
        pass

    assert clients.client_of(Bot()) is None
    assert clients.client_of(Completions(openai.OpenAI(api_key="k"))) is None


def test_only_the_methods_of_the_sdk_are_known_to_be_asynchronous() -> None:
    class Client(openai.AsyncOpenAI):
        def ask(self) -> str:
            return "answer"

    client = Client(api_key="k")
    assert clients.is_async(client.chat.completions.create)
    assert not clients.is_async(client.ask)
    assert not clients.is_async(openai.OpenAI(api_key="k").chat.completions.create)
    assert llm_cached(client.ask)() == "answer"


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI, anthropic.Anthropic])
def test_only_a_class_of_the_users_own_gives_a_client_attributes(kind: Any) -> None:
    client = kind(api_key="k", base_url="http://127.0.0.1:1/v1")
    client.system = "x"
    assert clients.own_attributes(client) == {}
    mine = type("Mine", (kind,), {})(api_key="k", base_url="http://127.0.0.1:1/v1")
    mine.system = "a"
    assert mine.models is not None
    found = clients.own_attributes(mine)
    assert found["system"] == "a"
    assert "k" not in found.values()
    assert found.keys().isdisjoint({"_client", "models", "api_key", "timeout", "_base_url"})


def test_a_resource_without_a_client_is_refused() -> None:
    resource = openai.resources.chat.Completions.__new__(openai.resources.chat.Completions)
    with pytest.raises(UncacheableArgument, match="without a client"):
        canonical(resource)
