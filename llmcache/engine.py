"""One call, from its key to its answer: the only place that orders the steps."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from llmcache.backends.base import Store
from llmcache.codec.classes import ClassGone
from llmcache.codec.frame import AWAITED, CorruptEntry, Entry, UnreadableEntry
from llmcache.codec.size import exceeds
from llmcache.codec.tree import check_comes_back, decode, encode
from llmcache.errors import UncacheableArgument, UncacheableFunction, UncacheableValue
from llmcache.keys.binding import Mismatch
from llmcache.manager import size_of
from llmcache.policy import judge
from llmcache.ports import AsyncPort, Port, SyncPort, drive, is_awaitable
from llmcache.runtime import Options, Resolver, Runtime
from llmcache.stats import Counters, Stats

logger: Final = logging.getLogger("llmcache")


class _Sign:
    """Stands where an answer would, when there is none."""


_NOTHING: Final = _Sign()
_SPOILT: Final = _Sign()


class Engine:
    """Answers the calls of one decorated function.

    Args:
        function: what was decorated, as it was given.
        options: what the decorator was told.

    Raises:
        ConfigurationError: if the options do not fit the function.
    """

    def __init__(self, function: Any, options: Options) -> None:
        self.counters: Final = Counters()
        self._resolver = Resolver(function, options, self.counters)
        self._process = self._resolver.process
        self._owner = self._resolver.callee.owner
        self.kind: Final = self._resolver.callee.kind
        self.declared: Final = (options.name, options.version)
        self.name: Final = self._resolver.name
        self._runtime: Runtime | None = None
        self._lock = threading.RLock()
        self._logged: set[str] = set()
        self._process.join(self)

    def call(
        self,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Answer a call of a function that is no coroutine function.

        Args:
            function: what runs if the cache does not answer.
            instance: what it was got from and bound to, or ``None``.
            args: the positional arguments.
            kwargs: the keyword arguments.
        """
        runtime = self._runtime
        if runtime is None or runtime.basis is not self._process.settings:
            runtime = self._resolve()
        if not runtime.enabled:
            return function(*args, **kwargs)
        owner = self._owner
        try:
            if owner is not None or instance is None:
                digest, stream = runtime.free.request(owner, args, kwargs)
            else:
                digest, stream = runtime.bound.request(instance, args, kwargs)
        except Exception as error:  # noqa: BLE001
            self._refused(runtime, error)
            return function(*args, **kwargs)
        if stream:
            self.counters.count("bypassed")
            return function(*args, **kwargs)
        answer: Any = _NOTHING
        try:
            data = runtime.store.get(runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            self._broken(runtime, "store", error)
            data = None
        if data is not None:
            answer = self._answer(runtime, digest, data)
            if type(answer) is not _Sign:
                return answer
        return drive(self._miss(_SYNC, runtime, digest, answer, partial(function, *args, **kwargs)))

    async def acall(
        self,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Answer a call of a coroutine function; the arguments are those of `call`."""
        runtime = self._runtime
        if runtime is None or runtime.basis is not self._process.settings:
            runtime = self._resolve()
        if not runtime.enabled:
            return await function(*args, **kwargs)
        try:
            digest, stream = self._request(runtime, instance, args, kwargs)
        except Exception as error:  # noqa: BLE001
            self._refused(runtime, error)
            return await function(*args, **kwargs)
        if stream:
            self.counters.count("bypassed")
            return await function(*args, **kwargs)
        answer: Any = _NOTHING
        try:
            data = await runtime.store.aget(runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            self._broken(runtime, "store", error)
            data = None
        if data is not None:
            answer = self._answer(runtime, digest, data)
            if type(answer) is not _Sign:
                return answer
        call = partial(function, *args, **kwargs)
        return await self._miss(_ASYNC, runtime, digest, answer, call)

    def bypass(
        self,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Let a call of a generator function through; the arguments are those of `call`."""
        if self._resolved().enabled:
            self.counters.count("bypassed")
        return function(*args, **kwargs)

    def key(self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key of a call in hex.

        Raises:
            UncacheableFunction: if the function cannot be told apart from others.
            UncacheableArgument: if an argument has no canonical form.
            TypeError: if the function does not take these arguments.
        """
        return self._named_request(instance, args, kwargs).hex()

    async def contains(
        self, port: Port, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Say whether a call would be answered from the cache; nothing is counted."""
        runtime = self._resolved()
        digest = self._named_request(instance, args, kwargs)
        data = await port.get(runtime.store, runtime.prefix + digest.hex())
        if data is None:
            return False
        try:
            entry, _ = runtime.frame.unseal(data, digest)
        except (CorruptEntry, UnreadableEntry):
            return False
        policy = runtime.policy
        verdict = judge(entry.created, entry.expires, policy.clock.wall(), policy.ttl)
        return verdict == "fresh"

    async def invalidate(
        self, port: Port, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Forget the answer to a call; say whether there was one."""
        runtime = self._resolved()
        digest = self._named_request(instance, args, kwargs)
        return await port.delete(runtime.store, runtime.prefix + digest.hex())

    async def clear(self, port: Port) -> None:
        """Forget all answers of the function."""
        runtime = self._resolved()
        await port.clear(runtime.store, runtime.group)

    def stats(self) -> Stats:
        """Return the function's numbers."""
        place = self.place()
        return self.counters.snapshot(0 if place is None else size_of(*place))

    def place(self) -> tuple[Store, str] | None:
        """Return the store and the group of the function's entries, ``None`` if not yet known."""
        runtime = self._runtime
        return None if runtime is None else (runtime.store, runtime.group)

    def max_size(self) -> int | None:
        """Return the most entries that the function's store holds."""
        return self._resolver.max_size()

    def _request(
        self, runtime: Runtime, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[bytes, bool]:
        owner = self._owner
        if owner is not None or instance is None:
            return runtime.free.request(owner, args, kwargs)
        return runtime.bound.request(instance, args, kwargs)

    def _named_request(
        self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bytes:
        try:
            return self._request(self._resolved(), instance, args, kwargs)[0]
        except UncacheableArgument as error:
            raise error.called_by(self.name) from None

    def _answer(self, runtime: Runtime, digest: bytes, data: bytes) -> Any:
        """Return the value of an entry, or a sign that there is none."""
        try:
            entry, payload = runtime.frame.unseal(data, digest)
            policy = runtime.policy
            if judge(entry.created, entry.expires, policy.clock.wall(), policy.ttl) != "fresh":
                return _NOTHING
            value = decode(entry.codec, payload)
        except (ClassGone, UnreadableEntry, RecursionError):
            return _NOTHING
        except Exception:  # noqa: BLE001
            self.counters.count("corrupt")
            return _SPOILT
        self.counters.hit(entry.duration)
        if entry.flags & AWAITED and self.kind == "plain":
            return _ready(value)
        return value

    async def _miss(
        self, port: Port, runtime: Runtime, digest: bytes, answer: Any, call: Callable[[], Any]
    ) -> Any:
        """Run the function and keep what it returns."""
        self.counters.count("misses")
        if answer is _SPOILT:
            await self._forget(port, runtime, digest)
        clock = runtime.policy.clock
        started = clock.monotonic()
        try:
            value = await port.invoke(call)
        except Exception:
            self.counters.count("failed")
            raise
        if is_awaitable(value):
            return self._later(runtime, digest, value, started)
        await self._keep(port, runtime, digest, value, started, 0)
        return value

    async def _later(self, runtime: Runtime, digest: bytes, result: Any, started: float) -> Any:
        """Await what a plain function returned, and keep the value: an awaitable is no answer."""
        try:
            value = await result
        except Exception:
            self.counters.count("failed")
            raise
        await self._keep(_ASYNC, runtime, digest, value, started, AWAITED)
        return value

    async def _keep(
        self,
        port: Port,
        runtime: Runtime,
        digest: bytes,
        value: Any,
        started: float,
        flags: int,
    ) -> None:
        """Store *value*, if it would come back as it is."""
        policy = runtime.policy
        if not policy.ttl:
            return
        duration = max(policy.clock.monotonic() - started, 0.0)
        try:
            if exceeds(value, policy.max_value_bytes):
                self.counters.count("too_large")
                return
            codec, payload = encode(value)
            if len(payload) > policy.max_value_bytes:
                self.counters.count("too_large")
                return
            check_comes_back(value, codec, payload)
            now = policy.clock.wall()
            entry = Entry(
                created=now,
                expires=now + policy.ttl,
                ttl=policy.ttl,
                duration=duration,
                flags=flags,
                codec=codec,
                metadata=runtime.metadata,
            )
            data = runtime.frame.seal(entry, payload, digest)
            stored = await port.set(runtime.store, runtime.prefix + digest.hex(), data, policy.ttl)
            self.counters.count("stored" if stored else "too_large")
        except UncacheableValue as error:
            self.counters.count("rejected")
            if runtime.strict:
                raise
            self._log_once(str(error), "a result is not stored: %s", error)
        except Exception as error:  # noqa: BLE001
            self._broken(runtime, "store", error)

    async def _forget(self, port: Port, runtime: Runtime, digest: bytes) -> None:
        try:
            await port.delete(runtime.store, runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            self._broken(runtime, "store", error)

    def _refused(self, runtime: Runtime, error: Exception) -> None:
        """Count a call that has no key, and let it through."""
        self.counters.count("uncacheable")
        if isinstance(error, Mismatch):
            return
        if not isinstance(error, UncacheableArgument | UncacheableFunction):
            self._broken(runtime, "key", error)
            return
        if runtime.strict:
            if isinstance(error, UncacheableArgument):
                raise error.called_by(self.name) from None
            raise error
        self._log_once(str(error), "a call goes through uncached: %s", error)

    def _broken(self, runtime: Runtime, where: str, error: Exception) -> None:
        """Count a failure of the cache, and let the call through."""
        self.counters.count("errors")
        if runtime.strict:
            raise error
        # The text of a foreign error may repeat a prompt, an answer or a password.
        kind = type(error).__qualname__
        self._log_once(f"{where} {kind}", "the %s failed (%s), calls go through", where, kind)

    def _log_once(self, what: str, message: str, *args: object) -> None:
        with self._lock:
            if what in self._logged:
                return
            self._logged.add(what)
        logger.warning(f"{self.name}: {message}", *args)

    def _resolved(self) -> Runtime:
        runtime = self._runtime
        if runtime is None or runtime.basis is not self._process.settings:
            runtime = self._resolve()
        return runtime

    def _resolve(self) -> Runtime:
        self._runtime = runtime = self._resolver.resolve()
        return runtime


_SYNC: Final = SyncPort()
_ASYNC: Final = AsyncPort()


async def _ready(value: Any) -> Any:
    return value
