"""Values that are easily mistaken for one another, cannot be told apart, or fight back."""

from __future__ import annotations

import argparse
import array
import asyncio
import collections
import contextlib
import contextvars
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import io
import itertools
import json
import logging
import math
import operator
import os
import pathlib
import queue
import random
import re
import socket
import string
import struct
import subprocess
import sys
import threading
import types
import typing
import unittest.mock
import uuid
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal
from zoneinfo import ZoneInfo

import anthropic
import attrs
import msgspec
import numpy as np
import openai
import orjson
import pydantic
import pytest
import wrapt

import llmcache.keys.request  # noqa: F401
from keys import named
from keys.named import having
from llmcache import UncacheableArgument, llm_cached
from llmcache.keys.canonical import canonical

ROOT = pathlib.Path(__file__).parents[2]
LOCK = threading.Lock()
NAN, INF = float("nan"), float("inf")
UTC, BERLIN, PARIS = dt.timezone.utc, ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Paris")
HOUR = dt.timezone(dt.timedelta(hours=1))
ID = uuid.UUID("0123abcd-0123-4567-89ab-0123456789ab")
HELLO = b"hello".hex()


class Paint(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Hue(enum.IntEnum):
    RED = 1


twin = types.ModuleType("keys_twin")
sys.modules["keys_twin"] = twin
exec(
    "import dataclasses\n"
    "@dataclasses.dataclass\n"
    "class Point:\n    x: object\n    y: object = 0\n"
    "def tool(city): return city\n",
    vars(twin),
)
one_line = [lambda x: (x, 1), lambda x: (x, 2), lambda y: (y, 1)]
defaults = [lambda x, i=i: i for i in range(2)]


def client(**options: Any) -> openai.OpenAI:
    return openai.OpenAI(**{"api_key": "k", "base_url": "http://a/v1", **options})


ALONE: list[Any] = [
    # one
    *(1.0, True, "1", b"1", Decimal(1), Decimal("1.0"), Decimal("1.00"), Fraction(1), 1 + 0j),
    *(np.int64(1), np.int32(1), np.uint8(1), np.float64(1), np.float32(1), np.bool_(True)),
    *(np.str_("1"), np.bytes_(b"1"), np.array(1), np.array([1]), np.complex128(1)),
    *(named.Count(1), named.Ratio(1.0), named.Text("1"), named.Blob(b"1"), -1, "True", "1.0"),
    # nothing
    *(0, 0.0, -0.0, False, "", "0", "None", "null", b"", bytearray(), {}, [None], [[]], [{}]),
    *(set(), frozenset(), deque(), Decimal(0), Decimal("-0"), Decimal("0E+2"), 0j),
    *(complex(0.0, -0.0), complex(-0.0, 0.0), np.float64(-0.0), named.Items(), named.Table()),
    *(OrderedDict(), Counter(), defaultdict(None), np.array([]), dt.timedelta(0), "\0", b"\0"),
    # numbers that are none
    *(INF, -INF, "nan", "NaN", "inf", [NAN], [INF], [-INF], {"a": NAN}, {"a": None}, {"a": INF}),
    *(Decimal("NaN"), Decimal("-NaN"), Decimal("sNaN"), Decimal("NaN1"), Decimal("Infinity")),
    *(np.float64("nan"), np.float32("nan"), complex(NAN, 0), complex(0, NAN), [NAN, None]),
    *([None, NAN], {"a": [None, NAN]}, {"a": [NAN, None]}, named.Ratio("nan"), Fraction(1, 3)),
    *(["x" * 20_000, end] for end in (NAN, None, INF, -INF, "null")),
    # large and small numbers
    *(2**53, 2**53 + 1, float(2**53), 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1),
    *(10**5000, 10**5000 + 1, -(10**5000), 10**16, 1e16, 10**22, 1e22, float(2**64), 1e300),
    *(0.1, 0.3, 0.1 + 0.2, 1 / 3, 5e-324, 1e-5, 1e-6, np.float32(0.1), Decimal("0.1")),
    *(Decimal("1E+1"), Decimal("10"), "1e16", "10000000000000000"),
    # text
    *("😀", "\ud83d\ude00", "\ud83d", "\ude00", "\ude00\ud83d", "\\ud83d\\ude00", "eda0bdedb880"),
    *("ed", b"\xed\xa0\xbd", "é", "e\u0301", "a", "A", "a ", " a", "a\n", "a\r\n", "a\0", "\0a"),
    *("\\0", "\\u0000", "a\u200b", "\ufeffa", "\u2028", "\\u2028", "ff", "ﬀ", "ß", "ss", "\x7f"),
    # text that looks like something else
    *('"', "\\", "!", '\\"', '"\\', '!int"1"', '"!int"', "!null", '"1"', "[1]", "[1,2]", "{}"),
    *('{"a":1}', "a,b", 'a","b', '!text"61"', '!float"nan"', '!constant"Ellipsis"', "Ellipsis"),
    *(f'!bytes"{HELLO}"', HELLO, ["!bytes", HELLO], {"!bytes": HELLO}, b"hello", "hello"),
    *(["!set", [1]], {"!map": [[1, "x"]]}, ["!map", [[1, "x"]]], '!map[[1,"x"]]', "!set[1]"),
    *(["a,b"], ["a", "b"], ["a", ",b"], ['a","b'], ['a"', '"b'], ["a", ["b"]], ["a", "b", ""]),
    *({"a": 'x","b":"y'}, {"a": "x", "b": "y"}, {'a":"x","b': "y"}),
    # sequences and sets
    *({1}, frozenset({1}), deque([1]), deque([1], 1), deque([1], 2), named.Items([1])),
    *(named.Row([1]), named.Bag({1}), named.Frozen({1}), having(named.Items([1]), tag="x")),
    *(having(named.Items([1]), tag="y"), [[1]], [1, []], [[1], []], [[], 1], [1, [2]], [[1], 2]),
    *([1, 2], [2, 1], [[1, 2]], [12], ["1,2"], [1, True], [True, 1], [1, 1], {1, "1"}, {"1"}),
    *({1, None}, {None, "None"}, {frozenset({1})}, {frozenset(), 1}, frozenset({frozenset({1})})),
    *(range(1, 2), range(0, 1, 2), range(0), slice(0, 1), slice(1, None), [0]),
    *(named.Pair(1), named.Twin(1, None), {"left": 1, "right": None}, [1, None]),
    # mappings
    *({1: "x"}, {"1": "x"}, {True: "x"}, {1.0: "x"}, {None: "x"}, {"None": "x"}, {"null": "x"}),
    *({b"1": "x"}, {(1,): "x"}, {frozenset({1}): "x"}, {Decimal(1): "x"}, {NAN: "x"}, {"x": "1"}),
    *({float("nan"): 1, NAN: 1}, {"nan": "x"}, {"\ud800": "x"}, {"\\ud800": "x"}, {"": "x"}),
    *({True: 1, "true": 2}, {True: 2, "true": 1}, {1: "x", "1": "y"}, {1: "y", "1": "x"}),
    *([["1", "x"]], [[1, "x"]], [{"1": "x"}], ["1", "x"], {"1": ["x"]}, {"1": {"x": None}}),
    *({"a": {"b": 1}}, {"a.b": 1}, {"a": [{"b": 1}]}, {"a": 1, "b": None}, {"b": 1}, {"a": 1.0}),
    *([["a", 1], ["b", 2]], [{"a": 1}, {"b": 2}], {"a": 2, "b": 1}, {"a": {"b": 2}}),
    *({"a": 1}, OrderedDict(a=1), Counter(a=1), named.Table(a=1), defaultdict(None, a=1)),
    *(defaultdict(int, a=1), defaultdict(list, a=1), having(named.Table(a=1), a=1)),
    *({named.Text("a"): 1}, {named.Pair(1): 1}, {dt.date(2024, 1, 1): 1}, {"2024-01-01": 1}),
    # bytes
    *(b"ab", bytearray(b"ab"), memoryview(b"ab").cast("H"), "ab", [97, 98], b"ba"),
    *(memoryview(b"ab").cast("b"), memoryview(b"abcd"), memoryview(b"abcd").cast("B", [2, 2])),
    # enums, UUIDs
    *("Color.RED", "RED", {"RED": "red"}, named.Text("red"), "blue", named.Color, named.Level),
    *(Paint, Hue, named.Text("calm"), str(ID).upper(), ID.hex, ID.bytes, ID.int, f"urn:uuid:{ID}"),
    # dates
    *(dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), "2024-01-01", "2024-01-01T00:00:00"),
    *(dt.datetime(2024, 1, 1, tzinfo=zone) for zone in (UTC, HOUR, BERLIN, PARIS, named.Zone())),
    dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "Z")),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
    *(dt.datetime(2024, 1, 1, fold=1), dt.datetime(2024, 1, 1, 0, 0, 0, 1)),
    *(dt.datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=BERLIN) for fold in (0, 1)),
    *(dt.time(0), dt.time(0, fold=1), dt.time(0, tzinfo=UTC), dt.time(0, tzinfo=BERLIN)),
    *(dt.timedelta(1), dt.timedelta(0, 1), 86400, dt.timedelta(-1), "1 day, 0:00:00"),
    *(np.datetime64("2024-01-01"), np.datetime64("2024-01-01", "s"), np.timedelta64(1, "D")),
    # paths and patterns
    *(pathlib.PurePosixPath("/a"), pathlib.PosixPath("/a"), "/a", b"/a"),
    *(pathlib.PurePosixPath("/A"), pathlib.PureWindowsPath("/A")),
    *(re.compile("a"), re.compile("a", re.I), re.compile(b"a"), re.compile("(a)")),
    # classes with equal fields
    *(named.Point(1), named.Spot(1), twin.Point(1), named.Slim(1), {"x": 1, "y": 0}, [1, 0]),
    *(named.Point(1.0), named.Point(True), named.Point(0, 1), having(named.Point(1), z=1)),
    *(named.Reply(text="a"), {"text": "a", "score": None}, named.Answer(text="a", score=0)),
    *(named.Open(text="a"), named.Open(text="a", score=None), named.Open(text="a", _secret=1)),
    *(having(named.Open(text="a"), _secret=1), having(named.Open(text="a"), _secret=2)),
    *(named.Box[int](item=1), named.Box[float](item=1), named.Box[Any](item=1), named.Box(item=1)),
    *(named.Box[str](item="1"), named.Box[list[int]](item=[1]), named.Box[list[Any]](item=[1])),
    *(named.Roots([1]), named.Empty(), named.Nothing(), named.Turn("a"), named.Talk("a")),
    *({"role": "a", "content": None}, named.Shape(1), named.Form(1), {"sides": 1}),
    *(named.Plain(a=1), named.Other(a=1), named.Mixed(one=1), named.Mixed(two=1)),
    *(named.Mixed(three=1), named.Slots(one=1), named.Keyed("a"), named.Keyed("b"), {"one": 1}),
    *(named.Plain(a=named.Plain(a=1)), named.Plain(a={"a": 1}), named.Node(1, named.Node(2))),
    # arrays
    *(np.array([1, 2, 3, 4], kind) for kind in ("<i4", ">i4", "<i8", "<u4", "<f4", "<f8", object)),
    *(np.ones(shape) for shape in (4, (2, 2), (1, 4), (4, 1), (1, 2, 2))),
    *(
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.array(["a"]),
        np.array(["a"], "<U2"),
        np.array([b"a"]),
    ),
    *(np.array([(1, 2)], dtype=[(name, "<i4"), ("b", "<i4")]) for name in ("a", "c")),
    *(np.array([[1, 2], [3, 4]]), np.array([1, 2, 3, 4]).tolist(), np.array([None], object)),
    *(np.array([1, 1.0, True], object), np.array([[1, 2]], object), np.array([0.0, NAN])),
    *(np.array(["2024-01-01"], f"datetime64[{unit}]") for unit in ("D", "s")),
    # what is called
    *(len, sum, math.sqrt, math, json, named.tool, named.untyped, twin.tool, *one_line, *defaults),
    *(named.local_function("b"), named.local_function(1), named.local_function(None)),
    *(named.local_lambda("a"), named.local_lambda("b"), named.twice[0], named.twice[1]),
    *(functools.partial(named.tool, argument) for argument in ("a", "b", ["a"])),
    *(functools.partial(named.untyped, "a"), functools.partial(named.tool, unit="c")),
    *(named.Kitchen("a").cook, named.Kitchen("b").cook, named.Kitchen.cook, named.Kitchen.open),
    *([].append, [1].append, [1].extend, "a".upper, named.complete, named.acomplete),
    *(
        named.Bot("a").ask,
        named.Bot("b").ask,
        named.Bot.ask,
        named.Bot.default,
        named.Child.default,
    ),
    *(named.local_class("a"), named.local_class("b"), named.local_class("a")(1)),
    *(named.local_class("b")(1), named.local_class("a")(2)),
    # types and marks
    *(int, str, bool, list, dict, type(None), list[int], list[str], dict[str, int], int | str),
    *(Literal["a"], Literal["b"], Literal[1], Literal[True], typing.Annotated[int, 1]),
    *(named.Answer, named.Reply, named.Point, named.Spot, twin.Point, named.Pair, named.Twin),
    *(named.Plain, named.Other, named.Bot, named.Child, named.Box[int], named.Box[str], named.Box),
    *(..., NotImplemented, openai.NOT_GIVEN, openai.omit, anthropic.NOT_GIVEN, anthropic.omit),
    *(dataclasses.MISSING, msgspec.UNSET, "NOT_GIVEN"),
    *(client(base_url="http://b/v1"), client(organization="o"), client(project="p")),
    *(client().chat, client().responses, openai.AsyncOpenAI(api_key="k", base_url="http://a/v1")),
]

