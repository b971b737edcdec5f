"""Functions, as docs/canonical-form.rst specifies them: the second part of reference.py."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import itertools
import linecache
import sys
import types
from collections.abc import Iterator
from typing import Any

import wrapt

PROXY = wrapt.FunctionWrapper.__mro__[-2]
LRU = type(functools.lru_cache(len))
WRAPPERS = {
    ("tenacity", "BaseRetrying.wraps."),
    ("tenacity.asyncio", "AsyncRetrying.wraps."),
    ("tenacity._asyncio", "AsyncRetrying.wraps."),
    ("stamina._core", "retry."),
    ("backoff._sync", "retry_"),
    ("backoff._async", "retry_"),
}


class Refused(Exception):
    """The value has no canonical form, or one that is not covered here."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a value stands: what it is in, and what has been numbered before it."""

    within: tuple[int, ...] = ()
    numbers: dict[Any, int] = dataclasses.field(default_factory=dict)
    held: list[Any] = dataclasses.field(default_factory=list)

    def inside(self, value: Any) -> Place:
        if id(value) in self.within:
            raise Refused("contains itself")
        return Place((*self.within, id(value)), self.numbers, self.held)

    def apart(self) -> Place:
        return Place(self.within, dict(self.numbers), self.held)

    def number(self, thing: Any, role: str = "") -> bool:
        new = (id(thing), role) not in self.numbers
        if new:
            self.numbers[id(thing), role] = len(self.numbers)
            self.held.append(thing)
        return new

    def again(self, thing: Any, role: str = "") -> str | None:
        number = self.numbers.get((id(thing), role))
        return None if number is None else f"!again{number}"


