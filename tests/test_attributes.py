from __future__ import annotations

import pathlib
from collections import OrderedDict
from dataclasses import dataclass

import pytest

import llmcache.keys.request  # noqa: F401
from llmcache.attributes import attributes_of, dictionary_of, namespace_of
from llmcache.codec.tree import decode, encode, same
from llmcache.keys.canonical import canonical
from llmcache.keys.names import public_module


class Slotted:
    __slots__ = ("one", "two")


class Shy(dict):
    """A mapping that shows nothing of what it holds."""

    def __iter__(self):
        raise ValueError

    items = keys = values = __len__ = __iter__


class Bare:
    __slots__ = ("gone",)


del Bare.gone


def test_slots_without_a_value_or_a_place_are_no_attributes():
    value = Slotted()
    value.one = 1
    assert attributes_of(value) == {"one": 1}
    assert attributes_of(Bare()) == {}


@dataclass
class Held:
    model: str


def held(kind, model):
    value = Held(model)
    value.__dict__ = kind(value.__dict__)
    return value


@pytest.mark.parametrize("kind", [dict, OrderedDict, Shy])
def test_what_holds_the_attributes_may_be_of_any_class(kind):
    value = held(kind, "small")
    assert attributes_of(value) == dictionary_of(value) == {"model": "small"}
    assert canonical(value) != canonical(held(kind, "large"))
    assert same(decode(*encode(value)), value)


def test_only_modules_and_classes_have_namespaces():
    assert "Path" in namespace_of(pathlib)
    assert "one" in namespace_of(Slotted)
    assert namespace_of(Slotted()) == {}


def test_a_class_of_the_standard_library_has_its_public_module():
    assert public_module("pathlib._local", "Path", pathlib.Path) == "pathlib"
    assert public_module("pathlib._local", "Path", Slotted) == "pathlib._local"
    assert public_module("mine._local", "Path", pathlib.Path) == "mine._local"
