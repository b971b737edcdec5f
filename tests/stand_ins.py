"""What many tests need: a clock that stands still, and threads that start together."""

from llmcache.testing import FakeClock
from llmcache.testing.threads import in_threads

__all__ = ["FakeClock", "in_threads"]
