"""One call, from its key to its answer: the only place that orders the steps."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from llmcache.backends.base import Store
from llmcache.codec.frame import AWAITED, CorruptEntry
from llmcache.entries import TooLarge
from llmcache.errors import UncacheableArgument, UncacheableValue
from llmcache.events import Event, Outcome
from llmcache.failures import Failures
from llmcache.guard import Visit
from llmcache.hit import Hit, Unanswered, ask_nobody, straight_line
from llmcache.ports import AsyncPort, Port, SyncPort, drive
from llmcache.process import usage_of
from llmcache.runtime import Options, Resolver, Runtime
from llmcache.stats import NOTHING, Counters, Stats


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
        self._listeners = self._process.listeners
        self._owner = self._resolver.callee.owner
        self.kind: Final = self._resolver.callee.kind
        self.declared: Final = (options.name, options.version)
        self.name: Final = self._resolver.name
        self._runtime: Runtime | None = None
        self._failures = Failures(self.name, self.counters)
        self.hit: Hit = ask_nobody
        """Answers a call of what is bound to nothing, if it is a hit in memory."""
        self._process.join(self)

    def go_on(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        found: Unanswered,
    ) -> Any:
        """Answer a call of which `hit` *found* no answer; the others are as for `call`."""
        runtime = found.runtime
        if runtime is None:
            return self.call(function, None, args, kwargs)
        return drive(self._after(_SYNC, runtime, found, partial(function, *args, **kwargs)))

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
        runtime = self._resolved()
        if not runtime.enabled:
            return function(*args, **kwargs)
        asked = runtime.policy.clock.monotonic() if self._listeners.callbacks else None
        try:
            digest, stream = self._request(runtime, instance, args, kwargs)
        except Exception as error:  # noqa: BLE001
            self._failures.no_key(error, strict=runtime.strict)
            call = partial(function, *args, **kwargs)
            return drive(self._pass(_SYNC, runtime, "uncacheable", asked, call))
        if stream:
            self.counters.count("bypassed")
            call = partial(function, *args, **kwargs)
            return drive(self._pass(_SYNC, runtime, "bypassed", asked, call))
        answer: Any = _NOTHING
        visit = runtime.visit()
        try:
            data = visit.get_now(runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            self._store_failed(runtime, error)
            data = None
        if data is not None:
            answer = self._answer(runtime, digest, data, asked)
            if type(answer) is not _Sign:
                return answer
        call = partial(function, *args, **kwargs)
        return drive(self._miss(_SYNC, runtime, visit, digest, call, answer, asked))

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
            runtime = self._resolved()
        if instance is None and runtime.direct is not None:
            found = self.hit(args, kwargs)
            if type(found) is not Unanswered:
                return found
            if found.runtime is runtime:
                call = partial(function, *args, **kwargs)
                return await self._after(_ASYNC, runtime, found, call)
        if not runtime.enabled:
            return await function(*args, **kwargs)
        asked = runtime.policy.clock.monotonic() if self._listeners.callbacks else None
        try:
            if instance is None:
                digest, stream = runtime.free.request(self._owner, args, kwargs)
            else:
                digest, stream = self._request(runtime, instance, args, kwargs)
        except Exception as error:  # noqa: BLE001
            self._failures.no_key(error, strict=runtime.strict)
            call = partial(function, *args, **kwargs)
            return await self._pass(_ASYNC, runtime, "uncacheable", asked, call)
        if stream:
            self.counters.count("bypassed")
            call = partial(function, *args, **kwargs)
            return await self._pass(_ASYNC, runtime, "bypassed", asked, call)
        answer: Any = _NOTHING
        visit = runtime.visit()
        try:
            data = await visit.aget_now(runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            self._store_failed(runtime, error)
            data = None
        if data is not None:
            answer = self._answer(runtime, digest, data, asked)
            if type(answer) is not _Sign:
                return answer
        call = partial(function, *args, **kwargs)
        return await self._miss(_ASYNC, runtime, visit, digest, call, answer, asked)

    def bypass(
        self,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Let a call of a generator function through; the arguments are those of `call`."""
        runtime = self._resolved()
        if not runtime.enabled:
            return function(*args, **kwargs)
        self.counters.count("bypassed")
        asked = runtime.policy.clock.monotonic() if self._listeners.callbacks else None
        call = partial(function, *args, **kwargs)
        return drive(self._pass(_SYNC, runtime, "bypassed", asked, call))

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
        data = await runtime.visit().get(port, runtime.prefix + digest.hex())
        return data is not None and runtime.entries.answers(data, digest, runtime.policy.ttl)

    async def invalidate(
        self, port: Port, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Forget the answer to a call; say whether there was one."""
        runtime = self._resolved()
        digest = self._named_request(instance, args, kwargs)
        return await runtime.visit().delete(port, runtime.prefix + digest.hex())

    async def clear(self, port: Port) -> None:
        """Forget all answers of the function."""
        runtime = self._resolved()
        await runtime.visit().clear(port, runtime.group)

    def stats(self) -> Stats:
        """Return the function's numbers."""
        place = self.place()
        return self.counters.snapshot(NOTHING if place is None else usage_of(*place))

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

    def _answer(self, runtime: Runtime, digest: bytes, data: bytes, asked: float | None) -> Any:
        """Return the value of an entry, or a sign that there is none."""
        policy = runtime.policy
        try:
            found = runtime.entries.read(data, digest, policy.ttl)
        except CorruptEntry:
            self.counters.count("corrupt")
            return _SPOILT
        if found is None:
            return _NOTHING
        entry, value = found
        self.counters.hit(entry.duration)
        if asked is not None:
            age = max(policy.clock.wall() - entry.created, 0.0)
            self._tell(runtime, "hit", asked, digest, age=age, saved=entry.duration)
        return _ready(value) if entry.flags & AWAITED and self.kind == "plain" else value

    async def _pass(
        self,
        port: Port,
        runtime: Runtime,
        outcome: Outcome,
        asked: float | None,
        call: Callable[[], Any],
    ) -> Any:
        """Run the function as if it were not decorated."""
        try:
            return await port.invoke(call)
        finally:
            self._tell(runtime, outcome, asked)

    def _after(
        self, port: Port, runtime: Runtime, found: Unanswered, call: Callable[[], Any]
    ) -> Coroutine[Any, Any, Any]:
        """Go on with a call for which `hit` has found nothing."""
        if found.error is not None:
            self._store_failed(runtime, found.error)
        return self._miss(port, runtime, found.visit or runtime.visit(), found.digest, call)

    async def _miss(
        self,
        port: Port,
        runtime: Runtime,
        visit: Visit,
        digest: bytes,
        call: Callable[[], Any],
        answer: Any = _NOTHING,
        asked: float | None = None,
    ) -> Any:
        """Run the function and keep what it returns."""
        self.counters.count("misses")
        if answer is _SPOILT:
            await self._discard(port, runtime, visit, digest)
        started = runtime.policy.clock.monotonic()
        later = False
        try:
            try:
                value = await port.invoke(call)
            except Exception:
                self.counters.count("failed")
                raise
            later = self.kind == "plain" and isinstance(value, Coroutine)
            if not later:
                await self._keep(port, runtime, visit, digest, value, started, 0)
        finally:
            if not later:
                self._tell(runtime, "miss", asked, digest)
        return self._later(runtime, visit, digest, value, asked) if later else value

    async def _later(
        self,
        runtime: Runtime,
        visit: Visit,
        digest: bytes,
        result: Any,
        asked: float | None,
    ) -> Any:
        """Await what a plain function returned, and keep the value: a coroutine is no answer."""
        started = runtime.policy.clock.monotonic()
        try:
            try:
                value = await result
            except Exception:
                self.counters.count("failed")
                raise
            await self._keep(_ASYNC, runtime, visit, digest, value, started, AWAITED)
        finally:
            self._tell(runtime, "miss", asked, digest)
        return value

    def _tell(
        self,
        runtime: Runtime,
        outcome: Outcome,
        asked: float | None,
        digest: bytes | None = None,
        *,
        age: float | None = None,
        saved: float = 0.0,
    ) -> None:
        """Tell those who listen, if any did when the call began."""
        if asked is not None:
            event = Event(
                function=self._resolver.shown_name,
                outcome=outcome,
                key=None if digest is None else digest.hex(),
                age=age,
                duration=max(runtime.policy.clock.monotonic() - asked, 0.0),
                saved=saved,
            )
            self._listeners.tell(event)

    async def _keep(
        self,
        port: Port,
        runtime: Runtime,
        visit: Visit,
        digest: bytes,
        value: Any,
        started: float,
        flags: int,
    ) -> None:
        """Store *value*, if it would come back as it is."""
        policy = runtime.policy
        if not policy.ttl:
            return
        duration = policy.clock.monotonic() - started
        data = b""
        try:
            if visit.takes:
                data = runtime.entries.write(
                    value, digest, ttl=policy.ttl, duration=duration, flags=flags
                )
        except TooLarge:
            self.counters.count("too_large")
            return
        except UncacheableValue as error:
            self._failures.no_entry(error, strict=runtime.strict)
            return
        except Exception as error:  # noqa: BLE001
            self._failures.broken("codec", error, strict=runtime.strict)
            return
        try:
            stored = await visit.set(port, runtime.prefix + digest.hex(), data, policy.ttl)
        except Exception as error:  # noqa: BLE001
            self._store_failed(runtime, error)
        else:
            self.counters.count("stored" if stored else "too_large")

    async def _discard(self, port: Port, runtime: Runtime, visit: Visit, digest: bytes) -> None:
        try:
            await visit.discard(port, runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            self._store_failed(runtime, error)

    def _store_failed(self, runtime: Runtime, error: Exception) -> None:
        # What is guarded has a breaker that says so, once for all functions.
        said = runtime.direct is None
        self._failures.broken("store", error, strict=runtime.strict, said=said)

    def _resolved(self) -> Runtime:
        runtime = self._runtime
        if runtime is None or runtime.basis is not self._process.settings:
            self._runtime = runtime = self._resolver.resolve()
            if self.kind != "generator" and self._owner is None:
                self.hit = straight_line(runtime, self._process, self.counters)
        return runtime


_SYNC: Final = SyncPort()
_ASYNC: Final = AsyncPort()


async def _ready(value: Any) -> Any:
    return value
