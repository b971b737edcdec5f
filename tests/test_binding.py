"""Calls are bound as `inspect.Signature.bind` does it, which knows best."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from llmcache import ConfigurationError, LLMCacheError
from llmcache.keys.binding import (
    DEFAULT_IGNORE,
    Binder,
    Mismatch,
    check_ignore,
    signature_of,
    without_first,
)

NAMES = "abcdef"
EMPTY = Parameter.empty
IN_ORDER = [
    Parameter.POSITIONAL_ONLY,
    Parameter.POSITIONAL_OR_KEYWORD,
    Parameter.VAR_POSITIONAL,
    Parameter.KEYWORD_ONLY,
    Parameter.VAR_KEYWORD,
]
VARIABLE = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    names = iter(draw(st.permutations(NAMES)))
    most = draw(st.sampled_from([(0, 3, 0, 2, 1), (2, 3, 1, 2, 1)]))
    counts = [draw(st.integers(0, count)) for count in most]
    kinds = [k for k, count in zip(IN_ORDER, counts, strict=True) for _ in range(count)][:6]
    defaulted = draw(st.integers(0, 6))
    parameters = []
    for position, (kind, name) in enumerate(zip(kinds, names, strict=False)):
        if kind in VARIABLE:
            default = EMPTY
        elif kind is Parameter.KEYWORD_ONLY:
            default = draw(st.sampled_from([EMPTY, f"default {name}"]))
        else:
            default = f"default {name}" if position >= defaulted else EMPTY
        parameters.append(Parameter(name, kind, default=default))
    return Signature(parameters)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Signature, tuple[int, ...], dict[str, int]]:
    signature = draw(signatures())
    wanted = [p.name for p in signature.parameters.values() if draw(st.integers(0, 3))]
    taken = draw(st.integers(0, len(wanted)))
    names = wanted[taken:] + draw(
        st.lists(st.sampled_from([*NAMES, "other", "*", "**"])) | st.just([])
    )
    args = draw(st.lists(st.integers(), min_size=taken, max_size=taken + draw(st.integers(0, 1))))
    return signature, tuple(args), {name: draw(st.integers()) for name in names}


def expected(signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    call = signature.bind(*args, **kwargs)
    call.apply_defaults()
    kinds = {p.name: p.kind for p in signature.parameters.values()}
    return {VARIABLE.get(kinds[name], name): value for name, value in call.arguments.items()}


@given(calls())
def test_a_binder_agrees_with_inspect(
    call: tuple[Signature, tuple[int, ...], dict[str, int]],
) -> None:
    signature, args, kwargs = call
    before = dict(kwargs)
    binder = Binder(signature)
    try:
        bound = expected(signature, args, kwargs)
    except TypeError:
        event("refused")
        with pytest.raises(Mismatch):
            binder.bind(args, kwargs)
    else:
        event("accepted")
        assert binder.bind(args, kwargs) == bound
        assert binder.bind(args, kwargs) == bound
    assert kwargs == before


def plain(model: str, prompt: str = "hi", *, n: int = 1) -> None: ...
def extra(model: str, prompt: str = "hi", **options: Any) -> None: ...
def packed(*messages: str, **options: Any) -> None: ...
def slashed(prompt: str, /, n: int = 1) -> None: ...


def bind(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return Binder(inspect.signature(function)).bind(args, kwargs)


def test_all_spellings_of_a_call_are_one() -> None:
    bound = {"model": "m", "prompt": "hi", "n": 1}
    assert bind(plain, "m") == bound
    assert bind(plain, model="m") == bound
    assert bind(plain, "m", "hi") == bound
    assert bind(plain, n=1, prompt="hi", model="m") == bound
    assert bind(extra, "m") == bind(extra, prompt="hi", model="m")
    assert bind(extra, "m", seed=1) == bind(extra, seed=1, model="m")
    assert bind(slashed, "p") == bind(slashed, "p", n=1) == bind(slashed, "p", 1)


def test_extra_arguments_stand_apart() -> None:
    assert bind(packed, "a", "b", n=1) == {"*": ("a", "b"), "**": {"n": 1}}
    assert bind(packed) == {"*": (), "**": {}}
    assert bind(extra, "m", **{"**": 1}) == {"model": "m", "prompt": "hi", "**": {"**": 1}}


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (), {}),
        (plain, (1, 2, 3), {}),
        (plain, (1,), {"model": 2}),
        (plain, (1,), {"other": 2}),
        (plain, (), {"prompt": 1}),
        (plain, (1,), {"*": 2}),
        (extra, (), {}),
        (extra, (), {"seed": 1}),
        (extra, (1, 2, 3), {}),
        (extra, (1,), {"model": 2}),
        (slashed, (), {}),
        (slashed, (), {"prompt": 1}),
        (slashed, (1, 2, 3), {}),
    ],
)
def test_a_mismatch_is_a_type_error(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(Mismatch) as refusal:
        bind(function, *args, **kwargs)
    assert isinstance(refusal.value, TypeError)
    assert isinstance(refusal.value, LLMCacheError)


def test_without_a_signature_anything_goes() -> None:
    binder = Binder(None, ("seed",))
    bound = binder.bind((1, 2), {"n": 3, "seed": 4})
    assert bound == {"*": (1, 2), "**": {"n": 3, "seed": 4}}
    bound = binder.strip(bound)
    assert bound == {"*": (1, 2), "**": {"n": 3}}


def stripped(
    function: Callable[..., Any], ignore: tuple[str, ...], *args: Any, **kwargs: Any
) -> dict[str, Any]:
    binder = Binder(inspect.signature(function), ignore)
    bound = binder.bind(args, kwargs)
    return binder.strip(bound)


def test_ignored_arguments_are_left_out() -> None:
    assert stripped(plain, ("n",), "m", n=7) == {"model": "m", "prompt": "hi"}
    assert stripped(plain, ("n", "prompt"), "m", "p") == {"model": "m"}
    assert stripped(slashed, ("prompt",), "p") == {"n": 1}
    assert stripped(plain, ("other",), "m") == {"model": "m", "prompt": "hi", "n": 1}
    assert stripped(plain, (), "m") == {"model": "m", "prompt": "hi", "n": 1}


def test_ignored_arguments_are_left_out_of_the_extra_ones() -> None:
    assert stripped(extra, ("seed",), "m", seed=1, n=2)["**"] == {"n": 2}
    assert stripped(extra, ("seed",), "m") == stripped(extra, ("seed",), "m", seed=1)
    assert stripped(extra, ("model",), "m", seed=1) == {"prompt": "hi", "**": {"seed": 1}}


def test_extra_arguments_are_ignored_by_the_name_of_their_parameter() -> None:
    assert stripped(packed, ("messages",), "a", n=1) == {"**": {"n": 1}}
    assert stripped(packed, ("options",), "a", n=1) == {"*": ("a",)}


def test_no_argument_is_mistaken_for_the_ignored_ones() -> None:
    assert stripped(packed, ("messages",), **{"*": 1}) == {"**": {"*": 1}}
    assert stripped(packed, ("messages",), **{"**": 1}) == {"**": {"**": 1}}


@given(calls(), st.lists(st.sampled_from([*NAMES, "other"]), max_size=3))
def test_stripping_takes_the_ignored_arguments_and_no_others(
    call: tuple[Signature, tuple[int, ...], dict[str, int]], ignore: list[str]
) -> None:
    signature, args, kwargs = call
    binder = Binder(signature, ignore)
    try:
        bound = binder.bind(args, kwargs)
    except Mismatch:
        return
    kinds = {p.name: p.kind for p in signature.parameters.values()}
    assume(kinds.keys().isdisjoint(bound.get("**", ())))
    gone = {VARIABLE.get(kinds.get(name), name) for name in ignore}
    remaining = {name: value for name, value in bound.items() if name not in gone}
    if "**" in remaining:
        remaining["**"] = {n: v for n, v in remaining["**"].items() if n not in ignore}
    before = dict(kwargs)
    bound = binder.strip(bound)
    assert bound == remaining
    assert kwargs == before


def streams(function: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> bool:
    binder = Binder(None if function is None else inspect.signature(function))
    asked = binder.streams(binder.bind(args, kwargs))
    assert binder.may_stream or not asked
    return asked


def test_only_true_asks_for_a_stream() -> None:
    def streaming(prompt: str, stream: Any = False) -> None: ...

    assert streams(streaming, "p", True)
    assert streams(streaming, "p", stream=True)
    assert streams(extra, "m", stream=True)
    assert streams(packed, stream=True)
    assert streams(None, stream=True)
    assert not streams(streaming, "p")
    assert not streams(extra, "m")
    assert not streams(plain, "m")
    assert not streams(packed, True)
    for other in (False, None, 1, "true", "stream"):
        assert not streams(streaming, "p", stream=other)
        assert not streams(extra, "m", stream=other)


def test_it_is_known_who_never_asks_for_a_stream() -> None:
    assert not Binder(inspect.signature(plain)).may_stream
    assert Binder(inspect.signature(extra)).may_stream
    assert Binder(None).may_stream


def test_defaults_survive_stripping() -> None:
    binder = Binder(inspect.signature(plain), ("prompt",))
    for _ in range(2):
        bound = binder.bind(("m",), {})
        assert bound["prompt"] == "hi"
        bound = binder.strip(bound)
        assert "prompt" not in bound


class Opaque:
    __signature__ = "nothing of the kind"

    def __call__(self) -> None: ...


def test_a_signature_is_known_or_none() -> None:
    assert signature_of(plain) == inspect.signature(plain)
    assert signature_of(Opaque()) is None
    assert signature_of(functools.partial(slashed, 1, 2, 3)) is None


def test_a_method_s_owner_is_no_argument() -> None:
    def method(self: Any, prompt: str, *, n: int = 1) -> None: ...
    def alone(self: Any) -> None: ...
    def starred(*args: Any, n: int = 1) -> None: ...
    def nothing() -> None: ...

    def names(function: Callable[..., Any]) -> list[str]:
        rest = without_first(inspect.signature(function))
        assert rest is not None
        return list(rest.parameters)

    assert names(method) == ["prompt", "n"]
    assert names(alone) == []
    assert names(starred) == ["args", "n"]
    assert names(nothing) == []
    assert without_first(None) is None


@pytest.mark.parametrize(
    ("function", "ignore"),
    [
        (plain, ()),
        (plain, ("n",)),
        (plain, ("n", "prompt")),
        (plain, DEFAULT_IGNORE),
        (extra, ("anything",)),
        (extra, ("model", "prompt")),
        (packed, ("messages", "n")),
        (lambda: None, DEFAULT_IGNORE),
        (lambda: None, ()),
    ],
)
def test_an_ignore_list_that_can_be_meant(
    function: Callable[..., Any], ignore: tuple[str, ...]
) -> None:
    check_ignore(inspect.signature(function), ignore)


def test_an_unknown_signature_takes_any_ignore_list() -> None:
    check_ignore(None, ("anything",))


@pytest.mark.parametrize("ignore", [("seed",), ("n", "seed"), ("request_id", "seed")])
def test_an_ignore_list_of_unknown_names_is_refused(ignore: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"'(seed|request_id)'") as refusal:
        check_ignore(inspect.signature(plain), ignore)
    assert all(name in str(refusal.value) for name in ("model", "prompt", "n"))


def test_a_function_without_parameters_has_nothing_to_ignore() -> None:
    with pytest.raises(ConfigurationError, match="seed"):
        check_ignore(inspect.signature(lambda: None), ("seed",))


@pytest.mark.parametrize(
    ("function", "ignore"),
    [
        (plain, ("model", "prompt", "n")),
        (extra, ("model", "prompt", "options", "seed")),
        (lambda request_id: None, DEFAULT_IGNORE),
    ],
)
def test_an_ignore_list_that_leaves_nothing_is_refused(
    function: Callable[..., Any], ignore: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigurationError, match="share"):
        check_ignore(inspect.signature(function), ignore)
