"""The arguments of a call by the names of the parameters, however they were passed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter, Signature
from typing import Any, Final

from llmcache.errors import ConfigurationError, LLMCacheError
from llmcache.keys.fit import are_leaves

DEFAULT_IGNORE: Final = ("request_id",)
_EMPTY: Final = Parameter.empty
_NO_REST: Final[Mapping[str, Any]] = {}
_SPELLINGS: Final = ("*", "**")
_SPELLING: Final[dict[Any, str]] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


class Mismatch(LLMCacheError, TypeError):
    """Arguments that the function does not take: it says so better itself."""


class Binder:
    """Binds calls of one function; prepared once, since `Signature.bind` costs more than a hit.

    Positional arguments that only ``*args`` takes stand under ``"*"``, keyword
    arguments that only ``**kwargs`` takes under ``"**"``: no parameter can
    have these names.

    Args:
        signature: of the function as its callers see it, or ``None`` where
            Python does not know it.
        ignore: the names of the arguments to leave out.
        streams: whether a call asks for a stream that does not say so.
    """

    __slots__ = (
        "_asks",
        "_defaults",
        "_names",
        "_positional",
        "_rest",
        "_signature",
        "bind",
        "has_constant_defaults",
        "ignored",
        "may_stream",
    )

    def __init__(
        self, signature: Signature | None, ignore: Collection[str] = (), *, streams: bool = False
    ) -> None:
        parameters = [] if signature is None else list(signature.parameters.values())
        kinds = {p.kind for p in parameters}
        self._signature = signature
        self._asks = streams
        plain = signature is not None and kinds.isdisjoint(
            {Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL}
        )
        self._rest = signature is None or Parameter.VAR_KEYWORD in kinds
        named = [p for p in parameters if p.kind is not Parameter.VAR_KEYWORD]
        self._names = frozenset(p.name for p in named)
        self._positional = tuple(p.name for p in named if p.kind is Parameter.POSITIONAL_OR_KEYWORD)
        self._defaults = {p.name: p.default for p in named if p.default is not _EMPTY}
        spelled = {p.name: _SPELLING.get(p.kind, p.name) for p in parameters}
        self.ignored: Final = tuple(
            spelled.get(name, name) for name in ignore if self._rest or name in spelled
        )

        self.bind: Final = self._bind_plainly if plain else self._bind_fully
        """Returns the arguments by name, defaults and ignored ones included, not to be changed.

        Raises:
            Mismatch: if the function does not take these arguments.
        """
        self.has_constant_defaults: Final = are_leaves(self._defaults.values())
        """Whether an argument that is left out is the same for all time."""
        self.may_stream: Final = self._rest or "stream" in self._names

    def streams(self, bound: Mapping[str, Any]) -> bool:
        """Say whether *bound* asks for a stream: only ``True`` does."""
        if bound.get("stream") is True:
            return True
        return self._rest and bound.get("**", {}).get("stream", self._asks) is True

    def is_plain(self, bound: Mapping[str, Any]) -> bool:
        """Say whether *bound* asks for no stream and has nothing that is ignored."""
        rest = bound.get("**", _NO_REST) if self._rest else _NO_REST
        for name in self.ignored:
            if name in bound or name in rest:
                return False
        return bound.get("stream") is not True and rest.get("stream", self._asks) is not True

    def strip(self, bound: Mapping[str, Any]) -> dict[str, Any]:
        """Return *bound* without the ignored arguments."""
        kept = _without(self.ignored, bound)
        if rest := kept.get("**"):
            kept["**"] = _without([name for name in self.ignored if name not in _SPELLINGS], rest)
        return kept

    def _bind_plainly(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        if not args:
            if not self._rest and kwargs.keys() == self._names:
                return kwargs
            if self._rest and not self._names:
                return {"**": kwargs}
        bound = self._defaults.copy()
        if args:
            positional = self._positional[: len(args)]
            if len(positional) < len(args) or not kwargs.keys().isdisjoint(positional):
                raise Mismatch("too many positional arguments")
            bound.update(zip(positional, args, strict=True))
        if not self._rest:
            bound.update(kwargs)
            if bound.keys() != self._names:
                raise Mismatch("missing or unexpected arguments")
            return bound
        names = self._names
        rest = {}
        for name, value in kwargs.items():
            if name in names:
                bound[name] = value
            else:
                rest[name] = value
        if len(bound) != len(names):
            raise Mismatch("missing arguments")
        bound["**"] = rest
        return bound

    def _bind_fully(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._signature is None:
            return {"*": args, "**": dict(kwargs)}
        try:
            call = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise Mismatch(str(error)) from None
        call.apply_defaults()
        bound: dict[str, Any] = {}
        for name, value in call.arguments.items():
            kind = self._signature.parameters[name].kind
            if kind is Parameter.VAR_POSITIONAL:
                bound["*"] = value
            elif kind is Parameter.VAR_KEYWORD:
                bound["**"] = dict(value)
            else:
                bound[name] = value
        return bound


def _without(names: Collection[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


def signature_of(function: Callable[..., Any]) -> Signature | None:
    """Return the signature of *function*, ``None`` where Python does not know it."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def without_first(signature: Signature | None) -> Signature | None:
    """Return *signature* without ``self`` or ``cls``."""
    if signature is None:
        return None
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind is not Parameter.VAR_POSITIONAL:
        parameters = parameters[1:]
    return signature.replace(parameters=parameters)


def check_ignore(signature: Signature | None, ignore: Collection[str]) -> None:
    """Refuse an *ignore* that cannot be meant.

    Raises:
        ConfigurationError: if it has a name that the function does not take,
            or leaves nothing of its parameters.
    """
    if signature is None:
        return
    names = list(signature.parameters)
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in signature.parameters.values())
    if (
        ignore is not DEFAULT_IGNORE
        and not takes_any
        and (unknown := [name for name in ignore if name not in names])
    ):
        raise ConfigurationError(
            f"ignore names {unknown[0]!r}, which is no parameter of the function: "
            f"it has {', '.join(names) or 'none'}"
        )
    if names and set(names) <= set(ignore):
        raise ConfigurationError(
            f"ignore={tuple(ignore)!r} leaves out every parameter, so that all calls would "
            "share one answer; ignore=() keeps them"
        )
