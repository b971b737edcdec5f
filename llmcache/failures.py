"""What goes wrong in the cache: counted, logged once, and no reason for a call to fail."""

from __future__ import annotations

import logging
import re
import threading
from typing import Final

from llmcache.errors import UncacheableArgument, UncacheableFunction, UncacheableValue
from llmcache.keys.binding import Mismatch
from llmcache.stats import Counters

logger: Final = logging.getLogger("llmcache")

_PLACE: Final = r"\[\d+\]"
_MOST: Final = 100


class Complaints:
    """The warnings about one function or store, each of which is logged once.

    Args:
        name: stands before each.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()
        self._made: set[str] = set()

    def log(self, what: str, message: str, *args: object) -> None:
        """Log a warning, unless one of the same *what* was logged before.

        Places in a list count as one. After many that differ there are no more.
        """
        what = re.sub(_PLACE, "[]", what)
        with self._lock:
            if what in self._made or len(self._made) >= _MOST:
                return
            self._made.add(what)
        logger.warning(f"{self._name}: {message}", *args)


class Failures:
    """What goes wrong in the cache of one function.

    Every method raises what went wrong if *strict*.

    Args:
        name: the function's.
        counters: its numbers.
    """

    def __init__(self, name: str, counters: Counters) -> None:
        self._name = name
        self._counters = counters
        self._complaints = Complaints(name)

    def no_key(self, error: Exception, *, strict: bool) -> None:
        """Count a call that has no key."""
        self._counters.count("uncacheable")
        if isinstance(error, Mismatch):
            return
        if isinstance(error, UncacheableArgument):
            error = error.called_by(self._name)
        elif not isinstance(error, UncacheableFunction):
            self.broken("key", error, strict=strict)
            return
        if strict:
            raise error from None
        self._complaints.log(str(error), "a call goes through uncached: %s", error)

    def no_entry(self, error: UncacheableValue, *, strict: bool) -> None:
        """Count a result that would not come back."""
        self._counters.count("rejected")
        if strict:
            raise error
        self._complaints.log(str(error), "a result is not stored: %s", error)

    def store(self, error: Exception, *, strict: bool, guarded: bool) -> None:
        """Count a failure of the store.

        Args:
            error: what it raised.
            strict: whether to raise it.
            guarded: whether the store has a breaker, which says so once for all functions.
        """
        self._count(error, strict=strict)
        if not guarded:
            self._log("store", error)

    def broken(self, what: str, error: Exception, *, strict: bool) -> None:
        """Count a failure of another part of the cache, which *what* names."""
        self._count(error, strict=strict)
        self._log(what, error)

    def _count(self, error: Exception, *, strict: bool) -> None:
        self._counters.count("errors")
        if strict:
            raise error

    def _log(self, what: str, error: Exception) -> None:
        # The text of a foreign error may repeat a prompt, an answer or a password.
        kind = type(error).__qualname__
        self._complaints.log(f"{what} {kind}", "the %s failed (%s), calls go through", what, kind)
