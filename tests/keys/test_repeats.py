"""What is remembered of requests never answers for another request."""

from __future__ import annotations

import datetime as dt
import enum
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcache import UncacheableArgument
from llmcache.keys import repeats
from llmcache.keys.binding import Binder, signature_of
from llmcache.keys.identity import Capture
from llmcache.keys.repeats import mark_of, remembering
from llmcache.keys.request import Keyer


class Word(str):
    __slots__ = ()


class Level(enum.IntEnum):
    ONE = 1


class Loud(enum.Enum):
    ONE = 1

    @property
    def value(self) -> Any:
        return "1"


class Lying(type):
    def __hash__(cls) -> int:
        return hash(str)

    def __eq__(cls, other: object) -> bool:
        return True


class Liar(bytes, metaclass=Lying):
    __slots__ = ()


def complete(*args: Any, **kwargs: Any) -> str:
    raise NotImplementedError


def keyer_of(function: Callable[..., Any], **options: Any) -> Keyer:
    identity = Capture(function, name="complete").identity()
    return Keyer(identity, Binder(signature_of(function)), **options)


DIGEST_OF = keyer_of(complete).digest_of
assert DIGEST_OF is not None


class Asked:
    """Makes digests, and remembers who asked."""

    def __init__(self, digest_of: Any = DIGEST_OF) -> None:
        self.calls: list[Any] = []
        self._digest_of = digest_of

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | None:
        self.calls.append((args, kwargs))
        return self._digest_of(args, kwargs)  # type: ignore[no-any-return]


leaves = (
    st.sampled_from(["", "a", "é", "\ud83d", "\ude00", "😀", "1", "role", "content"])
    | st.sampled_from([0, 1, -1, 255, 2**31, 2**63, 2**64, 10**40, 0.0, -0.0, 1.0, 1.5, 1e300])
    | st.sampled_from([None, True, False, math.nan, math.inf])
    | st.sampled_from([b"a", bytearray(b"a"), memoryview(b"a"), Liar(b"a"), orjson.Fragment(b"1")])
    | st.sampled_from([Word("a"), Level.ONE, Loud.ONE, ..., frozenset({1}), frozenset({"a"})])
    | st.sampled_from([UUID(int=1), str(UUID(int=1)), dt.date(2026, 1, 1), "2026-01-01"])
)
keys = st.sampled_from(["a", "b", "role", 1, 1.0, True, None, b"a", memoryview(b"a"), (1,)])
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=6,
)


def digest_or_reason(digest_of: Any, args: Any, kwargs: Any) -> bytes | str | None:
    try:
        return digest_of(args, kwargs)  # type: ignore[no-any-return]
    except UncacheableArgument as error:
        return error.reason


@settings(max_examples=1000)
@given(st.lists(values, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_each_request_has_the_digest_that_it_has_anyway(asked: list[Any], chosen: Any) -> None:
    again = remembering(DIGEST_OF)
    for value in [*asked, *asked, *chosen.choices(asked, k=6)]:
        for args, kwargs in (((value,), {}), ((), {"a": value})):
            expected = digest_or_reason(DIGEST_OF, args, kwargs)
            assert digest_or_reason(again, args, kwargs) == expected


def test_what_is_asked_again_is_known() -> None:
    asked = Asked()
    again = remembering(asked)
    kwargs = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}
    assert again((), kwargs) == again((), kwargs) == DIGEST_OF((), kwargs)
    assert len(asked.calls) == 1


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def doubled(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value, value]
    return value


def nested_sets(depth: int) -> frozenset[Any]:
    value: frozenset[Any] = frozenset()
    for _ in range(depth):
        value = frozenset({value})
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(nested(100), id="deep"),
        pytest.param(nested(50_000), id="very deep"),
        pytest.param(doubled(60), id="endless"),
        pytest.param(nested_sets(60), id="sets"),
    ],
)
def test_what_takes_long_or_nests_deep_is_left_alone(value: Any) -> None:
    assert mark_of((value,), {}) is None
    assert mark_of((), {"a": value}) is None


def test_a_request_that_changes_meanwhile_is_remembered_as_it_was() -> None:
    messages = ["one"]
    changes = [messages.clear]

    def digest_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | None:
        while changes:
            changes.pop()()
        return DIGEST_OF(args, kwargs)

    again = remembering(digest_of)
    for _ in range(3):
        assert again((messages,), {}) == DIGEST_OF((["one"],), {})
        messages[:] = ["one"]


