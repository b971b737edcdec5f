"""What is done apart holds up no event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest
from redis_servers import HANG

from llmcache.backends.apart import apart


def test_the_outcome_is_that_of_the_work() -> None:
    def fails() -> None:
        raise OSError("no")

    async def main() -> None:
        assert await apart(threading.get_ident) != threading.get_ident()
        with pytest.raises(OSError, match="no"):
            await apart(fails)

    asyncio.run(main())


def test_nobody_waits_for_what_nobody_awaits() -> None:
    may, done = threading.Event(), threading.Event()

    def work() -> None:
        may.wait(HANG)
        done.set()

    async def main(*, stays: bool) -> None:
        waiting = asyncio.ensure_future(apart(work))
        await asyncio.sleep(0)
        waiting.cancel()
        if stays:
            may.set()
            await asyncio.to_thread(done.wait, HANG)
            for _ in range(10):
                await asyncio.sleep(0.001)

    asyncio.run(main(stays=False))
    assert not done.is_set()
    may.set()
    assert done.wait(HANG)
    may.clear()
    done.clear()
    asyncio.run(main(stays=True))
