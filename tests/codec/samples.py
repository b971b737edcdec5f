"""Classes of every kind that an entry can hold, each found in this module under its name."""

import dataclasses
import enum
from collections import namedtuple
from functools import cached_property
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    Optional,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, computed_field

T = TypeVar("T")
U = TypeVar("U")


class Usage(BaseModel):
    tokens: int = 0
    details: Any = None


class OtherUsage(BaseModel):
    tokens: int = 0
    details: Any = None


class Choice(BaseModel):
    index: int
    text: str | None = None


class Answer(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: str
    choices: list[Choice] = []
    usage: Usage | None = None
    content: Any = None
    _request_id: str | None = PrivateAttr(None)


class Secretive(BaseModel):
    value: int = 0
    _seen: list[Any] = PrivateAttr(default_factory=list)
    _later: str


class Frozen(BaseModel, frozen=True):
    value: int


class Node(BaseModel):
    name: str
    children: "list[Node]" = []
    parent: "Optional[Node]" = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    barks: bool = True


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pets: list[Cat | Dog] = []


class Tags(RootModel[list[str]]):
    pass


class Area(BaseModel):
    width: int
    height: int

    @computed_field
    @property
    def size(self) -> int:
        return self.width * self.height

    @cached_property
    def halves(self) -> list[float]:
        return [self.width / 2, self.height / 2]


class Box(BaseModel, Generic[T]):
    item: T


class Couple(BaseModel, Generic[T, U]):
    first: T
    second: U


class Slotted(BaseModel):
    __slots__ = ("hidden",)
    value: int = 0


class Outer:
    class Inner(BaseModel):
        value: int = 0


@dataclasses.dataclass
class Point:
    x: Any = 0
    y: Any = 0


@dataclasses.dataclass
class OtherPoint:
    x: Any = 0
    y: Any = 0


@dataclasses.dataclass
class DeepPoint(Point):
    z: Any = 0
    here: ClassVar[str] = "nowhere"


class UndecoratedPoint(Point):
    pass


@dataclasses.dataclass(frozen=True)
class FrozenPoint:
    x: Any = 0
    y: Any = 0


@dataclasses.dataclass(slots=True)
class SlottedPoint:
    x: Any = 0
    _y: Any = 0
    __z: Any = 0


@dataclasses.dataclass(slots=True, frozen=True)
class FrozenSlottedPoint:
    x: Any = 0


@dataclasses.dataclass(slots=True, weakref_slot=True)
class DeepSlottedPoint(SlottedPoint):
    w: Any = 0


@dataclasses.dataclass
class MangledPoint:
    __slots__ = ("__secret", "x")
    x: Any

    def hide(self, secret):
        self.__secret = secret
        return self

    def shown(self):
        return self.__secret


@dataclasses.dataclass
class OneSlot:
    __slots__ = "x"  # noqa: PLC0205
    x: Any


@dataclasses.dataclass
class SlotAndDict(OneSlot):
    y: Any = 0


@dataclasses.dataclass(kw_only=True, eq=False)
class KeywordPoint:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Prepared:
    seed: dataclasses.InitVar[int]
    doubled: int = dataclasses.field(init=False)
    unset: int = dataclasses.field(init=False, repr=False)

    def __post_init__(self, seed):
        self.doubled = 2 * seed

    @cached_property
    def halves(self):
        return [self.doubled / 2]


@dataclasses.dataclass
class Crate(Generic[T]):
    item: T


@dataclasses.dataclass
class Failure(Exception):
    code: int = 0


class Pair(NamedTuple):
    left: Any
    right: Any = 0


class OtherPair(NamedTuple):
    left: Any
    right: Any = 0


Span = namedtuple("Span", ["start", "end", "step"], defaults=[1])


class NamedSpan(Span):
    pass


class Message(TypedDict):
    role: str
    content: str


class Color(enum.Enum):
    RED = enum.auto()
    GREEN = enum.auto()
    CRIMSON = RED


class OtherColor(enum.Enum):
    RED = 1
    GREEN = 2
    CRIMSON = RED


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Role(enum.StrEnum):
    USER = enum.auto()
    SYSTEM = "system!"


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE


class Bits(enum.IntFlag):
    ONE = 1
    FOUR = 4


class Kept(enum.Flag, boundary=enum.KEEP):
    ONE = 1


class Rich(enum.Enum):
    LIST = [1, 2]
    NOTHING = None
    OBJECT = object()
    POINT = FrozenPoint(1, 2)


class Finish(str, enum.Enum):
    STOP = "stop"
    LENGTH = "length"

    @classmethod
    def _missing_(cls, value):
        return cls(value.lower()) if value != value.lower() else None


class Token(msgspec.Struct):
    text: Any
    score: Any = None


class OtherToken(msgspec.Struct):
    text: Any
    score: Any = None


class FrozenToken(msgspec.Struct, frozen=True):
    text: Any


class LooseToken(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    scores: list[Any] = msgspec.field(default_factory=list, name="values")
    text: str


class TaggedToken(msgspec.Struct, tag="token", array_like=True, forbid_unknown_fields=True):
    text: str


class DictToken(msgspec.Struct, dict=True):
    text: str


class PreparedToken(msgspec.Struct):
    text: str

    def __post_init__(self):
        self.text = self.text.upper()


@attrs.define
class Shape:
    name: Any
    sides: Any = attrs.field(factory=list)


@attrs.define
class OtherShape:
    name: Any
    sides: Any = attrs.field(factory=list)


@attrs.frozen
class FrozenShape:
    name: Any


@attrs.frozen(cache_hash=True)
class HashedShape:
    name: str


@attrs.frozen(cache_hash=True, slots=False)
class HashedDictShape:
    name: str


@attrs.define(slots=False)
class DictShape:
    name: Any
    _hidden: Any = attrs.field(default=1, alias="hidden")

    def __attrs_post_init__(self):
        self.prepared = True


@attrs.define
class Square(Shape):
    side: int = 1


class UndecoratedShape(Shape):
    pass


class Plain:
    """An ordinary class, which no entry can hold unless it is registered."""

    def __init__(self, text="text"):
        self.text = text


class Text(str):
    pass


class Number(int):
    pass


class Measure(float):
    pass


class Raw(bytes):
    pass


class Items(list):
    pass


class Mapping(dict):
    pass
