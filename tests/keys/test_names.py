"""A function or class is found by its name, or told apart by its source."""

from __future__ import annotations

import functools
import importlib.util
import linecache
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest

import llmcache.keys.request  # noqa: F401
from keys import named
from llmcache import UncacheableArgument, llm_cached
from llmcache.keys.canonical import canonical

ROOT = pathlib.Path(__file__).parents[2]

shared = functools.partial(llm_cached, backend="memory://names", strict=True)


@pytest.fixture
def load(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Import *source* as the module *name*."""

    def import_as(name: str, source: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return import_file(name, path)

    def import_file(name: str, path: pathlib.Path) -> ModuleType:
        specification = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, name, module)
        specification.loader.exec_module(module)
        return module

    import_as.file = import_file
    return import_as


def key(function: Any, *args: Any) -> str:
    return function.cache.key(*args)


def executed(source: str, filename: str = "<made>", **variables: Any) -> dict[str, Any]:
    exec(compile(source, filename, "exec"), variables)
    return variables


SOURCE = """
from llmcache import llm_cached

@llm_cached(backend="memory://names")
def ask(prompt):
    return "{word}" + prompt
"""


def test_a_module_under_two_names_has_two_functions(
    tmp_path: pathlib.Path, load: Callable[..., ModuleType]
) -> None:
    path = tmp_path / "prompts.py"
    path.write_text(SOURCE.format(word="a"))
    one, other = load.file("one", path), load.file("package.other", path)
    assert [one.ask("p"), other.ask("p")] == ["ap", "ap"]
    assert key(one.ask, "p") != key(other.ask, "p")


def test_functions_of_two_modules_differ(load: Callable[..., ModuleType]) -> None:
    modules = [load(name, SOURCE.format(word=name)) for name in ("one", "other")]
    assert [module.ask("p") for module in modules] == ["onep", "otherp"]


def test_the_source_of_an_importable_function_is_not_part_of_it(tmp_path: pathlib.Path) -> None:
    keys = set()
    for word in "ab":
        (tmp_path / "prompts.py").write_text(SOURCE.format(word=word))
        program = "import prompts; print(prompts.ask.cache.key('p'))"
        keys.add(*script(program, "-", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}"))
    assert len(keys) == 1


LOCAL = """
from llmcache import llm_cached

def made():
    @llm_cached(backend="memory://names")
    def ask(prompt):
        return "{word}" + prompt
    return ask, lambda prompt: "{word}" + prompt
"""


def test_a_file_that_changes_after_its_import_is_no_source(
    tmp_path: pathlib.Path, load: Callable[..., ModuleType]
) -> None:
    before = load("changing", LOCAL.format(word="a"))
    (tmp_path / "changing.py").write_text(LOCAL.format(word="b"))
    keys = [key(ask, "p") for ask in (before.made()[0], llm_cached(before.made()[1]))]
    linecache.clearcache()
    after = load("changing", LOCAL.format(word="b"))
    assert key(after.made()[0], "p") != keys[0]
    assert key(llm_cached(after.made()[1]), "p") != keys[1]


REPLACED = """
from llmcache import llm_cached

def cached(function):
    return llm_cached(backend="memory://names")(function)

asks = []
for turn in (1,):
    @cached
    def ask(prompt):
        return "first"
    asks.append(ask)
    {call}
    @cached
    def ask(prompt):
        return "second"
    asks.append(ask)
    {call}
    @cached
    def ask(prompt):
        return "third"
    asks.append(ask)
"""


@pytest.mark.parametrize("call", ["", "ask('p')"])
def test_a_function_that_another_replaced_is_not_that_other(
    call: str, load: Callable[..., ModuleType]
) -> None:
    module = load("replaced", REPLACED.format(call=call))
    assert [ask("p") for ask in module.asks] == ["first", "second", "third"]


def test_a_class_that_another_replaced_is_not_that_other(
    load: Callable[..., ModuleType],
) -> None:
    parts = [f"class Tool:\n    def ask(self):\n        return {n}\nheld{n} = Tool" for n in "123"]
    module = load("replaced", "\n".join(parts))
    kinds = [module.held1, module.held2, module.held3]
    forms = {canonical(kind) for kind in kinds}
    assert len(forms) == 3


def test_a_class_under_another_name_is_known_by_its_own(load: Callable[..., ModuleType]) -> None:
    module = load("aliased", "class Tool:\n    pass\nAlias = Tool\nclass Sub:\n    Inner = Tool")
    assert canonical(module.Alias) == canonical(module.Sub.Inner) == canonical(module.Tool)


def test_what_claims_to_be_another_is_not(load: Callable[..., ModuleType]) -> None:
    module = load("claimed", "class Tool:\n    pass\ndef ask():\n    pass\n")

    class Tool:
        pass

    def ask() -> None:
        pass

    Tool.__module__ = ask.__module__ = "claimed"
    Tool.__qualname__, ask.__qualname__ = "Tool", "ask"
    for claimant, owner in ((Tool, module.Tool), (ask, module.ask)):
        with suppress(UncacheableArgument):
            assert canonical(claimant) != canonical(owner)


@pytest.mark.parametrize(
    "source",
    [
        "def ask(prompt): return '{}' + prompt",
        "ask = lambda prompt: '{}' + prompt",
        "def made():\n def ask(prompt): return '{}' + prompt\n return ask\nask = made()",
    ],
)
def test_functions_without_a_source_stay_in_memory(source: str) -> None:
    calls = []
    functions = [executed(source.format(word))["ask"] for word in "aab"]
    asks = [shared(function) for function in functions]
    assert [ask("p") for ask in asks * 2] == ["ap", "ap", "bp"] * 2
    assert [ask.cache.stats().hits for ask in asks] == [1, 1, 1]
    assert len({key(ask, "p") for ask in asks}) == 3
    assert calls == []


def test_functions_of_executed_text_stay_in_memory() -> None:
    asks = []
    for word in "ab":
        variables: dict[str, Any] = {}
        exec(f"def ask(prompt): return '{word}' + prompt", variables)
        asks.append(shared(variables["ask"]))
    assert [ask("p") for ask in asks] == ["ap", "bp"]


def test_the_line_of_another_file_is_no_source() -> None:
    sources = [f"def ask(prompt): return '{word}' + prompt" for word in "ab"]
    asks = [shared(executed(source, filename=__file__)["ask"]) for source in sources]
    assert [ask("p") for ask in asks] == ["ap", "bp"]


def test_a_method_of_a_class_without_a_source_is_told_apart() -> None:
    source = "class Bot:\n    def ask(self, prompt): return '{}' + prompt"
    kinds = [executed(source.format(word), __name__="made")["Bot"] for word in "ab"]
    asks = [llm_cached(backend="memory://names")(kind().ask) for kind in kinds]
    assert [ask("p") for ask in asks * 2] == ["ap", "bp"] * 2


def script(source: str, *options: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, *options],
        input=source,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


MAIN = """
import llmcache, functools

@llmcache.llm_cached
def ask(prompt):
    return "{word}" + prompt

class Bot:
    def __init__(self, word):
        self.word = word

    @llmcache.llm_cached
    def ask(self, prompt):
        return "{word}" + self.word + prompt

def made(word):
    return llmcache.llm_cached(lambda prompt: word + "{word}" + prompt)

both = [llmcache.llm_cached(lambda p: p + "{word}"), llmcache.llm_cached(lambda p: p + "z")]

print(ask.cache.key("p"), Bot("a").ask.cache.key("p"), made("a").cache.key("p"))
print(ask.cache.key(Bot), both[0].cache.key("p"), both[1].cache.key("p"))
"""


def test_functions_of_a_script_are_their_source(tmp_path: pathlib.Path) -> None:
    def run(name: str, word: str, seed: str) -> list[str]:
        path = tmp_path / name
        path.write_text(MAIN.format(word=word))
        return script("", str(path), PYTHONHASHSEED=seed)

    one, again, other = run("one.py", "a", "1"), run("two.py", "a", "2"), run("one.py", "b", "1")
    assert one == again
    assert len(set(one)) == len(one)
    assert one[-1] == other[-1]
    assert set(one[:-1]).isdisjoint(other[:-1])


FROM_STANDARD_INPUT = """
from llmcache import llm_cached
def asks():
    @llm_cached(backend="memory://x", strict=True)
    def ask(prompt):
        return "a" + prompt
    yield ask
    @llm_cached(backend="memory://x", strict=True)
    def ask(prompt):
        return "b" + prompt
    yield ask
    for word in "cd":
        space = {}
        exec(f"def ask(prompt): return '{word}' + prompt", space)
        yield llm_cached(backend="memory://x", strict=True)(space["ask"])
asks = list(asks())
for ask in asks * 2:
    print(ask("p"))
print(*(ask.cache.stats().hits for ask in asks))
"""


@pytest.mark.parametrize("option", ["-", "-c"])
def test_a_program_that_is_no_file_answers_right(option: str) -> None:
    if option == "-c":
        found = script("", "-c", FROM_STANDARD_INPUT)
    else:
        found = script(FROM_STANDARD_INPUT, "-")
    assert found == ["ap", "bp", "cp", "dp"] * 2 + ["1"] * 4


def test_a_lambda_is_its_own_part_of_the_line() -> None:
    forms = [canonical(function) for function in named.shapes]
    assert len(set(forms)) == len(forms)


def test_the_indentation_of_a_docstring_makes_no_difference() -> None:
    def tool(city: str) -> str:
        return city

    tool.__doc__ = "Tell the weather.\n\n        In words.\n        "
    before = canonical(tool)
    tool.__doc__ = "Tell the weather.\n\nIn words.\n"
    assert canonical(tool) == before


def test_a_decorated_function_is_found_below_what_its_module_holds() -> None:
    assert b'"source"' not in canonical(named.complete)
    assert b'"source"' not in canonical(named.complete.__wrapped__)
    assert b'"source"' in canonical(named.local_function("a"))


def test_a_function_that_only_memory_knows_is_no_argument() -> None:
    tool = executed("def tool(city): return city")["tool"]
    with pytest.raises(UncacheableArgument):
        canonical(tool)
    with pytest.raises(UncacheableArgument):
        canonical({"tools": [functools.partial(tool, "a")]})