SAME: list[list[Any]] = [
    [1, named.Level.LOW, named.Bits.ONE, named.Access.READ, Hue.RED],
    [3, named.Access.READ | named.Access.WRITE, named.Bits(3)],
    [None, named.Color.NONE],
    ["red", named.Color.RED, named.Color.CRIMSON, Paint.RED, named.Outer.RED],
    ["calm", named.Mood.CALM],
    [NAN, -NAN, float("nan"), named.Color.NAN, named.Outer.NAN],
    [[NAN, None, [1, "a"]], named.Outer.MANY, (named.Color.NAN, named.Color.NONE, (1, "a"))],
    [[], ()],
    [[1], (1,), [named.Level.LOW]],
    [[1, "a"], (1, "a"), named.Color.PAIR],
    [[[1, 2], [3, [4]]], ((1, 2), (3, (4,)))],
    [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
    [{"a": [{"c": 1, "d": 2}]}, {"a": ({"d": 2, "c": 1},)}],
    [{1: "a", "b": 2}, {"b": 2, 1: "a"}],
    [{"red": 1}, {named.Color.RED: 1}, {Paint.RED: 1}, {named.Outer.RED: 1}],
    [{1: 1}, {named.Level.LOW: 1}],
    [{str(ID): 1}, {ID: 1}],
    [str(ID), ID, uuid.UUID(ID.hex)],
    [{3, 1, "b", "a"}, {"a", "b", 1, 3}],
    [named.Items([1, 2]), named.Items((1, 2))],
    [named.Table(a=1, b=2), named.Table(b=2, a=1)],
    [OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)],
    [bytearray(b"a"), bytearray([97])],
    [memoryview(b"a"), memoryview(bytearray(b"a")), memoryview(b"ba")[1:]],
    [memoryview(b"aba")[::2], memoryview(b"aa")],
    [Fraction(1, 2), Fraction(2, 4), Fraction("0.5")],
    [dt.timedelta(2), dt.timedelta(hours=48), dt.timedelta(3, -86400)],
    [range(2), range(0, 2, 1)],
    [slice(1), slice(None, 1)],
    [pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath("a//b/.")],
    [pathlib.PureWindowsPath("/a"), pathlib.PureWindowsPath("\\a")],
    [named.Point(2), named.Point(2, 0), named.Point(named.Level.HIGH)],
    [
        named.Answer(text="a"),
        named.Answer(text="a", score=None),
        named.Answer.model_construct(text="a", score=None),
    ],
    [named.Open(text="b", y=1, z=2), named.Open(text="b", z=2, y=1)],
    [named.Plain(b=1, a=2), named.Plain(a=2, b=1)],
    [
        np.array([[1, 2], [3, 5]]),
        np.array([[1, 3], [2, 5]]).T,
        np.array([[1, 2], [3, 5]], order="F"),
    ],
    [np.array([1, 3]), np.array([1, 2, 3])[::2]],
    [named.local_function("a"), named.local_function("a")],
    [
        functools.partial(named.tool, "a", 1),
        functools.partial(functools.partial(named.tool, "a"), 1),
    ],
    [named.Kitchen("c").cook, named.Kitchen("c").cook],
    [int | None, None | int, typing.Optional[int]],
    [client(), client(api_key="other"), client(timeout=1), client(max_retries=7)],
]

