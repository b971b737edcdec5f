"""A class is found by its name, if it is there and is what it was; nothing is imported for it."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path
from textwrap import dedent
from typing import Generic, TypeVar

import pytest
from pydantic import BaseModel
from twins import worlds
from typing_extensions import TypeVar as WithDefault

from codec import samples
from codec.planting import Upstream, payload
from codec.trips import no_import
from llmcache.codec.classes import ClassGone, find, lookup, name_of
from llmcache.codec.shapes import fingerprint
from llmcache.codec.tree import TREE, decode, encode, same

ROOT = Path(__file__).parents[2]

MODEL = "class Thing(BaseModel):\n    x: int = 1\n"
OTHER_MODEL = "class Thing(BaseModel):\n    x: int = 1\n    y: int = 2\n"
PRIVATE_MODEL = MODEL + "    _a: int = 1\n"
RENAMED_MODEL = "class Thing(BaseModel):\n    z: int = 1\n"
DATACLASS = "@dataclass\nclass Thing:\n    x: int = 1\n"
OTHER_DATACLASS = "@dataclass\nclass Thing:\n    x: int = 1\n    y: int = 2\n"
ATTRS = "@attrs.define\nclass Thing:\n    x: int = 1\n"
OTHER_ATTRS = "@attrs.define\nclass Thing:\n    y: int = 1\n"
TUPLE = "class Thing(NamedTuple):\n    x: int = 1\n"
OTHER_TUPLE = "class Thing(NamedTuple):\n    x: int = 1\n    y: int = 2\n"
ENUM = "class Thing(Enum):\n    A = 1\n"
OTHER_ENUM = "class Thing(Enum):\n    A = 2\n"
LONGER_ENUM = "class Thing(Enum):\n    A = 1\n    B = 2\n"
STRUCT = "class Thing(Struct):\n    x: int = 1\n"
PLAIN = "class Thing:\n    x = 1\n"
FUNCTION = "def Thing(x=1): ...\n"
NOTHING = "Thing = None\n"
GONE = ""

HEAD = """
import attrs
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from msgspec import Struct
from pydantic import BaseModel
from typing_extensions import TypeVar as WithDefault
"""

CHANGES = [
    (MODEL, OTHER_MODEL),
    (OTHER_MODEL, MODEL),
    (MODEL, RENAMED_MODEL),
    (DATACLASS, OTHER_DATACLASS),
    (ATTRS, OTHER_ATTRS),
    (TUPLE, OTHER_TUPLE),
    (ENUM, OTHER_ENUM),
    (ENUM, LONGER_ENUM),
    (ENUM.replace("1", "1.5"), ENUM.replace("1", "2.5")),
    (PRIVATE_MODEL, PRIVATE_MODEL.replace("_a", "_b")),
    *((MODEL, other) for other in (DATACLASS, ATTRS, TUPLE, ENUM, STRUCT)),
    *((DATACLASS, other) for other in (MODEL, TUPLE, ENUM, STRUCT)),
    (TUPLE, ENUM),
    (ENUM, TUPLE),
    *((kind, other) for kind in (MODEL, DATACLASS, TUPLE, ENUM) for other in (PLAIN, FUNCTION)),
    *((kind, other) for kind in (MODEL, DATACLASS, TUPLE, ENUM) for other in (NOTHING, GONE)),
]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that can be written anew, and imported or reloaded."""

    class Module:
        name = f"codec_module_{tmp_path.name.replace('-', '_')}"
        path = tmp_path / f"{name}.py"

        def write(self, text):
            self.path.write_text(HEAD + text)
            importlib.invalidate_caches()
            sys.modules.pop(self.name, None)
            return importlib.import_module(self.name)

        def reload(self, text):
            self.path.write_text(HEAD + text)
            vars(sys.modules[self.name]).pop("Thing", None)
            return importlib.reload(sys.modules[self.name])

        def value(self):
            kind = sys.modules[self.name].Thing
            return kind.A if isinstance(kind, type(enum.Enum)) else kind()

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Module()
    sys.modules.pop(Module.name, None)


