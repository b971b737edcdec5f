"""What a decorated function can do besides being called: its attribute ``cache``."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from llmcache.engine import Engine
from llmcache.ports import AsyncPort, SyncPort, drive
from llmcache.stats import Stats

_SYNC: Final = SyncPort()
_ASYNC: Final = AsyncPort()


FIRST: Final = object()
"""The owner of a method that was got from its class: the first argument."""


class CacheInfo(NamedTuple):
    """What ``cache_info()`` returns, with the fields of `functools`."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int | None


class _Handle:
    """What `FunctionCache` and `AsyncFunctionCache` have in common: nothing here does I/O."""

    def __init__(self, engine: Engine, function: Any, owner: Any) -> None:
        self._engine = engine
        self._function = function
        self._owner = owner

    @property
    def function(self) -> Any:
        """The function as it was before it was decorated."""
        return self._function

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call with these arguments: 64 hex digits.

        Raises:
            UncacheableFunction: if the function cannot be told apart from others.
            UncacheableArgument: if an argument has no canonical form.
            TypeError: if the function does not take these arguments.
        """
        return self._engine.key(*self._call(args, kwargs))

    def stats(self) -> Stats:
        """Return the function's numbers."""
        return self._engine.stats()

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        if self._owner is FIRST and args:
            return args[0], args[1:], kwargs
        return None if self._owner is FIRST else self._owner, args, kwargs


class FunctionCache(_Handle):
    """The cache of one function, as its attribute ``cache``.

    The arguments of each method are those of the function. What the store
    cannot do is said: the methods raise `StoreUnavailable`, as no call does.

    Example:
        >>> from llmcache import llm_cached
        >>> @llm_cached(name="shout")
        ... def shout(text: str) -> str:
        ...     return text.upper()
        >>> shout("hi"), shout.cache.contains("hi"), shout.cache.invalidate("hi")
        ('HI', True, True)
        >>> shout.cache.contains("hi")
        False
    """

    def contains(self, *args: Any, **kwargs: Any) -> bool:
        """Say whether a call with these arguments would be answered from the cache."""
        return drive(self._engine.contains(_SYNC, *self._call(args, kwargs)))

    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the answer to a call with these arguments; say whether there was one."""
        return drive(self._engine.invalidate(_SYNC, *self._call(args, kwargs)))

    def clear(self) -> None:
        """Forget all answers of the function, whichever object it is bound to."""
        drive(self._engine.clear(_SYNC))


class AsyncFunctionCache(_Handle):
    """The cache of one coroutine function, as its attribute ``cache``.

    As `FunctionCache`, but what touches the store is to be awaited.
    """

    async def contains(self, *args: Any, **kwargs: Any) -> bool:
        """Say whether a call with these arguments would be answered from the cache."""
        return await self._engine.contains(_ASYNC, *self._call(args, kwargs))

    async def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the answer to a call with these arguments; say whether there was one."""
        return await self._engine.invalidate(_ASYNC, *self._call(args, kwargs))

    async def clear(self) -> None:
        """Forget all answers of the function, whichever object it is bound to."""
        await self._engine.clear(_ASYNC)


def handle(engine: Engine, function: Any, owner: Any) -> FunctionCache | AsyncFunctionCache:
    """Return the cache of *function*.

    Args:
        engine: answers its calls.
        function: as it was before it was decorated, bound as it is now.
        owner: what it is bound to, ``None`` for nothing, or `FIRST`.
    """
    kind = AsyncFunctionCache if engine.kind == "coroutine" else FunctionCache
    return kind(engine, function, owner)
