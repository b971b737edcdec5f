"""The least that any cache must do for a hit: a digest, a look-up, and the value of some bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

FLOOR = "floor"

_SORTED = orjson.OPT_SORT_KEYS
_sha256 = hashlib.sha256


def floor(request: dict[str, Any], data: bytes, read: Callable[[bytes], Any]) -> Callable[[], Any]:
    """Return what asks a dict for *request*, whose answer *read* makes of *data*."""
    store = {digest(request): data}
    return lambda: read(store[_sha256(orjson.dumps(request, None, _SORTED)).digest()])


def digest(request: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of a request as sorted JSON."""
    return _sha256(orjson.dumps(request, None, _SORTED)).digest()