GROUPS = [[value] for value in ALONE] + SAME


def test_two_values_share_their_bytes_only_if_they_are_the_same_request() -> None:
    forms = [(number, canonical(value)) for number, group in enumerate(GROUPS) for value in group]
    wrong = [
        (one[:200], other[:200])
        for (number, one), (place, other) in itertools.combinations(forms, 2)
        if (one == other) != (number == place)
    ]
    assert wrong == []
    assert len(forms) > 600


@pytest.mark.parametrize("step", [1, -1])
def test_no_value_is_answered_with_what_belongs_to_another(step: int) -> None:
    calls = []

    @llm_cached(strict=True, max_size=10_000)
    def ask(value: Any) -> int:
        calls.append(value)
        return number

    for number, group in list(enumerate(GROUPS))[::step]:
        for value in group:
            assert ask(value) == number
    assert len(calls) == len(GROUPS)


def end_of(form: str, at: int = 0) -> int:
    """Return where the canonical value ends that starts at *at*."""
    if tag := re.compile("![a-z]+").match(form, at):
        return tag.end() if tag.group() == "!empty" else end_of(form, tag.end())
    if form[at] == '"':
        return json.decoder.scanstring(form, at + 1)[1]
    if form[at] not in "[{":
        return re.compile(r"null|true|false|-?\d+(\.\d+)?(e[-+]\d+)?").match(form, at).end()
    opening, closing = form[at], "]" if form[at] == "[" else "}"
    at += 1
    while form[at] != closing:
        if opening == "{":
            assert form[at] == '"'
            at = end_of(form, at)
            assert form[at] == ":"
            at += 1
        at = end_of(form, at)
        if form[at] == ",":
            at += 1
            assert form[at] not in "]}"
    return at + 1


def test_every_form_follows_the_grammar() -> None:
    for value in (
        *itertools.chain(*GROUPS),
        typing.Dict,
        typing.List,
        typing.Tuple,
        np.zeros(2, []),
    ):
        form = canonical(value).decode()
        assert end_of(form) == len(form), form


def test_the_decimal_context_changes_nothing() -> None:
    with decimal.localcontext(decimal.Context(prec=2, capitals=0)):
        small = canonical(Decimal("1.2345E+10"))
    assert small == canonical(Decimal("1.2345E+10"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("a", object)], [("b", object)]),
        ([("a", object), ("b", "i4")], [("a", "i4"), ("b", object)]),
        ([("a", object), ("b", "i4")], [("a", object), ("b", "u4")]),
    ],
)
def test_the_fields_of_objects_in_an_array_count(one: Any, other: Any) -> None:
    values = [(1, 2)[: len(one)]]
    assert form_or_refusal(np.array(values, one)) != form_or_refusal(np.array(values, other))


def test_padding_in_an_array_is_no_data() -> None:
    aligned = np.dtype([("a", "i1"), ("b", "i4")], align=True)
    zeros, ones = (np.full(aligned.itemsize, fill, "u1").view(aligned) for fill in (0, 255))
    for array_ in (zeros, ones):
        array_["a"], array_["b"] = 1, 2
    assert zeros == ones
    assert canonical(zeros) == canonical(ones)


def agent_by_attribute(prompt: str) -> Any:
    class Agent:
        system = prompt

        def ask(self) -> str:
            return self.system

    return Agent


def agent_by_base(prompt: str) -> Any:
    class Agent(agent_by_attribute(prompt)):
        pass

    return Agent


def agent_by_static_method(prompt: str) -> Any:
    class Agent:
        @staticmethod
        def ask() -> str:
            return prompt

    return Agent


def agent_by_class_method(prompt: str) -> Any:
    class Agent:
        @classmethod
        def ask(cls) -> str:
            return prompt

    return Agent


def agent_by_property(prompt: str) -> Any:
    class Agent:
        @property
        def ask(self) -> str:
            return prompt

    return Agent


def agent_by_default(prompt: str) -> Any:
    class Agent:
        def ask(self, prompt: str = prompt) -> str:
            return prompt

    return Agent


def agent_by_decorator(prompt: str) -> Any:
    class Agent:
        @functools.lru_cache  # noqa: B019
        def ask(self) -> str:
            return prompt

    return Agent


def agent_by_inner_class(prompt: str) -> Any:
    class Agent:
        class Inner:
            def ask(self) -> str:
                return prompt

    return Agent


def agent_by_branch(prompt: str) -> Any:
    if prompt == "a":

        class Agent:
            def ask(self) -> str:
                return "a"

    else:

        class Agent:
            def ask(self) -> str:
                return "b"

    return Agent


def agent_by_assignment(prompt: str) -> Any:
    class Agent:
        pass

    Agent.ask = lambda self: prompt
    return Agent


def agent_by_docstring(prompt: str) -> Any:
    class Agent:
        __doc__ = prompt

    return Agent


def agent_by_dunder(prompt: str) -> Any:
    class Agent:
        __prompt__ = prompt

    return Agent


def agent_by_helper(prompt: str) -> Any:
    def helper() -> str:
        return prompt

    class Agent:
        def ask(self) -> str:
            return helper()

    return Agent


def agent_by_cached_property(prompt: str) -> Any:
    class Agent:
        @functools.cached_property
        def ask(self) -> str:
            return prompt

    return Agent


def agent_by_itself(prompt: str) -> Any:
    class Agent:
        def copy(self) -> Any:
            return Agent()

        def ask(self) -> str:
            return prompt

    return Agent


def agent_by_enum(prompt: str) -> Any:
    class Agent(enum.Enum):
        A = 1

        def ask(self) -> str:
            return prompt

    return Agent


def agent_by_validator(prompt: str) -> Any:
    class Agent(pydantic.BaseModel):
        text: str = ""

        @pydantic.field_validator("text")
        @classmethod
        def check(cls, text: str) -> str:
            return prompt + text

    return Agent


def agent_by_field(prompt: str) -> Any:
    @dataclasses.dataclass
    class Agent:
        text: str = dataclasses.field(default_factory=lambda: prompt)

    return Agent


def data_by_method(prompt: str) -> Any:
    if prompt == "a":

        @dataclasses.dataclass
        class Agent:
            text: str = ""

            def ask(self) -> str:
                return "a"

    else:

        @dataclasses.dataclass
        class Agent:
            text: str = ""

            def ask(self) -> str:
                return "b"

    return Agent


def data_by_closure(prompt: str) -> Any:
    @dataclasses.dataclass
    class Agent:
        text: str = ""

        def ask(self) -> str:
            return prompt

    return Agent


def agent_by_decorated_class_method(prompt: str) -> Any:
    @wrapt.decorator
    def prompted(wrapped, instance, args, kwargs):
        return prompt, wrapped(*args, **kwargs)

    class Agent:
        @prompted
        @classmethod
        def words(cls) -> None:
            return None

    return Agent


def agent_by_metaclass(prompt: str) -> Any:
    class Meta(type):
        def system(cls) -> str:
            return prompt

    class Agent(metaclass=Meta):
        pass

    return Agent


