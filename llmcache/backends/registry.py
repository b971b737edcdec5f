"""Which store ``backend=`` means."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from inspect import Parameter
from math import inf
from pathlib import Path
from typing import Any, Final, TypeAlias

from llmcache.backends.base import DEFAULT_TIMEOUT, Store
from llmcache.backends.memory import MemoryStore
from llmcache.backends.urls import BackendURL, parse_url
from llmcache.errors import ConfigurationError, LLMCacheError, MissingExtra
from llmcache.policy import (
    DEFAULT_FILE_BYTES,
    DEFAULT_FILE_SIZE,
    DEFAULT_MAX_SIZE,
    Clock,
    parse_bound,
)

PRIVATE: Final = "memory"
"""Names a store of a function's own."""

ENTRY_POINTS: Final = "llmcache.backends"

SETTINGS: Final = ("compress", "max_value_bytes", "ttl")
"""Options of a URL that are not the store's, but of those who use it."""

SERVER: Final = ("redis", "rediss", "unix")
CLUSTER: Final = ("redis+cluster", "rediss+cluster")
SENTINEL: Final = ("redis+sentinel", "rediss+sentinel")
REDIS: Final = (*SERVER, *CLUSTER, *SENTINEL)
"""Schemes of Redis servers: of one, of a cluster, and of those that sentinels watch."""

TLS: Final = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)
"""Options of ``rediss://`` and the like, which mean what they mean to redis-py."""

SENTINELS: Final = ("sentinel_password", "sentinel_username")
"""Options that say who asks sentinels."""

_BOUNDS: Final = ("max_bytes", "max_size")
_WHOLE: Final = (*_BOUNDS, "max_connections")
_SECONDS: Final = ("connect_timeout", "timeout")

_NUMBER: Final = r"[0-9]{1,18}"

Factory: TypeAlias = "Callable[..., Store]"
"""Makes a store of a URL's address, and of those keyword options that it has parameters for."""

_MEMBERS: Final = [name for name in vars(Store) if name[0] != "_"]


def register_backend(scheme: str, factory: Factory) -> None:
    """Let ``backend="scheme://address?option=value"`` mean what *factory* makes.

    A package does the same for all who install it by an entry point of the
    group ``llmcache.backends``, with the scheme as its name.

    Args:
        scheme: lower case, such as ``"mystore"``.
        factory: gets the address as it is written, and options by keyword. Its
            keyword-only parameters are the options that the store has:
            ``max_size``, ``max_bytes`` and ``max_connections`` (whole numbers),
            ``timeout`` and ``connect_timeout`` (seconds), ``clock`` (a
            `Clock`), and texts of any other name. It must not open anything;
            the store's first use does.

    Raises:
        ConfigurationError: if *scheme* is none, or is one of llmcache's own.

    Example:
        >>> import llmcache
        >>> from llmcache.backends.memory import MemoryStore
        >>> llmcache.register_backend("mystore", lambda address, *, clock: MemoryStore(clock=clock))
        >>> answer = llmcache.llm_cached(backend="mystore://here")(lambda prompt: "answer")
    """
    if parse_url(scheme).scheme != scheme:
        raise ConfigurationError(f"register_backend: {scheme!r} is no scheme")
    if scheme in _OWN:
        raise ConfigurationError(f"register_backend: {scheme!r} is one of llmcache's own")
    _registered[scheme] = factory


def check_backend(backend: Any) -> Any:
    """Return *backend* if it is a store or names one.

    Raises:
        ConfigurationError: for anything else; the message repeats the scheme
            of a URL and the names of its options at most, since the rest may
            hold a password.
    """
    if isinstance(backend, str):
        if backend != PRIVATE:
            open_store(backend, {"clock": Clock()})
        return backend
    return _checked(backend, f"a {type(backend).__qualname__}")


def settings_of(backend: Any) -> dict[str, str]:
    """Return what a URL says that others may say too, as it is written."""
    if not isinstance(backend, str) or "?" not in backend:
        return {}
    options = parse_url(backend).options
    return {name: options[name] for name in (*SETTINGS, *_BOUNDS) if name in options}


def open_store(backend: str, given: Mapping[str, Any]) -> Store:
    """Return a new store, which is not yet connected to anything.

    Args:
        backend: its name or URL.
        given: options that go before the URL's, if the store has them.

    Raises:
        ConfigurationError: if there is no such store, or it has no such
            option, or an option cannot be meant.
    """
    url = parse_url(backend)
    factory, known = _factory(url)
    for name in url.options:
        if name not in known and name not in SETTINGS:
            has = ", ".join(sorted({*known, *SETTINGS} - {"clock"}))
            raise ConfigurationError(f"backend: {url} has no option {_shown(name)}; it has {has}")
    options = {name: _parsed(url, name) for name in url.options if name in known}
    options |= {name: value for name, value in given.items() if name in known}
    try:
        store = factory(url.address, **options)
    except Exception as error:  # noqa: BLE001
        raise _refusal(url, error) from None
    return _checked(store, f"what {url} means")  # type: ignore[no-any-return]


