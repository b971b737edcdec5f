"""Canonical form of single texts and numbers, those included that JSON cannot spell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from math import isfinite
from typing import Final

import orjson

_SURROGATE: Final = re.compile(b"\xed[\xa0-\xbf]")
_dumps = orjson.dumps


def text(value: str) -> bytes:
    """Return the canonical bytes of a text."""
    if value.isascii():
        return _dumps(value)
    data = value.encode("utf-8", "surrogatepass")
    return b'!text"%b"' % data.hex().encode() if _SURROGATE.search(data) else _dumps(value)


def integer(value: int) -> bytes:
    """Return the canonical bytes of an integer."""
    return b"%d" % value if -(2**63) <= value < 2**64 else b'!int"%x"' % value


def number(value: float) -> bytes:
    """Return the canonical bytes of a float."""
    return _dumps(value) if isfinite(value) else b'!float"%b"' % str(value).encode()


def floats(values: Sequence[float]) -> bytes:
    """Return ``[…]`` of many floats, of which orjson spells those that are not finite ``null``."""
    spelled = [number(value) for value in values if not isfinite(value)]
    pieces = _dumps(values).split(b"null")
    return b"".join(chain.from_iterable(zip(pieces, [*spelled, b""], strict=True)))
