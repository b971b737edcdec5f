"""How the values of a class are kept: as a word, as a model, as an object of a kind, or not."""

from __future__ import annotations

from typing import Any, Final

from llmcache.codec.kinds import kind_of
from llmcache.codec.models import is_model
from llmcache.codec.words import word_for

MODEL: Final = object()


class Ways(dict[type, Any]):
    """The way of each class: its `Word`, `MODEL`, its `Kind`, or ``None``.

    Each is found out once, for as long as one value is looked at: asking all
    kinds is slow, and what they say of a class may change.
    """

    def __missing__(self, kind: type) -> Any:
        way = self[kind] = word_for(kind) or (MODEL if is_model(kind) else kind_of(kind))
        return way
