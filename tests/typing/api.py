"""What type checkers must infer; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

from llmcache import Stats, llm_cached
from llmcache.handle import AsyncFunctionCache, FunctionCache


@llm_cached
def bare(prompt: str, *, temperature: float = 0.0) -> str:
    return prompt


@llm_cached()
def called(prompt: str) -> list[str]:
    return [prompt]


@llm_cached(ttl="1h", backend="memory", max_size=10, ignore=("prompt",), version=2)
def configured(prompt: str, seed: int = 0) -> dict[str, int]:
    return {prompt: seed}


@llm_cached
async def bare_async(prompt: str) -> str:
    return prompt


@llm_cached(ttl=None)
async def configured_async(prompt: str, n: int = 1) -> list[str]:
    return [prompt] * n


class Bot:
    @llm_cached
    def ask(self, prompt: str) -> str:
        return prompt

    @llm_cached(ttl=60)
    async def aask(self, prompt: str) -> int:
        return len(prompt)

    @llm_cached
    @classmethod
    def of_class(cls, prompt: str) -> str:
        return prompt

    @classmethod
    @llm_cached
    def in_class(cls, prompt: str) -> str:
        return prompt

    @llm_cached(ttl=60)
    @staticmethod
    def of_static(prompt: str) -> str:
        return prompt

    @staticmethod
    @llm_cached
    def in_static(prompt: str) -> str:
        return prompt

    @llm_cached
    @staticmethod
    async def async_static(prompt: str) -> str:
        return prompt


assert_type(bare("hi", temperature=1.0), str)
assert_type(called("hi"), list[str])
assert_type(configured("hi", seed=1), dict[str, int])

bot = Bot()
assert_type(bot.ask("hi"), str)
assert_type(Bot.ask(bot, "hi"), str)
assert_type(bot.of_class("hi"), str)
assert_type(Bot.of_class("hi"), str)
assert_type(Bot.in_class("hi"), str)
assert_type(bot.of_static("hi"), str)
assert_type(Bot.of_static("hi"), str)
assert_type(bot.in_static("hi"), str)

assert_type(bare.cache, FunctionCache)
assert_type(bot.ask.cache, FunctionCache)
assert_type(bare_async.cache, AsyncFunctionCache)
assert_type(Bot.of_static.cache, FunctionCache)
assert_type(bare.cache.stats(), Stats)
assert_type(bare.cache.contains("hi"), bool)
assert_type(bare.cache_info().hits, int)
assert_type(bare.__name__, str)
assert_type(called.__wrapped__("hi"), list[str])

bare(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bot.ask()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
bot.ask("hi", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
llm_cached(ttl=b"1h")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def main() -> None:
    assert_type(await bare_async("hi"), str)
    assert_type(await configured_async("hi", n=2), list[str])
    assert_type(await bot.aask("hi"), int)
    assert_type(await Bot.aask(bot, "hi"), int)
    assert_type(await Bot.async_static("hi"), str)
    assert_type(await bare_async.cache.contains("hi"), bool)
    await bot.aask(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
