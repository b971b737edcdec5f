"""A slow miss and a fast hit, through the SDKs of OpenAI and Anthropic.

It needs no key: a provider on the loopback interface answers as the real ones once did, half a
second later. With ``--real`` the real ones are asked, each whose key is in the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from time import perf_counter

import anthropic
import openai
from anthropic.types import Message
from loopback import LoopbackProvider, load_recordings
from openai.types.chat import ChatCompletion

import llmcache
from llmcache import llm_cached

RECORDINGS = Path(__file__).with_name("recordings.jsonl")
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")


@llm_cached(ttl="1h")
def complete(client: openai.OpenAI, prompt: str) -> ChatCompletion:
    return client.chat.completions.create(
        model="gpt-5",
        messages=[{"role": "user", "content": prompt}],
        stream=False,
    )


@llm_cached(ttl="1h")
async def acomplete(client: anthropic.AsyncAnthropic, prompt: str) -> Message:
    return await client.messages.create(
        model="claude-haiku-4-5",
        max_tokens=4096,
        messages=[{"role": "user", "content": [{"type": "text", "text": prompt}]}],
        metadata={"user_id": "123"},
        stream=False,
    )


def ask_openai(client: openai.OpenAI) -> None:
    times, answers = [], []
    with client:
        for _ in range(2):
            started = perf_counter()
            answers.append(complete(client, "What is the capital of France?"))
            times.append(perf_counter() - started)
    assert answers[0] == answers[1]
    show("OpenAI", times, answers[1].choices[0].message.content)


async def ask_anthropic(client: anthropic.AsyncAnthropic) -> None:
    times, answers = [], []
    async with client:
        for _ in range(2):
            started = perf_counter()
            answers.append(await acomplete(client, "hello"))
            times.append(perf_counter() - started)
    assert answers[0] == answers[1]
    show("Anthropic", times, next(b.text for b in answers[1].content if b.type == "text"))


def show(provider: str, times: list[float], answer: str | None) -> None:
    miss, hit = (f"{seconds * 1000:.3f} ms" for seconds in times)
    print(f"{provider:<10} miss {miss:>12}   hit {hit:>9}   {answer!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description="A slow miss and a fast hit.")
    parser.add_argument("--real", action="store_true", help=f"needs {' or '.join(KEYS)}")
    real = parser.parse_args().real
    if real and not any(os.environ.get(key) for key in KEYS):
        parser.error(f"--real needs {' or '.join(KEYS)} in the environment")
    if real:
        if os.environ.get("OPENAI_API_KEY"):
            ask_openai(openai.OpenAI())
        if os.environ.get("ANTHROPIC_API_KEY"):
            asyncio.run(ask_anthropic(anthropic.AsyncAnthropic()))
    else:
        with LoopbackProvider(load_recordings(RECORDINGS), delay=0.5) as provider:
            url = provider.url
            ask_openai(openai.OpenAI(base_url=url, api_key="none"))
            asyncio.run(ask_anthropic(anthropic.AsyncAnthropic(base_url=url, api_key="none")))
    print()
    print(llmcache.stats())


if __name__ == "__main__":
    main()
