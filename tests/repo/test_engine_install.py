"""`xin engines` and `xin engines install`, run as a user would, against packages made up on the spot."""

import json
import stat
from pathlib import Path

import pytest

from xin.installer.pip import cause_of, step_of
from xin.installer.recipes import RECIPES


def build(environment, *arguments: str, **variables: str):
    return environment.xin("engines", "install", "llama.cpp", "--build", *arguments, **variables)


def test_a_build_has_rpc_and_its_flags_reach_it(environment):
    environment.add_source()
    done = build(environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "llama.cpp 0.3.36: compiled and installed\n"
    assert environment.flags() == "-DGGML_RPC=ON|"
    assert "llama.cpp: compiling" in done.stderr
    assert "[3/3]" in (environment.folder / "home/state/log/engines-install-llama.cpp.log").read_text()


def test_a_wheel_made_earlier_is_used_again_and_other_flags_make_another(environment):
    environment.add_source()
    assert build(environment).returncode == 0
    again = build(environment)
    assert "was there already" in again.stdout
    other = build(environment, CMAKE_ARGS="-DGGML_NATIVE=OFF")
    assert "compiled and installed" in other.stdout
    assert environment.flags() == "-DGGML_RPC=ON -DGGML_NATIVE=OFF|"
    assert len(environment.wheels()) == 2
    back = build(environment)
    assert "installed from the wheel compiled earlier" in back.stdout
    assert environment.flags() == "-DGGML_RPC=ON|"


def test_a_build_that_lost_its_flag_is_refused(environment):
    environment.add_source()
    lost = environment.run("-c", _INSTALL_WITH_A_SLIP)
    assert "the build of llama.cpp has no ggml rpc; it has cpu" in lost.stderr


_INSTALL_WITH_A_SLIP = """
import dataclasses
from xin.installer import install, recipes
plain = dataclasses.replace(recipes.RECIPES["llama.cpp"], cmake_args=("-DGGML_RPCC=ON",))
recipes.RECIPES["llama.cpp"] = plain
install.install("llama.cpp", build=True, accelerator=None, confirm=lambda q: True, report=print)
"""


def test_without_build_a_compile_needs_a_yes(environment):
    environment.add_source()
    asked = environment.xin("engines", "install", "llama.cpp")
    assert asked.returncode == 2
    assert "compiling takes about" in asked.stderr
    assert "--yes" in asked.stderr
    assert not environment.wheels()
    done = environment.xin("engines", "install", "llama.cpp", "--yes")
    assert done.returncode == 0, done.stderr
    assert environment.wheels()


def test_a_prebuilt_wheel_is_taken_and_its_lack_of_rpc_told(environment, tmp_path: Path):
    environment.add_source()
    assert build(environment).returncode == 0
    index = tmp_path / "index" / "llama-cpp-python"
    index.mkdir(parents=True)
    environment.run("-m", "pip", "wheel", "-q", "--no-deps", "-w", str(index), "llama-cpp-python==0.3.36")
    wheel = next(index.glob("*.whl"))
    (index / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    for made in environment.wheels():
        made.unlink()
    variables = {"XIN_WHEEL_INDEX": index.parent.as_uri(), "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}
    done = environment.xin("engines", "install", "llama.cpp", **variables)
    assert "installed from a prebuilt wheel" in done.stdout, done.stderr
    assert "no ggml rpc; --build compiles one" in done.stderr
    assert environment.flags() == "|"


def test_a_failed_build_shows_its_last_lines_and_the_log(environment):
    environment.add_source(fail="the gremlins are back")
    done = build(environment)
    assert done.returncode == 5
    assert "the gremlins are back" in done.stderr
    assert "engines-install-llama.cpp.log" in done.stderr
    assert "Traceback" not in done.stderr.partition("last lines")[0]
    assert not environment.wheels()


def test_a_missing_compiler_is_named_with_its_fix(environment, tmp_path: Path):
    environment.add_source()
    (tmp_path / "empty").mkdir()
    done = build(environment, PATH=str(tmp_path / "empty"))
    assert done.returncode == 5
    assert "no C compiler found" in done.stderr
    assert "build-essential" in done.stderr or "xcode-select" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gpu_build_wants_its_compiler_and_gets_its_flag(environment, tmp_path: Path):
    environment.add_source()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cc", "c++"):
        program(tools / name)
    refused = build(environment, "--vulkan", PATH=str(tools))
    assert refused.returncode == 5
    assert "glslc not found: a vulkan build needs it" in refused.stderr
    program(tools / "glslc")
    done = build(environment, "--vulkan", PATH=str(tools))
    assert done.stdout == "llama.cpp 0.3.36 for vulkan: compiled and installed\n"
    assert environment.flags() == "-DGGML_RPC=ON -DGGML_VULKAN=ON|"


def program(path: Path) -> None:
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonesuch"], "cannot install an engine named 'nonesuch'"),
        (["llama.cpp", "--cuda", "--vulkan"], "--cuda and --vulkan together"),
        (["chatglm.cpp", "--rocm"], "chatglm.cpp has no rocm build"),
        (["transformers", "--build"], "there is nothing to build"),
    ],
)
def test_a_wrong_call_is_a_usage_error(environment, arguments: list[str], words: str):
    done = environment.xin("engines", "install", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_chatglm_gets_its_flags(environment):
    environment.add_source("chatglm-cpp", "0.4.2", "chatglm_cpp")
    environment.add_source("ninja", "1.13.0", "ninja")
    done = environment.xin("engines", "install", "chatglm.cpp", "--yes")
    assert done.returncode == 0, done.stderr
    assert environment.flags("chatglm_cpp") == "-DCMAKE_POLICY_VERSION_MINIMUM=3.5|Ninja"
    [wheel] = environment.wheels()
    assert wheel.name.startswith("chatglm_cpp-0.4.2-")
    shown = listed(environment)["chatglm.cpp"]
    assert (shown["installed"], shown["formats"], shown["version"]) == (True, ["ggml"], "0.4.2")
    again = environment.xin("engines", "install", "chatglm.cpp", "--build")
    assert again.returncode == 0 and len(environment.wheels()) == 1, again.stderr


def test_the_list_tells_the_build_and_imports_nothing(environment):
    before = listed(environment)["llama.cpp"]
    assert not before["installed"]
    assert before["missing"] == ["llama_cpp"]
    environment.add_source()
    assert build(environment).returncode == 0
    after = listed(environment)  # importing the package raises, so this also shows that nobody does
    assert after["llama.cpp"]["installed"]
    assert after["llama.cpp"]["version"] == "0.3.36"
    assert after["llama.cpp"]["formats"] == ["gguf"]
    assert after["llama.cpp"]["details"] == {
        "backends": ["cpu", "rpc"],
        "rpc": True,
        "build": "0.3.36, ggml 0, RPC unknown",
    }
    assert after["echo"]["installed"]
    assert after["transformers"]["formats"] == ["gguf", "pytorch"]
    assert after["chatglm.cpp"]["missing"] == ["chatglm_cpp"]
    assert after["faster-whisper"]["formats"] == ["ctranslate2"]
    table = environment.xin("engines").stdout
    assert "llama.cpp" in table
    assert "cpu, rpc" in table


def listed(environment) -> dict[str, dict]:
    done = environment.xin("engines", "--json")
    assert done.returncode == 0, done.stderr
    return {info["name"]: info for info in json.loads(done.stdout)}


def test_pins_are_exact():
    for recipe in RECIPES.values():
        assert all("==" in requirement for requirement in recipe.requirements)


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("  [120/333] Building CXX object src/x.o\n", "compiling, 120 of 333"),
        ("[ 45%] Building CXX object\n", "compiling, 45 %"),
        ("Collecting numpy>=1.20 (from x)\n", "Collecting numpy>=1.20"),
        ("  Building wheel for llama-cpp-python (pyproject.toml): started\n", "Building wheel for llama-cpp-python"),
        ("-- Detecting CXX compile features\n", None),
    ],
)
def test_steps_of_pip_and_of_a_build_are_seen(line: str, step: str | None):
    assert step_of(line) == step


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("error: No space left on device", "the disk is full"),
        ("error: externally-managed-environment", "this Python belongs to the system and takes no packages"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "the compiler was killed"),
        ("  No CMAKE_CXX_COMPILER could be found.", "CMake found no working compiler"),
        ("ERROR: No matching distribution found for x", "no package index has it"),
        ("Could NOT find Vulkan (missing: Vulkan_LIBRARY)", "CMake found no Vulkan headers"),
    ],
)
def test_known_causes_are_put_into_words(line: str, cause: str):
    found = cause_of(["noise", line, "more noise"])
    assert found is not None
    assert found[0].startswith(cause)
    assert found[1]


def test_an_unknown_failure_has_no_made_up_cause():
    assert cause_of(["something else"]) is None