def _factory(url: BackendURL) -> tuple[Factory, set[str]]:
    """Return what makes the store of *url*, and the options that it has."""
    factory = _OWN.get(url.scheme) or _registered.get(url.scheme)
    try:
        if factory is None:
            from importlib.metadata import entry_points  # noqa: PLC0415 - it takes long to import

            for entry_point in entry_points(group=ENTRY_POINTS, name=url.scheme):
                factory = _registered[url.scheme] = entry_point.load()
        if factory is not None:
            return factory, _options_of(factory)
    except Exception as error:  # noqa: BLE001
        raise _refusal(url, error) from None
    there = ", ".join(f"{scheme}://…" for scheme in sorted({*_OWN, *_registered}))
    shown = url if url.address or url.options else repr(url.scheme)
    raise ConfigurationError(f"backend: {shown} is no store; there is {there}")


def _options_of(factory: Factory) -> set[str]:
    parameters = inspect.signature(factory).parameters.values()
    return {p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY}


def _refusal(url: BackendURL, error: Exception) -> LLMCacheError:
    if isinstance(error, LLMCacheError):
        return error
    # Its text may repeat the URL.
    return ConfigurationError(f"backend: {url} cannot be opened ({type(error).__qualname__})")


def _checked(store: Any, shown: str) -> Any:
    if isinstance(store, type) or not all(_has(store, name) for name in _MEMBERS):
        raise ConfigurationError(f"backend: {shown} is no store")
    timeout = store.timeout
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise ConfigurationError(f"backend: the timeout of {shown} is not a number of seconds")
    return store


def _parsed(url: BackendURL, name: str) -> Any:
    written = url.options[name]
    if name in _WHOLE:
        value = int(written) if re.fullmatch(_NUMBER, written) else None
        try:
            return parse_bound(name, value)
        except ConfigurationError:
            raise ConfigurationError(
                f"backend: {name} of {url} is not a positive whole number"
            ) from None
    if name in _SECONDS:
        try:
            seconds = float(written)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < inf:
            raise ConfigurationError(f"backend: {name} of {url} is not a number of seconds")
        return seconds
    return written


def _shown(name: str) -> str:
    return repr(name) if name.isidentifier() and len(name) <= 20 else "of that name"


def _has(backend: Any, name: str) -> bool:
    return hasattr(backend, name) if name == "timeout" else callable(getattr(backend, name, None))


def _memory(
    address: str,
    *,
    max_size: int = DEFAULT_MAX_SIZE,
    max_bytes: int | None = None,
    clock: Clock,
) -> Store:
    return MemoryStore(max_size=max_size, max_bytes=max_bytes, clock=clock)


def _sqlite(
    address: str,
    *,
    prefix: str = "",
    max_size: int | None = DEFAULT_FILE_SIZE,
    max_bytes: int | None = DEFAULT_FILE_BYTES,
    timeout: float = DEFAULT_TIMEOUT,
    clock: Clock,
) -> Store:
    from llmcache.backends.sqlite import SQLiteStore  # noqa: PLC0415

    return SQLiteStore(
        _path(address),
        prefix=prefix,
        max_size=max_size,
        max_bytes=max_bytes,
        timeout=timeout,
        clock=clock,
    )


def _path(address: str) -> Path:
    """Return the file that ``sqlite://`` and *address* mean."""
    if not address:
        return cache_directory() / "answers.db"
    from urllib.parse import unquote  # noqa: PLC0415

    path = unquote(address[1:])
    if not address.startswith("/") or path.endswith("/") or path in {"", ":memory:"}:
        raise ConfigurationError(
            "backend: sqlite:// takes sqlite:///relative.db, sqlite:////absolute.db or 'sqlite'"
        )
    if "\0" in path:
        raise ConfigurationError("backend: the path of sqlite://… has a NUL in it")
    return Path(path)


def cache_directory(
    platform: str = sys.platform, environment: Mapping[str, str] = os.environ
) -> Path:
    """Return where this user's programs keep what they can make again."""
    if platform == "win32" and (local := environment.get("LOCALAPPDATA")):
        return Path(local) / "llmcache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "llmcache"
    caches = environment.get("XDG_CACHE_HOME", "")
    return (Path(caches) if caches.startswith("/") else Path.home() / ".cache") / "llmcache"


def _redis(scheme: str, *written: str) -> Factory:
    """Return what makes the stores of one of the Redis schemes.

    Args:
        scheme: of their URLs.
        written: their options that say where the servers are and who asks
            them; they stay in the URL.
    """

    def factory(address: str, **given: Any) -> Store:
        try:
            from llmcache.backends.redis import RedisStore  # noqa: PLC0415
        except ModuleNotFoundError:
            raise MissingExtra(
                f'backend: {scheme}:// needs: pip install "llmcache[redis]"'
            ) from None
        from urllib.parse import urlencode  # noqa: PLC0415

        kept = {name: given.pop(name) for name in written if name in given}
        url = f"{scheme}://{address}?{urlencode({k: v for k, v in kept.items() if v})}"
        return RedisStore(url.removesuffix("?"), **given)

    options = (*written, "prefix", "timeout", "connect_timeout", "max_connections", "clock")
    factory.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [Parameter(name, Parameter.KEYWORD_ONLY) for name in options]
    )
    return factory


_OWN: Final[dict[str, Factory]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis("redis", "db"),
    "rediss": _redis("rediss", "db", *TLS),
    "unix": _redis("unix", "db"),
    "redis+cluster": _redis("redis+cluster"),
    "rediss+cluster": _redis("rediss+cluster", *TLS),
    "redis+sentinel": _redis("redis+sentinel", "db", *SENTINELS),
    "rediss+sentinel": _redis("rediss+sentinel", "db", *SENTINELS, *TLS),
}
_registered: Final[dict[str, Factory]] = {}
