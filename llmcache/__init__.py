"""A response cache for functions that call language models."""

from llmcache._version import __version__
from llmcache.codec.kinds import register_type
from llmcache.decorator import llm_cached
from llmcache.errors import (
    ConfigurationError,
    LLMCacheError,
    MissingExtra,
    UncacheableArgument,
    UncacheableFunction,
    UncacheableValue,
)
from llmcache.keys.objects import register_key
from llmcache.keys.request import generate_cache_key
from llmcache.policy import Clock
from llmcache.process import configure, reset_stats, stats
from llmcache.stats import Stats

__all__ = [
    "Clock",
    "ConfigurationError",
    "LLMCacheError",
    "MissingExtra",
    "Stats",
    "UncacheableArgument",
    "UncacheableFunction",
    "UncacheableValue",
    "__version__",
    "configure",
    "generate_cache_key",
    "llm_cached",
    "register_key",
    "register_type",
    "reset_stats",
    "stats",
]