def agent_by_init_subclass(prompt: str) -> Any:
    class Base:
        def __init_subclass__(cls, **settings: Any) -> None:
            cls.__settings__ = settings

    class Agent(Base, system=prompt):
        pass

    return Agent


def agent_by_dunder_list(prompt: str) -> Any:
    class Agent:
        __prompts__ = [prompt]

    return Agent


def agent_by_cached_call(prompt: str) -> Any:
    class Agent:
        @functools.lru_cache  # noqa: B019
        def __call__(self) -> str:
            return prompt

    return Agent


def agent_by_static_call(prompt: str) -> Any:
    class Agent:
        @staticmethod
        def __call__() -> str:
            return prompt

    return Agent


def agent_by_partial_call(prompt: str) -> Any:
    class Agent:
        __call__ = functools.partial(str, prompt)

    return Agent


def agent_by_partial_method(prompt: str) -> Any:
    class Agent:
        def ask(self, prompt: str) -> str:
            return prompt

        __call__ = functools.partialmethod(ask, prompt)

    return Agent


def agent_by_dunder_property(prompt: str) -> Any:
    class Agent:
        @property
        def __prompt__(self) -> str:
            return prompt

    return Agent


def agent_by_context_manager(prompt: str) -> Any:
    class Agent:
        @contextlib.contextmanager
        def ask(self) -> Iterator[str]:
            yield prompt

    return Agent


def agent_by_generic_base(prompt: str) -> Any:
    class Agent(collections.UserList[int if prompt == "a" else str]):
        pass

    return Agent


def agent_by_private_attribute(prompt: str) -> Any:
    class Agent(pydantic.BaseModel):
        _system: str = pydantic.PrivateAttr(default=prompt)

    return Agent


def agent_by_attrs(prompt: str) -> Any:
    @attrs.define(slots=False)
    class Agent:
        system: str = attrs.field(default=prompt)

    return Agent


def agent_by_converter(prompt: str) -> Any:
    @attrs.define(slots=False)
    class Agent:
        system: str = attrs.field(default="", converter=lambda text: text + prompt)

    return Agent


def agent_by_metadata(prompt: str) -> Any:
    @dataclasses.dataclass
    class Agent:
        system: str = dataclasses.field(default="", metadata={"description": prompt})

    return Agent


def agent_by_enum_property(prompt: str) -> Any:
    class Agent(enum.Enum):
        ASK = "ask"

        @property
        def system(self) -> str:
            return prompt

    return Agent


def agent_by_enum_static_method(prompt: str) -> Any:
    class Agent(enum.Enum):
        ASK = "ask"

        @staticmethod
        def system() -> str:
            return prompt

    return Agent


class Prompt:
    def __init__(self, prompt: str) -> None:
        self.prompt = prompt


def agent_by_object(prompt: str) -> Any:
    class Agent:
        system = Prompt(prompt)

    return Agent


def agent_by_loop(prompt: str) -> Any:
    for system in ("a", "b"):

        class Agent:
            text = system

        if system == prompt:
            break
    return Agent


FACTORIES = [
    data_by_method,
    data_by_closure,
    agent_by_attribute,
    agent_by_base,
    agent_by_static_method,
    agent_by_class_method,
    agent_by_property,
    agent_by_default,
    agent_by_decorator,
    agent_by_inner_class,
    agent_by_branch,
    agent_by_assignment,
    agent_by_docstring,
    agent_by_dunder,
    agent_by_helper,
    agent_by_cached_property,
    agent_by_itself,
    agent_by_enum,
    agent_by_validator,
    agent_by_field,
    agent_by_decorated_class_method,
    agent_by_metaclass,
    agent_by_init_subclass,
    agent_by_dunder_list,
    agent_by_cached_call,
    agent_by_static_call,
    agent_by_partial_call,
    agent_by_partial_method,
    agent_by_dunder_property,
    agent_by_context_manager,
    named.local_annotated,
    named.local_described,
    agent_by_generic_base,
    agent_by_private_attribute,
    agent_by_attrs,
    agent_by_converter,
    agent_by_metadata,
    agent_by_enum_property,
    agent_by_enum_static_method,
    agent_by_object,
    agent_by_loop,
]


def form_or_refusal(value: Any) -> bytes:
    try:
        return canonical(value)
    except UncacheableArgument:
        return b"refused %d" % id(value)


@pytest.mark.parametrize("factory", FACTORIES)
def test_two_classes_of_one_factory_differ(factory: Callable[[str], Any]) -> None:
    one, other = factory("a"), factory("b")
    assert form_or_refusal(one) != form_or_refusal(other)
    if issubclass(one, enum.Enum | pydantic.BaseModel):
        return
    assert form_or_refusal(having(one(), x=1)) != form_or_refusal(having(other(), x=1))


def deep(nest: Callable[[Any], Any], levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = nest(value)
    return value


LOOP = """
made = []
for word in "abc":
    class Agent:
        system = word
        def ask(self):
            return self.system
    made.append(Agent)
    seen.append(form(Agent))
"""


@pytest.mark.parametrize("module", ["looping", "__main__"])
def test_classes_made_in_a_loop_differ(
    module: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "looping.py"
    path.write_text(LOOP)
    found = types.ModuleType(module)
    found.__file__ = str(path)
    vars(found).update(form=canonical, seen=[])
    monkeypatch.setitem(sys.modules, module, found)
    exec(compile(LOOP, str(path), "exec", dont_inherit=True), vars(found))
    assert len(set(found.seen)) == 3
    assert len({canonical(kind) for kind in found.made}) == 3
    assert len({canonical(having(kind(), x=1)) for kind in found.made}) == 3


@pytest.mark.parametrize(
    "value",
    [
        *(deep(lambda value: {"a": value, "b": value}, 40),),
        *(deep(lambda value: [value, value], 24),),
        *(deep(lambda value: [float("nan"), value, value], 24),),
        *(deep(lambda value: named.Point(value, value), 40),),
        *(deep(lambda value: {1: value, 2: value}, 40),),
        [[0] * (1 << 20)] * 17,
    ],
)
def test_what_has_no_end_of_parts_is_refused(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmcache.keys.fit.MOST_PARTS", 1 << 12)
    with pytest.raises(UncacheableArgument, match="too many parts"):
        canonical(value)


def test_the_path_of_what_contains_itself_is_short() -> None:
    loop: list[Any] = [float("nan")]
    loop.append(loop)
    with pytest.raises(UncacheableArgument) as caught:
        canonical({"messages": loop})
    assert len(caught.value.path) < 250
    assert caught.value.path.startswith(".messages[1][1]")


def test_the_order_of_a_set_numbers_no_functions() -> None:
    def made(word: str) -> Any:
        return lambda prompt: (word, prompt)

    tools = [made(word) for word in "abcdef"]
    forms = {
        canonical([{tools[i] for i in order}, dict.fromkeys(order, 1), tools[0]])
        for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 40)
    }
    assert len(forms) == 1
    assert canonical([tools[0], {*tools}]) != canonical([tools[1], {*tools}])


def test_a_mapping_may_hold_functions_that_close_over_it() -> None:
    registry: dict[Any, Any] = {}
    for number in range(20):
        registry[number] = functools.partial(lambda number, prompt: registry, number)
        registry[str(number)] = lambda prompt, number=number: (registry, number)
    before = canonical(registry)
    registry[1], registry[2] = registry[2], registry[1]
    assert canonical(registry) != before


class Lazy:
    def __init__(self, word: str) -> None:
        self.word = word

    @functools.cached_property
    def twice(self) -> str:
        return self.word * 2


@attrs.frozen(cache_hash=True)
class Hashed:
    word: str


@attrs.frozen(cache_hash=True, slots=False)
class HashedLoosely:
    word: str


@attrs.frozen
class LazySlots:
    word: str

    @functools.cached_property
    def twice(self) -> str:
        return self.word * 2


class Repeated:
    """Keeps its hash, as `packaging.version.Version` does."""

    __slots__ = ("_hash", "word")

    def __init__(self, word: str) -> None:
        self.word, self._hash = word, None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.word)
        return self._hash


@dataclasses.dataclass(frozen=True)
class Described:
    word: str

    def __repr__(self) -> str:
        object.__setattr__(self, "_repr", self.word)
        return self.word


class Counting(str):
    def __len__(self) -> int:
        self.asked = True
        return 1


@pytest.mark.parametrize("value", [Repeated("a"), Described("a"), Counting("a")])
def test_what_changes_when_it_is_looked_at_is_refused(value: Any) -> None:
    with pytest.raises(UncacheableArgument, match=r"whose __(hash|repr|len)__ may change it"):
        canonical({"value": value})


def test_a_method_of_ones_own_that_changes_an_instance_is_none_of_that() -> None:
    class Bot:
        def __init__(self) -> None:
            self.words = 0

        def tell(self) -> None:
            self.words += 1

        def __repr__(self) -> str:
            return f"a bot of {self.words} words"

    bot = Bot()
    before = canonical(bot)
    bot.tell()
    assert repr(bot) == "a bot of 1 words"
    assert canonical(bot) != before


class Place(pathlib.PurePosixPath):
    word: str

    @property
    def twice(self) -> Any:
        return self.parts, self.parent, str(self), self.name


def test_what_an_instance_keeps_for_later_makes_no_difference() -> None:
    for make in (Lazy, Hashed, HashedLoosely, LazySlots, Place):
        value = make("a")
        before = canonical(value)
        hash(value)
        assert getattr(value, "twice", None) != "a"
        assert canonical(value) == before
        assert canonical(make("b")) != before


def test_a_path_of_a_class_of_ones_own_is_its_class_its_text_and_its_attributes() -> None:
    class Other(pathlib.PurePosixPath):
        pass

    values = [pathlib.PurePosixPath("a"), Place("a"), Other("a")]
    if sys.version_info >= (3, 12):
        values.append(having(Place("a"), word="b"))
    forms = {canonical(value) for value in values}
    assert len(forms) == len(values)


class Equal(type):
    def __eq__(cls, other: object) -> bool:
        return True


def test_a_class_without_a_hash_has_a_form() -> None:
    class Local(metaclass=Equal):
        def __init__(self, word: str) -> None:
            self.word = word

    class Model(pydantic.BaseModel, metaclass=type("Meta", (Equal, type(pydantic.BaseModel)), {})):
        word: str

    class Other(Local):
        pass

    assert canonical(Local("a")) != canonical(Local("b"))
    assert len({form_or_refusal(kind) for kind in (Local, Other, Model)}) == 3


def test_a_model_that_is_not_finished_is_refused() -> None:
    with pytest.raises(UncacheableArgument, match="unfinished"):
        canonical(named.Answer.__new__(named.Answer))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("input_audio", "messages.input_audio"),
        ("input-audio", "messages['input-audio']"),
        ("the prompt", "messages[…]"),
        ("a" * 41, "messages[…]"),
        ("4711", "messages[…]"),
    ],
)
def test_only_a_key_that_is_a_name_is_shown(key: str, path: str) -> None:
    with pytest.raises(UncacheableArgument) as caught:
        complete({key: LOCK})
    assert caught.value.path == path


