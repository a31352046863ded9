"""Who may import whom. The contracts stand in pyproject.toml; what they cannot say is looked for here."""

import ast
import functools
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway.store

ROOT = Path(__file__).parents[2]


Node = ast.Import | ast.ImportFrom | ast.Attribute


@functools.cache
def modules() -> dict[Path, list[Node]]:
    """The imports of each module, and what it asks of objects. They are read once, for all tests."""
    paths = [path for folder in ("gateway", "receivers", "exporters") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert paths
    return {
        path: [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, Node)]
        for path in paths
    }


def imported(nodes: list[Node], path: Path) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def test_the_contracts_are_kept() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    # In a process of its own: it sets logging up anew, and silences the loggers that there are.
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_logo=True, no_cache=True))"
    linter = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert linter.returncode == 0, linter.stdout + linter.stderr


def test_every_module_of_the_gateway_has_its_place_in_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = {name for layer in layers for name in layer.replace("|", ":").replace(" ", "").split(":")}
    there = {f"gateway.{path.stem}" for path in (ROOT / "gateway").glob("*.py") if path.stem != "__init__"}
    there |= {f"gateway.{path.parent.name}" for path in (ROOT / "gateway").glob("*/__init__.py")}
    assert there == {name for name in placed if name.startswith("gateway.")}


def test_everybody_else_uses_the_public_face_of_the_store() -> None:
    for path, nodes in modules().items():
        if not path.is_relative_to(ROOT / "gateway" / "store"):
            for node in nodes:
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway.store"):
                    assert node.module == "gateway.store", f"{path.relative_to(ROOT)} imports {node.module}"
                    assert {alias.name for alias in node.names} <= set(gateway.store.__all__), path.relative_to(ROOT)
                if isinstance(node, ast.Import):
                    assert not any(alias.name.startswith("gateway.store") for alias in node.names), path


def test_every_name_of_the_public_face_of_the_store_is_there() -> None:
    assert sorted(gateway.store.__all__) == sorted(gateway.store._WHERE)
    for name in gateway.store.__all__:
        assert getattr(gateway.store, name) is not None


def test_one_place_connects_to_postgresql() -> None:
    for path, nodes in modules().items():
        where = path.relative_to(ROOT).as_posix()
        if where == "gateway/store/postgres/connection.py":
            continue
        for node in nodes:
            if isinstance(node, ast.Attribute) and node.attr == "connect":
                assert not ast.unparse(node.value).startswith(("psycopg", "Connection", "AsyncConnection")), where
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("psycopg"):
                assert not {alias.name for alias in node.names} & {"connect", "Connection", "AsyncConnection"}, where
        assert not any(name.startswith("psycopg_pool") for name in imported(nodes, path)), where


def test_one_place_locks_files() -> None:
    for path, nodes in modules().items():
        if path != ROOT / "gateway" / "files" / "locks.py":
            assert "fcntl" not in imported(nodes, path), path.relative_to(ROOT)
