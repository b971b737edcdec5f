"""Whatever stands in a store: the caller gets an answer, and nothing is imported or run."""

from __future__ import annotations

import ast
import asyncio
import base64
import copy
import dataclasses
import enum
import hashlib
import json
import pickle
import random
import sys
import time
import types
from collections import namedtuple
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from loopback import LoopbackProvider, load_recordings
from pydantic import BaseModel
from sdk import call
from twins import World, worlds

import llmcache
from codec.planting import Upstream, entry, payload, sealed
from codec.samples import (
    Access,
    Answer,
    Box,
    Choice,
    Color,
    FrozenPoint,
    Node,
    Pair,
    Plain,
    Point,
    Shape,
    SlottedPoint,
    Usage,
)
from codec.trips import no_code_of, no_import, of_samples
from llmcache.codec.classes import ClassGone
from llmcache.codec.frame import CorruptEntry, Frame, UnreadableEntry
from llmcache.codec.shapes import fingerprint
from llmcache.codec.tree import PLAIN, TEXT, TREE, decode, encode, same

PACKAGE = Path(llmcache.__file__).parent
RECORDINGS = load_recordings(Path(__file__).parents[1] / "recordings.jsonl")
SYNC = World("sync")
DIGEST = bytes(range(32))


@pytest.fixture(scope="module")
def completion():
    """A real completion of the real SDK, of about one kilobyte."""
    chats = [r for r in RECORDINGS if r.kind == "openai.chat" and r.status == 200 and not r.stream]
    chats = [r for r in chats if len(json.dumps(r.response)) > 700]
    with LoopbackProvider(chats) as provider:
        return call(min(chats, key=lambda r: len(json.dumps(r.response))), provider)


@pytest.fixture
def whole(completion):
    """That completion's sealed entry, and the function that it is an answer of."""
    upstream = Upstream(SYNC, completion)
    data = upstream.stored() if upstream.ask() is completion else b""
    assert 900 < len(data) < 2500
    return upstream, data


def check_miss(upstream, data):
    calls = upstream.calls
    upstream.plant(data)
    assert upstream.ask() == "from upstream"
    assert upstream.calls == calls + 1


def test_an_entry_that_is_whole_is_a_hit(whole):
    upstream, data = whole
    upstream.plant(data)
    assert same(upstream.ask(), upstream.answer)
    assert upstream.calls == 1


def test_every_flipped_bit_is_a_miss(whole):
    upstream, data = whole
    upstream.answer = "from upstream"
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            check_miss(upstream, bytes(changed))
    assert upstream.stats.corrupt == 8 * len(data)
    assert upstream.stats.errors == upstream.stats.rejected == 0


def test_every_cut_is_a_miss(whole):
    upstream, data = whole
    upstream.answer = "from upstream"
    for place in range(len(data)):
        check_miss(upstream, data[:place])
        check_miss(upstream, data[place + 1 :])
        check_miss(upstream, data[:place] + data[place + 1 :])
    assert upstream.stats.corrupt == 3 * len(data)


def test_what_is_added_is_a_miss(whole):
    upstream, data = whole
    upstream.answer = "from upstream"
    for changed in (data + b"\0", b"\0" + data, data + data, data + b"\n", data[::-1]):
        check_miss(upstream, changed)


@worlds
@pytest.mark.parametrize("encrypt", [None, bytes(32)], ids=["plain", "encrypted"])
@pytest.mark.parametrize("compress", [None, "zlib", "zstd"])
def test_flipped_bits_and_cuts_are_misses_in_every_form(world, encrypt, compress):
    upstream = Upstream(world, "answer " * 3000, encrypt=encrypt, compress=compress)
    upstream.ask()
    data = upstream.stored()
    upstream.answer = "from upstream"
    chosen = random.Random(0)
    for _ in range(50):
        changed = bytearray(data)
        changed[chosen.randrange(min(len(data), 400))] ^= 1 << chosen.randrange(8)
        check_miss(upstream, bytes(changed))
        check_miss(upstream, data[: chosen.randrange(len(data))])
    assert upstream.stats.corrupt == 100


@pytest.mark.parametrize(
    "data",
    [b"", b"LLMC", bytes(99), bytes(100), bytes(5000), b"\x80\x04N.", b'{"a":1}', b"\x1f\x8b" * 99],
)
@worlds
def test_foreign_bytes_are_a_miss_and_are_replaced(world, data):
    upstream = Upstream(world)
    check_miss(upstream, data)
    assert upstream.stats.corrupt == 1
    assert upstream.ask() == "from upstream"
    assert (upstream.stats.hits, upstream.calls) == (1, 1)


