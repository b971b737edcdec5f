"""What a decorated function was told, put together with the defaults when it is first called."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import orjson

from llmcache import process
from llmcache.backends.base import Store
from llmcache.backends.registry import PRIVATE
from llmcache.callables import callee_of
from llmcache.codec.frame import Frame
from llmcache.entries import EntryFormat
from llmcache.errors import (
    ConfigurationError,
    LLMCacheError,
    UncacheableArgument,
    UncacheableFunction,
)
from llmcache.guard import Visit
from llmcache.keys.binding import Binder, check_ignore, without_first
from llmcache.keys.identity import Capture, Identity, name_of
from llmcache.keys.request import Keyer, OwnerRole
from llmcache.policy import Policy
from llmcache.settings import BUILT_IN, Settings
from llmcache.stats import Counters
from llmcache.tier_list import place_of
from llmcache.tiers import visits


class Options(NamedTuple):
    """What a decorator was told about one function.

    Args:
        settings: what it was told of what has defaults.
        ignore: names of parameters that are left out of the key.
        name: replaces the function's own name, source and closure.
        version: told apart from other versions; any value with a canonical form.
        key: the user's key function.
    """

    settings: Settings
    ignore: tuple[str, ...]
    name: str | None
    version: Any
    key: Callable[..., Any] | None


class Requests(Protocol):
    """Makes the digests of calls."""

    def request(
        self, owner: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[bytes, bool]:
        """Return a call's digest, and whether it asks for a stream."""
        ...


