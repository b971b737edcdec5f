"""A cache that is managed by hand: what it is told, and what it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llmcache import process
from llmcache.backends.registry import PRIVATE, REDIS
from llmcache.backends.urls import parse_url
from llmcache.cache_backend import CacheBackend, StoreBackend
from llmcache.closing import Closing
from llmcache.errors import ConfigurationError
from llmcache.named_backends import MemoryCacheBackend, RedisCacheBackend
from llmcache.policy import DEFAULT_MAX_SIZE, DEFAULT_PREFIX, DEFAULT_TTL, FOREVER, TTL
from llmcache.settings import BUILT_IN, Settings, parse_settings


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """What a `CacheManager` is told, or ``llm_cached(config=...)``.

    Args:
        enabled: whether anything is kept; not unless it is said.
        backend: ``"memory"``, or any ``backend=`` of `llm_cached`, also a list.
        ttl: seconds, or any ``ttl=`` of `llm_cached`.
        max_size: the most values of a memory store.
        redis_url: where Redis is, for ``"redis"``; it may hold a password and
            is not shown. Its options are those of any ``backend=`` URL.
        redis_prefix: stands before the keys in Redis, before what the URL says.
    """

    enabled: bool = False
    backend: Any = "memory"
    ttl: TTL = DEFAULT_TTL
    max_size: int = DEFAULT_MAX_SIZE
    redis_url: str | None = field(default=None, repr=False)
    redis_prefix: str = DEFAULT_PREFIX

    def settings(self) -> Settings:
        """Return the same as options of `llm_cached`.

        Raises:
            ConfigurationError: if the backend is unknown, or Redis without a
                URL, or another option cannot be meant.
            MissingExtra: for Redis, if redis-py is not installed.
        """
        backend = self.backend
        if isinstance(backend, list | tuple):
            backend = [self._redis() if tier == "redis" else tier for tier in backend]
        elif backend == "redis":
            backend = self._redis()
        return parse_settings(
            enabled=self.enabled, ttl=self.ttl, backend=backend, max_size=self.max_size
        )

    def _redis(self) -> str:
        if not self.redis_url:
            raise ConfigurationError("backend='redis' needs redis_url=")
        url = parse_url(self.redis_url)
        if url.scheme not in REDIS:
            raise ConfigurationError(f"redis_url: {url} is no URL of a Redis server")
        from urllib.parse import urlencode  # noqa: PLC0415

        said = {} if self.redis_prefix == DEFAULT_PREFIX else {"prefix": self.redis_prefix}
        query = urlencode({**url.options, **said})
        return f"{url.scheme}://{url.address}?{query}".removesuffix("?")


class CacheManager(Closing):
    """Keeps values by hand, or nothing at all while it is not enabled.

    Args:
        config: what it does; `CacheConfig` has the defaults.

    Attributes:
        config: what it was told.
        enabled: whether it keeps anything.

    Raises:
        ConfigurationError: if it is enabled and the backend is unknown, or
            Redis without a URL, or another option cannot be meant.
        MissingExtra: for Redis, if redis-py is not installed.

    Example:
        >>> from llmcache import CacheConfig, CacheManager, generate_cache_key
        >>> cache = CacheManager(CacheConfig(enabled=True, ttl=600))
        >>> key = generate_cache_key({"model": "m", "messages": []})
        >>> cache.get(key) is None, cache.set(key, ["answer"]), cache.get(key)
        (True, True, ['answer'])
    """

    def __init__(self, config: CacheConfig | None = None) -> None:
        self.config = config or CacheConfig()
        self.enabled = self.config.enabled
        self._backend = _backend_of(self.config)
        self._ttl: TTL = FOREVER if self.config.ttl is None else self.config.ttl

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, *default* if there is none."""
        return self._backend.get(key, default)

    def set(self, key: str, value: Any, ttl: TTL = None) -> Any:
        """Keep *value* under *key*; say whether it is kept.

        Args:
            key: any text.
            value: of any kind that `llm_cached` keeps.
            ttl: as ``ttl=`` of `llm_cached`, but ``None`` is the config's and
                `FOREVER` for ever.
        """
        return self._backend.set(key, value, self._ttl if ttl is None else ttl)

    def delete(self, key: str) -> Any:
        """Forget *key*; say whether there was something to forget."""
        return self._backend.delete(key)

    def clear(self) -> None:
        """Forget all keys."""
        self._backend.clear()

    def get_stats(self) -> dict[str, Any]:
        """Return the backend's numbers, ``enabled`` and ``ttl``; ``enabled`` alone if it is not."""
        said = {"enabled": True, "ttl": self.config.ttl} if self.enabled else {"enabled": False}
        return {**self._backend.get_stats(), **said}

    def close(self) -> None:
        """Close what is open; the next use opens it again."""
        self._backend.close()

    async def aget(self, key: str, default: Any = None) -> Any:
        """Do as `get`, without blocking the event loop."""
        return await self._backend.aget(key, default)

    async def aset(self, key: str, value: Any, ttl: TTL = None) -> Any:
        """Do as `set`, without blocking the event loop."""
        return await self._backend.aset(key, value, self._ttl if ttl is None else ttl)

    async def adelete(self, key: str) -> Any:
        """Do as `delete`, without blocking the event loop."""
        return await self._backend.adelete(key)

    async def aclear(self) -> None:
        """Do as `clear`, without blocking the event loop."""
        await self._backend.aclear()

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        await self._backend.aclose()


def _backend_of(config: CacheConfig) -> CacheBackend:
    if not config.enabled:
        return NoBackend()
    if isinstance(config.backend, CacheBackend):
        return config.backend
    settings = config.settings()
    if settings.backend == PRIVATE:
        return MemoryCacheBackend(config.max_size, config.ttl)
    if config.backend == "redis":
        return RedisCacheBackend(settings.backend, default_ttl=config.ttl)
    store = process.current.store(settings.over(BUILT_IN), None)
    name = "tiered" if isinstance(config.backend, list | tuple) else "store"
    if isinstance(config.backend, str):
        name = parse_url(config.backend).scheme
    return StoreBackend(store, config.ttl, name=name)


class NoBackend(CacheBackend):
    """Keeps nothing."""

    def get(self, key: str, default: Any = None) -> Any:
        return default

    def set(self, key: str, value: Any, ttl: TTL = None) -> bool:
        return False

    def delete(self, key: str) -> bool:
        return False

    def clear(self) -> None:
        return None

    def get_stats(self) -> dict[str, Any]:
        return {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return default

    async def aset(self, key: str, value: Any, ttl: TTL = None) -> bool:
        return False

    async def adelete(self, key: str) -> bool:
        return False

    async def aclear(self) -> None:
        return None

    async def aclose(self) -> None:
        return None