@worlds
@pytest.mark.parametrize(
    "data", ["text", 5, [], bytearray(200), memoryview(bytes(200)), np.zeros(200), object()]
)
def test_what_is_no_bytes_is_a_miss(world, data):
    upstream = Upstream(world)
    check_miss(upstream, data)
    assert upstream.stats.corrupt == 1


@given(st.binary(max_size=400))
def test_random_bytes_are_no_entry(data):
    for frame in (Frame(max_plain=1000), Frame(max_plain=1000, compress="zlib")):
        with pytest.raises(CorruptEntry):
            frame.unseal(data, DIGEST)


@given(st.binary(min_size=84, max_size=400), st.binary(min_size=32, max_size=32))
def test_random_bytes_with_a_right_checksum_are_refused_or_read(body, digest):
    for start in (b"", b"LLMC\1", b"LLMC\1\0", b"LLMC\1\2\1\1"):
        changed = start + body[len(start) : 52] + digest + body[84:]
        data = hashlib.sha256(changed).digest()[:16] + changed
        try:
            _, found = Frame(max_plain=1000).unseal(data, digest)
        except (CorruptEntry, UnreadableEntry):
            continue
        assert len(found) <= len(data)


def test_an_answer_of_another_key_is_a_miss(whole):
    upstream, _ = whole
    upstream.ask("other prompt")
    [other] = [
        data for key, data in upstream.store.held.items() if not key.endswith(upstream.digest.hex())
    ]
    upstream.answer = "from upstream"
    check_miss(upstream, bytes(other))
    assert upstream.stats.corrupt == 1


