"""The valid body that is nearest to one that providers sent and pydantic refuses."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import orjson
import pydantic

_TRIES = 60
_WORDS = {"id": "none", "object": "chat.completion", "type": "function", "model": "none"}


def nearest(kind: Any, body: dict[str, Any]) -> dict[str, Any] | None:
    """Return *body* with as little changed as makes it valid for *kind*, or ``None``.

    Where pydantic misses something, something small of the right type is put;
    where it finds what it does not want, that is replaced likewise, by its JSON
    where a text is wanted.
    """
    body = copy.deepcopy(body)
    for _ in range(_TRIES):
        errors = _errors(kind, body)
        if not errors:
            return body
        for error in _fewest(body, errors):
            holder, place, _ = _place(body, error["loc"])
            if holder is None:
                return None
            was = holder[place] if _has(holder, place) else None
            holder[place] = _right(error, place, was)
    return None


def _errors(kind: Any, body: dict[str, Any]) -> list[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.model_validate_json(orjson.dumps(body))
    except pydantic.ValidationError as error:
        return list(error.errors())
    return []


def _fewest(body: Any, errors: list[Any]) -> list[Any]:
    """Return the errors but for those of members of a union that fit less than another."""
    members: dict[Any, dict[Any, list[Any]]] = {}
    for error in errors:
        *_, members_named = _place(body, error["loc"])
        [(union, member)] = members_named[:1] or [(error["loc"], None)]
        members.setdefault(union, {}).setdefault(member, []).append(error)
    return [error for member in members.values() for error in min(member.values(), key=len)]


def _place(body: Any, location: Sequence[int | str]) -> tuple[Any, Any, list[Any]]:
    """Return what holds the value of a location, where, and which member of which union it is."""
    holder, place = None, None
    members = []
    for depth, step in enumerate(location):
        inside = body if holder is None else holder[place] if _has(holder, place) else None
        if isinstance(inside, list if isinstance(step, int) else dict) and (
            depth + 1 == len(location) or _has(inside, step)
        ):
            holder, place = inside, step
        else:
            members.append((location[:depth], step))
    return holder, place, members


def _has(holder: Any, place: Any) -> bool:
    return place in holder if isinstance(holder, dict) else place < len(holder)


def _right(error: Any, place: Any, was: Any) -> Any:
    wanted = error["type"]
    if wanted == "literal_error":
        return error["ctx"]["expected"].split(" or ")[0].split(",")[0].strip("'")
    if wanted == "missing":
        return _WORDS.get(place, 0)
    if wanted.startswith(("int_", "float_")):
        return 1
    if wanted.startswith("string_"):
        return orjson.dumps(was).decode()
    return [] if wanted.startswith("list_") else None
