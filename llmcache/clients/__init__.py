"""What is known of each provider's SDK."""

from __future__ import annotations

import dis
import re
import sys
from functools import cache, lru_cache
from types import FunctionType
from typing import Any, Final

from llmcache.attributes import (
    attributes_of,
    dictionary_of,
    inherits,
    lineage,
    module_of,
    name_of,
    namespace_of,
    qualname_of,
)

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
    "_location",
    "_project",
    "_strict_response_validation",
    "aws_region",
    "organization",
    "project",
    "project_id",
    "region",
    "workspace_id",
)
# Headers that are not part of what is asked: what the transport says of
# itself, and secrets. A header that is not named here is.
_NOT_CONTENT: Final = (
    "accept|accept-encoding|connection|content-length|content-type|host|idempotency-key"
    "|(x-)?request-id|traceparent|tracestate|user-agent|x-stainless-.*"
    "|(.*-)?(api-?key|access-key|subscription-key|auth|authorization|cookie|credentials?"
    "|password|secret|signature|token)"
)


@cache
def _not_content() -> re.Pattern[str]:
    # Compiled when it is needed: to import this is quick.
    return re.compile(_NOT_CONTENT)


def client_of(thing: Any) -> Any:
    """Return the SDK client that *thing* is, or is a resource of; ``None`` for anything else.

    A resource is an instance of a class that the SDK itself defines: whatever
    else has a client has more that makes a difference.
    """
    kind = type(thing)
    if not is_known(kind):
        return None
    return thing if any(_is_client(kind, name) for name in _SDKS) else _client_within(thing)


def is_known(kind: type) -> bool:
    """Say whether a class is one of clients, or of their resources."""
    return any(_is_client(kind, name) or _is_resource(kind, name) for name in _SDKS)


def _client_within(resource: Any) -> Any:
    client = dictionary_of(resource).get("_client")
    return client if any(_is_client(type(client), name) for name in _SDKS) else None


def _is_resource(kind: type, name: str) -> bool:
    module = sys.modules.get(f"{name}._resource")
    return (
        module is not None
        and _is_defined_by(name, kind)
        and any(inherits(kind, b) for b in (module.SyncAPIResource, module.AsyncAPIResource))
    )


def _is_client(kind: type, name: str) -> bool:
    module = sys.modules.get(f"{name}._base_client")
    return module is not None and inherits(kind, module.BaseClient)


def _is_defined_by(name: str, kind: type) -> bool:
    """Say whether a class stands in an SDK's own modules, and does not only say so."""
    module = module_of(kind)
    return (
        module.partition(".")[0] == name
        and namespace_of(sys.modules.get(module)).get(name_of(kind)) is kind
    )


def is_sentinel(kind: type) -> bool:
    """Say whether a class is one of marks for "not given", which has one instance."""
    return f"{module_of(kind)}.{qualname_of(kind)}" in _SENTINELS


def is_async(function: Any) -> bool:
    """Say whether *function* is an SDK's own method of a known asynchronous client."""
    owner = getattr(function, "__self__", None)
    client = None if owner is None else client_of(owner)
    name = str(getattr(function, "__module__", "")).partition(".")[0]
    return (
        client is not None
        and name in _SDKS
        and inherits(type(client), sys.modules[f"{name}._base_client"].AsyncAPIClient)
    )


def settings(client: Any) -> dict[str, Any]:
    """Return what decides who answers the calls of a known client.

    That is its endpoint, organization, project, API version, deployment,
    default query and those headers that are part of what is asked. Secrets
    are left out: a new API key is no new question.
    """
    state = dictionary_of(client)
    return {
        "base_url": str(state["_base_url"]),
        "query": dict(state["_custom_query"]),
        "headers": {
            name.lower(): value
            for name, value in state["_custom_headers"].items()
            if not _not_content().fullmatch(name.lower().replace("_", "-"))
        },
        "settings": {
            name: state[name] for name in _SETTINGS if isinstance(state.get(name), str | bool | int)
        },
    }


def own_attributes(client: Any) -> dict[str, Any]:
    """Return the attributes of a known client that a class of the user's own gave it."""
    known: set[str] = set()
    for base in lineage(type(client)):
        sdk = any(_is_defined_by(name, base) for name in _SDKS)
        if sdk and base is type(client):
            return {}
        if sdk:
            known |= _names_of(base)
    return {name: value for name, value in attributes_of(client).items() if name not in known}


@lru_cache(maxsize=64)
def _names_of(kind: type) -> frozenset[str]:
    """Return the names that a class declares or defines, and those that its methods assign."""
    functions = [member for member in namespace_of(kind).values() if type(member) is FunctionType]
    assigned = {
        instruction.argval
        for function in functions
        for instruction in dis.get_instructions(function)
        if instruction.opname == "STORE_ATTR"
    }
    return frozenset(
        assigned | set(namespace_of(kind)) | set(namespace_of(kind).get("__annotations__", ()))
    )
