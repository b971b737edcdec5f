"""One test for both worlds: a function and its coroutine twin, called the same way."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from llmcache import llm_cached


class World:
    """Decorates a body as a function or as a coroutine function, and runs either."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.is_async = kind == "async"

    def cached(self, body: Callable[..., Any], **options: Any) -> Any:
        """Decorate *body*, which stays one function with its own name and signature."""
        return llm_cached(**options)(self.twin(body))

    def twin(self, body: Callable[..., Any]) -> Any:
        if not self.is_async:
            return body

        async def twin(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return body(*args, **kwargs)

        twin.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
        twin.__name__, twin.__qualname__ = body.__name__, body.__qualname__
        return twin

    def run(self, result: Any) -> Any:
        """Return a result's value: an awaitable is run to its end."""

        async def wait() -> Any:
            return await result

        return asyncio.run(wait()) if inspect.isawaitable(result) else result


worlds = pytest.mark.parametrize("world", [World("sync"), World("async")], ids=["sync", "async"])
