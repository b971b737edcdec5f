"""What the documentation shows works as it shows it."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import runpy
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import llmcache
from llmcache.process import Process

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")
QUICKSTART = ROOT / "examples" / "quickstart.py"
MODULES = [
    "llmcache",
    *(module.name for module in pkgutil.walk_packages(llmcache.__path__, "llmcache.")),
]


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:(?: .*)?\n)+)", README, re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in found]


def commands() -> list[str]:
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    return [line for line in lines if "venv" in line]


@pytest.mark.parametrize("example", blocks("python"))
def test_the_examples_are_short_and_hit(example: str, process: Process) -> None:
    assert len(example.splitlines()) <= 15
    exec(compile(example, "README.rst", "exec"), {"__name__": "readme"})
    assert process.stats().hits > 0


def test_there_is_an_example() -> None:
    assert blocks("python")


def test_one_command_tries_it_and_one_tests_it() -> None:
    tries, tests = commands()
    assert tries.endswith("examples/quickstart.py")
    assert tests.endswith("-m pytest -n auto")


@pytest.mark.parametrize("command", commands(), ids=["try", "test"])
def test_ci_runs_the_same_commands(command: str) -> None:
    in_ci = command.replace(".venv", '"$venv"')
    assert in_ci in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_quickstart_shows_a_slow_miss_and_a_fast_hit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(QUICKSTART)])
    runpy.run_path(str(QUICKSTART), run_name="__main__")
    shown = capsys.readouterr().out
    assert re.search(r"^OpenAI +miss .* hit .* 'Paris\.'$", shown, re.MULTILINE)
    assert re.search(r"^Anthropic +miss .* hit .* 'Hi there!.*'$", shown, re.MULTILINE)
    assert re.search(r"^hits +2$", shown, re.MULTILINE)


def test_the_quickstart_needs_a_key_for_real_providers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", [str(QUICKSTART), "--real"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(QUICKSTART), run_name="__main__")
    assert "OPENAI_API_KEY or ANTHROPIC_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize("name", MODULES)
def test_the_docstrings_are_right(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_the_guide_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a module that can be imported by its name, as a reader's own is.
    path = ROOT / "docs" / "guide.rst"
    module = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    text = path.read_text(encoding="utf-8")
    guide = doctest.DocTestParser().get_doctest(text, {}, "guide", str(path), 0)
    guide.globs = vars(module)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(guide, clear_globs=False)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("name", sorted(set(llmcache.__all__) - {"__version__"}))
def test_every_public_name_is_in_the_reference(name: str) -> None:
    reference = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    assert re.search(rf"^\.\. auto\w+:: {name}\b", reference, re.MULTILINE)
