"""A decorated function, and whatever one likes in place of what its store holds."""

from __future__ import annotations

import math
from typing import Any

import orjson
from twins import World

import llmcache
from llmcache.backends.memory import MemoryStore
from llmcache.codec.frame import Entry, Frame
from llmcache.codec.tree import TREE


class OpenStore(MemoryStore):
    """Shows what was put into it, and under which key."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, bytes] = {}
        self.odd: dict[str, Any] = {}

    def get(self, key: str, within: float = math.inf) -> Any:
        return self.odd[key] if key in self.odd else super().get(key, within)

    def set(self, key: str, data: bytes, ttl: float, within: float = math.inf) -> bool:
        self.held[key] = data
        self.odd.pop(key, None)
        return super().set(key, data, ttl, within)

    def delete(self, key: str, within: float = math.inf) -> bool:
        self.odd.pop(key, None)
        return super().delete(key, within)


class Upstream:
    """A decorated function that counts its calls.

    Args:
        world: decorates and runs it.
        answer: what it returns.
        options: for the decorator.

    Example:
        upstream = Upstream(world, "answer")
        upstream.plant(b"rubbish")
        assert upstream.ask() == "answer"
        assert upstream.calls == 1
    """

    def __init__(self, world: World, answer: Any = "from upstream", **options: Any) -> None:
        self.answer = answer
        self.calls = 0
        self.store = OpenStore()
        self._world = world

        def upstream(prompt: str = "prompt") -> Any:
            self.calls += 1
            return self.answer

        options = {"name": "upstream", "backend": self.store, "ttl": None} | options
        self.function = world.cached(upstream, **options)

    def ask(self, prompt: str = "prompt") -> Any:
        """Call the function."""
        return self._world.run(self.function(prompt))

    @property
    def digest(self) -> bytes:
        """The digest of a call."""
        return bytes.fromhex(self.function.cache.key())

    @property
    def stats(self) -> Any:
        """The function's numbers."""
        return self.function.cache.stats()

    def key(self) -> str:
        """Return the store's key of a call; the function is called if it never was."""
        if not self.store.held:
            answer, self.answer = self.answer, "nothing yet"
            self.ask()
            self.answer = answer
            self.calls = 0
            llmcache.reset_stats()
        return next(key for key in self.store.held if key.endswith(self.digest.hex()))

    def stored(self) -> bytes:
        """Return a copy of what is stored."""
        return bytes(self.store.held[self.key()])

    def plant(self, data: Any) -> None:
        """Put *data* where the answer is."""
        key = self.key()
        if isinstance(data, bytes):
            self.store.set(key, data, math.inf)
        else:
            self.store.odd[key] = data

    def plant_payload(self, codec: int, payload: bytes, **said: Any) -> None:
        """Put a whole entry with this payload where the answer is."""
        self.plant(sealed(entry(codec=codec, **said), payload, self.digest))

    def plant_tree(self, shapes: Any, tree: Any) -> None:
        """Put a whole entry of these shapes and this tree where the answer is."""
        self.plant_payload(TREE, payload(shapes, tree))


def sealed(entry: Entry, payload: bytes, digest: bytes, **options: Any) -> bytes:
    """Return a whole entry, as it comes from another process."""
    return bytes(Frame(**{"max_plain": 1 << 62} | options).seal(entry, payload, digest))


def entry(**said: Any) -> Entry:
    """Return an entry that never expires."""
    usual = {
        "created": 0.0,
        "expires": math.inf,
        "ttl": math.inf,
        "duration": 0.0,
        "flags": 0,
        "codec": TREE,
        "metadata": b"{}",
    }
    return Entry(**usual | said)


def payload(shapes: Any, tree: Any, root: Any = None) -> bytes:
    """Return a payload as `llmcache.codec.tree` writes them."""
    head = [*shapes, root] if isinstance(shapes, list | tuple) else shapes
    return orjson.dumps(head) + b"\n" + orjson.dumps(tree)
