"""Imports point one way: a static check of every file against the layer map, and a few edges in fresh interpreters."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "xin"

LEAVES = {"cgroup", "errors", "config", "paths", "protocol"}
# Of the worker, others may know these modules only; the node checks launch options as the worker does.
SHARED_OF_WORKER = {"worker.frames": LEAVES, "worker.options": LEAVES | {"backends"}}
# Each part of xin and the parts it may import.
MAY_IMPORT = {
    "cgroup": set(),
    "errors": set(),
    "paths": set(),
    "protocol": set(),
    "config": {"errors", "paths"},
    "local_nodes": set(),
    "discovery": LEAVES,
    "catalog": LEAVES,
    "client": LEAVES,
    "chat": LEAVES | {"worker.frames"},
    "backends": LEAVES | {"chat", "worker.frames"},
    "worker": LEAVES | {"backends", "chat"},
    "installer": LEAVES | {"backends"},
    "node": LEAVES | {"backends", "catalog", "client", "discovery", "installer", "local_nodes", *SHARED_OF_WORKER},
    "sessions": LEAVES,
    "tui": LEAVES | {"client", "discovery", "local_nodes", "sessions"},
    "cli": LEAVES | {"client", "discovery", "catalog", "installer", "sessions", "tui"},
    "__main__": {"cli"},
    "__init__": set(),
}
# Allowed inside a function only, so that starting the one does not load the other.
MAY_IMPORT_LAZILY = {"cli": {"node", "tui"}}
ONLY_LAZILY = {("cli", "tui"), ("cli", "node")}

HEAVY = {"aiohttp", "chatglm_cpp", "llama_cpp", "textual", "torch", "transformers"}


def imports(tree: ast.AST, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """(part of xin, imported inside a function?) of every import; what only the type checker sees is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((part(alias.name), lazy) for alias in node.names if alias.name.startswith("xin."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            if node.module == "xin":
                yield from ((alias.name, lazy) for alias in node.names if alias.name != "__version__")
            elif node.module is not None and node.module.startswith("xin."):
                yield from ((part(f"{node.module}.{alias.name}"), lazy) for alias in node.names)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, lazy or inside)


def part(module: str) -> str:
    """xin.worker.frames.Load → worker.frames; xin.node.app → node."""
    names = module.split(".")[1:]
    shared = ".".join(names[:2])
    return shared if shared in SHARED_OF_WORKER else names[0]


def sources() -> list[str]:
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("source", sources())
def test_a_file_imports_only_what_its_layer_may(source: str):
    own = source.split("/")[0].removesuffix(".py")
    shared = source.removesuffix(".py").replace("/", ".")
    allowed = SHARED_OF_WORKER.get(shared, MAY_IMPORT[own] | {own})
    if own == "worker":
        allowed = allowed | set(SHARED_OF_WORKER)
    tree = ast.parse((PACKAGE / source).read_text(encoding="utf-8"))
    for imported, lazy in imports(tree):
        if (own, imported) in ONLY_LAZILY:
            assert lazy, f"{source} imports {imported} when it is loaded; import it inside the function that needs it"
        may = allowed | (MAY_IMPORT_LAZILY.get(own, set()) if lazy else set())
        assert imported in may, f"{source} imports xin.{imported}"


def test_the_layer_map_has_no_cycle():
    done: set[str] = set()
    waiting = {name: {other.split(".")[0] for other in others} - {name} for name, others in MAY_IMPORT.items()}
    # worker.frames imports nothing above the leaves, which the file check proves.
    waiting["chat"].discard("worker")
    waiting["backends"].discard("worker")
    while waiting:
        free = [name for name, others in waiting.items() if others <= done]
        assert free, f"a cycle among {sorted(waiting)}"
        done |= set(free)
        for name in free:
            del waiting[name]


def loaded_by(code: str) -> set[str]:
    """The modules of a fresh interpreter after `code`, which may exit."""
    program = (
        "import sys\n"
        "def run():\n"
        f"    {code}\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        "print('\\nLOADED', *sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("\nLOADED ")[2].split())


def test_help_loads_no_heavy_package():
    loaded = loaded_by("sys.argv = ['xin', '--help']; from xin.cli.main import main; main()")
    assert "xin.cli.main" in loaded
    assert not loaded & HEAVY


def test_listing_engines_loads_none():
    assert not loaded_by("from xin.installer.status import engine_infos; engine_infos()") & HEAVY


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("xin.client", {"aiohttp", "xin.node", "xin.worker", "textual"}),
        ("xin.node.app", {"llama_cpp", "torch", "transformers", "textual"}),
        ("xin.worker.main", {"aiohttp", "httpx", "llama_cpp", "torch", "textual", "xin.node"}),
        ("xin.backends.llama_cpp.engine", {"llama_cpp", "torch", "aiohttp"}),
        ("xin.discovery", {"aiohttp", "httpx", "xin.node"}),
        ("xin.tui.app", {"aiohttp", "httpx", "zeroconf", "torch", "llama_cpp", "sqlite3", "xin.node", "xin.client"}),
        ("xin.tui.follow", {"aiohttp", "zeroconf", "torch", "llama_cpp", "xin.node"}),
    ],
)
def test_loading_a_module_leaves_out(module: str, unwanted: set[str]):
    loaded = loaded_by(f"import {module}")
    assert module in loaded
    assert not loaded & unwanted


@pytest.mark.parametrize(
    ("leaf", "with_it"),
    [
        ("xin.errors", set()),
        ("xin.paths", set()),
        ("xin.config", {"xin.errors", "xin.paths"}),
        ("xin.protocol.node", {"xin.protocol"}),
        ("xin.protocol.openai", {"xin.protocol"}),
        ("xin.protocol.sse", {"xin.protocol"}),
        ("xin.worker.frames", {"xin.worker"}),
    ],
)
def test_a_leaf_loads_no_other_part_of_xin(leaf: str, with_it: set[str]):
    own = {name for name in loaded_by(f"import {leaf}") if name.startswith("xin.")}
    assert own == {leaf} | with_it
