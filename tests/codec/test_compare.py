"""`same` sees every difference, and nothing else."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from pathlib import PurePosixPath
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec import samples
from codec.samples import Answer, Box, Node, Point, Usage
from codec.trips import back
from codec.values import changes, values
from llmcache.codec.tree import encode, same

DAY = datetime(2025, 1, 2)


@given(values)
def test_a_value_is_the_same_as_itself_and_as_its_copy(value):
    assert same(value, value)
    copy = back(value)
    assert same(copy, value) and same(value, copy)


@given(values, values)
def test_two_values_are_the_same_in_both_directions_or_in_neither(one, two):
    assert same(one, two) is same(two, one)


@given(values, st.randoms(use_true_random=False))
def test_one_change_anywhere_is_seen(value, random):
    changed = random.choice(list(changes(value)))
    assert not same(value, changed)
    assert not same(changed, value)
    assert encode(changed) != encode(value)


ONE = [1, True, 1.0, "1", b"1", bytearray(b"1"), Decimal(1), Fraction(1), 1 + 0j, range(1)]
ALIKE = [
    [
        *ONE,
        np.int64(1),
        np.float64(1),
        np.bool_(True),
        samples.Level.LOW,
        samples.Bits.ONE,
    ],
    [0.0, -0.0, 0, False],
    [
        math.nan,
        math.inf,
        "nan",
        Decimal("nan"),
        Decimal("sNaN"),
        Decimal("-nan"),
        np.float64("nan"),
    ],
    [Decimal("1.0"), Decimal("1.00"), Decimal("1E0")],
    [[1], (1,), {1}, frozenset({1}), {1: 1}, samples.Pair(1), np.array([1])],
    [samples.Pair(1, 2), samples.OtherPair(1, 2), (1, 2), samples.Span(1, 2)],
    [[0.0, 1.0], [-0.0, 1.0], [0, 1], [False, True], [0, True], (0.0, 1.0), [math.nan, 1.0]],
    [["a", "b"], ["a", "c"], ["a"], ["a", "b", "c"], ["a", b"b"], [1, 2]],
    [{}, [], (), set(), frozenset(), "", b"", None, samples.Tags([]), bytearray()],
    [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1}, {"a": 1, "b": 2, "c": 3}],
    [{1: 1}, {"1": 1}, {True: 1}, {1.0: 1}, [[1, 1]], {1: True}],
    [{1}, {True}, {1.0}, {2}, {1, 2}],
    [frozenset({1}), frozenset({True}), frozenset({1, 2})],
    [samples.Role.USER, "user", samples.Finish.STOP, "stop"],
    [samples.Color.RED, samples.Color.GREEN, samples.OtherColor.RED],
    [samples.Access(0), samples.Access.READ, samples.Access.WRITE, samples.Access.BOTH],
    [
        Point(1),
        samples.OtherPoint(1),
        samples.DeepPoint(1),
        samples.UndecoratedPoint(1),
        Point(True),
    ],
    [samples.Shape(1), samples.OtherShape(1), samples.Square(1)],
    [Usage(), Usage(tokens=0), samples.OtherUsage(), Usage(details=0)],
    [
        Box(item=1),
        Box[int](item=1),
        Box[float].model_construct(item=1),
        Box[Box[int]].model_construct(item=1),
    ],
    [date(2025, 1, 2), DAY, "2025-01-02", DAY.replace(fold=1)],
    [DAY.replace(tzinfo=UTC), DAY, DAY.replace(tzinfo=timezone(timedelta(0), "Z"))],
    [UUID(int=1), str(UUID(int=1))],
    [PurePosixPath("a"), "a"],
    [
        np.array([1, 2]),
        np.array([1.0, 2.0]),
        np.array([[1, 2]]),
        np.array([2, 1]),
        [1, 2],
    ],
    [np.ones((2, 2), order="C"), np.ones((2, 2), order="F")],
    [range(0), range(1, 1), range(2, 2)],
    [..., None, "..."],
]


@pytest.mark.parametrize("alike", ALIKE, ids=lambda alike: repr(alike[0])[:30])
def test_what_is_alike_is_not_the_same(alike):
    for one, two in permutations(alike, 2):
        assert not same(one, two), (one, two)


def test_a_set_has_no_order_and_one_of_sets_has_none_either():
    assert same({7, 15}, {15, 7})
    assert same({"a": frozenset("abc")}, {"a": frozenset("cba")})


def test_a_model_has_the_same_fields_set_extra_and_private_values():
    def answer(**changed):
        found = Answer(id="1", more="extra")
        for name, item in changed.items():
            object.__setattr__(found, f"__pydantic_{name}__", item)
        return found

    assert same(answer(), answer())
    for changed in (
        {"fields_set": {"id"}},
        {"fields_set": {"id", "more", "usage"}},
        {"extra": {"more": "other"}},
        {"extra": {}},
        {"extra": None},
        {"private": {"_request_id": "req"}},
        {"private": {}},
        {"private": None},
    ):
        assert not same(answer(), answer(**changed))


@pytest.mark.parametrize("kind", [object, samples.Plain, samples.Slotted])
def test_what_no_entry_can_hold_is_the_same_as_nothing(kind):
    assert not same(kind(), kind())


def test_the_length_of_a_named_tuple_counts():
    assert not same(samples.Pair(1, 2), tuple.__new__(samples.Pair, (1,)))


def test_the_same_is_found_at_any_depth():
    def tree(leaf):
        return Node(name="root", children=[Node(name="inner", parent=Node(name=leaf))])

    assert same(tree("x"), tree("x"))
    assert not same(tree("x"), tree("y"))
