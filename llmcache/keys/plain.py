"""Canonical form of texts and numbers, those included that JSON cannot spell."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from math import isfinite
from typing import Any, Final

import orjson

from llmcache.keys import fit

_SURROGATE: Final = re.compile(b"\xed[\xa0-\xbf]")
_SMALL: Final = 512
_dumps = orjson.dumps


def spelled(
    value: Any, default: Callable[[Any], Any] | None = None, options: int | None = None
) -> bytes:
    """Return what orjson writes, in no more memory than that takes.

    Its own bytes have been a kilobyte, of which the rest is given back: who keeps
    many of them waits for that, and not for orjson.
    """
    form = _dumps(value, default, options)
    return form if len(form) > _SMALL else b"%b" % form


def text(value: str) -> bytes:
    """Return the canonical bytes of a text."""
    if value.isascii():
        return spelled(value)
    data = value.encode("utf-8", "surrogatepass")
    return b'!text"%b"' % data.hex().encode() if _SURROGATE.search(data) else spelled(value)


def integer(value: int) -> bytes:
    """Return the canonical bytes of an integer."""
    return b"%d" % value if -(2**63) <= value < 2**64 else b'!int"%x"' % value


def number(value: float) -> bytes:
    """Return the canonical bytes of a float."""
    return spelled(value) if isfinite(value) else b'!float"%b"' % str(value).encode()


def floats(values: Sequence[float]) -> bytes:
    """Return ``[…]`` of many floats, of which orjson spells those that are not finite ``null``."""
    spelled = [number(value) for value in values if not isfinite(value)]
    pieces = _dumps(values).split(b"null")
    return b"".join(chain.from_iterable(zip(pieces, [*spelled, b""], strict=True)))


def leaves(values: list[Any]) -> list[bytes] | None:
    """Return the canonical bytes of each of *values*, ``None`` if some are not plain leaves."""
    if fit.are_leaves(values) and fit.are_sure_leaves(values):
        with suppress(orjson.JSONEncodeError):
            # No text has a line's end that is not written otherwise.
            lines = _dumps(values, None, orjson.OPT_INDENT_2)
            return lines[4:-2].split(b",\n  ") if values else []
    return None