LONG = random.Random(0).randbytes(10**6).hex()
USAGE = ["pydantic", "codec.samples:Usage", fingerprint(["tokens", "details"])]
POINT = ["object", "codec.samples:Point", fingerprint(["x", "y"]), ["x", "y"]]
EMPTY = fingerprint([])
NOT_JSON = [
    b"",
    b"\n",
    b"[]",
    b"[]\n",
    b"[]\n[",
    b"[]\nnan",
    b"{}\n[]\n[]",
    b'[["pydantic"',
    b"\xff\xfe[]\n[1]",
    b"[]\n\xff",
    b'[]\n"\\ud800"',
    b"[" * 10**6,
    b"[]\n" + b"[" * 10**6,
    b"[]\n" + b'{"a":' * 10**6,
    b"[]\n" + b'{"!":["tuple",' * 10**5,
    b"[" * 400 + b"]" * 400 + b"\n[]",
    pickle.dumps(["planted"]),
    b"cos\nsystem\n(S'echo planted'\ntR.",
    b"[]\n" + pickle.dumps(Plain()),
]
TOO_DEEP = [
    b"[]\n" + b'{"!":["tuple",' * 500 + b"1" + b"]}" * 500,
    b"[]\n" + b'{"a":' * 1000 + b"1" + b"}" * 1000,
]
TAGS = [
    None,
    1,
    True,
    "int",
    "",
    [],
    {},
    {"int": 1},
    {"!": 1},
    [None],
    [True, 1],
    [False],
    [0.0],
    [1.5],
    [-1],
    [1],
    [99],
    [10**18],
    [[]],
    [{}],
    [""],
    ["object"],
    ["pydantic"],
    ["registered"],
    ["os:system", "true"],
    ["!"],
    ["list", 1],
    ["eval", "1"],
    ["set", []],
    ["set", {}],
    ["frozenset", {"a": 1}],
    ["dict", 1],
    ["dict", [1]],
    ["dict", [1, 2, 3]],
    ["dict", [[], 1]],
    ["int"],
    ["int", 1],
    ["int", ""],
    ["int", "xyz"],
    ["int", None],
    ["float", "one"],
    ["float", []],
    ["text", "f"],
    ["text", "zz"],
    ["text", "ff"],
    ["text", None],
    ["bytes", "%%%%"],
    ["bytes", 5],
    ["bytes", "AAA"],
    ["bytearray", 10**9],
    ["complex", "1+1j"],
    ["complex", [1]],
    ["date", "2025-13-01"],
    ["date", 0],
    ["time", ["25:00:00", 0, None]],
    ["time", ["01:00:00", 2, None]],
    ["datetime", ["2025-01-01"]],
    ["datetime", ["never", 0, None]],
    ["datetime", ["2025-01-01", 0, []]],
    ["datetime", ["2025-01-01", 0, "utc"]],
    ["datetime", ["2025-01-01", 0, ["zone"]]],
    ["datetime", ["2025-01-01", 0, ["timezone", [2, 0, 0], None]]],
    ["datetime", ["2025-01-01", 0, ["timezone", "1", "a"]]],
    ["datetime", ["2025-01-01", 0, ["pydantic", 1e300]]],
    ["datetime", ["2025-01-01", 0, ["pydantic", "a"]]],
    ["timedelta", [10**18]],
    ["timedelta", [1, 2, 3, 4, 5, 6, 7, 8]],
    ["timedelta", ["a"]],
    ["decimal", "one"],
    ["decimal", {}],
    ["decimal", None],
    ["fraction", ["1", "0"]],
    ["fraction", ["1"]],
    ["uuid", "1234"],
    ["uuid", 5],
    ["range", ["0", "1", "0"]],
    ["range", []],
    ["range", ["1"]],
    ["complex", ["1"]],
    ["range", ["0", "1", "1", "1"]],
    ["path", []],
    ["path", None],
    ["pureposixpath", 5],
    ["purewindowspath", {}],
    ["ndarray", ["O", [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["|O8", [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["|O", [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["V8", [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["|V8", [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["i4,O", [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["<i8\n", [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", [["<i8"], [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["<i8", [2], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["<i8", [10**18], "C", ""]],
    ["ndarray", ["<i8", [-5, 3], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["<i8", ["a"], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["<i8", [1] * 100, "C", "AAAAAAAAAAA="]],
    ["ndarray", ["<i8", [1], "K", "AAAAAAAAAAA="]],
    ["ndarray", ["<i8", [1], "C", "AAA="]],
    ["ndarray", ["<U999999999", [1], "C", "AAAA"]],
    ["ndarray", ["<M8[parsec]", [1], "C", "AAAAAAAAAAA="]],
    ["ndarray", ["?9", [1], "C", "AA=="]],
    ["ndarray", []],
    ["ndarray"],
    ["numpy", ["O", "AAAAAAAAAAA="]],
    ["numpy", ["|V8", "AAAAAAAAAAA="]],
    ["numpy", ["<i8", ""]],
    ["numpy", ["<U0", ""]],
    ["numpy", "<i8"],
]
SHAPES = [
    [],
    [None],
    [[]],
    [["object"]],
    [["nothing", "codec.samples:Usage"]],
    [["__class__", "codec.samples:Usage"]],
    [[["object"], "codec.samples:Usage"]],
    [POINT[:3]],
    [[*POINT[:2], EMPTY, []]],
    [[*POINT[:3], ["x"]]],
    [[*POINT[:3], [["x"], "y"]]],
    [["object", "codec.samples:Usage", USAGE[2], []]],
    [["pydantic", "codec.samples:Point", POINT[2], [], [0], 0, 0, {}]],
    [["namedtuple", "codec.samples:Point", POINT[2]]],
    [["msgspec", "codec.samples:Point", POINT[2]]],
    [["enum", "codec.samples:Point", POINT[2], "x"]],
    [["registered", "codec.samples:Plain"]],
    [["object", "codec.samples:Plain", EMPTY, ["text"]]],
    [["namedtuple", "codec.samples:Items", EMPTY]],
    [["object", "os:system", EMPTY, []]],
    [["object", "subprocess:Popen", EMPTY, ["args"]]],
    [["registered", "subprocess:Popen"]],
    [["namedtuple", "builtins:eval", EMPTY]],
    [["object", "builtins:type", EMPTY, []]],
    [["enum", "enum:EnumType", EMPTY, "x"]],
    [["enum", "enum:Enum", EMPTY, "__init__"]],
    [["namedtuple", "builtins:tuple", EMPTY]],
    [["pydantic", "builtins:object", EMPTY, [], [0], 0, 0, {}]],
    [["object", "antigravity:x", EMPTY, []]],
    [["object", "this:x", EMPTY, []]],
    [["object", "codec.unknown:Thing", EMPTY, []]],
    [["object", "xml.dom.minidom:Node", EMPTY, []]],
    [["object", 5, EMPTY, []]],
    [["object", None, EMPTY, []]],
    [["object", {}, EMPTY, []]],
    [["object", "", EMPTY, []]],
    [["object", ":", EMPTY, []]],
    [["object", "codec.samples:" + "Usage." * 5000, EMPTY, []]],
    [["object", ["codec.samples:Box", "builtins:int"], EMPTY, []]],
    [["pydantic", [], EMPTY, [], [0], 0, 0, {}]],
    [["pydantic", ["codec.samples:Box"], EMPTY, [], [0], 0, 0, {}]],
    [["pydantic", ["codec.samples:Box", "builtins:eval"], EMPTY, [], [0], 0, 0, {}]],
    [["pydantic", ["codec.samples:Box", 5], EMPTY, [], [0], 0, 0, {}]],
    [["pydantic", ["codec.samples:Usage", "builtins:int"], USAGE[2], [], [0], 0, 0, {}]],
    [[*USAGE, [], [1], 0, 0, {"tokens": 0}]],
    [[*USAGE, [], [1], 0, 0, {"tokens": -1}]],
    [[*USAGE, [], [1], 0, 0, {"tokens": [0]}]],
    [[*USAGE, [], [1], 0, 0, {"nothing": None}]],
    [[*USAGE, [], [1], 2, 2, {}]],
    [[*USAGE, 5, [1], 0, 0, {}]],
    [[*USAGE, [], [0, "tokens", []], 0, 0, {}]],
    [[*USAGE, [], [1e9], 0, 0, {}]],
    [[*USAGE, [9], [1], 0, 0, {}]],
    {"object": 1},
    "object",
    5,
]


def nested(name, depth):
    for _ in range(depth):
        name = ["codec.samples:Box", name]
    return name


@worlds
def test_a_payload_that_is_none_is_a_miss_and_is_replaced(world):
    upstream = Upstream(world)
    for number, written in enumerate(NOT_JSON, 1):
        upstream.plant_payload(TREE, written)
        with no_import(), no_code_of(of_samples):
            assert upstream.ask() == "from upstream"
            assert upstream.ask() == "from upstream"
        assert (upstream.stats.corrupt, upstream.calls) == (number, number), written[:40]
    for number, written in enumerate(TOO_DEEP, 1):
        upstream.plant_payload(TREE, written)
        assert upstream.ask() == "from upstream"
        assert upstream.ask() == "from upstream"
        assert upstream.calls == len(NOT_JSON) + number
    assert upstream.stats.errors == 0


@worlds
def test_a_plain_payload_that_is_none_is_a_miss_and_is_replaced(world):
    upstream = Upstream(world)
    hostile = [
        b"",
        b"[",
        b"nan",
        b"\xff",
        b'"\\ud800"',
        b"1 2",
        b"[" * 10**6,
        b"'a'",
        b"\x80\x04N.",
    ]
    for number, written in enumerate(hostile, 1):
        upstream.plant_payload(PLAIN, written)
        assert upstream.ask() == "from upstream"
        assert (upstream.stats.corrupt, upstream.calls) == (number, number)


@worlds
@pytest.mark.parametrize("payload", [b"\xff", b"a\xc3", b"\xed\xa0\x80"])
def test_a_payload_that_is_no_text_is_a_miss_and_is_replaced(world, payload):
    upstream = Upstream(world)
    upstream.plant_payload(TEXT, payload)
    assert upstream.ask() == "from upstream"
    assert (upstream.stats.corrupt, upstream.calls) == (1, 1)


@worlds
@pytest.mark.parametrize("codec", [4, 5, 127, 255])
def test_a_payload_of_another_codec_is_a_miss_and_is_replaced(world, codec):
    upstream = Upstream(world)
    upstream.plant_payload(codec, b"1")
    assert upstream.ask() == "from upstream"
    assert (upstream.stats.corrupt, upstream.calls) == (1, 1)


@worlds
def test_a_forged_tag_is_a_miss_and_is_replaced(world):
    upstream = Upstream(world)
    places = [
        lambda tag: tag,
        lambda tag: [tag],
        lambda tag: {"a": [tag]},
        lambda tag: {"!": ["tuple", 1, tag]},
        lambda tag: {"!": ["dict", ["a", tag]]},
        lambda tag: {"!": [0, {"details": tag}]},
        lambda tag: {"!": [0, {"details": {"a": [tag]}}]},
    ]
    shape = [*USAGE, [], [2], 0, 0, {"details": None}]
    calls = 0
    for place in places:
        for tag in TAGS:
            written = payload([shape], place({"!": tag}))
            if place is places[0] and tag in ([0.0], [False]):
                continue
            upstream.plant_payload(TREE, written)
            with no_import(), no_code_of(of_samples):
                assert upstream.ask() == "from upstream", written
            calls += 1
            assert upstream.stats.corrupt == upstream.calls == calls
    assert upstream.stats.errors == 0


@pytest.mark.parametrize(
    "word",
    [
        ["int", "f" * 8194],
        ["decimal", "9" * 8194],
        ["float", "9" * 8194],
        ["fraction", ["1", "f" * 514]],
        ["range", ["0", "f" * 514, "1"]],
        *[
            [kind, *[{"!": ["int", f"{n * (2**61 - 1):x}"]} for n in range(20, 54)]]
            for kind in ("set", "frozenset")
        ],
        ["dict", *[[{"!": ["int", f"{n * (2**61 - 1):x}"]}, 1] for n in range(20, 54)]],
    ],
    ids=lambda word: word[0],
)
def test_what_would_take_long_makes_the_payload_none(word):
    with pytest.raises(ValueError, match="too many"):
        decode(TREE, payload([], {"!": word}))


@worlds
def test_a_forged_shape_is_a_miss_and_is_replaced(world):
    upstream = Upstream(world)
    for calls, shapes in enumerate(SHAPES, 1):
        written = payload(shapes, {"!": [0, {"tokens": [1]}, 2]})
        upstream.plant_payload(TREE, written)
        with no_import(), no_code_of(of_samples):
            assert upstream.ask() == "from upstream", written
            assert upstream.ask() == "from upstream"
        assert upstream.calls == calls
    assert upstream.stats.errors == 0
    assert upstream.stats.hits == len(SHAPES)


@worlds
def test_names_that_nest_without_end_are_a_miss(world):
    upstream = Upstream(world)
    for depth in (2, 50, 250):
        shape = ["pydantic", nested("nowhere:Thing", depth), EMPTY, [], [0], 0, 0, {}]
        upstream.plant_tree([shape], {"!": [0, {}]})
        assert upstream.ask() == "from upstream"
    assert upstream.calls == 3


@worlds
@pytest.mark.parametrize(
    "word",
    [
        ["decimal", "9" * 10**6],
        ["decimal", "1e999999999"],
        ["int", "f" * 10**6],
        ["fraction", ["f" * 10**5, "3"]],
        ["fraction", [LONG, LONG[:-1]]],
        ["complex", ["9" * 10**6, "0"]],
        ["range", ["0", LONG * 4, LONG]],
        ["set", *[{"!": ["int", f"{n * (2**61 - 1):x}"]} for n in range(20, 16_000)]],
        ["frozenset", *[{"!": ["decimal", f"{n * (2**61 - 1)}"]} for n in range(20, 16_000)]],
        ["dict", *[[{"!": ["uuid", [f"{n * (2**61 - 1):032x}", 0]]}, n] for n in range(16_000)]],
        ["range", ["0", f"{10**18:x}", "1"]],
        ["float", "9" * 10**6],
        ["text", "00" * 10**6],
        ["bytes", base64.b64encode(bytes(10**6)).decode()],
    ],
    ids=lambda word: word[0] + str(len(str(word[1]))),
)
def test_what_is_long_is_read_in_no_time(world, word):
    upstream = Upstream(world)
    upstream.key()
    started = time.process_time()
    upstream.plant_tree([], {"!": word})
    upstream.ask()
    assert time.process_time() - started < 2
    assert upstream.stats.errors == 0


@worlds
def test_tags_of_other_libraries_are_data(world):
    planted = [
        {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}},
        {"py/object": "os.system", "py/reduce": [{"py/type": "os.system"}, ["true"]]},
        {"__class__": "subprocess.Popen", "__init__": ["true"]},
        {"$type": "System.Diagnostics.Process"},
        {"!!python/object/apply:os.system": ["true"]},
    ]
    upstream = Upstream(world)
    with no_import():
        upstream.plant_payload(PLAIN, orjson.dumps(planted))
        assert upstream.ask() == planted
        upstream.plant_payload(TREE, payload([], planted))
        assert upstream.ask() == planted


class Trap:
    """Notices when it is asked for anything."""

    asked: list[str] = []


def trap(*names):
    """Return a metaclass whose classes notice what they are asked for."""

    def noticed(self, *_):
        Trap.asked.append(type(self).__name__)
        raise AssertionError("it was asked")

    return type("Meta", (type,), dict.fromkeys(names, noticed))


@pytest.fixture
def trapped(monkeypatch):
    """A module that is lazy, and full of classes that must not be asked for anything."""
    module = types.ModuleType("codec_traps")
    Trap.asked = []

    def lazy(name):
        Trap.asked.append(name)
        raise AssertionError("it was asked")

    module.__getattr__ = lazy
    module.Properties = type(
        "Properties",
        (),
        {"_fields": property(lazy), "__dict__": property(lazy), "x": property(lazy)},
    )
    module.Called = trap("__call__", "__instancecheck__", "__subclasscheck__")("Called", (), {})
    module.New = type("New", (Point,), {"__new__": lazy, "__init__": lazy, "__setattr__": lazy})
    module.Asked = trap("__getattr__")("Asked", (), {})
    monkeypatch.setitem(sys.modules, "codec_traps", module)
    return module


@worlds
@pytest.mark.parametrize(
    "kind", ["object", "pydantic", "namedtuple", "enum", "msgspec", "registered"]
)
@pytest.mark.parametrize("name", ["Lazy", "Properties", "Called", "New", "Properties.x", "Lazy.x"])
def test_no_class_is_asked_to_do_anything(world, trapped, kind, name):
    upstream = Upstream(world)
    more = [["x", "y"]] if kind == "object" else [[], ["x"], 0, 0, {}]
    upstream.plant_tree([[kind, f"codec_traps:{name}", POINT[2], *more]], {"!": [0, {}, 2, 3]})
    assert upstream.ask() == "from upstream"
    assert Trap.asked == []
    assert upstream.calls == 1


@worlds
@pytest.mark.parametrize(
    "kind", ["object", "pydantic", "namedtuple", "enum", "msgspec", "registered"]
)
def test_no_metaclass_is_asked_for_attributes(world, trapped, kind):
    upstream = Upstream(world)
    upstream.plant_tree([[kind, "codec_traps:Asked", POINT[2], []]], {"!": [0]})
    assert upstream.ask() == "from upstream"
    assert Trap.asked == []


class Told:
    """What its metaclasses were asked."""

    asked: list[str] = []

    @classmethod
    def under(cls, base):
        """Return a metaclass that tells, below that of a class."""

        def tell(name):
            def telling(kind, *args, **kwargs):
                cls.asked.append(name)
                return getattr(super(meta, kind), name)(*args, **kwargs)

            return telling

        told = ("__getattribute__", "__call__", "__hash__", "__eq__", "__instancecheck__")
        space = {name: tell(name) for name in told}
        meta = type("Meta", (type(base),), space | {"__members__": property(tell("__members__"))})
        return meta


class ToldModel(BaseModel, metaclass=Told.under(BaseModel)):
    x: int = 1


@dataclasses.dataclass
class ToldData(metaclass=Told.under(object)):
    x: int = 1


@attrs.define(slots=False)
class ToldShape(metaclass=Told.under(object)):
    x: int = 1


class ToldPair(namedtuple("ToldPair", "x"), metaclass=Told.under(object)):
    __slots__ = ()


class ToldColor(enum.Enum, metaclass=Told.under(enum.Enum)):
    RED = 1


class ToldAccess(enum.Flag, metaclass=Told.under(enum.Flag)):
    READ = 1
    WRITE = 2


class ToldText(str, metaclass=Told.under(object)):
    pass


class ToldPlain(metaclass=Told.under(object)):
    pass


llmcache.register_type(ToldPlain, encode=lambda _: 1, decode=lambda _: 1)


@pytest.mark.parametrize(
    "value",
    [
        ToldModel(),
        ToldData(),
        ToldShape(),
        ToldPair(1),
        ToldColor.RED,
        ToldAccess.READ,
        ToldText("a"),
        ToldPlain(),
    ],
    ids=range(8),
)
def test_no_metaclass_is_asked_for_anything(value):
    written = encode([value])
    Told.asked.clear()
    [found] = decode(*written)
    assert Told.asked == []
    assert type(found) in {type(value), int}


def test_no_metaclass_is_asked_to_combine_flags():
    written = encode([ToldAccess(3)])
    Told.asked.clear()
    with pytest.raises(ClassGone):
        decode(*written)
    assert Told.asked == []


@worlds
def test_an_object_that_is_made_runs_nothing(world, trapped):
    upstream = Upstream(world)
    upstream.plant_tree([["object", "codec_traps:New", *POINT[2:]]], {"!": [0, 1, 2]})
    answer = upstream.ask()
    assert type(answer) is trapped.New
    assert (answer.x, answer.y, upstream.calls) == (1, 2, 0)
    assert Trap.asked == []


def test_a_zone_that_is_not_there_is_not_imported():
    decode(*encode(datetime(2025, 1, 1, tzinfo=ZoneInfo("UTC"))))
    outside = ["/etc/passwd", "../../etc/passwd", "Europe/../../../../etc/passwd"]
    for name in ("Nowhere/Thing", "os/path", "tzdata", "\0", "", 5, None, *outside):
        with no_import(), pytest.raises(ClassGone):
            decode(TREE, payload([], {"!": ["datetime", ["2025-01-01", 0, ["zone", name]]]}))


@worlds
def test_a_whole_entry_of_the_wrong_time_is_a_miss(world):
    upstream = Upstream(world)
    upstream.key()
    nan, inf = float("nan"), float("inf")
    for said in (
        {"created": nan},
        {"expires": nan},
        {"created": inf},
        {"expires": -inf},
        {"created": time.time() + 3600},
        {"expires": 0.0},
    ):
        calls = upstream.calls
        upstream.plant_payload(PLAIN, b'"planted"', **said)
        assert upstream.ask() == "from upstream"
        assert upstream.calls == calls + 1
    upstream.plant_payload(PLAIN, b'"planted"', created=0.0, ttl=nan)
    assert upstream.ask() == "planted"


@worlds
@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1e300])
def test_a_duration_that_is_none_spoils_no_numbers(world, duration):
    upstream = Upstream(world)
    upstream.plant_payload(PLAIN, b'"planted"', duration=duration)
    upstream.ask()
    assert 0 <= llmcache.stats().time_saved < 1


@worlds
@pytest.mark.parametrize("length", [0, 1, 2**16, 2**31, 2**32 - 1])
def test_metadata_of_any_length_is_read_or_a_miss(world, length):
    upstream = Upstream(world)
    data = bytearray(sealed(entry(codec=PLAIN, metadata=b""), b'"planted"', upstream.digest))
    data[24:28] = length.to_bytes(4, "little")
    data[:16] = hashlib.sha256(data[16:]).digest()[:16]
    upstream.plant(bytes(data))
    assert upstream.ask() == ("from upstream" if length else "planted")


@worlds
@pytest.mark.parametrize("length", [0, 1, 10, 2**31, 2**63, 2**64 - 1])
def test_a_payload_of_another_length_than_it_says_is_a_miss(world, length):
    upstream = Upstream(world)
    data = bytearray(sealed(entry(codec=PLAIN), b'"planted"', upstream.digest))
    data[28:36] = length.to_bytes(8, "little")
    check_miss(upstream, hashlib.sha256(data[16:]).digest()[:16] + bytes(data[16:]))


def rich():
    """Return a value of every kind, as its payload says it."""
    value = [
        Answer(id="1", choices=[Choice(index=0)], usage=Usage(details=(1, {2})), more=[Usage()]),
        Node(name="a", children=[Node(name="b", children=[Node(name="c")])]),
        Box[int](item=1),
        [Point([1]), SlottedPoint(1, 2), FrozenPoint(), Pair(1), Shape("a")],
        {"!": 1, "a": {(1, 2): Color.RED, Access(3): Access.READ}},
        {1.5, None, "a", FrozenPoint()},
        [2**70, float("nan"), "\ud800", b"a", bytearray(b"a"), 1j, range(3), ...],
    ]
    shapes, _, tree = encode(value)[1].partition(b"\n")
    return [orjson.loads(shapes), orjson.loads(tree)]


RICH = rich()
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["!", "tuple", "set", "dict", "int", "pydantic", "object", "enum", "x", "ff", ""]
    ),
    st.sampled_from(["os:system", "builtins:eval", "builtins:type", "codec.samples:Plain"]),
    st.sampled_from(["codec.samples:Usage", "codec.samples:Point", "codec.samples:Answer"]),
    st.sampled_from([[], {}, {"!": []}, {"!": ["int", "ff"]}, {"!": [0]}, {"!": [3, {}]}]),
)


def places(node, path=()):
    yield path
    if isinstance(node, list | dict):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield from places(node[key], (*path, key))


PLACES = list(places(RICH))[1:]


@st.composite
def mutated(draw):
    """Return the rich value's payload with some of its parts replaced, gone, doubled or moved."""
    tree = copy.deepcopy(RICH)
    for _ in range(draw(st.integers(1, 4))):
        *path, last = draw(st.sampled_from(PLACES))
        node = tree
        try:
            for key in path:
                node = node[key]
            old = node[last]
        except (LookupError, TypeError):
            continue
        if not isinstance(node, list | dict):
            continue
        how = draw(st.sampled_from(["replace", "remove", "double", "wrap", "tag", "other"]))
        if how == "remove":
            del node[last]
        elif how == "replace":
            node[last] = draw(ATOMS)
        elif how == "double" and isinstance(node, list):
            node.insert(last, copy.deepcopy(old))
        elif how == "wrap":
            node[last] = [old]
        elif how == "tag":
            node[last] = {"!": [draw(ATOMS), old]}
        else:
            other = RICH
            for key in draw(st.sampled_from(PLACES)):
                other = other[key]
            node[last] = copy.deepcopy(other)
    return b"\n".join(orjson.dumps(part) for part in tree)


def but_hashes(code):
    return of_samples(code) and code.co_name not in {"__hash__", "__eq__"}


@given(mutated())
@example(b"\n".join(orjson.dumps(part) for part in RICH))
def test_a_changed_payload_is_a_value_or_none(written):
    with no_import(), no_code_of(but_hashes):
        try:
            value = decode(TREE, written)
        except ClassGone:
            return
        except Exception:
            return
        assert type(value) is not Plain


@given(mutated())
def test_a_changed_payload_never_breaks_a_call(written):
    upstream = Upstream(SYNC)
    upstream.plant_payload(TREE, written)
    upstream.ask()
    assert upstream.stats.calls == 1
    assert upstream.stats.errors == 0
    assert upstream.calls == upstream.stats.misses


def test_a_changed_payload_never_breaks_a_task():
    chosen = random.Random(0)
    upstream = Upstream(World("async"))
    upstream.key()

    async def ask():
        for _ in range(300):
            tree = copy.deepcopy(RICH)
            *path, last = chosen.choice(PLACES)
            node = tree
            for key in path:
                node = node[key]
            node[last] = chosen.choice([None, -1, {"!": [1]}, [], "x", 1.5])
            upstream.plant_payload(TREE, b"\n".join(orjson.dumps(part) for part in tree))
            await upstream.function("prompt")

    asyncio.run(ask())
    assert upstream.stats.calls == 300
    assert upstream.stats.errors == 0


FORBIDDEN_MODULES = {
    *("pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"),
    *("yaml", "runpy", "pkgutil", "pydoc", "code", "codeop", "imp", "builtins", "ctypes"),
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
FORBIDDEN_NAMES = {"__builtins__", "resolve_name", "locate", "run_module", "run_path"}
# A function's source is compiled to find out whether it is the function's; it is never run.
ALLOWED = {("sources.py", "compile"), ("sources.py", "exec")}
# What is no text in the package, lest something is looked up by it.
FORBIDDEN_TEXTS = (FORBIDDEN_MODULES | FORBIDDEN_CALLS | FORBIDDEN_NAMES) - {"code", "builtins"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def constants_of(tree, name):
    """Yield the tuples of texts that a name runs over in a module."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.For)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
        ):
            yield ast.literal_eval(node.iter)


def check_runs_no_data(tree, path=None):
    """Check a module's syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not FORBIDDEN_MODULES & {name.partition(".")[0] for name in names}
            assert not (FORBIDDEN_NAMES | FORBIDDEN_CALLS) & set(names)
            assert not (isinstance(node, ast.ImportFrom) and node.module == "importlib")
        if isinstance(node, ast.Name):
            assert node.id not in FORBIDDEN_CALLS or (path and (path.name, node.id) in ALLOWED)
            assert node.id not in FORBIDDEN_NAMES
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            assert node.attr not in (FORBIDDEN_CALLS | FORBIDDEN_NAMES) - {"compile"}
            assert node.attr != "compile" or owner == "re"
            assert owner != "importlib" or node.attr == "import_module"
        if isinstance(node, ast.Constant):
            known = path and (path.name, node.value) in ALLOWED
            assert known or node.value not in FORBIDDEN_TEXTS
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "import_module"
    ]
    for node in calls:
        [argument] = node.args
        assert isinstance(argument, ast.Name)
        [names] = constants_of(tree, argument.id)
        assert isinstance(names, tuple)
        assert all(isinstance(name, str) for name in names)
    assert bool(calls) == (path == PACKAGE / "codec" / "compression.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_source_can_run_data(path):
    check_runs_no_data(ast.parse(path.read_text(encoding="utf-8")), path)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import _pickle as p",
        "from pickle import loads",
        "import yaml.loader",
        "import runpy",
        "from pkgutil import resolve_name",
        "import pydoc",
        "import builtins",
        "from importlib import import_module",
        "import importlib\nimportlib.import_module(name)",
        "import importlib\nimportlib.__import__(name)",
        "eval(data)",
        "compile(data, '', 'eval')",
        "__builtins__",
        '__builtins__["eval"](data)',
        'vars(module)["eval"](data)',
        'getattr(module, "exec")(data)',
        'sys.modules["pickle"].loads(data)',
        'sys.modules.get("_pickle").loads(data)',
        "pydoc.locate(name)",
        "module.resolve_name(name)",
        "module.eval(data)",
        "module.compile(data)",
    ],
)
def test_a_source_that_could_run_data_is_found(source):
    with pytest.raises((AssertionError, ValueError)):
        check_runs_no_data(ast.parse(source))


def test_the_package_has_sources():
    assert len(SOURCES) > 20
