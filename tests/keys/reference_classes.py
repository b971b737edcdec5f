"""Classes, types and clients, as docs/canonical-form.rst specifies them: part of reference.py."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import inspect
import pathlib
import re
import sys
import types
import typing
from typing import Any

import msgspec
import pydantic

from keys.reference_functions import (
    Functions,
    Place,
    Refused,
    defaults,
    is_held,
    is_retry,
    layers,
    quoted_digest,
    source,
)

SPECIFICATION = pathlib.Path(__file__).parents[2] / "docs" / "canonical-form.rst"
PYTHON_CLASS = 1 << 9
SDKS = ("openai", "anthropic")
MAKERS = {*sys.stdlib_module_names, "attr", "attrs", "msgspec", "pydantic"}
NATIVE = (
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)


def specified(first: str, last: str) -> list[str]:
    """Return the names that the specification lists, from *first* to *last*."""
    text = SPECIFICATION.read_text()
    start = text.index(f"``{first}``")
    return re.findall("``([^`]+)``", text[start : text.index(f"``{last}``", start) + len(last) + 4])


TRANSPORT = specified("accept", "user-agent")
SECRETS = specified("api-key", "token")
SETTINGS = specified("_api_version", "workspace_id")
HOUSEKEEPING = specified("__abstractmethods__", "_is_runtime_protocol")


class Names(Functions):
    """Spells all that has a name."""

    def name(self, kind: type, place: Place) -> str:
        if again := place.again(kind):
            return again
        generic = vars(kind).get("__pydantic_generic_metadata__") or {}
        if generic.get("origin"):
            origin = self.name(generic["origin"], place)
            return self.tag("generic", origin, *(self.spell(a, place) for a in generic["args"]))
        module, *_ = kind.__module__.partition("._")
        module = module if module in sys.stdlib_module_names else kind.__module__
        name = self.text(f"{module}:{kind.__qualname__}")
        if not kind.__flags__ & PYTHON_CLASS or is_held(kind):
            return name
        place.number(kind)
        written = class_source(kind)
        schema = self.schema(kind, place)
        made = self.made(kind, place, annotated=schema == "null")
        if written is not None:
            return self.tag("local", name, quoted_digest(written), made, schema)
        if schema == "null":
            raise Refused("a class without a source")
        return self.tag("made", name, made, schema)

    def made(self, kind: type, place: Place, *, annotated: bool) -> str:
        of_user = type(kind).__module__.partition(".")[0] not in MAKERS
        metaclass = self.name(type(kind), place) if of_user else "null"
        bases = [self.name(base, place) for base in kind.__bases__]
        written = vars(kind).get("__orig_bases__", ())
        bases += [self.spell(base, place) for base in written if typing.get_origin(base)]
        members = [
            f"{self.text(name)}:{self.member(kind, name, member, place)}"
            for name, member in sorted(vars(kind).items())
            if counts(kind, name, member)
        ]
        hints = vars(kind).get("__annotations__", {}) if annotated else {}
        found = (metaclass, f"[{','.join(bases)}]", "{" + ",".join(members) + "}")
        return f"[{','.join(found)},{self.names(hints, place)}]"

    def member(self, kind: type, name: str, member: Any, place: Place) -> str:
        if issubclass(kind, enum.Enum) and name in kind.__members__:
            return self.spell(kind.__members__[name], place)
        if name == "__doc__":
            return self.doc(own_doc(kind))
        if issubclass(type(member), type):
            return self.name(member, place)
        parts: tuple[Any, ...] | None = None
        if type(member) is property:
            parts = (member.fget, member.fset, member.fdel)
        elif type(member) is functools.cached_property:
            parts = (member.func,)
        elif type(member) is functools.partialmethod:
            parts = (member.func, member.args, member.keywords)
        if parts is not None:
            return "[" + ",".join(self.member(kind, name, part, place) for part in parts) + "]"
        stack = [layer for layer in layers(member) if type(layer) is types.FunctionType]
        if not stack:
            return self.spell(member, place)
        new = [layer for layer in stack if place.number(layer)]
        found = []
        for layer in layers(member):
            if any(layer is n for n in new):
                if not is_retry(layer):
                    digest = quoted_digest(source(layer))
                    closure = self.closure(layer, place)
                    found.append(f"[{digest},{closure},{self.names(defaults(layer), place)}]")
            elif type(layer) not in (staticmethod, classmethod):
                found.append(self.spell(layer, place))
        return "[" + ",".join(found) + "]"

    def class_(self, kind: type, place: Place) -> str:
        name = self.name(kind, place)
        return self.tag("class", name, self.schema(kind, place))

    def schema(self, kind: Any, place: Place) -> str:
        if issubclass(kind, enum.Enum):
            return self.names({n: m._value_ for n, m in kind.__members__.items()}, place)
        if issubclass(kind, pydantic.BaseModel):
            return self.spell(kind.model_json_schema(), place)
        if issubclass(kind, msgspec.Struct):
            schema = msgspec.json.schema(kind)
            for definition in schema["$defs"].values():
                if "description" in definition:
                    definition["description"] = inspect.cleandoc(definition["description"])
            return self.spell(schema, place)
        marks = ("__dataclass_fields__", "_fields", "__total__", "__attrs_attrs__")
        return self.fields(kind, place) if any(hasattr(kind, m) for m in marks) else "null"

    def fields(self, kind: Any, place: Place) -> str:
        if again := place.again(kind, "fields"):
            return again
        place.number(kind, "fields")
        nothing = (dataclasses.MISSING, sys.modules["attr"].NOTHING)
        made = getattr(kind, "__attrs_attrs__", ())
        known = made or getattr(kind, "__dataclass_fields__", {}).values()
        types_ = dict.fromkeys((*getattr(kind, "_fields", ()), *(f.name for f in made)), Any)
        types_ |= typing.get_type_hints(kind, include_extras=True)
        given = dict(getattr(kind, "_field_defaults", {}))
        more: dict[str, Any] = {}
        for field in known:
            for choice in (field.default, getattr(field, "default_factory", nothing[0])):
                if not any(choice is n for n in nothing):
                    given[field.name] = choice
            told = {n: getattr(field, n, None) for n in ("converter", "validator")}
            told = {n: item for n, item in told.items() if item is not None}
            if field.metadata:
                told["metadata"] = dict(field.metadata)
            more |= {field.name: told} if told else {}
        required = self.listed(sorted(getattr(kind, "__required_keys__", ())), place)
        parts = [self.doc(own_doc(kind)), self.names(types_, place), self.names(given, place)]
        return self.tag("fields", *parts, required, self.names(more, place))

    def type(self, value: Any, place: Place) -> str:
        kind = type(value).__name__
        if kind == "ForwardRef":
            return self.text(value.__forward_arg__)
        if kind == "NewType":
            name = self.text(f"{value.__module__}:{value.__qualname__}")
            return self.tag("newtype", name, self.spell(value.__supertype__, place))
        if kind in ("TypeVar", "ParamSpec", "TypeVarTuple"):
            return self.variable(value, place)
        if kind == "InitVar":
            return self.tag("generic", '"dataclasses:InitVar"', self.spell(value.type, place))
        if kind == "_SpecialForm":
            return self.text(f"typing:{value._name}")
        return self.alias(value, place)

    def variable(self, value: Any, place: Place) -> str:
        if again := place.again(value):
            return again
        place.number(value)
        kind, name = self.text(type(value).__name__), self.text(value.__name__)
        bound = self.spell(getattr(value, "__bound__", None), place)
        constraints = self.listed(getattr(value, "__constraints__", ()), place)
        return self.tag("typevar", kind, name, bound, constraints)

    def alias(self, value: Any, place: Place) -> str:
        origin, arguments = typing.get_origin(value), typing.get_args(value)
        if origin in (typing.Union, types.UnionType):
            return "!union[" + ",".join(self.values.alone(arguments, place)) + "]"
        if origin is typing.Literal:
            return "!literal" + self.listed(arguments, place)
        if origin is typing.Annotated:
            return "!annotated" + self.listed((value.__origin__, *value.__metadata__), place)
        if isinstance(origin, type) and not hasattr(value, "__args__"):
            return self.spell(origin, place)
        form = self.tag("generic", *(self.spell(part, place) for part in (origin, *arguments)))
        if getattr(value, "__unpacked__", False):
            return self.tag("generic", '"typing:Unpack"', form)
        return form

    def client(self, value: Any, place: Place) -> str:
        client = value if hasattr(value, "_custom_query") else value._client
        names = [self.name(type(thing), place) for thing in (value, client)]
        state = vars(client)
        settings = {
            "base_url": str(client._base_url),
            "query": dict(client._custom_query),
            "headers": {
                header.lower(): item
                for header, item in client._custom_headers.items()
                if is_content(header.lower().replace("_", "-"))
            },
            "settings": {
                name: state[name]
                for name in SETTINGS
                if isinstance(state.get(name), str | bool | int)
            },
        }
        own = self.names(of_user_only(client), place)
        return self.tag("client", *names, self.names(settings, place), own)


def is_content(header: str) -> bool:
    if header in TRANSPORT or header.startswith("x-stainless-"):
        return False
    return not any(header == secret or header.endswith(f"-{secret}") for secret in SECRETS)


def of_user_only(client: Any) -> dict[str, Any]:
    """Return the attributes that no class of the SDK declares, defines or assigns in a method."""
    if type(client).__module__.partition(".")[0] in SDKS:
        return {}
    bases = [b for b in type(client).__mro__ if b.__module__.partition(".")[0] in SDKS]
    known: set[str] = set()
    for base in bases:
        known |= {*vars(base), *vars(base).get("__annotations__", {})}
        tree = ast.parse(pathlib.Path(inspect.getfile(base)).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == base.__name__:
                inner = list(ast.walk(node))
                known |= {
                    n.attr
                    for n in inner
                    if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
                }
    return {name: item for name, item in vars(client).items() if name not in known}


def class_source(kind: type) -> str | None:
    """Return a ``class`` statement without its decorators, if there is one of that name."""
    lines = pathlib.Path(inspect.getfile(kind)).read_text()
    *outer, name = kind.__qualname__.replace(".<locals>", "").split(".")
    scopes: list[ast.AST] = [ast.parse(lines)]
    for scope in outer:
        scopes = [
            node
            for parent in scopes
            for node in ast.iter_child_nodes(parent)
            if getattr(node, "name", None) == scope
        ]
    found = [
        node
        for scope_ in scopes
        for node in ast.walk(scope_)
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    return ast.get_source_segment(lines, found[0]) if len(found) == 1 else None


def own_doc(kind: type) -> str | None:
    doc = vars(kind).get("__doc__")
    return None if doc is None or doc.startswith(f"{kind.__name__}(") else doc


def counts(kind: type, name: str, member: Any) -> bool:
    if name in HOUSEKEEPING or name.startswith(("__attrs_", "__pydantic_", "__struct_")):
        return False
    if name == "__doc__":
        return own_doc(kind) is not None
    own = name == "__new_member__" or (name[0] == name[-1] == "_" and name[1] != "_")
    if issubclass(kind, enum.Enum) and name not in kind.__members__ and own:
        return False
    inner = member.__func__ if type(member) in (staticmethod, classmethod) else member
    if type(inner) is types.FunctionType:
        return any(
            not layer.__code__.co_filename.startswith("<")
            and str(layer.__globals__.get("__name__")).partition(".")[0] not in MAKERS
            for layer in layers(inner)
            if type(layer) is types.FunctionType
        )
    return name not in getattr(kind, "_fields", ()) and not isinstance(member, NATIVE)
