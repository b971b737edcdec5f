"""Use the installed package where nothing but its dependencies is installed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

PACKAGES = {"cachetools", "llmcache", "orjson", "wrapt"}
OPTIONAL = {
    "anthropic",
    "attr",
    "attrs",
    "backports",
    "cryptography",
    "google",
    "msgspec",
    "numpy",
    "openai",
    "pydantic",
    "redis",
}


class Watch(MetaPathFinder):
    """Sees what is asked for, whether it is installed or not."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        self.asked.add(name.partition(".")[0])
        return None


def check(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        sys.exit(f"{what}: {found!r}, and not {wanted!r}")


check("installed", {d.name for d in distributions()}, PACKAGES)
watch = Watch()
sys.meta_path.insert(0, watch)
import llmcache  # noqa: E402

check("asked for at import", watch.asked & OPTIONAL, set())
check("imported from", Path(llmcache.__file__).is_relative_to(sys.prefix), True)  # noqa: FBT003

calls: list[str] = []


@llmcache.llm_cached
def complete(prompt: str) -> dict[str, list[str]]:
    calls.append(prompt)
    return {"answers": [prompt.upper()]}


@llmcache.llm_cached
async def acomplete(prompt: str) -> dict[str, list[str]]:
    calls.append(prompt)
    return {"answers": [prompt.upper()]}


async def twice() -> list[object]:
    return [await acomplete("async"), await acomplete("async")]


check("answers", [complete("sync"), complete("sync")], [{"answers": ["SYNC"]}] * 2)
check("answers", asyncio.run(twice()), [{"answers": ["ASYNC"]}] * 2)
check("calls", calls, ["sync", "async"])
check("hits and misses", (llmcache.stats().hits, llmcache.stats().misses), (2, 2))
print(f"llmcache {llmcache.__version__} works with nothing but {', '.join(sorted(PACKAGES))}")
