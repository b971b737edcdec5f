"""What tests of a store need: the suite that every store passes, and a clock that stands still.

It needs pytest, and hypothesis for `assert_stores_agree`: ``pip install "llmcache[testing]"``.
"""

import pytest

pytest.register_assert_rewrite(
    "llmcache.testing.machine", "llmcache.testing.suite", "llmcache.testing.together"
)

from llmcache.testing.agreement import assert_stores_agree  # noqa: E402
from llmcache.testing.clock import FakeClock  # noqa: E402
from llmcache.testing.suite import StoreSuite  # noqa: E402

__all__ = ["FakeClock", "StoreSuite", "assert_stores_agree"]
