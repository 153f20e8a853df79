"""Which engines this environment has, found without importing any of them."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xin import __version__
from xin.backends import GROUP, missing
from xin.installer.recipes import RECIPES, Recipe
from xin.protocol.node import EngineInfo

_GGML_VERSION = re.compile(r"\.(\d+(?:\.\d+)*)")
_PROTOCOL = re.compile(r"define RPC_PROTO_(MAJOR|MINOR|PATCH)_VERSION\s+(\d+)")


def engine_infos() -> list[EngineInfo]:
    """Every engine that this environment knows, installed or not."""
    return [
        _info(point, RECIPES.get(point.name)) for point in sorted(entry_points(group=GROUP), key=lambda one: one.name)
    ]


def backends(module: str = "llama_cpp") -> list[str]:
    """The ggml backends in the package's lib folder: cpu, rpc, cuda, hip, metal, vulkan … Empty when not installed."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return []
    library = Path(spec.submodule_search_locations[0]) / "lib"
    names = {found.name.partition(".")[0].removeprefix("libggml-") for found in library.glob("libggml-*")}
    return sorted(names - {"base"})


def _info(point: EntryPoint, recipe: Recipe | None) -> EngineInfo:
    try:
        cls = point.load()
    except (ImportError, AttributeError) as exc:
        return EngineInfo(point.name, [], False, details={"note": f"cannot be loaded: {exc}"})
    lacking = missing(cls)
    installed_version = _version(recipe.distribution) if recipe else _version_of(point)
    details = _build_details(point.name) if not lacking else {}
    return EngineInfo(point.name, sorted(cls.formats), not lacking, installed_version, lacking, details)


def _build_details(name: str) -> dict[str, Any]:
    if name != "llama.cpp":
        return {}
    found = backends()
    return {"backends": found, "rpc": "rpc" in found, "build": llama_build()}


def llama_build() -> str:
    """What must be the same on machines that run one model together: release, ggml's version, its RPC protocol."""
    spec = find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        return ""
    package = Path(spec.submodule_search_locations[0])
    names = [found.name for found in (package / "lib").glob("libggml-base.*")]
    versions = [found[1] for name in names if (found := _GGML_VERSION.search(name))]
    ggml = max(versions, key=len, default="unknown")
    return f"{_version('llama-cpp-python')}, ggml {ggml}, RPC {_rpc_protocol(package)}"


def _rpc_protocol(package: Path) -> str:
    """The header stands beside the package in llama-cpp-python's wheels."""
    try:
        header = (package.parent / "include" / "ggml-rpc.h").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    numbers: dict[str, str] = dict(_PROTOCOL.findall(header))
    return ".".join(numbers.get(part, "?") for part in ("MAJOR", "MINOR", "PATCH"))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _version_of(point: EntryPoint) -> str | None:
    if point.module.startswith("xin."):
        return __version__
    return point.dist.version if point.dist else None
