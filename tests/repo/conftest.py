"""An environment for tests that install: what this one has, without compiled engines, and packages made up here."""

import io
import os
import subprocess
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A source package whose build backend lies inside it: it needs nothing from an index, and records its environment.
_PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
_BACKEND = """
import os, zipfile
NAME, MODULE, VERSION, FAIL = {name!r}, {module!r}, {version!r}, {fail!r}

STEM = NAME.replace("-", "_") + "-" + VERSION
INFO = STEM + ".dist-info"
METADATA = f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n"

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    os.makedirs(os.path.join(folder, INFO))
    with open(os.path.join(folder, INFO, "METADATA"), "w") as file:
        file.write(METADATA)
    return INFO

def build_wheel(folder, config_settings=None, metadata_directory=None):
    flags = os.environ.get("CMAKE_ARGS", "")
    for step in range(1, 4):
        print(f"[{{step}}/3] Building CXX object thing{{step}}.o", flush=True)
    if FAIL:
        print(FAIL, flush=True)
        raise SystemExit(1)
    files = {{f"{{MODULE}}/__init__.py": "raise ImportError('nobody may import this')\\n",
             f"{{MODULE}}/flags.txt": flags + "|" + os.environ.get("CMAKE_GENERATOR", ""),
             f"{{MODULE}}/lib/libggml-base.so.0": "", f"{{MODULE}}/lib/libggml-cpu.so": ""}}
    for flag, library in {{"GGML_RPC": "rpc", "GGML_CUDA": "cuda", "GGML_VULKAN": "vulkan"}}.items():
        if f"-D{{flag}}=ON" in flags.split():
            files[f"{{MODULE}}/lib/libggml-{{library}}.so"] = ""
    files[f"{{INFO}}/METADATA"] = METADATA
    files[f"{{INFO}}/WHEEL"] = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    files[f"{{INFO}}/RECORD"] = "".join(f"{{path}},,\\n" for path in files)
    wheel = f"{{STEM}}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel
"""


@dataclass
class Environment:
    """A virtual environment, an XIN_HOME and a folder of packages, all below one temporary folder."""

    folder: Path
    python: Path
    variables: dict[str, str]

    @property
    def packages(self) -> Path:
        return self.folder / "packages"

    def xin(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "xin", *arguments, **variables)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *arguments],
            env=self.variables | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def flags(self, module: str = "llama_cpp") -> str:
        """What CMAKE_ARGS and CMAKE_GENERATOR were when the installed package was built."""
        site = next((self.folder / "venv").glob("lib/python*/site-packages"))
        return (site / module / "flags.txt").read_text()

    def wheels(self) -> list[Path]:
        return sorted((self.folder / "home" / "cache" / "wheels").glob("*/*.whl"))

    def add_source(
        self, name: str = "llama-cpp-python", version: str = "0.3.36", module: str = "llama_cpp", fail: str = ""
    ):
        """Put a source package into the folder that pip looks in."""
        stem = f"{name.replace('-', '_')}-{version}"
        backend = _BACKEND.format(name=name, module=module, version=version, fail=fail)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        with tarfile.open(self.packages / f"{stem}.tar.gz", "w:gz") as archive:
            for path, text in {"pyproject.toml": _PYPROJECT, "backend.py": backend, "PKG-INFO": metadata}.items():
                entry = tarfile.TarInfo(f"{stem}/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Installs come from its `packages` folder only: no index, no network."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    shared = tmp_path / "shared"
    shared.mkdir()
    without = ("llama_cpp", "chatglm_cpp", "lib", "bin", "include", "_")
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if not entry.name.startswith(without) or entry.suffix == ".so":
            (shared / entry.name).symlink_to(entry)
    (site / "shared.pth").write_text(f"{ROOT}\n{shared}\n")
    (tmp_path / "packages").mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "CMAKE_", "XIN_"))}
    variables |= {
        "XIN_HOME": str(tmp_path / "home"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "packages"),
    }
    return Environment(tmp_path, tmp_path / "venv" / "bin" / "python", variables)