def test_a_closure_variable_is_named_with_its_function() -> None:
    with pytest.raises(UncacheableArgument) as caught:
        complete([closing_over(LOCK)])
    said = "messages[0], the closure variable value of closing_over.<locals>."
    assert caught.value.path.startswith(said)


class Itself(enum.Enum):
    ONE = 1


def test_an_enum_member_that_is_its_own_value_is_refused() -> None:
    Itself.ONE._value_ = Itself.ONE
    for value in (Itself.ONE, {Itself.ONE: 1}, [{Itself.ONE: 1, 2: 3}], Itself):
        with pytest.raises(UncacheableArgument):
            canonical(value)


class Answering(type):
    @property
    def __llmcache_key__(cls) -> Any:
        return lambda value: "the metaclass"


class Said(metaclass=Answering):
    word = "a word"

    def __llmcache_key__(self) -> Any:
        return "said"


class SaidByAll(Said):
    @staticmethod
    def __llmcache_key__(value: Any) -> Any:
        return value.word


class SaidByClass(Said):
    @classmethod
    def __llmcache_key__(cls, value: Any) -> Any:
        return [cls.__name__, value.word]


class SaidByCallable(Said):
    __llmcache_key__ = operator.itemgetter(1)

    def __getitem__(self, item: int) -> int:
        return item + 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Said, b'"said"'),
        (SaidByAll, b'"a word"'),
        (SaidByClass, b'["SaidByClass","a word"]'),
        (SaidByCallable, b"2"),
    ],
)
def test_no_metaclass_says_what_counts(kind: type, said: bytes) -> None:
    name = kind.__qualname__.encode()
    assert canonical(kind()) == b'!keyed["keys.test_hostile:%b",%b]' % (name, said)


def test_what_orjson_would_take_for_written_is_refused() -> None:
    forged = orjson.Fragment(b'!int"1"')
    for value in (forged, [forged], {"a": [[forged]]}, [NAN, [[forged]]], {1: forged}, {forged}):
        with pytest.raises(UncacheableArgument, match=r"orjson\.Fragment"):
            canonical(value)


class Spoken(enum.Enum):
    ONE = 1

    def __llmcache_key__(self) -> Any:
        return "said"


def test_an_enum_may_say_what_counts() -> None:
    assert canonical([Spoken.ONE]) == canonical(Spoken.ONE).join((b"[", b"]"))
    assert canonical(Spoken.ONE) == b'!keyed["keys.test_hostile:Spoken","said"]'


def generator() -> Iterator[int]:
    yield 1


async def agenerator() -> Any:
    yield 1


async def coroutine() -> None:
    pass


def executed(source: str, name: str, **variables: Any) -> Any:
    exec(source, variables)
    return variables[name]


def cyclic_list() -> Any:
    cycle: list[Any] = [1]
    cycle.append({"a": [cycle]})
    return cycle


def cyclic_mapping() -> Any:
    cycle: dict[Any, Any] = {}
    cycle["a"] = [cycle]
    return cycle


def cyclic_object() -> Any:
    cycle = named.Plain(a=1)
    cycle.b = {"c": cycle}
    return cycle


def cyclic_deque() -> Any:
    cycle: deque[Any] = deque()
    cycle.append(cycle)
    return cycle


def cyclic_array() -> Any:
    cycle = np.empty(1, dtype=object)
    cycle[0] = [cycle]
    return cycle


def cyclic_partial() -> Any:
    items: list[Any] = []
    items.append(functools.partial(named.tool, items))
    return items


def released() -> memoryview:
    view = memoryview(b"a")
    view.release()
    return view


def zone_of(key: Any) -> ZoneInfo:
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return ZoneInfo.from_file(io.BytesIO(header + struct.pack(">lbB4s", 0, 0, 0, b"UTC")), key=key)


class Halved(typing.NamedTuple("Halved", [("a", str), ("b", str)])):
    _fields = ("a",)


def closing_over(value: Any) -> Callable[[], Any]:
    return lambda: value


class Native(io.BytesIO):
    def __init__(self) -> None:
        self.a = 1


class Names(types.SimpleNamespace):
    pass


class Date(dt.datetime):
    pass


class Exact(Decimal):
    pass


class Line(deque):
    pass


class Buffer(bytearray):
    pass


class Failure(Exception):
    def __init__(self) -> None:
        self.a = 1


@dataclasses.dataclass
class Guarded:
    lock: Any


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    lock: Any


@attrs.define
class Held:
    lock: Any


class Gate(msgspec.Struct):
    lock: Any


class Safe(enum.Enum):
    LOCK = threading.Lock()


NESTS: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: [value],
    "tuple": lambda value: (value,),
    "mapping": lambda value: {"a": value},
    "mapping of numbers": lambda value: {1: value},
    "deque": lambda value: deque([value]),
    "slice": lambda value: slice(value),
    "objects": lambda value: named.Plain(a=value),
    "slots": lambda value: named.Mixed(one=value),
    "named tuple": named.Pair,
    "model": lambda value: named.Answer.model_construct(text=value),
    "struct": named.Turn,
    "partial": lambda value: functools.partial(named.tool, value),
}