@pytest.mark.parametrize("again", ["write", "reload"])
@pytest.mark.parametrize("decoded", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_class_that_has_changed_is_gone(module, change, decoded, again):
    before, after = change
    module.write(before)
    written = encode([module.value()])
    if decoded:
        decode(*written)
    getattr(module, again)(after)
    with pytest.raises(ClassGone):
        decode(*written)


@pytest.mark.parametrize("how", ["class", "module", "blocked"])
@pytest.mark.parametrize("decoded", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("kind", [MODEL, DATACLASS, ATTRS, TUPLE, ENUM])
def test_a_class_that_is_gone_is_not_imported_again(module, kind, decoded, how, monkeypatch):
    module.write(kind)
    written = encode([module.value()])
    if decoded:
        decode(*written)
    if how == "class":
        del sys.modules[module.name].Thing
    elif how == "module":
        del sys.modules[module.name]
    else:
        monkeypatch.setitem(sys.modules, module.name, None)
    with no_import(), pytest.raises(ClassGone):
        decode(*written)


@pytest.mark.parametrize("again", ["write", "reload"])
@pytest.mark.parametrize("kind", [MODEL, DATACLASS, ATTRS, TUPLE, ENUM])
def test_what_comes_back_is_of_the_class_that_is_there_now(module, kind, again):
    old = module.write(kind)
    before = module.value()
    written = encode([before])
    assert type(decode(*written)[0]) is old.Thing
    new = getattr(module, again)(kind)
    assert type(decode(*written)[0]) is new.Thing
    assert not same(before, module.value())


def test_an_object_of_a_class_that_was_replaced_keeps_its_own_class(module):
    old = module.write(MODEL).Thing
    module.write(OTHER_MODEL)
    assert type(decode(*encode(old()))) is old


@worlds
@pytest.mark.parametrize("after", [OTHER_MODEL, DATACLASS, PLAIN, GONE])
def test_an_entry_of_a_class_that_has_changed_is_a_miss_and_is_replaced(world, module, after):
    module.write(MODEL)
    upstream = Upstream(world, module.value())
    upstream.ask()
    upstream.ask()
    module.write(after)
    upstream.answer = "new"
    assert upstream.ask() == "new"
    assert upstream.ask() == "new"
    assert upstream.calls == 2
    assert (upstream.stats.corrupt, upstream.stats.errors) == (0, 0)


@pytest.mark.parametrize("before", [MODEL, DATACLASS, ATTRS, TUPLE])
def test_a_class_is_told_by_the_names_of_its_fields_and_not_by_their_types(module, before):
    module.write(before)
    written = encode([module.value()])
    after = module.write(before.replace("int = 1", "str = 'a'"))
    [found] = decode(*written)
    assert (type(found), found.x) == (after.Thing, 1)


T = TypeVar("T")


class Local(BaseModel):
    x: int = 1


def box_of(kind):
    return samples.Box[kind](item=kind())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (samples.Usage, "codec.samples:Usage"),
        (int, "builtins:int"),
        (type(None), "builtins:NoneType"),
        (samples.Color, "codec.samples:Color"),
    ],
)
def test_a_class_is_found_by_its_name(kind, name):
    assert name_of(kind) == name
    assert find(name) is kind


def test_a_class_in_a_class_is_found_by_its_name(monkeypatch):
    inner = samples.Outer.Inner
    assert name_of(inner) == "codec.samples:Outer.Inner"
    assert find("codec.samples:Outer.Inner") is inner
    written = encode(inner())
    monkeypatch.delattr(samples.Outer, "Inner")
    assert name_of(inner) != "codec.samples:Outer.Inner"
    with pytest.raises(ClassGone):
        decode(*written)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        "os",
        "os:",
        "os:system",
        "builtins:eval",
        "nowhere:Thing",
        "codec.samples:",
        "codec.samples:Nothing",
        "codec.samples:Usage.",
        "codec.samples:Usage.tokens",
        "codec.samples:T",
        "codec.samples:HEAD",
        "codec.samples:enum.Enum.mro",
        "codec.samples:Usage:Usage",
        "__main__:__builtins__",
        "this:s",
        "antigravity:webbrowser",
    ],
)
def test_nothing_else_is_found(name):
    with no_import():
        assert find(name) is None


