"""What users would pick instead, each used as its own documentation says."""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.tables import titled

Function: TypeAlias = Callable[..., Any]
"""Takes ``messages``, ``model`` and ``temperature``, by name."""

MAX_SIZE = 1000
"""The most entries, for those that have such a bound."""

# What LiteLLM would fetch, and where DSPy would make a folder, when they are imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
_FOLDER = tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True)
os.environ.setdefault("DSPY_CACHEDIR", _FOLDER.name)


def _folder() -> str:
    """Return a new folder, which goes when this process does."""
    return tempfile.mkdtemp(dir=_FOLDER.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A cache that a function can be put behind.

    Args:
        name: what it is called in tables.
        package: what it is installed as, ``None`` if it comes with Python.
        wrap: returns a function that takes the same and answers from the cache.
        awaited: whether it takes and makes coroutine functions only.
    """

    name: str
    package: str | None
    wrap: Callable[[Function], Function]
    awaited: bool = False

    @property
    def title(self) -> str:
        """The name, and how it is used."""
        return titled(self.name, self.awaited)


def json_key(**request: Any) -> str:
    """Return what most people write by hand."""
    return json.dumps(request, sort_keys=True)


def dspy_key() -> Callable[[dict[str, Any]], str]:
    """Return DSPy's function from a request to its key."""
    from dspy.clients.cache import Cache

    return Cache(False, True, None).cache_key


def litellm_key() -> Callable[[dict[str, Any]], str]:
    """Return LiteLLM's function from a request to its key."""
    key = _litellm_cache().get_cache_key
    return lambda request: key(**request)


def _litellm_cache() -> Any:
    from litellm.caching.caching import Cache, LiteLLMCacheType

    return Cache(type=LiteLLMCacheType.LOCAL)


def _lru_cache(function: Function) -> Function:
    return functools.lru_cache(maxsize=MAX_SIZE)(function)


def _lru_cache_of_json(function: Function) -> Function:
    @functools.lru_cache(maxsize=MAX_SIZE)
    def of_text(text: str) -> Any:
        return function(**json.loads(text))

    return lambda **request: of_text(json.dumps(request, sort_keys=True))


def _cachetools(function: Function) -> Function:
    from cachetools import TTLCache, cached

    return cached(TTLCache(MAX_SIZE, 3600), key=json_key, lock=threading.RLock())(function)


def _dogpile(function: Function) -> Function:
    from dogpile.cache import make_region
    from dogpile.cache.util import kwarg_function_key_generator

    region = make_region(function_key_generator=kwarg_function_key_generator)
    region.configure("dogpile.cache.memory", expiration_time=3600)
    return region.cache_on_arguments()(function)


def _diskcache(function: Function) -> Function:
    from diskcache import Cache

    return Cache(_folder()).memoize(expire=3600)(function)


def _aiocache(function: Function) -> Function:
    from aiocache import cached

    return cached(ttl=3600)(function)


def _cashews(function: Function) -> Function:
    from cashews import Cache

    cache = Cache()
    cache.setup("mem://", size=MAX_SIZE)
    return cache(ttl="1h")(function)


def _cachu(function: Function) -> Function:
    import cachu

    return cachu.cache(ttl=3600, backend="memory")(function)


def _cachu_file(function: Function) -> Function:
    import cachu

    cachu.configure(file_dir=_FOLDER.name)
    return cachu.cache(ttl=3600, backend="file")(function)


def _joblib(function: Function) -> Function:
    from joblib import Memory

    memory = Memory(_folder(), verbose=0)
    return memory.cache(function)


def _dspy(function: Function) -> Function:
    import dspy
    from dspy.clients.cache import request_cache

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    return request_cache()(function)


def _langchain(function: Function) -> Function:
    from langchain_core.caches import InMemoryCache

    return langchain_model(function, InMemoryCache())


def _langchain_sqlite(function: Function) -> Function:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.cache import SQLiteCache

        cache = SQLiteCache(str(Path(_folder(), "langchain.db")))
    return langchain_model(function, cache)


def langchain_model(function: Function, cache: Any) -> Function:
    """A chat model of theirs that asks *function*; it answers with a message of theirs."""
    from langchain_core.language_models.chat_models import SimpleChatModel

    class Model(SimpleChatModel):
        model: str
        temperature: float

        @property
        def _llm_type(self) -> str:
            return "benchmark"

        @property
        def _identifying_params(self) -> dict[str, Any]:
            return {"model": self.model, "temperature": self.temperature}

        def _call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
            roles = {"system": "system", "human": "user", "ai": "assistant"}
            asked = [{"role": roles[m.type], "content": m.text} for m in messages]
            rest = {name: kwargs[name] for name in ("tools",) if name in kwargs}
            answer = function(
                messages=asked, model=self.model, temperature=self.temperature, **rest
            )
            return answer if isinstance(answer, str) else answer.choices[0].message.content

    models: dict[tuple[str, float], Model] = {}

    def ask(*, messages: Any, model: str, temperature: float, **rest: Any) -> Any:
        place = model, temperature
        if place not in models:
            models[place] = Model(model=model, temperature=temperature, cache=cache)
        return models[place].invoke(messages, **rest).content

    return ask


def _litellm(function: Function) -> Function:
    return litellm_completion(function, _litellm_cache())


def litellm_completion(function: Function, cache: Any) -> Function:
    """What `litellm.completion` does with a request and a response; a text is put in a dict."""

    def ask(**request: Any) -> Any:
        answer = cache.get_cache(**request)
        if answer is None:
            answer = function(**request)
            cache.add_cache({"text": answer} if type(answer) is str else answer, **request)
            return answer
        return answer["text"] if answer.keys() == {"text"} else answer

    return ask


PEERS = (
    Peer(name="functools.lru_cache", package=None, wrap=_lru_cache),
    Peer(name="functools.lru_cache of JSON", package=None, wrap=_lru_cache_of_json),
    Peer(name="cachetools, JSON key", package="cachetools", wrap=_cachetools),
    Peer(name="dogpile.cache, memory", package="dogpile.cache", wrap=_dogpile),
    Peer(name="diskcache", package="diskcache", wrap=_diskcache),
    Peer(name="aiocache, memory", package="aiocache", wrap=_aiocache, awaited=True),
    Peer(name="cashews, memory", package="cashews", wrap=_cashews, awaited=True),
    Peer(name="cachu, memory", package="cachu", wrap=_cachu),
    Peer(name="joblib.Memory", package="joblib", wrap=_joblib),
    Peer(name="DSPy, memory", package="dspy", wrap=_dspy),
    Peer(name="LangChain, memory", package="langchain-core", wrap=_langchain),
    Peer(name="LiteLLM, memory", package="litellm", wrap=_litellm),
)

ON_DISK = (
    Peer(name="diskcache", package="diskcache", wrap=_diskcache),
    Peer(name="LangChain, SQLite", package="langchain-community", wrap=_langchain_sqlite),
    Peer(name="cachu, file", package="cachu", wrap=_cachu_file),
    Peer(name="cachu, file", package="cachu", wrap=_cachu_file, awaited=True),
)
"""Those that keep answers in a SQLite file."""


def close() -> None:
    """Close what would keep this process from ending."""
    if cachu := sys.modules.get("cachu"):
        cachu.clear_backends()


def why_not(error: Exception) -> str:
    """Return why a case cannot be run, in a few words."""
    if isinstance(error, ImportError):
        return f"not installed: {error.name}"
    return f"cannot: {type(error).__name__}: {str(error).splitlines()[0]}"


def versions() -> dict[str, str]:
    """Return the versions of all peers that are installed, by package."""
    found = {}
    for package in sorted({peer.package for peer in PEERS + ON_DISK if peer.package}):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
