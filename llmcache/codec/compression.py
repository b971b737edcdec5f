"""Smaller payloads, and never larger ones than they say when they are read."""

from __future__ import annotations

import importlib
import sys
import zlib
from typing import Any, Final, Literal, TypeAlias

from llmcache.errors import ConfigurationError, MissingExtra

Compression: TypeAlias = Literal["auto", "zlib", "zstd"]

THRESHOLD: Final = 16 * 1024
"""Payloads of fewer bytes are not worth the time."""

ZLIB: Final = 1
ZSTD: Final = 2
_LEVEL: Final = 3


def check_compression(compression: Any) -> Literal["zlib", "zstd"] | None:
    """Return the algorithm that *compression* means, ``None`` for none.

    ``"auto"`` is zstd where Python or the extra has it, and zlib otherwise.

    Raises:
        ConfigurationError: for anything that is no algorithm.
        MissingExtra: for ``"zstd"`` where it is not installed.
    """
    if compression is None or compression == "zlib":
        return compression  # type: ignore[no-any-return]
    if compression == "auto":
        return "zlib" if _zstd() is None else "zstd"
    if compression == "zstd":
        if _zstd() is None:
            raise MissingExtra('compress="zstd" needs: pip install "llmcache[zstd]"')
        return "zstd"
    raise ConfigurationError(f"compress={compression!r}: there is 'auto', 'zstd', 'zlib' and None")


def compress(data: bytes, algorithm: Literal["zlib", "zstd"]) -> tuple[int, bytes]:
    """Return the number of *algorithm*, and *data* compressed by it."""
    if algorithm == "zlib":
        return ZLIB, zlib.compress(data, _LEVEL)
    return ZSTD, _zstd().compress(data, _LEVEL)


def decompress(number: int, data: bytes, length: int) -> bytes:
    """Return the *length* bytes that were compressed to *data*; never makes more of them.

    Raises:
        ValueError: if they are more or fewer, or no bytes of that algorithm.
        LookupError: if this process does not have the algorithm.
    """
    if number == ZLIB:
        inflater = zlib.decompressobj()
        try:
            plain = inflater.decompress(data, length + 1)
        except zlib.error:
            raise ValueError("no zlib data") from None
        ended = inflater.eof and not inflater.unused_data
    elif number == ZSTD:
        zstd = _zstd()
        if zstd is None:
            raise LookupError('needs: pip install "llmcache[zstd]"')
        decompressor = zstd.ZstdDecompressor()
        try:
            plain = decompressor.decompress(data, length + 1)
        except zstd.ZstdError:
            raise ValueError("no zstd data") from None
        ended = decompressor.eof and not decompressor.unused_data
    else:
        raise LookupError("a compression of another version")
    if len(plain) != length or not ended:
        raise ValueError("not as long as it says")
    return plain


def _zstd() -> Any:
    # A module that is not there is looked for on every path, each time.
    found = sys.modules.get("compression.zstd") or sys.modules.get("backports.zstd")
    return found or _import_zstd()


def _import_zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
