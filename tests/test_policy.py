"""Times to live and bounds are what they say, and entries are judged by them."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError
from datetime import timedelta
from decimal import Decimal
from math import inf, isfinite, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache import Clock, ConfigurationError
from llmcache.policy import MAX_CLOCK_SKEW, judge, lifetime, parse_bound, parse_ttl

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
moments = st.integers(0, 10**6)
spans = st.integers(0, 10**6)


@given(st.integers(0, 10**9), st.sampled_from(sorted(SECONDS)))
def test_a_text_is_a_number_and_a_unit(number: int, unit: str) -> None:
    assert parse_ttl(f"{number}{unit}") == number * SECONDS[unit]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604800), ("0s", 0), ("1.5h", 5400)],
)
def test_a_text_may_be_written_as_the_docstring_does(text: str, seconds: float) -> None:
    assert parse_ttl(text) == seconds


@given(st.integers(0, 2**53) | st.floats(0, allow_nan=False, allow_infinity=False))
def test_a_number_is_seconds(number: float) -> None:
    seconds = parse_ttl(number)
    assert seconds == number
    assert type(seconds) is float


@given(st.timedeltas(min_value=timedelta(0)))
def test_a_timedelta_is_its_seconds(span: timedelta) -> None:
    assert parse_ttl(span) == span.total_seconds()


def test_none_is_never() -> None:
    assert parse_ttl(None) == inf


@pytest.mark.parametrize(
    "ttl",
    [
        True,
        False,
        nan,
        inf,
        -inf,
        -1,
        -0.001,
        timedelta(microseconds=-1),
        "",
        " ",
        "90",
        "h",
        "1w",
        "-1h",
        ".5h",
        "1.h",
        "1h30m",
        "inf",
        "nan",
        "infs",
        b"1h",
        Decimal(1),
        1j,
        [60],
        {"hours": 1},
        pytest.param("9" * 400 + "s", id="text-too-large"),
        pytest.param(10**400, id="integer-too-large"),
    ],
    ids=repr,
)
def test_anything_else_is_no_ttl(ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^ttl="):
        parse_ttl(ttl)


@given(st.text("0123456789.+-_e smhdwinfa"))
def test_no_text_is_half_understood(text: str) -> None:
    try:
        seconds = parse_ttl(text)
    except ConfigurationError:
        return
    assert isfinite(seconds)
    assert seconds >= 0


@pytest.mark.parametrize("bound", [1, 1000, 2**64])
@pytest.mark.parametrize("optional", [False, True])
def test_a_bound_is_a_positive_integer(bound: int, optional: bool) -> None:
    assert parse_bound("max_size", bound, optional=optional) == bound


def test_a_bound_may_be_none_where_it_is_optional() -> None:
    assert parse_bound("max_bytes", None, optional=True) is None
    with pytest.raises(ConfigurationError, match=r"^max_size=None"):
        parse_bound("max_size", None)


@pytest.mark.parametrize("bound", [0, -1, True, False, 1.0, inf, nan, "1", b"1", [1]], ids=repr)
@pytest.mark.parametrize("optional", [False, True])
def test_anything_else_is_no_bound(bound: Any, optional: bool) -> None:
    with pytest.raises(ConfigurationError, match=r"^max_size="):
        parse_bound("max_size", bound, optional=optional)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [(1000, "fresh"), (1099.999, "fresh"), (1100, "expired"), (1100.001, "expired")],
)
@pytest.mark.parametrize(
    "lifetime",
    [
        {"expires": 1100, "ttl": inf},
        {"expires": inf, "ttl": 100},
        {"expires": 1100, "ttl": 100},
        {"expires": 1100, "ttl": 3600},
        {"expires": 4600, "ttl": 100},
    ],
    ids=str,
)
def test_an_entry_is_fresh_until_the_first_of_its_ends(
    lifetime: dict[str, float], now: float, verdict: str
) -> None:
    assert judge(created=1000, now=now, **lifetime) == verdict


@given(created=moments, lifetime=spans, ttl=spans, age=spans)
def test_an_entry_lives_for_the_shorter_of_two_ttls(
    created: int, lifetime: int, ttl: int, age: int
) -> None:
    verdict = judge(created=created, expires=created + lifetime, now=created + age, ttl=ttl)
    assert (verdict == "fresh") == (age < min(lifetime, ttl))


@pytest.mark.parametrize(("now", "verdict"), [(1000.4375, "fresh"), (1000.5, "expired")])
def test_an_entry_may_live_for_less_than_a_second(now: float, verdict: str) -> None:
    assert judge(created=1000, expires=inf, now=now, ttl=0.5) == verdict


@pytest.mark.parametrize("now", [999, 1000])
def test_without_time_to_live_no_entry_is_fresh_whatever_the_clock_says(now: float) -> None:
    assert judge(created=1000, expires=inf, now=now, ttl=0) == "expired"


def test_an_entry_may_live_for_ever() -> None:
    assert judge(created=0, expires=inf, now=1e12, ttl=inf) == "fresh"


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [(0.5, "fresh"), (MAX_CLOCK_SKEW, "fresh"), (MAX_CLOCK_SKEW + 0.5, "expired")],
)
def test_an_entry_may_be_ahead_by_what_clocks_differ(ahead: float, verdict: str) -> None:
    assert judge(created=1000 + ahead, expires=inf, now=1000, ttl=inf) == verdict


@pytest.mark.parametrize(
    "numbers", [{"created": nan}, {"expires": nan}, {"created": -inf}], ids=str
)
def test_an_entry_with_senseless_times_is_expired(numbers: dict[str, float]) -> None:
    entry = {"created": 1000.0, "expires": inf} | numbers
    assert judge(**entry, now=1000, ttl=inf) == "expired"


times = st.integers(0, 200) | st.sampled_from([inf, -inf, nan])


@given(created=times, expires=times, ttl=st.integers(0, 200) | st.just(inf))
def test_a_lifetime_is_when_an_entry_is_fresh(created: float, expires: float, ttl: float) -> None:
    begins, ends = lifetime(created, expires, ttl)
    for now in range(-100, 400):
        verdict = judge(created=created, expires=expires, now=now, ttl=ttl)
        assert (begins <= now < ends) == (verdict == "fresh")


def test_a_clock_is_the_system_s_unless_told_otherwise() -> None:
    clock = Clock()
    assert clock.wall is time.time
    assert clock.monotonic is time.monotonic


def test_a_clock_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Clock().wall = time.monotonic  # type: ignore[misc]
