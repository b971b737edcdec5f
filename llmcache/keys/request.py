"""The key of a request: SHA-256 over who is asked, and what, in canonical form."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, TypeAlias

from llmcache.errors import UncacheableArgument
from llmcache.keys import functions as _functions  # noqa: F401
from llmcache.keys import rows as _rows  # noqa: F401
from llmcache.keys.binding import Binder
from llmcache.keys.canonical import canonical
from llmcache.keys.identity import Identity
from llmcache.keys.objects import subject
from llmcache.keys.repeats import DigestOf, remembering

_CALL: Final = b"llmcache/1 call\n"
_STREAM: Final = b"llmcache/1 stream\n"
_REQUEST: Final = b"llmcache/1 request\n"
_sha256 = hashlib.sha256

DEFAULT_EXCLUDE: Final = ("request_id", "stream")


OwnerRole: TypeAlias = Literal["keyed", "shown", "ignored"]


class Keyer:
    """Makes the keys of one function's calls.

    Args:
        identity: whose calls they are.
        binder: for calls without a bound object before the arguments.
        key: the user's own key function, or ``None``.
        secret: keys the digests (HMAC), or ``None``.
        owner: what the owner is for: part of the key, shown to the key
            function, which says what counts of it, or ignored.
    """

    __slots__ = ("_binder", "_call", "_key", "_owner", "_secret", "_stream", "digest_of")

    def __init__(
        self,
        identity: Identity,
        binder: Binder,
        *,
        key: Callable[..., Any] | None = None,
        secret: bytes | None = None,
        owner: OwnerRole = "keyed",
    ) -> None:
        self._binder = binder
        self._key = key
        self._secret = secret
        self._owner = owner
        self._call = _CALL + identity.digest.encode() + b"\n"
        self._stream = _STREAM + identity.digest.encode() + b"\n"
        self.digest_of: Final = (
            _straight(self._call, binder) if key is None and secret is None else None
        )
        """Returns the digest of a call without owner, or ``None`` where `request` does more."""

    def request(
        self, owner: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[bytes, bool]:
        """Return a call's digest (32 bytes), and whether it asks for a stream.

        Args:
            owner: the object or class that the function is bound to, or ``None``.
            args: the positional arguments, *owner* left out.
            kwargs: the keyword arguments.

        Raises:
            UncacheableArgument: if an argument has no canonical form.
            Mismatch: if the function does not take these arguments.
        """
        if owner is None and self.digest_of is not None:
            try:
                if digest := self.digest_of(args, kwargs):
                    return digest, False
            except UncacheableArgument as error:
                raise _readable(error) from None
        if self._owner == "ignored" and self._key is None:
            owner = None
        binder = self._binder
        bound = binder.bind(args, kwargs)
        stream = binder.may_stream and binder.streams(bound)
        head = self._stream if stream else self._call
        if self._key is None:
            if binder.ignored:
                bound = binder.strip(bound)
            try:
                form = canonical(bound)
            except UncacheableArgument as error:
                raise _readable(error) from None
            if owner is not None:
                form = b"%b\n%b" % (_owner(owner), form)
        else:
            form = self._by_key_function(self._key, owner, args, kwargs)
        if self._secret is not None:
            return hmac.digest(self._secret, head + form, "sha256"), stream
        return _sha256(head + form).digest(), stream

    def remembering(self) -> DigestOf | None:
        """Return `digest_of`, quicker for requests that it was asked before, if that can be.

        It keeps such requests in memory, in clear.
        """
        if self.digest_of is None or not self._binder.has_constant_defaults:
            return self.digest_of
        return remembering(self.digest_of)

    def _by_key_function(
        self,
        key: Callable[..., Any],
        owner: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> bytes:
        if self._owner != "keyed":
            return b"!key" + canonical(key(owner, *args, **kwargs))
        form = b"!key" + canonical(key(*args, **kwargs))
        return form if owner is None else b"%b\n%b" % (_owner(owner), form)


def _straight(head: bytes, binder: Binder) -> DigestOf:
    """Return what makes the digests of most calls of a function."""
    bind, is_plain = binder.bind, binder.is_plain
    are_plain = not (binder.may_stream or binder.ignored)
    begun = _sha256(head)

    def digest_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | None:
        bound = bind(args, kwargs)
        if not (are_plain or is_plain(bound)):
            return None
        digest = begun.copy()
        digest.update(canonical(bound))
        return digest.digest()

    return digest_of


def _owner(owner: Any) -> bytes:
    try:
        return subject(owner)
    except UncacheableArgument as error:
        kind = owner if isinstance(owner, type) else type(owner)
        raise error.within(kind.__qualname__) from None


def _readable(error: UncacheableArgument) -> UncacheableArgument:
    """Return *error* with its path as the caller would write it: extra arguments by their names."""
    path = error.path.removeprefix("[…]").removeprefix(".")
    return UncacheableArgument(error.reason, path=path)


def generate_cache_key(
    request_data: Mapping[str, Any], exclude_keys: Collection[str] | None = None
) -> str:
    """Return the key of a request given as a plain mapping.

    Args:
        request_data: the request by names, of values that have a canonical
            form. The order of the names does not matter.
        exclude_keys: names to leave out; ``None`` for ``request_id`` and
            ``stream``.

    Returns:
        SHA-256 in 64 hex digits, the same in every process.

    Raises:
        UncacheableArgument: if a value has no canonical form.

    Example:
        >>> one = generate_cache_key({"model": "m", "messages": [], "stream": True})
        >>> two = generate_cache_key({"messages": [], "model": "m"})
        >>> one == two, len(one)
        (True, 64)
    """
    excluded = DEFAULT_EXCLUDE if exclude_keys is None else exclude_keys
    kept = {name: value for name, value in request_data.items() if name not in excluded}
    return _sha256(_REQUEST + canonical(kept)).hexdigest()
