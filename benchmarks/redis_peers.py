"""What users would pick instead to keep answers in Redis, each used as its documentation says."""

from __future__ import annotations

import asyncio
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.peers import Function, Peer, langchain_model, litellm_completion


def peers(port: int) -> tuple[Peer, ...]:
    """Return the caches that keep answers in the server on *port* of this machine."""
    return (
        Peer(
            name="LangChain, Redis",
            package="langchain-community",
            wrap=partial(_langchain, port),
        ),
        Peer(
            name="LiteLLM, Redis",
            package="litellm",
            wrap=partial(_litellm, port),
        ),
        Peer(name="cashews, Redis", package="cashews", wrap=partial(_cashews, port), awaited=True),
        Peer(
            name="aiocache, Redis", package="aiocache", wrap=partial(_aiocache, port), awaited=True
        ),
    )


def _langchain(port: int, function: Function) -> Function:
    import redis
    from langchain_community.cache import RedisCache

    # It says so at each hit.
    warnings.filterwarnings("ignore", "The default value of `allowed_objects`")
    return langchain_model(function, RedisCache(redis.Redis(port=port), ttl=3600))


def _litellm(port: int, function: Function) -> Function:
    from litellm.caching.caching import Cache, LiteLLMCacheType

    cache = Cache(type=LiteLLMCacheType.REDIS, host="127.0.0.1", port=str(port), password="")
    return litellm_completion(function, cache)


def _cashews(port: int, function: Function) -> Function:
    def make() -> Function:
        from cashews import Cache

        cache = Cache()
        cache.setup(f"redis://127.0.0.1:{port}", client_side=False)
        return cache(ttl="1h")(function)  # type: ignore[no-any-return]

    return _for_each_loop(make)


def _aiocache(port: int, function: Function) -> Function:
    def make() -> Function:
        from aiocache import Cache, cached
        from aiocache.serializers import PickleSerializer

        return cached(  # type: ignore[no-any-return]
            ttl=3600,
            cache=Cache.REDIS,
            endpoint="127.0.0.1",
            port=port,
            serializer=PickleSerializer(protocol=pickle.HIGHEST_PROTOCOL),
        )(function)

    return _for_each_loop(make)


def _for_each_loop(make: Callable[[], Function]) -> Function:
    """Make another cache for each event loop: a client works on one alone."""
    made: dict[asyncio.AbstractEventLoop, Function] = {}

    async def ask(**request: Any) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in made:
            made[loop] = make()
        return await made[loop](**request)

    return ask
