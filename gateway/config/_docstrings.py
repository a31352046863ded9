"""What the docstrings below settings say, read when somebody asks: at each start that would be a twentieth of it."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping

from pydantic import BaseModel


def described(model: type[BaseModel]) -> dict[str, str]:
    """Return the description of each setting that has one, by the name of its field, inherited ones included."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            found |= _in_module(one.__module__).get(one.__qualname__, {})
    own = {name: field.description or found.get(name) for name, field in model.model_fields.items()}
    return {name: text for name, text in own.items() if text}


@functools.cache
def _in_module(name: str) -> Mapping[str, dict[str, str]]:
    """Return the docstrings of the fields of each class in a module; none where its source is not there."""
    try:
        source = inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):
        return {}
    return dict(_in_body(ast.parse(source).body, ""))


def _in_body(body: list[ast.stmt], place: str) -> Iterator[tuple[str, dict[str, str]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield place + node.name, dict(_in_class(node))
            yield from _in_body(node.body, f"{place}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _in_body(node.body, f"{place}{node.name}.<locals>.")


def _in_class(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for one, following in itertools.pairwise(node.body):
        match one, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
