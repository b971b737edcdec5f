"""The errors that llmcache raises.

.. code-block:: text

    LLMCacheError
    ├── ConfigurationError       (also a ValueError)
    ├── UncacheableFunction      (also a TypeError)
    ├── UncacheableArgument      (also a TypeError)
    ├── UncacheableValue         (also a TypeError)
    ├── InvalidKey               (also a TypeError)
    ├── StoreUnavailable         (also a ConnectionError)
    ├── StoreUnusable            (also an OSError)
    └── MissingExtra             (also an ImportError)

None of them reaches the caller of a decorated function unless the function
was decorated with ``strict=True``: what cannot be cached is called as if it
had not been decorated.
"""

from __future__ import annotations

from typing import Final

# Nobody reads a longer path: what contains itself has one that is much longer.
_LONGEST: Final = 240


class LLMCacheError(Exception):
    """What every error of llmcache is."""


class ConfigurationError(LLMCacheError, ValueError):
    """An option that cannot be meant: raised while decorating or configuring."""


class UncacheableFunction(LLMCacheError, TypeError):
    """A function that cannot be told apart from others for sure."""


class UncacheableArgument(LLMCacheError, TypeError):
    """An argument that has no canonical form, so that the call has no key.

    Attributes:
        function: the name of the decorated function, once it is known.
        path: where the culprit stands, as in ``messages[3].content``.
        reason: what is wrong with it.
    """

    def __init__(self, reason: str, *, path: str = "", function: str = "") -> None:
        super().__init__(reason, path, function)
        self.reason = reason
        self.path = path
        self.function = function

    @property
    def place(self) -> str:
        """The path as the subject of a sentence."""
        return self.path.lstrip("., ") or "the value"

    def within(self, segment: str) -> UncacheableArgument:
        """Return the same error one level further out."""
        path = segment + self.path
        if len(path) > _LONGEST:
            path = f"{path[: _LONGEST // 2]}…{path[-_LONGEST // 2 :].rpartition('…')[2]}"
        return UncacheableArgument(self.reason, path=path, function=self.function)

    def called_by(self, function: str) -> UncacheableArgument:
        """Return the same error with the function's name."""
        return UncacheableArgument(self.reason, path=self.path, function=function)

    def __str__(self) -> str:
        where = f"{self.function}: " if self.function else ""
        return (
            f"{where}{self.place} {self.reason}. Leave the parameter out of the key with ignore=, "
            "say what counts with key=, or give its type a key of its own"
        )


class UncacheableValue(LLMCacheError, TypeError):
    """A result that would not come back from the cache as it was."""


class InvalidKey(LLMCacheError, TypeError):
    """A key of one's own that is no text."""


class StoreUnavailable(LLMCacheError, ConnectionError):
    """A store that cannot be reached, or has failed and is not asked until it is back."""


class MissingExtra(LLMCacheError, ImportError):
    """An optional package is needed and is not installed."""


class StoreUnusable(LLMCacheError, OSError):
    """What is stored was not written by this version of llmcache, so it is left alone."""