def test_a_local_class_has_a_name_that_no_other_process_makes():
    class Local:
        pass

    name = name_of(Local)
    assert name == name_of(Local)
    assert find(name) is Local
    assert lookup(name) is None
    assert str(os.getpid()) in name
    script = (
        "from llmcache.codec.classes import name_of, find\n"
        "def local():\n    class Local: pass\n    return Local\n"
        f"print(name_of(local()), find({name!r}))"
    )
    other, found = run(script).split()
    assert other != name
    assert found == "None"


def test_a_class_of_a_script_comes_back_there():
    script = """
        import dataclasses, enum
        from typing import Generic, NamedTuple, TypeVar
        from pydantic import BaseModel
        from llmcache.codec.tree import decode, encode, same
        T = TypeVar("T")
        class Model(BaseModel):
            other: "Model | None" = None
        class Box(BaseModel, Generic[T]):
            item: T
        @dataclasses.dataclass
        class Data:
            x: int
        class Pair(NamedTuple):
            x: int
        class Color(enum.Enum):
            RED = 1
        def local():
            class Local(BaseModel):
                x: int = 1
            return Local
        Local = local()
        values = [Model(other=Model()), Box[int](item=1), Data(1), Pair(1), Color.RED, Local()]
        values.append(Box[Local](item=Local()))
        for value in values:
            written = encode(value)
            assert same(value, decode(*written)), value
            print(written[1].split(b'"')[3].decode())
    """
    assert "__main__" not in run(script)


SCRIPT = """
    import sys
    from dataclasses import dataclass
    from codec.samples import Box
    from pydantic import BaseModel
    from llmcache.codec.classes import ClassGone
    from llmcache.codec.tree import decode, encode
    __name__ = sys.argv[1]
    sys.modules[__name__] = sys.modules["__main__"]
    class Model(BaseModel):
        x: {kind}
    @dataclass
    class Data:
        x: {kind}
    values = [Model(x="1"), Data("1"), Box[Model](item=Model(x="1"))]
    if len(sys.argv) == 2:
        for value in values:
            codec, written = encode(value)
            print(codec, written.hex())
    for codec, written in zip(sys.argv[2::2], sys.argv[3::2]):
        try:
            print(decode(int(codec), bytes.fromhex(written)))
        except ClassGone:
            print("gone")
"""


@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_a_class_of_a_script_is_not_that_of_another(name):
    written = run(SCRIPT.replace("{kind}", "int"), name).split()
    found = run(SCRIPT.replace("{kind}", "str"), name, *written)
    assert found.split() == ["gone"] * 3


def test_a_name_in_a_script_is_no_class_of_an_entry(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "Usage", samples.Usage, raising=False)
    assert find("__main__:Usage") is None


GENERICS = """
    import sys, types
    from llmcache.codec.tree import decode, encode
    for name in ("one", "two"):
        module = sys.modules[name] = types.ModuleType(name)
        exec("from pydantic import BaseModel\\nclass Answer(BaseModel):\\n    x: int", vars(module))
    from codec.samples import Box
    first = sys.modules[sys.argv[1]].Answer
    Box[first]
    Box[sys.modules["one"].Answer], Box[sys.modules["two"].Answer]
    if len(sys.argv) == 2:
        print(encode(Box[first](item=first(x=1)))[1].hex())
    else:
        found = decode(3, bytes.fromhex(sys.argv[2]))
        [kind] = type(found).__pydantic_generic_metadata__["args"]
        print(kind.__module__)
"""


def test_a_parametrised_model_is_of_the_same_arguments_in_another_process():
    written = run(GENERICS, "one")
    assert run(GENERICS, "one", written) == "one"
    assert run(GENERICS, "two", written) == "one"


