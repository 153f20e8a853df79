"""Installing one engine: a prebuilt wheel if there is one, else a compile whose flags are checked afterwards."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from xin.errors import EngineMissing, UsageError
from xin.installer import toolchain, wheels
from xin.installer.pip import Pip, PipFailed, Report
from xin.installer.recipes import Accelerator, Recipe, accelerator_for, recipe
from xin.installer.status import backends

Confirm = Callable[[str], bool]

_ASK_SECONDS = 5


@dataclass(slots=True)
class Installed:
    """What an installation did. `how`: present, prebuilt, cached, built or index."""

    name: str
    version: str
    how: str
    accelerator: Accelerator
    notes: list[str]


def install(
    name: str,
    *,
    build: bool,
    accelerator: Accelerator | None,
    confirm: Confirm,
    report: Report,
    on_line: Report | None = None,
) -> Installed:
    """Install engine `name` here. `confirm` is asked before a compile that `build` did not ask for.

    `report` hears the steps, `on_line` every line of pip's output.
    """
    chosen = recipe(name)
    pip = Pip(name, report, on_line)
    if not chosen.compiled:
        if build or accelerator:
            raise UsageError(
                f"{name} comes as wheels; there is nothing to build", "leave --build and the accelerator out"
            )
        pip.run("install", *chosen.requirements)
        return _installed(chosen, "index", "cpu")
    target = accelerator_for(chosen, accelerator)
    return _Compiled(chosen, target, pip, report).install(build, confirm)


class _Compiled:
    """One installation of an engine that has to be compiled."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator, pip: Pip, report: Report) -> None:
        self._recipe, self._accelerator, self._pip, self._report = recipe, accelerator, pip, report

    def install(self, build: bool, confirm: Confirm) -> Installed:
        wheel, how = wheels.find(self._recipe, self._accelerator), "cached"
        if wheel is None and not build and self._prebuilt():
            return self._checked("prebuilt")
        if wheel is None:
            self._consent(build, confirm)
            wheel, how = self._build(), "built"
        if _is_installed(self._recipe, wheel):
            return self._checked("present")
        self._report(f"installing {wheel.name}")
        self._replace(wheel)
        return self._checked(how)

    def _prebuilt(self) -> bool:
        index = os.environ.get("XIN_WHEEL_INDEX") or self._recipe.wheel_indexes.get(self._accelerator)
        if index is None or os.environ.get("CMAKE_ARGS"):
            return False
        self._report(f"asking {index} for a prebuilt wheel")
        with tempfile.TemporaryDirectory(prefix="xin-wheel-") as folder:
            once = ("--timeout", str(_ASK_SECONDS), "--retries", "0", "--no-deps", "--only-binary", ":all:")
            try:
                self._pip.run("download", *once, "--index-url", index, "-d", folder, self._recipe.requirements[0])
            except PipFailed:
                return False
            wheel = next(Path(folder).glob("*.whl"))
            self._report(f"installing {wheel.name}")
            self._replace(wheel)
        return True

    def _consent(self, build: bool, confirm: Confirm) -> None:
        toolchain.check(self._accelerator)
        cost = f"about {self._recipe.minutes} minutes of CPU time"
        question = f"there is no prebuilt wheel of {self._recipe.name}; compiling takes {cost}"
        if not build and not confirm(question):
            raise EngineMissing(
                f"{self._recipe.name} was not installed", f"xin engines install {self._recipe.name} --build"
            )

    def _build(self) -> Path:
        for tool in self._recipe.tools:
            if shutil.which(tool, path=toolchain.search_path()) is None:
                self._pip.run("install", tool)
        environment = {
            **self._recipe.environment,
            "PATH": toolchain.search_path(),
            "CMAKE_ARGS": " ".join(self._recipe.flags(self._accelerator)),
            "FORCE_CMAKE": "1",
        }
        with tempfile.TemporaryDirectory(prefix="xin-build-") as folder:
            self._report(f"compiling {self._recipe.requirements[0]}")
            sources = ("--no-deps", "--no-cache-dir", "--no-binary", self._recipe.distribution)
            self._pip.run("wheel", "-v", *sources, "-w", folder, self._recipe.requirements[0], environment=environment)
            return wheels.store(self._recipe, self._accelerator, next(Path(folder).glob("*.whl")))

    def _replace(self, wheel: Path) -> None:
        """pip takes another build of a version that is there only when it is forced to."""
        again = _installed_version(self._recipe) == self._recipe.version
        self._pip.run("install", *(("--force-reinstall", "--no-deps") if again else ()), str(wheel))

    def _checked(self, how: str) -> Installed:
        """Assert that the build has what was asked for: flags that CMake does not know are dropped silently."""
        importlib.invalidate_caches()
        found = backends(self._recipe.modules[0])
        notes: list[str] = []
        for key, library in self._recipe.libraries.items():
            if key not in ("", self._accelerator) or library in found:
                continue
            if how == "prebuilt" and key == "":
                notes.append(f"this prebuilt wheel has no ggml {library}; --build compiles one that has")
                continue
            raise EngineMissing(
                f"the build of {self._recipe.name} has no ggml {library}; it has {', '.join(found) or 'none'}",
                f"see {self._pip.log}",
            )
        if self._recipe.name == "llama.cpp" and toolchain.nvidia_unused(self._accelerator):
            notes.append("there is an NVIDIA GPU here; --build --cuda makes a build that uses it")
        return _installed(self._recipe, how, self._accelerator, notes)


def _installed(recipe: Recipe, how: str, accelerator: Accelerator, notes: list[str] | None = None) -> Installed:
    importlib.invalidate_caches()
    return Installed(recipe.name, distribution(recipe.distribution).version, how, accelerator, notes or [])


def _installed_version(recipe: Recipe) -> str | None:
    try:
        return distribution(recipe.distribution).version
    except PackageNotFoundError:
        return None


def _is_installed(recipe: Recipe, wheel: Path) -> bool:
    """Is what is installed this very wheel? pip records its hash (PEP 610)."""
    try:
        record = distribution(recipe.distribution).read_text("direct_url.json")
    except PackageNotFoundError:
        return False
    hashes = json.loads(record or "{}").get("archive_info", {}).get("hashes", {})
    return bool(hashes.get("sha256") == wheels.digest(wheel))
