"""Dependencies point one way: receivers and exporters know the pipeline, the assembly knows everyone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway.store

ROOT = Path(__file__).parents[2]
COMPONENTS = sorted(path.parent for kind in ("receivers", "exporters") for path in (ROOT / kind).glob("*/factory.py"))
# What components may import of the gateway: what they are written against, and what they are built with.
FOUNDATION = tuple(f"gateway.{each}" for each in ("component", "base", "files", "net", "otlp", "store"))
# Modules of the gateway that may know particular components.
ASSEMBLY = {"gateway/supervisor.py"}
# Pipelines are put together there from what they read.
ASSEMBLY |= {f"gateway/extensions/document_pipelines/{module}.py" for module in ("config", "run", "service")}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def ours(name: str) -> bool:
    return name.split(".")[0] in ("gateway", "receivers", "exporters")


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: f"{path.parent.name}.{path.name}")
def test_a_component_imports_its_interfaces_and_itself_and_nothing_else_of_the_project(component: Path) -> None:
    own = f"{component.parent.name}.{component.name}"
    for path in component.rglob("*.py"):
        for name in filter(ours, imported(path)):
            assert name.startswith((own, *FOUNDATION)), f"{path.relative_to(ROOT)} imports {name}"


def test_the_pipeline_knows_no_component_and_nothing_of_the_gateway_around_it() -> None:
    for path in (ROOT / "gateway" / "pipeline").rglob("*.py"):
        for name in filter(ours, imported(path)):
            assert name.startswith(("gateway.pipeline", *FOUNDATION)), f"{path.relative_to(ROOT)} imports {name}"


def test_the_store_knows_neither_what_writes_it_nor_what_reads_it() -> None:
    for path in (ROOT / "gateway" / "store").rglob("*.py"):
        for name in filter(ours, imported(path)):
            assert name.startswith(("gateway.store", "gateway.base", "gateway.files")), path.relative_to(ROOT)


def test_everybody_else_uses_the_public_face_of_the_store() -> None:
    for path in (each for folder in ("gateway", "receivers", "exporters") for each in (ROOT / folder).rglob("*.py")):
        if not path.is_relative_to(ROOT / "gateway" / "store"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway.store"):
                    assert node.module == "gateway.store", f"{path.relative_to(ROOT)} imports {node.module}"
                    assert {alias.name for alias in node.names} <= set(gateway.store.__all__), path.relative_to(ROOT)
                if isinstance(node, ast.Import):
                    assert not any(alias.name.startswith("gateway.store") for alias in node.names), path


def test_every_name_of_the_public_face_of_the_store_is_there() -> None:
    assert sorted(gateway.store.__all__) == sorted(gateway.store._WHERE)
    for name in gateway.store.__all__:
        assert getattr(gateway.store, name) is not None


def test_in_the_gateway_only_the_assembly_and_the_command_line_know_particular_components() -> None:
    for path in (ROOT / "gateway").rglob("*.py"):
        where = path.relative_to(ROOT).as_posix()
        if where in ASSEMBLY or where.startswith("gateway/cli/"):
            continue
        for name in imported(path):
            assert not name.startswith(("receivers.", "exporters.")), f"{where} imports {name}"


def test_there_are_components_to_look_at() -> None:
    assert {path.name for path in COMPONENTS} >= {"otlp", "timescale"}


def test_one_place_connects_to_postgresql() -> None:
    for path in [each for folder in ("gateway", "receivers", "exporters") for each in (ROOT / folder).rglob("*.py")]:
        where = path.relative_to(ROOT).as_posix()
        if where == "gateway/store/postgres/connection.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "connect":
                assert not ast.unparse(node.value).startswith(("psycopg", "Connection", "AsyncConnection")), where
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("psycopg"):
                assert not {alias.name for alias in node.names} & {"connect", "Connection", "AsyncConnection"}, where
        assert not any(name.startswith("psycopg_pool") for name in imported(path)), where


def test_one_place_locks_files() -> None:
    for path in (each for folder in ("gateway", "receivers", "exporters") for each in (ROOT / folder).rglob("*.py")):
        if path != ROOT / "gateway" / "files" / "locks.py":
            assert "fcntl" not in imported(path), path.relative_to(ROOT)
