"""Which stores ``backend=[…]`` means, and what each of them is told."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, TypeAlias

from llmcache.backends.base import Store
from llmcache.backends.registry import PRIVATE, check_backend, settings_of
from llmcache.backends.urls import number_or_text, parse_url
from llmcache.cache_backend import CacheBackend
from llmcache.errors import ConfigurationError
from llmcache.policy import DEFAULT_TIER_TTL, Clock, parse_ttl
from llmcache.tiers import Tier, TieredStore

TierList: TypeAlias = "tuple[str | Store, ...]"
"""Names, URLs and stores, the fastest first."""

_BOUNDS: Final = ("max_bytes", "max_size")
_LAST_SAYS: Final = ("compress", "max_value_bytes")


def check_tiers(listed: Any) -> TierList:
    """Return the tiers that *listed* names or has.

    Raises:
        ConfigurationError: if they are fewer than two, or one of them is no
            store, is there twice or is told what it cannot be told; the
            message says which.
    """
    tiers: list[Any] = []
    for number, one in enumerate(listed):
        try:
            if isinstance(one, list | tuple):
                raise ConfigurationError("backend: a list in a list is no store")
            tier = check_backend(one.store if isinstance(one, CacheBackend) else one)
            if isinstance(tier, TieredStore):
                raise ConfigurationError("backend: it has tiers of its own; list them here instead")
            if place_of(tier) in map(place_of, tiers):
                raise ConfigurationError("backend: it is there twice")
            if number < len(listed) - 1:
                _check_upper(tier)
        except ConfigurationError as error:
            why = str(error).removeprefix("backend")
            raise ConfigurationError(f"backend[{number}]{why}") from None
        tiers.append(tier)
    if len(tiers) < 2:
        raise ConfigurationError(
            f"backend: a list has two stores or more, the fastest first; this one has {len(tiers)}"
        )
    return tuple(tiers)


def settings_of_tiers(tiers: TierList) -> dict[str, str]:
    """Return what the URLs say that others may say too.

    What is said of the entries is said by the last tier's, bounds by the first's.
    """
    first, last = settings_of(tiers[0]), settings_of(tiers[-1])
    return {
        **{name: first[name] for name in _BOUNDS if name in first},
        **{name: written for name, written in last.items() if name not in _BOUNDS},
    }


def open_tiers(
    tiers: TierList, open_one: Callable[[str, bool], Store], clock: Clock
) -> TieredStore:
    """Return the store that *tiers* are together.

    Args:
        tiers: checked ones.
        open_one: returns the store of a name or URL; told whether it is the first.
        clock: where the time comes from.
    """
    opened = [
        Tier(open_one(tier, number == 0) if isinstance(tier, str) else tier, _ttl(tier))
        for number, tier in enumerate(tiers)
    ]
    return TieredStore(*opened, clock=clock)


def place_of(backend: Any) -> Hashable:
    """Return what tells the store that *backend* means from others."""
    if isinstance(backend, str):
        return backend
    return tuple(map(place_of, backend)) if isinstance(backend, tuple) else id(backend)


def is_private(backend: Any) -> bool:
    """Say whether each function has a store of its own, or a tier."""
    return PRIVATE in backend if isinstance(backend, tuple) else bool(backend == PRIVATE)


def is_memory(backend: str) -> bool:
    """Say whether a name or URL is that of memory."""
    return parse_url(backend).scheme == PRIVATE


def _check_upper(tier: str | Store) -> None:
    said = settings_of(tier)
    for name in _LAST_SAYS:
        if name in said:
            raise ConfigurationError(f"backend: {name} is for the last tier to say")
    if _ttl(tier) <= 0:
        raise ConfigurationError("backend: the ttl of a tier cannot be 0")


def _ttl(tier: str | Store) -> float:
    written = settings_of(tier).get("ttl")
    if written is None:
        return DEFAULT_TIER_TTL
    try:
        return parse_ttl(number_or_text(written))
    except ConfigurationError:
        raise ConfigurationError("backend: ttl of the URL cannot be meant") from None
