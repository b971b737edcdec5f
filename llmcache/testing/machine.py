"""The state machine that does the same to every store and to a dict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import inf
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from llmcache.backends.base import Store
from llmcache.policy import Clock
from llmcache.testing.caller import Caller
from llmcache.testing.clock import FakeClock

GROUPS = ("g", "gg", "g*")
NAMES = ("a", "b")

groups = st.sampled_from(GROUPS)
keys = st.builds("{}:{}".format, groups, st.sampled_from(NAMES))
ttls = st.sampled_from([inf, 0, 60.25, 1000])
pauses = st.sampled_from([0, 0.25, 60, 500])


def run(make_stores: Sequence[Callable[[Clock], Store]], *, expiry: bool) -> None:
    """Run the machine as often as the settings profile says."""

    class Stores(Agreement):
        def __init__(self) -> None:
            super().__init__(make_stores, expiry=expiry)

    run_state_machine_as_test(Stores)


class Agreement(RuleBasedStateMachine):
    """Does everything to stores and to a plain dict, and lets them not disagree."""

    def __init__(self, make_stores: Sequence[Callable[[Clock], Store]], *, expiry: bool) -> None:
        super().__init__()
        self.expiry = expiry
        self.time = FakeClock()
        self.entries: dict[str, tuple[bytes, float]] = {}
        self.stores = [make_store(self.time.clock) for make_store in make_stores]
        self.open = ExitStack()
        self.callers = {
            awaited: [self.open.enter_context(Caller(s, awaited=awaited)) for s in self.stores]
            for awaited in (False, True)
        }
        for store in self.stores:
            self.open.callback(store.close)
            for group in GROUPS:
                store.clear(group)

    def teardown(self) -> None:
        try:
            for group in GROUPS:
                self.usage(group=group, after=0)
                for name in NAMES:
                    self.get(key=f"{group}:{name}", after=0, awaited=False)
        finally:
            self.open.close()

    @rule(key=keys, data=st.binary(max_size=16), ttl=ttls, after=pauses, awaited=st.booleans())
    def set(self, *, key: str, data: bytes, ttl: float, after: float, awaited: bool) -> None:
        self.wait(after)
        self.entries.pop(key, None)
        if ttl > 0:
            self.entries[key] = data, self.time.now + ttl
        self.all("set", key, data, ttl, awaited=awaited, expected=ttl > 0)

    @rule(key=keys, after=pauses, awaited=st.booleans())
    def get(self, *, key: str, after: float, awaited: bool) -> None:
        self.wait(after)
        data, _ = self.entries.get(key, (None, inf))
        self.all("get", key, awaited=awaited, expected=data)

    @rule(key=keys, after=pauses, awaited=st.booleans())
    def delete(self, *, key: str, after: float, awaited: bool) -> None:
        self.wait(after)
        known = self.entries.pop(key, None) is not None
        self.all("delete", key, awaited=awaited, expected=known)

    @rule(group=groups, after=pauses, awaited=st.booleans())
    def clear(self, *, group: str, after: float, awaited: bool) -> None:
        self.wait(after)
        for key in self.live(group):
            del self.entries[key]
        self.all("clear", group, awaited=awaited, expected=None)

    @rule(group=groups, after=pauses)
    def usage(self, *, group: str, after: float) -> None:
        self.wait(after)
        for store in self.stores:
            assert store.usage(group).entries in (None, len(self.live(group))), store

    def wait(self, seconds: float) -> None:
        if self.expiry:
            self.time.advance(seconds)
            now = self.time.now
            self.entries = {key: entry for key, entry in self.entries.items() if entry[1] > now}

    def all(self, method: str, *arguments: Any, awaited: bool, expected: object) -> None:
        for caller in self.callers[awaited]:
            assert getattr(caller, method)(*arguments) == expected, caller.store

    def live(self, group: str) -> list[str]:
        return [key for key in self.entries if key.startswith(f"{group}:")]