class Functions:
    """Spells functions, for *values*, which spells everything else."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def spell(self, value: Any, place: Place) -> str:
        return self.values.spell(value, place)

    def tag(self, name: str, *parts: Any) -> str:
        return f"!{name}[{','.join(parts)}]"

    def text(self, value: str) -> str:
        return self.values.text(value)

    def names(self, value: dict[str, Any], place: Place) -> str:
        return self.values.mapping(dict(value), place)

    def listed(self, values: Any, place: Place) -> str:
        return self.values.listed(values, place)

    def function(self, value: types.FunctionType, place: Place) -> str:
        if again := place.again(value):
            return again
        name = self.text(value.__name__)
        identity = self.identity(value, place)
        signature = self.signature(value, place)
        return self.tag(
            "tool", name, identity, signature, self.doc(value.__doc__), self.set_on(value, place)
        )

    def identity(self, value: types.FunctionType, place: Place) -> str:
        members = {"partial": "[]", **self.members(value, place)}
        return "!function{" + ",".join(f'"{k}":{v}' for k, v in sorted(members.items())) + "}"

    def members(self, value: types.FunctionType, place: Place) -> dict[str, str]:
        held = is_held(value)
        stack = [layer for layer in layers(value) if type(layer) is types.FunctionType]
        new = [layer for layer in stack if place.number(layer)]
        shown = inspect.signature(value).parameters
        if held:
            cells = "[" + self.closure(stack[-1], place) + "]"
        else:
            found = []
            for layer in layers(value):
                if any(layer is n for n in new):
                    hidden = {
                        name: default
                        for name, default in defaults(layer).items()
                        if name not in shown or shown[name].default is not default
                    }
                    if not is_retry(layer):
                        closure = self.closure(layer, place)
                        found.append(f"[{closure},{self.names(hidden, place)}]")
                elif not isinstance(layer, functools.partial | staticmethod | classmethod):
                    found.append(self.spell(layer, place))
            cells = "[" + ",".join(found) + "]"
        members = {"cells": cells}
        members["module"] = self.text(value.__module__)
        members["qualname"] = self.text(qualname(value))
        if not held:
            sources = [quoted_digest(source(layer)) for layer in stack if not is_retry(layer)]
            members["source"] = "[" + ",".join(sources) + "]"
        return members

    def closure(self, function: types.FunctionType, place: Place) -> str:
        names = function.__code__.co_freevars
        pairs = zip(names, function.__closure__ or (), strict=True)
        return self.names({n: c.cell_contents for n, c in pairs if n != "__class__"}, place)

    def signature(self, value: Any, place: Place) -> str:
        signature = inspect.signature(value)
        found = []
        for p in signature.parameters.values():
            kind = self.type_or_empty(p.annotation, place)
            default = "!empty" if p.default is p.empty else self.spell(p.default, place)
            found.append(f"[{self.text(p.name)},{int(p.kind)},{kind},{default}]")
        # The members of a signature are numbered in this order, which is not that of the bytes.
        returns = self.type_or_empty(signature.return_annotation, place)
        return f"[{returns},[{','.join(found)}]]"

    def type_or_empty(self, value: Any, place: Place) -> str:
        return "!empty" if value is inspect.Parameter.empty else self.spell(value, place)

    def doc(self, doc: Any) -> str:
        return "null" if doc is None else self.text(inspect.cleandoc(doc))

    def set_on(self, value: Any, place: Place) -> str:
        left_out = {"__wrapped__", "__signature__"}
        stack = list(layers(value))
        for layer, below in itertools.pairwise(stack):
            if isinstance(layer, LRU) or is_retry(layer):
                left_out |= set(vars(layer)) - set(vars(below))
        kept = {name: item for name, item in vars(value).items() if name not in left_out}
        return self.names(kept, place)

    def method(self, value: types.MethodType, place: Place) -> str:
        function = self.spell(value.__func__, place)
        return self.tag("method", function, self.spell(value.__self__, place))

    def builtin(self, value: Any, place: Place) -> str:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return self.tag("builtin", self.text(value.__module__), self.text(value.__qualname__))
        return self.tag("method", self.text(value.__name__), self.spell(owner, place))

    def partial(self, value: Any, place: Place) -> str:
        function = self.spell(value.func, place)
        arguments = self.listed(value.args, place)
        return self.tag("partial", function, arguments, self.names(value.keywords, place))

    def proxy(self, value: Any, place: Place) -> str:
        below = object.__getattribute__(value, "__wrapped__")
        if isinstance(below, staticmethod | classmethod):
            below = below.__func__
        function = self.spell(below, place)
        if type(value).__module__ == "llmcache.decorator":
            decorated = value._self_parent or value
            return self.tag("cached", function, self.spell(decorated._self_declared, place))
        wrapper = self.spell(value._self_wrapper, place)
        return self.tag("decorated", function, wrapper, self.spell(value._self_enabled, place))


def is_held(thing: Any) -> bool:
    found: Any = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return thing.__module__ != "__main__" and any(layer is thing for layer in layers(found))


def layers(thing: Any) -> Iterator[Any]:
    while thing is not None:
        yield thing
        if isinstance(thing, PROXY):
            thing = object.__getattribute__(thing, "__wrapped__")
        elif isinstance(thing, functools.partial):
            thing = thing.func
        elif isinstance(thing, types.MethodType | staticmethod | classmethod):
            thing = thing.__func__
        else:
            thing = getattr(thing, "__dict__", {}).get("__wrapped__")


def is_retry(layer: Any) -> bool:
    return type(layer) is types.FunctionType and any(
        layer.__globals__.get("__name__") == module
        and layer.__code__.co_qualname.startswith(beginning)
        for module, beginning in WRAPPERS
    )


def qualname(thing: Any) -> str:
    name: str = thing.__qualname__
    for part in ("<listcomp>.", "<setcomp>.", "<dictcomp>.", "<genexpr>."):
        name = name.replace(part, "")
    return name


def defaults(function: types.FunctionType) -> dict[str, Any]:
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def quoted_digest(text: str) -> str:
    return f'"{hashlib.sha256(text.encode()).hexdigest()}"'


@functools.lru_cache
def parsed(lines: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(lines)))


def source(function: types.FunctionType) -> str:
    """Return a ``def`` statement without its decorators, or a lambda expression."""
    code = function.__code__
    lines = "".join(linecache.getlines(code.co_filename))
    nodes = parsed(lines)
    if code.co_name != "<lambda>":
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if first == code.co_firstlineno and node.name == code.co_name:
                    return ast.get_source_segment(lines, node) or ""
        raise Refused("no source")
    lambdas = [
        node
        for node in nodes
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
    ]
    # A constant that is returned has no place in some versions of Python.
    if places := [(p[0], p[2]) for p in code.co_positions() if p[3]]:
        body = min(places)
        lambdas = [
            node
            for node in lambdas
            if (node.lineno, node.col_offset) < body <= (node.end_lineno, node.end_col_offset)
        ]
    innermost = max(lambdas, key=lambda node: node.col_offset)
    return ast.get_source_segment(lines, innermost) or ""
