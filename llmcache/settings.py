"""What holds for every function that does not say otherwise: options, environment, defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from llmcache.backends.registry import PRIVATE, check_backend, settings_of
from llmcache.backends.urls import number_or_text
from llmcache.cache_backend import CacheBackend
from llmcache.codec.compression import check_compression
from llmcache.codec.encryption import check_encryption, check_secret
from llmcache.errors import ConfigurationError, MissingExtra
from llmcache.policy import (
    DEFAULT_MAX_VALUE_BYTES,
    DEFAULT_TTL,
    UNSET,
    Clock,
    Unset,
    parse_bound,
    parse_ttl,
)
from llmcache.tier_list import check_tiers, settings_of_tiers


def _check_backend(backend: Any) -> Any:
    """Return the store that *backend* is or has, or the text or the tuple that names one."""
    if isinstance(backend, list | tuple):
        checked: Any = check_tiers(backend)
    else:
        checked = check_backend(backend.store if isinstance(backend, CacheBackend) else backend)
    from_backend(checked)
    return checked


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "ttl": parse_ttl,
    "backend": _check_backend,
    "compress": check_compression,
    "encrypt": check_encryption,
    "secret": check_secret,
}
_TRUE: Final = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options, each given or `UNSET`.

    Args:
        enabled: false switches the cache off, at no cost.
        ttl: seconds, ``inf`` for never.
        backend: ``"memory"``, a URL, a store, or a tuple of them.
        max_size: the most entries of the store.
        max_bytes: the most bytes of the store, ``None`` for no bound.
        max_value_bytes: larger values are not stored.
        strict: raise what is otherwise logged.
        compress: the algorithm for payloads of some length, ``None`` for none.
        encrypt: the keys for payloads, ``None`` for none.
        secret: keys the digests, ``None`` for plain ones.
        clock: where the time comes from.
    """

    enabled: bool | Unset = UNSET
    ttl: float | Unset = UNSET
    backend: Any = UNSET
    max_size: int | Unset = UNSET
    max_bytes: int | Unset | None = UNSET
    max_value_bytes: int | Unset = UNSET
    strict: bool | Unset = UNSET
    compress: Any = UNSET
    encrypt: Any = field(default=UNSET, repr=False)
    secret: Any = field(default=UNSET, repr=False)
    clock: Clock | Unset = UNSET

    def over(self, other: Settings) -> Settings:
        """Return these options, and those of *other* that are not given here."""
        return replace(other, **self.given())

    def given(self) -> dict[str, Any]:
        """Return the options that are given, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in named.items() if value is not UNSET}


BUILT_IN: Final = Settings(
    enabled=True,
    ttl=DEFAULT_TTL,
    backend=PRIVATE,
    max_value_bytes=DEFAULT_MAX_VALUE_BYTES,
    strict=False,
    compress=None,
    encrypt=None,
    secret=None,
    clock=Clock(),
)


def parse_settings(**options: Any) -> Settings:
    """Return checked options; those that are `UNSET` stay so.

    Raises:
        ConfigurationError: for an option that cannot be meant.
    """
    given = {name: value for name, value in options.items() if value is not UNSET}
    for name, check in _CHECKS.items():
        if name in given:
            given[name] = check(given[name])
    for name in ("max_size", "max_bytes", "max_value_bytes"):
        if name in given:
            given[name] = parse_bound(name, given[name], optional=name == "max_bytes")
    for name in ("enabled", "strict"):
        if name in given and not isinstance(given[name], bool):
            raise ConfigurationError(f"{name}={given[name]!r} is neither True nor False")
    if "clock" in given and not isinstance(given["clock"], Clock):
        raise ConfigurationError("clock is no llmcache Clock")
    return Settings(**given)


def from_backend(backend: Any) -> Settings:
    """Return the options that a backend's URL gives to those who use it.

    Raises:
        ConfigurationError: if one cannot be meant; its value is not repeated.
    """
    tiered = isinstance(backend, tuple)
    given: dict[str, Any] = {**(settings_of_tiers(backend) if tiered else settings_of(backend))}
    if "ttl" in given:
        given["ttl"] = number_or_text(given["ttl"])
    for name in given.keys() & {"max_bytes", "max_size", "max_value_bytes"}:
        given[name] = number_or_text(given[name])
    for name, value in given.items():
        try:
            given[name] = getattr(parse_settings(**{name: value}), name)
        except MissingExtra:
            raise
        except ConfigurationError:
            raise ConfigurationError(f"backend: {name} of the URL cannot be meant") from None
    return Settings(**given)


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the options that the environment gives.

    ``LLMCACHE_URL`` is the backend, ``LLMCACHE_TTL`` the time to live (a
    number is seconds, ``none`` is never), and ``LLMCACHE_DISABLED`` switches
    the cache off if it is 1, true, yes or on.

    Raises:
        ConfigurationError: naming the variable that cannot be meant.
    """
    disabled = environment.get("LLMCACHE_DISABLED", "").strip().lower() in _TRUE
    given: dict[str, Any] = {"enabled": False} if disabled else {}
    # Nobody needs the others of a cache that is switched off.
    with suppress(ConfigurationError) if disabled else nullcontext():
        if url := environment.get("LLMCACHE_URL"):
            given["backend"] = _checked("LLMCACHE_URL", backend=url).backend
        if ttl := environment.get("LLMCACHE_TTL"):
            given["ttl"] = _checked("LLMCACHE_TTL", ttl=number_or_text(ttl)).ttl
    return Settings(**given)


def _checked(variable: str, **option: Any) -> Settings:
    try:
        return parse_settings(**option)
    except ConfigurationError as error:
        raise ConfigurationError(f"{variable}: {error}") from None
