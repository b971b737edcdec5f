"""What is known of each provider's SDK."""

from __future__ import annotations

import sys
from typing import Any, Final

from llmcache.attributes import dictionary_of, inherits

_SDKS: Final = ("openai", "anthropic")

_SENTINELS: Final = (
    "anthropic.NotGiven",
    "anthropic.Omit",
    "anthropic._types.NotGiven",
    "anthropic._types.Omit",
    "dataclasses._MISSING_TYPE",
    "msgspec.UnsetType",
    "msgspec._core.UnsetType",
    "openai.NotGiven",
    "openai.Omit",
    "openai._types.NotGiven",
    "openai._types.Omit",
    "pydantic_core._pydantic_core.PydanticUndefinedType",
)

# Where an SDK's clients keep what decides who answers; credentials, timeouts
# and retries do not.
_SETTINGS: Final = (
    "_api_version",
    "_azure_deployment",
    "_data_residency",
    "_strict_response_validation",
    "aws_region",
    "organization",
    "project",
    "project_id",
    "region",
    "workspace_id",
)
# Words of headers that are not part of what is asked: secrets, and what the
# transport says of itself.
_NOT_CONTENT: Final = frozenset(
    {
        *("accept", "agent", "connection", "cookie", "host", "idempotency", "session", "stainless"),
        *("apikey", "auth", "authorization", "credential", "credentials", "key", "password"),
        *("secret", "signature", "token", "traceparent", "tracestate"),
    }
)
_NOT_CONTENT_NAMES: Final = ("content-type", "content-length", "x-request-id", "request-id")


def client_of(thing: Any) -> Any:
    """Return the SDK client that *thing* is, or is a resource of; ``None`` for anything else."""
    for name in _SDKS:
        if sdk := sys.modules.get(name):
            for candidate in (thing, dictionary_of(thing).get("_client")):
                if inherits(type(candidate), sdk._base_client.BaseClient):
                    return candidate
    return None


def is_sentinel(thing: Any) -> bool:
    """Say whether *thing* is a mark for "not given", of which there is one for each class."""
    kind = type(thing)
    return f"{kind.__module__}.{kind.__qualname__}" in _SENTINELS


def is_async(function: Any) -> bool:
    """Say whether *function* is a method of a known asynchronous client."""
    owner = getattr(function, "__self__", None)
    client = None if owner is None else client_of(owner)
    return client is not None and any(
        isinstance(client, sys.modules[name]._base_client.AsyncAPIClient)
        for name in _SDKS
        if name in sys.modules
    )


def settings(thing: Any) -> dict[str, Any]:
    """Return what decides who answers the calls of a known client, or of a resource of one.

    That is its endpoint, organization, project, API version, deployment,
    default query and those headers that are part of what is asked. Secrets
    are left out: a new API key is no new question.
    """
    client = client_of(thing)
    found = {name: getattr(client, name, None) for name in _SETTINGS}
    return {
        "class": f"{type(client).__module__}.{type(client).__qualname__}",
        "base_url": str(client.base_url),
        "query": {str(k): v for k, v in client._custom_query.items()},
        "headers": {
            name.lower(): value
            for name, value in client._custom_headers.items()
            if isinstance(value, str) and _is_content(name.lower())
        },
        "settings": {k: v for k, v in found.items() if isinstance(v, str | bool | int)},
    }


def _is_content(header: str) -> bool:
    words = header.replace("_", "-").split("-")
    return header not in _NOT_CONTENT_NAMES and _NOT_CONTENT.isdisjoint(words)