def test_a_parametrised_model_is_one_of_the_model_that_is_there_now(module):
    text = (
        "from typing import Generic, TypeVar\nT = TypeVar('T')\n"
        "class Thing(BaseModel, Generic[T]):\n    x: int = 1\n"
        "Numbers = Thing[int]\n"
    )
    module.write(text)
    written = encode(sys.modules[module.name].Numbers())
    decode(*written)
    new = module.reload(text)
    assert isinstance(decode(*written), new.Thing)


def test_a_parametrised_model_goes_with_its_arguments(module):
    written = encode(box_of(module.write(MODEL).Thing))
    assert type(decode(*written)) is samples.Box[sys.modules[module.name].Thing]
    module.write(GONE)
    with pytest.raises(ClassGone):
        decode(*written)


def test_a_parametrised_model_is_made_where_there_is_none_yet():
    text = "import codec.samples, sys\nfrom llmcache.codec.tree import decode, encode\n"
    written = run(
        text + "def f(): return codec.samples.Couple[int, codec.samples.Box[str]]\n"
        "print(encode(f().model_construct(first=1))[1].hex())"
    )
    found = run(text + "print(type(decode(3, bytes.fromhex(sys.argv[1]))).__name__)", written)
    assert found == "Couple[int, Box[str]]"


def test_a_model_of_a_type_variable_is_found_in_another_process():
    text = "import codec.samples, sys\nfrom llmcache.codec.tree import decode, encode\n"
    written = run(
        text + "def f(): return codec.samples.Box[codec.samples.U]\n"
        "print(encode(f().model_construct(item=1))[1].hex())"
    )
    text += "found = decode(3, bytes.fromhex(sys.argv[1]))\n"
    found = run(text + "print(type(found) is codec.samples.Box[codec.samples.U])", written)
    assert found == "True"


Bound = TypeVar("Bound", bound=BaseModel)
Among = TypeVar("Among", int, str)
Default = WithDefault("Default", default=int)
NoneByDefault = WithDefault("NoneByDefault", default=None)


@pytest.mark.parametrize("variable", [Bound, Among, Default])
def test_a_model_of_a_type_variable_that_says_more_is_found_where_it_was_made(variable):
    class Box(BaseModel, Generic[T]):
        item: T

    samples.Own = Box
    name = ["codec.samples:Own", f"{__name__}:{variable.__name__}"]
    Box.__module__, Box.__qualname__ = "codec.samples", "Own"
    try:
        assert find(name) is None
        made = Box[variable]
        assert find(name) is made
        assert name_of(made) == name
    finally:
        del samples.Own


def test_a_model_of_a_type_variable_that_is_none_by_default_is_made():
    name = ["codec.samples:Couple", f"{__name__}:NoneByDefault", f"{__name__}:T"]
    assert find(name) is samples.Couple[NoneByDefault, T]


def test_a_model_of_a_type_variable_that_no_module_holds_is_of_this_process():
    local = TypeVar("local")
    kind = samples.Box[local]
    assert isinstance(name_of(kind), str)
    assert find(name_of(kind)) is kind
    assert find("codec.samples:U") is None


HOOKS = [
    "__class_getitem__",
    "__get_pydantic_core_schema__",
    "__init_subclass__",
    "__pydantic_init_subclass__",
    "__pydantic_on_complete__",
    "model_parametrized_name",
]


@pytest.mark.parametrize("hook", [*HOOKS, "metaclass"])
def test_a_parametrised_model_that_has_a_say_in_it_is_not_made(hook, monkeypatch):
    ran = []

    class Meta(type(BaseModel)):
        def __new__(cls, *args, **kwargs):
            ran.append(args[0])
            return super().__new__(cls, *args, **kwargs)

    def say(cls, *args, **kwargs):
        ran.append(args)
        if hook == "__get_pydantic_core_schema__":
            source, handler = args
            return handler(source)
        return getattr(super(Own, cls), hook)(*args, **kwargs)

    class Own(BaseModel, Generic[T], metaclass=Meta if hook == "metaclass" else type(BaseModel)):
        item: T

    if hook != "metaclass":
        setattr(Own, hook, classmethod(say))
    monkeypatch.setattr(samples, "Own", Own, raising=False)
    ran.clear()
    assert find(["codec.samples:Own", "builtins:int"]) is None
    assert ran == []
    assert Own[int](item=1).item == 1
    assert ran
    assert find(["codec.samples:Own", "builtins:int"]) is Own[int]


