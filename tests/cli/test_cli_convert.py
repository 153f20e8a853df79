"""`xin convert`: which converter is asked with what, and what is left where it fails. The converter is a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from node_process import XIN

STAND_IN = """
import sys
folder, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
print("converting", folder)
if "cursed" in folder:
    open(options["--outfile"], "wb").write(b"half")
    sys.exit("no such architecture")
open(options["--outfile"], "wb").write(b"GGUF" + options["--outtype"].encode())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "llama.cpp" / "convert_hf_to_gguf.py"
    path.parent.mkdir()
    path.write_text(STAND_IN)
    return path


def repository(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def convert(home: Path, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*XIN, "convert", *map(str, arguments)],
        env={**os.environ, "XIN_HOME": str(home), "XIN_ENDPOINT": "http://127.0.0.1:9", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_a_folder_becomes_a_model_of_ours(tmp_path: Path, script: Path):
    folder, home = repository(tmp_path, "Tiny-1B"), tmp_path / "home"
    done = convert(home, folder, "--converter", script)
    made = home / "data/models/Tiny-1B.F16.gguf"
    assert (done.returncode, done.stdout) == (0, f"{made}\n"), done.stderr
    assert made.read_bytes() == b"GGUFf16"
    assert f"converting {folder}" in done.stderr and "xin quantize Tiny-1B.F16 Q4_K_M" in done.stderr
    again = convert(home, folder, "--converter", script.parent)
    assert again.returncode == 1 and "there already" in again.stderr
    other = convert(home, folder, "--converter", script.parent, "--to", "q8_0", "--name", "mine", "--json")
    assert json.loads(other.stdout) == {"path": str(home / "data/models/mine.gguf"), "size_bytes": 8}


def test_the_one_in_path_is_found(tmp_path: Path, script: Path):
    script.chmod(0o755)
    folder, path = repository(tmp_path, "Tiny-1B"), f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    assert convert(tmp_path / "home", folder, PATH=path).returncode == 0


def test_a_converter_that_fails_leaves_nothing(tmp_path: Path, script: Path):
    done = convert(tmp_path / "home", repository(tmp_path, "cursed"), "--converter", script)
    assert done.returncode == 5 and "no such architecture" in done.stderr and "made no file" in done.stderr
    assert not list((tmp_path / "home/data/models").iterdir())


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path, script: Path):
    folder, home = repository(tmp_path, "Tiny-1B"), tmp_path / "home"
    none = convert(home, folder, PATH="/nowhere")
    assert none.returncode == 5 and "git clone" in none.stderr and "--converter" in none.stderr
    assert convert(home, folder, "--converter", tmp_path / "nothing").returncode == 3
    (folder / "config.json").unlink()
    empty = convert(home, folder, "--converter", script)
    assert empty.returncode == 2 and "config.json" in empty.stderr
    assert convert(home, "org/model", "--converter", script, XIN_CLIENT_START_NODE="false").returncode == 4
    assert not (home / "data/models").exists()
