"""What a decorated function was told, and what follows from it for one entry."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from math import inf, isfinite
from typing import Any, Final, Literal, TypeAlias

from llmcache.errors import ConfigurationError


class Unset(Enum):
    """The type of the mark for an option that was not given."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Forever(Enum):
    """The type of the time to live that never ends."""

    FOREVER = "forever"


FOREVER: Final = Forever.FOREVER
"""The time to live that never ends, also where ``None`` stands for a default."""

TTL: TypeAlias = "float | str | timedelta | Forever | None"

DEFAULT_TTL: Final = 3600.0
DEFAULT_MAX_SIZE: Final = 1000
DEFAULT_FILE_SIZE: Final = 100_000
DEFAULT_FILE_BYTES: Final = 1 << 30
DEFAULT_PREFIX: Final = "llm_cache:"
DEFAULT_CONNECT_TIMEOUT: Final = 5.0
DEFAULT_CONNECTIONS: Final = 32
DEFAULT_TIER_TTL: Final = 5.0
MAX_CLOCK_SKEW: Final = 60.0
DEFAULT_MAX_VALUE_BYTES: Final = 8 * 1024 * 1024

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = r"([0-9]+(?:\.[0-9]+)?)([smhd])"


def parse_ttl(ttl: TTL) -> float:
    """Return *ttl* in seconds, ``inf`` for never.

    Args:
        ttl: seconds, a `timedelta`, a text such as ``"90s"``, ``"15m"``,
            ``"1h"`` or ``"7d"``, or ``None`` or `FOREVER` for an entry that
            never expires.

    Raises:
        ConfigurationError: for anything else, negative and non-finite
            numbers and booleans included.
    """
    if ttl is None or ttl is FOREVER:
        return inf
    seconds: float | None = None
    if isinstance(ttl, timedelta):
        seconds = ttl.total_seconds()
    elif isinstance(ttl, str):
        if match := re.fullmatch(_DURATION, ttl.strip()):
            seconds = float(match[1]) * _UNITS[match[2]]
    elif isinstance(ttl, int | float) and not isinstance(ttl, bool):
        with suppress(OverflowError):
            seconds = float(ttl)
    if seconds is None or not isfinite(seconds) or seconds < 0:
        shown = repr(ttl) if not isinstance(ttl, int) or abs(ttl) < 10**20 else "a huge number"
        raise ConfigurationError(
            f"ttl={shown} is not a time to live: give seconds, a timedelta, "
            "a text such as '90s', '15m', '1h' or '7d', or None for never"
        )
    return seconds


def parse_bound(name: str, value: Any, *, optional: bool = False) -> Any:
    """Return *value* if it is a positive integer (or ``None`` where *optional*).

    Raises:
        ConfigurationError: for anything else.
    """
    if value is None and optional:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ConfigurationError(f"{name}={value!r} is not a positive whole number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Where the time comes from.

    Args:
        wall: seconds since the epoch; entries carry it, so that they can be
            judged by other processes.
        monotonic: seconds that never run backwards; durations and the
            memory store use it, so that no entry outlives a clock set back.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long answers live, and how large they may be.

    Args:
        ttl: seconds, ``inf`` for never.
        max_value_bytes: larger values are returned uncached.
        clock: where the time comes from.
    """

    ttl: float
    max_value_bytes: int
    clock: Clock


Verdict: TypeAlias = Literal["fresh", "expired"]


def judge(created: float, expires: float, now: float, ttl: float) -> Verdict:
    """Say whether an entry may still answer.

    An entry is fresh until it expires or is older than the *ttl* of the
    function that asks, whichever comes first: who shortens a ttl need not
    clear the store. An entry from further in the future than clocks of
    machines differ is expired, so that a clock set back makes none immortal.
    All four are in seconds of the same wall clock.
    """
    if now < expires and now - created < ttl > 0 and created <= now + MAX_CLOCK_SKEW:
        return "fresh"
    return "expired"


def lifetime(created: float, expires: float, ttl: float) -> tuple[float, float]:
    """Return from when until just before when `judge` says that an entry is fresh.

    Where both round, they may differ by what a float of such a time cannot tell.
    """
    if not (isfinite(created) and ttl > 0):
        return inf, -inf
    return created - MAX_CLOCK_SKEW, min(expires, created + ttl)
