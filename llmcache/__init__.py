"""A response cache for functions that call language models."""

from llmcache._version import __version__
from llmcache.backends.registry import register_backend
from llmcache.cache_backend import CacheBackend
from llmcache.codec.kinds import register_type
from llmcache.decorator import llm_cached
from llmcache.errors import (
    ConfigurationError,
    LLMCacheError,
    MissingExtra,
    StoreUnavailable,
    StoreUnusable,
    UncacheableArgument,
    UncacheableFunction,
    UncacheableValue,
)
from llmcache.events import Event
from llmcache.keys.objects import register_key
from llmcache.keys.request import generate_cache_key
from llmcache.manager import CacheConfig, CacheManager
from llmcache.named_backends import (
    MemoryCacheBackend,
    RedisCacheBackend,
    SQLiteCacheBackend,
    TieredCacheBackend,
)
from llmcache.policy import FOREVER, Clock
from llmcache.process import aclose, close, configure, on_event, reset_stats, stats
from llmcache.stats import Stats

__all__ = [
    "FOREVER",
    "CacheBackend",
    "CacheConfig",
    "CacheManager",
    "Clock",
    "ConfigurationError",
    "Event",
    "LLMCacheError",
    "MemoryCacheBackend",
    "MissingExtra",
    "RedisCacheBackend",
    "SQLiteCacheBackend",
    "Stats",
    "StoreUnavailable",
    "StoreUnusable",
    "TieredCacheBackend",
    "UncacheableArgument",
    "UncacheableFunction",
    "UncacheableValue",
    "__version__",
    "aclose",
    "close",
    "configure",
    "generate_cache_key",
    "llm_cached",
    "on_event",
    "register_backend",
    "register_key",
    "register_type",
    "reset_stats",
    "stats",
]