REFUSED = [
    pytest.param(("x" * (1 << 14),), id="large"),
    pytest.param((object(),), id="refused"),
    pytest.param((b"a",), id="bytes"),
    pytest.param(({1: 2},), id="no text for a key"),
    pytest.param((math.nan,), id="nan"),
]


@pytest.mark.parametrize("refused", REFUSED)
def test_after_what_cannot_be_remembered_some_are_not_looked_for(refused: Any) -> None:
    asked = Asked()
    again = remembering(asked)
    for _ in range(3):
        again(("hello",), {})
    assert len(asked.calls) == 1
    digest_or_reason(again, refused, {})
    again(("hello",), {})
    assert len(asked.calls) == 3
    again(("hello",), {})
    assert len(asked.calls) == 3


def test_after_what_nobody_takes_some_are_not_looked_for() -> None:
    def ask(prompt: str) -> None:
        raise NotImplementedError

    asked = Asked(keyer_of(ask).digest_of)
    again = remembering(asked)
    for _ in range(2):
        with pytest.raises(TypeError):
            again((), {"other": 1})
    assert len(asked.calls) == 3


@pytest.mark.parametrize("refused", REFUSED)
def test_the_longer_it_fails_the_less_it_tries(
    refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    mark_of = repeats.mark_of
    monkeypatch.setattr(repeats, "mark_of", lambda *call: tried.append(1) or mark_of(*call))
    again = remembering(Asked())
    for _ in range(32 * 33 // 2 + 31 * 10):
        digest_or_reason(again, refused, {})
    assert len(tried) == 32 + 9


def test_a_stream_has_no_digest_here_and_is_not_remembered() -> None:
    asked = Asked()
    again = remembering(asked)
    for _ in range(4):
        before = len(asked.calls)
        assert again((), {"stream": True}) is None
        assert len(asked.calls) > before


def test_what_is_remembered_has_a_bound_and_is_forgotten_for_what_is_asked_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repeats, "_MOST_BYTES", 1000)
    monkeypatch.setattr(repeats, "_MOST_FAILURES", 4)
    asked = Asked()
    again = remembering(asked)
    for number in range(4):
        again((number,), {})
    again(("too much",), {})
    again(("not looked for",), {})
    asked.calls.clear()
    for number in range(4):
        again((number,), {})
    assert asked.calls == []
    for _ in range(4 + 1 + 2 + 3 + 4 + 1 + 5):
        assert again(("new",), {}) == DIGEST_OF(("new",), {})
    assert len(asked.calls) == 15
    again((0,), {})
    assert len(asked.calls) == 16


def test_a_failure_is_not_remembered() -> None:
    def digest_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | None:
        raise UncacheableArgument("no")

    again = remembering(digest_of)
    for _ in range(2):
        with pytest.raises(UncacheableArgument):
            again(("a",), {})


def test_threads_agree() -> None:
    again = remembering(DIGEST_OF)
    expected = {number: DIGEST_OF((number,), {}) for number in range(50)}
    wrong = []

    def ask() -> None:
        for number in [*range(50)] * 20:
            if again((number,), {}) != expected[number]:
                wrong.append(number)
            again((b"a",), {})

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_defaults_that_may_change_are_looked_at_each_time() -> None:
    tools = ["one"]

    def ask(prompt: str, tools: list[str] = tools) -> None:
        raise NotImplementedError

    keyer = keyer_of(ask)
    digest_of = keyer.remembering()
    assert digest_of is keyer.digest_of
    before = digest_of(("a",), {})
    tools.append("two")
    assert digest_of(("a",), {}) != before


def test_defaults_that_cannot_change_are_remembered() -> None:
    def ask(prompt: str, model: str = "small", top: float | None = None) -> None:
        raise NotImplementedError

    keyer = keyer_of(ask)
    assert keyer.remembering() is not keyer.digest_of


def test_nothing_is_remembered_where_there_is_a_secret_or_a_key_function() -> None:
    assert keyer_of(complete, secret=b"a secret of bytes").remembering() is None
    assert keyer_of(complete, key=lambda: 1).remembering() is None
