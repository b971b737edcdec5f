"""What was decorated: how it answers, what it takes, and what it is bound to already."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from inspect import Signature
from typing import Any, Literal, TypeAlias

from llmcache import clients
from llmcache.keys.binding import signature_of

Kind: TypeAlias = Literal["plain", "coroutine", "generator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Callee:
    """A callable, as the cache sees it.

    Args:
        kind: answers at once, when awaited, or bit by bit.
        signature: as it was decorated, ``None`` where Python does not know it.
        owner: the object that it is or is bound to, whichever object it is got from.
        binds: whether it becomes a method of the objects that it is got from.
    """

    kind: Kind
    signature: Signature | None
    owner: Any
    binds: bool


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
        inner = callee_of(function.func)
        return Callee(kind=inner.kind, signature=signature, owner=inner.owner, binds=False)
    owner, binds = None, True
    call = function
    if hasattr(function, "__func__") and hasattr(function, "__self__"):
        owner, binds = function.__self__, False
    elif not inspect.isroutine(function) and not inspect.isclass(function):
        owner, binds = function, False
        call = type(function).__call__
    return Callee(kind=_kind_of(function, call), signature=signature, owner=owner, binds=binds)


def _kind_of(function: Any, call: Any) -> Kind:
    for candidate in (function, call):
        if inspect.isgeneratorfunction(candidate) or inspect.isasyncgenfunction(candidate):
            return "generator"
        if inspect.iscoroutinefunction(candidate):
            return "coroutine"
    return "coroutine" if clients.is_async(function) else "plain"
