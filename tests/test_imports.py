"""Imports point down only, and no module reaches into another one's private parts."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for package in ("protocol", "gateway") for path in (ROOT / package).rglob("*.py"))

# Each layer with the layers of this project it may import. The longest matching name decides.
LAYERS: dict[str, set[str]] = {
    "protocol": set(),
    "gateway": set(),
    "gateway.disk": set(),
    "gateway.files": set(),
    "gateway.http_client": set(),
    "gateway.requirements": set(),
    "gateway.config": {"protocol"},
    "gateway.configuring": {"protocol", "gateway.config", "gateway.files"},
    "gateway.logs": {"protocol", "gateway.config"},
    "gateway.metrics": {"protocol"},
    "gateway.access": {"protocol", "gateway.config", "gateway.files", "gateway.http_client", "gateway.logs"},
    "gateway.streams": {"protocol"},
    "gateway.middleware": {"protocol", "gateway.streams", "gateway.config", "gateway.files", "gateway.logs"},
    "gateway.engines": {
        "protocol",
        "gateway.streams",
        "gateway.config",
        "gateway.disk",
        "gateway.logs",
        "gateway.metrics",
    },
    "gateway.hub": {
        "protocol",
        "gateway.streams",
        "gateway.engines",
        "gateway.middleware",
        "gateway.config",
        "gateway.logs",
        "gateway.metrics",
    },
    "gateway.tracing": {"protocol", "gateway.streams", "gateway.logs"},
    "gateway.server": {
        "protocol",
        "gateway.streams",
        "gateway.engines",
        "gateway.hub",
        "gateway.access",
        "gateway.config",
        "gateway.files",
        "gateway.logs",
        "gateway.metrics",
        "gateway.requirements",
    },
    "gateway.client": {"protocol"},
    "gateway.tee": {"protocol", "gateway.client", "gateway.logs"},
    "gateway.integrations": {"protocol", "gateway.client", "gateway.logs", "gateway.tee"},
    "gateway.proxy": {
        "protocol",
        "gateway.access",
        "gateway.client",
        "gateway.http_client",
        "gateway.logs",
        "gateway.tee",
    },
    "gateway.workers": {"protocol", "gateway.engines", "gateway.server", "gateway.config", "gateway.logs"},
    "gateway.cli": {
        "protocol",
        "gateway.server",
        "gateway.workers",
        "gateway.client",
        "gateway.access",
        "gateway.config",
        "gateway.configuring",
        "gateway.engines",
        "gateway.disk",
        "gateway.files",
        "gateway.http_client",
        "gateway.logs",
        "gateway.proxy",
        "gateway.streams",
        "gateway.tracing",
        "gateway.requirements",
    },
}
OURS = "deltawire."
PURE = ("protocol", "gateway.metrics", "gateway.streams")
IMPURE_MODULES = {"asyncio", "logging", "multiprocessing", "select", "selectors", "socket", "ssl", "threading", "time"}
DOCUMENTED_PRIVATE = {"os._exit"}  # public in all but its name
CLOCK_CALLS = {"now", "utcnow", "today"}
HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2"}
VAGUE_NAMES = {"utils", "util", "helpers", "common", "types", "base", "misc"}


def _module(path: Path) -> str:
    """Its name below `deltawire`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _layer(module: str) -> str:
    return max((layer for layer in LAYERS if module == layer or module.startswith(f"{layer}.")), key=len)


def _imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Every module that is imported anywhere in a file, those of `from package import module` included.

    Those of this project are named below `deltawire`.
    """
    package = module if is_package else module.rpartition(".")[0]
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(OURS) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (above, (node.module or "").removeprefix(OURS)) if part)
            names = [f"{origin}.{alias.name}".removeprefix(OURS) for alias in node.names]
            yield from (name if _is_module(name) else origin for name in names)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node: nothing else imports, and a walk over expressions too takes five times as long."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from _statements(child)


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("protocol", "gateway")


def upward_imports(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module that its layer does not allow."""
    layer = _layer(module)
    allowed = LAYERS[layer] | {layer}
    return [
        f"{module} imports {imported}"
        for imported in _imports(ast.parse(source), module, is_package=is_package)
        if _is_ours(imported) and _layer(imported) not in allowed
    ]


def impure_imports(module: str, source: str) -> list[str]:
    """What the pure layers must not touch: packages from outside, sockets, tasks, logs and clocks."""
    if _layer(module) not in PURE:
        return []
    tree = ast.parse(source)
    roots = {imported.split(".")[0] for imported in _imports(tree, module, is_package=False) if not _is_ours(imported)}
    foreign = {root for root in roots if root not in sys.stdlib_module_names and root != "msgspec"}
    clocks = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in CLOCK_CALLS
        and isinstance(node.value, ast.Name)
        and node.value.id in ("datetime", "date")
    }
    return [f"{module} uses {name}" for name in sorted(foreign | (roots & IMPURE_MODULES) | clocks)]


