"""`llm_cached`: the decorator."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, ParamSpec, TypeVar, overload

import wrapt

from llmcache.codec.compression import Compression
from llmcache.engine import Engine
from llmcache.errors import ConfigurationError
from llmcache.handle import FIRST, AsyncFunctionCache, CacheInfo, FunctionCache, handle
from llmcache.hit import Unanswered
from llmcache.keys.binding import DEFAULT_IGNORE
from llmcache.manager import CacheConfig
from llmcache.policy import TTL, UNSET, Unset
from llmcache.ports import SyncPort, drive
from llmcache.protocols import CachedFunction, Decorator
from llmcache.runtime import Options
from llmcache.settings import Settings, parse_settings

P = ParamSpec("P")
R = TypeVar("R")

_SYNC = SyncPort()


class BoundCachedFunction(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """A decorated method, bound to its object or class."""

    @property
    def cache(self) -> FunctionCache | AsyncFunctionCache:
        """What the cache of this function can do."""
        owner = getattr(self.__wrapped__, "__self__", None)
        if owner is None and self._self_binding == "function":
            owner = FIRST
        return handle(self._self_parent._self_engine, self.__wrapped__, owner)

    def __reduce_ex__(self, protocol: Any) -> Any:
        owner = getattr(self.__wrapped__, "__self__", None) or self._self_owner
        return getattr, (owner, self.__wrapped__.__name__)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        owner, name = self.__reduce_ex__(2)[1]
        return getattr(copy.deepcopy(owner, memo), name)


class CachedFunctionWrapper(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A decorated function."""

    __bound_function_wrapper__ = BoundCachedFunction

    def __init__(self, function: Any, engine: Engine) -> None:
        answer = {"plain": engine.call, "coroutine": engine.acall, "generator": engine.bypass}
        call = answer[engine.kind]
        super().__init__(function, call)
        self._self_engine = engine
        self._self_call = call
        # What tells this from other caches of the same function, where it is an argument.
        self._self_declared = engine.declared

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # The same as in wrapt for what is not bound, in less than half the time.
        return self._self_call(self.__wrapped__, None, args, kwargs)

    @property
    def cache(self) -> FunctionCache | AsyncFunctionCache:
        """What the cache of this function can do."""
        return handle(self._self_engine, self.__wrapped__, None)

    def cache_info(self) -> CacheInfo:
        """Return hits, misses, the most entries and the entries now, as `functools` does."""
        stats = self._self_engine.stats()
        return CacheInfo(stats.hits, stats.misses, self._self_engine.max_size(), stats.size)

    def cache_clear(self) -> None:
        """Forget all answers and set the numbers to zero, as `functools` does."""
        drive(self._self_engine.clear(_SYNC))
        self._self_engine.counters.reset()

    def __reduce_ex__(self, protocol: Any) -> Any:
        name = getattr(self.__wrapped__, "__qualname__", None)
        if name is None:
            kind = type(self.__wrapped__).__qualname__
            raise TypeError(
                f"a decorated {kind} has no name to be pickled by: decorate a function instead"
            )
        return name

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class CachedPlainFunctionWrapper(CachedFunctionWrapper):
    """A decorated function that is no coroutine function."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        engine = self._self_engine
        answer = engine.hit(args, kwargs)
        if type(answer) is Unanswered:
            return engine.go_on(self.__wrapped__, args, kwargs, answer)
        return answer


class CachedCoroutineFunctionWrapper(CachedFunctionWrapper):
    """A decorated coroutine function."""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        engine = self._self_engine
        answer = engine.hit(args, kwargs)
        if type(answer) is Unanswered:
            return await engine.ago_on(self.__wrapped__, args, kwargs, answer)
        return answer


_WRAPPERS: Final = {
    "plain": CachedPlainFunctionWrapper,
    "coroutine": CachedCoroutineFunctionWrapper,
}


@overload
def llm_cached(  # type: ignore[overload-overlap]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> CachedFunction[P, Coroutine[Any, Any, R], AsyncFunctionCache]: ...
@overload
def llm_cached(function: Callable[P, R], /) -> CachedFunction[P, R, FunctionCache]: ...
@overload
def llm_cached(
    *,
    config: CacheConfig | None = None,
    ttl: TTL | Unset = UNSET,
    backend: Any | Unset = UNSET,
    max_size: int | Unset = UNSET,
    max_bytes: int | Unset | None = UNSET,
    max_value_bytes: int | Unset = UNSET,
    ignore: Collection[str] = DEFAULT_IGNORE,
    name: str | None = None,
    version: Any = None,
    key: Callable[..., Any] | None = None,
    strict: bool | Unset = UNSET,
    compress: Compression | Unset | None = UNSET,
    encrypt: bytes | str | Collection[bytes | str] | Unset | None = UNSET,
    secret: bytes | str | Unset | None = UNSET,
) -> Decorator: ...
def llm_cached(
    function: Any = None,
    /,
    *,
    config: CacheConfig | None = None,
    ttl: TTL | Unset = UNSET,
    backend: Any | Unset = UNSET,
    max_size: int | Unset = UNSET,
    max_bytes: int | Unset | None = UNSET,
    max_value_bytes: int | Unset = UNSET,
    ignore: Collection[str] = DEFAULT_IGNORE,
    name: str | None = None,
    version: Any = None,
    key: Callable[..., Any] | None = None,
    strict: bool | Unset = UNSET,
    compress: Compression | Unset | None = UNSET,
    encrypt: bytes | str | Collection[bytes | str] | Unset | None = UNSET,
    secret: bytes | str | Unset | None = UNSET,
) -> Any:
    """Answer repeated calls of *function* from a cache.

    It decorates functions, coroutine functions, methods of every kind,
    `functools.partial` objects and callables, as ``@llm_cached``,
    ``@llm_cached()`` or ``@llm_cached(ttl="1d")``. A second call with the same
    arguments, however they are passed, gets an equal object of its own.

    - A call that cannot be told apart from others for sure is called through.
    - The cache never raises into a call, unless *strict*.
    - Calls with ``stream=True`` and generator functions are called through.
    - Exceptions are never kept.

    Args:
        function: what to decorate.
        config: a `CacheConfig`; the other options go before it. One that is
            not enabled switches the cache off, and warns.
        ttl: how long an answer lives: seconds, a `timedelta`, ``"90s"``,
            ``"15m"``, ``"1h"`` or ``"7d"``; ``None`` or `FOREVER` for ever;
            ``0`` stores nothing. One hour unless said otherwise.
        backend: where answers are kept: ``"memory"`` for a store of this
            function's own, ``"memory://"`` for one that all share who say so,
            ``"sqlite:///path"`` for a file, ``"redis://host"`` for a server, a
            `CacheBackend`, a store, or a list of two or more of them, the
            fastest first: ``["memory", "redis://host"]``.
        max_size: the most entries of the store, or of the first of several;
            in memory 1000 unless said otherwise.
        max_bytes: the most bytes of the store, ``None`` for no bound.
        max_value_bytes: results that take more bytes are returned uncached;
            8 MiB unless said otherwise.
        ignore: parameters that make no difference to the answer.
        name: the function's name to the cache, in place of its module,
            qualified name, source and closure.
        version: changes when the function's answers do: say a new one after
            changing a prompt or anything global that the function uses.
        key: gets the arguments of a call, ``self`` included, and returns
            what makes the call different from others, of any type that has
            a canonical form.
        strict: raise `UncacheableFunction`, `UncacheableArgument`,
            `UncacheableValue` and failures of the cache instead of logging
            them and calling through.
        compress: ``"zstd"``, ``"zlib"`` or ``"auto"`` (zstd where there is
            one) for results of 16 KiB and more; ``None`` unless said otherwise.
        encrypt: a key of 16, 24 or 32 bytes or its base64 text, or several:
            results are encrypted with the first (AES-GCM) and read with all,
            so that keys can be changed without clearing the store.
        secret: at least 16 bytes that make keys of their own: who steals the
            store cannot find out what was asked by asking it.

    Returns:
        The function, with the attribute ``cache`` (a `FunctionCache` or an
        `AsyncFunctionCache`) and the methods ``cache_info()`` and
        ``cache_clear()``.

    Raises:
        ConfigurationError: if an option cannot be meant.

    Example:
        >>> from llmcache import llm_cached
        >>> @llm_cached(ttl="1h")
        ... def complete(prompt: str, temperature: float = 0.0) -> str:
        ...     print("asked")
        ...     return prompt.upper()
        >>> complete("hi"), complete(prompt="hi", temperature=0.0)
        asked
        ('HI', 'HI')
    """
    settings = parse_settings(
        ttl=ttl,
        backend=backend,
        max_size=max_size,
        max_bytes=max_bytes,
        max_value_bytes=max_value_bytes,
        strict=strict,
        compress=compress,
        encrypt=encrypt,
        secret=secret,
    )
    if config is not None:
        settings = settings.over(_settings_of(config))
    if isinstance(ignore, str):
        raise ConfigurationError(f"ignore={ignore!r} is one text: give a tuple of names")
    if not all(isinstance(ignored, str) for ignored in ignore):
        raise ConfigurationError(f"ignore={ignore!r} has what is no name")
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigurationError(f"name={name!r} is no name")
    if key is not None and not callable(key):
        raise ConfigurationError("key is no function")
    options = Options(
        settings=settings,
        ignore=DEFAULT_IGNORE if ignore is DEFAULT_IGNORE else tuple(ignore),
        name=name,
        version=version,
        key=key,
    )

    def decorate(function: Any) -> CachedFunctionWrapper:
        if not callable(function) and not isinstance(function, classmethod):
            raise ConfigurationError(f"a {type(function).__qualname__} is nothing to decorate")
        engine = Engine(function, options)
        return _WRAPPERS.get(engine.kind, CachedFunctionWrapper)(function, engine)

    return decorate if function is None else decorate(function)


def _settings_of(config: Any) -> Settings:
    if not isinstance(config, CacheConfig):
        raise ConfigurationError(f"config: a {type(config).__qualname__} is no CacheConfig")
    if not config.enabled:
        warnings.warn(
            "llm_cached: config= is not enabled, so nothing is cached; "
            "CacheConfig(enabled=True) switches it on",
            stacklevel=3,
        )
        return Settings(enabled=False)
    return config.settings()
