"""Decorated functions as type checkers see them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from llmcache.handle import AsyncFunctionCache, CacheInfo, FunctionCache

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
C = TypeVar("C", FunctionCache, AsyncFunctionCache)
C_co = TypeVar("C_co", FunctionCache, AsyncFunctionCache, covariant=True)


class _Unbound(Protocol[S_contra, Q, R_co, C_co]):
    """A function with a first parameter of the type ``S``, which binding supplies."""

    @property
    def cache(self) -> C_co: ...

    def __call__(self, first: S_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...


class CachedFunction(Protocol[P, R_co, C_co]):
    """A decorated function or method: called like the original, bound like the original.

    The overloads of ``__get__`` are, in their order, for class methods, for
    methods got from the class, for methods, and for static methods.
    """

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function as it was before it was decorated."""
        ...

    @property
    def cache(self) -> C_co:
        """What the cache of this function can do."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def cache_info(self) -> CacheInfo:
        """Return hits, misses, the most entries and the entries now."""
        ...

    def cache_clear(self) -> None:
        """Forget all answers and set the numbers to zero."""
        ...

    @overload
    def __get__(
        self: _Unbound[type[S], Q, R, C], instance: Any, owner: type[S], /
    ) -> CachedFunction[Q, R, C]: ...
    @overload
    def __get__(self, instance: None, owner: Any = ..., /) -> CachedFunction[P, R_co, C_co]: ...
    @overload
    def __get__(
        self: _Unbound[S, Q, R, C], instance: S, owner: Any = ..., /
    ) -> CachedFunction[Q, R, C]: ...
    @overload
    def __get__(self, instance: Any, owner: Any = ..., /) -> CachedFunction[P, R_co, C_co]: ...


class Decorator(Protocol):
    """What ``llm_cached(...)`` returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> CachedFunction[P, Coroutine[Any, Any, R], AsyncFunctionCache]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> CachedFunction[P, R, FunctionCache]: ...
