from __future__ import annotations

import sys

import openai
import pytest

from llmcache import clients


def test_a_client_is_known_whichever_sdks_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    client = openai.OpenAI(api_key="k", base_url="http://127.0.0.1:1/v1")
    assert clients.client_of(client.chat.completions) is client
    monkeypatch.delitem(sys.modules, "anthropic", raising=False)
    assert clients.client_of(client) is client
    assert clients.client_of("client") is None
    monkeypatch.delitem(sys.modules, "openai")
    assert clients.client_of(client) is None
