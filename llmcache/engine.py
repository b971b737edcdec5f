"""One call, from its key to its answer: the only place that orders the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from llmcache.backends.base import Store
from llmcache.codec.frame import AWAITED, CorruptEntry
from llmcache.errors import LLMCacheError, StoreUnavailable, UncacheableArgument
from llmcache.events import Outcome, Reports
from llmcache.failures import Failures
from llmcache.guard import Visit
from llmcache.hit import AT_ONCE, NOW, Hit, Reading, Unanswered, ask_nobody, straight_line
from llmcache.miss import Miss, Misses
from llmcache.ports import AsyncPort, Port, SyncPort, drive
from llmcache.process import usage_of
from llmcache.runtime import Options, Resolver, Runtime
from llmcache.stats import NOTHING, Counters, Stats

_Way: TypeAlias = Literal["uncacheable", "bypassed"]


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
        self._failures = Failures(self.name, self.counters)
        self._reports = Reports(self._resolver.shown_name, self._process.listeners)
        self._misses = Misses(
            self.counters, self._failures, self._reports, is_plain=self.kind == "plain"
        )
        self.hit: Hit = ask_nobody
        """Answers a call of what is bound to nothing, if it is a hit."""
        self._process.join(self)

    def go_on(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        found: Unanswered,
    ) -> Any:
        """Answer a call of which `hit` *found* no answer; the others are as for `call`."""
        if found.runtime is None:
            return self.call(function, None, args, kwargs)
        call = partial(function, *args, **kwargs)
        return drive(self._follow(_SYNC, found.runtime, found, call))

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
        asked = self._reports.begin(runtime.policy.clock)
        digest = self._digest(runtime, instance, args, kwargs)
        if isinstance(digest, str):
            call = partial(function, *args, **kwargs)
            return drive(self._pass(_SYNC, runtime, digest, call, asked))
        visit = runtime.visit()
        data, failure = None, None
        try:
            data = visit.get_now(runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            failure = error
        answer = self._answer(runtime, digest, data, failure, asked)
        if type(answer) is not _Sign:
            return answer
        call = partial(function, *args, **kwargs)
        miss = Miss(runtime, visit, digest, asked, answer is _SPOILT)
        return drive(self._misses.answer(_SYNC, miss, call))

    async def acall(
        self,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Answer a call of a coroutine function; the arguments are those of `call`."""
        if instance is not None:
            return await self._ask(function, instance, args, kwargs)
        found = self.hit(args, kwargs)
        if type(found) is not Unanswered:
            return found
        return await self.ago_on(function, args, kwargs, found)

    async def ago_on(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        found: Unanswered,
    ) -> Any:
        """Answer a call of a coroutine function as `go_on` does."""
        if found.runtime is None:
            return await self._ask(function, None, args, kwargs)
        runtime = found.runtime
        if found.read is not None and found.visit is not None:
            answer = await _waited(runtime, found.digest, found.visit, found.read)
            if type(answer) is not Unanswered:
                return answer
            found = answer
        call = partial(function, *args, **kwargs)
        return await self._follow(_ASYNC, runtime, found, call)

    async def _ask(
        self,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        runtime = self._resolved()
        if not runtime.enabled:
            return await function(*args, **kwargs)
        asked = self._reports.begin(runtime.policy.clock)
        digest = self._digest(runtime, instance, args, kwargs)
        if isinstance(digest, str):
            call = partial(function, *args, **kwargs)
            return await self._pass(_ASYNC, runtime, digest, call, asked)
        visit = runtime.visit()
        data, failure = None, None
        try:
            data = await visit.aget_now(runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            failure = error
        answer = self._answer(runtime, digest, data, failure, asked)
        if type(answer) is not _Sign:
            return answer
        call = partial(function, *args, **kwargs)
        miss = Miss(runtime, visit, digest, asked, answer is _SPOILT)
        return await self._misses.answer(_ASYNC, miss, call)

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
        asked = self._reports.begin(runtime.policy.clock)
        call = partial(function, *args, **kwargs)
        return drive(self._pass(_SYNC, runtime, "bypassed", call, asked))

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
        with _by_hand(runtime.store, "look anything up"):
            data = await runtime.visit().get(port, runtime.prefix + digest.hex())
        return data is not None and runtime.entries.answers(data, digest, runtime.policy.ttl)

    async def invalidate(
        self, port: Port, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Forget the answer to a call; say whether there was one."""
        runtime = self._resolved()
        digest = self._named_request(instance, args, kwargs)
        with _by_hand(runtime.store, "forget an answer"):
            return await runtime.visit().delete(port, runtime.prefix + digest.hex())

    async def clear(self, port: Port) -> None:
        """Forget all answers of the function."""
        runtime = self._resolved()
        with _by_hand(runtime.store, "forget all answers"):
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

    def _digest(
        self, runtime: Runtime, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bytes | _Way:
        """Return a call's digest, or what becomes of it instead of being looked up."""
        try:
            digest, stream = self._request(runtime, instance, args, kwargs)
        except Exception as error:  # noqa: BLE001
            self._failures.no_key(error, strict=runtime.strict)
            return "uncacheable"
        if stream:
            self.counters.count("bypassed")
            return "bypassed"
        return digest

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

    def _answer(
        self,
        runtime: Runtime,
        digest: bytes,
        data: bytes | None,
        failure: Exception | None,
        asked: float | None = None,
    ) -> Any:
        """Return the value of an entry, or a sign that there is none.

        Args:
            runtime: where it was looked up.
            digest: the key's.
            data: what the store has, ``None`` for nothing.
            failure: why the store could not say, or ``None``.
            asked: when the call began, if anybody listens.
        """
        if data is None:
            if failure is not None:
                guarded = runtime.direct is None
                self._failures.store(failure, strict=runtime.strict, guarded=guarded)
            return _NOTHING
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
            took = entry.duration
            self._reports.tell("hit", asked, policy.clock, digest, age=age, saved=took)
        return _ready(value) if entry.flags & AWAITED and self.kind == "plain" else value

    async def _pass(
        self,
        port: Port,
        runtime: Runtime,
        outcome: Outcome,
        call: Callable[[], Any],
        asked: float | None,
    ) -> Any:
        """Run the function as if it were not decorated."""
        try:
            return await port.invoke(call)
        finally:
            self._reports.tell(outcome, asked, runtime.policy.clock)

    async def _follow(
        self, port: Port, runtime: Runtime, found: Unanswered, call: Callable[[], Any]
    ) -> Any:
        """Go on from what `hit` has *found*."""
        answer = self._answer(runtime, found.digest, found.data, found.error)
        if type(answer) is not _Sign:
            return answer
        visit = found.visit or runtime.visit()
        miss = Miss(runtime, visit, found.digest, None, answer is _SPOILT)
        return await self._misses.answer(port, miss, call)

    def _resolved(self) -> Runtime:
        runtime = self._runtime
        if runtime is None or runtime.basis is not self._process.settings:
            self._runtime = runtime = self._resolver.resolve()
            # A loop must not wait for a store.
            way = {"plain": NOW, "coroutine": AT_ONCE}.get(self.kind)
            if way is None or self._owner is not None:
                self.hit = ask_nobody
            else:
                self.hit = straight_line(runtime, self._process, self.counters, way=way)
        return runtime


_SYNC: Final = SyncPort()
_ASYNC: Final = AsyncPort()


@contextmanager
def _by_hand(store: Store, work: str) -> Iterator[None]:
    """Name the store in what is raised to who asked for *work*, and not by calling."""
    try:
        yield
    except LLMCacheError:
        raise
    except Exception as error:
        name, kind = type(store).__qualname__, type(error).__qualname__
        raise StoreUnavailable(
            f"the {name} could not {work} ({kind}): try again when it is back"
        ) from error


async def _waited(runtime: Runtime, digest: bytes, visit: Visit, read: Reading) -> Any:
    """Return the answer to a call whose store takes its time, or an `Unanswered`."""
    try:
        data = await visit.aget_now(runtime.prefix + digest.hex())
    except Exception as error:  # noqa: BLE001
        return Unanswered(runtime, digest, visit, error=error)
    if data is None:
        return Unanswered(runtime, digest, visit)
    return read(data, digest, visit)


async def _ready(value: Any) -> Any:
    return value
