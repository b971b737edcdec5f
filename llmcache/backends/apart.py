"""What an event loop must neither wait for now nor when it ends."""

from __future__ import annotations

import asyncio
import threading
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
    done: Future[T] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            settle(done, partial(done.set_result, work()))
        except Exception as error:  # noqa: BLE001
            settle(done, partial(done.set_exception, error))

    threading.Thread(target=run, name="llmcache-apart", daemon=True).start()
    return await done


def settle(future: Future[Any], how: Callable[[], None]) -> None:
    """Settle *future* from any thread, unless it or its event loop is over."""
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(_unless_done, future, how)


def _unless_done(future: Future[Any], how: Callable[[], None]) -> None:
    if not future.done():
        how()
