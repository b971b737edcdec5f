"""What an event loop must neither wait for now nor when it ends."""

from __future__ import annotations

import _thread
import asyncio
from asyncio import Future
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def apart(work: Callable[[], T]) -> T:
    """Return what *work* returns, in a thread of its own.

    The threads of an event loop are few and may all be busy, and the loop
    waits for what they do when it ends. Nobody waits for this one.

    Args:
        work: what to do; its outcome is lost if nobody awaits it any more.

    Raises:
        Exception: what *work* raises.
    """
    loop = asyncio.get_running_loop()
    done: Future[T] = loop.create_future()

    def run() -> None:  # pragma: no cover - where nobody measures
        settle: partial[None]
        try:
            settle = partial(done.set_result, work())
        except Exception as error:  # noqa: BLE001
            settle = partial(done.set_exception, error)
        # The loop may have ended.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_unless_done, done, settle)

    _thread.start_new_thread(run, ())
    return await done


def _unless_done(future: Future[Any], settle: Callable[[], None]) -> None:
    if not future.done():
        settle()
