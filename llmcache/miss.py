"""A call that no entry answers: the function runs, and what it returns is kept."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

from llmcache.codec.frame import AWAITED
from llmcache.entries import TooLarge
from llmcache.errors import UncacheableValue
from llmcache.events import Reports
from llmcache.failures import Failures
from llmcache.guard import Visit
from llmcache.ports import AsyncPort, Port
from llmcache.runtime import Runtime
from llmcache.stats import Counters


class Miss(NamedTuple):
    """One call, after its look-up.

    Args:
        runtime: where it was looked up.
        visit: the use of the store that goes on.
        digest: the key's.
        asked: when it began, if anybody listens.
        spoilt: whether what is stored is of no use.
    """

    runtime: Runtime
    visit: Visit
    digest: bytes
    asked: float | None
    spoilt: bool


class Misses:
    """What becomes of the misses of one function.

    Args:
        counters: its numbers.
        failures: take what goes wrong in the cache.
        reports: to those who listen.
        is_plain: whether it is no coroutine function, but may return a coroutine.
    """

    def __init__(
        self, counters: Counters, failures: Failures, reports: Reports, *, is_plain: bool
    ) -> None:
        self._counters = counters
        self._failures = failures
        self._reports = reports
        self._is_plain = is_plain

    async def answer(self, port: Port, miss: Miss, call: Callable[[], Any]) -> Any:
        """Run the function and keep what it returns."""
        self._counters.count("misses")
        if miss.spoilt:
            await self._discard(port, miss)
        started = miss.runtime.policy.clock.monotonic()
        later = False
        try:
            value = await self._run(port, call)
            later = self._is_plain and isinstance(value, Coroutine)
            if not later:
                await self._keep(port, miss, value, started, 0)
        finally:
            if not later:
                self._report(miss)
        return self._answer_later(miss, value) if later else value

    async def _answer_later(self, miss: Miss, result: Coroutine[Any, Any, Any]) -> Any:
        """Await what a plain function returned, and keep the value: a coroutine is no answer."""
        started = miss.runtime.policy.clock.monotonic()
        try:
            value = await self._run(_ASYNC, lambda: result)
            await self._keep(_ASYNC, miss, value, started, AWAITED)
        finally:
            self._report(miss)
        return value

    async def _run(self, port: Port, call: Callable[[], Any]) -> Any:
        try:
            return await port.invoke(call)
        except Exception:
            self._counters.count("failed")
            raise

    async def _keep(self, port: Port, miss: Miss, value: Any, started: float, flags: int) -> None:
        """Store *value*, if it would come back as it is."""
        runtime, visit, digest, _, _ = miss
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
            self._counters.count("too_large")
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
            self._failures.store(error, strict=runtime.strict, guarded=runtime.direct is None)
        else:
            self._counters.count("stored" if stored else "too_large")

    async def _discard(self, port: Port, miss: Miss) -> None:
        runtime, visit, digest, _, _ = miss
        try:
            await visit.discard(port, runtime.prefix + digest.hex())
        except Exception as error:  # noqa: BLE001
            self._failures.store(error, strict=runtime.strict, guarded=runtime.direct is None)

    def _report(self, miss: Miss) -> None:
        self._reports.tell("miss", miss.asked, miss.runtime.policy.clock, miss.digest)


_ASYNC: Final = AsyncPort()
