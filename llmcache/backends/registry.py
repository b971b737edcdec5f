"""Which store ``backend=`` means."""

from __future__ import annotations

import re
from typing import Any, Final

from llmcache.backends.base import Store
from llmcache.backends.memory import MemoryStore
from llmcache.errors import ConfigurationError
from llmcache.policy import Clock

PRIVATE: Final = "memory"
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):", re.ASCII)
_WORD: Final = re.compile(r"[\w -]*")
_MEMBERS: Final = [name for name in vars(Store) if name[0] != "_"]


def check_backend(backend: Any) -> Any:
    """Return *backend* if it is a store or names one.

    Raises:
        ConfigurationError: for anything else; the message repeats the scheme
            of a URL at most, since the rest may hold a password.
    """
    if isinstance(backend, str):
        if backend == PRIVATE or (backend.startswith("memory://") and "?" not in backend):
            return backend
        if backend.startswith("memory://"):
            raise ConfigurationError("backend: a memory:// URL takes no options")
        scheme = _SCHEME.match(backend)
        word = repr(backend) if _WORD.fullmatch(backend) else "this text"
        name = f"{scheme[1]}://…" if scheme else word
        raise ConfigurationError(f"backend: {name} is no store; there is 'memory' and 'memory://…'")
    kind = type(backend)
    if isinstance(backend, type) or not all(_has(backend, name) for name in _MEMBERS):
        raise ConfigurationError(f"backend: a {kind.__qualname__} is no store")
    return backend


def open_store(*, max_size: int, max_bytes: int | None, clock: Clock) -> Store:
    """Return a new store in memory."""
    return MemoryStore(max_size=max_size, max_bytes=max_bytes, clock=clock)


def _has(backend: Any, name: str) -> bool:
    return hasattr(backend, name) if name == "timeout" else callable(getattr(backend, name, None))
