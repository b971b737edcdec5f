from __future__ import annotations

import functools
import pathlib
import threading
from typing import Any

import pytest

from llmcache import UncacheableArgument, UncacheableFunction, llm_cached
from llmcache.keys.canonical import canonical
from llmcache.keys.sources import class_source, function_source


def two_classes() -> tuple[type, type]:
    class Tool:
        size = 1

    first = Tool

    class Tool:  # type: ignore[no-redef]
        size = 2

    return first, Tool


def test_of_two_classes_of_one_name_the_line_decides() -> None:
    first, second = two_classes()
    line = two_classes.__code__.co_firstlineno + 1
    first.__firstlineno__, second.__firstlineno__ = line, line + 5  # type: ignore[attr-defined]
    assert None not in {class_source(first), class_source(second)}
    assert class_source(first) != class_source(second)


def test_a_method_without_a_source_leaves_its_class_without_a_form() -> None:
    class Tool:
        pass

    made: dict[str, Any] = {"__name__": __name__}
    exec(compile("def ask(self): ...", "nowhere.py", "exec"), made)
    Tool.ask = made["ask"]  # type: ignore[attr-defined]
    with pytest.raises(UncacheableArgument, match="ask has no source"):
        canonical(Tool)


def test_a_local_function_below_a_decorator_that_holds_a_lock_is_refused() -> None:
    lock = threading.Lock()

    def guarded(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            with lock:
                return function(*args)

        return wrapper

    @llm_cached(strict=True)
    @guarded
    def ask(text: str) -> str:
        return text

    with pytest.raises(UncacheableFunction, match="closure variable lock"):
        ask("hi")


def test_a_method_of_a_builtin_class_can_be_decorated() -> None:
    upper = llm_cached(str.upper)
    assert (upper("a"), upper("a")) == ("A", "A")
    assert upper.cache.stats().hits == 1


def test_a_file_that_is_no_program_is_no_source(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("def broken(:\n")
    scope: dict[str, Any] = {}
    exec(compile("def ask(prompt): return prompt", str(path), "exec"), scope)
    assert function_source(scope["ask"]) is None
