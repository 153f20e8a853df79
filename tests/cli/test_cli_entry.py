"""`xin tui` starts without the command-line library; whatever is not plain goes to the commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xin.cli.entry import workbench_settings


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("tui", {}),
        ("tui -e http://127.0.0.1:1 --readonly", {"endpoint": "http://127.0.0.1:1", "readonly": True}),
        ("tui --endpoint=http://h:2 --ascii --theme moss", {"endpoint": "http://h:2", "ascii": True, "theme": "moss"}),
        ("tui --help", None),
        ("tui --no-such-flag", None),
        ("tui -e", None),
        ("tui --theme --ascii", None),
        ("tui --ascii=yes", None),
        ("tui more", None),
        ("list", None),
        ("", None),
    ],
)
def test_only_a_plain_workbench_is_taken(line: str, settings: dict[str, object] | None) -> None:
    assert workbench_settings(line.split()) == settings


def test_the_workbench_loads_neither_typer_nor_httpx_before_its_frame() -> None:
    code = (
        "import sys; sys.argv = ['xin', 'tui', '--theme', 'no-such-theme']\n"
        "from xin.cli.entry import main\n"
        "import xin.tui.run\n"
        "print(sorted({'typer', 'httpx', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_what_goes_wrong_is_told_as_by_any_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xin", "tui"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("xin: xin tui needs a terminal\n")
