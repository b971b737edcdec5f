"""Keys of whole calls, as docs/canonical-form.rst specifies them: the last part of reference.py."""

from __future__ import annotations

import functools
import hashlib
import hmac
import inspect
from typing import Any

from keys.reference import listed, mapping, names, spell, text
from keys.reference_functions import Place

RESTS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def call_key(
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    name: str | None = None,
    version: Any = None,
    ignore: tuple[str, ...] = ("request_id",),
    secret: bytes | None = None,
    owner: Any = None,
    key: Any = None,
    shown: bool = False,
) -> str:
    """Return the key of a call of *function*, which has a cache with these options.

    Args:
        function: what has the cache.
        args: what it is called with, but for *owner*.
        kwargs: likewise.
        name: as the cache has it, like all that follow but the last.
        version: likewise.
        ignore: likewise.
        secret: likewise.
        owner: what a method is bound to, or a callable object.
        key: likewise.
        shown: whether *key* is given *owner*.
    """
    whole = arguments(function, args, kwargs, (), without_first=owner is not None)
    bound = arguments(function, args, kwargs, ignore, without_first=owner is not None)
    streams = True in (whole.get("stream") is True, whole.get("**", {}).get("stream") is True)
    lines = [f"llmcache/1 {'stream' if streams else 'call'}"]
    lines.append(hashlib.sha256(identity(function, name, version).encode()).hexdigest())
    if owner is not None and not shown:
        lines.append(owner_form(owner))
    if key is None:
        lines.append(spell(bound, Place()))
    else:
        returned = key(owner, *args, **kwargs) if shown else key(*args, **kwargs)
        lines.append(f"!key{spell(returned, Place())}")
    data = "\n".join(lines).encode()
    if secret is not None:
        return hmac.new(secret, data, "sha256").hexdigest()
    return hashlib.sha256(data).hexdigest()


def identity(function: Any, name: str | None, version: Any) -> str:
    added = []
    while isinstance(function, functools.partial):
        positional = listed(function.args, Place())
        added.append(f"[{positional},{mapping(function.keywords, Place())}]")
        function = function.func
    members = {"partial": f"[{','.join(added)}]", "version": spell(version, Place())}
    if name is not None:
        members["name"] = text(name)
    else:
        members |= names.members(function, Place())
    return "!function{" + ",".join(f'"{k}":{v}' for k, v in sorted(members.items())) + "}"


def owner_form(owner: Any) -> str:
    if isinstance(owner, type):
        return f"!owner[{names.name(owner, Place())}]"
    if not vars(owner):
        return f"!object[{names.name(type(owner), Place())},{{}}]"
    return spell(owner, Place())


def arguments(
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ignore: tuple[str, ...],
    *,
    without_first: bool,
) -> dict[str, Any]:
    signature = inspect.signature(function)
    if without_first:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    call = signature.bind(*args, **kwargs)
    call.apply_defaults()
    bound: dict[str, Any] = {}
    rests = [p.name for p in signature.parameters.values() if p.kind in RESTS]
    for parameter in signature.parameters.values():
        value = call.arguments[parameter.name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            spelled, value = "*", list(value)
        elif parameter.kind is parameter.VAR_KEYWORD:
            spelled = "**"
            value = {key: item for key, item in value.items() if key not in ignore or key in rests}
        else:
            spelled = parameter.name
        if parameter.name not in ignore:
            bound[spelled] = value
    return bound
