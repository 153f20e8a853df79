"""Compiled wheels by what they were compiled with. pip's own wheel cache ignores CMAKE_ARGS, so it cannot hold them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from pathlib import Path

from xin import paths
from xin.installer.recipes import Accelerator, Recipe

_COMPILER_VARIABLES = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS")
# A native build uses what the CPU has: another CPU, another wheel.
_VECTOR_FEATURES = ("sse", "avx", "fma", "f16c", "bmi", "amx", "asimd", "sve", "i8mm", "bf16", "fphp")


def folder(recipe: Recipe, accelerator: Accelerator) -> Path:
    """Where this build's wheel lies, or will."""
    key = hashlib.sha256(json.dumps(_inputs(recipe, accelerator), sort_keys=True).encode()).hexdigest()[:12]
    return paths.cache_dir() / "wheels" / f"{recipe.distribution}-{recipe.version}-{key}"


def find(recipe: Recipe, accelerator: Accelerator) -> Path | None:
    return next(iter(sorted(folder(recipe, accelerator).glob("*.whl"))), None)


def store(recipe: Recipe, accelerator: Accelerator, built: Path) -> Path:
    """Move a finished wheel into its folder; a reader sees a whole wheel or none."""
    home = folder(recipe, accelerator)
    home.mkdir(parents=True, exist_ok=True)
    (home / "build.json").write_text(json.dumps(_inputs(recipe, accelerator), indent=1) + "\n", encoding="utf-8")
    part = home / f"{built.name}.part"
    shutil.move(built, part)
    return part.rename(home / built.name)


def digest(wheel: Path) -> str:
    with wheel.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _inputs(recipe: Recipe, accelerator: Accelerator) -> dict[str, object]:
    return {
        "requirement": recipe.requirements[0],
        "cmake_args": recipe.flags(accelerator),
        "environment": recipe.environment
        | {name: os.environ[name] for name in _COMPILER_VARIABLES if name in os.environ},
        "python": sys.implementation.cache_tag,
        "platform": f"{sys.platform}-{platform.machine()}",
        "cpu": _cpu_features(),
    }


def _cpu_features() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return [platform.processor()]
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return sorted(word for word in value.split() if word.startswith(_VECTOR_FEATURES))
    return []
