"""The key of a call agrees with a slow one that was written from its specification."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from inspect import Parameter
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from keys import named
from keys.reference_calls import call_key
from llmcache import llm_cached

numbers = itertools.count()
NAMES = ("a", "b", "c", "request_id", "stream")
values = st.sampled_from([None, True, False, 1, 1.0, "a", [1, "a"], (1, "a"), {"b": 1}, {1, 2}])
arguments = st.tuples(
    st.lists(values, max_size=4).map(tuple),
    st.dictionaries(st.sampled_from([*NAMES, "other"]), values, max_size=4),
)


@st.composite
def signatures(draw: st.DrawFn) -> inspect.Signature:
    """Return a signature of up to five named parameters, with or without the two kinds of rest."""
    kinds = sorted(draw(st.lists(st.sampled_from(_KINDS), max_size=5)))
    names = iter(draw(st.permutations(NAMES)))
    found, optional = [], False
    for kind in kinds:
        if any(p.kind is kind for p in found) and kind in _RESTS:
            continue
        default: Any = Parameter.empty
        if kind not in _RESTS:
            optional = (optional and kind is not Parameter.KEYWORD_ONLY) or draw(st.booleans())
            default = draw(values) if optional else default
        found.append(Parameter(next(names), kind, default=default))
    return inspect.Signature(found)


_RESTS = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_KINDS = (
    Parameter.POSITIONAL_ONLY,
    Parameter.POSITIONAL_OR_KEYWORD,
    Parameter.KEYWORD_ONLY,
    *_RESTS,
)


def takes(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether a function of this signature takes these arguments."""
    try:
        call = signature.bind(*args, **kwargs)
    except TypeError:
        return False
    call.apply_defaults()
    # Python 3.13.0 binds a call without a parameter whose name **kwargs takes.
    return call.arguments.keys() == signature.parameters.keys()


def of_signature(signature: inspect.Signature) -> Any:
    """Return a function of this signature."""

    def complete(*args: Any, **kwargs: Any) -> str:
        raise NotImplementedError

    complete.__signature__ = signature  # type: ignore[attr-defined]
    return complete


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(signatures(), arguments, st.none() | values, st.sampled_from([None, b"a secret of bytes"]))
def test_a_call_of_any_signature_has_the_key_of_the_specification(
    signature: inspect.Signature, call: Any, version: Any, secret: bytes | None
) -> None:
    args, kwargs = call
    # What is left are no parameters, which a cache refuses to be given.
    assume(list(signature.parameters) != ["request_id"])
    assume(takes(signature, args, kwargs))

    complete = of_signature(signature)
    name = f"any {next(numbers)}"
    cached = llm_cached(name=name, version=version, secret=secret)(complete)
    expected = call_key(complete, args, kwargs, name=name, version=version, secret=secret)
    assert cached.cache.key(*args, **kwargs) == expected


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(arguments, values)
def test_a_call_of_any_function_has_the_key_of_the_specification(call: Any, word: Any) -> None:
    args, kwargs = call
    local = named.local_tool(word, word)
    for function in (
        named.positional,
        local,
        named.tool,
        functools.partial(named.positional, word),
        functools.partial(functools.partial(named.positional, "hello"), top=word),
    ):
        with contextlib.suppress(TypeError):
            inspect.signature(function).bind(*args, **kwargs)
            expected = call_key(function, args, kwargs, version=word)
            assert llm_cached(version=word)(function).cache.key(*args, **kwargs) == expected


@settings(max_examples=50)
@given(values, values)
def test_a_call_of_a_method_has_the_key_of_the_specification(word: Any, asked: Any) -> None:
    for kitchen in (named.Kitchen(word), named.Restaurant(word)):
        cached = llm_cached(named.Kitchen.cook)
        expected = call_key(named.Kitchen.cook, (asked,), {}, owner=kitchen)
        assert cached.__get__(kitchen, type(kitchen)).cache.key(asked) == expected


def words(*args: Any, **kwargs: Any) -> Any:
    return [args, kwargs]


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(signatures(), arguments, values, st.sampled_from([None, b"a secret of bytes"]))
def test_a_key_function_says_what_counts_as_the_specification_has_it(
    signature: inspect.Signature, call: Any, returned: Any, secret: bytes | None
) -> None:
    args, kwargs = call
    assume(list(signature.parameters) != ["request_id"])
    assume(takes(signature, args, kwargs))

    complete = of_signature(signature)
    for key in (words, lambda *args, **kwargs: returned):
        name = f"said {next(numbers)}"
        cached = llm_cached(name=name, key=key, secret=secret)(complete)
        expected = call_key(complete, args, kwargs, name=name, key=key, secret=secret)
        assert cached.cache.key(*args, **kwargs) == expected


@settings(max_examples=50)
@given(values, values)
def test_a_key_function_of_a_method_is_given_the_owner(word: Any, asked: Any) -> None:
    def said(owner: Any, *args: Any) -> Any:
        return [owner.__class__.__name__, vars(owner), args]

    for kitchen in (named.Kitchen(word), named.Restaurant(word)):
        cached = llm_cached(named.Kitchen.cook, key=said)
        expected = call_key(named.Kitchen.cook, (asked,), {}, owner=kitchen, key=said, shown=True)
        assert cached.__get__(kitchen, type(kitchen)).cache.key(asked) == expected


@settings(max_examples=50)
@given(values, values)
def test_a_key_function_of_a_callable_object_is_not_given_it(word: Any, asked: Any) -> None:
    cook = named.Cook(word)
    for key in (None, words):
        expected = call_key(named.Cook.__call__, (asked,), {}, owner=cook, key=key)
        assert llm_cached(cook, key=key).cache.key(asked) == expected