def private_reaches(module: str, source: str) -> list[str]:
    """Private attributes and names that belong to another module."""
    nodes = [*ast.walk(ast.parse(source))]
    own = _own_names(nodes)
    familiar = {"self", "cls"} | _base_names(nodes)
    reached = [
        f"{module}:{node.lineno} reaches {ast.unparse(node)}"
        for node in nodes
        if isinstance(node, ast.Attribute)
        and _is_private(node.attr)
        and node.attr not in own
        and not (isinstance(node.value, ast.Name) and node.value.id in familiar)
        and ast.unparse(node) not in DOCUMENTED_PRIVATE
    ]
    imported = [
        f"{module}:{node.lineno} imports {alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if _is_private(alias.name)
    ]
    return reached + imported


def _own_names(nodes: list[ast.AST]) -> set[str]:
    """Private names this file defines: a class may look into another instance of itself, or its neighbour."""
    stored = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    defined = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    return stored | defined


def _base_names(nodes: list[ast.AST]) -> set[str]:
    """What classes of this file derive from: they inherit its private names."""
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    return {base.id for node in classes for base in node.bases if isinstance(base, ast.Name)}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _complaints(judge: Callable[[str, str], list[str]]) -> list[str]:
    assert len(SOURCES) > 100, "they are found"
    return [complaint for path in SOURCES for complaint in judge(_module(path), path.read_text(encoding="utf-8"))]


def test_imports_point_down_only() -> None:
    packages = {_module(path) for path in SOURCES if path.name == "__init__.py"}
    assert _complaints(lambda name, source: upward_imports(name, source, is_package=name in packages)) == []


def test_the_core_is_pure() -> None:
    assert _complaints(impure_imports) == []


def test_no_private_name_is_reached_across_modules() -> None:
    assert _complaints(private_reaches) == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not VAGUE_NAMES & {part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}


def test_one_module_knows_the_http_library() -> None:
    knowing = {
        _module(path)
        for path in SOURCES
        for imported in _imports(ast.parse(path.read_text(encoding="utf-8")), _module(path), is_package=False)
        if imported.partition(".")[0] in HTTP_LIBRARIES
    }
    assert knowing == {"gateway.http_client"}


def test_what_tests_of_several_folders_share_is_in_support() -> None:
    strangers = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in (ROOT / "tests").rglob("*.py")
        for imported in _imports(ast.parse(path.read_text(encoding="utf-8")), _module(path), is_package=False)
        if imported.startswith("tests.") and imported.rpartition(".")[0] not in ("tests.support", _module(path.parent))
    ]
    assert strangers == []


@pytest.mark.parametrize("name", ["grant", "keys", "tokens", "credentials", "origins", "signing"])
def test_tokens_are_judged_without_loop_socket_or_clock(name: str) -> None:
    path = ROOT / "gateway" / "access" / f"{name}.py"
    imported = {it.split(".")[0] for it in _imports(ast.parse(path.read_text()), _module(path), is_package=False)}
    assert not imported & IMPURE_MODULES


def test_middleware_decides_without_loop_socket_or_clock() -> None:
    paths = sorted((ROOT / "gateway" / "middleware").glob("*.py"))
    assert len(paths) > 10
    for path in paths:
        imported = {it.split(".")[0] for it in _imports(ast.parse(path.read_text()), _module(path), is_package=False)}
        assert not imported & IMPURE_MODULES, path.name


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("protocol.codec", "from deltawire.gateway import config"),
        ("protocol.codec", "def f():\n    import deltawire.gateway.streams.log"),
        ("gateway.streams.log", "from deltawire.gateway.engines.memory import Memory"),
        ("gateway.streams.log", "from .. import hub"),
        ("gateway.streams.log", "from ..server import listen"),
        ("gateway.client.publisher", "from deltawire.gateway.streams.log import Log"),
        ("gateway.client.publisher", "import deltawire.gateway.config"),
        ("gateway.config", "from deltawire.gateway.server import listen"),
        ("gateway.server.listen", "from deltawire.gateway.cli import main"),
    ],
)
def test_an_arrow_that_points_up_is_found(module: str, source: str) -> None:
    assert len(upward_imports(module, source)) == 1


@pytest.mark.parametrize(
    "source",
    ["import asyncio", "import time", "from socket import socket", "import websockets", "datetime.now(UTC)"],
)
def test_impurity_is_found(source: str) -> None:
    assert len(impure_imports("gateway.streams.log", source)) == 1
    assert impure_imports("gateway.server.listen", source) == []


@pytest.mark.parametrize(
    "source", ["log._events", "self._log._events.clear()", "from deltawire.protocol.codec import _decode"]
)
def test_a_reach_into_another_module_is_found(source: str) -> None:
    assert len(private_reaches("gateway.server.listen", source)) == 1
