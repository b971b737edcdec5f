"""What a ``backend=`` URL says: ``scheme://address?option=value``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from llmcache.errors import ConfigurationError

_WORD: Final = r"[a-z][a-z0-9+.-]*"
_URL: Final = rf"(?s)(?P<scheme>{_WORD}):(?://(?P<address>[^?]*)(?:\?(?P<query>.*))?|.*)"
_SHOWN: Final = r"[\w -]*"


@dataclass(frozen=True, slots=True)
class BackendURL:
    """The parts of a URL; but for the scheme they are not shown, since they may hold a password.

    Args:
        scheme: which kind of store.
        address: where it is: all between ``//`` and the options.
        options: its options, as they are written.
    """

    scheme: str
    address: str = field(default="", repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://…"


def parse_url(text: str) -> BackendURL:
    """Return the parts of a URL; a word alone is a scheme.

    Raises:
        ConfigurationError: if it is none; the message repeats a plain word or
            the scheme at most.
    """
    if re.fullmatch(_WORD, text):
        return BackendURL(text)
    match = re.fullmatch(_URL, text)
    if match is None:
        shown = repr(text) if re.fullmatch(_SHOWN, text) else "this text"
        raise ConfigurationError(f"backend: {shown} is no store and no URL of one")
    scheme, query = match["scheme"], match["query"]
    if match["address"] is None:
        raise ConfigurationError(f"backend: {scheme}: is no URL of a store: it has no //")
    return BackendURL(scheme, match["address"], _options(scheme, query) if query else {})


def number_or_text(text: str) -> float | str | None:
    """Return what the text of an option stands for: a number, ``None`` for ``none``, or itself."""
    if text.strip().lower() == "none":
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _options(scheme: str, query: str) -> dict[str, str]:
    from urllib.parse import parse_qsl  # noqa: PLC0415

    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise ConfigurationError(
            f"backend: the options of {scheme}://… are not of the form name=value&name=value"
        ) from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ConfigurationError(f"backend: {scheme}://… has an option twice")
    return options
