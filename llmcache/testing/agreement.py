"""Stores agree with each other and with a dict."""

from __future__ import annotations

from collections.abc import Callable

from llmcache.backends.base import Store
from llmcache.errors import MissingExtra
from llmcache.policy import Clock


def assert_stores_agree(*make_stores: Callable[[Clock], Store], expiry: bool = True) -> None:
    """Do the same to stores and to a dict, at random, until one of them disagrees.

    Hypothesis chooses the operations, blocking and awaited ones mixed, and
    reports the shortest sequence that it finds. How many it tries is a matter
    of its settings profile.

    - Each store has room for 6 entries of 16 bytes, and keeps them.
    - A store's groups are cleared before each sequence, so that a file or a
      server may be used again; it is closed after each.

    Args:
        make_stores: each returns a store whose time is the clock that it is handed.
        expiry: ``False`` where one of them has another time, which cannot be moved.

    Raises:
        MissingExtra: where hypothesis is not installed.
        AssertionError: from the store that disagrees.

    Example::

        def test_the_stores_agree(tmp_path):
            assert_stores_agree(make_store, lambda clock: MemoryStore(clock=clock))
    """
    try:
        from llmcache.testing import machine  # noqa: PLC0415
    except ImportError:
        raise MissingExtra('assert_stores_agree needs: pip install "llmcache[testing]"') from None
    machine.run(make_stores, expiry=expiry)
