import subprocess
import sys

import llmcache


def test_the_public_names():
    assert llmcache.__all__ == [
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
    assert all(hasattr(llmcache, name) for name in llmcache.__all__)


def test_every_error_is_one_of_ours_and_a_builtin_too():
    errors = [getattr(llmcache, name) for name in llmcache.__all__ if name[0].isupper()]
    errors = [e for e in errors if isinstance(e, type) and issubclass(e, Exception)]
    for error in errors:
        assert issubclass(error, llmcache.LLMCacheError)
        if error is not llmcache.LLMCacheError:
            assert issubclass(error, ValueError | TypeError | ImportError | OSError)


def test_importing_starts_no_thread_and_loads_no_optional_package():
    code = (
        "import sys, threading, llmcache;"
        "assert threading.active_count() == 1;"
        "print(sorted({'openai','anthropic','pydantic','numpy','msgspec','attr','redis',"
        "'sqlite3','pytest','hypothesis'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
