"""A pydantic model comes back with all its state, whatever its validation would say of it."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, RootModel, create_model

from codec import samples
from codec.hooks import watched
from codec.planting import payload
from codec.samples import (
    Answer,
    Area,
    Box,
    Cat,
    Choice,
    Couple,
    Dog,
    Frozen,
    Node,
    Owner,
    Secretive,
    Tags,
    Usage,
)
from codec.trips import back_to_the_byte
from llmcache import UncacheableValue
from llmcache.codec.classes import ClassGone
from llmcache.codec.shapes import fingerprint
from llmcache.codec.tree import TREE, decode, encode, same

HIDDEN = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def check(model):
    found = back_to_the_byte(model)
    assert found is not model
    assert vars(found) == vars(model)
    assert list(vars(found)) == list(vars(model))
    for slot in HIDDEN:
        assert getattr(found, slot) == getattr(model, slot)
    assert found.model_dump_json(warnings=False) == model.model_dump_json(warnings=False)
    return found


@pytest.mark.parametrize(
    "model",
    [
        Usage(),
        Usage(tokens=0),
        Usage(tokens=1, details={"a": (1, {2})}),
        Answer(id="1"),
        Answer(id="1", choices=[], usage=None),
        Answer(id="1", choices=[Choice(index=0, text="a"), Choice(index=1)], usage=Usage()),
        Answer(id="1", content=Usage(details=Usage())),
        Answer(id="1", content=[Usage(), Choice(index=1), Usage()]),
        Answer(id="1", content=[Usage(), None, "text"]),
        Answer(id="1", content=[[Usage()], {"a": Usage()}, (Usage(),)]),
        Answer(id="1", more=Usage(), other=[Usage()], **{"!": None, "a b": {"!": 1}}),
        Frozen(value=1),
        Node(name="a", children=[Node(name="b", children=[Node(name="c")]), Node(name="d")]),
        Node(name="a", parent=Node(name="b", parent=Node(name="c"))),
        Owner(pet=Cat(lives=7), pets=[Dog(), Cat(), Dog(barks=False)]),
        Owner.model_validate({"pet": {"kind": "dog"}}),
        Tags(["a", "b"]),
        Tags([]),
        Area(width=1, height=2),
        Box(item=1),
        Box[int](item=1),
        Box[Box[int]](item=Box[int](item=1)),
        Box[Box[Box[str]]](item=Box[Box[str]](item=Box[str](item="a"))),
        Couple[int, Box[Usage]](first=1, second=Box[Usage](item=Usage())),
        Box[list[int]](item=[1]),
        Box[int | None](item=None),
        RootModel[dict[str, int]]({"a": 1}),
    ],
)
def test_a_model_comes_back(model):
    check(model)
    check(Usage(details=[model, {"a": model}, model]))


def test_private_values_come_back():
    model = Answer(id="1")
    model._request_id = "req"
    assert check(model)._request_id == "req"
    model = Secretive()
    model._seen.append(Usage())
    found = check(model)
    assert found._seen == [Usage()]
    assert found._seen is not model._seen
    with pytest.raises(AttributeError):
        _ = found._later
    model._later = "now"
    assert check(model)._later == "now"


def test_extra_and_private_values_come_back_together():
    model = Answer(id="1", more=(1, 2))
    model._request_id = (3, 4)
    found = check(model)
    assert (found.more, found._request_id) == ((1, 2), (3, 4))


def test_a_cached_property_stays_cached():
    model = Area(width=1, height=2)
    assert "halves" not in vars(check(model))
    model.halves.append("cached")
    assert check(model).halves == [0.5, 1.0, "cached"]


@pytest.mark.parametrize(
    "model",
    [
        Answer.model_construct(),
        Answer.model_construct(id=1, choices="none", usage=Choice.model_construct()),
        Answer.model_construct(_fields_set=set(), id="1"),
        Answer.model_construct(_fields_set={"id", "nothing"}, id="1", more=1),
        Choice.model_construct(_fields_set={"index"}),
        Owner.model_construct(pet={"kind": "fish"}),
        Tags.model_construct(None),
        Box[int].model_construct(item="text"),
    ],
)
def test_a_model_that_was_never_validated_comes_back(model):
    check(model)


def test_a_model_that_lost_a_field_comes_back():
    model = Answer(id="1")
    del model.choices
    assert "choices" not in vars(check(model))


def test_a_model_with_values_beside_its_fields_comes_back():
    model = Usage()
    vars(model)["beside"] = [Usage()]
    assert check(model).beside == [Usage()]


def test_models_whose_hidden_state_was_set_come_back():
    for extra in (None, {}, {"a": 1}):
        for private in (None, {}, {"_request_id": 1}):
            model = Answer(id="1")
            object.__setattr__(model, "__pydantic_extra__", extra)
            object.__setattr__(model, "__pydantic_private__", private)
            found = back_to_the_byte(model)
            assert (found.__pydantic_extra__, found.__pydantic_private__) == (extra, private)


def test_a_field_may_be_called_anything():
    kind = create_model("Odd", **{"!": (int, 1), "a,b": (list[Usage], [])})
    model = kind(**{"a,b": [Usage()]})
    assert vars(back_to_the_byte(model)) == {"!": 1, "a,b": [Usage()]}


def test_no_code_of_a_model_runs():
    ran = []
    Watched = watched(ran)
    model = Watched(value=1, other=Watched(), more=Watched())
    ran.clear()
    found = decode(*encode([model]))[0]
    assert same(model, found)
    assert ran == []
    assert type(found.more) is Watched


def test_a_model_is_not_asked_for_its_own_state():
    ran = []

    class Watched(BaseModel):
        value: int = 0

        def __getattribute__(self, name):
            ran.append(name)
            return super().__getattribute__(name)

    model = Watched()
    ran.clear()
    assert same(model, decode(*encode(model)))
    assert ran == []


@pytest.mark.parametrize("kind", ["model", "dataclass", "text"])
def test_what_does_something_when_it_goes_is_not_copied(kind):
    gone = []

    class Model(BaseModel):
        path: str

        def __del__(self):
            gone.append(self.path)

    class Dataclass(samples.Point):
        def __del__(self):
            gone.append(self.x)

    class Text(str):
        def __del__(self):
            gone.append(self)

    kinds = {"model": lambda path: Model(path=path), "dataclass": Dataclass, "text": Text}
    value = kinds[kind]("a file")
    with pytest.raises(UncacheableValue):
        encode(value)
    assert gone == []


def test_a_model_that_was_never_initialised_is_refused():
    with pytest.raises(UncacheableValue):
        encode(Usage.__new__(Usage))


def test_a_model_whose_fields_set_are_no_names_is_refused():
    with pytest.raises(UncacheableValue):
        encode(Usage.model_construct(_fields_set={"tokens", 1}))


def test_a_model_with_slots_of_its_own_is_refused():
    with pytest.raises(UncacheableValue, match="Slotted"):
        encode(samples.Slotted())


def test_a_model_whose_values_cannot_be_kept_is_refused():
    for model in (
        Usage(details=object()),
        Usage(details=[Usage(details=object())]),
        Answer(id="1", more=object()),
        Answer(id="1", content=[Usage(details=object())]),
    ):
        with pytest.raises(UncacheableValue, match=r"builtins\.object"):
            encode(model)
    model = Secretive()
    model._seen.append(object())
    with pytest.raises(UncacheableValue, match=r"builtins\.object"):
        encode(model)


USAGE = ["pydantic", "codec.samples:Usage", fingerprint(["tokens", "details"])]


def read(*shapes, tree, root=None):
    return decode(TREE, payload(shapes, tree, root))


def test_a_record_says_what_is_not_none():
    shape = [*USAGE, [0], [2], 0, 0, {}]
    assert read(shape, tree={"!": [0, {"tokens": 1}]}) == Usage(tokens=1)
    assert read(shape, tree=[{"tokens": 1}], root=0) == Usage(tokens=1)
    written = payload([shape], {"!": ["tuple", {"!": [0, {"tokens": 1}]}]}, None)
    assert encode((Usage(tokens=1),)) == (TREE, written)


@pytest.mark.parametrize("place", [-1, 1, 2, "0", 0.0, [1], [-1], [], [0.5], {}, ["0"]])
def test_a_field_that_is_read_by_no_shape_makes_the_payload_none(place):
    good = [*USAGE, [], [2], 0, 0, {}]
    shape = [*USAGE, [], [2], 0, 0, {"details": place}]
    with pytest.raises((IndexError, ValueError, TypeError, KeyError)):
        read(good, shape, tree={"!": [1, {"details": [[{}]]}]})


@pytest.mark.parametrize(
    "shape",
    [
        [*USAGE],
        [*USAGE, [], [0], 0, 0],
        [*USAGE, [], [0], 0, 0, {}, 0],
        [*USAGE, 1, [], 0, 0, {}],
        [*USAGE, [], 1, 0, 0, {}],
        [*USAGE, [{}], [0], 0, 0, {}],
        [*USAGE, [7], [2], 0, 0, {}],
        [*USAGE, [], [], 0, 0, {}],
        [*USAGE, [], [-1], 0, 0, {}],
        [*USAGE, [], ["tokens"], 0, 0, {}],
        [*USAGE, [], [0, []], 0, 0, {}],
        [*USAGE, [], [0], 0, 0, []],
        [*USAGE, [], [0], 0, 0, None],
        [*USAGE, [], [0], 2, 0, {}],
        [*USAGE, [], [0, "details"], 0, 0, {"details": None}],
        ["pydantic", USAGE[1]],
        ["pydantic"],
        [],
        None,
        "pydantic",
        {"pydantic": 1},
    ],
)
def test_a_shape_of_another_form_makes_the_payload_none(shape):
    with pytest.raises((LookupError, ValueError, TypeError, AttributeError)):
        read(shape, tree={"!": [0, {}]})


@pytest.mark.parametrize("content", [[], [1], ["text"], [None], [[1]]])
def test_a_model_without_a_record_makes_the_payload_none(content):
    shape = [*USAGE, [], [1], 0, 0, {}]
    with pytest.raises((LookupError, ValueError, TypeError)):
        read(shape, tree={"!": [0, *content]})


@pytest.mark.parametrize("mark", ["", "0" * 16, fingerprint(["details", "tokens"]), None, 0])
def test_a_model_of_other_fields_is_gone(mark):
    with pytest.raises(ClassGone):
        read([*USAGE[:2], mark, [], [0], 0, 0, {}], tree={"!": [0, {}]})
