"""Encryption at rest: AES-GCM, bound to the entry's header and so to its key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from typing import Any, Final

from llmcache.errors import ConfigurationError, MissingExtra

_NONCE: Final = 12
_MARK: Final = 4
_LENGTHS: Final = (16, 24, 32)


class Keyring:
    """One or more keys: the first encrypts, all decrypt.

    To rotate without a flush put the new key first and keep the old one until
    the entries that it wrote have expired.

    Args:
        keys: each of 16, 24 or 32 bytes, or their base64 text.

    Raises:
        ConfigurationError: if there is none, or one is of another length; the
            message repeats no key.
        MissingExtra: if ``cryptography`` is not installed.
    """

    def __init__(self, keys: Iterable[bytes | str]) -> None:
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        except ImportError:
            raise MissingExtra('encrypt= needs: pip install "llmcache[encryption]"') from None
        raw = [_key_bytes(key) for key in keys]
        if not raw:
            raise ConfigurationError("encrypt= has no key")
        self._invalid: type[Exception] = InvalidTag
        self._ciphers: dict[bytes, Any] = {_mark(key): AESGCM(key) for key in reversed(raw)}
        self._first = _mark(raw[0])

    def encrypt(self, data: bytes, context: bytes) -> bytes:
        """Return *data* in a form that only these keys read, and only with *context*."""
        nonce = os.urandom(_NONCE)
        sealed: bytes = self._ciphers[self._first].encrypt(nonce, data, context)
        return self._first + nonce + sealed

    def decrypt(self, data: bytes, context: bytes) -> bytes:
        """Return what was encrypted.

        Raises:
            LookupError: if it was another key.
            ValueError: if the data or the context were changed.
        """
        cipher = self._ciphers.get(data[:_MARK])
        if cipher is None:
            raise LookupError("encrypted with another key")
        nonce, sealed = data[_MARK : _MARK + _NONCE], data[_MARK + _NONCE :]
        try:
            return cipher.decrypt(nonce, sealed, context)  # type: ignore[no-any-return]
        except self._invalid:
            raise ValueError("changed since it was encrypted") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyring) and list(other._ciphers) == list(self._ciphers)

    def __hash__(self) -> int:
        return hash(self._first)

    def __repr__(self) -> str:
        return f"<{len(self._ciphers)} keys>"


def check_encryption(encrypt: Any) -> Keyring | None:
    """Return the keys that ``encrypt=`` gives, ``None`` for none.

    Raises:
        ConfigurationError: for anything that is no key.
        MissingExtra: if ``cryptography`` is not installed.
    """
    if encrypt is None or isinstance(encrypt, Keyring):
        return encrypt
    if isinstance(encrypt, bytes | str):
        return Keyring([encrypt])
    if not isinstance(encrypt, Iterable):
        raise ConfigurationError("encrypt= takes keys of 16, 24 or 32 bytes, or their base64 text")
    return Keyring(encrypt)


def check_secret(secret: Any) -> bytes | None:
    """Return the bytes of ``secret=``, ``None`` for none.

    Raises:
        ConfigurationError: for fewer than 16 bytes, or anything else; the
            message does not repeat it.
    """
    if isinstance(secret, str):
        secret = secret.encode()
    if secret is None or (isinstance(secret, bytes) and len(secret) >= 16):
        return secret
    raise ConfigurationError("secret= must be bytes or text of at least 16 bytes")


def _key_bytes(key: Any) -> bytes:
    if isinstance(key, str):
        try:
            altchars = b"-_" if set(key) & set("-_") else None
            key = base64.b64decode(key, altchars, validate=True)
        except (binascii.Error, ValueError):
            key = b""
    if isinstance(key, bytes) and len(key) in _LENGTHS:
        return key
    raise ConfigurationError("encrypt= takes keys of 16, 24 or 32 bytes, or their base64 text")


def _mark(key: bytes) -> bytes:
    return hashlib.sha256(b"llmcache/1 key mark\n" + key).digest()[:_MARK]
