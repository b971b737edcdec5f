"""What copying, comparing or listing a value would run of its class."""

from __future__ import annotations

from typing import Any


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
