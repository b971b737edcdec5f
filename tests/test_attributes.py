from __future__ import annotations

import pathlib

from llmcache.attributes import attributes_of, namespace_of
from llmcache.keys.names import public_module


class Slotted:
    __slots__ = ("one", "two")


class Bare:
    __slots__ = ("gone",)


del Bare.gone


def test_slots_without_a_value_or_a_place_are_no_attributes():
    value = Slotted()
    value.one = 1
    assert attributes_of(value) == {"one": 1}
    assert attributes_of(Bare()) == {}


def test_only_modules_and_classes_have_namespaces():
    assert "Path" in namespace_of(pathlib)
    assert "one" in namespace_of(Slotted)
    assert namespace_of(Slotted()) == {}


def test_a_class_of_the_standard_library_has_its_public_module():
    assert public_module("pathlib._local", "Path", pathlib.Path) == "pathlib"
    assert public_module("pathlib._local", "Path", Slotted) == "pathlib._local"
    assert public_module("mine._local", "Path", pathlib.Path) == "mine._local"
