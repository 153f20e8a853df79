"""The workbench in a real browser: `GET /` of a node, drawn by Chromium, driven by its keys."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from aiohttp import ClientSession
from node_process import NodeProcess, running_node

from xin.sessions.records import MessageRecord
from xin.sessions.store import SessionStore

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from chromium import chromium, executable

COLOURS = """
(() => {
  const seen = new Set();
  for (const canvas of document.querySelectorAll("canvas")) {
    const context = canvas.getContext("2d");
    if (!context) continue;
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < data.length; i += 4) seen.add(`${data[i] >> 4},${data[i + 1] >> 4},${data[i + 2] >> 4}`);
  }
  return seen.size;
})()
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with running_node(tmp_path / "home", "--name", "desk") as started:
        launched = started.xin("launch", "echo", "--model-uid", "parrot")
        assert launched.returncode == 0, launched.stderr
        yield started


def workbenches(node: NodeProcess) -> list[psutil.Process]:
    children = psutil.Process(node.process.pid).children()
    return [child for child in children if f"xin tui -e {node.endpoint}" in " ".join(child.cmdline())]


async def test_a_visitor_gets_the_workbench_of_this_node(node: NodeProcess) -> None:
    output = b""
    async with ClientSession() as session, session.ws_connect(f"{node.endpoint}/ui/ws?width=100&height=30") as socket:
        async with asyncio.timeout(60):
            while b"parrot" not in output or b"Bench" not in output:
                output += await socket.receive_bytes()
        assert workbenches(node)
    async with asyncio.timeout(20):
        while workbenches(node):  # noqa: ASYNC110 - they are processes of another program
            await asyncio.sleep(0.05)


async def test_a_killed_node_leaves_no_workbench_behind(tmp_path: Path) -> None:
    with running_node(tmp_path / "home") as node:
        async with ClientSession() as session, session.ws_connect(f"{node.endpoint}/ui/ws") as socket:
            output = b""
            async with asyncio.timeout(60):
                while b"Bench" not in output:
                    output += await socket.receive_bytes()
            [child] = workbenches(node)
            node.process.kill()
            gone, _ = await asyncio.to_thread(psutil.wait_procs, [child], 20)
            assert gone


@pytest.mark.slow
@pytest.mark.skipif(executable() is None, reason="a Chromium (apt install chromium)")
async def test_a_browser_shows_the_bench_and_takes_keys(node: NodeProcess, tmp_path: Path) -> None:
    async with chromium(tmp_path / "profile") as page:
        await page.call("Page.navigate", url=f"{node.endpoint}/")
        await page.until_shown("parrot")
        await page.type("2")
        await page.until_shown("F4 editor")
        await page.type("a 1?")
        await page.until_shown("a 1?")
        assert await page.evaluate("document.body.classList.contains('-first-byte')")
        assert await page.evaluate(COLOURS) > 8
        assert len(await page.picture()) > 20_000
        own = urlsplit(node.endpoint).netloc
        assert {urlsplit(url).netloc for url in page.requests} <= {own, ""}
        assert not page.console


@pytest.mark.slow
@pytest.mark.skipif(executable() is None, reason="a Chromium (apt install chromium)")
async def test_two_quantizations_of_a_real_model_answer_side_by_side_in_a_browser(
    tmp_path: Path, smollm2: Path
) -> None:
    home = tmp_path / "home"
    with running_node(home, "--name", "desk") as node:
        made = node.xin("quantize", "smollm2", "Q8_0", timeout=120)
        assert made.returncode == 0, made.stderr
        for name in ("smollm2:Q4_1", "smollm2:Q8_0"):
            launched = node.xin("launch", name, "--model-uid", name.replace(":", "-"), timeout=120)
            assert launched.returncode == 0, launched.stderr
        async with chromium(tmp_path / "profile", (1200, 760)) as page:
            await page.call("Page.navigate", url=f"{node.endpoint}/")
            await page.until_shown("Models 2", "smollm2-Q8_0")
            await page.type("  b")
            await page.until_shown("ALL 2 panes")
            await page.type("/set max_tokens 60\r/set temperature 0\r")
            await page.type("What is the capital of France?\r")
            shown = await page.until_shown("@desk ✓", "@desk ✓", seconds=90)
            assert "1 smollm2-Q4_1 @desk" in shown and "2 smollm2-Q8_0 @desk" in shown, shown
            assert len(await page.picture()) > 20_000 and not page.console
        answers = [message.text for message in stored(home) if message.role == "assistant"]
    assert len(answers) == 2
    for answer in answers:
        said = re.findall(r"[A-Za-z]{3,}", answer)[:5]
        assert len(said) == 5 and all(word in shown for word in said), (answer, shown)


def stored(home: Path) -> list[MessageRecord]:
    """What the workbench has written down of the one session."""
    with SessionStore(home / "data" / "sessions.db") as store:
        [session] = store.sessions()
        return store.load(session.id).messages
