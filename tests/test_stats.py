"""The numbers add up, however many threads count."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import in_threads

from llmcache import Stats
from llmcache.backends.base import Usage
from llmcache.stats import Counters

NAMES = [f.name for f in fields(Stats)]
EVENTS = [name for name in NAMES if name not in {"hits", "size", "bytes", "time_saved"}]
SOME = Stats(
    hits=3,
    misses=1,
    bypassed=5,
    uncacheable=7,
    stored=11,
    rejected=13,
    too_large=17,
    evicted=19,
    expired=23,
    corrupt=29,
    errors=31,
    failed=37,
    size=41,
    bytes=43,
    time_saved=1234.5,
)
numbers = st.integers(0, 10**6)
any_stats = st.builds(Stats, **dict.fromkeys(NAMES, numbers))


def test_calls_are_the_sum_of_their_outcomes() -> None:
    assert SOME.calls == 3 + 1 + 5 + 7


def test_the_hit_rate_is_the_share_among_hits_and_misses() -> None:
    assert SOME.hit_rate == 0.75
    assert Stats(misses=2).hit_rate == 0.0
    assert Stats(hits=2, bypassed=9).hit_rate == 1.0
    assert Stats(bypassed=2, uncacheable=3).hit_rate == 0.0


def test_all_numbers_are_there_by_name() -> None:
    named = SOME.as_dict()
    assert named == {"calls": 16, "hit_rate": 0.75} | {name: getattr(SOME, name) for name in NAMES}


def test_the_report_is_a_table() -> None:
    lines = str(SOME).splitlines()
    rows = dict(re.split(r" {2,}", line) for line in lines)
    assert len({len(line) for line in lines}) == 1
    assert list(rows) == [name.replace("_", " ") for name in SOME.as_dict()]
    assert rows["calls"] == "16"
    assert rows["hit rate"] == "75.0%"
    assert rows["too large"] == "17"
    assert rows["time saved"] == "1234.500 s"


def test_the_report_groups_digits_and_says_what_is_unknown() -> None:
    report = str(Stats(hits=1_234_567, size=None))
    assert re.search(r"^hits +1,234,567$", report, re.MULTILINE)
    assert re.search(r"^size +unknown$", report, re.MULTILINE)
    assert re.search(r"^time saved +0\.000 s$", report, re.MULTILINE)


def test_counting_starts_at_zero() -> None:
    assert Counters().snapshot() == Stats()


@pytest.mark.parametrize("event", EVENTS)
def test_each_event_has_its_own_number(event: str) -> None:
    counters = Counters()
    counters.count(event)
    counters.count(event)
    assert counters.snapshot() == replace(Stats(), **{event: 2})


def test_a_hit_saves_time() -> None:
    counters = Counters()
    counters.hit(1.5)
    counters.hit(0.25)
    assert counters.snapshot() == Stats(hits=2, time_saved=1.75)


@pytest.mark.parametrize("size", [0, 7, None])
def test_the_size_is_what_it_is_said_to_be(size: int | None) -> None:
    assert Counters().snapshot(Usage(size, 5)) == Stats(size=size, bytes=5)
    assert Counters().snapshot(Usage(5, size)) == Stats(size=5, bytes=size)


def test_a_reset_is_a_new_start() -> None:
    counters = Counters()
    counters.add(SOME)
    counters.hit(2.0)
    counters.reset()
    assert counters.snapshot() == Stats()
    counters.hit(1.0)
    assert counters.snapshot() == Stats(hits=1, time_saved=1.0)


def test_what_is_taken_is_not_there_any_more() -> None:
    counters = Counters()
    counters.add(SOME)
    counters.hit(2.0)
    taken = counters.take()
    assert taken == replace(SOME, hits=4, time_saved=1236.5, size=0, bytes=0)
    assert counters.take() == counters.snapshot() == Stats()


@given(st.lists(any_stats, max_size=4))
def test_adding_adds_everything_but_sizes(summands: list[Stats]) -> None:
    counters = Counters()
    for summand in summands:
        counters.add(summand)
    total = counters.snapshot()
    for name in NAMES:
        expected = (
            0 if name in {"size", "bytes"} else sum(getattr(summand, name) for summand in summands)
        )
        assert getattr(total, name) == expected


def test_a_snapshot_does_not_change() -> None:
    counters = Counters()
    before = counters.snapshot()
    counters.hit(1.0)
    counters.count("misses")
    assert before == Stats()


def test_no_hit_is_lost_among_threads() -> None:
    counters = Counters()

    def work(_: int) -> None:
        for _ in range(6000):
            counters.hit(0.5)

    in_threads(work, threads=8)
    assert counters.snapshot() == Stats(hits=48_000, time_saved=24_000.0)
    assert counters.snapshot() == Stats(hits=48_000, time_saved=24_000.0)


@pytest.mark.parametrize("fold_at", [1, 7, 4096])
def test_nothing_is_lost_while_others_read(monkeypatch: pytest.MonkeyPatch, fold_at: int) -> None:
    monkeypatch.setattr(sys.modules[Counters.__module__], "FEW_HITS", fold_at)
    counters = Counters()

    def work(_: int) -> list[Stats]:
        seen = []
        for turn in range(3000):
            counters.hit(0.25)
            counters.count("misses")
            counters.count("stored")
            if turn % 100 == 0:
                counters.add(Stats(bypassed=2, time_saved=0.5))
                seen.append(counters.snapshot())
        return seen

    for seen in in_threads(work, threads=8):
        assert [s.hits for s in seen] == sorted(s.hits for s in seen)
        assert [s.calls for s in seen] == sorted(s.calls for s in seen)
    assert counters.snapshot() == Stats(
        hits=24_000, misses=24_000, stored=24_000, bypassed=480, time_saved=6120.0
    )


def test_everything_is_taken_once() -> None:
    counters, taken = Counters(), Counters()

    def work(_: int) -> None:
        for turn in range(2000):
            counters.hit(0.5)
            counters.count("misses")
            if turn % 2 == 0:
                taken.add(counters.take())

    in_threads(work, threads=8)
    taken.add(counters.take())
    assert taken.snapshot() == Stats(hits=16_000, misses=16_000, time_saved=8000.0)
