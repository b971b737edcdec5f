"""Classes and functions that are found by their names, whose bytes and keys are pinned."""

import collections
import dataclasses
import datetime as dt
import enum
import functools
import inspect
import uuid
from collections.abc import Callable
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
import openai
import pydantic
import wrapt

from llmcache import llm_cached

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    NONE = None
    NAN = float("nan")
    PAIR = (1, "a")
    LIST = ["a", {"b": 2}]
    ID = uuid.UUID(int=7)
    LONE = "\ud83d"
    CRIMSON = "red"  # noqa: PIE796


class Outer(enum.Enum):
    RED = Color.RED
    NAN = Color.NAN
    ID = Color.ID
    MANY = (Color.NAN, None, Color.PAIR)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    CALM = "calm"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Spot:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slim:
    x: Any


class Answer(pydantic.BaseModel):
    text: Any
    score: float | None = None


class Reply(pydantic.BaseModel):
    text: Any
    score: float | None = None


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    text: Any = None
    _secret: Any = pydantic.PrivateAttr(default=None)


class Empty(pydantic.BaseModel):
    pass


class Box(pydantic.BaseModel, Generic[T]):
    item: T


# pydantic has the module hold what is made at its top, under a name of pydantic's.
IntBox = Box[int]


class Roots(pydantic.RootModel[list[Any]]):
    pass


class Turn(msgspec.Struct):
    role: Any
    content: Any = None


class Talk(msgspec.Struct):
    role: Any
    content: Any = None


@attrs.define
class Shape:
    sides: Any


@attrs.define(slots=False)
class Form:
    sides: Any


class Pair(NamedTuple):
    left: Any
    right: Any = None


Twin = collections.namedtuple("Twin", ["left", "right"])


class Options(TypedDict, total=False):
    """What may be said."""

    top: int
    mode: Literal["fast", 1, None]
    tags: list[str] | None
    limit: Annotated[dict[str, float], "per minute"]


@dataclasses.dataclass
class Node:
    value: int
    after: Optional["Node"] = None


@dataclasses.dataclass
class Nothing:
    pass


Unheld = collections.namedtuple("Elsewhere", ["left"])
Made = pydantic.create_model("Unnamed", __module__=__name__, count=(int, ...))


class Plain:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Other:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Slots:
    __slots__ = ("one", "two")

    def __init__(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)


class Mixed(Slots):
    pass


class Keyed:
    def __init__(self, value: Any) -> None:
        self.value = value
        self.noise = object()

    def __llmcache_key__(self) -> Any:
        return self.value


class Bare:
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, moment: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=2)

    def dst(self, moment: dt.datetime | None) -> None:
        return None

    def tzname(self, moment: dt.datetime | None) -> str:
        return "TWO"


class Text(str):
    pass


class Blob(bytes):
    pass


class Count(int):
    pass


class Ratio(float):
    pass


class Row(tuple):
    __slots__ = ()


class Items(list):
    pass


class Table(dict):
    pass


class Bag(set):
    pass


class Frozen(frozenset):
    pass


class Bot:
    def __init__(self, model: str = "small") -> None:
        self.model = model

    @llm_cached
    def ask(self, prompt: str, temperature: float = 0.0) -> str:
        return self.model + prompt

    @llm_cached
    @classmethod
    def default(cls, prompt: str) -> str:
        return prompt

    @staticmethod
    @llm_cached
    def plain(prompt: str) -> str:
        return prompt

    class Inner:
        @llm_cached
        def ask(self, prompt: str) -> str:
            return prompt


class Child(Bot):
    pass


@llm_cached
def complete(prompt: str, *rest: Any, model: str = "small", **options: Any) -> str:
    return prompt


@llm_cached
async def acomplete(prompt: str, *rest: Any, model: str = "small", **options: Any) -> str:
    return prompt


@llm_cached(version=2)
def versioned(prompt: str) -> str:
    return prompt


@llm_cached(name="shared", version={"prompt": 3})
def renamed(prompt: str) -> str:
    return prompt


@llm_cached(ignore=("trace",))
def ignoring(prompt: str, trace: Any = None) -> str:
    return prompt


@llm_cached(key=lambda prompt, **_: prompt.strip())
def keyed(prompt: str, trace: Any = None) -> str:
    return prompt


def positional(prompt: Any, /, model: str, *, top: Any = None) -> Any:
    return prompt


small = llm_cached(functools.partial(positional, model="small"))
nested = llm_cached(functools.partial(functools.partial(positional, "hello"), "small", top=1))


