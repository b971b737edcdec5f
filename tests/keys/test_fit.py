"""The quick look at a value takes nothing for plain that orjson would not write so."""

from __future__ import annotations

import enum
import gc
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmcache.keys.request  # noqa: F401
from llmcache import UncacheableArgument
from llmcache.keys import fit
from llmcache.keys.canonical import canonical
from llmcache.keys.fit import MAX_DEPTH, UNFIT, unusual
from llmcache.keys.walk import Walk


class Word(str):
    __slots__ = ()


class Number(int):
    __slots__ = ()


class Pair(tuple[Any, ...]):
    __slots__ = ()


class Loud(enum.Enum):
    WORD = "word"

    @property
    def value(self) -> str:
        raise ValueError


class Quiet(str, enum.Enum):
    WORD = "word"


class Raising(type):
    def __hash__(cls) -> int:
        raise ValueError

    def __eq__(cls, other: object) -> bool:
        raise ValueError


class Lying(type):
    def __hash__(cls) -> int:
        return hash(str)

    def __eq__(cls, other: object) -> bool:
        return True


class RaisingWord(str, metaclass=Raising):
    __slots__ = ()


class LyingWord(str, metaclass=Lying):
    __slots__ = ()


class LyingRecord(metaclass=Lying):
    def __init__(self) -> None:
        self.name = "a"


leaves = st.sampled_from(
    [
        *(None, True, 1, 1 << 70, 0.5, float("nan"), float("-inf"), "", "null", "\ud800"),
        *(b"a", UUID(int=1), Quiet.WORD, Loud.WORD, orjson.Fragment(b"1")),
        *(Word("a"), Number(1), Pair(["a"])),
    ]
)
plain = st.sampled_from([None, True, 1, "a", "null"])


@st.composite
def containers(draw: st.DrawFn, parts: st.SearchStrategy[Any]) -> Any:
    """Return a list, tuple or mapping of a few parts, again and again."""
    part = draw(parts)
    items = [part, *draw(st.lists(parts, max_size=3))]
    if not any(type(item) in (list, tuple, dict) for item in items):
        items *= draw(st.sampled_from([1, 1, 1, 40]))
    kind = draw(st.sampled_from([list, tuple, dict]))
    if kind is dict:
        return dict(zip(map(str, range(len(items))), items, strict=True))
    return kind(items)


values = st.recursive(plain | leaves, containers, max_leaves=12)
mostly_plain = st.recursive(plain | plain | plain | leaves, containers, max_leaves=12)


def outcome(write: Any, value: Any) -> tuple[bytes | None, str | None]:
    try:
        return write(value), None
    except (UncacheableArgument, ValueError) as error:
        return None, repr(error)


@settings(max_examples=300)
@given(values | mostly_plain, st.sampled_from([1 << 16, 50]))
def test_a_value_has_the_form_that_the_walk_gives_it(value: Any, many: int) -> None:
    for whole in (value, {"a": [value, value]}, {"**": {"a": [{"b": value, "c": "d"}] * 40}}):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit, "_MANY", many)
            assert outcome(canonical, whole) == outcome(Walk().encode, whole)


@pytest.mark.parametrize("count", [1, 40, 2000])
@pytest.mark.parametrize("hostile", [RaisingWord("x"), LyingWord("y"), LyingRecord()])
def test_a_metaclass_makes_nothing_plain(hostile: Any, count: int) -> None:
    for item in (hostile, [hostile], {"b": hostile}, {"b": [hostile]}, {"b": "c", "d": {}}):
        value = {"a": [item] * count + [hostile], "b": [["b", hostile]]}
        assert canonical(value) == Walk().encode(value)


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("count", [1, 40])
def test_what_nests_too_deep_is_not_taken_for_plain(kind: Any, count: int) -> None:
    value: Any = "a"
    for depth in range(MAX_DEPTH + 10):
        whole = {"a": [value] * count}
        assert outcome(canonical, whole) == outcome(Walk().encode, whole)
        assert (unusual(whole, MAX_DEPTH) == UNFIT) is (depth > MAX_DEPTH - 3)
        value = kind([value])


def test_what_contains_itself_is_not_taken_for_plain() -> None:
    value: list[Any] = []
    value.append((value,))
    assert unusual({"a": [value]}, MAX_DEPTH) == UNFIT


@pytest.mark.parametrize("width", [2, 3, 40, 2000])
def test_parts_that_are_shared_without_end_are_not_taken_apart(width: int) -> None:
    part: Any = ["a"]
    for _ in range(40):
        part = [part] * width
    gc.collect()
    with pytest.raises(UncacheableArgument, match="too many parts"):
        canonical({"a": [part]})


def test_a_long_list_that_is_shared_is_counted_before_it_is_taken_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []

    def referents(*holders: Any) -> list[Any]:
        found = gc.get_referents(*holders)
        taken.append(len(found))
        return found

    monkeypatch.setattr(fit, "get_referents", referents)
    long = ["a"] * 10_000
    assert unusual({"a": [[long] * 100]}, MAX_DEPTH) == 0
    assert max(taken, default=0) < 20_000
