"""What copying, comparing or listing a value, or making a model, would run of its class."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator


def hooks(ran: list[str]) -> type:
    """Return a class, to derive from first, whose methods add their names to *ran*."""

    class Hooks:
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            return True

        def __hash__(self) -> int:
            ran.append("hash")
            return 0

        def __bool__(self) -> bool:
            ran.append("bool")
            return False

        def __len__(self) -> int:
            ran.append("len")
            return 0

        def __iter__(self) -> Any:
            ran.append("iter")
            return iter(())

        def __copy__(self) -> Any:
            ran.append("copy")
            return self

        def __getstate__(self) -> Any:
            ran.append("getstate")
            return {}

        def __reduce_ex__(self, protocol: Any) -> Any:
            ran.append("reduce")
            return super().__reduce_ex__(protocol)

        def __setattr__(self, name: str, value: Any) -> None:
            ran.append(f"set {name}")
            super().__setattr__(name, value)

    return Hooks


def watched(ran: list[str]) -> Any:
    """Return a class of models, of which whatever runs adds its name to *ran*."""

    class Watched(hooks(ran), BaseModel):  # type: ignore[misc]
        model_config = ConfigDict(
            extra="allow", validate_assignment=True, revalidate_instances="always"
        )
        value: int = 0
        other: Watched | None = None
        others: list[Watched] = []
        _private: int = PrivateAttr(default_factory=lambda: ran.append("factory") or 0)

        @model_validator(mode="wrap")
        @classmethod
        def check(cls, value: Any, handler: Any) -> Any:
            ran.append("validator")
            return handler(value)

        def model_post_init(self, context: Any) -> None:
            ran.append("post_init")
            super().model_post_init(context)

        def __init__(self, **values: Any) -> None:
            ran.append("init")
            super().__init__(**values)

        def __getattribute__(self, name: str) -> Any:
            ran.append(f"get {name}")
            return super().__getattribute__(name)

    return Watched
