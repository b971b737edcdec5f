"""A value's size is guessed before anything is spent on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import llmcache
from llmcache.codec import kinds, ways
from llmcache.codec.size import exceeds
from llmcache.errors import UncacheableValue

LARGE = 10_000


@dataclass
class Answer:
    text: Any = ""
    next: Any = None


class Model(BaseModel, extra="allow"):
    text: str = ""
    next: Any = None


@dataclass(slots=True)
class Slotted:
    next: Any = None


@pytest.mark.parametrize("unit", ["a", b"a", bytearray(b"a")], ids=repr)
def test_text_and_bytes_count_by_their_length(unit: Any) -> None:
    assert exceeds(unit * 1001, 1000)
    assert not exceeds(unit * 900, 1000)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: [text],
        lambda text: (text,),
        lambda text: {text},
        lambda text: frozenset([text]),
        lambda text: {"key": text},
        lambda text: {text: "value"},
        lambda text: {"a": [{"b": (text,)}]},
        lambda text: Answer(text),
        lambda text: [Answer(Answer(text))],
        lambda text: Answer([{"text": text}]),
    ],
    ids=range(10),
)
def test_what_is_inside_counts(wrap: Any) -> None:
    assert exceeds(wrap("a" * LARGE), LARGE - 1)
    assert not exceeds(wrap("a" * LARGE), 2 * LARGE)
    assert not exceeds(wrap("a"), LARGE)


@pytest.mark.parametrize("make", [list, tuple])
def test_many_small_things_count(make: Any) -> None:
    assert exceeds(make(range(LARGE)), LARGE)
    assert exceeds(make("" for _ in range(LARGE)), LARGE)
    assert exceeds(make([] for _ in range(LARGE)), LARGE)
    assert exceeds(dict.fromkeys(range(LARGE)), LARGE)
    assert exceeds(set(range(LARGE)), LARGE)


@pytest.mark.parametrize("value", [None, True, 1, 10**100, 1.5, 1j, int, len, Answer()], ids=repr)
def test_anything_else_is_a_few_bytes(value: Any) -> None:
    assert not exceeds(value, 100)
    assert exceeds(value, 0)


def test_arrays_count_by_their_bytes() -> None:
    assert exceeds(np.zeros(LARGE), 8 * LARGE - 1)
    assert not exceeds(np.zeros(LARGE), 9 * LARGE)
    assert exceeds([np.zeros(LARGE)], 8 * LARGE - 1)
    assert not exceeds(np.float64(1), 100)


@given(st.recursive(st.text("ab€") | st.binary() | st.integers(), st.lists), st.integers(0, 100))
def test_more_room_never_makes_a_value_too_large(value: Any, limit: int) -> None:
    if not exceeds(value, limit):
        assert not exceeds(value, limit + 1)
        assert exceeds([value, "a" * (limit + 1)], limit)


def test_models_count_by_what_they_hold() -> None:
    for held in ({"text": "a" * LARGE}, {"more": "a" * LARGE}):
        assert exceeds(Model(**held), LARGE - 1)
        assert exceeds([Model(next=Model(**held))], LARGE - 1)
        assert not exceeds(Model(**held), 2 * LARGE)
    assert not exceeds(Model(text="a"), 1000)


def in_itself(kind: str) -> Any:
    if kind == "list":
        value: Any = []
        value.append(value)
    elif kind == "dict":
        value = {}
        value["self"] = value
    elif kind == "tuple":
        value = ([],)
        value[0].append(value)
    elif kind == "object":
        value = Answer()
        value.next = value
    elif kind == "objects":
        value = Answer()
        value.next = [{"answer": Answer(next=value)}]
    elif kind == "model":
        value = Model()
        value.next = value
    else:
        value = Slotted()
        value.next = value
    return value


@pytest.mark.parametrize("limit", [100, 100_000])
@pytest.mark.parametrize("kind", ["list", "dict", "tuple", "object", "objects", "slots", "model"])
def test_what_contains_itself_is_refused(kind: str, limit: int) -> None:
    with pytest.raises(UncacheableValue, match="contains itself"):
        exceeds(in_itself(kind), limit)


def test_what_is_in_a_value_twice_is_not_inside_of_itself() -> None:
    text = ["a" * LARGE]
    assert exceeds([text, [text], {"key": text}], 3 * LARGE)
    assert not exceeds([text, [text], {"key": text}], 4 * LARGE)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The classes whose kinds are looked for."""
    found: list[type] = []

    def kind_of(kind: type) -> Any:
        found.append(kind)
        return kinds.kind_of(kind)

    monkeypatch.setattr(ways, "kind_of", kind_of)
    return found


class Drawn:
    """Is registered, and made of parts that are there only while they are looked at."""


def test_parts_that_are_made_for_counting_are_not_taken_for_one_another() -> None:
    llmcache.register_type(Drawn, encode=lambda _: [[["a"], ["b"]]], decode=lambda _: Drawn())
    assert not exceeds([[Drawn(), [Drawn()]] for _ in range(1000)], 1 << 20)


def test_a_class_is_looked_at_once(asked: list[type]) -> None:
    value = [[Answer(1), Slotted(2.5), Answer(Slotted(None))] for _ in range(100)]
    assert not exceeds(value, 1 << 20)
    assert sorted(asked, key=str) == [Answer, Slotted]
    asked.clear()
    assert not exceeds([True, None, 1, 1.5, "a", b"a", [], {}, (), set(), frozenset()], 1000)
    assert asked == []


def test_more_things_than_there_is_room_for_are_not_looked_at(asked: list[type]) -> None:
    assert exceeds([Answer()] * LARGE, LARGE)
    assert exceeds({"more": [Answer()] * LARGE}, LARGE)
    assert Answer not in asked


@pytest.mark.parametrize("make", [list, tuple, set, frozenset])
def test_what_is_behind_many_others_counts(make: Any) -> None:
    texts = [f"{number:020}" for number in range(LARGE)]
    assert exceeds(make(texts), 28 * LARGE)
    assert not exceeds(make(texts), 29 * LARGE)
    assert exceeds(make([*texts, None]), 28 * LARGE)


def test_it_stops_counting_as_soon_as_it_knows() -> None:
    value: Any = "a"
    for _ in range(200):
        value = [value, value]
    assert exceeds(value, 1000)


def test_counting_changes_nothing() -> None:
    value = {"a": [1, "two", Answer("text")]}
    exceeds(value, 10)
    assert value == {"a": [1, "two", Answer("text")]}