def having(thing: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(thing, name, value)
    return thing


def tool(city: str, /, *days: int, unit: Literal["c", "f"] = "c", **rest: Any) -> list[str]:
    """Tell the weather."""
    return [city]


@wrapt.decorator
def passing(wrapped, instance, args, kwargs):
    return wrapped(*args, **kwargs)


@passing
def passed(city: str) -> str:
    return city


UserId = NewType("UserId", int)


def untyped(city, days=3):
    return [city]


class Kitchen:
    def __init__(self, name: str) -> None:
        self.name = name

    def cook(self, dish: str) -> str:
        return dish

    @classmethod
    def open(cls, door: str) -> str:
        return door


class Cook:
    """Is called itself."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def __call__(self, dish: Any) -> Any:
        return self.name, dish


def local_function(word: Any) -> Callable[..., Any]:
    def inner(prompt: str) -> Any:
        return word, prompt

    return inner


def local_lambda(word: Any) -> Callable[..., Any]:
    return lambda prompt, *, top=1: (word, prompt)


def local_class(word: Any) -> Any:
    class Inner:
        """A class that no module holds."""

        def __init__(self, value: Any) -> None:
            self.value = value

        def ask(self) -> Any:
            return word, self.value

    return Inner


def local_data() -> Any:
    @dataclasses.dataclass
    class Inner:
        """One line."""

        value: int
        other: str = ""

    return Inner


def local_model() -> Any:
    class Inner(pydantic.BaseModel):
        value: int

    return Inner


def local_items() -> Any:
    class Inner(list[Any]):
        pass

    return Inner


def local_annotated(word: Any) -> Any:
    class Inner:
        value: {"a": int, "b": str}[word]  # noqa: F821

    return Inner


def local_described(word: Any) -> Any:
    class Inner:
        value: Annotated[int, word]

    return Inner


def local_cached(word: Any) -> Any:
    @llm_cached
    def inner(prompt: str) -> Any:
        return word, prompt

    return inner


twice = [lambda a: (a, 1), lambda a: (a, 2)]
looped = [lambda a: (a, i) for i in range(2)]

shapes = [
    lambda: 1,
    lambda: None,
    lambda: (1,),
    lambda a: a,
    lambda *a: a,
    lambda **a: a,
    lambda a, /, b, *, c=1: a,
    lambda a: f"{a}",
    lambda a: {a},
    lambda a: f"{a}!",
    lambda a: f"{a!r:>{10}}",
    lambda a: f"{a}" + "!",
    lambda a: [b + 1 for b in a],
    lambda a: [b for b in a if b],
    lambda a: {b: c + 1 for b, c in a},
    lambda a: sum(b for b in a),
    lambda a: a if a else 1,
    lambda a: a if a else 2,
    lambda a: a and 1,
    lambda a: a or 1,
    lambda a: not a,
    lambda a: -a,
    lambda a: (b := a) + b,
    lambda a: lambda b: (a, b),
    lambda a: lambda b: (b, a),
    lambda a: lambda a: a,
    lambda a: a.b.c(1, *a, d=2, **a),
    lambda a: a[1:2],
    lambda a: a[1:3],
    lambda a: a < 1 < 2,
    lambda a: "ä" + a,
    lambda a: "😀" + a,
    lambda a: (
        a,
        # a comment
        1,
    ),
    lambda a: (
        a,
        2,
    ),
    lambda a: (
        """
        text
    """
    ),
]


def local_stack(one: Any, two: Any) -> Callable[..., Any]:
    def below(prompt: str, extra: Any = two) -> Any:
        return one, prompt, extra

    @functools.wraps(below)
    def above(*args: Any) -> Any:
        return below(*args), two

    return above


def local_default(word: Any) -> Callable[..., Any]:
    def inner(prompt: str, extra: Any = word) -> Any:
        return prompt, extra

    @functools.wraps(inner)
    def hiding(prompt: str) -> Any:
        return inner(prompt)

    hiding.__signature__ = inspect.signature(lambda prompt: prompt)
    return hiding


def local_tool(word: Any, default: Any) -> Callable[..., Any]:
    def inner(prompt: Annotated[str, word], *, top: Any = default) -> "list[Inner]":  # noqa: F821
        """Say something.

        In two paragraphs.
        """
        return [prompt, top]

    inner.label = word
    return inner


class Restaurant(Kitchen):
    def cook(self, dish: str) -> str:
        return super().cook(dish)


def local_methods(one: Any, two: Any) -> Any:
    class Inner:
        prompt = one
        again = functools.partialmethod(lambda self, word: word, two)

        def __init__(self, value: Any) -> None:
            self.value = value

        @property
        def asked(self) -> Any:
            return one

        @functools.cached_property
        def twice(self) -> Any:
            return two, two

        @staticmethod
        def plain(word: Any = two) -> Any:
            return word

        @classmethod
        def made(cls) -> Any:
            return cls(one)

        def ask(self) -> Any:
            return self.made(), one, two

    return Inner


def local_child(base: Any, word: Any) -> Any:
    class Child(base, Generic[T]):
        """Has a base that no module holds either."""

        word_: Any = word

        def ask(self) -> Any:
            return super().ask(), word

    return Child


def local_enum(word: str) -> Any:
    class Inner(enum.Enum):
        ONE = word
        TWO = 2

        @property
        def label(self) -> str:
            return word

    return Inner


@attrs.define
class Rated:
    """What somebody thought."""

    stars: int = attrs.field(converter=int, validator=attrs.validators.ge(0), metadata={"unit": 1})
    words: list[str] = attrs.Factory(list)


class Client(openai.OpenAI):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.mood = options["base_url"]


def cached(version: Any) -> Callable[..., Any]:
    return llm_cached(version=version)
