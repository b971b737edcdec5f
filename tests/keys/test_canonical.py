from __future__ import annotations

import dataclasses
import enum
import typing

import pytest

from llmcache import UncacheableArgument
from llmcache.keys import request  # noqa: F401
from llmcache.keys.canonical import canonical


class Shouted(enum.Enum):
    A = "a"

    @property
    def value(self) -> str:
        return "loud"


class Level(enum.Enum):
    A = 1


def test_an_enum_is_the_value_that_it_shows() -> None:
    assert canonical([Shouted.A, Level.A]) == b'["loud",1]'


def test_many_containers_are_no_deep_ones() -> None:
    value = [{"a": (1, Level.A)} for _ in range(300)]
    assert canonical(value) == b"[" + b",".join([b'{"a":[1,1]}'] * 300) + b"]"


def test_what_orjson_spells_otherwise_is_found_among_many_containers() -> None:
    many: list[typing.Any] = [{"a": ()} for _ in range(300)]
    assert canonical([*many, [float("nan")]]).endswith(b'{"a":[]},[!float"nan"]]')
    assert canonical([*many, 0.5, [Shouted.A]]).endswith(b'{"a":[]},0.5,["loud"]]')


def test_an_interrupt_while_a_value_is_written_is_the_callers() -> None:
    class Interrupting:
        def __llmcache_key__(self) -> typing.Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        canonical([Interrupting()])


Item = typing.TypeVar("Item")


class Held(typing.NamedTuple):
    first: Item  # type: ignore[valid-type]
    second: typing.Any
    third: typing.List["Held"]


def test_types_that_stand_for_others_have_a_form() -> None:
    form = canonical(Held)
    assert b'!typevar["TypeVar","Item",null,[]]' in form
    assert b'!class["typing:Any",null]' in form
    assert canonical(typing.List["later"]) == b'!generic[!class["builtins:list",null],"later"]'  # noqa: F821


def test_a_class_whose_fields_name_nothing_is_refused() -> None:
    class Lost(typing.TypedDict):
        field: "nowhere"  # noqa: F821

    with pytest.raises(UncacheableArgument, match="nowhere"):
        canonical(Lost)


Bound = typing.TypeVar("Bound", bound=int)
UserId = typing.NewType("UserId", int)
OrderId = typing.NewType("OrderId", int)

TYPES: list[typing.Any] = [
    *(typing.Any, typing.TypeVar("Any"), Bound, typing.TypeVar("Bound", bound=str)),
    *(typing.TypeVar("Bound"), typing.TypeVar("Bound", int, str), typing.ParamSpec("Bound")),
    *(typing.TypeVarTuple("Bound"), UserId, OrderId, typing.NewType("UserId", str)),
    *(typing.Tuple, tuple[()], tuple[int, ...], tuple[tuple[int, ...]]),
    *(tuple[*tuple[int, ...]], list[UserId], list[Bound], list[typing.TypeVar("Bound")]),
    *(typing.ClassVar[int], typing.Final[int], typing.Required[int], typing.NotRequired[int]),
    *(typing.Final, typing.Never, typing.Self, dataclasses.InitVar[int], dataclasses.InitVar[str]),
    *(typing.Callable[[int], str], typing.Callable[..., str], typing.Callable[[Bound], Bound]),
    *(
        int | str,
        int | None,
        typing.Annotated[int, 1],
        typing.Literal[1],
        type[int],
        dict[Bound, Bound],
    ),
    dict[Bound, typing.TypeVar("Bound", bound=int)],
]


def test_no_two_types_share_their_bytes() -> None:
    forms = [canonical(each) for each in TYPES]
    assert len(set(forms)) == len(forms)
    assert canonical(int | str) == canonical(typing.Union[str, int])
    assert canonical(typing.List) == canonical(list)
    assert canonical(typing.List[int]) == canonical(list[int])


class Partly(typing.TypedDict):
    whole: int
    part: typing.NotRequired[str]


@dataclasses.dataclass
class Everything:
    limit: typing.ClassVar[int] = 3
    first: dataclasses.InitVar[int] = 1
    last: typing.Final[int] = 1
    user: UserId = UserId(1)


def test_every_kind_of_field_has_a_form() -> None:
    assert b'"part":!generic["typing:NotRequired"' in canonical(Partly)
    form = canonical(Everything)
    for part in (b"typing:ClassVar", b"dataclasses:InitVar", b"typing:Final", b"!newtype"):
        assert part in form


@dataclasses.dataclass
class Unfinished:
    field: "list[int"  # noqa: F722


@dataclasses.dataclass
class Unknown:
    field: "typing.Nowhere"


@pytest.mark.parametrize("kind", [Unfinished, Unknown])
def test_a_class_whose_annotations_cannot_be_read_is_refused(kind: type) -> None:
    with pytest.raises(UncacheableArgument, match="annotations cannot be read"):
        canonical(kind)