REFUSED: dict[str, Callable[[], Any]] = {
    "generator": generator,
    "generator expression": lambda: (i for i in ()),
    "asynchronous generator": agenerator,
    "coroutine": coroutine,
    "file": lambda: open(__file__),  # noqa: SIM115, PTH123
    "text in memory": lambda: io.StringIO("a"),
    "bytes in memory": lambda: io.BytesIO(b"a"),
    "lock": threading.Lock,
    "reentrant lock": threading.RLock,
    "event": threading.Event,
    "condition": threading.Condition,
    "thread": lambda: threading.Thread(target=print),
    "thread local": threading.local,
    "queue": queue.Queue,
    "simple queue": queue.SimpleQueue,
    "socket": socket.socket,
    "asyncio.Lock": asyncio.Lock,
    "asyncio.Queue": asyncio.Queue,
    "asyncio.Event": asyncio.Event,
    "iterator of a list": lambda: iter([1]),
    "iterator of a dict": lambda: iter({1: 2}),
    "map": lambda: map(str, [1]),
    "zip": lambda: zip([1]),
    "filter": lambda: filter(None, [1]),
    "enumerate": lambda: enumerate([1]),
    "reversed": lambda: reversed([1]),
    "count": itertools.count,
    "keys of a dict": lambda: {1: 2}.keys(),
    "items of a dict": lambda: {1: 2}.items(),
    "mapping proxy": lambda: types.MappingProxyType({"a": 1}),
    "exception": lambda: ValueError("a"),
    "exception of one's own": Failure,
    "exception group": lambda: ExceptionGroup("a", [ValueError("b")]),
    "namespace": lambda: types.SimpleNamespace(a=1),
    "subclass of a namespace": lambda: Names(a=1),
    "arguments of a command line": lambda: argparse.Namespace(a=1),
    "object()": object,
    "instance without attributes": named.Bare,
    "instance without slots filled": named.Slots,
    "weak reference": lambda: weakref.ref(named.Bare),
    "weak set": weakref.WeakSet,
    "frame": lambda: sys._getframe(),
    "code": lambda: generator.__code__,
    "cell": lambda: types.CellType(1),
    "array": lambda: array.array("i", [1]),
    "hash": hashlib.sha256,
    "match": lambda: re.match("a", "a"),
    "template": lambda: string.Template("a"),
    "chain of maps": lambda: collections.ChainMap({"a": 1}),
    "UserDict": lambda: collections.UserDict(a=1),
    "random numbers": lambda: random.Random(1),
    "numpy's random numbers": lambda: np.random.default_rng(1),
    "numpy's type": lambda: np.dtype("i4"),
    "matrix": lambda: np.array([[1]]).view(type("Matrix", (np.ndarray,), {})),
    "masked array": lambda: np.ma.masked_array([1], [True]),
    "record array": lambda: np.rec.array([(1,)], dtype=[("a", "i4")]),
    "subclass of a numpy scalar": lambda: type("Celsius", (np.float64,), {})(1),
    "subclass of a numpy text": lambda: type("Text", (np.str_,), {})("a"),
    "numpy array of texts of any length": lambda: np.array(["x"], np.dtypes.StringDType()),
    "structured scalar": lambda: np.array([(1,)], dtype=[("a", "i4")])[0],
    "structured scalar of objects": lambda: np.array([(1,)], dtype=[("a", object)])[0],
    "array of locks": lambda: np.array([threading.Lock()], dtype=object),
    "zone that raises": lambda: dt.datetime(2024, 1, 1, tzinfo=Loud()),
    "context variable": lambda: contextvars.ContextVar("a"),
    "context": contextvars.copy_context,
    "logger": lambda: logging.getLogger("a"),
    "decimal context": decimal.getcontext,
    "mock": unittest.mock.Mock,
    "magic mock": lambda: unittest.mock.MagicMock(a=1),
    "property": lambda: property(len),
    "class method": lambda: classmethod(len),
    "super": lambda: super(named.Child, named.Child()),
    "getter": lambda: operator.itemgetter(1),
    "method wrapper": lambda: (1).__add__,
    "bound method of a lock": lambda: threading.Lock().acquire,
    "bound method of a generator": lambda: generator().__next__,
    "released view": released,
    "zone without a key": lambda: dt.datetime(2024, 1, 1, tzinfo=zone_of(None)),
    "zone whose key is no text": lambda: dt.datetime(2024, 1, 1, tzinfo=zone_of(b"UTC")),
    "named tuple whose items are not its fields": lambda: Halved("a", "b"),
    "subclass of datetime": lambda: Date(2024, 1, 1),
    "subclass of Decimal": lambda: Exact(1),
    "subclass of deque": Line,
    "subclass of bytearray": Buffer,
    "subclass of BytesIO": Native,
    "module that is not imported": lambda: types.ModuleType("nowhere"),
    "module in place of another": lambda: types.ModuleType("json"),
    "class without a source": lambda: type("Nowhere", (), {}),
    "instance of a class without a source": lambda: having(type("Nowhere", (), {})(), a=1),
    "function without a source": lambda: executed("def ask(): pass", "ask", __name__=__name__),
    "lambda without a source": lambda: executed("ask = lambda: 1", "ask"),
    "method of a class without a source": lambda: (
        executed("class A:\n    def ask(self): pass", "A", __name__=__name__).ask
    ),
    "function that closes over a lock": lambda: closing_over(threading.Lock()),
    "function with a lock as default": lambda: lambda lock=LOCK: lock,
    "partial with a lock": lambda: functools.partial(named.tool, threading.Lock()),
    "method of an instance with a lock": lambda: named.Plain(a=threading.Lock()).__init__,
    "attribute": lambda: named.Plain(a=threading.Lock()),
    "slot": lambda: named.Mixed(one=threading.Lock()),
    "field of a dataclass": lambda: Guarded(threading.Lock()),
    "field of a model": lambda: Loose(lock=threading.Lock()),
    "extra field of a model": lambda: named.Open(lock=threading.Lock()),
    "private field of a model": lambda: having(named.Open(), _secret=threading.Lock()),
    "field of an attrs class": lambda: Held(threading.Lock()),
    "field of a struct": lambda: Gate(threading.Lock()),
    "field of a named tuple": lambda: named.Pair(threading.Lock()),
    "enum member": lambda: Safe.LOCK,
    "key of a mapping": lambda: {threading.Lock(): 1},
    "item of a set": lambda: {threading.Lock()},
    "item of a deque": lambda: deque([threading.Lock()]),
    "default factory": lambda: defaultdict(threading.Lock().acquire),
    "end of a slice": lambda: slice(threading.Lock()),
    "list in itself": cyclic_list,
    "mapping in itself": cyclic_mapping,
    "object in itself": cyclic_object,
    "deque in itself": cyclic_deque,
    "array in itself": cyclic_array,
    "partial in itself": cyclic_partial,
    **{
        f"{name}, 100 000 levels": functools.partial(deep, nest, 100_000)
        for name, nest in NESTS.items()
        if name != "tuple"
    },
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_told_apart_is_refused(make: Callable[[], Any]) -> None:
    value = make()
    for held in (value, [value], {"a": None, "b": (value,)}, named.Plain(a=value)):
        with pytest.raises(UncacheableArgument):
            canonical(held)
    with suppress(AttributeError):
        value.close()


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS.keys())
def test_deep_nests_differ_in_their_depth(nest: Callable[[Any], Any]) -> None:
    assert len({canonical(deep(nest, levels)) for levels in range(60)}) == 60


def test_a_list_nests_two_hundred_levels() -> None:
    assert canonical(deep(lambda value: [value], 199)) == b"[" * 199 + b"1" + b"]" * 199
    assert canonical(deep(lambda value: {1: value}, 199)) == b"!map[[1," * 199 + b"1" + b"]]" * 199


