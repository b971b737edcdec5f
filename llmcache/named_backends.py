"""The caches of values by the names of their stores: memory, SQLite, Redis, tiers of them."""

from __future__ import annotations

from os import PathLike
from typing import Any, cast

from llmcache.backends.base import DEFAULT_TIMEOUT, Countable, Store
from llmcache.backends.memory import MemoryStore
from llmcache.backends.registry import REDIS, open_store
from llmcache.backends.urls import parse_url
from llmcache.cache_backend import CacheBackend, StoreBackend
from llmcache.errors import ConfigurationError
from llmcache.policy import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_CONNECTIONS,
    DEFAULT_FILE_BYTES,
    DEFAULT_FILE_SIZE,
    DEFAULT_MAX_SIZE,
    DEFAULT_MAX_VALUE_BYTES,
    DEFAULT_PREFIX,
    DEFAULT_TTL,
    TTL,
    Clock,
    parse_bound,
)
from llmcache.tier_list import check_tiers, open_tiers


class MemoryCacheBackend(StoreBackend):
    """Values in this process's memory: those that were used last, each until it expires.

    Args:
        max_size: the most values.
        default_ttl: how long each is kept, unless `set` says otherwise.
        max_bytes: the most bytes of them all, ``None`` for no such bound.
        max_value_bytes: values that take more are not kept.
        clock: where the time comes from.

    Example:
        >>> from llmcache import MemoryCacheBackend
        >>> cache = MemoryCacheBackend(max_size=100)
        >>> cache.set("greeting", {"text": "hello"}, ttl="5m")
        True
        >>> cache.get("greeting")
        {'text': 'hello'}
    """

    def __init__(
        self,
        max_size: int = DEFAULT_MAX_SIZE,
        default_ttl: TTL = DEFAULT_TTL,
        *,
        max_bytes: int | None = None,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        clock: Clock | None = None,
    ) -> None:
        self._max_size = parse_bound("max_size", max_size)
        most = parse_bound("max_bytes", max_bytes, optional=True)
        super().__init__(
            MemoryStore(max_size=self._max_size, max_bytes=most, clock=clock),
            default_ttl,
            name="memory",
            max_value_bytes=max_value_bytes,
            clock=clock,
        )

    def get_stats(self) -> dict[str, Any]:
        """Return ``backend``, ``size``, ``max_size``, ``hits``, ``misses`` and ``hit_rate``."""
        return {**super().get_stats(), "max_size": self._max_size}


class SQLiteCacheBackend(StoreBackend):
    """Values in a SQLite file, which outlive the process and are shared with others.

    Args:
        path: the file; it and its directory are made when they are needed.
        max_size: the most entries of the file, ``None`` for no such bound.
        max_bytes: the most bytes of all entries, ``None`` for no such bound.
        default_ttl: how long a value is kept, unless `set` says otherwise.
        prefix: tells those apart who share the file.
        timeout: seconds that the file may add to a call.
        max_value_bytes: values that take more are not kept.
        clock: where the time comes from.

    Example:
        >>> import tempfile
        >>> from llmcache import SQLiteCacheBackend
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with SQLiteCacheBackend(f"{folder}/answers.db") as cache:
        ...         cache.set("greeting", "hello"), cache.get("greeting")
        (True, 'hello')
    """

    def __init__(
        self,
        path: str | PathLike[str],
        max_size: int | None = DEFAULT_FILE_SIZE,
        max_bytes: int | None = DEFAULT_FILE_BYTES,
        default_ttl: TTL = DEFAULT_TTL,
        *,
        prefix: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        clock: Clock | None = None,
    ) -> None:
        from llmcache.backends.sqlite import SQLiteStore  # noqa: PLC0415

        store = SQLiteStore(
            path,
            prefix=prefix,
            max_size=parse_bound("max_size", max_size, optional=True),
            max_bytes=parse_bound("max_bytes", max_bytes, optional=True),
            timeout=timeout,
            clock=clock,
        )
        super().__init__(
            store, default_ttl, name="sqlite", max_value_bytes=max_value_bytes, clock=clock
        )
        self._max_size = store.max_size

    def get_stats(self) -> dict[str, Any]:
        """Return ``backend``, ``size``, ``max_size``, ``hits``, ``misses`` and ``hit_rate``."""
        return {**super().get_stats(), "max_size": self._max_size}


