"""The dialog of weights on a real node: what is listed, what a removal would free, and what is removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import weight_stores
from live_node import LiveNode
from textual.pilot import Pilot
from textual.widgets import Static
from waiting import came as until

from xin.node.weights_found import LEAST_ORPHAN_BYTES
from xin.tui.app import Workbench
from xin.tui.dialogs.confirm import Confirm
from xin.tui.dialogs.files import FilesDialog
from xin.tui.settings import TuiSettings
from xin.tui.widgets.row_list import RowList

SIZES = [(80, 24), (120, 36)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def node(home: Path) -> Iterator[LiveNode]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_MODELS", str(home / "ollama"))
        with LiveNode(home / "node", name="store") as node:
            yield node


def spare(home: Path) -> Path:
    return weight_stores.put(home / "node" / "data" / "models" / "spare-1B.Q8_0.gguf")


@asynccontextmanager
async def dialog(node: LiveNode, size: tuple[int, int] = (120, 36), **given: Any) -> AsyncIterator[Pilot[None]]:
    app = Workbench(node.url, settings=TuiSettings(), **given)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.store.link.state == "live")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, FilesDialog) and app.screen.query_one(RowList).lines)
        yield pilot


async def on(pilot: Pilot[None], word: str) -> None:
    """Put the cursor on the row with this word, and wait for its preview."""
    listed = pilot.app.screen.query_one(RowList)
    row = next(row for row in listed.rows if word in row.content.plain)
    listed.move_to(row.key)
    await until(pilot, lambda: about(pilot).startswith(f"{row.key}\n"))


def about(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one("#files-about", Static).render())


def lines(pilot: Pilot[None]) -> str:
    return "\n".join(pilot.app.screen.query_one(RowList).lines)


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_goes_after_a_preview_and_a_yes(node: LiveNode, home: Path, size: tuple[int, int]) -> None:
    file = spare(home)
    async with dialog(node, size) as pilot:
        frame = pilot.app.screen.query_one("#dialog")
        assert "store: 2 files" in str(frame.border_title)
        assert frame.region.right <= size[0] and frame.region.bottom <= size[1]
        await on(pilot, "spare-1B")
        assert "1 file goes, which frees 8B" in about(pilot)
        assert pilot.app.screen.command == "xin rm spare-1B.Q8_0"  # type: ignore[attr-defined]
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, FilesDialog))
        assert file.exists()
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm) and pilot.app.screen.query("#question"))
        assert "frees 8B" in str(pilot.app.screen.query_one("#question", Static).render())
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, FilesDialog) and "spare-1B" not in lines(pilot))
        assert not file.exists()


async def test_what_cannot_go_says_why_and_is_left(node: LiveNode, home: Path) -> None:
    weights = weight_stores.put(home / "weights")
    os.truncate(weights, 4 * LEAST_ORPHAN_BYTES)
    blob = weight_stores.ollama(home / "ollama", "tiny", "1b", weights)
    weights.unlink()
    async with dialog(node) as pilot:
        await on(pilot, "tiny:1b")
        assert "nothing of it can be removed" in about(pilot) and "it is Ollama's" in about(pilot)
        await pilot.press("x")
        await until(pilot, lambda: any("Ollama's" in toast.message for toast in pilot.app._notifications))
        assert isinstance(pilot.app.screen, FilesDialog) and blob.exists()
        await on(pilot, "smollm2")
        assert "comes with an installed package" in about(pilot)
        await on(pilot, "tiny:1b")
        await pilot.press("X")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        assert pilot.app.screen.command == "xin rm tiny:1b --foreign"  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: not blob.exists())


async def test_who_uses_a_file_is_shown_and_keeps_it(node: LiveNode, home: Path, smollm2: Path) -> None:
    file = home / "node" / "data" / "models" / "mine-135M.Q4_1.gguf"
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(smollm2, file)
    node.launch(str(file), model_uid="busy", context_length=256, n_parallel=1)
    async with dialog(node) as pilot:
        row = next(line for line in lines(pilot).splitlines() if "mine-135M" in line)
        assert "busy" in row and "94M" in row
        await on(pilot, "mine-135M")
        assert "is in use by busy" in about(pilot) and "xin terminate busy" in about(pilot)
        node.http.delete("/v1/models/busy")


async def test_a_read_only_workbench_removes_nothing(node: LiveNode, home: Path) -> None:
    file = spare(home)
    async with dialog(node, readonly=True) as pilot:
        await on(pilot, "spare-1B")
        await pilot.press("x")
        await pilot.pause(0.3)
        assert isinstance(pilot.app.screen, FilesDialog) and file.exists()