def test_a_stack_that_is_almost_full_changes_no_bytes() -> None:
    value = {"a": [named.Point(1, {named.Color.NAN}), deep(lambda value: [value], 50), NAN]}
    expected = canonical(value)
    found = set()

    def descend(levels: int) -> None:
        if levels:
            return descend(levels - 1)
        with suppress(RecursionError, UncacheableArgument):
            found.add(canonical(value))
        return None

    for levels in range(sys.getrecursionlimit()):
        with suppress(RecursionError):
            descend(levels)
    assert found == {expected}


RUN: list[str] = []
ARMED = contextvars.ContextVar("ARMED", default=False)


class Touched(BaseException):
    """Code of an argument ran."""


def trap(name: str, otherwise: Any = None) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        if ARMED.get():
            RUN.append(name)
            raise Touched(name)
        return otherwise(*args, **kwargs) if callable(otherwise) else otherwise

    return run


def traps(*bases: type) -> dict[str, Any]:
    """Return a namespace in which each special method of *bases* and every common one is a trap."""
    names = {
        *("__eq__", "__ne__", "__lt__", "__hash__", "__repr__", "__str__", "__format__"),
        *("__bytes__", "__bool__", "__len__", "__iter__", "__next__", "__contains__"),
        *("__getitem__", "__call__", "__int__", "__float__", "__index__", "__complex__"),
        *("__reduce__", "__reduce_ex__", "__getstate__", "__copy__", "__deepcopy__", "__dir__"),
        *("__sizeof__", "__fspath__", "__iadd__", "__missing__", "__length_hint__"),
        *("__getnewargs__", "__getnewargs_ex__", "__instancecheck__", "__subclasscheck__"),
        *("__enter__", "__exit__", "__await__", "__rich_repr__", "__json__", "keys"),
        *("items", "values", "get", "copy", "encode", "hex", "isoformat", "tolist", "model_dump"),
    }
    for base in bases:
        names |= {name for name, item in vars(base).items() if callable(item)}
    names -= {"__new__", "__init__", "__init_subclass__", "__class_getitem__", "__subclasshook__"}
    names -= {"__getattribute__", "__setattr__", "__delattr__", "__getattr__", "__class__"}
    found = {
        name: trap(name, next((getattr(b, name) for b in bases if hasattr(b, name)), None))
        for name in names
    }
    found["__hash__"] = trap("__hash__", lambda self: 1)
    for name in ("text", "fields", "__wrapped__", "__self__", "_client", "tzinfo", "dtype"):
        found[name] = property(trap(name))
    return found


class Evil:
    locals().update(traps())


class EvilSlots:
    __slots__ = ("a",)
    locals().update(traps())


class EvilText(str):
    locals().update(traps(str))


class EvilBytes(bytes):
    locals().update(traps(bytes))


class EvilInt(int):
    locals().update(traps(int))


class EvilFloat(float):
    locals().update(traps(float))


class EvilTuple(tuple):
    __slots__ = ()
    locals().update(traps(tuple))


class EvilList(list):
    locals().update(traps(list))


class EvilDict(dict):
    locals().update(traps(dict))


class EvilSet(set):
    locals().update(traps(set))


class EvilFrozen(frozenset):
    locals().update(traps(frozenset))


class EvilDeque(deque):
    locals().update(traps(deque))


class EvilDate(dt.datetime):
    locals().update(traps(dt.datetime))


class EvilUUID(uuid.UUID):
    locals().update(traps())


class EvilPath(pathlib.PurePosixPath):
    locals().update(traps())


class EvilError(Exception):
    locals().update(traps())


class EvilPartial(functools.partial):
    locals().update(traps())


@dataclasses.dataclass(eq=False, repr=False)
class EvilData:
    a: int = 1
    locals().update(traps())


@attrs.define(eq=False, repr=False, slots=False)
class EvilAttrs:
    a: int = 1
    locals().update(traps())


class EvilModel(pydantic.BaseModel):
    a: int = 1
    __eq__ = trap("__eq__")
    __repr__ = __str__ = trap("__repr__")
    __hash__ = trap("__hash__")
    __iter__ = trap("__iter__")
    model_dump = model_dump_json = trap("model_dump")

    @property
    def text(self) -> str:
        return trap("text")()


class EvilStruct(msgspec.Struct):
    a: int = 1
    __eq__ = trap("__eq__")
    __repr__ = __str__ = trap("__repr__")
    __hash__ = trap("__hash__")


class EvilMember(enum.Enum):
    A = 1

    def __eq__(self, other: object) -> Any:
        return trap("__eq__", True)()

    __hash__ = trap("__hash__", lambda self: 1)
    __repr__ = __str__ = trap("__repr__")


class EvilMeta(type):
    __eq__ = trap("__eq__", type.__eq__)
    __repr__ = trap("__repr__")
    __instancecheck__ = trap("__instancecheck__", False)
    __subclasscheck__ = trap("__subclasscheck__", False)
    __getattribute__ = trap("__getattribute__", type.__getattribute__)
    __hash__ = type.__hash__


class EvilClass(metaclass=EvilMeta):
    pass


class EvilWord(str, metaclass=EvilMeta):
    pass


class EvilPair(tuple, metaclass=EvilMeta):
    _fields = ("left",)


@dataclasses.dataclass
class EvilRecord(metaclass=EvilMeta):
    a: int = 1


class EvilSaid(metaclass=EvilMeta):
    def __llmcache_key__(self) -> str:
        return "said"


class EvilEnumMeta(enum.EnumType):
    __getattribute__ = trap("__getattribute__", enum.EnumType.__getattribute__)


class EvilChoice(enum.Enum, metaclass=EvilEnumMeta):
    A = 1


def evil_local_class() -> type:
    class Local(metaclass=EvilMeta):
        word = "a"

        def ask(self) -> str:
            return self.word

    return Local


class EvilAccess:
    __getattribute__ = trap("__getattribute__", object.__getattribute__)


class EvilDisguise:
    __class__ = property(trap("__class__", lambda self: str))


class EvilFallback:
    __getattr__ = trap("__getattr__")


class EvilDictionary:
    __dict__ = property(trap("__dict__"))


class EvilProperties:
    a = property(trap("a"))
    b = functools.cached_property(trap("b"))


class EvilSlot(named.Slots):
    one = property(trap("one"))


def array_of(value: Any) -> np.ndarray:
    made = np.empty(1, dtype=object)
    made[0] = value
    return made


def with_slot(kind: type, **slots: Any) -> Any:
    made = object.__new__(kind)
    for name, value in slots.items():
        vars(named.Slots)[name].__set__(made, value)
    return made


def set_on(value: Any, **attributes: Any) -> Any:
    for name, attribute in attributes.items():
        object.__setattr__(value, name, attribute)
    return value


EVIL = {
    "instance": set_on(Evil(), a=1),
    "instance without attributes": Evil(),
    "slots": set_on(EvilSlots(), a=1),
    "class": EvilClass,
    "instance of an evil class": set_on(EvilClass(), a=1),
    "instance of an evil class that says its key": EvilSaid(),
    "text of an evil class": EvilWord("a"),
    "named tuple of an evil class": EvilPair([1]),
    "dataclass of an evil class": EvilRecord(),
    "member of an evil class": EvilChoice.A,
    "member of an evil class as a key": {EvilChoice.A: 1},
    "evil local class": evil_local_class(),
    "instance of an evil local class": set_on(evil_local_class()(), a=1),
    "text": EvilText("a"),
    "bytes": EvilBytes(b"a"),
    "int": EvilInt(1),
    "float": EvilFloat(1),
    "tuple": EvilTuple([1]),
    "list": EvilList([1]),
    "mapping": EvilDict(a=1),
    "set": EvilSet([1]),
    "frozen set": EvilFrozen([1]),
    "list with attributes": set_on(EvilList([1]), a=1),
    "deque": EvilDeque(),
    "date": EvilDate(2024, 1, 1),
    "UUID": EvilUUID(int=1),
    "path": EvilPath("a"),
    "error": EvilError(),
    "partial": EvilPartial(len),
    "dataclass": EvilData(),
    "attrs": EvilAttrs(),
    "model": EvilModel(),
    "struct": EvilStruct(),
    "enum member": EvilMember.A,
    "key of a mapping": {EvilText("a"): 1},
    "enum member as a key": {EvilMember.A: 1},
    "item of a set": {EvilInt(1)},
    "item of an array": array_of(set_on(Evil(), a=1)),
    "argument of a partial": functools.partial(named.tool, Evil()),
    "key of itself": named.Keyed(set_on(Evil(), a=1)),
    "attribute access": set_on(EvilAccess(), a=1),
    "missing attributes": set_on(EvilFallback(), a=1),
    "disguise": set_on(EvilDisguise(), a=1),
    "properties": set_on(EvilProperties(), c=1),
    "the dictionary": EvilDictionary(),
    "property in place of a slot": with_slot(EvilSlot, one=1, two=2),
    "mock": unittest.mock.Mock(side_effect=trap("mock")),
}