class RedisCacheBackend(StoreBackend):
    """Values in Redis or Valkey servers, which machines share.

    Args:
        redis_url: ``redis://user:password@host:port/database``, ``rediss://``
            for TLS, ``unix:///path/of/socket``, ``redis+cluster://…`` or
            ``redis+sentinel://…``, with options as in any ``backend=`` URL.
        prefix: stands before every key in Redis.
        default_ttl: how long a value is kept, unless `set` says otherwise.
        timeout: seconds that the server may add to a call.
        connect_timeout: seconds until a connection must be made; it is made in
            the background, and nobody waits that long.
        max_connections: the most connections for all threads together, and for
            all tasks of one event loop; in a cluster, to each node.
        max_value_bytes: values that take more are not kept.
        clock: where the time comes from; the server has its own.

    Raises:
        ConfigurationError: if *redis_url* cannot be meant.
        MissingExtra: if redis-py is not installed.

    Example:
        >>> from llmcache import RedisCacheBackend
        >>> cache = RedisCacheBackend("redis://localhost:6379/0")  # doctest: +SKIP
        >>> cache.set("greeting", "hello"), cache.get("greeting")  # doctest: +SKIP
        (True, 'hello')
    """

    def __init__(
        self,
        redis_url: str,
        prefix: str = DEFAULT_PREFIX,
        default_ttl: TTL = DEFAULT_TTL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        max_connections: int = DEFAULT_CONNECTIONS,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        clock: Clock | None = None,
    ) -> None:
        url = parse_url(redis_url)
        if url.scheme not in REDIS:
            raise ConfigurationError(f"redis_url: {url} is no URL of a Redis server")
        said = {
            "prefix": (prefix, DEFAULT_PREFIX),
            "timeout": (timeout, DEFAULT_TIMEOUT),
            "connect_timeout": (connect_timeout, DEFAULT_CONNECT_TIMEOUT),
            "max_connections": (max_connections, DEFAULT_CONNECTIONS),
        }
        # What is not said here may be said by the URL.
        given = {name: value for name, (value, default) in said.items() if value != default}
        store = open_store(redis_url, {**given, "clock": clock or Clock()})
        self._redis = cast("Countable", store)
        super().__init__(
            store, default_ttl, name="redis", max_value_bytes=max_value_bytes, clock=clock
        )

    def get_stats(self) -> dict[str, Any]:
        """Return ``backend``, ``size``, ``size_is_estimate``, ``hits``, ``misses``, ``hit_rate``.

        The size is found by looking through the servers' keys, for no longer
        than ``timeout``; ``None`` if they do not answer.
        """
        return {**super().get_stats(), **self._counted(self._redis)}


class TieredCacheBackend(StoreBackend):
    """Values in several stores at once: the fastest that has one gives it, the last has all.

    - Values go to all, and are deleted from all. One that fails is left out.
    - A copy above the last one lives for its tier's ``ttl`` after its value was
      deleted or replaced by another process, 5 seconds unless a URL says
      otherwise. In memory over Redis it goes at once, while the server can say
      so.

    Args:
        backends: two or more, the fastest first: ``"memory"``, URLs, stores
            and backends. What is named is this backend's own.
        default_ttl: how long a value is kept, unless `set` says otherwise.
        max_value_bytes: values that take more are not kept.
        clock: where the time comes from.

    Raises:
        ConfigurationError: if they are fewer than two, or one of them is no
            store; the message says which.
        MissingExtra: for Redis, if redis-py is not installed.

    Example:
        >>> import tempfile
        >>> from llmcache import TieredCacheBackend
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with TieredCacheBackend("memory", f"sqlite:///{folder}/answers.db") as cache:
        ...         cache.set("greeting", "hello"), cache.get("greeting")
        (True, 'hello')
    """

    def __init__(
        self,
        *backends: str | Store | CacheBackend,
        default_ttl: TTL = DEFAULT_TTL,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        clock: Clock | None = None,
    ) -> None:
        now = clock or Clock()
        store = open_tiers(
            check_tiers(backends), lambda url, _first: open_store(url, {"clock": now}), now
        )
        super().__init__(
            store, default_ttl, name="tiered", max_value_bytes=max_value_bytes, clock=clock
        )
        self._last = store.last

    def get_stats(self) -> dict[str, Any]:
        """Return ``backend``, ``size``, ``hits``, ``misses`` and ``hit_rate``.

        The size is that of the last store. If this is in Redis, there is
        ``size_is_estimate`` as well, as of a `RedisCacheBackend`.
        """
        numbers = super().get_stats()
        if isinstance(self._last, Countable):
            numbers |= self._counted(self._last)
        return numbers
