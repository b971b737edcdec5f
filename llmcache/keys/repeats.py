"""The digests of requests that are asked again, found without making them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import orjson

from llmcache.errors import UncacheableArgument
from llmcache.keys.fit import unusual
from llmcache.keys.walk import OPTIONS

DigestOf: TypeAlias = "Callable[[tuple[Any, ...], Mapping[str, Any]], bytes | None]"
"""Returns the digest of a call's arguments, or ``None`` if it has none for them."""

_LARGEST: Final = 1 << 14
_MOST_BYTES: Final = 1 << 20
# A digest and the places of both in a dictionary.
_OVERHEAD: Final = 200
_LONGEST_REST: Final = 31
_MOST_FAILURES: Final = 1 << 10

# Far from where the canonical form ends, which counts in another way.
_DEEPEST: Final = 64
# Sorting would be a fifth of it.
_OPTIONS: Final = OPTIONS ^ orjson.OPT_SORT_KEYS

_dumps = orjson.dumps


def remembering(digest_of: DigestOf) -> DigestOf:
    """Return what does as *digest_of*, and quicker for requests that it was asked before.

    It knows them by their JSON, which says all of them if they are plain: only
    of such requests is anything remembered. Of large ones, and of more than a
    megabyte, nothing is; after such requests it does not even try for a while.

    Args:
        digest_of: says the same of all plain arguments of which JSON says the
            same, at any time.
    """
    known: dict[bytes, bytes] = {}
    recall = known.get
    room, rest, failures = _MOST_BYTES, 0, 0

    def learn(mark: bytes) -> bytes | None:
        nonlocal room
        size = len(mark) + _OVERHEAD
        if size > min(room, _LARGEST):
            fail()
            return None
        # Whatever another thread does to the arguments meanwhile, this is what the mark says.
        args, kwargs = orjson.loads(mark)
        try:
            digest = digest_of(tuple(args), kwargs)
        except Exception:  # noqa: BLE001
            # It will say so again of what was asked.
            digest = None
        if digest is None:
            fail()
            return None
        room -= size
        known[mark] = digest
        return digest

    def fail() -> None:
        nonlocal room, rest, failures
        failures += 1
        rest = min(failures, _LONGEST_REST)
        if failures >= _MOST_FAILURES:
            # None of those that are known is asked any more.
            known.clear()
            room, failures = _MOST_BYTES, 0

    def digest_again(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | None:
        nonlocal rest, failures
        if rest > 0:
            rest -= 1
            return digest_of(args, kwargs)
        mark = mark_of(args, kwargs)
        if mark is None:
            fail()
            return digest_of(args, kwargs)
        digest = recall(mark)
        if digest is None:
            return learn(mark) or digest_of(args, kwargs)
        failures = 0
        return digest

    return digest_again


def mark_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | None:
    """Return the JSON of *args* and *kwargs*, ``None`` if they are more than that."""
    # suppress() would cost as much as orjson.
    try:
        if unusual(kwargs, _DEEPEST) or (args and unusual(args, _DEEPEST)):
            return None
        return _dumps((args, kwargs), None, _OPTIONS)
    except (UncacheableArgument, orjson.JSONEncodeError):
        return None
