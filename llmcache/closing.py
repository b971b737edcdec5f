"""What can be closed, at once or awaited, and by the end of a ``with`` block."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TypeVar

T = TypeVar("T", bound="Closing")


class Closing:
    """Has a `close`, and closes at the end of a ``with`` or ``async with`` block."""

    def close(self) -> None:
        """Close what is open; the next use opens it again."""

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self: T) -> T:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
