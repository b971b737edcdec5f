"""What was decorated: how it answers, what it takes, and what it is bound to already."""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import partial
from inspect import Signature
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeAlias

from llmcache import clients
from llmcache.keys.binding import signature_of

Kind: TypeAlias = Literal["plain", "coroutine", "generator"]


class Callee(NamedTuple):
    """A callable, as the cache sees it.

    Args:
        kind: answers at once, when awaited, or bit by bit.
        signature: as it was decorated, ``None`` where Python does not know it.
        owner: the object that it is or is bound to, whichever object it is got from.
        binds: whether it becomes a method of the objects that it is got from.
        streams: whether it asks for a stream unless its caller says otherwise.
    """

    kind: Kind
    signature: Signature | None
    owner: Any
    binds: bool
    streams: bool = False


def callee_of(function: Any) -> Callee:
    """Look at what is to be decorated."""
    if isinstance(function, staticmethod | classmethod):
        inner = callee_of(function.__func__)
        return Callee(
            kind=inner.kind,
            signature=inner.signature,
            owner=None,
            binds=isinstance(function, classmethod),
        )
    signature = signature_of(function)
    if isinstance(function, partial):
        return _partial(function, signature)
    owner, binds = None, True
    call = function
    if not isinstance(getattr(function, "__self__", None), ModuleType | None):
        owner, binds = function.__self__, False
    elif not inspect.isroutine(function) and not inspect.isclass(function):
        owner, binds = function, False
        call = type(function).__call__
    return Callee(kind=_kind_of(function, call), signature=signature, owner=owner, binds=binds)


def _partial(function: partial[Any], signature: Signature | None) -> Callee:
    inner = callee_of(function.func)
    kind, streams = inner.kind, function.keywords.get("stream", inner.streams) is True
    if inner.signature is not None:
        with suppress(TypeError):
            given = inner.signature.bind_partial(*function.args).arguments
            if given.get("stream") is True:
                # No caller can say otherwise.
                kind = "generator"
    return Callee(kind=kind, signature=signature, owner=inner.owner, binds=False, streams=streams)


def _kind_of(function: Any, call: Any) -> Kind:
    for candidate in (function, call):
        if inspect.isgeneratorfunction(candidate) or inspect.isasyncgenfunction(candidate):
            return "generator"
        if inspect.iscoroutinefunction(candidate):
            return "coroutine"
    # The SDKs wrap coroutine functions in functions; what returns a paginator is none.
    awaited = clients.is_async(function) and inspect.iscoroutinefunction(inspect.unwrap(function))
    return "coroutine" if awaited else "plain"
