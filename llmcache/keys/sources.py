"""The source of functions and classes, exactly theirs or none.

`inspect.getsource` answers with whatever stands where a function says that it
was defined: all lambdas of a line, the last class of that name in the file,
the main program for anything executed from a text, a file that was changed
since it was imported. Here the file is parsed and compiled again, and what is
found must be the one thing that fits.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import linecache
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, Final, TypeAlias

from llmcache.attributes import inherits, module_of, namespace_of, per_class, qualname_of

_Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"
_Scope: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef"

# Names in angle brackets are no files, but for those that put their text into linecache.
_TEXTS: Final = ("<ipython", "<doctest")

# Packages that put functions of their own into classes.
_CLASS_MAKERS: Final = ("attr", "attrs", "msgspec", "pydantic")

_COMPREHENSION: Final = r"<(?:list|set|dict)comp>\.|<genexpr>\."


def function_source(function: FunctionType) -> str | None:
    """Return the SHA-256 of a function's source in hex, ``None`` without source.

    For a ``def`` that is its text without decorators, for a lambda the expression.
    """
    code = function.__code__
    index = _index_of(code.co_filename)
    if index is None or code not in index.codes:
        return None
    if code.co_name == "<lambda>":
        return index.digest(_fitting_lambda(code, index.lambdas.get(_scope_of(code), [])))
    defined = index.functions.get(_scope_of(code), [])
    found = [node for node in defined if _first_line(node) == code.co_firstlineno]
    return index.digest(found[0] if len(found) == 1 else None)


@per_class
def class_source(kind: type) -> str | None:
    """Return the SHA-256 of a class's source in hex, ``None`` without source."""
    return _class_source(kind)


def is_written(code: CodeType) -> bool:
    """Say whether *code* stands in a file, and was not generated."""
    return not code.co_filename.startswith("<") or code.co_filename.startswith(_TEXTS)


def is_written_by_users(function: FunctionType) -> bool:
    """Say whether *function* stands in a source that is not of what makes classes."""
    return is_written(function.__code__) and not _is_library(function.__globals__.get("__name__"))


def sets_attributes(function: FunctionType) -> bool:
    """Say whether *function* was written to set attributes of something."""
    code = function.__code__
    return is_written(code) and (
        not {"__setattr__", "setattr"}.isdisjoint(code.co_names)
        or any(step.opname == "STORE_ATTR" for step in dis.get_instructions(code))
    )


def is_made_by_library(kind: type) -> bool:
    """Say whether a class is the standard library's, or of what makes classes."""
    return _is_library(module_of(kind))


def _is_library(module: Any) -> bool:
    package = str(module).partition(".")[0]
    return package in sys.stdlib_module_names or package in _CLASS_MAKERS


class _Index:
    """What a file defines."""

    def __init__(self, text: str, codes: frozenset[CodeType]) -> None:
        self.text = text
        self.codes = codes
        self.functions: dict[str, list[_Function]] = {}
        self.lambdas: dict[str, list[ast.Lambda]] = {}
        self.classes: dict[str, list[ast.ClassDef]] = {}
        self.digests: dict[ast.AST, str | None] = {}

    def digest(self, node: ast.AST | None) -> str | None:
        if node is None:
            return None
        if node not in self.digests:
            segment = ast.get_source_segment(self.text, node)
            digest = None if segment is None else hashlib.sha256(segment.encode()).hexdigest()
            self.digests[node] = digest
        return self.digests[node]


def _index_of(filename: str) -> _Index | None:
    if filename.startswith("<") and not filename.startswith(_TEXTS):
        return None
    text = "".join(linecache.getlines(filename))
    return _parsed(text) if text else None


@lru_cache(maxsize=16)
def _parsed(text: str) -> _Index | None:
    try:
        tree = ast.parse(text)
        whole = compile(text, "<source>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    index = _Index(text, frozenset(_codes(whole)))
    for qualname, node in _definitions(tree, ""):
        if isinstance(node, ast.ClassDef):
            index.classes.setdefault(qualname, []).append(node)
        elif isinstance(node, ast.Lambda):
            index.lambdas.setdefault(qualname, []).append(node)
        else:
            index.functions.setdefault(qualname, []).append(node)
    return index


def _codes(whole: CodeType) -> Iterator[CodeType]:
    """Yield every code object that a text compiles to."""
    waiting = [whole]
    while waiting:
        code = waiting.pop()
        yield code
        waiting += [part for part in code.co_consts if isinstance(part, CodeType)]


def _definitions(tree: ast.AST, scope: str) -> Iterator[tuple[str, _Scope | ast.Lambda]]:
    """Yield every definition with its qualified name."""
    waiting: list[tuple[ast.AST, str]] = [(tree, scope)]
    while waiting:
        parent, scope = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            inner = scope
            if isinstance(node, ast.Lambda):
                yield f"{scope}<lambda>", node
                inner = f"{scope}<lambda>.<locals>."
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{scope}{node.name}", node
                inner = f"{scope}{node.name}.<locals>."
            elif isinstance(node, ast.ClassDef):
                yield f"{scope}{node.name}", node
                inner = f"{scope}{node.name}."
            waiting.append((node, inner))


def without_comprehensions(qualname: str) -> str:
    """Return *qualname* without comprehensions, which are scopes in some versions only."""
    return re.sub(_COMPREHENSION, "", qualname)


def _scope_of(code: CodeType) -> str:
    return without_comprehensions(code.co_qualname)


def _first_line(node: _Scope) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _fitting_lambda(code: CodeType, lambdas: list[ast.Lambda]) -> ast.Lambda | None:
    """Return the lambda that contains all instructions of *code*, if only one does."""
    spans = [
        ((line, column), (end, end_column))
        for line, end, column, end_column in code.co_positions()
        if line is not None and end is not None and column is not None and end_column is not None
        if (column, end_column) != (0, 0)
    ]
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    fitting = [
        node
        for node in lambdas
        if node.lineno == code.co_firstlineno
        and tuple(a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs))
        == names
        and all(_start(node) <= start and end <= _end(node) for start, end in spans)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _start(node: ast.Lambda) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.Lambda) -> tuple[int, int]:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def _class_source(kind: type) -> str | None:
    methods = [
        member.__code__
        for member in namespace_of(kind).values()
        if type(member) is FunctionType
        and is_written_by_users(member)
        and member.__qualname__.startswith(f"{qualname_of(kind)}.")
    ]
    module = sys.modules.get(module_of(kind))
    filename = methods[0].co_filename if methods else getattr(module, "__file__", None)
    index = _index_of(filename) if isinstance(filename, str) else None
    if index is None or any(code not in index.codes for code in methods):
        return None
    found = index.classes.get(qualname_of(kind), [])
    if len(found) > 1:
        found = _fitting_classes(kind, methods, found)
    return index.digest(found[0] if len(found) == 1 else None)


def _fitting_classes(
    kind: type, methods: list[CodeType], classes: list[ast.ClassDef]
) -> list[ast.ClassDef]:
    """Return those of several classes of one name that stand where *kind* does."""
    line: Any = namespace_of(kind).get("__firstlineno__")
    if line is not None:
        return [node for node in classes if _first_line(node) == line]
    lines = [code.co_firstlineno for code in methods]
    return [
        node
        for node in classes
        if lines and all(node.lineno <= line <= (node.end_lineno or 0) for line in lines)
    ]


def docstring(thing: Any) -> str | None:
    """Return a docstring without indentation, which some versions of Python take away."""
    doc = namespace_of(thing).get("__doc__") if inherits(type(thing), type) else thing.__doc__
    return inspect.cleandoc(doc) if isinstance(doc, str) else None