@llm_cached
def through(value: Any) -> int:
    return 1


@pytest.mark.parametrize("value", EVIL.values(), ids=EVIL.keys())
def test_no_code_of_an_argument_runs(value: Any) -> None:
    for held in (value, [None, NAN, value], {"a": named.Plain(a=value)}):
        RUN.clear()
        token = ARMED.set(True)
        try:
            with suppress(UncacheableArgument):
                canonical(held)
            assert through(held) == 1
        finally:
            ARMED.reset(token)
        assert RUN == []


PROGRAM = """
import enum
from llmcache import llm_cached

class Choice(enum.Enum):
    A = 1

    @property
    def value(self):
        raise LookupError

deep = 1
for _ in range(100_000):
    deep = (deep,)
cycle = []
cycle.append({{"a": (cycle,)}})

def below(levels):
    value = 1
    for level in range(100_000):
        value = [value]
    value = (value,)
    for level in range(levels):
        value = [value]
    return value

@llm_cached
def ask(value):
    return "answered"

for value in {values}:
    assert ask(value) == "answered"
"""


@pytest.mark.parametrize(
    "values",
    [
        "[deep, [deep], [[deep]]]",
        "[cycle, [cycle], [[cycle]]]",
        "map(below, range(240, 260))",
        "[Choice.A, [Choice.A]]",
    ],
)
def test_no_argument_ends_the_process(values: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(values=values)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


class Hidden(named.Slots):
    __slots__ = ("one",)


def with_attributes(kind: type, one: Any) -> Any:
    made = with_slot(kind, one=one)
    vars(made).update(one=0)
    return made


@pytest.mark.parametrize(("make", "kind"), [(with_slot, Hidden), (with_attributes, named.Mixed)])
def test_a_slot_that_another_hides_makes_a_difference(make: Any, kind: type) -> None:
    assert form_or_refusal(make(kind, one=1)) != form_or_refusal(make(kind, one=2))


@llm_cached(strict=True)
def complete(messages: Any, *rest: Any, model: str = "m", **options: Any) -> str:
    return "answered"


def message(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


PLAIN = message([{"type": "text", "text": "hi"}])


@pytest.mark.parametrize(
    ("args", "options", "path"),
    [
        (
            ([PLAIN, PLAIN, PLAIN, message([{}, {"file": LOCK}])],),
            {},
            "messages[3].content[1].file",
        ),
        ((LOCK,), {}, "messages"),
        (([LOCK],), {}, "messages[0]"),
        ((((1, LOCK),),), {}, "messages[0][1]"),
        (({"a b": LOCK},), {}, "messages[…]"),
        (({"a" * 41: LOCK},), {}, "messages[…]"),
        (({"": LOCK},), {}, "messages[…]"),
        (({1: LOCK},), {}, "messages[…]"),
        (({LOCK: 1},), {}, "messages[…]"),
        (({1: {"b": [LOCK]}},), {}, "messages[…].b[0]"),
        (({LOCK},), {}, "messages[…]"),
        ((deque([1, LOCK]),), {}, "messages[1]"),
        ((named.Plain(a=[LOCK]),), {}, "messages.a[0]"),
        ((named.Answer.model_construct(text=LOCK),), {}, "messages.text"),
        ((named.Open(text=1, lock=LOCK),), {}, "messages.lock"),
        ((named.Pair(1, LOCK),), {}, "messages.right"),
        ((named.Turn("a", LOCK),), {}, "messages.content"),
        ((named.Items([1, LOCK]),), {}, "messages[1]"),
        (([], LOCK), {}, "[0]"),
        (([],), {"model": LOCK}, "model"),
        (([],), {"tools": [named.tool, LOCK]}, "tools[1]"),
        (([None, NAN, LOCK],), {}, "messages[2]"),
    ],
)
def test_an_error_names_the_place(args: Any, options: Any, path: str) -> None:
    with pytest.raises(UncacheableArgument) as caught:
        complete(*args, **options)
    assert caught.value.path == path
    assert caught.value.function == "keys.test_hostile.complete"
    assert str(caught.value).startswith(f"keys.test_hostile.complete: {path} ")


CANARY = "canary 4711"


def canaries() -> dict[str, Any]:
    local, lock = CANARY, LOCK
    return {
        "exception": ValueError(CANARY),
        "namespace": types.SimpleNamespace(canary=CANARY),
        "attribute": named.Plain(a=CANARY, b=LOCK),
        "key": {CANARY: LOCK},
        "key of a nest": {CANARY: {CANARY: [LOCK]}},
        "key of bytes": {CANARY.encode(): LOCK},
        "neighbour": [CANARY, LOCK, CANARY],
        "set": {CANARY, LOCK},
        "subclass": having(named.Text(CANARY), a=LOCK),
        "named tuple": named.Pair(CANARY, LOCK),
        "model": named.Open(text=CANARY, lock=LOCK),
        "dataclass": named.Point(CANARY, LOCK),
        "struct": named.Turn(CANARY, LOCK),
        "enum": [named.Color.RED, CANARY, LOCK],
        "argument of a partial": functools.partial(named.tool, CANARY, LOCK),
        "closure": lambda: (local, lock),
        "default": lambda text=CANARY, lock=LOCK: text,
        "path": [pathlib.PurePosixPath(CANARY), LOCK],
        "lone surrogates": {CANARY + "\ud800": LOCK},
        "code": executed_without_source(f"ask = lambda: {CANARY!r}"),
        "buffer": io.StringIO(CANARY),
        "iterator": iter([CANARY]),
        "zone": dt.datetime(2024, 1, 1, tzinfo=Loud()),
        "own key": Loud(),
        "schema": Unschemable,
        "member": Loudest.A,
        "deep": deep(lambda value: {CANARY: value}, 300),
    }


def executed_without_source(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(compile(source, "<made>", "exec"), names)
    return names["ask"]


class Loud(dt.tzinfo):
    def utcoffset(self, moment: Any) -> Any:
        raise RuntimeError(CANARY)

    def __llmcache_key__(self) -> Any:
        raise RuntimeError(CANARY)


class Unschemable(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    a: Any = pydantic.Field(default=CANARY)
    lock: threading.Event


class Loudest(enum.Enum):
    A = threading.Lock()


@pytest.mark.parametrize("name", canaries())
def test_no_message_repeats_an_argument(name: str, caplog: pytest.LogCaptureFixture) -> None:
    value = canaries()[name]

    @llm_cached
    def lenient(prompt: str, value: Any) -> str:
        return "answered"

    @llm_cached(strict=True)
    def strict(prompt: str, value: Any) -> str:
        return "answered"

    with caplog.at_level("DEBUG"):
        assert lenient(CANARY, value) == "answered"
    assert len(caplog.records) == 1
    assert "canary" not in caplog.text
    assert "4711" not in caplog.text
    if name in {"zone", "own key"}:
        return
    with pytest.raises(UncacheableArgument) as caught:
        strict(CANARY, value)
    assert "canary" not in str(caught.value)
    assert "4711" not in str(caught.value)
    assert caught.value.__cause__ is None