class _Refusal(NamedTuple):
    """Makes no digest, and says why."""

    error: LLMCacheError

    def request(
        self, owner: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[bytes, bool]:
        raise self.error


class Runtime(NamedTuple):
    """What a function's calls need, resolved once for all until the defaults change.

    Args:
        basis: the process's settings that it was resolved from.
        enabled: whether the cache is on.
        strict: raise what is otherwise logged.
        entries: how answers are kept, and for how long.
        policy: theirs.
        store: where they are kept.
        direct: the store, if it never waits.
        visit: makes the use of the store by one call.
        group: the function's part of the store.
        prefix: stands before each key.
        free: makes the digests of calls as they are.
        bound: makes the digests of a method's calls, without the first argument.
    """

    basis: Settings
    enabled: bool
    strict: bool
    entries: EntryFormat
    policy: Policy
    store: Store
    direct: Store | None
    visit: Callable[[], Visit]
    group: str
    prefix: str
    free: Requests
    bound: Requests


class Resolver:
    """Makes the runtimes of one decorated function.

    Args:
        function: what was decorated, as it was given.
        options: what the decorator was told.
        counters: told what stores drop of the function's entries.

    Raises:
        ConfigurationError: if the options do not fit the function.
    """

    def __init__(self, function: Any, options: Options, counters: Counters) -> None:
        self.process: Final = process.current
        self.name: Final = name_of(function)
        self.callee: Final = callee_of(function)
        self._options = options
        self._counters = counters
        self._lock = threading.RLock()
        self._stores: dict[Any, Store] = {}
        signature = self.callee.signature
        check_ignore(signature, options.ignore)
        self._free = Binder(signature, options.ignore, streams=self.callee.streams)
        self._bound = self._free
        self._keys_owner = True
        if self.callee.binds and signature is not None:
            self._bound = Binder(without_first(signature), options.ignore)
            self._keys_owner = next(iter(signature.parameters), None) not in options.ignore
        self._identity: Identity | None = None
        self._capture: Capture | UncacheableArgument
        try:
            self._capture = Capture(function, name=options.name, version=options.version)
        except UncacheableArgument as error:
            self._capture = error
        self.shown_name: Final = options.name or self.name
        self._metadata = _metadata(self.shown_name, options.version)
        if options.name is not None:
            self._agreement = process.Agreement(
                process.Sharing(
                    parameters=frozenset(signature.parameters if signature else ()),
                    ignore=frozenset(options.ignore),
                    key=options.key,
                ),
                function,
                None if "<" in self.name else self.name,
            )
            self.process.agree(options.name, self._options_now().backend, self._agreement)

    def resolve(self) -> Runtime:
        """Put declared options, defaults and the environment together."""
        with self._lock:
            basis = self.process.settings
            refusal: _Refusal | None = None
            options = self._options_now()
            try:
                self.process.resolve(self._options.settings)
            except ConfigurationError as error:
                refusal = _Refusal(UncacheableFunction(f"{self.name} is not cached: {error}"))
            identity = self._identify()
            if isinstance(identity, UncacheableFunction):
                refusal, identity = _Refusal(identity), _NOBODY
            elif not identity.portable:
                options = replace(options, backend=PRIVATE)
            if self._options.name is not None:
                # configure() may have brought functions together that were apart.
                try:
                    self.process.agree(self._options.name, options.backend, self._agreement)
                except ConfigurationError as error:
                    refusal = _Refusal(UncacheableFunction(f"{self.name} is not cached: {error}"))
            store = self._store(options)
            # A store that cannot report what it drops only has fewer numbers.
            with suppress(Exception):
                store.watch(identity.digest[:16], self._counters.count)
            return self._runtime(basis, options, identity, refusal, store)

    def max_size(self) -> int | None:
        """Return the most entries that the function's store holds, ``None`` if it does not say."""
        size = getattr(self._store(self._options_now()), "max_size", None)
        return size if isinstance(size, int) else None

    def _options_now(self) -> Settings:
        """Return what holds now, without the environment if that cannot be meant."""
        declared = self._options.settings
        try:
            return self.process.resolve(declared)
        except ConfigurationError:
            return declared.over(self.process.settings).over(BUILT_IN)

    def _runtime(
        self,
        basis: Settings,
        options: Any,
        identity: Identity,
        refusal: _Refusal | None,
        store: Store,
    ) -> Runtime:
        key, secret = self._options.key, options.secret
        owner: OwnerRole = "shown" if key is not None else "keyed"
        if not self._keys_owner:
            owner = "ignored"
        group = identity.digest[:16]
        policy = Policy(
            ttl=options.ttl, max_value_bytes=options.max_value_bytes, clock=options.clock
        )
        frame = Frame(
            max_plain=options.max_value_bytes,
            compress=options.compress,
            keyring=options.encrypt,
        )
        return Runtime(
            basis=basis,
            enabled=options.enabled,
            strict=options.strict,
            entries=EntryFormat(policy=policy, frame=frame, metadata=self._metadata),
            policy=policy,
            store=store,
            direct=store if store.timeout is None else None,
            visit=visits(store, options.clock.monotonic),
            group=group,
            prefix=f"{group}:",
            free=refusal or Keyer(identity, self._free, key=key, secret=secret),
            bound=refusal or Keyer(identity, self._bound, key=key, secret=secret, owner=owner),
        )

    def _identify(self) -> Identity | UncacheableFunction:
        try:
            if isinstance(self._capture, UncacheableArgument):
                raise self._capture
            if self._identity is None:
                self._identity = self._capture.identity()
        except UncacheableArgument as error:
            return UncacheableFunction(
                f"{self.name} cannot be told apart from other functions: {error.place} "
                f"{error.reason}. Give it a name=, or define it where a module holds it"
            )
        return self._identity

    def _store(self, options: Settings) -> Store:
        """Return the store of these options, the same as before if they were resolved before."""
        place = (
            place_of(options.backend),
            options.max_size,
            options.max_bytes,
            options.clock,
        )
        if place not in self._stores:
            self._stores[place] = self.process.store(options, self._options.name)
        return self._stores[place]


def _metadata(name: str, version: Any) -> bytes:
    """Return what entries say of their function; texts that are no Unicode are spelled out."""
    shown = {"function": name}
    if type(version) is str:
        shown["version"] = version
    elif type(version) is int:
        # Python writes no decimal number of thousands of digits.
        shown["version"] = str(version) if abs(version) < 2**64 else hex(version)
    spelled = {key: text.encode("utf-8", "backslashreplace") for key, text in shown.items()}
    return orjson.dumps({key: text.decode() for key, text in spelled.items()})


_NOBODY: Final = Identity(digest="0" * 64, portable=False)