BOX = fingerprint(["item"])


@pytest.mark.parametrize(
    "name",
    [
        [],
        ["codec.samples:Box"],
        ["codec.samples:Box", "nowhere:Thing"],
        ["codec.samples:Box", "builtins:int", "builtins:int"],
        ["codec.samples:Usage", "builtins:int"],
        ["codec.samples:Crate", "builtins:int"],
        ["codec.samples:Own", "builtins:int"],
        ["nowhere:Box", "builtins:int"],
        ["builtins:list", "builtins:int"],
        ["codec.samples:Box", ["codec.samples:Box"]],
        [["codec.samples:Box", "builtins:int"], "builtins:int"],
    ],
)
def test_a_parametrised_model_of_anything_else_is_gone(name, monkeypatch):
    ran = []

    class Own(BaseModel, Generic[T]):
        item: T

        def __class_getitem__(cls, arguments):
            ran.append(arguments)
            return super().__class_getitem__(arguments)

    monkeypatch.setattr(samples, "Own", Own, raising=False)
    shape = ["pydantic", name, BOX, [], [1], 0, 0, {}]
    with pytest.raises((ClassGone, IndexError)):
        decode(TREE, payload([shape], {"!": [0, {"item": 1}]}))
    assert ran == []


def test_a_parametrised_model_needs_pydantic(monkeypatch):
    name = name_of(samples.Box[samples.Box[int]])
    monkeypatch.delitem(sys.modules, "pydantic")
    assert find(["codec.samples:Box", "builtins:int"]) is None
    assert name


def run(script, *arguments):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    result = subprocess.run(
        [sys.executable, "-c", dedent(script), *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


class Watched:
    """Tells what it is asked for."""

    asked: list[str] = []

    def __getattribute__(self, name):
        Watched.asked.append(name)
        return object.__getattribute__(self, name)


class WatchedModule(types.ModuleType):
    def __getattribute__(self, name):
        Watched.asked.append(name)
        return super().__getattribute__(name)


class Computed:
    @property
    def __dict__(self):
        Watched.asked.append("__dict__")
        return {}


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(Watched, "asked", [])
    return Watched.asked


def test_a_modules_own_getattr_is_not_asked(asked, monkeypatch):
    module = types.ModuleType("codec_lazy")
    module.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "codec_lazy", module)
    assert find("codec_lazy:Thing") is None
    assert asked == []


@pytest.mark.parametrize("watched", [Watched, WatchedModule, Computed])
def test_nothing_that_a_module_holds_is_asked_for_anything(watched, asked, monkeypatch):
    module = types.ModuleType("codec_watched")
    if watched is WatchedModule:
        module = WatchedModule("codec_watched")
    module.thing = watched("name") if watched is WatchedModule else watched()
    monkeypatch.setitem(sys.modules, "codec_watched", module)
    asked.clear()
    find("codec_watched:thing.Thing")
    assert asked == []


def test_a_lazy_module_stays_unread(tmp_path, monkeypatch):
    path = tmp_path / "codec_unread.py"
    path.write_text("raise AssertionError('it was imported')\n")
    spec = importlib.util.spec_from_file_location("codec_unread", path)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "codec_unread", module)
    assert find("codec_unread:Thing") is None


def test_a_parametrised_model_that_nobody_made_runs_no_code_of_its_argument(monkeypatch):
    ran = []

    class Schemed:
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            ran.append(source)
            return handler(int)

    monkeypatch.setattr(samples, "Schemed", Schemed, raising=False)
    find(["codec.samples:Box", "codec.samples:Schemed"])
    assert ran == []


def test_dataclasses_are_the_same_by_class_and_not_by_name():
    @dataclasses.dataclass
    class Point:
        x: int = 0
        y: int = 0

    assert not same(Point(), samples.Point())
